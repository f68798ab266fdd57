"""PNG pictures of images, maps and their legend: fixed colours on a fixed scale.

Colours are those of cividis, which reads the same with the common colour deficiencies. A map's scale
is given, never its own: two maps of one method can be compared. Signed maps have zero in the middle.
"""

import io
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from fedlens.report.style import EVIDENCE
from fedlens.review.contract import ReviewError

LARGEST_ENLARGEMENT = 64
_HATCH_EVERY = 4  # pixels of the picture between two lines over the blind area
_HATCH = (89, 99, 110, 255)


def image_png(image: Tensor, *, enlarge: int = 1) -> bytes:
    """Return an image uint8 (C, H, W), C of 1 or 3, as a PNG ``enlarge`` times as large.

    Enlarged pixels are squares (nearest neighbour): nothing is smoothed that the network did not see
    smooth.

    Raises:
        ReviewError: it is no such image, or the enlargement is not 1 to 64.
    """
    _check_enlargement(enlarge)
    if image.dim() != 3 or image.shape[0] not in (1, 3):
        raise ReviewError(f"The image is {tuple(image.shape)}, expected (1 or 3, H, W).")
    pixels = image.cpu().permute(1, 2, 0).contiguous().numpy()
    return _png(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), enlarge)


def map_png(
    values: Tensor,
    *,
    scale: float,
    signed: bool,
    enlarge: int = 1,
    blind_area: Tensor | None = None,
    see_through: bool = True,
) -> bytes:
    """Return a map float (H, W) as a PNG with an alpha channel, ``enlarge`` times as large.

    Args:
        values: not normalised; what is not finite is fully transparent.
        scale: the value that has the last colour, above 0; larger values have that colour too. See
            :meth:`fedlens.review.model.Examiner.scale`.
        signed: colours run from -scale to scale, with zero in the middle; else from 0 to scale.
        enlarge: 1 to 64; each pixel becomes a square.
        blind_area: bool (H, W), hatched where True and without colour: the network cannot see it.
        see_through: pixels are more opaque the stronger their evidence, by the square root, so that
            the image shows where there is none and weak evidence can still be found; else all are
            opaque. Either way a page may lay the picture over the image with an opacity of its own.

    Raises:
        ReviewError: the scale is not above 0, or the shapes do not fit together.
    """
    _check_enlargement(enlarge)
    if not 0 < scale < float("inf"):
        raise ReviewError(f"The scale of a map is {scale}, expected a number above 0.")
    array = values.detach().double().cpu().numpy()
    finite = np.isfinite(array)
    share = np.clip(np.where(finite, array, 0.0) / scale, -1.0 if signed else 0.0, 1.0)
    rgba = np.empty((*array.shape, 4), dtype=np.uint8)
    rgba[..., :3] = _colours()[_index((share + 1) / 2 if signed else share)]
    strength = np.sqrt(np.abs(share)) if see_through else np.ones_like(share)
    rgba[..., 3] = np.where(finite, np.rint(255 * strength), 0)
    large = rgba.repeat(enlarge, 0).repeat(enlarge, 1)
    if blind_area is not None:
        _hatch(large, blind_area, array.shape, enlarge)
    return _png(Image.fromarray(large, "RGBA"), 1)


def legend_png(*, signed: bool, width: int = 256, height: int = 12) -> bytes:
    """Return the colours of a map from its least value (left) to its largest, opaque.

    The colours of a signed map are the same: its middle is zero. See :func:`legend`.
    """
    row = _colours()[_index(np.linspace(0, 1, width))]
    return _png(Image.fromarray(np.repeat(row[None], height, 0)), 1)


def legend(scale: float, *, signed: bool) -> list[tuple[float, str]]:
    """Return the marks of a legend: place from 0 (left) to 1 (right), and what stands there.

    The ends are open: a stronger value has the colour of the end.
    """
    top = f"{scale:.3g}"
    if signed:
        return [(0.0, f"≤ −{top}"), (0.5, "0"), (1.0, f"≥ {top}")]
    return [(0.0, "0"), (0.5, f"{scale / 2:.3g}"), (1.0, f"≥ {top}")]


@cache
def _colours() -> npt.NDArray[np.uint8]:
    colours: npt.NDArray[np.uint8] = np.rint(255 * EVIDENCE(np.arange(256))[:, :3]).astype(np.uint8)
    return colours


def _index(share: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    return np.rint(255 * share).astype(np.intp)


def _hatch(
    picture: npt.NDArray[np.uint8], blind_area: Tensor, shape: tuple[int, ...], enlarge: int
) -> None:
    """Clear the blind area of ``picture`` and draw slanted lines over it."""
    if tuple(blind_area.shape) != shape:
        raise ReviewError(
            f"The blind area is {tuple(blind_area.shape)} and the map {shape}, expected one shape."
        )
    blind = blind_area.cpu().numpy().repeat(enlarge, 0).repeat(enlarge, 1)
    rows, columns = np.indices(blind.shape)
    lines = (rows + columns) % max(_HATCH_EVERY, enlarge) == 0
    picture[blind] = 0
    picture[blind & lines] = _HATCH


def _check_enlargement(enlarge: int) -> None:
    if not 1 <= enlarge <= LARGEST_ENLARGEMENT:
        raise ReviewError(
            f"The enlargement is {enlarge}, expected a whole number from 1 to {LARGEST_ENLARGEMENT}."
        )


def _png(picture: Image.Image, enlarge: int) -> bytes:
    if enlarge > 1:
        size = (picture.width * enlarge, picture.height * enlarge)
        picture = picture.resize(size, Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()
