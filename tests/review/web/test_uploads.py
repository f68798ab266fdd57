"""Uploads that mean harm: each is refused in a sentence, and nothing is left behind."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from fedlens.review.store import Store

Picture = Callable[..., bytes]
PATHS = ["/v1/predict", "/v1/explain", "/v1/predict/batch"]


def part_of(path: str) -> str:
    return "images" if path.endswith("batch") else "image"


def png(width: int, height: int, rows: bytes) -> bytes:
    """Return a grey PNG by hand, which may promise more pixels than it has."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("a.txt", "hello")
    return file.getvalue()


def pages() -> bytes:
    file = io.BytesIO()
    first, second = Image.new("L", (8, 8)), Image.new("L", (8, 8), 255)
    first.save(file, format="TIFF", save_all=True, append_images=[second])
    return file.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
WELL = png(28, 28, (b"\0" + bytes(28)) * 28)
HARMFUL = {
    "nothing": (b"", 422),
    "text": (b"hello", 415),
    "svg": (SVG, 415),
    "svg after a declaration": (b'<?xml version="1.0"?>' + SVG, 415),
    "html": (b"<!doctype html><script>alert(1)</script>", 415),
    "gif": (b"GIF89a" + bytes(40), 415),
    "zip": (archive(), 415),
    "100 megapixels in a few kilobytes": (png(10_000, 10_000, bytes(10_000)), 413),
    "a height of four thousand million": (png(1, 2**31 - 1, b"\0\0"), 413),
    "no pixels": (png(0, 0, b""), 422),
    "truncated": (WELL[:-20], 422),
    "a header alone": (WELL[:8], 422),
    "damaged": (WELL[:45] + b"\xff\xff\xff" + WELL[48:], 422),
    "bytes after the end": (WELL + b"MZ" + bytes(100), 422),
    "also a zip": (WELL + archive(), 415),
    "several pages": (pages(), 422),
}


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files would lie; the test fails if one was ever made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))

    def rolled(_: object) -> None:
        raise AssertionError("an upload was written to the disk")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", rolled)
    return folder


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", HARMFUL)
def test_what_is_no_single_picture_is_refused(
    program: TestClient, kept: Store, disk: Path, path: str, name: str
):
    content, status = HARMFUL[name]
    before = kept.trail.head().count
    answer = program.post(path, files={part_of(path): ("a.png", content, "image/png")})
    assert answer.status_code == status, answer.text
    sentence = answer.json()["detail"]
    assert sentence.endswith(".")
    assert "Traceback" not in sentence
    assert not list(disk.iterdir())
    assert kept.trail.head().count == before


@pytest.mark.parametrize("path", PATHS)
def test_fifty_megabytes_are_not_read_for_one_picture(
    program: TestClient, kept: Store, disk: Path, path: str
):
    answer = program.post(path, files={part_of(path): ("a.png", WELL + bytes(50_000_000))})
    assert answer.status_code == 413
    assert not list(disk.iterdir())


def test_ten_megabytes_stay_in_memory(program: TestClient, disk: Path):
    answer = program.post("/v1/predict", files={"image": ("a.png", WELL + bytes(9_000_000))})
    assert answer.status_code == 422  # it came through whole, and has bytes after its end
    assert "follow the end" in answer.json()["detail"]
    assert not list(disk.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "C:\\boot.ini",
        "a\x00b.png",
        "a.php",
        "x" * 3000,
        "\u202e",
    ],
)
def test_a_files_name_does_not_matter(
    program: TestClient, kept: Store, disk: Path, picture: Picture, name: str
):
    answer = program.post("/v1/predict", files={"image": (name, picture(), "text/html")})
    assert answer.status_code in (200, 400)  # 400 where the name breaks the multipart itself
    assert not list(disk.iterdir())
    if answer.status_code == 200 and len(name) > 6:
        last = kept.trail.record(kept.trail.head().count)
        assert name not in str(last.content)


FORM = "multipart/form-data; boundary=x"
NAMELESS = b"--x\r\nContent-Disposition: form-data\r\n\r\nx\r\n--x--"
ENDLESS = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n\x89PNG'


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"", "", 415),
        (b"", "multipart/form-data", 400),
        (b"", "multipart/form-data; boundary=", 400),
        (b"", FORM, 422),
        (b"--x\r\n", FORM, 422),
        (b"nonsense", FORM, 400),
        (NAMELESS, FORM, 400),
        (ENDLESS, FORM, 422),
    ],
)
def test_a_body_that_is_not_what_it_says(
    program: TestClient, disk: Path, content: bytes, kind: str, status: int
):
    answer = program.post("/v1/predict", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"].endswith(".")


def test_only_the_parts_that_there_are(program: TestClient, picture: Picture):
    two = [("image", picture(1)), ("image", picture(2))]
    cases = [
        {"files": two},
        {"files": {"image": picture(), "other": picture()}},
        {"files": {"other": picture()}},
        {"files": {"image": picture()}, "data": {"unknown": "x"}},
        {"data": {"image": "not a file"}},
    ]
    for case in cases:
        answer = program.post("/v1/predict", **case)
        assert answer.status_code in (415, 422), answer.text
        assert "image" in answer.json()["detail"]


def test_a_field_may_not_be_an_essay(program: TestClient, picture: Picture):
    files, data = {"image": picture()}, {"method": "x" * 5000}
    assert program.post("/v1/explain", files=files, data=data).status_code == 400


def test_more_than_a_batch_is_refused(program: TestClient, picture: Picture):
    content = picture()
    answer = program.post("/v1/predict/batch", files=[("images", content)] * 65)
    assert answer.status_code == 422
    assert "64" in answer.json()["detail"]
