"""The part of an image that the network cannot see, and what lies in it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Affine2D

from fedlens.report.history import Floats
from fedlens.report.style import (
    BLUE,
    HALF,
    INK,
    MUTED,
    PAPER,
    RULE,
    drawing,
    label_above,
    new_figure,
    shown,
)

Mask = npt.NDArray[np.bool_]


@drawing()
def blind_area_figure(blind_area: Mask) -> Figure:
    """Return the image plane, (H, W) pixels, with the unseen ones (True) hatched and outlined."""
    height, width = blind_area.shape
    figure = new_figure(HALF, 350)
    axes = figure.add_subplot()
    axes.set_aspect("equal")
    axes.add_patch(Rectangle((0, 0), width, height, fc=BLUE, alpha=0.1, ec="none"))
    axes.add_patch(Rectangle((0, 0), width, height, fc="none", ec=MUTED, lw=1.2))
    axes.add_patch(_hatched(blind_area))
    axes.add_collection(LineCollection(_border(blind_area), colors=INK, linewidths=1.8))
    for mask, word in ((~blind_area, "seen"), (blind_area, "not seen")):
        if mask.any():
            row, column = _middle(mask)
            axes.text(
                column,
                row,
                word,
                ha="center",
                va="center",
                fontsize=12,
                bbox={"boxstyle": "round,pad=0.3", "fc": PAPER, "ec": "none"},
            )
    axes.set_xlim(-0.2, width + 0.2)
    axes.set_ylim(height + 0.2, -0.2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xlabel("Column (pixels)", color=MUTED)
    axes.set_ylabel("Row (pixels)", color=MUTED)
    return figure


def _hatched(mask: Mask) -> PathPatch:
    """Return one patch, hatched, of the unit squares where ``mask`` is True."""
    squares = [
        Path.unit_rectangle().transformed(Affine2D().translate(float(column), float(row)))
        for row, column in np.argwhere(mask)
    ]
    outline = Path.make_compound_path(*squares) if squares else Path(np.zeros((1, 2)))
    return PathPatch(outline, fc="none", ec=MUTED, lw=0, hatch="////")


def _border(mask: Mask) -> list[list[tuple[float, float]]]:
    """Return the unit lines (x, y) between pixels of which just one is in ``mask``."""
    lines = [
        [(column + 1.0, float(row)), (column + 1.0, row + 1.0)]
        for row, column in np.argwhere(mask[:, 1:] != mask[:, :-1])
    ]
    lines += [
        [(float(column), row + 1.0), (column + 1.0, row + 1.0)]
        for row, column in np.argwhere(mask[1:] != mask[:-1])
    ]
    return lines


def _middle(mask: Mask) -> tuple[float, float]:
    """Return the centre (row, column) of the longest run of rows that ``mask`` touches most."""
    rows = mask.sum(1)
    widest = np.flatnonzero(rows == rows.max())
    row = int(widest[len(widest) // 2])
    columns = np.flatnonzero(mask[row])
    return row + 0.5, float(columns.mean()) + 0.5


@drawing()
def blind_light_figure(blind_light: Floats, class_names: Sequence[str]) -> Figure:
    """Return bars of the share of each class's light, (L,) in [0, 1], that is not seen."""
    classes = len(class_names)
    figure = new_figure(HALF, 70 + 25 * classes)
    axes = figure.add_subplot()
    places = np.arange(classes)
    axes.barh(places, blind_light, height=0.6, color=BLUE)
    for place, share in zip(places, blind_light, strict=True):
        if np.isfinite(share):
            axes.annotate(
                f"{100 * share:.0f}\u00a0%",
                (share, place),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=11,
                bbox={"boxstyle": "square,pad=0.1", "fc": PAPER, "ec": "none"},
            )
    axes.set_yticks(places, [shown(name, 20) for name in class_names])
    axes.set_ylim(classes - 0.4, -0.6)
    finite = blind_light[np.isfinite(blind_light)]
    axes.set_xlim(0, max(0.01, 1.18 * float(finite.max())) if len(finite) else 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    axes.grid(axis="x", color=RULE, lw=0.8)
    label_above(axes, "Share of the light that is not seen (%)")
    return figure


def ranges(flags: npt.NDArray[np.bool_]) -> str:
    """Return the places that are True in words, e.g. ``22–27`` or ``0, 5–7``; empty if none."""
    parts: list[str] = []
    places = [int(place) for place in np.flatnonzero(flags)]
    while places:
        run = 1
        while run < len(places) and places[run] == places[0] + run:
            run += 1
        parts.append(str(places[0]) if run == 1 else f"{places[0]}–{places[run - 1]}")
        places = places[run:]
    return ", ".join(parts)
