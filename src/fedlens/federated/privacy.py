"""Differential privacy in a federation: whose data it hides decides where it acts.

Example-level privacy acts inside each client, which takes private steps and trusts nobody; client-level
privacy acts where the updates of a secret sample of clients are added up. Both say what a round
releases *before* it is made.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fedlens.errors import ConfigError, ModelError
from fedlens.federated.aggregation import Mean
from fedlens.federated.algorithm import Algorithm, Update
from fedlens.federated.faults import Screening
from fedlens.federated.privacy_contract import Privacy
from fedlens.models.vector import FlatParameters
from fedlens.privacy.adaptive_clip import AdaptiveClip
from fedlens.privacy.mechanism import Mechanism, Unit
from fedlens.privacy.noise import release
from fedlens.privacy.releases import Release
from fedlens.privacy.sources import RandomSource, SecureSource, SeededSource
from fedlens.privacy.spending import Charge, Spending, check_periods
from fedlens.randomness import Purpose
from fedlens.training.local import LocalTraining
from fedlens.training.private import Augmentation, PrivateSteps, check_fit


@dataclass(frozen=True, eq=False)
class ExamplePrivacy(Privacy):
    """Each client takes private steps (DP-SGD), so that each of its examples is hidden from all.

    An example lies at one client, so that the federation's epsilon is its worst client's. A client's
    size is taken to be public. Who takes part in a round is seen by the server and amplifies nothing.

    It keeps an account of each client as long as it lives, through all federations that it is given
    to. One that would exceed a mechanism's budget is refused, and without a budget, where no
    ``charge`` keeps account, one that would exceed its plan.

    Attributes:
        mechanisms: one a client; a period is a round, charged once for each local epoch.
        charge: see :data:`Charge`.
        seeded: draw samples and noise from the federation's seed: repeatable, without guarantee, and
            without an account from one federation to the next.
        views, augmentation: see :class:`PrivateSteps`.

    Raises:
        ConfigError: something else than mechanisms of examples, or a charge that cannot be called.
    """

    unit: ClassVar[Unit | None] = "example"
    mechanisms: tuple[Mechanism, ...]
    charge: Charge | None = None
    seeded: bool = False
    views: int = 1
    augmentation: Augmentation | None = None
    _spending: Spending = field(init=False, repr=False)

    def __post_init__(self) -> None:
        given = tuple(self.mechanisms) if isinstance(self.mechanisms, Iterable) else ()
        if not given or not all(_is_of(one, "example") for one in given):
            raise ConfigError(
                "The mechanisms of ExamplePrivacy are "
                f"{_what(self.mechanisms)}, expected one Mechanism with unit 'example' a client."
            )
        _check_charge(self.charge)
        object.__setattr__(self, "mechanisms", given)
        name = "an example of client {}".format
        spending = Spending(given.__getitem__, self.charge, name)
        object.__setattr__(self, "_spending", spending)

    def check(self, algorithm: Algorithm, sizes: Sequence[int]) -> None:
        """Raise ``ConfigError`` for another number or size of clients, or an unsound algorithm."""
        populations = tuple(mechanism.population for mechanism in self.mechanisms)
        if populations != tuple(sizes):
            raise ConfigError(
                f"The privacy mechanisms are for clients of {populations} examples, but the clients "
                f"have {tuple(sizes)}."
            )
        if algorithm.observes == "start-gradient":
            raise ConfigError(
                f"{algorithm.name} asks each client for its full gradient, which no clipping or noise "
                "protects; for scaffold choose control = 'mean-gradient', which is made from the "
                "private steps."
            )

    def begin(self, local: LocalTraining, rounds: Sequence[Mapping[int, int]], done: int) -> None:
        """Refuse other batches than are charged, more rounds than were planned, or too much of both."""
        for mechanism in self.mechanisms:
            check_fit(mechanism, local, mechanism.population)
            check_periods(mechanism, len(rounds))
        made: list[dict[int, list[Release]]] = [{}, {}]
        for number, epochs in enumerate(rounds, start=1):
            for client, releases in self._charges(number, epochs).items():
                made[number > done].setdefault(client, []).extend(releases)
        self._spending.begin(*made, done=done, forget=self.seeded)

    def afford(self, round: int, epochs: Mapping[int, int]) -> bool:
        """Charge each client of the cohort for its local epochs."""
        charges = self._charges(round, epochs)
        return self._spending.pay(charges, charges, round=round)

    def epsilon(self, delta: float) -> float:
        """Return what the client that has spent most has spent so far, by PLD at ``delta``."""
        return self._spending.epsilon(delta)

    def _charges(self, round: int, epochs: Mapping[int, int]) -> dict[int, list[Release]]:
        return {
            client: self.mechanisms[client].charges(round - 1) * count
            for client, count in epochs.items()
        }

    def steps(self, round: int, client: int) -> PrivateSteps:
        """Return the client's mechanism in this round."""
        return PrivateSteps(
            self.mechanisms[client], round - 1, self.seeded, self.views, self.augmentation
        )


