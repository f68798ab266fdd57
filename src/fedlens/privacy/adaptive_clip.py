"""A clip norm that follows a quantile of the updates' lengths, itself found privately."""

import math
from dataclasses import dataclass

from fedlens.errors import ConfigError

LEAST_CLIP, LARGEST_CLIP = 1e-60, 1e60  # far from where a float ends, and noise with it


@dataclass(frozen=True)
class AdaptiveClip:
    """The rule of Andrew, Thakkar, McMahan and Ramaswamy (2021), "Differentially private learning
    with adaptive clipping".

    In each round every client of the sample also sends b = 1 where its update was *not* longer than
    C, else 0. Noise of standard deviation ``count_noise`` is added to the sum of b - 1/2 (to which
    one client adds at most 1/2 either way), and C <- C exp(-rate (share - quantile)): where more
    updates than the quantile are short enough, C shrinks.

    Attributes:
        quantile: share of the updates that shall not be clipped, in [0, 1].
        rate: of the geometric step, above 0.
        count_noise: standard deviation of the noise on the count, above 0; the paper takes a
            twentieth of the expected sample.

    Raises:
        ConfigError: a value that it cannot have.
    """

    quantile: float = 0.5
    rate: float = 0.2
    count_noise: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.quantile <= 1:
            raise ConfigError(
                f"privacy.clip_quantile is {self.quantile}, expected a share from 0 to 1."
            )
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ConfigError(f"privacy.clip_rate is {self.rate}, expected a number above 0.")
        if not (math.isfinite(self.count_noise) and self.count_noise > 0):
            raise ConfigError(
                f"privacy.count_noise is {self.count_noise}, expected a number above 0."
            )

    def sum_multiplier(self, multiplier: float) -> float:
        """Return the noise multiplier of the updates' sum, so that both queries cost ``multiplier``.

        z_sum = (z^-2 - (2 sigma_b)^-2)^(-1/2), theorem 1 of the paper: two Gaussian releases of the
        same sample are one with the inverse squares added up.

        Raises:
            ConfigError: the count alone costs more than ``multiplier`` allows.
        """
        left = multiplier**-2 - (2 * self.count_noise) ** -2 if multiplier else math.inf
        if left <= 0:
            raise ConfigError(
                f"privacy.count_noise is {self.count_noise:g}, too little for a noise multiplier of "
                f"{multiplier:g}: the count alone would cost more; expected more than "
                f"{multiplier / 2:g}."
            )
        return 1 / math.sqrt(left)

    def next_clip(self, clip_norm: float, noisy_count: float, expected: int) -> float:
        """Return the clip norm of the next round.

        Args:
            clip_norm: C of this round, which the counts were taken with.
            noisy_count: the sum of b - 1/2 over the sample, with its noise.
            expected: units expected in a sample: the fixed denominator.
        """
        share = noisy_count / expected + 0.5
        exponent = min(max(-self.rate * (share - self.quantile), -300.0), 300.0)
        return min(max(clip_norm * math.exp(exponent), LEAST_CLIP), LARGEST_CLIP)
