"""Personal models: the global model fitted further to each client, and how much that helps it.

Fine-tuning is training the final global model on one client's examples. Ditto (Li et al. 2021,
"Ditto: Fair and Robust Federated Learning Through Personalization", equation 1) keeps the personal
model v near the global one, w: min_v f_k(v) + (lambda / 2) ||v - w||^2. The paper lets v follow w
round by round; since w does not depend on v, v is fitted here to the final w, whose minimum is the
same.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fedlens.data.client import Client, label_counts
from fedlens.data.dataset import Split
from fedlens.errors import ConfigError
from fedlens.federated.history import mix_weighted
from fedlens.models.vector import FlatParameters
from fedlens.training.evaluation import Evaluation, evaluate_logits
from fedlens.training.local import LocalTraining
from fedlens.training.loop import Correction, Draws, LocalRun, threads
from fedlens.training.losses import Loss, chosen_loss
from fedlens.training.prediction import predict

ROUND = 0  # of the random streams: no round of a federation has this number


@dataclass(frozen=True)
class PersonalResult:
    """How the global and the personal model do for one client.

    Attributes:
        client: client number.
        examples: its training examples.
        global_accuracy, personal_accuracy: on the held-out split, re-weighted to the client's own
            label mix, in [0, 1]; None for a multi-label task.
        global_loss, personal_loss: the same of the mean loss, in nats.
    """

    client: int
    examples: int
    global_accuracy: float | None
    personal_accuracy: float | None
    global_loss: float | None
    personal_loss: float | None


def personalise(
    model: nn.Module,
    clients: Sequence[Client],
    *,
    local: LocalTraining,
    held_out: Split,
    ditto: float = 0.0,
    seed: int = 0,
    loss: Loss | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[PersonalResult]:
    """Fit ``model`` to each client in turn and return how both do for it; ``model`` is not changed.

    Args:
        model: the global model.
        clients: who holds what.
        local: settings of the further training; ``epochs`` must be one number.
        held_out: labelled images that nobody trained on.
        ditto: strength lambda of the pull towards the global model; 0 is plain fine-tuning.
        seed: root seed of the order of examples.
        loss: one value per example; by default cross-entropy (binary for label rows).
        progress: called with (clients done, all clients).

    Raises:
        ConfigError: a negative ``ditto``, or epochs that are not one number.
    """
    if not isinstance(local.epochs, int):
        raise ConfigError(f"local.epochs is {local.epochs!r}, expected one number.")
    if not 0 <= ditto < float("inf"):
        raise ConfigError(f"ditto is {ditto}, expected a number from 0.")
    loss = chosen_loss(loss, (client.targets for client in clients))
    flat = FlatParameters(copy.deepcopy(model))
    start = torch.empty(flat.state_length, dtype=flat.vector.dtype)
    flat.save_state(start)
    together = _evaluate(flat.model, held_out, loss)
    mixes = label_counts(clients, len(together.support))
    results = []
    for number, client in enumerate(clients):
        flat.load_state(start)
        run = LocalRun(
            flat,
            client,
            local,
            loss,
            Draws(seed, ROUND, number),
            correction=Correction(pull=ditto) if ditto else None,
            epochs=local.epochs,
        )
        with threads(1):
            for epoch in range(1, local.epochs + 1):
                run.epoch(epoch)
        own = _evaluate(flat.model, held_out, loss)
        global_loss, global_accuracy = mix_weighted(together, mixes[number])
        personal_loss, personal_accuracy = mix_weighted(own, mixes[number])
        results.append(
            PersonalResult(
                client=number,
                examples=len(client),
                global_accuracy=global_accuracy,
                personal_accuracy=personal_accuracy,
                global_loss=global_loss,
                personal_loss=personal_loss,
            )
        )
        if progress is not None:
            progress(number + 1, len(clients))
    return results


def _evaluate(model: nn.Module, held_out: Split, loss: Loss) -> Evaluation:
    outputs = predict(model, held_out.images)
    return evaluate_logits(outputs, held_out.labels, losses=loss(outputs, held_out.labels))