@dataclass(frozen=True, eq=False)
class ClientPrivacy(Privacy):
    """Updates of a sample of clients, clipped and added up with noise: DP-FedAvg.

    McMahan, Ramage, Talwar and Zhang 2018, "Learning differentially private recurrent language
    models", with uniform weights and the fixed denominator q N; the algorithm then sees one update,
    the noisy mean. It hides whether any one client took part, with all that it holds.

    It keeps account as :class:`ExamplePrivacy` does, of all clients together; with local noise, where
    it is seen who sends, of each.

    Attributes:
        mechanism: a period is a round; its population is all clients.
        adaptive: lets the clip norm follow a quantile, from the mechanism's as the first.
        charge: see :data:`Charge`.
        seed: root seed of samples and noise, repeatable and so without guarantee, and without an
            account from one federation to the next; None draws them from the operating system.

    Raises:
        ConfigError: something else than a mechanism of clients, or one of these of another kind.
    """

    unit: ClassVar[Unit | None] = "client"
    hides_figures: ClassVar[bool] = True
    mechanism: Mechanism
    adaptive: AdaptiveClip | None = None
    charge: Charge | None = None
    seed: int | None = None
    _spending: Spending = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not _is_of(self.mechanism, "client"):
            raise ConfigError(
                f"The mechanism of ClientPrivacy is {_what(self.mechanism)}, expected one Mechanism "
                "with unit 'client'."
            )
        if not isinstance(self.adaptive, AdaptiveClip | None):
            raise ConfigError(
                f"adaptive is {_what(self.adaptive)}, expected an AdaptiveClip, or None for a clip "
                "norm that stays."
            )
        if not (self.seed is None or type(self.seed) is int):
            raise ConfigError(f"seed is {self.seed!r}, expected a whole number or None.")
        _check_charge(self.charge)
        spending = Spending(lambda _: self.mechanism, self.charge, self._name)
        object.__setattr__(self, "_spending", spending)

    @property
    def hides_cohort(self) -> bool:  # type: ignore[override]
        """Sampling amplifies only while it is secret; noise of one's own needs no secret."""
        return not self._local

    @property
    def expected(self) -> int:  # type: ignore[override]
        """Return the mechanism's."""
        return self.mechanism.expected

    def check(self, algorithm: Algorithm, sizes: Sequence[int]) -> None:
        """Raise ``ConfigError`` for another number of clients, or an unsound algorithm."""
        mechanism = self.mechanism
        if mechanism.population != len(sizes):
            raise ConfigError(
                f"The privacy mechanism is for {mechanism.population:,} clients, but there are "
                f"{len(sizes):,}."
            )
        if mechanism.placement == "distributed":
            raise ConfigError(
                "privacy.placement is 'distributed': shares of noise protect only inside secure "
                "aggregation, which this federation does not have; choose 'server' or 'local'."
            )
        if algorithm.uses_each_update:
            raise ConfigError(
                f"{algorithm.name} uses each client's own update or message, of which client-level "
                "privacy shows it only the noisy mean; choose fedavg, fedprox, fedavgm, fedadagrad, "
                "fedadam or fedyogi."
            )
        rule = getattr(algorithm, "aggregation", None)
        if not isinstance(rule, Mean):
            raise ConfigError(
                f"federation.aggregation is {type(rule).__name__}, but under client-level privacy only "
                "the mean has a sensitivity that is known: choose 'mean'."
            )
        if self.adaptive is not None:
            if mechanism.placement == "local":
                raise ConfigError(
                    "privacy.clip_quantile is set, but with local noise nobody may count how many "
                    "updates were clipped; leave it out."
                )
            for period in range(mechanism.periods):
                self.adaptive.sum_multiplier(mechanism.multiplier(period))

    def first_clip_norm(self) -> float | None:
        """Return the mechanism's clip norm."""
        return self.mechanism.clip_norm

    def sample(self, round: int) -> list[int] | None:
        """Return a Poisson sample of the clients; None where the cohort has a fixed size."""
        if self.mechanism.sampling != "poisson":
            return None
        source = self._source(round, 0)
        chosen = source.poisson_sample(self.mechanism.population, self.mechanism.rate)
        return [int(client) for client in chosen]

    def begin(self, local: LocalTraining, rounds: Sequence[Mapping[int, int]], done: int) -> None:
        """Refuse more rounds than were planned, or than may be paid for."""
        check_periods(self.mechanism, len(rounds))
        made: list[dict[int, list[Release]]] = [{}, {}]
        for number, epochs in enumerate(rounds, start=1):
            for key in self._accounts(epochs):
                charges = self.mechanism.charges(number - 1)
                made[number > done].setdefault(key, []).extend(charges)
        self._spending.begin(*made, done=done, forget=self.seed is not None)

    def afford(self, round: int, epochs: Mapping[int, int]) -> bool:
        """Charge every client, in the sample or not; with local noise those that send."""
        at_risk = epochs if self._local else range(self.mechanism.population)
        charges = self.mechanism.charges(round - 1)
        own = dict.fromkeys(self._accounts(epochs), charges)
        return self._spending.pay(own, dict.fromkeys(at_risk, charges), round=round)

    def epsilon(self, delta: float) -> float:
        """Return what the client that has spent most has spent so far, by PLD at ``delta``."""
        return self._spending.epsilon(delta)

    @property
    def _local(self) -> bool:
        return self.mechanism.placement == "local"

    def _accounts(self, epochs: Mapping[int, int]) -> list[int]:
        """Return which accounts a round is charged to: one for all, unless noise is local."""
        return list(epochs) if self._local else [0]

    def _name(self, account: int) -> str:
        return f"client {account}" if self._local else "every client"

    def combine(
        self, round: int, start: Tensor, updates: Sequence[Update], clip_norm: float | None
    ) -> tuple[Sequence[Update], float | None]:
        """Return the noisy mean as one update; see the class."""
        mechanism, clip = self.mechanism, clip_norm or self.mechanism.clip_norm
        multiplier = mechanism.multiplier(round - 1)
        if self.adaptive is not None:
            multiplier = self.adaptive.sum_multiplier(multiplier)
        std = multiplier * clip
        old = start.to(torch.float64)
        total = torch.zeros_like(old)
        short = 0.0
        for update in updates:
            difference = update.weights.to(torch.float64) - old
            length = float(difference.norm())
            if not math.isfinite(length):  # a NaN would pass the comparison unclipped
                length = float(difference.zero_().norm())
            if length > clip:
                difference.mul_(clip / length)
            short += 0.5 if length <= clip else -0.5
            if mechanism.placement == "local":
                difference = release(difference, std, self._source(round, 2 + update.client))
            total.add_(difference)
        noise = self._source(round, 1)
        if mechanism.placement == "server":
            total = release(total, std, noise)
        new = old + total / mechanism.expected
        if self.adaptive is not None:
            counted = torch.tensor([short], dtype=torch.float64)
            count = release(counted, self.adaptive.count_noise, noise)
            clip = self.adaptive.next_clip(clip, float(count), mechanism.expected)
        return [Update(client=0, examples=1, steps=1, weights=new, planned=1)], clip

    def _source(self, round: int, use: int) -> RandomSource:
        """Return a source for the sample (0), the server's noise (1) or a client's own (from 2)."""
        if self.seed is None:
            return SecureSource()
        return SeededSource(self.seed, int(Purpose.PRIVACY), round, use)


