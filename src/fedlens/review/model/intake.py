"""Images from outside: uploads and folders, checked before a single pixel is decoded.

What comes in is a PNG, JPEG or TIFF by its content, whatever its name says; of one picture, whole,
with nothing after its end, of at most :data:`LARGEST_BYTES` bytes and :data:`LARGEST_PIXELS` pixels.
The picture is then read as an import of a folder reads it (:mod:`fedlens.data.images`). Nothing is
written to the disk.
"""

import io
import os
import re
import stat
import zipfile
from pathlib import Path, PurePosixPath

from torch import Tensor

from fedlens.data.images import SUFFIXES, as_image, decode_picture
from fedlens.errors import DataError
from fedlens.review.contract import NotFoundError, ReviewError
from fedlens.review.model.containers import (
    JPEG_START,
    PNG_START,
    TIFF_STARTS,
    DamagedError,
    Outline,
    jpeg_outline,
    png_outline,
    tiff_outline,
)

LARGEST_BYTES = 10_000_000
LARGEST_PIXELS = 16_000_000
MOST_IMAGES = 100_000
"""Images that a folder may hold."""

_SNIFFED = 1024  # bytes within which a browser or a PDF reader looks for what a file is
_MARKUP = re.compile(rb"<\s*(!doctype|html|head|body|script|svg|iframe|\?xml|\?php)", re.IGNORECASE)


class TooLargeError(ReviewError):
    """An image of too many bytes or pixels."""

    status = 413


class WrongTypeError(ReviewError):
    """Something that is not a PNG, JPEG or TIFF image, or not only one."""

    status = 415


class UnreadableError(ReviewError):
    """An image that is damaged, or not a single picture."""

    status = 422


def read_upload(data: bytes, *, size: int, channels: int) -> Tensor:
    """Return an uploaded image as the network is given it: uint8 (channels, size, size).

    Args:
        data: the whole file.
        size: height and width of the result in pixels.
        channels: 1 or 3.

    Raises:
        TooLargeError: more bytes or pixels than are allowed (413).
        WrongTypeError: not a PNG, JPEG or TIFF, or another kind of file as well (415).
        UnreadableError: empty, truncated, damaged, animated, of several pages, or with bytes after
            its end (422).
    """
    check_upload(data)
    return decode_checked(data, size=size, channels=channels)


def decode_checked(data: bytes, *, size: int, channels: int) -> Tensor:
    """Do as :func:`read_upload` with a file that :func:`check_upload` let through."""
    try:
        return as_image(decode_picture(io.BytesIO(data), size, "The image"), channels)
    except DataError as error:
        sentence = str(error).replace("; replace it or take it out of the folder", "")
        raise UnreadableError(sentence) from error


def check_upload(data: bytes) -> Outline:
    """Check everything that can be without decoding; raises as :func:`read_upload`."""
    if not data:
        raise UnreadableError("The file is empty, expected a PNG, JPEG or TIFF image.")
    if len(data) > LARGEST_BYTES:
        raise TooLargeError(
            f"The file has {len(data):,} bytes, expected at most {LARGEST_BYTES:,}."
        )
    try:
        if data.startswith(PNG_START):
            outline = png_outline(data)
        elif data.startswith(JPEG_START):
            outline = jpeg_outline(data)
        elif data.startswith(TIFF_STARTS):
            outline = tiff_outline(data)
        else:
            raise WrongTypeError(
                f"The file is {_what(data)}, expected a PNG, JPEG or TIFF image; its name does not "
                "matter, its content does."
            )
    except DamagedError as error:
        raise UnreadableError(
            f"The {error.kind} image is damaged or cut short: {error}; send it again."
        ) from error
    _check_outline(data, outline)
    return outline


