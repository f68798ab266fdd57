"""The server: rounds of sampling a cohort, collecting updates and aggregating them."""

import copy
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fedlens.data.client import Client, label_counts
from fedlens.data.dataset import Split
from fedlens.errors import ConfigError
from fedlens.federated.algorithm import Algorithm, ServerState, Update, weighted_mean
from fedlens.federated.client import ClientReport, ClientTask, Workbench
from fedlens.federated.cohort import cohort_size, round_tasks
from fedlens.federated.engines import Engine, build_engine
from fedlens.federated.history import ClientRecord, LeftOut, RoundRecord, divergence, mix_weighted
from fedlens.models.vector import FlatParameters, has_batch_norm
from fedlens.training.evaluation import Evaluation, evaluate_logits
from fedlens.training.local import LocalTraining
from fedlens.training.losses import Loss, default_loss


@dataclass(frozen=True)
class Progress:
    """Where a federation is, for a progress bar.

    Attributes:
        round, rounds: the round at work (from 1), and how many there are.
        clients_done, clients: clients finished in this round, and the size of its cohort.
        record: the round's record once it is complete, else None.
    """

    round: int
    rounds: int
    clients_done: int
    clients: int
    record: RoundRecord | None = None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that the rounds after ``round`` depend on, besides the settings.

    Attributes:
        round: the last finished round; 0 before the first.
        state: the algorithm's state after it.
        buffers: the global model's persistent buffers, as one vector.
    """

    round: int
    state: ServerState
    buffers: Tensor


@dataclass(frozen=True, eq=False)
class FederationResult:
    """The trained global model, and what happened in each round of this call."""

    model: nn.Module
    history: list[RoundRecord] = field(default_factory=list)


def federate(
    model: nn.Module,
    clients: Sequence[Client],
    *,
    algorithm: Algorithm,
    rounds: int,
    local: LocalTraining,
    cohort: int | float | None = None,
    workers: int = 1,
    seed: int = 0,
    loss: Loss | None = None,
    progress: Callable[[Progress], None] | None = None,
    validation: Split | Client | None = None,
    resume_from: Checkpoint | None = None,
    checkpoint: Callable[[Checkpoint, RoundRecord], None] | None = None,
) -> FederationResult:
    """Train ``model`` over ``clients`` and return a new model; the given one is not changed.

    The result is a function of the arguments alone: it is the same to the last bit for any number
    of workers, and for a run that was stopped and resumed.

    Args:
        model: any network with floating-point parameters of one dtype.
        clients: who holds what; ``fedlens.partition`` makes them, or plain ``Client`` tensors.
        algorithm: how updates become the next global model, e.g. ``fedlens.FedAvg()``.
        rounds: how many rounds, counted from the beginning (a resumed run does the rest).
        local: settings of the clients' training.
        cohort: clients a round, drawn uniformly without replacement: None for all, a count, or a
            fraction in (0, 1) of all clients (rounded, at least one).
        workers: 1 runs in this process; more are forked processes of one thread each.
        seed: root seed, at least 0.
        loss: ``loss(outputs, targets)`` with one value per example; by default cross-entropy for
            class numbers and binary cross-entropy for label rows.
        progress: called after each client and each round.
        validation: class numbers or label rows on which the global model is measured each round.
        resume_from: a checkpoint of the same federation.
        checkpoint: called after each round with what is needed to go on from there.

    Raises:
        ConfigError: a number of rounds, clients, workers or epochs that cannot be, a loss that does
            not return one value per example, or validation targets that are not classes.
        ModelError: see :class:`fedlens.models.FlatParameters`.
    """
    _check(clients, rounds, local, workers, seed)
    held_out = None if validation is None else _as_client(validation)
    largest_cohort = cohort_size(cohort, len(clients))
    if has_batch_norm(model):
        warnings.warn(
            "The network uses BatchNorm, whose running statistics differ from client to client; "
            "they are averaged with the weights, but GroupNorm is the sounder choice in a "
            "federation.",
            stacklevel=2,
        )
    sizes = [len(client) for client in clients]
    loss = loss or default_loss
    bench = Workbench(
        model, clients, local, loss, seed, None if held_out is None else held_out.inputs
    )
    engine = build_engine(
        bench,
        workers=workers,
        largest_cohort=largest_cohort,
        validation_examples=0 if held_out is None else len(held_out),
    )
    try:
        server = _Server(engine, bench.flat, algorithm, clients, held_out, loss, resume_from)
        history: list[RoundRecord] = []
        for number in range(server.round + 1, rounds + 1):
            tasks = round_tasks(sizes, cohort, local, seed, number)
            counter = _counter(progress, number, rounds, len(tasks))
            record = server.run_round(number, tasks, counter)
            history.append(record)
            if checkpoint is not None:
                checkpoint(server.checkpoint(), record)
            if progress is not None:
                progress(Progress(number, rounds, len(tasks), len(tasks), record))
        return FederationResult(server.global_model(model), history)
    finally:
        engine.close()


class _Server:
    """The state of a federation between rounds, and the one step from each to the next."""

    def __init__(
        self,
        engine: Engine,
        flat: FlatParameters,
        algorithm: Algorithm,
        clients: Sequence[Client],
        held_out: Client | None,
        loss: Loss,
        resume_from: Checkpoint | None,
    ) -> None:
        self._engine = engine
        self._algorithm = algorithm
        self._length = len(flat)
        self._held_out = held_out
        self._loss = loss
        self._clients = clients
        self._mixes: Tensor | None = None  # (K, L) label counts, once L is known
        if resume_from is None:
            start = torch.empty(flat.state_length, dtype=flat.vector.dtype)
            flat.save_state(start)
            parameters, buffers = start.split([self._length, len(start) - self._length])
            resume_from = Checkpoint(0, algorithm.start(parameters), buffers)
        if resume_from.state.parameters.shape != (self._length,):
            raise ConfigError(
                f"The checkpoint has {resume_from.state.parameters.numel():,} parameters and the "
                f"network {self._length:,}; they belong to different federations."
            )
        self.round = resume_from.round
        self._state = resume_from.state
        self._buffers = resume_from.buffers

    def run_round(
        self,
        number: int,
        tasks: Sequence[ClientTask],
        finished: Callable[[ClientReport], None],
    ) -> RoundRecord:
        """Send, train, collect, aggregate, evaluate; return the record of it all."""
        started = time.perf_counter()
        old = self._state.parameters
        self._send()
        reports = self._engine.train(tasks, finished)
        rows = self._engine.outgoing
        finite = [bool(torch.isfinite(rows[r.slot]).all()) for r in reports]
        used = [r for r, good in zip(reports, finite, strict=True) if good]
        left_out = [
            LeftOut(r.client, "its update is not finite")
            for r, good in zip(reports, finite, strict=True)
            if not good
        ]
        updates = [
            Update(r.client, r.examples, r.steps, rows[r.slot, : self._length]) for r in used
        ]
        drift = divergence(old, [update.weights for update in updates])
        if updates:
            self._state = self._algorithm.aggregate(self._state, updates)
            self._buffers = weighted_mean(
                [rows[r.slot, self._length :] for r in used], [r.examples for r in used]
            ).to(self._buffers.dtype)
        self.round = number
        trained = time.perf_counter()
        evaluation = self._evaluate()
        now = time.perf_counter()
        return RoundRecord(
            round=number,
            seconds=now - started,
            evaluation_seconds=now - trained,
            cohort=[task.client for task in tasks],
            bytes_down=len(tasks) * self._engine.incoming.nbytes,
            bytes_up=len(reports) * self._engine.incoming.nbytes,
            train_loss=_mean([r.train_loss for r in used], [r.examples for r in used]),
            train_accuracy=_mean([r.train_accuracy for r in used], [r.examples for r in used]),
            validation=evaluation,
            clients=[
                self._client_record(report, norm, cosine, evaluation)
                for report, (norm, cosine) in zip(used, drift, strict=True)
            ],
            left_out=left_out,
            mean_update_norm=_mean([norm for norm, _ in drift], [1] * len(drift)),
            mean_cosine=_mean([cosine for _, cosine in drift], [1] * len(drift)),
        )

    def checkpoint(self) -> Checkpoint:
        """Return what the coming rounds depend on."""
        return Checkpoint(self.round, self._state, self._buffers)

    def global_model(self, like: nn.Module) -> nn.Module:
        """Return a copy of ``like`` that holds the global parameters and buffers."""
        model = copy.deepcopy(like)
        FlatParameters(model).load_state(torch.cat([self._state.parameters, self._buffers]))
        for parameter in model.parameters():
            parameter.grad = None
        return model

    def _send(self) -> None:
        self._engine.incoming[: self._length].copy_(self._state.parameters)
        self._engine.incoming[self._length :].copy_(self._buffers)

    def _evaluate(self) -> Evaluation | None:
        if self._held_out is None:
            return None
        self._send()
        outputs = self._engine.predict()
        losses = self._loss(outputs, self._held_out.targets)
        evaluation = evaluate_logits(outputs, self._held_out.targets, losses=losses)
        if self._mixes is None:
            self._mixes = label_counts(self._clients, len(evaluation.support))
        return evaluation

    def _client_record(
        self,
        report: ClientReport,
        norm: float,
        cosine: float | None,
        evaluation: Evaluation | None,
    ) -> ClientRecord:
        loss, accuracy = None, None
        if evaluation is not None and self._mixes is not None:
            loss, accuracy = mix_weighted(evaluation, self._mixes[report.client])
        return ClientRecord(
            client=report.client,
            examples=report.examples,
            steps=report.steps,
            seconds=report.seconds,
            train_loss=report.train_loss,
            train_accuracy=report.train_accuracy,
            loss=loss,
            accuracy=accuracy,
            update_norm=norm,
            cosine_to_mean=cosine,
        )


def _check(
    clients: Sequence[Client], rounds: int, local: LocalTraining, workers: int, seed: int
) -> None:
    if not clients:
        raise ConfigError("A federation needs at least one client, got none.")
    if rounds < 1:
        raise ConfigError(f"federation.rounds is {rounds}, expected a whole number from 1.")
    if workers < 1:
        raise ConfigError(f"federation.workers is {workers}, expected a whole number from 1.")
    if seed < 0:
        raise ConfigError(f"seed is {seed}, expected a whole number from 0.")
    if local.threads > 1:
        raise ConfigError(
            f"local.threads is {local.threads}, expected 1 in a federation, where federation.workers "
            "makes use of the processors."
        )
    if isinstance(local.epochs, list) and len(local.epochs) != len(clients):
        raise ConfigError(
            f"local.epochs lists {len(local.epochs)} numbers for {len(clients)} clients, expected "
            "one for each client."
        )


def _as_client(validation: Split | Client) -> Client:
    if isinstance(validation, Split):
        return Client(validation.images, validation.labels)
    if validation.targets.is_floating_point() or validation.targets.dim() > 2:
        raise ConfigError(
            f"The validation targets are {validation.targets.dtype} of shape "
            f"{tuple(validation.targets.shape)}, expected class numbers (N,) or label rows (N, L); "
            "leave validation out for other problems."
        )
    if validation.indices is None:
        return validation
    return Client(*validation.take(torch.arange(len(validation))))


def _counter(
    progress: Callable[[Progress], None] | None, number: int, rounds: int, clients: int
) -> Callable[[ClientReport], None]:
    done = 0

    def finished(_: ClientReport) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(Progress(number, rounds, done, clients))

    return finished


def _mean(values: Sequence[float | None], weights: Sequence[int]) -> float | None:
    """Return the weighted mean, or None where a value is missing or there are none."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return sum(v * w for v, w in zip(known, weights, strict=True)) / sum(weights)
