"""How the noise falls over a training: fixed in advance, so that it can be accounted for."""

import math
from dataclasses import dataclass
from typing import Literal

from fedlens.errors import ConfigError

Shape = Literal["constant", "linear", "exponential", "cosine", "step"]
SHAPES = ("constant", "linear", "exponential", "cosine", "step")


@dataclass(frozen=True)
class NoiseSchedule:
    """Factors of the noise multiplier, one a period (an epoch or a round), from 1 down to ``end``.

    A schedule that depended on the data would have to be paid for; this one is a function of the
    period's number alone.

    Attributes:
        shape: ``constant``; or falling as ``linear``, ``exponential``, ``cosine``, or in ``step``s of
            equal length and ratio.
        end: factor of the last period, above 0 and at most 1.
        stairs: steps of the shape ``step``, at least 2.

    Raises:
        ConfigError: a value that it cannot have.
    """

    shape: Shape = "constant"
    end: float = 0.5
    stairs: int = 4

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ConfigError(
                f"privacy.schedule is '{self.shape}', expected one of {', '.join(SHAPES)}."
            )
        if not 0 < self.end <= 1:
            raise ConfigError(
                f"privacy.schedule_end is {self.end}, expected above 0 and at most 1."
            )
        if self.stairs < 2:
            raise ConfigError(
                f"A schedule in {self.stairs} steps was asked for, expected 2 or more."
            )

    def factor(self, period: int, periods: int) -> float:
        """Return the factor of period number ``period``, from 0, of ``periods``.

        Raises:
            ConfigError: there is no such period.
        """
        if not 0 <= period < periods:
            raise ConfigError(f"Period {period} of a schedule of {periods} was asked for.")
        way = period / (periods - 1) if periods > 1 else 0.0
        if self.shape == "linear":
            return 1 - (1 - self.end) * way
        if self.shape == "exponential":
            return float(self.end**way)
        if self.shape == "cosine":
            return self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * way))
        if self.shape == "step":
            return float(self.end ** ((period * self.stairs // periods) / (self.stairs - 1)))
        return 1.0
