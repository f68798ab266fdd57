"""What is let in, as an import reads it; and all that is not, each with one clear sentence."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from fedlens.data.images import read_image
from fedlens.review.contract import NotFoundError, ReviewError
from fedlens.review.model import intake
from fedlens.review.model.intake import (
    LARGEST_BYTES,
    TooLargeError,
    UnreadableError,
    WrongTypeError,
    check_upload,
    folder_images,
    read_folder_image,
    read_upload,
)

# What Pillow writes of each kind.
MODES = {
    "PNG": ("L", "RGB", "P", "1", "LA", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "1", "CMYK"),
    "TIFF": ("L", "RGB", "P", "1", "LA", "RGBA", "CMYK", "I;16"),
}
WRITTEN = [(kind, mode) for kind, modes in MODES.items() for mode in modes]


def picture(mode: str = "L", width: int = 33, height: int = 21, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65_536, (height, width), dtype=np.uint16))
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    colour = Image.fromarray(pixels)
    return colour.convert("L").convert(mode) if mode == "LA" else colour.convert(mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_size(width: int, height: int) -> bytes:
    """A small PNG that says it is large."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("hidden.txt", "hello")
    return buffer.getvalue()


KINDS: dict[str, Callable[[], bytes]] = {
    "png": lambda: saved(picture(), "PNG"),
    "interlaced": lambda: saved(picture("RGB"), "PNG", compress_level=1),
    "jpeg": lambda: saved(picture("RGB"), "JPEG"),
    "progressive": lambda: saved(picture("RGB"), "JPEG", progressive=True),
    "restarts": lambda: saved(picture("L"), "JPEG", restart_marker_blocks=2),
    "tiff": lambda: saved(picture(), "TIFF"),
    "packed tiff": lambda: saved(picture("RGB"), "TIFF", compression="tiff_adobe_deflate"),
}


@pytest.mark.parametrize(("kind", "mode"), WRITTEN)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_an_import(kind: str, mode: str, channels: int, tmp_path: Path) -> None:
    data = saved(picture(mode), kind)
    path = tmp_path / "picture"
    path.write_bytes(data)
    found = read_upload(data, size=14, channels=channels)
    assert found.dtype == torch.uint8 and found.shape == (channels, 14, 14)
    assert torch.equal(found, read_image(path, size=14, channels=channels))


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_walked_to_its_very_end(name: str) -> None:
    data = KINDS[name]()
    outline = check_upload(data)
    assert (outline.width, outline.height, outline.pictures) == (33, 21, 1)
    assert outline.end == len(data)


@pytest.mark.parametrize("name", KINDS)
def test_bytes_after_the_end_are_refused(name: str) -> None:
    with pytest.raises(UnreadableError, match="follow the end"):
        read_upload(KINDS[name]() + b"\0\0\0 and more", size=8, channels=1)


@pytest.mark.parametrize("name", KINDS)
def test_wherever_it_is_cut_it_is_refused(name: str) -> None:
    data = KINDS[name]()
    for length in [*range(1, min(len(data), 200)), *range(200, len(data), 37)]:
        with pytest.raises(ReviewError) as caught:
            read_upload(data[:length], size=8, channels=1)
        assert caught.value.status in (415, 422)


@pytest.mark.parametrize("name", KINDS)
def test_whatever_is_damaged_it_is_read_or_refused_in_a_sentence(name: str) -> None:
    data, rng = KINDS[name](), np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            broken[place] = rng.integers(0, 256)
        try:
            found = read_upload(bytes(broken), size=8, channels=3)
        except ReviewError as error:
            assert error.status in (413, 415, 422) and str(error).endswith(".")
        else:
            assert found.shape == (3, 8, 8)


