"""What every source of images goes through: limits, names, checksum, the contract."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedlens.data.dataset import SPLITS, ImageDataset, validate
from fedlens.errors import DataError, DataNotFoundError

MAX_BYTES = 4 * 2**30
"""Largest file, and largest sum of decompressed arrays of one file, that is read: 4 GiB."""

DEFLATE_RATIO = 1032
"""Deflate, the method of gzip and zip, cannot shrink data more than this many times."""

MAX_CLASSES = 10_000
MAX_GROUPS = 1_000_000
MAX_NAME = 200  # characters; longer ones do not fit a table or a figure


def regular_file(path: Path) -> int:
    """Return the size of ``path`` in bytes if it is a regular file of at most ``MAX_BYTES``.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: it is larger than ``MAX_BYTES``, or may not be looked at.
    """
    try:
        if not path.is_file():
            raise DataNotFoundError(f"There is no file {path}; check the path.")
        size = path.stat().st_size
    except OSError as error:
        raise unreadable(path, error) from error
    if size > MAX_BYTES:
        raise DataError(f"{path} is {size:,} bytes long, expected at most {MAX_BYTES:,}.")
    return size


def unreadable(path: Path, error: OSError) -> DataError:
    """Return the error that says why the operating system would not let ``path`` be read."""
    return DataError(f"Could not read {path}: {error.strerror or error}.")


def check_names(names: Sequence[str], what: str, where: Path | str) -> tuple[str, ...]:
    """Return ``names`` as a tuple if each can be shown in a table: distinct, printable, not empty.

    Raises:
        DataError: names ``where``, ``what`` (e.g. "class") and the offending name.
    """
    for name in names:
        if not name.strip() or not name.isprintable() or len(name) > MAX_NAME:
            raise DataError(
                f"{where}: {name[:MAX_NAME]!r} cannot be the name of a {what}, expected 1 to "
                f"{MAX_NAME} printable characters."
            )
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{where}: the {what} name {name!r} occurs twice, expected it once.")
        seen.add(name)
    return tuple(names)


def finished(dataset: ImageDataset, where: Path | str) -> ImageDataset:
    """Return ``dataset`` with its checksum filled in, once it keeps the contract of image sets.

    The checksum is the SHA-256 of the bytes of the train images, train labels, validation images,
    validation labels, test images and test labels, in C order, labels as little-endian int64 (or
    uint8 for a multi-label task).

    Raises:
        DataError: see :func:`fedlens.data.dataset.validate`.
    """
    validate(dataset, where)
    digest = hashlib.sha256()
    for name in SPLITS:
        split = dataset.split(name)
        digest.update(split.images.contiguous().numpy().data)
        digest.update(split.labels.contiguous().numpy().data)
    return replace(dataset, checksum=digest.hexdigest())
