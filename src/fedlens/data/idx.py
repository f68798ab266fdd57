"""The IDX format of MNIST and its successors: a magic number, the dimensions, the bytes.

The format: two zero bytes, one byte for the type, one for the number of dimensions, each dimension
as a big-endian 32-bit number, then the values in C order, big-endian. Files may be gzipped; that is
seen from their content, not from their name.
"""

import gzip
import hashlib
import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlens.data.checks import DEFLATE_RATIO, MAX_BYTES, regular_file, unreadable
from fedlens.errors import DataError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_DIMENSIONS = 4  # (N, H, W, C) is the largest that an image set needs
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(
    path: Path, *, shape: tuple[int, ...] | None = None, sha256: str | None = None
) -> npt.NDArray[Any]:
    """Return the array of an IDX file, gzipped or not, in native byte order.

    Never reads more than the header announces (and one byte, to see that the file ends there).

    Args:
        path: the file.
        shape: dimensions that the header must announce, or None for any.
        sha256: hex digest that the *uncompressed* bytes must have, or None for no check.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: the file is unreadable, has another magic number, shape, length or checksum, or
            its gzip wrapper is damaged; the sentence names the file and what was expected.
    """
    size = regular_file(path)
    try:
        with _uncompressed(path) as (stream, gzipped):
            header, dtype, dims = _header(stream, path)
            if shape is not None and dims != shape:
                raise DataError(f"{path}: the header announces {dims}, expected {shape}.")
            expected = math.prod(dims) * dtype.itemsize
            if expected > MAX_BYTES:
                raise DataError(
                    f"{path}: the header announces {expected:,} bytes, expected at most "
                    f"{MAX_BYTES:,}."
                )
            if expected > size * (DEFLATE_RATIO if gzipped else 1):
                raise DataError(
                    f"{path} is truncated: its {size:,} bytes cannot hold the {expected:,} that "
                    "the header announces."
                )
            content = _exactly(stream, expected, path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is a truncated or damaged gzip file ({error}); fetch it again."
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
    if sha256 is not None:
        digest = hashlib.sha256(header)
        digest.update(content.data)
        if digest.hexdigest() != sha256:
            raise DataError(
                f"{path}: the uncompressed bytes have the SHA-256 {digest.hexdigest()}, expected "
                f"{sha256}; fetch the official file again, or load this copy under another name."
            )
    array = content.view(dtype).reshape(dims)
    return array.astype(dtype.newbyteorder("="), copy=False)


@contextmanager
def _uncompressed(path: Path) -> Iterator[tuple[io.BufferedIOBase, bool]]:
    with path.open("rb") as file:
        gzipped = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        if gzipped:
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream, True
        else:
            yield file, False


def _header(stream: io.BufferedIOBase, path: Path) -> tuple[bytes, np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    known = len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in _TYPES
    if not known or not 1 <= magic[3] <= _MOST_DIMENSIONS:
        raise DataError(
            f"{path} starts with the bytes {magic.hex(' ') or '(none)'}, expected the magic number "
            f"of an IDX file: 00 00, a type, and 1 to {_MOST_DIMENSIONS} dimensions."
        )
    rest = stream.read(4 * magic[3])
    if len(rest) < 4 * magic[3]:
        raise DataError(f"{path} is truncated: it ends inside its header of IDX dimensions.")
    return magic + rest, np.dtype(_TYPES[magic[2]]), struct.unpack(f">{magic[3]}I", rest)


def _exactly(stream: io.BufferedIOBase, expected: int, path: Path) -> npt.NDArray[np.uint8]:
    content = np.empty(expected, dtype=np.uint8)
    view = content.data
    got = 0
    while got < expected:
        read = stream.readinto(view[got:])
        if not read:
            raise DataError(
                f"{path} is truncated: it holds {got:,} bytes of values, expected {expected:,}."
            )
        got += read
    # Reading on to the end also makes gzip compare its own checksum.
    if stream.read(1):
        raise DataError(f"{path} is longer than the {expected:,} bytes that its header announces.")
    return content
