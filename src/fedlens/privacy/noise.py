"""Releasing a vector with Gaussian noise, without what floating-point arithmetic gives away.

A float plus float noise reaches only certain floats, and which ones depends on the secret: the
low-order bits tell inputs apart that the noise should hide (Mironov 2012; Holohan and Braghin 2021;
Haney et al. 2022). Here the vector is rounded to a grid, the noise is drawn on the same grid, and the
two are added as integers: what can come out is the whole grid, whatever went in.

What holds. Let sigma be the noise, g the grid's spacing, at most 2^-30 sigma, and d the dimension.

1. Rounding moves two neighbouring vectors apart by at most g sqrt(d) more: the sensitivity is C + g
   sqrt(d), see :func:`extra_sensitivity`. For 65,354 parameters that is below 2.4e-7 sigma.
2. The noise is exactly discrete Gaussian. Draw from a continuous Gaussian of variance sigma^2 - 4 g^2,
   then from the discrete Gaussian of width 2 g around the point: by Poisson summation the result is
   the discrete Gaussian of width sigma, each probability to a factor 1 +- 2^-112 (Peikert 2010,
   theorem 3.1). So a release is a post-processing of the continuous Gaussian mechanism with noise
   sigma (1 - 2^-58), and whatever an accountant says of that, subsampling included, holds for it.
3. Turning the integers back into floats rounds what is already private.

What does not. The vector that comes in must have the sensitivity that is claimed: a float32 sum of many
clipped vectors is off by its own rounding, so add up in float64. Time is not hidden: it depends on
the noise's own draws, though not on the vector.
"""

import math
from fractions import Fraction

import torch
from torch import Tensor

from fedlens.errors import ConfigError
from fedlens.privacy.discrete_gaussian import discrete_gaussian
from fedlens.privacy.sources import RandomSource, check_std

GRID_BITS = 30
LEAST_STD, LARGEST_STD = 2.0**-400, 2.0**400
LARGEST_STEPS = 2.0**62


def grid_spacing(std: float) -> float:
    """Return the spacing of the grid for noise of this size: a power of two.

    It is the largest that is at most ``std`` / 2^30, and depends on nothing that is secret.

    Raises:
        ConfigError: ``std`` is not between 2^-400 and 2^400.
    """
    check_std(std)
    if not LEAST_STD <= std <= LARGEST_STD:
        raise ConfigError(
            f"The standard deviation of the noise is {std}, expected one from 2^-400 to 2^400."
        )
    _, exponent = math.frexp(std)
    return math.ldexp(1.0, exponent - 1 - GRID_BITS)


def extra_sensitivity(std: float, dimension: int) -> float:
    """Return by how much rounding to the grid may lengthen the distance of two neighbours (L2).

    Args:
        std: standard deviation of the noise, in the unit of the vector; 0 gives 0.
        dimension: number of coordinates.

    Raises:
        ConfigError: as :func:`grid_spacing`.
    """
    return grid_spacing(std) * math.sqrt(dimension) if std else 0.0


def release(vector: Tensor, std: float, source: RandomSource) -> Tensor:
    """Return the vector with noise N(0, std^2) on each coordinate, rounded to a fixed grid.

    Every value that comes out is a multiple of :func:`grid_spacing`, whatever went in; see the
    module for what that guarantees and what it leaves to the caller.

    Args:
        vector: float32 or float64, any shape, on the CPU; of bounded sensitivity, e.g. a sum of
            clipped vectors. It is not changed.
        std: standard deviation of the noise in the unit of the vector; 0 returns a copy as it is.
        source: where the noise comes from.

    Returns:
        A new tensor of the same shape and dtype.

    Raises:
        ConfigError: a standard deviation that it cannot be, or a vector that is not finite or is
            beyond 2^32 standard deviations, which no vector that was clipped can be.
    """
    check_std(std)
    if std == 0:
        return vector.clone()
    spacing = grid_spacing(std)
    # the spacing is a power of two, so that multiplying is exact
    steps = (vector.detach().double() * (1 / spacing)).round_()
    if steps.numel() and not all(abs(float(end)) < LARGEST_STEPS for end in steps.aminmax()):
        raise ConfigError(
            "The vector to be released has values that are not finite or are beyond 2^32 standard "
            "deviations of the noise; clip it first."
        )
    ratio = Fraction(std) / Fraction(spacing)
    noise = torch.from_numpy(discrete_gaussian(vector.numel(), ratio * ratio, source))
    total = steps.to(torch.int64).add_(noise.view(vector.shape))
    return total.double().mul_(spacing).to(vector.dtype)
