"""Central training: the pooled baseline, the step loop of one client that holds everything."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fedlens.data.client import Client, as_client
from fedlens.data.dataset import Split
from fedlens.errors import ConfigError
from fedlens.models.vector import FlatParameters
from fedlens.training.evaluation import Evaluation, evaluate_logits
from fedlens.training.local import LocalTraining
from fedlens.training.loop import Draws, threads
from fedlens.training.losses import Loss, chosen_loss
from fedlens.training.prediction import predict
from fedlens.training.private import PrivateSteps, local_run


@dataclass(frozen=True, eq=False)
class EpochRecord:
    """One epoch of central training: one line of ``metrics.jsonl``.

    Attributes:
        epoch: from 1.
        seconds: wall-clock time, evaluation included.
        evaluation_seconds: of it, spent on the validation split.
        train_loss, train_accuracy: over the epoch while the weights moved, as Keras reports them;
            NaN and None under privacy.
        validation: figures at the end of the epoch, or None without a validation split.
        not_finite: examples whose gradient was not finite and counted as zero, under privacy.
    """

    epoch: int
    seconds: float
    evaluation_seconds: float
    train_loss: float
    train_accuracy: float | None
    validation: Evaluation | None
    not_finite: int = 0

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
    validation: Split | Client | None = None,
    privacy: PrivateSteps | None = None,
    afford: Callable[[int], bool] | None = None,
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
        privacy: makes every step private (DP-SGD); epoch k is period k - 1 of its mechanism.
        afford: called with an epoch's number before its first step, to charge for it; False ends
            the training there.
        resume_from: a checkpoint of the same training.
        checkpoint: called after each epoch with what is needed to go on from there.

    Raises:
        ConfigError: ``local.epochs`` is not one number, or more than the mechanism pays for: its
            budget, or without one, where nobody is asked by ``afford``, its plan.
        ModelError: see :class:`fedlens.models.FlatParameters`; under privacy also a network with
            BatchNorm.
    """
    if not isinstance(local.epochs, int):
        raise ConfigError(
            f"local.epochs is {local.epochs!r}, expected one whole number for central training."
        )
    client = as_client(examples)
    loss = chosen_loss(loss, [client.targets])
    if privacy is not None:
        if not isinstance(privacy, PrivateSteps):
            raise ConfigError(
                f"privacy is a {type(privacy).__name__}, expected PrivateSteps, or None for no privacy."
            )
        done = 0 if resume_from is None else resume_from.epoch
        privacy.begin(local.epochs, done, charged=afford is not None)
    held_out = None if validation is None else as_client(validation)
    trained = copy.deepcopy(model)
    flat = FlatParameters(trained)
    draws = Draws(seed, round=1, client=0)
    run = local_run(flat, client, local, loss, draws, privacy, epochs=local.epochs)
    done = 0
    if resume_from is not None:
        flat.load_state(resume_from.state)
        run.restore(dict(resume_from.optimizer))
        done = resume_from.epoch
    history = []
    for number in range(done + 1, local.epochs + 1):
        started = time.perf_counter()
        if afford is not None and not afford(number):
            break
        if privacy is not None:
            privacy.pay(number)
        with threads(local.threads):
            figures = run.epoch(number)
        trained_at = time.perf_counter()
        evaluation = None
        if held_out is not None:
            with flat.holding(run.average):
                outputs = predict(trained, held_out.inputs)
            losses = loss(outputs, held_out.targets)
            evaluation = evaluate_logits(outputs, held_out.targets, losses=losses)
        now = time.perf_counter()
        record = EpochRecord(
            epoch=number,
            seconds=now - started,
            evaluation_seconds=now - trained_at,
            train_loss=figures.loss,
            train_accuracy=figures.accuracy,
            validation=evaluation,
            not_finite=figures.not_finite,
        )
        history.append(record)
        if checkpoint is not None:
            state = torch.empty(flat.state_length, dtype=flat.vector.dtype)
            flat.save_state(state)
            checkpoint(CentralCheckpoint(number, state, run.state()), record)
    flat.vector.copy_(run.average)
    result = copy.deepcopy(model)
    result.load_state_dict(trained.state_dict())
    return CentralResult(result, history)
