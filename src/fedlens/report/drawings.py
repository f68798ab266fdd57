"""Drawings of the network and of the federation, made from the real configuration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

from fedlens.report.content import LayerSummary
from fedlens.report.style import (
    BLUE,
    DEEP_BLUE,
    INK,
    MUTED,
    ON_DARK,
    PAPER,
    RULE,
    SKY,
    VERMILION,
    bare,
    drawing,
    new_figure,
    shown,
)

WIDTH = 460
MOST_CLIENTS = 12

# Steps that neither weigh nor reshape a map in a way worth a box: named beside the step before.
_FOLDED = ("ReLU", "GELU", "SiLU", "Sigmoid", "Softmax", "Tanh", "Dropout", "Flatten", "Identity")


@dataclass(frozen=True)
class _Step:
    title: str
    note: str
    shape: tuple[int, ...]
    parameters: int
    pooled: bool


@drawing()
def network_figure(layers: Sequence[LayerSummary], input_shape: tuple[int, ...] = ()) -> Figure:
    """Return the network from top to bottom, one block a step.

    A map of (C, H, W) is a slab whose sides are its height and width to scale and whose thickness
    grows with the logarithm of C; a vector is a bar. Activations are named with the step they
    follow.

    Args:
        layers: the steps of the network in order.
        input_shape: (C, H, W) of the images, or empty if not known.
    """
    steps = _steps(layers, input_shape)
    largest = max((step.shape[-1] for step in steps if len(step.shape) == 3), default=1)
    heights = [_row_height(step, largest) for step in steps]
    height = sum(heights) + 26
    figure = new_figure(WIDTH, height, arranged=False)
    axes = _canvas(figure, WIDTH, height)
    top = height - 12
    for place, (step, row) in enumerate(zip(steps, heights, strict=True)):
        middle = top - row / 2
        _block(axes, step, 82, middle, largest, first=place == 0)
        _words(axes, step, 174, middle)
        if place + 1 < len(steps):
            axes.plot([166, WIDTH - 4], [top - row] * 2, color=RULE, lw=0.8)
            _arrow(axes, (82, top - row + 6), (82, top - row - 7), MUTED)
        top -= row
    return figure


@drawing()
def federation_figure(
    client_names: Sequence[str],
    label_counts: npt.NDArray[np.int64] | None,
    sizes: npt.NDArray[np.int64] | None,
    *,
    server: str,
    down: str,
    up: str,
    cohort: str,
) -> Figure:
    """Return the server above its clients, with what travels written on the arrows.

    Each client shows its size in words and its class mix as small bars. Of more than 12 clients
    the first 11 are drawn and the others counted.

    Args:
        client_names: K names.
        label_counts: int (K, L) examples per client and class, or None.
        sizes: int (K,) examples per client, or None.
        server: what the server does, one line.
        down, up: what travels to and from the clients, at most two lines each.
        cohort: who takes part, one line.
    """
    clients = len(client_names)
    drawn = clients if clients <= MOST_CLIENTS else MOST_CLIENTS - 1
    cells = drawn + (drawn < clients)
    across = _columns(cells, max(len(shown(name)) for name in client_names[:drawn]))
    rows = math.ceil(cells / across)
    box_width, box_height, gap = (WIDTH - 36 - (across - 1) * 10) / across, 76, 10
    field = rows * box_height + (rows - 1) * gap + 54
    height = field + 232
    figure = new_figure(WIDTH, height, arranged=False)
    axes = _canvas(figure, WIDTH, height)
    _box(axes, 90, height - 76, WIDTH - 180, 64, face=DEEP_BLUE, edge=DEEP_BLUE)
    axes.text(
        WIDTH / 2,
        height - 36,
        "Server",
        ha="center",
        va="center",
        color=ON_DARK,
        fontsize=13.5,
        fontweight="bold",
    )
    axes.text(WIDTH / 2, height - 57, server, ha="center", va="center", color=ON_DARK, fontsize=11)
    _arrow(axes, (150, height - 80), (150, field + 12), BLUE, width=2.4)
    _arrow(axes, (310, field + 12), (310, height - 80), VERMILION, width=2.4, dashed=True)
    middle = (field + 12 + height - 80) / 2
    axes.text(140, middle, down, ha="right", va="center", fontsize=11, linespacing=1.45)
    axes.text(320, middle, up, ha="left", va="center", fontsize=11, linespacing=1.45)
    _box(axes, 4, 4, WIDTH - 8, field, face="none", edge=RULE)
    axes.text(18, field - 19, cohort, va="center", fontsize=11.5, color=INK, fontweight="bold")
    for place in range(cells):
        row, column = divmod(place, across)
        x = 18 + column * (box_width + gap)
        y = field - 38 - row * (box_height + gap) - box_height
        if place == drawn:
            axes.text(
                x + box_width / 2,
                y + box_height / 2,
                f"and {clients - drawn:,} more",
                ha="center",
                va="center",
                color=MUTED,
                fontsize=11.5,
            )
            continue
        _box(axes, x, y, box_width, box_height, face="none", edge=MUTED)
        room = max(8, int(box_width / 6.6))
        axes.text(
            x + 9, y + box_height - 16, shown(client_names[place], room), va="center", fontsize=11
        )
        if sizes is not None:
            axes.text(
                x + 9,
                y + box_height - 32,
                f"{sizes[place]:,}",
                va="center",
                fontsize=10.5,
                color=MUTED,
            )
        if label_counts is not None:
            _mix(axes, label_counts[place], x + 9, y + 8, box_width - 18, 26)
    return figure


def _columns(cells: int, longest: int) -> int:
    """Return how many boxes stand in a row: few empty places, and room for the longest name."""
    most = 5 if longest <= 11 else 4 if longest <= 14 else 3
    return min(range(min(3, most, cells), min(most, cells) + 1), key=lambda n: (-cells % n, -n))


def _steps(layers: Sequence[LayerSummary], input_shape: tuple[int, ...]) -> list[_Step]:
    steps = [_Step("image", "", input_shape, 0, False)] if input_shape else []
    notes: list[str] = []
    for layer in layers:
        if steps and layer.parameters == 0 and layer.kind in _FOLDED:
            if layer.kind not in ("Identity", "Flatten"):
                last = steps[-1]
                note = f"{last.note}, {layer.kind}" if last.note else layer.kind
                steps[-1] = _Step(last.title, note, last.shape, last.parameters, last.pooled)
            continue
        notes = [layer.kind] if layer.kind.lower() != layer.name.lower() else []
        notes += [layer.detail] if layer.detail else []
        steps.append(
            _Step(
                layer.name,
                ", ".join(notes),
                layer.output_shape,
                layer.parameters,
                "pool" in layer.kind.lower(),
            )
        )
    return steps or [_Step("(no layers given)", "", (), 0, False)]


def _row_height(step: _Step, largest: int) -> float:
    if len(step.shape) != 3:
        return 52
    return max(52.0, 24 + _thickness(step.shape[0]) + 36 * step.shape[-2] / largest)


def _thickness(channels: int) -> float:
    return 3 + 3.4 * math.log2(max(1, channels))


def _block(axes: Axes, step: _Step, x: float, y: float, largest: int, *, first: bool) -> None:
    """Draw one step's output centred at (x, y): a slab seen from above, or a bar."""
    face = MUTED if first else SKY if step.pooled else BLUE
    if len(step.shape) != 3:
        units = step.shape[-1] if step.shape else 1
        half = min(70.0, 6 + 8 * math.log2(max(1, units)))
        axes.add_patch(Rectangle((x - half, y - 6), 2 * half, 12, fc=face, ec=PAPER, lw=0.8))
        return
    channels, rows, columns = step.shape
    wide = max(8.0, 112 * columns / largest)
    deep = max(4.0, 36 * rows / largest)
    slant, thick = deep * 0.75, _thickness(channels)
    left, low = x - (wide + slant) / 2, y - (deep + thick) / 2
    front = [(left, low), (left + wide, low), (left + wide, low + thick), (left, low + thick)]
    lid = [
        front[3],
        front[2],
        (left + wide + slant, low + thick + deep),
        (left + slant, low + thick + deep),
    ]
    flank = [front[1], (left + wide + slant, low + deep), lid[2], front[2]]
    for corners, shade in ((lid, 0.55), (front, 1.0), (flank, 0.8)):
        axes.add_patch(Polygon(corners, closed=True, fc=PAPER, ec="none"))
        axes.add_patch(Polygon(corners, closed=True, fc=face, ec=PAPER, lw=0.8, alpha=shade))


