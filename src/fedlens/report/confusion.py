"""Who is taken for whom, and how well each class is found."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

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

MOST_COUNTED = 16  # classes up to which each cell carries its number


@drawing()
def confusion_figure(confusion: npt.NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """Return the confusion matrix (L, L), rows true and columns predicted.

    The colour is the share of the true class (each row sums to 1), the number is the count.
    """
    classes = len(class_names)
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    cell = 46 if classes <= MOST_COUNTED else max(10, 640 // classes)
    names = [shown(name, 14) for name in class_names]
    margin = 7 * max(len(name) for name in names)
    figure = new_figure(60 + margin + cell * classes, 50 + margin * 0.8 + cell * classes * 0.86)
    axes = figure.add_subplot()
    axes.pcolormesh(
        shares, cmap=COUNTS, vmin=0, vmax=1, edgecolors=PAPER, lw=1.0 if classes <= 40 else 0.0
    )
    axes.invert_yaxis()
    for side in axes.spines.values():
        side.set_visible(False)
    centres = np.arange(classes) + 0.5
    size = 11.0 if classes <= 24 else max(5.0, 11.0 * 24 / classes)
    axes.set_xticks(centres, names, rotation=40, ha="left", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(centres, names, fontsize=size)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axes.set_xlabel("Predicted class", color=MUTED, labelpad=8)
    axes.xaxis.set_label_position("bottom")
    axes.set_ylabel("True class", color=MUTED)
    if classes <= MOST_COUNTED:
        for row in range(classes):
            for column in range(classes):
                if confusion[row, column]:
                    axes.text(
                        column + 0.5,
                        row + 0.5,
                        f"{confusion[row, column]:,}",
                        ha="center",
                        va="center",
                        fontsize=11 if confusion.max() < 10_000 else 9,
                        fontweight="bold" if row == column else "normal",
                        color=text_on(COUNTS(float(shares[row, column]))),
                    )
    return figure


@drawing()
def class_figure(
    values: Floats,
    class_names: Sequence[str],
    *,
    axis: str,
    study: Mapping[str, float] | None = None,
) -> Figure:
    """Return one row a class: each seed's figure (S, L) as a dot, and the study's as a diamond.

    Args:
        values: (S, L) shares in [0, 1]; NaN is left out.
        class_names: L names.
        axis: what the figure is, e.g. ``F1``.
        study: the study's figure by class name; classes it leaves out have no diamond.
    """
    classes = len(class_names)
    figure = new_figure(HALF, 90 + 25 * classes)
    axes = figure.add_subplot()
    places = np.arange(classes)
    axes.hlines(places, 0, 1, color=RULE, lw=0.8, transform=axes.get_yaxis_transform())
    if study:
        known = [(study[name], place) for place, name in enumerate(class_names) if name in study]
        axes.plot(
            [value for value, _ in known],
            [place for _, place in known],
            "D",
            ms=8,
            mfc=PAPER,
            mec=VERMILION,
            mew=1.6,
            ls="none",
            label="the study",
        )
    for row, seed_values in enumerate(values):
        axes.plot(
            seed_values,
            places,
            "o",
            ms=6,
            color=BLUE,
            ls="none",
            alpha=0.85,
            label=("this run" if len(values) == 1 else "each seed") if row == 0 else None,
        )
    axes.set_yticks(places, [shown(name, 20) for name in class_names])
    axes.set_ylim(classes - 0.4, -0.6)
    low = lowest_shown(values)
    axes.set_xlim(low if low > 0 else -0.02, 1.01)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    axes.grid(axis="x", color=RULE, lw=0.8)
    label_above(axes, axis)
    if study:
        figure.legend(loc="outside lower left", ncols=2)
    return figure


def lowest_shown(values: Floats) -> float:
    """Return where the axis of :func:`class_figure` starts for these values; 0 if at zero."""
    low = min(float(np.nanmin(values)) if not np.isnan(values).all() else 0.0, 0.99)
    return max(0.0, float(np.floor(low * 10) / 10 - 0.02))
