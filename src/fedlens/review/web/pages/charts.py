"""Charts of the pages: SVG files that follow the reader's light or dark setting."""

import re
from collections.abc import Sequence
from datetime import date

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from starlette.responses import Response

from fedlens.report.style import (
    BLUE,
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
    svg_text,
)
from fedlens.review.insight import Rate

MOST_ROWS = 30
_DARK = {INK: "#e6e9ec", MUTED: "#a4aeb8", RULE: "#3b434c", PAPER: "#1b2025", BLUE: "#56b4e9"}
_THEMED = {color: f"var(--c{place})" for place, color in enumerate(_DARK)}
_COLOR = re.compile("|".join(_DARK))


def svg_response(figure: Figure) -> Response:
    """Return ``figure`` as an SVG document that has both a light and a dark look."""
    return Response(themed(svg_text(figure)), media_type="image/svg+xml")


def themed(document: str) -> str:
    """Return Matplotlib's SVG ``document`` with the page's colours as variables.

    It is shown as a picture, which takes no style from the page around it, so that both sets of
    colours, and the page's type, are written into it.
    """
    light = "".join(f"--c{place}:{color};" for place, color in enumerate(_DARK))
    dark = "".join(f"--c{place}:{color};" for place, color in enumerate(_DARK.values()))
    style = (
        f"<style>:root{{color-scheme:light dark;{light}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        'text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif!important}'
        "</style>"
    )
    start = document.index("<svg")
    inside = document.index(">", start) + 1
    body = _COLOR.sub(lambda found: _THEMED[found[0]], document[inside:])
    return document[start:inside] + style + body


@drawing()
def rates_figure(rates: Sequence[Rate], names: Sequence[str], axis: str) -> Figure:
    """Return one row a rate: its share as a dot, its 95 % interval as a line, its counts in words.

    Args:
        rates: the first 30 are drawn.
        names: of the rows.
        axis: what the shares are.
    """
    rows = list(zip(rates, names, strict=True))[:MOST_ROWS]
    figure = new_figure(1.1 * HALF, 70 + 25 * max(1, len(rows)))
    axes = figure.add_subplot()
    for place, (rate, _) in enumerate(rows):
        if rate.of:
            axes.plot([rate.low, rate.high], [place, place], color=BLUE, lw=2.2, alpha=0.55)
            axes.plot([rate.share], [place], "o", ms=7, color=BLUE, clip_on=False)
    axes.set_yticks(
        range(len(rows)),
        [f"{shown(name, 22)}  ({rate.count:,} of {rate.of:,})" for rate, name in rows],
    )
    axes.set_ylim(max(1, len(rows)) - 0.4, -0.6)
    _shares(axes, "x", max((rate.high for rate, _ in rows if rate.of), default=1.0))
    axes.grid(axis="x", color=RULE, lw=0.8)
    label_above(axes, axis)
    return figure


@drawing()
def weeks_figure(weeks: Sequence[Rate], axis: str) -> Figure:
    """Return shares over weeks with their 95 % intervals; a week of nothing is a gap."""
    figure = new_figure(1.1 * HALF, 250)
    axes = figure.add_subplot()
    places = range(len(weeks))
    filled = [place for place in places if weeks[place].of]
    low, high = (np.array([getattr(weeks[n], end) for n in filled]) for end in ("low", "high"))
    share = np.array([weeks[place].share for place in filled])
    axes.vlines(filled, low, high, color=BLUE, lw=2.2, alpha=0.45)
    axes.plot(filled, share, "o-", ms=6, lw=1.6, color=BLUE, clip_on=False)
    names = [week.key.strftime("%d %b") if isinstance(week.key, date) else "" for week in weeks]
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    axes.xaxis.set_major_formatter(
        FuncFormatter(
            lambda at, _: names[round(at)] if at == round(at) and 0 <= at < len(names) else ""
        )
    )
    axes.set_xlim(-0.5, len(weeks) - 0.5)
    _shares(axes, "y", float(high.max()) if len(high) else 1.0)
    axes.grid(axis="y", color=RULE, lw=0.8)
    axes.set_xlabel("Week that begins on", color=MUTED)
    label_above(axes, axis)
    return figure


@drawing()
def reliability_figure(
    confidence: npt.NDArray[np.float64],
    accuracy: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
) -> Figure:
    """Return how often the model was right at each confidence, beside the diagonal of a true one.

    Args:
        confidence, accuracy: (M,) of each bin, in [0, 1]; NaN where it is empty.
        counts: (M,) examples; a dot's area grows with them.
    """
    figure = new_figure(HALF, 340)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1.2, ls=(0, (5, 4)))
    area = 25 + 220 * counts / max(1, int(counts.max()))
    axes.vlines(confidence, confidence, accuracy, color=VERMILION, lw=1.6)
    axes.scatter(confidence, accuracy, s=area, color=BLUE, zorder=3, clip_on=False)
    _shares(axes, "x", 1.0)
    _shares(axes, "y", 1.0)
    axes.set_aspect("equal")
    axes.grid(color=RULE, lw=0.8)
    axes.set_xlabel("Calibrated confidence", color=MUTED)
    label_above(axes, "Share of right answers")
    return figure


def _shares(axes: Axes, side: str, most: float) -> None:
    """Let an axis run from nothing to a little beyond ``most``, in percent."""
    end = min(1.0, max(0.1, 1.1 * most))
    formatter = FuncFormatter(lambda value, _: f"{100 * value:.0f} %")
    if side == "x":
        axes.set_xlim(-0.01, end + 0.01)
        axes.xaxis.set_major_formatter(formatter)
    else:
        axes.set_ylim(-0.02, end + 0.02)
        axes.yaxis.set_major_formatter(formatter)
