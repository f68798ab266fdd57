"""How every figure looks, and the one place where figures are drawn and written.

Matplotlib keeps its settings in one global table. Figures are therefore made and rendered inside
:func:`drawing`, which holds a lock, starts from Matplotlib's own defaults (never from the user's
settings) and puts everything back. The windowing half of Matplotlib (pyplot) is not used at all.
"""

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from fedlens.errors import RunError
from fedlens.files import write_bytes

# The page swaps these four colours for its own in dark mode (see inline.py); use them for nothing
# but text, secondary text, rules and the ground.
INK = "#1c2126"
MUTED = "#59636e"
RULE = "#d5dade"
PAPER = "#ffffff"

# Text on a coloured cell keeps its colour in dark mode, as the cell does: so it is not quite PAPER.
ON_LIGHT = "#000001"
ON_DARK = "#fffffe"

# Okabe and Ito's palette (2008), told apart with the common colour deficiencies.
BLUE = "#0072b2"
DEEP_BLUE = "#005a8c"  # carries white text, so it stays as it is in dark mode
VERMILION = "#d55e00"
GREEN = "#009e73"
PURPLE = "#cc79a7"
ORANGE = "#e69f00"
SKY = "#56b4e9"

# From near white to deep blue in equal steps of CIELAB lightness: readable in grey.
COUNTS: Colormap = LinearSegmentedColormap.from_list(
    "fedlens-counts",
    [
        "#f4f9fc",
        "#cfe0f2",
        "#adc8e5",
        "#8bafd7",
        "#6b97c7",
        "#4c80b5",
        "#2e69a1",
        "#05538c",
        "#003d75",
    ],
)
# Perceptually uniform from dark to light, and neutral grey in the middle, so that it serves signed
# maps (centred on zero) as well as maps that start at zero.
EVIDENCE: Colormap = matplotlib.colormaps["cividis"]

HALF = 400  # units of a figure that takes half the width of the page
LONGEST_NAME = 24  # characters of a class or client name inside a figure

_SETTINGS: dict[str, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12.0,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$x$"
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.labelsize": 12.0,
    "axes.titlesize": 12.0,
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 11.0,
    "ytick.labelsize": 11.0,
    "ytick.major.size": 0.0,
    "xtick.major.size": 4.0,
    "legend.frameon": False,
    "legend.fontsize": 11.5,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "savefig.facecolor": PAPER,
    "hatch.linewidth": 1.0,
    "svg.fonttype": "none",  # real text: it can be searched, read aloud, and takes the page's font
    "svg.hashsalt": "fedlens",  # the same figure gives the same bytes
    "path.simplify": False,
}
_LOCK = threading.RLock()
_KEEP = ("backend", "backend_fallback", "interactive", "toolbar")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff\ud800-\udfff]+")


@contextmanager
def drawing() -> Iterator[None]:
    """Hold the lock and our settings while a figure is made or rendered; also a decorator."""
    settings: dict[Any, Any] = dict(matplotlib.rcParamsDefault)
    settings.update(_SETTINGS)
    for key in _KEEP:
        del settings[key]
    with _LOCK, matplotlib.rc_context(settings):
        yield


def new_figure(width: float, height: float, *, arranged: bool = True) -> Figure:
    """Return an empty figure of ``width`` x ``height`` units; 12 units are the text size.

    One unit is one pixel of the SVG's own coordinates, and two pixels of the PNG. An ``arranged``
    figure finds room for its axes and labels by itself; in the other kind everything is placed.
    """
    layout: Literal["constrained"] | None = "constrained" if arranged else None
    figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def bare(axes: Axes) -> None:
    """Take frame, ticks and labels from ``axes``: it only holds a drawing or a picture."""
    axes.set_axis_off()


def label_above(axes: Axes, text: str) -> None:
    """Write the y axis's name above it, level, where it is read first."""
    axes.set_title(text, color=MUTED, fontsize=11.5)


def shown(name: str, longest: int = LONGEST_NAME) -> str:
    """Return ``name`` fit for one line of a figure: no control characters, not too long."""
    clean = " ".join(_CONTROL.sub(" ", str(name)).split()) or "(no name)"
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def text_on(color: tuple[float, float, float, float]) -> str:
    """Return the text colour (light or dark) with the higher contrast on ``color`` (RGBA, 0-1)."""
    # The two contrasts are equal where (Y + 0.05)^2 = 1.05 * 0.05 (WCAG 2.1), at Y = 0.179.
    return ON_LIGHT if luminance(np.array(color[:3])) > 0.179 else ON_DARK


def luminance(rgb: npt.NDArray[np.float64]) -> float:
    """Return the relative luminance in [0, 1] of an sRGB colour (3,) in [0, 1] (WCAG 2.1)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


def _settle(figure: Figure) -> None:
    """Arrange ``figure`` once for all, which is most of the work of drawing it."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine(None)


@drawing()
def svg_text(figure: Figure) -> str:
    """Return ``figure`` as an SVG document that is the same for the same figure."""
    _settle(figure)
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    FigureCanvasSVG(figure)
    figure.savefig(buffer, format="svg", metadata=metadata)
    return buffer.getvalue().decode()


@drawing()
def png_bytes(figure: Figure) -> bytes:
    """Return ``figure`` as a PNG of two pixels a unit, without date or software name."""
    _settle(figure)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=144, metadata={"Software": None})
    return buffer.getvalue()


def save_figure(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write ``folder/name.png`` and ``folder/name.svg`` and return the two paths.

    The same figure always gives the same bytes. The folder is made where it is missing.

    Raises:
        RunError: the folder cannot be written to.
    """
    png, svg, _ = save_with_svg(figure, folder, name)
    return png, svg


def save_with_svg(figure: Figure, folder: Path, name: str) -> tuple[Path, Path, str]:
    """Do as :func:`save_figure` and also return the SVG document, to be set into a page."""
    make_folder(folder)
    document = svg_text(figure)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    write_bytes(png, png_bytes(figure))
    write_bytes(svg, document.encode())
    return png, svg, document


def make_folder(folder: Path) -> None:
    """Make ``folder`` and its parents where they are missing.

    Raises:
        RunError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"Could not make the folder {folder}: {error.strerror or error}; choose a folder that "
            "you may write to."
        ) from error
