"""A client's work in a round, as any engine's process carries it out."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlens.data.client import Client
from fedlens.models.vector import FlatParameters
from fedlens.training.local import LocalTraining
from fedlens.training.loop import Draws, LocalRun
from fedlens.training.losses import Loss
from fedlens.training.prediction import predict_chunk


@dataclass(frozen=True)
class ClientTask:
    """One client's work in one round, as plain numbers.

    Attributes:
        round: round number, from 1.
        client: client number, from 0.
        slot: position in the cohort: the row of the update.
        epochs: local epochs.
        examples: the client's number of examples.
    """

    round: int
    client: int
    slot: int
    epochs: int
    examples: int

    @property
    def work(self) -> int:
        """Examples that pass through the network: what the time it takes is proportional to."""
        return self.epochs * self.examples


@dataclass(frozen=True)
class ClientReport:
    """What is known of a client's work besides its update.

    Attributes:
        client, slot, examples: as in the task.
        steps: optimiser steps taken.
        seconds: wall-clock time of the work.
        train_loss: mean loss per example in the last local epoch.
        train_accuracy: share of right answers in the last local epoch, or None.
    """

    client: int
    slot: int
    examples: int
    steps: int
    seconds: float
    train_loss: float
    train_accuracy: float | None


class Workbench:
    """One model in one process, used by one client after another.

    The model is a copy: the caller's is never touched. Between two clients only its vector is
    overwritten, so memory does not grow with the number of clients.
    """

    def __init__(
        self,
        model: nn.Module,
        clients: Sequence[Client],
        settings: LocalTraining,
        loss: Loss,
        seed: int,
        validation_inputs: Tensor | None,
    ) -> None:
        """Copy ``model`` and keep references to all else; see :func:`fedlens.federate`."""
        self.flat = FlatParameters(copy.deepcopy(model))
        self._clients = clients
        self._settings = settings
        self._loss = loss
        self._seed = seed
        self._validation_inputs = validation_inputs

    def train(self, task: ClientTask, incoming: Tensor, outgoing: Tensor) -> ClientReport:
        """Train from the state ``incoming`` (P + buffers,) and write the new one to ``outgoing``."""
        started = time.perf_counter()
        client = self._clients[task.client]
        self.flat.load_state(incoming)
        draws = Draws(self._seed, task.round, task.client)
        run = LocalRun(self.flat, client, self._settings, self._loss, draws)
        steps = 0
        for number in range(1, task.epochs + 1):
            figures = run.epoch(number)
            steps += figures.steps
        self.flat.save_state(outgoing)
        return ClientReport(
            client=task.client,
            slot=task.slot,
            examples=len(client),
            steps=steps,
            seconds=time.perf_counter() - started,
            train_loss=figures.loss,
            train_accuracy=figures.accuracy,
        )

    def predict(self, part: slice, incoming: Tensor, outputs: Tensor) -> None:
        """Write the outputs of the validation examples ``part`` into the rows of ``outputs``."""
        assert self._validation_inputs is not None
        self.flat.load_state(incoming)
        inputs = self._validation_inputs[part]
        outputs[part].copy_(predict_chunk(self.flat.model, inputs, self.flat.vector.dtype))

    def output_shape(self) -> torch.Size:
        """Return the shape of the network's output for one validation example."""
        assert self._validation_inputs is not None
        inputs = self._validation_inputs[:1]
        return predict_chunk(self.flat.model, inputs, self.flat.vector.dtype).shape[1:]
