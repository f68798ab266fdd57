"""Lines over rounds or epochs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedlens.report.history import Floats, Point, latest, mean_of
from fedlens.report.style import (
    BLUE,
    GREEN,
    HALF,
    INK,
    MUTED,
    PAPER,
    RULE,
    VERMILION,
    drawing,
    label_above,
    new_figure,
    shown,
)

HEIGHT = 270
MOST_MARKERS = 24  # with more points than this a line carries no markers


@dataclass(frozen=True, eq=False)
class Curve:
    """One figure over time, over one or more seeds.

    Attributes:
        label: what to call it in the legend.
        values: (S, T) one row a seed, NaN where it was not measured.
        dashed: drawn dashed and with squares; otherwise solid and with dots.
    """

    label: str
    values: Floats
    dashed: bool = False


@drawing()
def curves_figure(
    steps: Sequence[int],
    curves: Sequence[Curve],
    *,
    axis: str,
    unit: str,
    mark: Point | None = None,
    lowest: bool = False,
    percent: bool = False,
    zero: bool = False,
) -> Figure:
    """Return lines over ``steps``: the mean of the seeds thick, each seed thin behind it.

    Args:
        steps: T round or epoch numbers.
        curves: what to draw; two at most are told apart by dash, marker and colour.
        axis: name of the vertical axis, with its unit.
        unit: name of the horizontal axis, ``Round`` or ``Epoch``.
        mark: the best point, ringed and named.
        lowest: the best point is the lowest and not the highest.
        percent: values are shares, shown in percent.
        zero: the vertical axis starts at zero.
    """
    figure = new_figure(HALF, HEIGHT)
    axes = figure.add_subplot()
    for curve in curves:
        _draw(axes, steps, curve)
    if mark is not None and len(steps) > 1:
        _ring(axes, steps, mark, f"best: {unit.lower()} {mark.step}", top=lowest)
    finish(axes, steps, axis=axis, unit=unit, percent=percent, zero=zero)
    if len(curves) > 1:
        figure.legend(loc="outside upper right", ncols=len(curves), handlelength=2.6)
    return figure


@drawing()
def clients_figure(
    steps: Sequence[int],
    values: Floats,
    names: Sequence[str],
    *,
    axis: str,
    unit: str,
    percent: bool = False,
) -> Figure:
    """Return one thin line a client, (K, T), with the lowest, the highest and the mean named.

    Lowest and highest are the clients whose last figure is lowest and highest.
    """
    figure = new_figure(HALF, HEIGHT)
    axes = figure.add_subplot()
    for row in values:
        known = ~np.isnan(row)
        axes.plot(np.array(steps)[known], row[known], color=MUTED, lw=0.8, alpha=0.4)
    ends = latest(values)
    if not np.isnan(ends).all():
        low, high = int(np.nanargmin(ends)), int(np.nanargmax(ends))
        named = [(high, "highest", GREEN, "^", ":")] if high != low else []
        named.append((low, "lowest", VERMILION, "v", "--"))
        for row, word, color, marker, dash in named:
            _named_line(
                axes, steps, values[row], f"{word}: {shown(names[row])}", color, marker, dash
            )
        _named_line(axes, steps, mean_of(values), "mean of the clients", BLUE, "o", "-")
    finish(axes, steps, axis=axis, unit=unit, percent=percent, zero=False)
    longest = max((len(name) for name in names), default=0)
    figure.legend(loc="outside lower left", ncols=2 if longest <= 12 else 1, handlelength=2.6)
    return figure


def finish(
    axes: Axes, steps: Sequence[int], *, axis: str, unit: str, percent: bool, zero: bool
) -> None:
    """Give ``axes`` its grid, whole-numbered steps, units and names."""
    axes.grid(axis="y", color=RULE, lw=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    scale = 100 if percent else 1
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{scale * value:g}".replace("-", "−"))
    )
    if len(steps) == 1:
        axes.set_xlim(steps[0] - 1, steps[0] + 1)
        axes.set_xticks(steps)
    if zero:
        low, high = min(0.0, axes.dataLim.ymin), max(0.0, axes.dataLim.ymax)
        room = 0.06 * (high - low)
        axes.set_ylim(low - room if low < 0 else 0.0, high + room if high > low else 1.0)
    axes.set_xlabel(unit, color=MUTED)
    label_above(axes, axis)


def _ring(axes: Axes, steps: Sequence[int], mark: Point, words: str, *, top: bool) -> None:
    """Ring a point and name it at the foot (or the top) of a dotted line, clear of the curves."""
    axes.axvline(mark.step, color=MUTED, lw=1.0, ls=":", zorder=0)
    axes.plot([mark.step], [mark.value], "o", ms=11, mfc="none", mec=INK, mew=1.2, zorder=5)
    late = mark.step > (steps[0] + steps[-1]) / 2
    axes.annotate(
        words,
        (mark.step, 1.0 if top else 0.0),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if late else 6, -14 if top else 8),
        textcoords="offset points",
        ha="right" if late else "left",
        color=INK,
        fontsize=11,
    )


def _draw(axes: Axes, steps: Sequence[int], curve: Curve) -> None:
    color = VERMILION if curve.dashed else BLUE
    marker, dash = ("s", "--") if curve.dashed else ("o", "-")
    if len(curve.values) > 1:
        for row in curve.values:
            known = ~np.isnan(row)
            axes.plot(np.array(steps)[known], row[known], color=color, lw=0.8, alpha=0.55)
    _named_line(axes, steps, mean_of(curve.values), curve.label, color, marker, dash)


def _named_line(
    axes: Axes,
    steps: Sequence[int],
    values: Floats,
    label: str,
    color: str,
    marker: str,
    dash: str,
) -> None:
    known = ~np.isnan(values)
    few = int(known.sum()) <= MOST_MARKERS
    axes.plot(
        np.array(steps)[known],
        values[known],
        color=color,
        ls=dash,
        lw=2.0,
        marker=marker if few else "",
        ms=5.0,
        mfc=PAPER if dash == "--" else color,
        mew=1.4,
        label=label,
    )
