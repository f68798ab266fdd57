"""The mechanism: one frozen description from which sampling, noise and accounting all follow.

Whoever trains asks it whom to sample, how long a vector may be and how much noise to add; whoever
accounts asks it what that released. Neither has numbers of its own, so that they cannot drift apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from fedlens.errors import ConfigError
from fedlens.privacy.accounting import Budget, calibrate
from fedlens.privacy.releases import Release, no_more_than
from fedlens.privacy.schedule import NoiseSchedule

Unit = Literal["example", "client"]
Sampling = Literal["poisson", "fixed"]
Placement = Literal["server", "local", "distributed"]
UNITS = ("example", "client")
SAMPLINGS = ("poisson", "fixed")
PLACEMENTS = ("server", "local", "distributed")
ADD_OR_REMOVE = "add or remove one"
ZERO_OUT = "one replaced by nothing, the number of units being public"
REPLACE = "one replaced by any other"


def relation_of(sampling: Sampling, placement: Placement) -> str:
    """Return, in words, which two inputs cannot be told apart."""
    if placement == "local":
        return REPLACE
    return ADD_OR_REMOVE if sampling == "poisson" else ZERO_OUT


@dataclass(frozen=True)
class Mechanism:
    """Clipped vectors of a sample of units, added up with Gaussian noise, period after period.

    A period is an epoch of ``steps`` releases where the unit is an example, and a round of one
    release where it is a client. Every release divides by the fixed number :attr:`expected`, never
    by the number that was sampled, which is secret.

    Attributes:
        unit: what is hidden: one ``example``, or one ``client`` with all that it holds.
        population: how many units there are, at least 1; it is taken to be public.
        expected: units expected in a sample, at least 1 and at most ``population``.
        clip_norm: the length C that no unit's vector exceeds, above 0.
        noise_multiplier: standard deviation of the first period's noise over C, at least 0.
        periods: epochs or rounds that are planned, at least 1.
        steps: releases in a period, at least 1.
        schedule: how the noise falls over the periods.
        sampling: ``poisson`` draws each unit independently with probability ``expected`` /
            ``population``; ``fixed`` (shuffled batches, a cohort of fixed size) is charged as if
            everybody took part, because nothing is proven to be amplified.
        placement: who adds the noise. ``server``: the one who adds up, who must be trusted.
            ``local``: each client, the full noise, before anything leaves it. ``distributed``: each
            client a share; only inside secure aggregation.
        least: of ``distributed``: clients that at least take part and are honest, which the shares
            are cut for.
        budget: what all releases of a unit together may cost; None where the plan alone says how
            much may be released.

    Raises:
        ConfigError: a value that it cannot have.
    """

    unit: Unit
    population: int
    expected: int
    clip_norm: float
    noise_multiplier: float
    periods: int
    steps: int = 1
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    sampling: Sampling = "poisson"
    placement: Placement = "server"
    least: int | None = None
    budget: Budget | None = None

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ConfigError(
                f"The unit of privacy is '{self.unit}', expected one of {', '.join(UNITS)}."
            )
        if not (math.isfinite(self.clip_norm) and self.clip_norm > 0):
            raise ConfigError(f"privacy.clip_norm is {self.clip_norm}, expected a number above 0.")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise ConfigError(
                f"privacy.noise_multiplier is {self.noise_multiplier}, expected a number from 0."
            )
        if not 1 <= self.expected <= self.population:
            raise ConfigError(
                f"A sample of {self.expected} {self.unit}s a step was asked for where there "
                f"{'is' if self.population == 1 else 'are'} {self.population}; expected at least 1 "
                "and at most all of them."
            )
        if self.periods < 1 or self.steps < 1:
            raise ConfigError(
                f"A training of {self.periods} periods of {self.steps} steps was asked for; privacy "
                "needs at least one step."
            )
        if self.sampling not in SAMPLINGS:
            raise ConfigError(
                f"privacy.sampling is '{self.sampling}', expected one of {', '.join(SAMPLINGS)}."
            )
        if self.placement not in PLACEMENTS:
            raise ConfigError(
                f"privacy.placement is '{self.placement}', expected one of {', '.join(PLACEMENTS)}."
            )
        if self.unit == "example" and self.placement != "server":
            raise ConfigError(
                f"privacy.placement is '{self.placement}', but that is for client-level privacy; with "
                "example-level privacy each client adds its own noise to every step."
            )
        if self.placement == "distributed" and not (
            self.least is not None and 1 <= self.least <= self.expected
        ):
            raise ConfigError(
                "Distributed noise needs the number of honest clients that will at least be left in a "
                f"round, from 1 to the {self.expected} that are expected; it is {self.least}."
            )

        if not isinstance(self.budget, Budget | None):
            raise ConfigError(f"budget is {self.budget!r}, expected a Budget or None.")

    @property
    def rate(self) -> float:
        """Return the probability with which a unit is in a sample."""
        return self.expected / self.population

    @property
    def relation(self) -> str:
        """Return, in words, which two inputs cannot be told apart."""
        return relation_of(self.sampling, self.placement)

    def multiplier(self, period: int) -> float:
        """Return the noise multiplier of period number ``period``, from 0."""
        return self.noise_multiplier * self.schedule.factor(period, self.periods)

    def noise_std(self, period: int) -> float:
        """Return the standard deviation of the noise that each adder adds to its vector.

        It is that of the sum where the server adds it, of each client's own vector where that is
        ``local``, and of each client's share where it is ``distributed``: ``least`` shares make up
        the whole.
        """
        std = self.multiplier(period) * self.clip_norm
        if self.placement == "distributed":
            assert self.least is not None
            return std / math.sqrt(self.least)
        return std

    def charges(self, period: int) -> list[Release]:
        """Return what a whole period releases about a unit that is at risk in it."""
        multiplier = self.multiplier(period)
        if self.placement == "local":
            # seen alone: two vectors of length C are up to 2 C apart, and who sends is known
            return [Release(multiplier / 2)]
        if self.sampling == "poisson":
            return [Release(multiplier, self.rate, self.steps)]
        # an epoch's shuffled batches are disjoint, and a unit is in one of them
        return [Release(multiplier)]

    def plan(self, taken: int | None = None) -> list[Release]:
        """Return all releases of the first ``taken`` periods; of all that are planned if not given."""
        last = self.periods if taken is None else taken
        return [release for period in range(last) for release in self.charges(period)]

    def affords(self, releases: Sequence[Release]) -> bool:
        """Tell whether a unit may have all these releases: the budget, or else the plan, allows it."""
        if self.budget is not None:
            return self.budget.covers(releases)
        return no_more_than(releases, self.plan())

    def calibrated(self, epsilon: float, delta: float, *, epochs: int = 1) -> "Mechanism":
        """Return the same with the least noise that meets a budget, which it then carries.

        Whoever trains with it is refused what would cost more.

        Args:
            epsilon: what the whole plan may cost, above 0.
            delta: in (0, 1).
            epochs: passes over the examples in a period, where a period is a round of several.

        Raises:
            ConfigError: a budget that cannot be, or that no noise meets.
        """
        if type(epochs) is not int or epochs < 1:
            raise ConfigError(f"epochs is {epochs!r}, expected a whole number from 1.")
        noise = calibrate(lambda scale: self.with_noise(scale).plan() * epochs, epsilon, delta)
        return replace(self, noise_multiplier=noise, budget=Budget(epsilon, delta))

    def with_noise(self, multiplier: float) -> "Mechanism":
        """Return the same with another noise multiplier."""
        return replace(self, noise_multiplier=multiplier)
