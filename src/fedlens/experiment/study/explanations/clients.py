"""What the clients' own models look at: after one more local pass, with one client cheating."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedlens.data import ImageDataset, Partition
from fedlens.data.client import Client
from fedlens.data.shapes import MARK, with_mark
from fedlens.experiment.study.explanations.intervals import Table, interval, resampling
from fedlens.experiment.study.explanations.rows import Row
from fedlens.explain import metrics
from fedlens.models.vector import FlatParameters
from fedlens.training.local import LocalTraining
from fedlens.training.loop import Draws, LocalRun, threads
from fedlens.training.losses import default_loss
from fedlens.training.prediction import predict

ROUND = 1_000_000  # of the random streams: after any federation's last
MARKED_IMAGES = 32  # test images that carry the mark, of other classes than the marked one


def local_models(
    model: nn.Module, clients: Sequence[Client], local: LocalTraining, seed: int, *, first: int = 0
) -> Iterator[nn.Module]:
    """Yield each client's own model in turn: ``model`` after one local epoch on its images.

    The model is the same object each time, with other weights; ``model`` is not changed. The first
    client draws what client number ``first`` draws.
    """
    flat = FlatParameters(copy.deepcopy(model))
    start = torch.empty(flat.state_length, dtype=flat.vector.dtype)
    flat.save_state(start)
    for number, client in enumerate(clients, start=first):
        flat.load_state(start)
        run = LocalRun(flat, client, local, default_loss, Draws(seed, ROUND, number), epochs=1)
        with threads(1):
            run.epoch(1)
        yield flat.model.eval()


def planted(client: Client, label: int) -> Client:
    """Return the client with the mark on each of its images of class ``label``."""
    positions = torch.arange(len(client))
    images, targets = client.take(positions)
    mine = targets == label
    return Client(torch.where(mine[:, None, None, None], with_mark(images), images), targets)


def shortcut(
    model: nn.Module,
    dataset: ImageDataset,
    clients: Partition,
    local: LocalTraining,
    rows: Sequence[Row],
    references: Tensor,
    seed: int,
) -> dict[str, Any]:
    """Plant a shortcut at one client and return what every client's model makes of the mark.

    The client with most images of some class has the mark on all of them. Each client trains the
    federation's final model for one more epoch on its own images; then the same test images of
    other classes, with the mark, are explained for the marked class under each client's model.

    As a control the cheating client also trains without the mark: the ``twin``.

    Returns:
        ``client``, ``class``, ``images``, ``area`` (the mark's share of the pixels) and, for each
        client and the twin, ``taken`` (how often the marked images are taken for the class),
        ``plain`` (how often they are without the mark) and ``shares``: row -> the share of positive
        attribution on the mark, with its interval.
    """
    held = list(clients)
    counts = torch.from_numpy(clients.label_counts())
    cheat, label = divmod(int(counts.argmax()), counts.shape[1])
    others = (dataset.test.labels != label).nonzero().flatten()
    step = max(1, len(others) // MARKED_IMAGES)
    clean = dataset.test.images[others[::step][:MARKED_IMAGES]]
    marked = with_mark(clean)
    region = torch.zeros(marked.shape[0], *marked.shape[2:], dtype=torch.bool)
    region[:, :MARK, :MARK] = True
    draws = resampling(seed, Table.SHORTCUT)

    def found(number: int, own: nn.Module) -> dict[str, Any]:
        shares = {}
        for row in rows:
            maps = row.explain(own, marked, label, references, seed=seed).values
            share = metrics.relevance_mass(maps, region).double().numpy()
            shares[row.key] = interval(share, draws)
        return {
            "client": number,
            "examples": len(held[number]),
            "marked": 0,
            "taken": float((predict(own, marked).argmax(1) == label).double().mean()),
            "plain": float((predict(own, clean).argmax(1) == label).double().mean()),
            "shares": shares,
        }

    each = [found(n, own) for n, own in enumerate(local_models(model, held, local, seed))]
    twin = each[cheat]
    (own,) = local_models(model, [planted(held[cheat], label)], local, seed, first=cheat)
    each[cheat] = {**found(cheat, own), "marked": int(counts[cheat, label])}
    return {
        "client": cheat,
        "class": dataset.class_names[label],
        "images": len(marked),
        "area": float(region[0].double().mean()),
        "clients": each,
        "twin": twin,
    }