def _words(axes: Axes, step: _Step, x: float, y: float) -> None:
    shape = " × ".join(f"{side:,}" for side in step.shape)
    axes.text(x, y + 9, shown(step.title), va="center", fontsize=12, fontweight="bold")
    axes.text(WIDTH - 6, y + 9, shape, va="center", ha="right", fontsize=11.5)
    if step.note:
        axes.text(x, y - 9, shown(step.note, 30), va="center", fontsize=10.5, color=MUTED)
    if step.parameters:
        axes.text(
            WIDTH - 6,
            y - 9,
            f"{step.parameters:,} parameters",
            va="center",
            ha="right",
            fontsize=10.5,
            color=MUTED,
        )


def _mix(
    axes: Axes, counts: npt.NDArray[np.int64], x: float, y: float, width: float, height: float
) -> None:
    """Draw a client's class mix as small bars on a line, the largest class at full height."""
    slot = width / len(counts)
    axes.plot([x, x + width], [y, y], color=RULE, lw=0.8)
    top = max(1, int(counts.max()))
    for place, count in enumerate(counts):
        if count:
            axes.add_patch(
                Rectangle(
                    (x + place * slot + 0.1 * slot, y),
                    0.8 * slot,
                    height * count / top,
                    fc=BLUE,
                    ec="none",
                )
            )


def _canvas(figure: Figure, width: float, height: float) -> Axes:
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    bare(axes)
    return axes


def _box(
    axes: Axes, x: float, y: float, width: float, height: float, *, face: str, edge: str
) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x + 5, y + 5),
            width - 10,
            height - 10,
            boxstyle="round,pad=5,rounding_size=7",
            fc=face,
            ec=edge,
            lw=1.1,
        )
    )


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    color: str,
    *,
    width: float = 1.2,
    dashed: bool = False,
) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=7 + 4 * width,
            color=color,
            lw=width,
            ls=(0, (4, 2)) if dashed else "-",
            shrinkA=0,
            shrinkB=0,
        )
    )
