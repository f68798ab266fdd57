"""What was released, in plain numbers: noisy sums, how often, of whom."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fedlens.errors import ConfigError

MOST_NOISE, MOST_STEPS = 1e6, 10**9


@dataclass(frozen=True)
class Release:
    """One kind of release, made ``count`` times: a sum of clipped vectors with Gaussian noise.

    Attributes:
        noise_multiplier: standard deviation of the noise over the clip norm; 0 for no noise.
        rate: probability with which each unit is in the sum, independently (Poisson sampling). 1
            where every unit is in it, or where it is not known or not random who is: then nothing
            is amplified.
        count: how many times.

    Raises:
        ConfigError: a number that it cannot be.
    """

    noise_multiplier: float
    rate: float = 1.0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.noise_multiplier <= MOST_NOISE:
            raise ConfigError(
                f"The noise multiplier is {self.noise_multiplier}, expected a number from 0 to "
                f"{MOST_NOISE:g}."
            )
        if not 0 < self.rate <= 1:
            raise ConfigError(f"The sampling rate is {self.rate}, expected above 0 and at most 1.")
        if type(self.count) is not int or not 0 <= self.count <= MOST_STEPS:
            raise ConfigError(
                f"The number of steps is {self.count}, expected a whole number from 0 to "
                f"{MOST_STEPS:,}."
            )

    def event(self) -> Any:
        """Return what dp-accounting calls it: a ``DpEvent``."""
        import dp_accounting  # a second of imports that only private runs need

        event: Any = dp_accounting.GaussianDpEvent(self.noise_multiplier)
        if self.rate < 1:
            event = dp_accounting.PoissonSampledDpEvent(self.rate, event)
        return dp_accounting.SelfComposedDpEvent(event, self.count)


def merged(releases: Iterable[Release]) -> tuple[Release, ...]:
    """Return the releases with those of one kind added up, in the order of noise and rate."""
    counts: dict[tuple[float, float], int] = {}
    for release in releases:
        kind = (release.noise_multiplier, release.rate)
        counts[kind] = counts.get(kind, 0) + release.count
    return tuple(Release(*kind, count) for kind, count in sorted(counts.items()) if count)


def no_more_than(releases: Iterable[Release], others: Iterable[Release]) -> bool:
    """Tell whether of no kind there are more in ``releases`` than in ``others``.

    Then they cost no more, whatever epsilon of either is.
    """
    most = {(one.noise_multiplier, one.rate): one.count for one in merged(others)}
    return all(
        one.count <= most.get((one.noise_multiplier, one.rate), 0) for one in merged(releases)
    )
