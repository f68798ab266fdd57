"""Vectors as integers modulo 2^32, with integer noise: what secure aggregation can add up.

Kairouz, Liu and Steinke, "The distributed discrete Gaussian mechanism for federated learning with
secure aggregation" (ICML 2021), without its random rotation. Each client clips, scales and rounds its
vector, adds a share of discrete Gaussian noise and sends the result modulo 2^32; only the sum is seen.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedlens.errors import ConfigError
from fedlens.privacy.discrete_gaussian import discrete_gaussian
from fedlens.privacy.sources import RandomSource

MODULUS = 2**32
BETA = math.exp(-0.5)  # a rounding is tried again with at most this probability
ATTEMPTS = 100
TAIL = 12  # standard deviations of a client's noise that its integers have room for


def rounded_norm_bound(norm: float, dimension: int, beta: float = BETA) -> float:
    """Return the L2 bound that conditional rounding holds a vector to, in integer steps.

    Kairouz et al. 2021, equations 18 and 19, for steps of 1: the lesser of norm + sqrt(d) and
    sqrt(norm^2 + d/4 + sqrt(2 ln 1/beta) (norm + sqrt(d)/2)).

    Args:
        norm: bound on the L2 norm before rounding, in steps, at least 0.
        dimension: number d of coordinates.
        beta: in (0, 1]; rounding at random exceeds the second bound with at most this probability.
    """
    root = math.sqrt(dimension)
    second = norm**2 + dimension / 4 + math.sqrt(2 * math.log(1 / beta)) * (norm + root / 2)
    return min(norm + root, math.sqrt(second))


def quantise(
    vector: ArrayLike, scale: float, clip_norm: float, source: RandomSource
) -> NDArray[np.int64]:
    """Return the vector, clipped and scaled, as integers whose L2 norm is bounded for certain.

    Each coordinate is rounded up or down at random, so that its expectation is kept to 2^-53, again
    and again until the norm of the integers is within :func:`rounded_norm_bound` of ``scale *
    clip_norm``. The bound is tested on the integers, so that it holds however floats were rounded;
    it is the sensitivity to adding or removing one vector. Should 100 attempts fail (probability
    below 1e-21), all is rounded towards 0, which never lengthens. Trying again biases the whole
    vector by less than one step in L2: at most sqrt(beta) / (2 - 2 beta), by Cauchy and Schwarz.

    Args:
        vector: finite numbers, (d,).
        scale: integer steps per unit, above 0.
        clip_norm: L2 norm that the vector is scaled down to where it is longer, above 0.
        source: where the rounding's randomness comes from.

    Returns:
        int64 (d,).

    Raises:
        ConfigError: a value that it cannot have, or ``scale * clip_norm`` above 2^30.
    """
    _check_scale(scale, clip_norm)
    values = np.asarray(vector, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ConfigError("The vector to be quantised must be flat and all its values finite.")
    norm = float(np.linalg.norm(values))
    values = values * (scale * min(1.0, clip_norm / norm) if norm else scale)
    floors = np.floor(values)
    fractions = values - floors
    whole = floors.astype(np.int64)
    limit = math.floor(rounded_norm_bound(scale * clip_norm, len(values)) ** 2)
    for _ in range(ATTEMPTS):
        uniform = (source.uniform64(len(values)) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        rounded = whole + (uniform < fractions)
        if int(rounded @ rounded) <= limit:
            return rounded
    return np.trunc(values).astype(np.int64)


def dequantise(integers: NDArray[np.int64], scale: float) -> NDArray[np.float64]:
    """Return integers, or a sum of them, in the unit of the vectors: float64 (d,)."""
    return integers.astype(np.float64) / scale


def wrap(integers: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return integers modulo 2^32: uint32, same shape."""
    return np.mod(integers, MODULUS).astype(np.uint32)


