"""One round after another: send, collect, aggregate, evaluate."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fedlens.errors import ConfigError, FedlensError
from fedlens.federated.algorithm import Algorithm, Federation, ServerState, weighted_mean
from fedlens.federated.client import ClientReport, Workbench
from fedlens.federated.client_store import ClientStore
from fedlens.federated.cohort import Planner
from fedlens.federated.collecting import Collected, Collector
from fedlens.federated.engines import Engine
from fedlens.federated.faults import Screening
from fedlens.federated.history import ClientRecord, RoundRecord, divergence
from fedlens.federated.privacy_contract import Privacy
from fedlens.federated.validation import Validation
from fedlens.models.vector import FlatParameters
from fedlens.training.evaluation import Evaluation
from fedlens.training.loop import share_kept, threads

MOST_ATTEMPTS = 20  # at one round


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that the rounds after ``round`` depend on, besides the settings.

    Attributes:
        round: the last finished round; 0 before the first.
        state: the algorithm's state after it.
        buffers: the global model's persistent buffers, as one vector.
        client_rounds: client number -> the round that wrote what it remembers; the vectors
            themselves are in the :class:`ClientStore`.
        clip_norm: of the next round, where client-level privacy has one.
        average: the averaged parameters and buffers, as one vector, where rounds are averaged.
    """

    round: int
    state: ServerState
    buffers: Tensor
    client_rounds: dict[int, int] = field(default_factory=dict)
    clip_norm: float | None = None
    average: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Rules:
    """By what rules a federation runs.

    Attributes:
        algorithm: how clients train and updates become the next model.
        federation: what is known of the clients from the beginning.
        planner: draws who takes part.
        screening: what is done about updates that are far off.
        minimum_cohort: usable updates below which a round is repeated.
        privacy: what is done to hide examples or clients.
        averaging: decay of the average over the rounds; 0 for none.
    """

    algorithm: Algorithm
    federation: Federation
    planner: Planner
    screening: Screening
    minimum_cohort: int
    privacy: Privacy
    averaging: float = 0.0


