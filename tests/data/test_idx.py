"""The IDX reader against files that are written here byte by byte."""

import gzip
import hashlib
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedlens.data.idx import read_idx
from fedlens.errors import DataError, DataNotFoundError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
IN_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(
        f">BBBB{array.ndim}I", 0, 0, CODES[array.dtype.str[1:]], array.ndim, *array.shape
    )
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def written(folder: Path, content: bytes, name: str = "file-idx") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


arrays = st.sampled_from(sorted(CODES)).flatmap(
    lambda code: hnp.arrays(
        np.dtype(code), hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
    )
)


@IN_FOLDER
@given(array=arrays, zipped=st.booleans())
def test_any_array_comes_back(tmp_path: Path, array: np.ndarray, zipped: bool) -> None:
    content = idx_bytes(array)
    path = written(tmp_path, gzip.compress(content) if zipped else content)
    digest = hashlib.sha256(content).hexdigest()
    read = read_idx(path, shape=array.shape, sha256=digest)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@IN_FOLDER
@given(data=st.data(), array=arrays, zipped=st.booleans())
def test_damage_is_a_data_error_or_an_array(
    tmp_path: Path, data: st.DataObject, array: np.ndarray, zipped: bool
) -> None:
    content = bytearray(idx_bytes(array))
    if zipped:
        content = bytearray(gzip.compress(bytes(content)))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            bit = data.draw(st.integers(0, 8 * len(content) - 1))
            content[bit // 8] ^= 1 << bit % 8
    path = written(tmp_path, bytes(content))
    try:
        read = read_idx(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert 1 <= read.ndim <= 4


SMALL = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_truncated_file_says_so(tmp_path: Path, zipped: bool) -> None:
    content = idx_bytes(SMALL)
    content = gzip.compress(content)[:-12] if zipped else content[:-1]
    path = written(tmp_path, content)
    with pytest.raises(DataError, match="truncated") as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "magic",
    [
        b"\1\0\x08\3",
        b"\0\1\x08\3",
        b"\0\0\x07\3",
        b"\0\0\x08\0",
        b"\0\0\x08\5",
        b"\x89PNG",
        b"\0",
        b"",
    ],
)
def test_another_magic_number_is_refused(tmp_path: Path, magic: bytes) -> None:
    path = written(tmp_path, magic + idx_bytes(SMALL)[4:] if len(magic) == 4 else magic)
    with pytest.raises(DataError, match="expected the magic number of an IDX file"):
        read_idx(path)


def test_a_header_that_ends_early_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ends inside its header"):
        read_idx(written(tmp_path, idx_bytes(SMALL)[:9]))


def test_other_dimensions_than_expected_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"announces \(2, 3, 4\), expected \(2, 4, 3\)"):
        read_idx(written(tmp_path, idx_bytes(SMALL)), shape=(2, 4, 3))


def test_another_checksum_is_refused_even_where_one_bit_differs(tmp_path: Path) -> None:
    content = bytearray(idx_bytes(SMALL))
    digest = hashlib.sha256(content).hexdigest()
    content[-1] ^= 1
    with pytest.raises(DataError, match=f"expected {digest}"):
        read_idx(written(tmp_path, gzip.compress(bytes(content))), sha256=digest)


def test_bytes_after_the_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="longer than the 24 bytes"):
        read_idx(written(tmp_path, idx_bytes(SMALL) + b"\0"))


def test_a_gzip_checksum_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(idx_bytes(SMALL)))
    content[-8] ^= 1  # the CRC of the content, which itself is intact
    with pytest.raises(DataError, match="damaged gzip"):
        read_idx(written(tmp_path, bytes(content)))


@pytest.mark.parametrize("zipped", [False, True])
def test_a_header_cannot_ask_for_memory_that_the_file_cannot_fill(
    tmp_path: Path, zipped: bool
) -> None:
    for sides in ((2**32 - 1,) * 3, (2**30, 1, 1)):
        content = struct.pack(">BBBB3I", 0, 0, 8, 3, *sides) + bytes(100)
        path = written(tmp_path, gzip.compress(content) if zipped else content)
        with pytest.raises(DataError, match="announces"):
            read_idx(path)


def test_a_gzip_bomb_is_not_unpacked_beyond_the_header(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(idx_bytes(SMALL) + bytes(30_000_000), compresslevel=1))
    tracemalloc.start()
    with pytest.raises(DataError, match="longer"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_what_is_not_a_file_is_not_found(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataNotFoundError, match="There is no file"):
            read_idx(path)