@pytest.mark.parametrize("size", [(100_000, 100_000), (16_001, 1_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_it_is_decoded(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "decode_picture", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(TooLargeError, match="pixels"):
        read_upload(png_of_size(*size), size=8, channels=1)


def test_a_bomb_that_is_a_jpeg_or_tiff_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "decode_picture", lambda *_: pytest.fail("was decoded"))
    data = bytearray(KINDS["jpeg"]())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    with pytest.raises(TooLargeError, match="pixels"):
        read_upload(bytes(data), size=8, channels=1)
    entry = struct.pack("<HHII", 256, 4, 1, 90_000) + struct.pack("<HHII", 257, 4, 1, 90_000)
    entry += struct.pack("<HHII", 273, 4, 1, 8) + struct.pack("<HHII", 279, 4, 1, 4)
    tiff = b"II*\0" + struct.pack("<IH", 8, 4) + entry + struct.pack("<I", 0)
    with pytest.raises(TooLargeError, match="pixels"):
        read_upload(tiff, size=8, channels=1)


def test_a_tile_that_is_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "decode_picture", lambda *_: pytest.fail("was decoded"))
    tags = {256: 8, 257: 8, 322: 40_000, 323: 40_000, 324: 8, 325: 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    tiff = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    with pytest.raises(TooLargeError, match="40,000 x 40,000 pixels"):
        read_upload(tiff, size=8, channels=1)


def test_a_jpeg_of_many_scans_is_refused() -> None:
    data = KINDS["progressive"]()
    scan = data.index(b"\xff\xda")
    after = data.index(b"\xff", scan + 14)
    with pytest.raises(UnreadableError, match="too many parts"):
        read_upload(data[:after] + 200 * data[scan:after] + data[after:], size=8, channels=1)


def _png_of_chunks(count: int) -> bytes:
    data = KINDS["png"]()
    place = data.index(b"IDAT") - 4
    chunk = struct.pack(">I4sI", 0, b"teSt", zlib.crc32(b"teSt"))
    return data[:place] + count * chunk + data[place:]


def _jpeg_of(between: bytes) -> bytes:
    data = KINDS["jpeg"]()
    return data[:2] + between + data[2:]


def _tiff_of_places(entries: int, count: int) -> bytes:
    entry = struct.pack("<HHII", 273, 4, count, 0)
    directory = struct.pack("<H", entries) + entries * entry + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(4 * count)


@pytest.mark.parametrize(
    "data",
    [
        _png_of_chunks(20_000),
        _jpeg_of(b"\xff\xfe\x00\x02" * 5_000),
        _jpeg_of(b"\xff" * 10_000),
        _tiff_of_places(40, 10_000),
        _tiff_of_places(65_535, 4),
    ],
    ids=["chunks", "segments", "fill", "places", "entries"],
)
def test_what_would_be_looked_at_for_minutes_is_refused(data: bytes) -> None:
    """Ten megabytes can hold millions of parts, or refer to the same ones thousands of times."""
    with pytest.raises(UnreadableError, match="too m"):
        read_upload(data, size=8, channels=1)


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(TooLargeError, match="bytes") as caught:
        read_upload(KINDS["png"]() + bytes(LARGEST_BYTES), size=8, channels=1)
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"<?xml version='1.0'?><svg/>", "an SVG drawing"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (saved(picture(), "GIF"), "a GIF"),
        (saved(picture("RGB"), "BMP"), "a BMP"),
        (b"%PDF-1.7 ...", "a PDF"),
        (archive(), "a ZIP"),
        (bytes(128) + b"DICM", "a DICOM"),
        (b"hello", "of another kind"),
        (b"\x89PN", "of another kind"),
    ],
)
def test_what_is_no_image_of_ours_is_named(data: bytes, words: str) -> None:
    with pytest.raises(WrongTypeError, match=words) as caught:
        read_upload(data, size=8, channels=1)
    assert caught.value.status == 415


def test_nothing_is_an_image_of_nothing() -> None:
    with pytest.raises(UnreadableError, match="empty"):
        read_upload(b"", size=8, channels=1)


def test_an_image_that_is_something_else_as_well_is_refused() -> None:
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", "<script>alert(1)</script>")
    noted = saved(picture(), "PNG", pnginfo=note)
    with pytest.raises(WrongTypeError, match="HTML"):
        read_upload(noted, size=8, channels=1)
    with pytest.raises(WrongTypeError, match="PDF"):
        read_upload(saved(picture(), "JPEG", comment=b"%PDF-1.4"), size=8, channels=1)
    with pytest.raises(WrongTypeError, match="ZIP"):
        read_upload(KINDS["png"]() + archive(), size=8, channels=1)
    # Hidden inside of a chunk, so that nothing follows the end of the image.
    data = KINDS["png"]()
    inside = data[:-12] + chunk(b"prVt", archive()) + data[-12:]
    with pytest.raises(ReviewError):
        read_upload(inside, size=8, channels=1)


def test_animations_and_pages_are_refused() -> None:
    frames = [picture("L", seed=seed) for seed in range(3)]
    for kind in ("PNG", "TIFF"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        with pytest.raises(UnreadableError, match="several pages"):
            read_upload(data, size=8, channels=1)


def test_pages_that_run_in_a_circle_end() -> None:
    data = bytearray(KINDS["tiff"]())
    first = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[first : first + 2])[0]
    place = first + 2 + 12 * count
    data[place : place + 4] = struct.pack("<I", first)
    with pytest.raises(UnreadableError, match="circle"):
        read_upload(bytes(data), size=8, channels=1)


def test_no_file_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    read_upload(KINDS["jpeg"](), size=8, channels=1)
    with pytest.raises(ReviewError):
        read_upload(KINDS["jpeg"]()[:-9], size=8, channels=1)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "images"
    (place / "deep" / ".hidden").mkdir(parents=True)
    for name in ("b.png", "a.PNG", "deep/c.jpeg", ".secret.png", "deep/.hidden/d.png"):
        kind = "JPEG" if name.endswith("jpeg") else "PNG"
        (place / name).write_bytes(saved(picture(), kind))
    (place / "notes.txt").write_text("not an image")
    (tmp_path / "outside.png").write_bytes(saved(picture(), "PNG"))
    (place / "link.png").symlink_to(tmp_path / "outside.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "e.png").write_bytes(saved(picture(), "PNG"))
    (place / "away").symlink_to(tmp_path / "elsewhere")
    return place


def test_a_folder_lists_its_own_images(folder: Path) -> None:
    assert folder_images(folder) == ["a.PNG", "b.png", "deep/c.jpeg"]
    found = read_folder_image(folder, "deep/c.jpeg", size=9, channels=1)
    assert torch.equal(found, read_image(folder / "deep" / "c.jpeg", size=9, channels=1))


@pytest.mark.parametrize(
    "name",
    [
        "../outside.png",
        "deep/../../outside.png",
        "link.png",
        "away/e.png",
        "/etc/hostname",
        "none.png",
        "deep",
        "",
        ".",
        "a\0.png",
        "b.png/x",
    ],
)
def test_nothing_leads_out_of_the_folder(folder: Path, name: str) -> None:
    with pytest.raises(NotFoundError):
        read_folder_image(folder, name, size=9, channels=1)


def test_a_folder_may_not_hold_too_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MOST_IMAGES", 2)
    with pytest.raises(ReviewError, match="more than the 2 images"):
        folder_images(folder)
    with pytest.raises(ReviewError, match="not a folder"):
        folder_images(folder / "notes.txt")


def test_a_bad_image_of_a_folder_is_named(folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"hello")
    with pytest.raises(WrongTypeError, match=r"bad\.png: The file is of another kind"):
        read_folder_image(folder, "bad.png", size=9, channels=1)
