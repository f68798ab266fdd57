"""Explanations held against the truth, on the generated images whose evidence is known."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlens.data.shapes import MARKED_CLASS, draw_shapes
from fedlens.experiment.study.explanations.intervals import Table, interval, resampling
from fedlens.experiment.study.explanations.rows import Row
from fedlens.explain import metrics
from fedlens.training.prediction import predict

MOST_IMAGES = 60


def localisation(
    model: nn.Module, rows: Sequence[Row], *, shortcut: bool, seed: int
) -> dict[str, Any]:
    """Return the share of each method's positive attribution that lies on the known evidence.

    Without a shortcut: rightly classified test images, explained for their class, and the evidence
    is the figure. With it: test images of other figures that carry the mark, explained for the class
    that the mark went with in training, and the evidence is the mark.

    Returns:
        ``accuracy`` on the test images, ``taken`` (with a shortcut: how often marked images of other
        figures are taken for the marked class), ``images``, ``area`` (the evidence's share of the
        pixels, which is what a flat map gets), ``edge_share`` (its share of the images' edges, which
        is about what a map of edges gets) and ``rows``: key -> ``mass`` and ``pointing``.
    """
    test = draw_shapes("test", shortcut=shortcut)
    references = draw_shapes("train", shortcut=shortcut).split.images[:100]
    labels = test.split.labels
    answers = predict(model, test.split.images).argmax(1)
    if shortcut:
        candidates = test.marked & (labels != MARKED_CLASS)
        evidence = test.marks
    else:
        candidates = answers == labels
        evidence = test.regions
    chosen = candidates.nonzero().flatten()[:MOST_IMAGES]
    images, region = test.split.images[chosen], evidence[chosen]
    target: Tensor | int = MARKED_CLASS if shortcut else labels[chosen]
    draws = resampling(seed, Table.KNOWN_TRUTH)
    found = {}
    for row in rows:
        maps = row.explain(model, images, target, references, seed=seed).values
        found[row.key] = {
            "mass": interval(metrics.relevance_mass(maps, region).double().numpy(), draws),
            "pointing": interval(metrics.pointing_game(maps, region).double().numpy(), draws),
        }
    marked = test.marked & (labels != MARKED_CLASS)
    return {
        "accuracy": float((answers == labels).double().mean()),
        "taken": float((answers[marked] == MARKED_CLASS).double().mean()) if shortcut else None,
        "images": len(chosen),
        "area": float(region.double().mean()),
        "edge_share": float(edge_shares(images, region).mean()),
        "rows": found,
    }


def edge_shares(images: Tensor, region: Tensor) -> Tensor:
    """Return float64 (B,): the share of each image's edges that lies in ``region`` bool (B, H, W).

    An edge is as strong as the step in brightness between a pixel's neighbours is large (root of the
    squares of both differences); the border is repeated outwards.
    """
    padded = functional.pad(images.double().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    down = (padded[:, 0, 2:, 1:-1] - padded[:, 0, :-2, 1:-1]) / 2
    right = (padded[:, 0, 1:-1, 2:] - padded[:, 0, 1:-1, :-2]) / 2
    strength = (down.square() + right.square()).sqrt()
    return (strength * region).sum((1, 2)) / strength.sum((1, 2))


def sample(*, shortcut: bool) -> Tensor:
    """Return uint8 (6, 28, 28): test images to show what the set looks like."""
    return draw_shapes("test", shortcut=shortcut).split.images[:6, 0].to(torch.uint8)
