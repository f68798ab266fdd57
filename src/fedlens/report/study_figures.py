"""The curves of a study: one line an algorithm, told apart by colour, dashes and marker."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fedlens.report.curves import HEIGHT, finish
from fedlens.report.history import Floats
from fedlens.report.style import (
    BLUE,
    GREEN,
    HALF,
    INK,
    ORANGE,
    PAPER,
    PURPLE,
    SKY,
    VERMILION,
    drawing,
    new_figure,
    shown,
)
from fedlens.report.wording import count, decimal

_LONG_LABEL = 15  # characters of a name beyond which the legend has one column
_LONGEST_LABEL = 48  # characters of a name that such a column holds
# Cycles of different length: no two of the first 35 lines share colour and dashes.
_COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, INK, SKY)
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.2)),
    (0, (6, 2, 1, 2)),
    (0, (9, 2, 2, 2, 2, 2)),
)
_MARKERS = "os^Dv*Pp<X>"
_MARKED = 8  # markers on a line
_CLIMB = 5  # the first fifth of the rounds is the climb
_LEAST_HEIGHT = 0.03  # less would show noise


@dataclass(frozen=True, eq=False)
class StudyCurve:
    """The accuracy of one algorithm after each round.

    Attributes:
        label: name of the algorithm.
        values: (S, R) a row a seed, in [0, 1], NaN where not measured.
        place: of the algorithm among those of the page, which its look depends on.
    """

    label: str
    values: Floats
    place: int

    def mean(self) -> Floats:
        """Return (R,) the mean over the seeds that were measured, NaN where none was."""
        known = ~np.isnan(self.values).all(0)
        mean = np.full(self.values.shape[1], np.nan)
        mean[known] = np.nanmean(self.values[:, known], axis=0)
        return mean


def foot(curves: Sequence[StudyCurve]) -> float | None:
    """Return the accuracy from which curves are drawn, a whole percent, or None where all of it is.

    The climb of the first rounds takes most of the height and leaves little to what is compared, the
    rounds after it. What lies below all of those is cut off where that at least doubles their height.
    """
    means = [curve.mean() for curve in curves]
    climb = max(len(mean) for mean in means) // _CLIMB
    if climb < 2 or any(np.isnan(mean[climb:]).all() for mean in means):
        return None
    low = min(float(np.nanmin(mean[climb:])) for mean in means)
    high = max(float(np.nanmax(mean)) for mean in means)
    least = min(float(np.nanmin(mean)) for mean in means)
    low = min(low - 0.06 * (high - low), high - _LEAST_HEIGHT)
    return math.floor(100 * low) / 100 if low - least > high - low else None


def series_style(place: int) -> dict[str, Any]:
    """Return the look of a line: colour, dashes and marker, by its place among all."""
    color = _COLORS[place % len(_COLORS)]
    return {
        "color": color,
        "ls": _DASHES[place % len(_DASHES)],
        "lw": 1.8,
        "marker": _MARKERS[place % len(_MARKERS)],
        "ms": 6.0,
        "mfc": PAPER if place % 2 == 1 else color,
        "mew": 1.3,
    }


@drawing()
def study_figure(curves: Sequence[StudyCurve], *, axis: str) -> Figure:
    """Return a line an algorithm (mean of its seeds), with its last value in the legend.

    Where lines have different numbers of seeds the legend says how many. What lies below
    :func:`foot` is not drawn.
    """
    differ = len({len(curve.values) for curve in curves}) > 1
    long = max(len(shown(curve.label)) for curve in curves) > _LONG_LABEL
    columns = 1 if differ or long else 2
    figure = new_figure(HALF, HEIGHT + 22 * -(-len(curves) // columns))
    axes = figure.add_subplot()
    longest = max(curve.values.shape[1] for curve in curves)
    ends = []
    for curve in curves:
        mean = curve.mean()
        known = ~np.isnan(mean)
        steps = np.arange(1, len(mean) + 1)[known]
        last = float(mean[known][-1]) if known.any() else float("nan")
        ends.append(last)
        over = f", {count(len(curve.values), 'seed')}" if differ else ""
        every = max(1, len(steps) // _MARKED)
        axes.plot(
            steps,
            mean[known],
            markevery=(curve.place % every, every),
            **series_style(curve.place),
            label=f"{shown(curve.label, _LONGEST_LABEL)}  {decimal(100 * last, 1)}{over}",
        )
    low = foot(curves)
    if low is not None:
        high = axes.dataLim.ymax
        axes.set_ylim(low, high + 0.06 * (high - low))
    finish(axes, range(1, longest + 1), axis=axis, unit="Round", percent=True, zero=False)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(curves)), key=lambda n: -np.nan_to_num(ends[n], nan=-1.0))
    figure.legend(
        [handles[n] for n in order],
        [labels[n] for n in order],
        loc="outside lower left",
        ncols=columns,
        handlelength=4.2,
    )
    return figure