class Rounds:
    """The state of a federation between rounds, and the one step from each to the next."""

    def __init__(
        self,
        engine: Engine,
        bench: Workbench,
        rules: Rules,
        validation: Validation,
        store: ClientStore,
        resume_from: Checkpoint | None,
    ) -> None:
        """Begin with the workbench's model, or go on from a checkpoint.

        Raises:
            ConfigError: the checkpoint is of another network.
        """
        self._engine = engine
        self._rules = rules
        self._layout = bench.layout
        self._validation = validation
        self._store = store
        self._collector = Collector(
            engine, bench.layout, store, rules.screening, rules.privacy.unit
        )
        length = self._layout.parameters
        if resume_from is None:
            start = torch.empty(self._layout.state, dtype=bench.flat.vector.dtype)
            bench.flat.save_state(start)
            state = rules.algorithm.start(start[:length].clone(), rules.federation)
            first_clip = rules.privacy.first_clip_norm()
            resume_from = Checkpoint(0, state, start[length:].clone(), clip_norm=first_clip)
        if resume_from.state.parameters.shape != (length,):
            raise ConfigError(
                f"The checkpoint has {resume_from.state.parameters.numel():,} parameters and the "
                f"network {length:,}; they belong to different federations."
            )
        expected = set(rules.algorithm.start(resume_from.state.parameters, rules.federation).memory)
        if set(resume_from.state.memory) != expected:
            raise ConfigError(
                f"The checkpoint was not made with {rules.algorithm.name}: it holds "
                f"{', '.join(sorted(resume_from.state.memory)) or 'nothing'} beside the parameters, "
                f"expected {', '.join(sorted(expected)) or 'nothing'}."
            )
        averages = resume_from.average is not None
        if resume_from.round and averages != (rules.averaging > 0):
            raise ConfigError(
                f"The checkpoint was made with{'' if averages else 'out'} an average over the rounds, "
                f"but federation.averaging is {rules.averaging}; they belong to different federations."
            )
        store.restore(resume_from.client_rounds)
        self.round = resume_from.round
        self._state = resume_from.state
        self._buffers = resume_from.buffers
        self._clip_norm = resume_from.clip_norm
        self._average = resume_from.average

    def run(self, number: int, progress: Callable[[int, int], None]) -> RoundRecord | None:
        """Send, train, collect, aggregate, evaluate; return the record of it all.

        It is None where privacy's budget does not allow the round; nothing was done then.

        Args:
            number: of the round, from 1.
            progress: called with (finished, all) clients as they finish.

        Raises:
            FedlensError: too few usable updates in :data:`MOST_ATTEMPTS` attempts.
        """
        with threads(1):  # sums over more threads round differently
            return self._run(number, progress)

    def _run(self, number: int, progress: Callable[[int, int], None]) -> RoundRecord | None:
        started = time.perf_counter()
        old = self._state.parameters
        sent = received = 0
        usable = 0
        # without anything random in it, a round would go the same way again
        attempts = MOST_ATTEMPTS if self._rules.planner.varies else 1
        for attempt in range(attempts):
            plan = self._rules.planner.plan(number, attempt)
            if not self._rules.privacy.afford(number, plan.epochs):
                return None
            self._send()
            collected = self._collector.collect(self._state.parameters, plan, progress)
            sent += len(plan.cohort) * self._layout.incoming
            received += (len(plan.cohort) - len(plan.lost)) * self._layout.sent_up
            usable = len(collected.updates)
            if usable >= self._rules.minimum_cohort:
                break
        else:
            raise FedlensError(
                f"Round {number} got {usable} of the federation.minimum_cohort = "
                f"{self._rules.minimum_cohort} usable updates that it needs, in the last of "
                f"{attempts} attempts; lower that number, or ask for a larger cohort."
            )
        privacy = self._rules.privacy
        seen = [] if privacy.hides_figures else collected.updates
        drift = divergence(old, [update.weights for update in seen])
        figures: dict[str, float] = {}
        # an empty secret sample's noise is a release like any other
        if collected.updates or privacy.hides_cohort:
            self._step(number, collected)
            figures = self._state.figures
        if privacy.hides_figures:
            collected = Collected([], [], [])
        if privacy.hides_cohort:
            expected = privacy.expected
            sent, received = expected * self._layout.incoming, expected * self._layout.sent_up
        self.round = number
        trained = time.perf_counter()
        self._send()
        evaluation = self._validation.evaluate(self._engine)
        averaged = self._measure_average(number) if self._rules.averaging else None
        now = time.perf_counter()
        used = collected.reports
        size = self._engine.incoming.element_size()
        return RoundRecord(
            round=number,
            seconds=now - started,
            evaluation_seconds=now - trained,
            cohort=[] if privacy.hides_cohort else plan.cohort,
            bytes_down=sent * size,
            bytes_up=received * size,
            train_loss=_mean([r.train_loss for r in used], [r.examples for r in used]),
            train_accuracy=_mean([r.train_accuracy for r in used], [r.examples for r in used]),
            validation=evaluation,
            averaged=averaged,
            clients=[
                self._client_record(report, norm, cosine, evaluation)
                for report, (norm, cosine) in zip(used, drift, strict=True)
            ],
            left_out=collected.left_out,
            mean_update_norm=_mean([norm for norm, _ in drift], [1] * len(drift)),
            mean_cosine=_mean([cosine for _, cosine in drift], [1] * len(drift)),
            repeats=attempt,
            figures=figures,
        )

    def checkpoint(self) -> Checkpoint:
        """Return what the coming rounds depend on."""
        rounds = self._store.rounds
        return Checkpoint(
            self.round, self._state, self._buffers, rounds, self._clip_norm, self._average
        )

    def global_model(self, like: nn.Module) -> nn.Module:
        """Return a copy of ``like`` with the global parameters and buffers, or their average."""
        model = copy.deepcopy(like)
        FlatParameters(model).load_state(self._global if self._average is None else self._average)
        for parameter in model.parameters():
            parameter.grad = None
        return model

    @property
    def _global(self) -> Tensor:
        return torch.cat([self._state.parameters, self._buffers])

    def _measure_average(self, number: int) -> Evaluation | None:
        """Take the round's model into the average, and return the average's figures."""
        if self._average is None:
            self._average = self._global
        else:
            kept = share_kept(self._rules.averaging, number - 1)
            average = self._average.lerp(self._global, 1 - kept)
            # infinite buffers, such as a mask: infinity less infinity would be no number
            self._average = torch.where(torch.isfinite(average), average, self._global)
        # the next round begins by sending the global model again
        self._layout.split_incoming(self._engine.incoming)[0].copy_(self._average)
        return self._validation.evaluate(self._engine)

    def _send(self) -> None:
        state, broadcast = self._layout.split_incoming(self._engine.incoming)
        length = self._layout.parameters
        state[:length].copy_(self._state.parameters)
        state[length:].copy_(self._buffers)
        extra = self._rules.algorithm.broadcast(self._state)
        if extra is not None:
            broadcast.copy_(extra)

    def _step(self, number: int, collected: Collected) -> None:
        """Aggregate, and let the clients whose update was used keep what they remember."""
        rules, rows = self._rules, self._engine.outgoing
        updates, self._clip_norm = rules.privacy.combine(
            number, self._state.parameters, collected.updates, self._clip_norm
        )
        state = rules.algorithm.aggregate(self._state, updates, rules.federation)
        vectors = [state.parameters, *state.memory.values()]
        if not all(bool(torch.isfinite(vector).all()) for vector in vectors):
            raise FedlensError(
                f"In round {number} {rules.algorithm.name} made a model that is not finite, from "
                "updates that are; lower federation.parameters.server_lr."
            )
        self._state = state
        if len(self._buffers):
            self._buffers = weighted_mean(
                [
                    rows[r.slot, self._layout.parameters : self._layout.state]
                    for r in collected.reports
                ],
                [r.examples for r in collected.reports],
            ).to(self._buffers.dtype)
        if self._layout.memory:
            for report in collected.reports:
                memory = self._layout.split_outgoing(rows[report.slot])[2]
                self._store.write(report.client, number, memory)

    def _client_record(
        self,
        report: ClientReport,
        norm: float,
        cosine: float | None,
        evaluation: Evaluation | None,
    ) -> ClientRecord:
        loss = accuracy = None
        if self._rules.privacy.unit is None:  # else they would give away its label mix
            loss, accuracy = self._validation.of_client(report.client, evaluation)
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
            not_finite=report.not_finite,
        )


def _mean(values: Sequence[float | None], weights: Sequence[int]) -> float | None:
    """Return the weighted mean, or None where a value is missing or there are none."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return sum(v * w for v, w in zip(known, weights, strict=True)) / sum(weights)
