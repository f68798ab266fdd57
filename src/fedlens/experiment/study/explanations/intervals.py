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