def folder_images(folder: Path) -> list[str]:
    """Return the images below ``folder`` by their names relative to it, with slashes, in order.

    Hidden files and folders are passed over, and so are links: nothing leads out of the folder. An
    image is what ends in .png, .jpg, .jpeg, .tif or .tiff; its content is checked when it is read.

    Raises:
        ReviewError: it is no folder, cannot be read, or holds too many images.
    """
    if not folder.is_dir():
        raise ReviewError(f"{folder} is not a folder, expected one with images.")

    def complain(error: OSError) -> None:
        raise ReviewError(f"Could not read {error.filename}: {error.strerror}.") from error

    found: list[str] = []
    for place, folders, files in os.walk(folder, onerror=complain, followlinks=False):
        here = Path(place)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = here / name
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES or path.is_symlink():
                continue
            found.append(path.relative_to(folder).as_posix())
            if len(found) > MOST_IMAGES:
                raise ReviewError(
                    f"{folder} holds more than the {MOST_IMAGES:,} images that a folder may hold; "
                    "part it."
                )
    return sorted(found)


def read_folder_image(folder: Path, name: str, *, size: int, channels: int) -> Tensor:
    """Return the image called ``name`` (relative, as :func:`folder_images` lists it).

    Args:
        folder: as for :func:`folder_images`.
        name: relative to it, with slashes.
        size, channels: as for :func:`read_upload`.

    Raises:
        NotFoundError: there is no such image, or the name leads out of the folder.
        ReviewError: see :func:`read_upload`.
    """
    parts = PurePosixPath(name).parts
    inside = bool(parts) and not name.startswith("/") and "\0" not in name
    path = folder.joinpath(*parts) if inside else folder
    # Where a link leads is asked of the system: a name alone does not show it.
    if not inside or ".." in parts or path.resolve() != folder.resolve().joinpath(*parts):
        raise NotFoundError(f"{name!r} is not an image of the folder.")
    try:
        # Not waiting for the other end where the name is that of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise NotFoundError(f"{name!r} is not an image of the folder.")
            data = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise NotFoundError(
            f"The image {name} could not be read: {error.strerror or error}."
        ) from error
    try:
        return read_upload(data, size=size, channels=channels)
    except (TooLargeError, WrongTypeError, UnreadableError) as error:
        raise type(error)(f"{name}: {error}") from error


def _check_outline(data: bytes, outline: Outline) -> None:
    if outline.width < 1 or outline.height < 1:
        raise UnreadableError(f"The {outline.kind} image has no pixels.")
    if outline.width * outline.height > LARGEST_PIXELS:
        raise TooLargeError(
            f"The image has {outline.width:,} x {outline.height:,} pixels, expected at most "
            f"{LARGEST_PIXELS:,}."
        )
    if outline.pictures > 1:
        raise UnreadableError(
            f"The {outline.kind} file is animated or holds several pages, expected a single picture."
        )
    other = _other_kind(data)
    if other:
        raise WrongTypeError(
            f"The {outline.kind} image is also {other}; save it again as an image and nothing else."
        )
    if outline.end < len(data):
        raise UnreadableError(
            f"{len(data) - outline.end:,} bytes follow the end of the {outline.kind} image; save it "
            "again as an image and nothing else."
        )


def _other_kind(data: bytes) -> str:
    """Return what else a reader of other files would take ``data`` for; empty for nothing."""
    if zipfile.is_zipfile(io.BytesIO(data)):
        return "a ZIP archive"
    if b"%PDF-" in data[:_SNIFFED]:
        return "a PDF document"
    if _MARKUP.search(data[:_SNIFFED]):
        return "a document of HTML or XML"
    return ""


def _what(data: bytes) -> str:
    """Return in words what ``data``, which is no image that is taken, seems to be."""
    starts = {
        b"GIF8": "a GIF",
        b"BM": "a BMP",
        b"RIFF": "a WebP or another RIFF file",
        b"%PDF-": "a PDF document",
        b"PK\x03\x04": "a ZIP archive",
        b"\x1f\x8b": "a gzip archive",
    }
    for start, words in starts.items():
        if data.startswith(start):
            return words
    if data[128:132] == b"DICM":
        return "a DICOM file"
    if b"<svg" in data[:_SNIFFED].lower():
        return "an SVG drawing"
    if _MARKUP.search(data[:_SNIFFED]):
        return "a document of HTML or XML"
    return "of another kind"
