"""A client's work in a round, as any engine's process carries it out."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlens.data.client import Client
from fedlens.federated.algorithm import Algorithm, LocalWork
from fedlens.federated.faults import stretched
from fedlens.federated.privacy_contract import Privacy
from fedlens.models.vector import FlatParameters
from fedlens.randomness import Purpose, local_torch_seed, torch_seed
from fedlens.training.local import LocalTraining
from fedlens.training.loop import Draws, start_gradient
from fedlens.training.losses import Loss
from fedlens.training.prediction import predict_chunk
from fedlens.training.private import local_run


@dataclass(frozen=True)
class ClientTask:
    """One client's work in one round, as plain numbers.

    Attributes:
        round: round number, from 1.
        client: client number, from 0.
        slot: position among the tasks: the row of the update.
        epochs: local epochs.
        examples: the client's number of examples.
        steps: optimiser steps after which it stops.
        planned: optimiser steps of the whole work.
        stretch: what its update is multiplied by before it is sent; 1 for an honest client.
    """

    round: int
    client: int
    slot: int
    epochs: int
    examples: int
    steps: int
    planned: int
    stretch: float = 1.0

    @property
    def work(self) -> float:
        """Examples that pass through the network: what the time it takes is proportional to."""
        return self.epochs * self.examples * self.steps / self.planned


@dataclass(frozen=True)
class ClientReport:
    """What is known of a client's work besides its update.

    Attributes:
        client, slot, examples: as in the task.
        steps: optimiser steps taken.
        seconds: wall-clock time of the work.
        train_loss: mean loss per example in the last local epoch that it began.
        train_accuracy: share of right answers in that epoch, or None.
        not_finite: examples whose gradient was not finite and counted as zero, under privacy.
    """

    client: int
    slot: int
    examples: int
    steps: int
    seconds: float
    train_loss: float
    train_accuracy: float | None
    not_finite: int = 0


@dataclass(frozen=True)
class Layout:
    """How long the vectors are that go to a client, come from it and stay with it.

    What the server sends is the network's state (parameters, then buffers) and after it the
    algorithm's broadcast. A client's row is its state, its message, and what it remembers; the last
    stays with the client, and is in the row only for the simulation to keep.

    Attributes:
        parameters: P.
        state: P and the buffers.
        broadcasts, reports, remembers: vectors (P,) of the algorithm.
    """

    parameters: int
    state: int
    broadcasts: int
    reports: int
    remembers: int

    @classmethod
    def of(cls, flat: FlatParameters, algorithm: Algorithm) -> "Layout":
        """Return the layout for a network and an algorithm."""
        extras = (algorithm.broadcasts, algorithm.reports, algorithm.remembers)
        return cls(len(flat), flat.state_length, *extras)

    @property
    def incoming(self) -> int:
        """Length of what the server sends."""
        return self.state + self.broadcasts * self.parameters

    @property
    def sent_up(self) -> int:
        """Length of what a client sends."""
        return self.state + self.reports * self.parameters

    @property
    def memory(self) -> int:
        """Length of what a client remembers."""
        return self.remembers * self.parameters

    @property
    def outgoing(self) -> int:
        """Length of a client's row."""
        return self.sent_up + self.memory

    def split_incoming(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Return views of the state (P + buffers,) and of the broadcast (broadcasts, P)."""
        return vector[: self.state], vector[self.state :].view(self.broadcasts, self.parameters)

    def split_outgoing(self, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return views of the state, the message (reports, P) and the memory (remembers, P)."""
        message = row[self.state : self.sent_up].view(self.reports, self.parameters)
        return row[: self.state], message, row[self.sent_up :].view(self.remembers, self.parameters)


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
        algorithm: Algorithm,
        privacy: Privacy | None = None,
    ) -> None:
        """Copy ``model`` and keep references to all else; see :func:`fedlens.federate`."""
        self.flat = FlatParameters(copy.deepcopy(model))
        self.layout = Layout.of(self.flat, algorithm)
        self._clients = clients
        self._settings = settings
        self._loss = loss
        self._seed = seed
        self._validation_inputs = validation_inputs
        self._algorithm = algorithm
        self._privacy = privacy or Privacy()

    def train(
        self, task: ClientTask, incoming: Tensor, outgoing: Tensor, memory: Tensor
    ) -> ClientReport:
        """Do one client's work.

        Args:
            task: whose, and how much.
            incoming: what the server sent, as :class:`Layout` has it.
            outgoing: where to write what the client returns and what it remembers afterwards; of
                what it reads nothing is changed, so that the work can be done again.
            memory: what the client remembers, (remembers * P,).
        """
        started = time.perf_counter()
        flat, layout, algorithm = self.flat, self.layout, self._algorithm
        client = self._clients[task.client]
        state, broadcast = layout.split_incoming(incoming)
        memory = memory.view(algorithm.remembers, layout.parameters)
        flat.load_state(state)
        start = state[: layout.parameters]
        gradient: Tensor | None = None
        if algorithm.observes == "mean-gradient":
            gradient = torch.zeros_like(flat.vector)
        elif algorithm.observes == "start-gradient":
            # epoch 0 of the stream that dropout draws from: the local epochs count from 1
            draws = {"round": task.round, "client": task.client}
            with local_torch_seed(torch_seed(self._seed, Purpose.DROPOUT, **draws)):
                gradient = start_gradient(flat, client, self._settings, self._loss)
        run = local_run(
            flat,
            client,
            self._settings,
            self._loss,
            Draws(self._seed, task.round, task.client),
            self._privacy.steps(task.round, task.client),
            correction=algorithm.prepare(start, broadcast, memory),
            epochs=task.epochs,
            gradient_sum=gradient if algorithm.observes == "mean-gradient" else None,
            most_steps=task.steps,
        )
        steps = number = not_finite = 0
        while steps < task.steps:
            number += 1
            figures = run.epoch(number)
            steps += figures.steps
            not_finite += figures.not_finite
        if gradient is not None and algorithm.observes == "mean-gradient":
            gradient.div_(steps)
        work = LocalWork(start, flat.vector, gradient, steps, task.planned, self._settings)
        message, remembered = algorithm.conclude(work, broadcast, memory)
        returned, said, kept = layout.split_outgoing(outgoing)
        flat.save_state(returned)
        if message is None:
            said.zero_()
        else:
            said.copy_(message)
        if task.stretch != 1:
            stretched(start, returned[: layout.parameters], task.stretch)
            said.mul_(task.stretch)
        kept.copy_(memory if remembered is None else remembered)
        return ClientReport(
            client=task.client,
            slot=task.slot,
            examples=len(client),
            steps=steps,
            seconds=time.perf_counter() - started,
            train_loss=figures.loss,
            train_accuracy=figures.accuracy,
            not_finite=not_finite,
        )

    def predict(self, part: slice, incoming: Tensor, outputs: Tensor) -> None:
        """Write the outputs of the validation examples ``part`` into the rows of ``outputs``."""
        assert self._validation_inputs is not None
        self.flat.load_state(incoming[: self.layout.state])
        inputs = self._validation_inputs[part]
        outputs[part].copy_(predict_chunk(self.flat.model, inputs, self.flat.vector.dtype))

    def output_shape(self) -> torch.Size:
        """Return the shape of the network's output for one validation example."""
        assert self._validation_inputs is not None
        inputs = self._validation_inputs[:1]
        return predict_chunk(self.flat.model, inputs, self.flat.vector.dtype).shape[1:]
