"""Central training: the pooled baseline, the step loop of one client that holds everything."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fedlens.data.client import Client
from fedlens.data.dataset import Split
from fedlens.errors import ConfigError
from fedlens.models.vector import FlatParameters
from fedlens.training.evaluation import Evaluation, evaluate_logits
from fedlens.training.local import LocalTraining
from fedlens.training.loop import Draws, LocalRun, threads
from fedlens.training.losses import Loss, default_loss
from fedlens.training.prediction import predict


@dataclass(frozen=True, eq=False)
class EpochRecord:
    """One epoch of central training: one line of ``metrics.jsonl``.

    Attributes:
        epoch: from 1.
        seconds: wall-clock time, evaluation included.
        evaluation_seconds: of it, spent on the validation split.
        train_loss, train_accuracy: over the epoch while the weights moved, as Keras reports them.
        validation: figures at the end of the epoch, or None without a validation split.
    """

    epoch: int
    seconds: float
    evaluation_seconds: float
    train_loss: float
    train_accuracy: float | None
    validation: Evaluation | None

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        validation = None if self.validation is None else self.validation.to_json()
        return {**self.__dict__, "validation": validation}


@dataclass(frozen=True, eq=False)
class CentralCheckpoint:
    """Everything that the epochs after ``epoch`` depend on, besides the settings.

    Attributes:
        epoch: the last finished epoch; 0 before the first.
        state: the flat parameters followed by the persistent buffers.
        optimizer: the optimiser's memory by name.
    """

    epoch: int
    state: Tensor
    optimizer: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class CentralResult:
    """The trained model, and what happened in each epoch of this call."""

    model: nn.Module
    history: list[EpochRecord] = field(default_factory=list)


def train_centrally(
    model: nn.Module,
    examples: Split | Client,
    *,
    local: LocalTraining,
    seed: int = 0,
    loss: Loss | None = None,
    validation: Split | None = None,
    resume_from: CentralCheckpoint | None = None,
    checkpoint: Callable[[CentralCheckpoint, EpochRecord], None] | None = None,
) -> CentralResult:
    """Train a copy of ``model`` for ``local.epochs`` epochs on pooled examples.

    It draws what client 0 draws in round 1 of a federation, and so is equal to the last bit to one
    round of a one-client federation with FedAvg.

    Args:
        model: any network; not changed.
        examples: all training examples.
        local: settings; ``epochs`` must be one number.
        seed: root seed, at least 0.
        loss: one value per example; by default cross-entropy (binary for label rows).
        validation: measured after each epoch.
        resume_from: a checkpoint of the same training.
        checkpoint: called after each epoch with what is needed to go on from there.

    Raises:
        ConfigError: ``local.epochs`` is not one number.
        ModelError: see :class:`fedlens.models.FlatParameters`.
    """
    if not isinstance(local.epochs, int):
        raise ConfigError(
            f"local.epochs is {local.epochs!r}, expected one whole number for central training."
        )
    loss = loss or default_loss
    client = Client(examples.images, examples.labels) if isinstance(examples, Split) else examples
    trained = copy.deepcopy(model)
    flat = FlatParameters(trained)
    draws = Draws(seed, round=1, client=0)
    run = LocalRun(flat, client, local, loss, draws, epochs=local.epochs)
    done = 0
    if resume_from is not None:
        flat.load_state(resume_from.state)
        run.restore(dict(resume_from.optimizer))
        done = resume_from.epoch
    history = []
    for number in range(done + 1, local.epochs + 1):
        started = time.perf_counter()
        with threads(local.threads):
            figures = run.epoch(number)
        trained_at = time.perf_counter()
        evaluation = None
        if validation is not None:
            outputs = predict(trained, validation.images)
            losses = loss(outputs, validation.labels)
            evaluation = evaluate_logits(outputs, validation.labels, losses=losses)
        now = time.perf_counter()
        record = EpochRecord(
            epoch=number,
            seconds=now - started,
            evaluation_seconds=now - trained_at,
            train_loss=figures.loss,
            train_accuracy=figures.accuracy,
            validation=evaluation,
        )
        history.append(record)
        if checkpoint is not None:
            state = torch.empty(flat.state_length, dtype=flat.vector.dtype)
            flat.save_state(state)
            checkpoint(CentralCheckpoint(number, state, run.state()), record)
    result = copy.deepcopy(model)
    result.load_state_dict(trained.state_dict())
    return CentralResult(result, history)