def _is_of(mechanism: object, unit: Unit) -> bool:
    return isinstance(mechanism, Mechanism) and mechanism.unit == unit


def _what(value: object) -> str:
    """Return what was given in few words, the whole of a short value."""
    if isinstance(value, Mechanism):
        return f"one Mechanism with unit '{value.unit}'"
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"


def _check_charge(charge: object) -> None:
    if not (charge is None or callable(charge)):
        raise ConfigError(
            f"charge is {_what(charge)}, expected a function of what each client is about to release, "
            "or None."
        )


def check_network(flat: FlatParameters) -> None:
    """Refuse a network that learns something of its examples beside its parameters.

    Raises:
        ModelError: it has buffers that travel, such as BatchNorm's running statistics.
    """
    if flat.buffers:
        raise ModelError(
            "The network keeps statistics of the examples in its buffers (as BatchNorm does), which no "
            "clipping or noise protects; under privacy use GroupNorm or no normalisation."
        )


def check_privacy(
    privacy: Privacy,
    algorithm: Algorithm,
    sizes: Sequence[int],
    screening: Screening,
    minimum_cohort: int,
) -> None:
    """Refuse rules of a federation that privacy's accounting does not cover.

    Raises:
        ConfigError: see :meth:`Privacy.check`; or a rule that depends on who was sampled, or on how
            long the updates are, under client-level privacy; or no privacy at all.
    """
    if not isinstance(privacy, Privacy):
        raise ConfigError(
            f"privacy is {_what(privacy)}, expected an ExamplePrivacy, a ClientPrivacy, or None for no "
            "privacy."
        )
    privacy.check(algorithm, sizes)
    if not isinstance(privacy, ClientPrivacy):
        return
    if minimum_cohort:
        raise ConfigError(
            "federation.minimum_cohort is set, but repeating small rounds would change who is sampled "
            "with which probability; under client-level privacy leave it 0."
        )
    if screening.far_off != "keep":
        raise ConfigError(
            f"federation.far_off is '{screening.far_off}', which compares private updates with each "
            "other; under client-level privacy every update is clipped: leave it 'keep'."
        )
