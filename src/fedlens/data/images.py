"""One picture file, from anywhere, as a small uint8 array."""

import struct
import warnings
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from fedlens.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "TIFF")
_COLOUR_MODES = ("RGB", "P", "CMYK", "YCbCr", "HSV")
_FULL_LIGHT_16 = 65_535


def read_picture(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """Return the picture in ``path`` as uint8 (size, size), or (size, size, 3) if it has colour.

    The whole picture is resized to a square with Pillow's antialiased bilinear filter: nothing is
    cropped or padded, so a picture that is not square is squeezed. Before that the orientation that
    its EXIF block asks for is applied, transparent parts are laid on black, palettes are looked up,
    and CMYK becomes RGB. 16-bit grey is scaled by its full range (65,535 becomes 255), never by the
    range that happens to occur; 32-bit grey must lie in that range, floats in [0, 1]. A picture
    whose three channels are equal everywhere is grey, whatever its file calls itself.

    Args:
        path: a PNG, JPEG or TIFF file of one picture.
        size: height and width of the result in pixels.

    Raises:
        DataError: the file is empty, unreadable, of another format, of several pages, of a kind of
            colour or range of values that is not read, or of more pixels than Pillow's
            ``MAX_IMAGE_PIXELS`` allows.
    """
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty, expected a PNG, JPEG or TIFF picture.")
    except OSError as error:
        raise _unreadable(path, error) from error
    return decode_picture(path, size, path)


def decode_picture(source: Path | IO[bytes], size: int, name: Path | str) -> npt.NDArray[np.uint8]:
    """Do as :func:`read_picture` with a file or an open one, which sentences call ``name``.

    Raises:
        DataError: see :func:`read_picture`.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of damaged notes beside the pixels, without naming the file.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=_FORMATS) as picture:
                if picture.format != "JPEG" and getattr(picture, "n_frames", 1) > 1:
                    raise DataError(f"{name} holds several pages, expected a single picture.")
                return _resized(ImageOps.exif_transpose(picture), size, name)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{name} has more pixels than the {Image.MAX_IMAGE_PIXELS:,} that a picture may have; "
            "make it smaller first."
        ) from error
    except Exception as error:
        # Pillow's decoders run over untrusted bytes and raise nearly anything when they go wrong.
        raise _unreadable(name, error) from error


def luma(colour: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the grey (H, W) of a colour picture (H, W, 3) by the weights of ITU-R BT.601."""
    return np.asarray(Image.fromarray(colour).convert("L"))


def _unreadable(name: Path | str, error: Exception) -> DataError:
    return DataError(
        f"{name} cannot be read as a PNG, JPEG or TIFF picture "
        f"({_reason(error)}); replace it or take it out of the folder."
    )


def _resized(picture: Image.Image, size: int, path: Path | str) -> npt.NDArray[np.uint8]:
    if picture.mode == "F" or picture.mode.startswith("I"):
        deep = Image.fromarray(_deep_grey(picture, path))
        small: npt.NDArray[np.float32] = np.asarray(
            deep.resize((size, size), Image.Resampling.BILINEAR)
        )
        return np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)
    flat = _flat(picture, path)
    array: npt.NDArray[np.uint8] = np.asarray(
        flat.resize((size, size), Image.Resampling.BILINEAR), dtype=np.uint8
    )
    if array.ndim == 3 and (array == array[..., :1]).all():
        array = np.ascontiguousarray(array[..., 0])
    return array


def _deep_grey(picture: Image.Image, path: Path | str) -> npt.NDArray[np.float32]:
    values = np.asarray(picture).astype(np.float32)
    top, kind = (1, "floats") if picture.mode == "F" else (_FULL_LIGHT_16, "whole numbers")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= top):
        raise DataError(
            f"{path} has grey values from {low:g} to {high:g}, expected {kind} from 0 to {top:,}."
        )
    return values / np.float32(top)


def _flat(picture: Image.Image, path: Path | str) -> Image.Image:
    if picture.has_transparency_data:
        opaque = picture.convert("RGBA")
        black = Image.new("RGBA", opaque.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, opaque).convert("RGB")
    if picture.mode in ("1", "L"):
        return picture.convert("L")
    if picture.mode in _COLOUR_MODES:
        return picture.convert("RGB")
    raise DataError(
        f"{path} has the colour mode {picture.mode}, expected grey, palette, RGB or CMYK."
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnidentifiedImageError):
        return "it is not one, whatever its name says"
    if isinstance(error, struct.error):
        return "it is damaged"
    return str(error) or type(error).__name__


def read_image(path: Path, *, size: int, channels: int) -> Tensor:
    """Return the picture in ``path`` as an image of a set: uint8 (channels, size, size).

    Raises:
        DataError: see :func:`read_picture`.
    """
    return as_image(read_picture(path, size), channels)


def as_image(picture: npt.NDArray[np.uint8], channels: int) -> Tensor:
    """Return a picture uint8 (H, W) or (H, W, 3) as an image of a set: uint8 (channels, H, W)."""
    if channels == 1:
        grey = luma(picture) if picture.ndim == 3 else picture
        return torch.from_numpy(grey.copy())[None]
    colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    return torch.from_numpy(colour.copy()).permute(2, 0, 1).contiguous()
