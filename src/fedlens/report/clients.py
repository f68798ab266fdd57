"""What each client holds and how well the shared model serves it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedlens.report.history import Floats
from fedlens.report.style import (
    BLUE,
    COUNTS,
    HALF,
    MUTED,
    PAPER,
    RULE,
    VERMILION,
    drawing,
    label_above,
    new_figure,
    shown,
    text_on,
)

MOST_NAMED = 40  # clients (or classes) up to which each row (or column) carries its name
MOST_SERVED = 20  # clients whose accuracy at the end is drawn one by one
MOST_CELLS = 240  # cells up to which each carries its number


@drawing()
def partition_figure(
    label_counts: npt.NDArray[np.int64],
    class_names: Sequence[str],
    client_names: Sequence[str],
    sizes: npt.NDArray[np.int64] | None = None,
) -> Figure:
    """Return who holds what: a heatmap of counts, and beside it the size of each client.

    Args:
        label_counts: int (K, L) examples of each class (or positive labels) at each client.
        class_names: L names.
        client_names: K names.
        sizes: int (K,) examples at each client; the row sums of ``label_counts`` if not given,
            which is right unless an example may carry several labels.
    """
    clients, classes = label_counts.shape
    names = [shown(name, 18) for name in client_names]
    labels = [shown(name, 14) for name in class_names]
    row = min(27.0, 800 / clients) if clients <= MOST_NAMED else min(8.0, 640 / clients)
    margin = 7 * max(len(name) for name in labels)
    figure = new_figure(760, 90 + margin * 0.8 + max(110.0, row * clients))
    heat, bars = figure.subplots(1, 2, sharey=True, width_ratios=[4.2, 1])
    named = clients <= MOST_NAMED
    heat.pcolormesh(
        label_counts,
        cmap=COUNTS,
        vmin=0,
        vmax=max(1, int(label_counts.max())),
        edgecolors=PAPER if named else "none",
        lw=1.0 if named else 0.0,
        rasterized=label_counts.size > 1500,
    )
    places = np.arange(clients) + 0.5
    if named:
        heat.set_yticks(places, names)
    else:
        heat.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        heat.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        heat.set_ylabel("Client", color=MUTED)
    if classes <= MOST_NAMED:
        centres = np.arange(classes) + 0.5
        heat.set_xticks(centres, labels, rotation=40, ha="left", rotation_mode="anchor")
    heat.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    if label_counts.size <= MOST_CELLS:
        _write_counts(heat, label_counts)
    sizes = label_counts.sum(1) if sizes is None else sizes
    bars.barh(places, sizes, height=0.66 if named else 1.0, color=BLUE)
    if named:
        for place, size in zip(places, sizes, strict=True):
            bars.text(
                size + 0.03 * max(1, sizes.max()), place, f"{size:,}", va="center", fontsize=11
            )
        bars.set_xlim(0, 1.55 * max(1, sizes.max()))
    bars.set_ylim(clients, 0)
    bars.tick_params(left=False, labelleft=False, bottom=False, labelbottom=not named)
    bars.xaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
    bars.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    bars.set_title("Images", color=MUTED, fontsize=11.5)
    for axes in (heat, bars):
        for side in axes.spines.values():
            side.set_visible(False)
    return figure


def _write_counts(axes: Axes, counts: npt.NDArray[np.int64]) -> None:
    top = max(1, int(counts.max()))
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(
                column + 0.5,
                row + 0.5,
                f"{count:,}",
                ha="center",
                va="center",
                fontsize=10.5,
                color=text_on(COUNTS(float(count / top))),
            )


@drawing()
def served_figure(
    accuracy: Floats, client_names: Sequence[str], *, overall: float | None
) -> Figure:
    """Return the accuracy of each client (K,) at the end, lowest first, as dots on a line.

    Of more than 20 clients the ten lowest and the ten highest are drawn.

    Args:
        accuracy: (K,) shares in [0, 1]; clients without one (NaN) are left out.
        client_names: K names.
        overall: the accuracy on the whole validation set, drawn as a line, or None.
    """
    order = [int(k) for k in np.argsort(accuracy, kind="stable") if not np.isnan(accuracy[k])]
    between = len(order) - MOST_SERVED
    half = MOST_SERVED // 2
    kept = order if between <= 0 else order[:half] + order[-half:]
    figure = new_figure(HALF, 86 + 25 * (len(kept) + (between > 0)))
    axes = figure.add_subplot()
    places = np.arange(len(kept))
    if between > 0:
        places[half:] += 1
    values = accuracy[kept]
    highest = float(values.max())
    left = served_from(accuracy)
    right = highest + 0.14 * (highest - left)
    if between > 0:
        axes.text(
            left, half, f"  {between:,} more in between", va="center", color=MUTED, fontsize=11
        )
    axes.hlines(places, left, values, color=RULE, lw=2)
    if overall is not None:
        axes.axvline(overall, color=MUTED, lw=1.2, ls="--")
        axes.text(
            overall,
            -0.75,
            f"whole validation set {100 * overall:.1f}",
            ha="right" if overall > (left + right) / 2 else "left",
            color=MUTED,
            fontsize=11,
        )
    axes.plot(values[1:], places[1:], "o", ms=7, color=BLUE, ls="none")
    axes.plot(values[:1], places[:1], "v", ms=9, color=VERMILION, ls="none")
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            f"{100 * value:.1f}",
            (value, place),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=11,
            bbox={"boxstyle": "square,pad=0.1", "fc": PAPER, "ec": "none"},
        )
    axes.set_yticks(places, [shown(client_names[k], 20) for k in kept])
    axes.set_ylim(places[-1] + 0.6, -1.3)
    axes.set_xlim(left, right)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    label_above(axes, "Accuracy (%)")
    return figure


def served_from(accuracy: Floats) -> float:
    """Return where the axis of :func:`served_figure` starts; 0 if at zero."""
    return max(0.0, float(np.nanmin(accuracy)) - 0.06)
