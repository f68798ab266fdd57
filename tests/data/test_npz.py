"""The archive reader against numpy's own writer, and against archives that lie."""

import hashlib
import os
import struct
import tracemalloc
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedlens.data import npz
from fedlens.data.npz import read_npz, write_npz
from fedlens.errors import DataError, DataNotFoundError, RunError

IN_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(sizes=(16, 32, 64)),
    hnp.unicode_string_dtypes(min_len=1, max_len=5),
)
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    )
)


def npy_bytes(array: np.ndarray) -> bytes:
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@IN_FOLDER
@given(array=arrays, compressed=st.booleans(), fortran=st.booleans())
def test_what_numpy_writes_comes_back(
    tmp_path: Path, array: np.ndarray, compressed: bool, fortran: bool
) -> None:
    if fortran and array.ndim:
        array = np.asfortranarray(array)
    path = tmp_path / "set.npz"
    (np.savez_compressed if compressed else np.savez)(path, first=array, second=SMALL)
    read = read_npz(path, ("first", "second", "third"))
    assert set(read) == {"first", "second"}
    assert read["first"].dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(read["first"], array)
    np.testing.assert_array_equal(read["second"], SMALL)


SMALL = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@IN_FOLDER
@given(data=st.data(), array=arrays, compressed=st.booleans())
def test_damage_is_a_data_error_or_the_same_arrays(
    tmp_path: Path, data: st.DataObject, array: np.ndarray, compressed: bool
) -> None:
    path = tmp_path / "set.npz"
    (np.savez_compressed if compressed else np.savez)(path, first=array)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            bit = data.draw(st.integers(0, 8 * len(content) - 1))
            content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    try:
        read = read_npz(path, ("first",))
    except DataError as error:
        assert str(path) in str(error)
    else:
        if "first" in read:  # its name may be what was damaged
            np.testing.assert_array_equal(read["first"], array)


@IN_FOLDER
@given(data=st.data(), array=arrays)
def test_a_damaged_array_in_an_intact_archive_is_a_data_error_or_an_array(
    tmp_path: Path, data: st.DataObject, array: np.ndarray
) -> None:
    content = bytearray(npy_bytes(array))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(content), 130) - 1))
        content[place] = data.draw(st.sampled_from(b"\0\1()[]{},'0123456789-LTrue<>|OUVMfbiu\xff"))
    path = zipped(tmp_path / "set.npz", {"first.npy": bytes(content)})
    try:
        read = read_npz(path, ("first",))
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert read["first"].dtype.kind in "biufU"


class Trap:
    """Unpickling this makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_python_objects_are_refused_and_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, first=np.array([Trap(tmp_path / "sprung")], dtype=object))
    with pytest.raises(DataError, match="never unpickled"):
        read_npz(path, ("first",))
    assert not (tmp_path / "sprung").exists()


def test_arrays_of_records_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", first=np.zeros(2, dtype=[("a", "i4"), ("b", "f4")]))
    with pytest.raises(DataError, match="expected integers, floats or text"):
        read_npz(tmp_path / "set.npz", ("first",))


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"not a zip file at all", bytes(1000)])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"set\.npz is not an intact \.npz archive"):
        read_npz(path, ("first",))


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="There is no file"):
        read_npz(tmp_path / "absent.npz", ("first",))


def test_the_checksum_is_of_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, first=SMALL)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    np.testing.assert_array_equal(read_npz(path, ("first",), md5=md5)["first"], SMALL)
    wrong = "0" * 32
    with pytest.raises(DataError, match=f"has the MD5 {md5}, expected the official {wrong}"):
        read_npz(path, ("first",), md5=wrong)


def test_a_header_that_claims_another_size_is_refused(tmp_path: Path) -> None:
    content = npy_bytes(SMALL).replace(b"(2, 3, 4)", b"(2, 3, 9)")
    path = zipped(tmp_path / "set.npz", {"first.npy": content})
    with pytest.raises(DataError, match="expected 182 for an array of uint8"):
        read_npz(path, ("first",))


def test_negative_lengths_are_refused_though_their_product_fits(tmp_path: Path) -> None:
    content = npy_bytes(SMALL).replace(b"(2, 3, 4)", b"(-2,-3,4)")
    with pytest.raises(DataError, match="no negative length"):
        read_npz(zipped(tmp_path / "set.npz", {"first.npy": content}), ("first",))


def test_text_of_no_width_cannot_claim_endless_length(tmp_path: Path) -> None:
    text = "{'descr': '<U0', 'fortran_order': False, 'shape': (999999999999,), }\n"
    header = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()
    with pytest.raises(DataError, match="values of type <U0"):
        read_npz(zipped(tmp_path / "set.npz", {"first.npy": header}), ("first",))


def test_a_directory_that_claims_more_than_deflate_can_pack_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "set.npz", {"first.npy": npy_bytes(SMALL)})
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\1\2")
    content[entry + 24 : entry + 28] = struct.pack("<I", 3_000_000_000)
    path.write_bytes(content)
    with pytest.raises(DataError, match="claims to unpack to 3,000,000,000 bytes"):
        read_npz(path, ("first",))


def test_a_real_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "set.npz"
    np.savez_compressed(path, first=np.zeros(20_000_000, np.uint8), second=SMALL)
    monkeypatch.setattr(npz, "MAX_BYTES", 10_000_000)
    tracemalloc.start()
    with pytest.raises(DataError, match="would unpack to 20,000,"):
        read_npz(path, ("first", "second"))
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    # An array that nobody asked for is not unpacked, and so does no harm.
    assert set(read_npz(path, ("second",))) == {"second"}


def test_a_member_that_unpacks_to_more_than_it_claims_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "set.npz", {"first.npy": npy_bytes(SMALL) + bytes(1000)})
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\1\2")
    content[entry + 24 : entry + 28] = struct.pack("<I", len(npy_bytes(SMALL)))
    path.write_bytes(content)
    with pytest.raises(DataError, match="not an intact"):
        read_npz(path, ("first",))


def test_the_same_array_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            archive.writestr("first.npy", npy_bytes(SMALL))
    with pytest.raises(DataError, match="twice"):
        read_npz(path, ("first",))


def test_unusual_packing_and_encryption_are_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "lzma.npz", {"first.npy": npy_bytes(SMALL)}, zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match="unusual"):
        read_npz(path, ("first",))
    path = zipped(tmp_path / "locked.npz", {"first.npy": npy_bytes(SMALL)})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        read_npz(path, ("first",))


def test_writing_is_repeatable_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_npz(tmp_path / name, {"first": SMALL, "names": np.array(["x", "yy"])})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["first"], SMALL)
    with pytest.raises(RunError):
        write_npz(tmp_path / "absent" / "c.npz", {"first": SMALL})
    with pytest.raises(ValueError, match="Object arrays"):
        write_npz(tmp_path / "a.npz", {"first": np.array([object()])})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.npz", "b.npz"]
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["first"], SMALL)
