"""NumPy archives (.npz) that may come from anywhere: read without pickle and within limits.

``numpy.load`` trusts the sizes that a file announces. Here the sizes in the archive's directory, in
the header of each array and in the bytes that really come out must agree before anything is used.
"""

import hashlib
import math
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fedlens.data.checks import DEFLATE_RATIO, MAX_BYTES, regular_file, unreadable
from fedlens.errors import DataError
from fedlens.files import atomic_writer

_KINDS = "biufU"  # booleans, integers, floats and text; never Python objects
_NPY_VERSION = (1, 0)  # what numpy writes for plain arrays; its header is at most 64 KiB
_CHUNK_BYTES = 2**20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npz(
    path: Path, names: Collection[str], *, md5: str | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Return those arrays of an archive whose name is in ``names``; the others are not read.

    Args:
        path: the archive.
        names: array names, without ``.npy``.
        md5: hex digest that the whole file must have, or None for no check.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: the file is not an archive, is truncated or damaged, has another checksum, holds
            Python objects, or announces sizes that do not match or exceed ``MAX_BYTES``.
    """
    size = regular_file(path)
    try:
        with path.open("rb") as file:
            if md5 is not None:
                _check_md5(file, md5, path)
            with zipfile.ZipFile(file) as archive:
                wanted = _wanted(archive, names, size, path)
                return {name: _array(archive, info, path) for name, info in wanted.items()}
    except DataError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        # RuntimeError covers encrypted members and methods that zipfile does not know.
        raise DataError(
            f"{path} is not an intact .npz archive ({error}); fetch or write it again."
        ) from error


def write_npz(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a compressed archive atomically; equal arrays give equal bytes.

    Raises:
        RunError: the folder is missing or read-only, or the disk is full.
    """
    with atomic_writer(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _check_md5(file: IO[bytes], md5: str, path: Path) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    file.seek(0)
    if digest.hexdigest() != md5:
        raise DataError(
            f"{path} has the MD5 {digest.hexdigest()}, expected the official {md5}; fetch the "
            "official file again, or load this copy by its path under another name."
        )


def _wanted(
    archive: zipfile.ZipFile, names: Collection[str], size: int, path: Path
) -> dict[str, zipfile.ZipInfo]:
    wanted: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name not in names or name == info.filename:
            continue
        if name in wanted:
            raise DataError(f"{path}: the archive holds {info.filename} twice, expected it once.")
        if info.compress_type not in _METHODS or info.flag_bits & 1:
            raise DataError(
                f"{path}: {info.filename} is encrypted or packed in an unusual way, expected an "
                "archive as numpy.savez or numpy.savez_compressed writes it."
            )
        if info.file_size > min(info.compress_size, size) * DEFLATE_RATIO:
            raise DataError(
                f"{path}: {info.filename} claims to unpack to {info.file_size:,} bytes, more than "
                f"its {info.compress_size:,} packed bytes can hold."
            )
        wanted[name] = info
    total = sum(info.file_size for info in wanted.values())
    if total > MAX_BYTES:
        raise DataError(f"{path} would unpack to {total:,} bytes, expected at most {MAX_BYTES:,}.")
    return wanted


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> npt.NDArray[Any]:
    with archive.open(info) as member:
        shape, fortran, dtype, header = _npy_header(member, f"{path}: {info.filename}")
        expected = math.prod(shape) * dtype.itemsize
        if header + expected != info.file_size:
            raise DataError(
                f"{path}: {info.filename} is {info.file_size:,} bytes long, expected "
                f"{header + expected:,} for an array of {dtype} {shape}."
            )
        content = np.empty(expected, dtype=np.uint8)
        view = content.data
        got = 0
        while got < expected:
            part = member.read(min(expected - got, _CHUNK_BYTES))
            if not part:
                raise DataError(
                    f"{path}: {info.filename} is truncated: it holds {got:,} bytes of values, "
                    f"expected {expected:,}."
                )
            view[got : got + len(part)] = part
            got += len(part)
        # zipfile itself has compared the checksum with the last byte that the directory claims.
    array = content.view(dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _npy_header(member: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    try:
        version = np.lib.format.read_magic(member)
        if version != _NPY_VERSION:
            raise ValueError(f"version {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
    except (OSError, zipfile.BadZipFile, zlib.error):
        raise
    except Exception as error:
        # numpy parses the header as Python text; from wrong bytes anything may come out of that.
        raise DataError(
            f"{where} has no header of a NumPy array of version 1.0, expected a file that "
            "numpy.save writes."
        ) from error
    if dtype.kind not in _KINDS or dtype.hasobject or dtype.itemsize == 0:
        raise DataError(
            f"{where} holds values of type {dtype}, expected integers, floats or text (Python "
            "objects are never unpickled)."
        )
    if any(length < 0 for length in shape):
        raise DataError(f"{where} announces the shape {shape}, expected no negative length.")
    return shape, fortran, dtype, member.tell()
