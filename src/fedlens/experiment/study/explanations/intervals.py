"""Means with what chance could have made of them."""

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlens.randomness import Purpose, generator

RESAMPLES = 1000

Floats = npt.NDArray[np.float64]


class Table(IntEnum):
    """What is resampled; each has a stream of its own."""

    MAIN = 1
    RANKS = 2
    ALIKE = 3
    QUALITY = 4
    KNOWN_TRUTH = 5
    SHORTCUT = 6
    PARTS = 7
    REGIONS = 8


def resampling(seed: int, table: Table) -> np.random.Generator:
    """Return a fresh generator that resamples the images of one table (0 is the measures' own)."""
    return generator(seed, Purpose.MEASURES, client=int(table))


def interval(values: Floats, draws: np.random.Generator) -> dict[str, Any]:
    """Return the mean of ``values`` and its 95 % percentile interval over resampled images.

    Values that are not finite are left out and counted: ``missing``. Without any, or with one alone,
    there is no interval (None).
    """
    known = values[np.isfinite(values)]
    missing = len(values) - len(known)
    if len(known) == 0:
        return {"mean": None, "low": None, "high": None, "images": 0, "missing": missing}
    mean = float(known.mean())
    if len(known) == 1:
        return {"mean": mean, "low": None, "high": None, "images": 1, "missing": missing}
    picks = draws.integers(len(known), size=(RESAMPLES, len(known)))
    low, high = np.quantile(known[picks].mean(1), (0.025, 0.975))
    return {
        "mean": mean,
        "low": float(low),
        "high": float(high),
        "images": len(known),
        "missing": missing,
    }


def difference(first: Floats, second: Floats, draws: np.random.Generator) -> dict[str, Any]:
    """Return the mean of ``first`` minus that of ``second``, of different images, as an interval.

    Both are resampled by themselves. Values that are not finite are left out and counted; without
    two in each there is no interval (None).
    """
    one, two = first[np.isfinite(first)], second[np.isfinite(second)]
    missing = len(first) + len(second) - len(one) - len(two)
    found: dict[str, Any] = {"mean": None, "low": None, "high": None}
    if len(one) and len(two):
        found["mean"] = float(one.mean() - two.mean())
    if min(len(one), len(two)) > 1:
        means = [
            some[draws.integers(len(some), size=(RESAMPLES, len(some)))].mean(1)
            for some in (one, two)
        ]
        low, high = np.quantile(means[0] - means[1], (0.025, 0.975))
        found |= {"low": float(low), "high": float(high)}
    return found | {"images": len(one) + len(two), "missing": missing}
