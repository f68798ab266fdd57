"""Charts of the study of explanations: dots with intervals, bars, clients' spread, and curves."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedlens.report.explanation_naming import method_name
from fedlens.report.explanation_reading import CONTROLS, Estimate
from fedlens.report.study_figures import series_style
from fedlens.report.style import (
    BLUE,
    COUNTS,
    GREEN,
    HALF,
    INK,
    MUTED,
    PAPER,
    RULE,
    VERMILION,
    drawing,
    new_figure,
    shown,
    text_on,
)
from fedlens.report.wording import decimal

_LOOKS = ((BLUE, "o", BLUE), (VERMILION, "s", PAPER), (GREEN, "^", GREEN))
_LINE = 22  # units of a row
_LONG = 20  # characters of a name on one line


@dataclass(frozen=True)
class Dots:
    """One figure of each row of a dot plot.

    Attributes:
        label: what to call it in the legend.
        figures: row -> the figure; rows without one are left empty.
    """

    label: str
    figures: Mapping[str, Estimate]


@drawing()
def dots_figure(
    names: Sequence[str],
    series: Sequence[Dots],
    *,
    axis: str,
    notes: Sequence[str] = (),
    head: str = "",
    line: float | None = None,
    scale: float = 1.0,
) -> Figure:
    """Return rows of dots with their intervals, the first row at the top.

    Args:
        names: of the rows; controls are in italics.
        series: one or more figures of each row.
        axis: what the x axis shows.
        notes: a word at the right of each row.
        head: stands above the notes.
        line: value at which a vertical line is drawn.
        scale: what the figures are multiplied by.
    """
    tall = _LINE * len(names) * (1 if len(series) == 1 else 0.55 + 0.35 * len(series))
    figure = _roomy(HALF, tall + 62 + (24 * len(series) if len(series) > 1 else 0))
    axes = figure.add_subplot()
    if line is not None:
        axes.axvline(line * scale, color=MUTED, lw=1.2)
    step = 0.62 / max(1, len(series))
    for number, dots in enumerate(series):
        color, marker, fill = _LOOKS[number % len(_LOOKS)]
        shift = (number - (len(series) - 1) / 2) * step
        for place, name in enumerate(names):
            found = dots.figures.get(name)
            if found is None or not found.known:
                continue
            hue = MUTED if name in CONTROLS and len(series) == 1 else color
            if found.low <= found.high:
                axes.plot(
                    [scale * found.low, scale * found.high], [place + shift] * 2, color=hue, lw=2.2,
                    solid_capstyle="butt",
                )  # fmt: skip
            axes.plot(
                scale * found.mean, place + shift,
                ls="", marker=marker, ms=6.5, mew=1.4, mec=hue,
                mfc=fill if hue == color else PAPER,
            )  # fmt: skip
    _named_rows(axes, names)
    for place, note in enumerate(notes):
        axes.annotate(
            note, (1, place), xycoords=("axes fraction", "data"), xytext=(8, 0),
            textcoords="offset points", va="center", fontsize=10.5, color=MUTED,
        )  # fmt: skip
    if head:
        axes.annotate(
            head, (1, -0.62), xycoords=("axes fraction", "data"), xytext=(8, 4),
            textcoords="offset points", va="bottom", fontsize=10, color=MUTED,
        )  # fmt: skip
    _values(axes, axis)
    if len(series) > 1:
        handles = [
            Line2D(
                [], [], color=color, marker=marker, mfc=fill, mec=color, lw=2.2, label=dots.label
            )
            for dots, (color, marker, fill) in zip(series, _LOOKS, strict=False)
        ]
        figure.legend(handles=handles, loc="outside lower left")
    return figure


@drawing()
def bars_figure(figures: Mapping[str, Estimate], *, axis: str, line: float, words: str) -> Figure:
    """Return a bar a method, of shares in percent, with its interval; the controls are hollow.

    Args:
        figures: method -> share.
        axis: what the x axis shows.
        line: share that a flat map has, drawn as a line.
        words: what that line is called.
    """
    names = list(figures)
    figure = _roomy(HALF, _LINE * len(names) + 88)
    axes = figure.add_subplot()
    for place, name in enumerate(names):
        found = figures[name]
        if not found.known:
            axes.text(0.5, place, "no positive evidence", va="center", color=MUTED, fontsize=10)
            continue
        control = name in CONTROLS
        axes.barh(
            place, 100 * found.mean, height=0.66, color=PAPER if control else BLUE,
            edgecolor=MUTED if control else BLUE,
        )  # fmt: skip
        if found.low <= found.high:
            axes.plot([100 * found.low, 100 * found.high], [place] * 2, color=INK, lw=1.4)
    axes.axvline(100 * line, color=VERMILION, lw=1.8, ls=(0, (4, 2)), label=words)
    _named_rows(axes, names)
    axes.set_xlim(0, 100)
    _values(axes, axis)
    figure.legend(loc="outside lower left")
    return figure


@drawing()
def clients_figure(
    values: Mapping[str, Sequence[float]],
    *,
    axis: str,
    marked: int | None = None,
    line: float | None = None,
    scale: float = 1.0,
) -> Figure:
    """Return a row a method with a dot for each client.

    Args:
        values: method -> figure of each client, NaN where there is none.
        axis: what the x axis shows.
        marked: place of a client that is drawn otherwise and numbered.
        line: value at which a line is drawn, the mark's area.
        scale: what the figures are multiplied by.
    """
    names = list(values)
    figure = _roomy(HALF, _LINE * len(names) + (62 if marked is None else 128))
    axes = figure.add_subplot()
    if line is not None:
        axes.axvline(scale * line, color=MUTED, lw=1.4, ls=(0, (4, 2)))
    for place, name in enumerate(names):
        for client, value in enumerate(values[name]):
            if not math.isfinite(value):
                continue
            own = client == marked
            axes.plot(
                scale * value, place, ls="", marker="D" if own else "o", ms=7.5 if own else 6.0,
                mfc=VERMILION if own else "none", mec=VERMILION if own else BLUE, mew=1.3,
                zorder=3 if own else 2,
            )  # fmt: skip
    _named_rows(axes, names)
    _values(axes, axis)
    if marked is not None:
        handles = [
            Line2D([], [], ls="", marker="D", color=VERMILION, label="the client with the mark"),
            Line2D([], [], ls="", marker="o", mfc="none", mec=BLUE, label="another client"),
        ]
        if line is not None:
            handles.append(
                Line2D([], [], color=MUTED, lw=1.4, ls=(0, (4, 2)), label="the mark's area")
            )
        figure.legend(handles=handles, loc="outside lower left")
    return figure


@drawing()
def budgets_figure(
    budgets: Sequence[str],
    lines: Mapping[str, Sequence[Estimate]],
    *,
    axis: str,
    scale: float = 1.0,
    looks: Mapping[str, int] | None = None,
) -> Figure:
    """Return a line for each name over budgets, the tightest at the left.

    Args:
        budgets: what stands under each step.
        lines: name -> figure at each budget.
        axis: what the y axis shows.
        scale: what the figures are multiplied by.
        looks: name -> place of its look, the same in all charts; by order without it.
    """
    rows = -(-len(lines) // 2) if _short(lines) else len(lines)
    figure = _roomy(HALF, 270 + 20 * rows)
    axes = figure.add_subplot()
    for number, (name, figures) in enumerate(lines.items()):
        known = [place for place, figure_ in enumerate(figures) if figure_.known]
        style = series_style(number if looks is None else looks[name])
        if name in CONTROLS:
            style |= {"color": MUTED, "lw": 1.2}
        if any(figures[p].low <= figures[p].high for p in known) and len(lines) < 5:
            axes.vlines(
                known,
                [scale * figures[p].low for p in known],
                [scale * figures[p].high for p in known],
                color=style["color"],
            )
        axes.plot(
            known,
            [scale * figures[p].mean for p in known],
            label=shown(method_name(name), 32),
            **style,
        )
    axes.set_xticks(range(len(budgets)), list(budgets))
    axes.set_xlim(-0.25, len(budgets) - 0.75)
    axes.set_xlabel("epsilon, and the accuracy there", color=MUTED)
    axes.grid(axis="y", color=RULE, lw=0.8)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.set_title(axis, color=MUTED, fontsize=11.5)
    figure.legend(
        loc="outside lower left", handlelength=3.4, ncols=2 if _short(lines) else 1, fontsize=10.5
    )
    return figure


@drawing()
def matrix_figure(names: Sequence[str], values: Mapping[tuple[str, str], float]) -> Figure:
    """Return a square of cells, a row and a column each method, with a correlation in each.

    The darker the higher, by one scale for all networks; none or less than none is the lightest,
    and has its number. Nothing stands on the diagonal, nor where nothing is known.

    Args:
        names: of the methods, in order; controls are in italics.
        values: (row, column) -> correlation, NaN where unknown.
    """
    cell, label = 34, 6.2 * max(len(method_name(name)) for name in names)
    table = np.array(
        [[math.nan if row == col else values[row, col] for col in names] for row in names]
    )
    figure = _roomy(label + 40 + cell * len(names), 0.75 * label + 30 + 0.8 * cell * len(names))
    axes = figure.add_subplot()
    axes.pcolormesh(
        np.ma.masked_invalid(table), cmap=COUNTS, vmin=0, vmax=1, edgecolors=PAPER, lw=1.0
    )
    for row, column in np.argwhere(np.isfinite(table)):
        value = float(table[row, column])
        axes.text(
            column + 0.5, row + 0.5, decimal(value, 2),
            ha="center", va="center", fontsize=10, color=text_on(COUNTS(max(0.0, value))),
        )  # fmt: skip
    _named_rows(axes, names, cells=True)
    axes.set_xticks(
        np.arange(len(names)) + 0.5, [method_name(name) for name in names], fontsize=10.5
    )
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    for tick, name in zip(axes.get_xticklabels(), names, strict=True):
        tick.set(rotation=45, ha="left", rotation_mode="anchor")
        if name in CONTROLS:
            tick.set(fontstyle="italic", color=MUTED)
    axes.spines[:].set_visible(False)
    return figure


def _roomy(width: float, height: float) -> Figure:
    """Return a figure with room for the page's font, which may be wider than Matplotlib's."""
    figure = new_figure(width, height)
    figure.set_layout_engine("constrained", w_pad=9 / 72, h_pad=4 / 72)
    return figure


def _short(names: Collection[str]) -> bool:
    return all(len(name) <= _LONG for name in names)


def _named_rows(axes: Axes, names: Sequence[str], *, cells: bool = False) -> None:
    """Write the names at the left: each at a line of its own, or, of ``cells``, at their middle."""
    labels = [method_name(name) for name in names]
    if cells:
        axes.set_yticks(np.arange(len(names)) + 0.5, labels, fontsize=10.5)
        axes.set_ylim(len(names), 0)
    else:
        broken = [label if len(label) <= _LONG else label.replace(" (", "\n(") for label in labels]
        axes.set_yticks(range(len(names)), broken, fontsize=10.5)
        axes.set_ylim(len(names) - 0.4, -0.6)
        for place in range(len(names)):
            axes.axhline(place, color=RULE, lw=0.6, zorder=0)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        if name in CONTROLS:
            label.set_fontstyle("italic")
            label.set_color(MUTED)
        label.set_linespacing(0.9)


def _values(axes: Axes, axis: str) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.set_xlabel(axis, color=MUTED)


def _plain(value: float, _: object = None) -> str:
    return f"{round(value, 6):g}".replace("-", "−")
