"""Explained decisions as pictures: the image, the map of evidence, and one over the other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from fedlens.report.content import NO_CLASS, WHERE, Case, FurtherMap
from fedlens.report.style import (
    EVIDENCE,
    INK,
    LONGEST_NAME,
    MUTED,
    RULE,
    bare,
    drawing,
    new_figure,
    shown,
)

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

T = TypeVar("T", bound=np.generic)

NO_EVIDENCE = "no evidence found for this class"
NO_EVIDENCE_LINES = NO_EVIDENCE.replace(" for", "\nfor")
_SIDE = 168  # pixels that a picture has at least after enlarging
_LARGEST = 224  # pixels that a picture on the page has at most
_HATCH = 10  # pixels between two lines of the hatching
_STRENGTH = 0.74  # how much of the overlay is colour where the evidence is strongest


@dataclass(frozen=True, eq=False)
class Pictures:
    """The three pictures of a case, uint8 (h, w, 3), enlarged without smoothing.

    Attributes:
        image: what the network was given.
        map: the evidence in colour, or None where there is none to paint.
        overlay: the evidence over the image in grey, or None likewise.
        signed: the map has evidence against the class too, drawn dark.
    """

    image: Pixels
    map: Pixels | None
    overlay: Pixels | None
    signed: bool


def reduced(pixels: Pixels) -> Pixels:
    """Return a picture made small enough for a page: at most 224 pixels wide and high."""
    height, width = pixels.shape[:2]
    if max(height, width) <= _LARGEST:
        return pixels
    scale = _LARGEST / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def is_degenerate(case: Case) -> bool:
    """Tell whether the map of ``case`` is not to be painted: flagged, not finite, or all zero."""
    heatmap = case.heatmap
    return case.degenerate or not bool(np.isfinite(heatmap).all()) or not bool(heatmap.any())


def as_case(case: Case, further: FurtherMap) -> Case:
    """Return ``case`` with the map of another method as its own."""
    return replace(
        case,
        heatmap=further.heatmap,
        layer=further.layer,
        degenerate=further.degenerate,
        explained=further.explained,
        method=further.method,
        signed=further.signed,
        further=(),
    )


def case_pictures(case: Case, blind_area: Mask | None = None) -> Pictures:
    """Return the pictures of ``case``; each map is scaled to its own strongest pixel.

    Where the network cannot see (``blind_area``, bool (H, W)), map and overlay are hatched and the
    border is drawn on all three. On the overlay a white line surrounds what is at least half as
    strong as the strongest pixel, so that it can be read without colour.
    """
    height, width = case.image.shape[:2]
    scale = max(1, math.ceil(_SIDE / max(height, width)))
    rgb = case.image if case.image.ndim == 3 else np.repeat(case.image[..., None], 3, axis=2)
    picture = _enlarge(rgb / 255.0, scale)
    blind = None
    if blind_area is not None and blind_area.shape == (height, width) and blind_area.any():
        blind = _enlarge(blind_area, scale)
    image = picture if blind is None else _outline(picture, blind)
    if is_degenerate(case):
        return Pictures(_bytes(image), None, None, signed=False)
    heatmap = case.heatmap.astype(np.float64)
    signed = case.signed or bool(heatmap.min() < 0)
    strength = np.abs(heatmap) / np.abs(heatmap).max()
    place = 0.5 + 0.5 * np.sign(heatmap) * strength if signed else strength
    color = _enlarge(np.asarray(EVIDENCE(place))[..., :3], scale)
    amount = _enlarge(_STRENGTH * strength, scale)[..., None]
    grey = (picture @ np.array([0.2126, 0.7152, 0.0722]))[..., None]
    overlay = (0.06 + 0.7 * grey) * (1 - amount) + color * amount
    strong = _enlarge(strength >= 0.5, scale)
    overlay = _contour(overlay, strong if blind is None else strong & ~blind)
    if blind is not None:
        color, overlay = (_outline(_hatch(layer, blind), blind) for layer in (color, overlay))
    return Pictures(_bytes(image), _bytes(color), _bytes(overlay), signed)


@drawing()
def explanation_figure(cases: Sequence[Case], blind_area: Mask | None = None) -> Figure:
    """Return ``cases`` side by side: image, map, overlay, true and predicted class, confidence.

    The maps of further methods follow; then each map has its method's name.

    Args:
        cases: one or more explained decisions, all with the same further methods.
        blind_area: bool (H, W), True where the network cannot see: hatched and outlined.
    """
    side, gap, words = 112, 8, 65 if any(case.explained for case in cases) else 48
    panels_each = 3 + len(cases[0].further)
    block = panels_each * side + (panels_each - 1) * gap
    across = 1 if len(cases) < 3 or panels_each > 4 else 2 if len(cases) < 9 else 3
    down = math.ceil(len(cases) / across)
    width = across * block + (across - 1) * 34 + 32
    head = 12 if any(further.explained == NO_CLASS for further in cases[0].further) else 0
    height = down * (side + words + 14) + 40 + head
    figure = new_figure(width, height, arranged=False)
    for place, case in enumerate(cases):
        row, column = divmod(place, across)
        left = 16 + column * (block + 34)
        top = height - 24 - head - row * (side + words + 14)
        lines = [f"true: {shown(case.true_class)}", f"predicted: {prediction(case)}"]
        if case.explained == NO_CLASS:
            lines.append(f"map: {WHERE}")
        elif case.explained:
            lines.append(f"map: evidence for {shown(case.explained, 2 * LONGEST_NAME)}")
        for number, line in enumerate(lines):
            figure.text(
                left / width,
                (top - 14 - 17 * number) / height,
                line,
                color=INK,
                fontweight="bold" if number == 1 else "normal",
                fontsize=11.5,
            )
        pictures = case_pictures(case, blind_area)
        panels = [
            ("image", "", pictures.image),
            (shown(case.method) if case.further and case.method else "map", "", pictures.map),
            ("overlay", "", pictures.overlay),
        ]
        for further in case.further:
            note = f"({NO_CLASS})" if further.explained == NO_CLASS else ""
            pixels = case_pictures(as_case(case, further), blind_area).map
            panels.append((shown(further.method), note, pixels))
        for number, (name, note, pixels) in enumerate(panels):
            x, y = left + number * (side + gap), top - words + 8 - side
            axes = figure.add_axes((x / width, y / height, side / width, side / height))
            panel(axes, pixels)
            for above, text in enumerate((name, note) if row == 0 else ()):
                figure.text(
                    (x + side / 2) / width,
                    (height - 18 - head + 14 * above) / height,
                    text,
                    color=MUTED,
                    fontsize=11 if len(text) < 17 else 9.5,
                    ha="center",
                )
    return figure


def prediction(case: Case) -> str:
    """Return the predicted class of a case and its confidence, e.g. ``Shirt, 97.3 %``."""
    return f"{shown(case.predicted_class)}, {confidence(case.confidence)}"


def confidence(value: float) -> str:
    """Return a probability in percent, e.g. ``97.3 %``; one below 1 is not rounded up to 100."""
    if math.isfinite(value) and value < 1 and f"{100 * value:.1f}" == "100.0":
        return "over 99.9\u00a0%"
    return f"{100 * value:.1f}\u00a0%"


def evidence_scale() -> Pixels:
    """Return the colours of a map from least to most evidence, uint8 (1, 256, 3)."""
    return _bytes(np.asarray(EVIDENCE(np.linspace(0, 1, 256)))[None, :, :3])


def hatching() -> Pixels:
    """Return a sample of the hatching that marks what the network cannot see, uint8 (30, 60, 3)."""
    return _bytes(_hatch(np.zeros((30, 60, 3)), np.ones((30, 60), dtype=bool)))


def blind_marked(pixels: Pixels, blind_area: Mask, *, hatched: bool = True) -> Pixels:
    """Return an enlarged picture with the part that the network cannot see marked.

    Args:
        pixels: uint8 (n H, n W, 3), each pixel of the image enlarged n times.
        blind_area: bool (H, W), True where the network cannot see: outlined.
        hatched: hatch it too, as on maps; on the image itself one wants to see what lies there.
    """
    blind = _enlarge(blind_area, pixels.shape[0] // blind_area.shape[0])
    layer = pixels / 255.0
    return _bytes(_outline(_hatch(layer, blind) if hatched else layer, blind))


def panel(axes: Axes, pixels: Pixels | None, empty: str = NO_EVIDENCE_LINES) -> None:
    """Draw a picture without axes, or an empty frame that says ``empty`` where there is none."""
    if pixels is not None:
        axes.imshow(pixels, interpolation="none", aspect="equal")
        bare(axes)
        return
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(RULE)
    axes.text(
        0.5,
        0.5,
        empty,
        ha="center",
        va="center",
        fontsize=9,
        color=MUTED,
        transform=axes.transAxes,
    )


def _enlarge(pixels: npt.NDArray[T], scale: int) -> npt.NDArray[T]:
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def _bytes(layer: npt.NDArray[np.float64]) -> Pixels:
    return (255 * np.clip(layer, 0, 1)).round().astype(np.uint8)


def _edge(mask: Mask, reach: int) -> Mask:
    """Return the pixels of ``mask`` within ``reach`` of its border; the picture's edge is none."""
    inside = mask.copy()
    padded = np.pad(mask, reach, mode="edge")
    height, width = mask.shape
    for down in range(2 * reach + 1):
        for across in range(2 * reach + 1):
            inside &= padded[down : down + height, across : across + width]
    return mask & ~inside


def _contour(layer: npt.NDArray[np.float64], mask: Mask) -> npt.NDArray[np.float64]:
    drawn = layer.copy()
    drawn[_edge(~mask, 1)] = 0.05
    drawn[_edge(mask, 2)] = 1.0
    return drawn


def _outline(layer: npt.NDArray[np.float64], blind: Mask) -> npt.NDArray[np.float64]:
    drawn = layer.copy()
    drawn[_edge(blind, 2)] = 0.62
    return drawn


def _hatch(layer: npt.NDArray[np.float64], blind: Mask) -> npt.NDArray[np.float64]:
    """Return ``layer`` with the blind part greyed and crossed by slanted lines."""
    rows, columns = np.indices(blind.shape)
    phase = (rows + columns) % _HATCH
    drawn = layer.copy()
    drawn[blind] = 0.35 * drawn[blind] + 0.65 * 0.22
    drawn[blind & (phase < 2)] = 0.62
    return drawn
