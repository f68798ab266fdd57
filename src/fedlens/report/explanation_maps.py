"""Maps as pictures: what speaks for the answer in one colour, what speaks against it in another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from fedlens.report.gallery import panel
from fedlens.report.style import INK, MUTED, drawing, new_figure

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]

# White is nothing; vermilion and blue are told apart with the common colour deficiencies, and each
# darkens evenly, so that strength can be read in grey.
SIGNED: Colormap = LinearSegmentedColormap.from_list(
    "fedlens-signed",
    ["#00395a", "#0072b2", "#8fc3e3", "#ffffff", "#f2b489", "#d55e00", "#6b2c00"],
    N=255,  # odd, so that zero is exactly white
)
_SCALE = 4  # the picture is enlarged so that no renderer smooths it
_LIT = 20  # of 255: the darkest value that belongs to a garment
_SIDE, _GAP = 56, 5
_CHARACTER = 6.2  # units that a letter of the column names takes


@dataclass(frozen=True, eq=False)
class PictureRow:
    """A row of pictures.

    Attributes:
        label: lines at its left; none where it goes on with the row above.
        pictures: as many as columns; None where there is nothing to paint.
    """

    label: Sequence[str]
    pictures: Sequence[Pixels | None]


def grey(image: Array) -> Pixels:
    """Return an image (H, W) or (C, H, W) of values up to 255, enlarged, uint8 RGB."""
    pixels = np.asarray(image, dtype=np.float64)
    pixels = np.moveaxis(pixels, 0, -1) if pixels.ndim == 3 else pixels[..., None]
    if pixels.shape[-1] != 3:
        pixels = pixels[..., :1].repeat(3, axis=-1)
    return _enlarged(np.clip(pixels, 0, 255).round().astype(np.uint8))


def painted(heatmap: Array, image: Array | None = None) -> Pixels | None:
    """Return a map (H, W) scaled to its own strongest pixel, uint8 RGB; None if degenerate.

    Args:
        heatmap: evidence for the answer is positive.
        image: (H, W) or (C, H, W); the outline of what is bright on it is drawn in grey.
    """
    values = np.asarray(heatmap, dtype=np.float64)
    if not np.isfinite(values).all() or not values.any():
        return None
    color = np.asarray(SIGNED(0.5 + 0.5 * values / np.abs(values).max()))[..., :3]
    pixels = _enlarged((255 * color).round().astype(np.uint8))
    if image is not None:
        bright = np.asarray(image, dtype=np.float64)
        bright = bright.max(0) if bright.ndim == 3 else bright
        from scipy import ndimage  # a third of a second of start-up, rarely needed

        pixels[_border(_enlarged(ndimage.binary_fill_holes(bright > _LIT)))] = 150
    return pixels


@drawing()
def pictures_figure(columns: Sequence[str], rows: Sequence[PictureRow]) -> Figure:
    """Return rows of pictures under slanted column names, with a scale of the colours below.

    Without column names the pictures are no maps, and there is no scale.
    """
    left = 20 + max((int(_CHARACTER * len(line)) for row in rows for line in row.label), default=0)
    longest = max((len(name) for name in columns), default=0)
    head = 8 if not columns else 16 + int(0.72 * _CHARACTER * longest)
    right = 12 if not columns else 12 + int(0.72 * _CHARACTER * len(columns[-1]))
    across = max(len(row.pictures) for row in rows)
    breaks = [bool(row.label) and place > 0 for place, row in enumerate(rows)]
    width = left + across * (_SIDE + _GAP) + right
    height = head + len(rows) * (_SIDE + _GAP) + 8 * sum(breaks) + (42 if columns else 4)
    figure = new_figure(width, height, arranged=False)
    for place, name in enumerate(columns):
        x = left + place * (_SIDE + _GAP) + _SIDE / 2 - 6
        figure.text(
            x / width, (height - head + 6) / height, name,
            rotation=45, ha="left", va="bottom", rotation_mode="anchor", fontsize=10.5, color=INK,
        )  # fmt: skip
    top = float(head)
    for row, apart in zip(rows, breaks, strict=True):
        top += 8 if apart else 0
        for number, line in enumerate(row.label):
            figure.text(
                4 / width, (height - top - 15 - 15 * number) / height, line,
                fontsize=10.5, color=INK if number == 0 else MUTED,
            )  # fmt: skip
        for place, pixels in enumerate(row.pictures):
            x, y = left + place * (_SIDE + _GAP), height - top - _SIDE
            axes = figure.add_axes((x / width, y / height, _SIDE / width, _SIDE / height))
            panel(axes, pixels, "no\nmap")
        top += _SIDE + _GAP
    if columns:
        _scale(figure, left, width, height)
    return figure


def _scale(figure: Figure, left: float, width: float, height: float) -> None:
    """Draw what the colours mean along the bottom of ``figure``."""
    long = 110
    axes = figure.add_axes(((left + 62) / width, 10 / height, long / width, 12 / height))
    axes.imshow(np.asarray(SIGNED(np.linspace(0, 1, 111)))[None, :, :3], aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    for x, words, side in ((left + 56, "against", "right"), (left + 68 + long, "for", "left")):
        figure.text(x / width, 12 / height, words, ha=side, fontsize=10.5, color=MUTED)


def _enlarged(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return pixels.repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)


def _border(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the pixels of ``mask`` within two of one outside it."""
    inside = mask
    for _ in range(2):
        padded = np.pad(inside, 1, mode="edge")
        inside = (
            inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        )
    return mask & ~inside