def unwrap(total: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return the integer in [-2^31, 2^31) that each number modulo 2^32 stands for: int64."""
    return total.astype(np.uint32).view(np.int32).astype(np.int64)


def sum_divergence(sigma2: Fraction, clients: int) -> float:
    """Return tau: how far a sum of discrete Gaussians is from one, per coordinate.

    Kairouz et al. 2021, theorem 1: tau = 10 sum_{k=1}^{n-1} exp(-2 pi^2 sigma^2 k/(k+1)). With n
    honest clients, sensitivity D and dimension d, order alpha of Renyi privacy then costs at most
    alpha D^2 / (2 n sigma^2) + tau d (proposition 14, for sigma at least 1/2).

    Args:
        sigma2: sigma^2 of each client's noise, in integer steps.
        clients: number n that add up.
    """
    ratios = np.arange(1, clients) / np.arange(2, clients + 1)
    return float(10 * np.exp(-2 * math.pi**2 * float(sigma2) * ratios).sum())


@dataclass(frozen=True)
class IntegerCode:
    """How the vectors of a cohort become integers modulo 2^32 and their sum a vector again.

    Attributes:
        dimension: coordinates d of a vector, at least 1.
        clip_norm: L2 norm that no vector exceeds, above 0.
        scale: integer steps per unit, above 0. Rounding adds about sqrt(d)/2 steps to a vector's
            sensitivity, so ``scale * clip_norm`` should be far above that.
        clients: most that are ever added up, at least 1.
        sigma2: sigma^2 of each client's share of the noise, in integer steps; 0 adds none.

    Raises:
        ConfigError: a value that it cannot have, or a sum that might not fit below 2^32.
    """

    dimension: int
    clip_norm: float
    scale: float
    clients: int
    sigma2: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        _check_scale(self.scale, self.clip_norm)
        if self.dimension < 1 or self.clients < 1:
            raise ConfigError(
                f"Integers for {self.clients} clients of {self.dimension} parameters were asked for; "
                "both must be at least 1."
            )
        if self.sigma2 < 0:
            raise ConfigError(f"sigma^2 of the noise is {self.sigma2}, expected a number from 0.")
        if self.clients * 2**self.bits >= MODULUS:
            raise ConfigError(
                f"The sum of {self.clients} clients of {self.bits} bits does not fit below 2^32: "
                f"lower the scale of {self.scale:g} or the noise."
            )

    @property
    def sensitivity(self) -> float:
        """Return the L2 bound on one client's integers before noise, in steps."""
        return rounded_norm_bound(self.scale * self.clip_norm, self.dimension)

    @property
    def bits(self) -> int:
        """Return the bits, sign included, of a client's noisy integer.

        A value outside them, 12 standard deviations off, has probability below 1e-31.
        """
        largest = math.ceil(self.sensitivity) + math.ceil(TAIL * math.sqrt(self.sigma2))
        return largest.bit_length() + 1

    def encode(self, vector: ArrayLike, source: RandomSource) -> NDArray[np.uint32]:
        """Return what one client adds to the sum, its share of the noise included: uint32 (d,).

        Raises:
            ConfigError: a vector of another length, or one that is not finite.
        """
        integers = quantise(vector, self.scale, self.clip_norm, source)
        if len(integers) != self.dimension:
            raise ConfigError(
                f"A vector of {len(integers)} numbers was to be encoded, expected {self.dimension}."
            )
        return wrap(integers + discrete_gaussian(self.dimension, self.sigma2, source))

    def decode(self, total: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Return the sum of the clients' vectors from their sum modulo 2^32: float64 (d,)."""
        return dequantise(unwrap(total), self.scale)


def _check_scale(scale: float, clip_norm: float) -> None:
    if not (0 < scale < math.inf and 0 < clip_norm < math.inf and scale * clip_norm <= 2**30):
        raise ConfigError(
            f"Vectors of norm {clip_norm} at {scale} steps a unit cannot be quantised; both must be "
            "above 0 and their product at most 2^30."
        )
