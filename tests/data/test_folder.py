"""Folders of pictures: every kind that may be there, and every kind that may not."""

import itertools
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fedlens.data import ImageDataset, import_folder, load_dataset, summarise
from fedlens.data.images import read_picture
from fedlens.errors import DataError, DataNotFoundError, RunError

SPLITS = ("train", "validation", "test")


def grey(path: Path, value: int = 100, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


def folder_of(root: Path, **counts: int) -> Path:
    """A folder with so many grey pictures of each class, each of another grey."""
    value = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            grey(root / name / f"{number:03}.png", value)
            value += 1
    return root


def greys(dataset: ImageDataset) -> dict[str, list[int]]:
    """Split -> the greys of its (uniform) images, which name them."""
    return {name: dataset.split(name).images[:, 0, 0, 0].tolist() for name in SPLITS}


def test_a_folder_becomes_a_set_and_a_file(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", dog=20, cat=30)
    out = tmp_path / "pets.npz"
    dataset = import_folder(root, out, size=16)
    assert (dataset.name, dataset.task, dataset.class_names) == (
        "pets",
        "multiclass",
        ("cat", "dog"),
    )
    assert (dataset.channels, dataset.image_size, dataset.source) == (1, 16, str(out))
    assert dataset.group_names == ()
    # A fifth of each class is test, a tenth of the rest validation: 30 -> 6 and 2, 20 -> 4 and 2.
    counts = summarise(dataset).counts
    assert counts == {"test": (6, 4), "validation": (2, 2), "train": (22, 14)}
    found = greys(dataset)
    assert sorted(itertools.chain(*found.values())) == list(range(50))
    for name in SPLITS:  # dogs were painted first, in greys below 20
        labels = dataset.split(name).labels.tolist()
        assert labels == [1 if value < 20 else 0 for value in found[name]]

    again = load_dataset(path=out)
    assert again.checksum == dataset.checksum
    assert (again.name, again.class_names) == (dataset.name, dataset.class_names)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in", "pets.npz"]


def test_the_same_seed_gives_the_same_bytes_and_another_another_split(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", a=20, b=20)
    first = import_folder(root, tmp_path / "one.npz")
    import_folder(root, tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    other = import_folder(root, tmp_path / "two.npz", seed=1)
    assert greys(other) != greys(first)


def test_three_images_a_class_are_enough_and_two_are_not(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", **{f"class {number}": 3 for number in range(12)})
    for fraction in (0.01, 0.5):
        dataset = import_folder(root, tmp_path / "out.npz", test_fraction=fraction)
        assert all(counts == (1,) * 12 for counts in summarise(dataset).counts.values())
    (root / "class 7" / "001.png").unlink()
    with pytest.raises(DataError, match="the class 'class 7' has 2 images, expected at least 3"):
        import_folder(root, tmp_path / "out.npz")


# --- pictures -----------------------------------------------------------------------------------


def saved(tmp_path: Path, picture: Image.Image, name: str = "a.png", **options: Any) -> Path:
    path = tmp_path / name
    picture.save(path, **options)
    return path


def test_a_ramp_is_averaged_when_it_shrinks(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None], 32, axis=0)  # 64 wide, 32 high
    small = read_picture(saved(tmp_path, Image.fromarray(ramp)), 8)
    assert small.shape == (8, 8)
    # Away from the border a symmetric filter keeps a ramp: the mean of each eight columns.
    expected = np.arange(8) * 8 + 3.5
    assert np.abs(small.astype(float) - expected)[:, 1:-1].max() <= 1
    # A one-pixel chequerboard would alias without the filter; with it, it is grey.
    board = np.indices((64, 64)).sum(0) % 2 * 255
    flat = read_picture(saved(tmp_path, Image.fromarray(board.astype(np.uint8))), 8)
    assert np.abs(flat[1:-1, 1:-1].astype(float) - 127.5).max() <= 1


def solid(mode: str, value: Any) -> Image.Image:
    return Image.new(mode, (10, 6), value)


def palette_picture(colours: list[int], **info: Any) -> Image.Image:
    picture = Image.new("P", (10, 6), 1)
    picture.putpalette(colours)
    picture.info.update(info)
    return picture


@pytest.mark.parametrize(
    ("make", "name", "expected"),
    [
        (lambda: solid("1", 1), "a.png", 255),
        (lambda: solid("L", 77), "a.png", 77),
        (lambda: solid("L", 77), "a.JPG", 77),
        (lambda: solid("L", 77), "a.tiff", 77),
        (lambda: solid("RGB", (9, 9, 9)), "a.png", 9),
        (lambda: solid("RGB", (200, 100, 0)), "a.png", (200, 100, 0)),
        (lambda: solid("RGB", (200, 100, 0)), "a.TIF", (200, 100, 0)),
        (lambda: solid("LA", (200, 51)), "a.png", 40),  # a fifth of 200 on black
        (lambda: solid("RGBA", (250, 100, 0, 51)), "a.png", (50, 20, 0)),
        (lambda: palette_picture([0, 0, 0, 10, 20, 30]), "a.png", (10, 20, 30)),
        (lambda: palette_picture([0, 0, 0, 60, 60, 60]), "a.png", 60),
        (lambda: palette_picture([0, 0, 0, 10, 20, 30], transparency=1), "a.png", 0),
        (lambda: solid("CMYK", (0, 255, 0, 0)), "a.tif", (255, 0, 255)),
        (lambda: solid("I;16", 257 * 99), "a.png", 99),
        (lambda: solid("I;16", 257 * 99), "a.tif", 99),
        (lambda: solid("I;16", 255), "a.png", 1),  # a full range, not the range that occurs
        (lambda: solid("I", 65_535), "a.tif", 255),
        (lambda: solid("F", 0.2), "a.tif", 51),
    ],
)
def test_every_mode_is_read(
    tmp_path: Path, make: Callable[[], Image.Image], name: str, expected: int | tuple[int, ...]
) -> None:
    small = read_picture(saved(tmp_path, make(), name), 4)
    shape = (4, 4) if isinstance(expected, int) else (4, 4, 3)
    assert (small.shape, small.dtype) == (shape, np.uint8)
    assert (small == np.array(expected)).all()


def test_a_transparent_colour_of_a_grey_or_rgb_png_is_black(tmp_path: Path) -> None:
    assert (read_picture(saved(tmp_path, solid("L", 77), transparency=77), 4) == 0).all()
    red = saved(tmp_path, solid("RGB", (255, 0, 0)), transparency=(255, 0, 0))
    assert (read_picture(red, 4) == 0).all()


def test_a_big_endian_16_bit_tiff_is_read(tmp_path: Path) -> None:
    values = np.full((4, 4), 257 * 99, dtype=">u2").tobytes()
    tags = [(256, 4), (257, 4), (258, 16), (259, 1), (262, 1), (273, 8), (278, 4), (279, 32)]
    entries = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    path = tmp_path / "big.tif"
    path.write_bytes(
        b"MM\0*" + struct.pack(">I", 40) + values + struct.pack(">H", 8) + entries + bytes(4)
    )
    assert (read_picture(path, 4) == 99).all()


def test_the_orientation_that_a_camera_noted_is_applied(tmp_path: Path) -> None:
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    picture[:, :4] = (255, 0, 0)  # red on the left
    note = Image.Exif()
    note[0x0112] = 6  # to be turned a quarter clockwise
    path = saved(tmp_path, Image.fromarray(picture), exif=note)
    turned = read_picture(path, 8)
    np.testing.assert_array_equal(turned, np.rot90(picture, -1))
    assert turned[0, 0].tolist() == turned[0, 7].tolist() == [255, 0, 0]


def test_channels_are_three_as_soon_as_one_picture_has_colour(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", a=3, b=3)
    colour = (10, 200, 30)
    Image.new("RGB", (30, 20), colour).save(root / "a" / "001.png")
    dataset = import_folder(root, tmp_path / "out.npz")
    assert dataset.train.images.shape[1:] == (3, 28, 28)
    everything = torch.cat([dataset.split(name).images for name in SPLITS])[:, :, 0, 0].tolist()
    assert sorted(everything) == sorted([list(colour)] + [[value] * 3 for value in (0, 2, 3, 4, 5)])

    dataset = import_folder(root, tmp_path / "out.npz", channels=1)
    assert dataset.channels == 1
    luma = round(0.299 * 10 + 0.587 * 200 + 0.114 * 30)
    assert sorted(itertools.chain(*greys(dataset).values())) == sorted([luma, 0, 2, 3, 4, 5])
    (root / "a" / "001.png").unlink()
    grey(root / "a" / "001.png")
    assert import_folder(root, tmp_path / "out.npz").channels == 1
    assert import_folder(root, tmp_path / "out.npz", channels=3).channels == 3


def png_of(width: int, height: int) -> bytes:
    """A PNG that announces so many pixels and holds a few."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), b"IDAT" + bytes(9))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


@pytest.mark.parametrize("side", [11_000, 60_000])  # where Pillow warns, and where it refuses
def test_a_decompression_bomb_is_refused(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(side, side))
    with pytest.raises(DataError, match=r"bomb\.png has more pixels than the 89,478,485"):
        read_picture(path, 28)


def bad_pictures() -> dict[str, Callable[[Path], object]]:
    def pages(path: Path) -> None:
        Image.new("L", (4, 4)).save(path, save_all=True, append_images=[Image.new("L", (4, 4))])

    def cut(path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (50, 50), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:-900])

    def disguised(path: Path) -> None:
        Image.new("L", (4, 4)).save(path, format="BMP")

    return {
        "empty.png": lambda path: path.write_bytes(b""),
        "words.jpg": lambda path: path.write_text("not a picture"),
        "cut.png": cut,
        "cut.jpg": cut,
        "cut.tif": cut,
        "disguised.png": disguised,
        "pages.tif": pages,
        "lab.tif": lambda path: Image.new("LAB", (4, 4)).save(path),
        "range.tif": lambda path: Image.new("I", (4, 4), 65_536).save(path),
        "nan.tif": lambda path: Image.new("F", (4, 4), float("nan")).save(path),
    }


@pytest.mark.parametrize("name", bad_pictures())
def test_a_bad_picture_is_named_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    root = folder_of(tmp_path / "in", a=4, b=4)
    bad_pictures()[name](root / "b" / name)
    out = tmp_path / "out.npz"
    with pytest.raises(DataError) as caught:
        import_folder(root, out)
    assert str(root / "b" / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


def test_damaged_pictures_never_raise_anything_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    noise = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    note = Image.Exif()
    note[0x0112] = 6
    for suffix, options in (("png", {}), ("jpg", {}), ("tif", {"compression": "tiff_lzw"})):
        whole = saved(tmp_path, noise, f"whole.{suffix}", exif=note, **options).read_bytes()
        path = tmp_path / f"part.{suffix}"
        for _ in range(60):
            content = bytearray(whole)
            for place in rng.integers(0, len(content), rng.integers(1, 6)):
                content[place] = rng.integers(0, 256)
            path.write_bytes(content[: rng.integers(1, len(content) + 1)])
            try:
                small = read_picture(path, 4)
            except DataError as error:
                assert str(path) in str(error)
            else:
                assert small.shape in ((4, 4), (4, 4, 3))


# --- folders ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: grey(root / "loose.png"), "loose.png is not in the folder of a class"),
        (lambda root: (root / "a" / "notes.txt").write_text("x"), "notes.txt is not a PNG"),
        (lambda root: (root / "a" / "x.webp").write_text("x"), "x.webp is not a PNG"),
        (lambda root: grey(root / "a" / "deeper" / "x.png"), "ask for groups by folder"),
        (lambda root: (root / "empty").mkdir(), "empty holds no pictures"),
        (lambda root: (root / "hidden" / ".git").mkdir(parents=True), "hidden holds no pictures"),
        (lambda root: (root / "a").rename(root / "\x1b[31m"), "cannot be the name of a class"),
        (lambda root: (root / "a" / "pipe.png").mkdir(), "folder where a picture was expected"),
        (lambda root: os.mkfifo(root / "a" / "pipe.png"), "pipe.png is not a PNG"),
    ],
)
def test_what_does_not_belong_is_named(
    tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    root = folder_of(tmp_path / "in", a=3, b=3)
    change(root)
    with pytest.raises(DataError, match=message):
        import_folder(root, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_what_file_managers_leave_behind_is_passed_over(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", a=3, b=3)
    plain = import_folder(root, tmp_path / "out.npz")
    for place in (root, root / "a"):
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "Desktop.ini", "._000.png"):
            (place / name).write_text("x")
    grey(root / "__MACOSX" / "a" / "x.png")
    assert import_folder(root, tmp_path / "out.npz").checksum == plain.checksum


def test_one_class_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 1 class folder, expected"):
        import_folder(folder_of(tmp_path / "in", a=9), tmp_path / "out.npz")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds 0 class folders, expected"):
        import_folder(tmp_path / "none", tmp_path / "out.npz")
    for place in (tmp_path / "absent", tmp_path / "in" / "a" / "000.png"):
        with pytest.raises(DataNotFoundError, match="is not a folder"):
            import_folder(place, tmp_path / "out.npz")


def test_links_may_not_lead_outside(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", a=3, b=3)
    secret = grey(tmp_path / "secret" / "x.png", 200)
    inside = root / "a" / "link.png"
    inside.symlink_to(root / "b" / "001.png")
    assert sum(summarise(import_folder(root, tmp_path / "out.npz")).images.values()) == 7
    for target in (secret, tmp_path / "absent.png", inside):
        inside.unlink()
        inside.symlink_to(target)
        with pytest.raises(DataError, match="a link that leads out"):
            import_folder(root, tmp_path / "out.npz")
    inside.unlink()
    (root / "c").symlink_to(secret.parent, target_is_directory=True)
    with pytest.raises(DataError, match="a link that leads out"):
        import_folder(root, tmp_path / "out.npz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "set.npy"}, r"expected a name in \.npz"),
        ({"out": "pathmnist.npz"}, "choose another name"),
        ({"out": "absent/set.npz"}, "There is no folder"),
        ({"size": 0}, "expected 1 to 1,024"),
        ({"size": 1025}, "expected 1 to 1,024"),
        ({"channels": 2}, "expected 1"),
        ({"test_fraction": 0.0}, "test fraction is 0,"),
        ({"test_fraction": 0.6}, "test fraction is 0.6,"),
        ({"test_fraction": float("nan")}, "test fraction is nan,"),
        ({"seed": -1}, "seed of a split is -1"),
        ({"groups": Path("absent.csv")}, "There is no file"),
    ],
)
def test_wrong_arguments(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    root = folder_of(tmp_path / "in", a=3, b=3)
    out = tmp_path / options.pop("out", "out.npz")
    with pytest.raises(DataError, match=message):
        import_folder(root, out, **options)


def test_a_file_that_cannot_be_replaced_is_a_run_error(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", a=3, b=3)
    (tmp_path / "out.npz").mkdir()
    with pytest.raises(RunError, match="Could not write"):
        import_folder(root, tmp_path / "out.npz")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in", "out.npz"]


# --- groups -------------------------------------------------------------------------------------


def group_of(dataset: ImageDataset) -> dict[int, str]:
    """Grey of each image -> name of its group."""
    names: dict[int, str] = {}
    for name in SPLITS:
        groups = dataset.split(name).groups
        assert groups is not None
        for value, group in zip(greys(dataset)[name], groups.tolist(), strict=True):
            names[value] = dataset.group_names[group]
    return names


def test_groups_by_the_second_level_of_folders(tmp_path: Path) -> None:
    root, expected = tmp_path / "in", {}
    value = 0
    for place in ("cat/south", "cat/north", "dog/north", "dog/east"):
        for number in range(5):
            grey(root / place / f"{number}.png", value)
            expected[value] = place.split("/")[1]
            value += 1
    dataset = import_folder(root, tmp_path / "out.npz", groups="folder")
    assert dataset.group_names == ("east", "north", "south")
    assert dataset.class_names == ("cat", "dog")
    assert group_of(dataset) == expected
    assert group_of(load_dataset(path=tmp_path / "out.npz")) == expected
    # The splits are those of the classes alone.
    assert summarise(dataset).counts["test"] == (2, 2)

    (root / "dog" / "west").mkdir()
    with pytest.raises(DataError, match="west holds no pictures"):
        import_folder(root, tmp_path / "out.npz", groups="folder")
    (root / "dog" / "west").rmdir()
    grey(root / "dog" / "loose.png")
    with pytest.raises(DataError, match=r"loose\.png is not in the folder of a group"):
        import_folder(root, tmp_path / "out.npz", groups="folder")


def table_of(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def test_groups_by_a_table(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", a=3, b=3)
    paths = [f"{name}/00{number}.png" for name in "ab" for number in range(3)]
    rows = ["path,group", *(f"{path},site {n % 2}" for n, path in enumerate(paths))]
    expected = {value: f"site {value % 2}" for value in range(6)}
    for place in (tmp_path / "t.csv", root / "t.csv"):  # it may lie in the folder itself
        dataset = import_folder(root, tmp_path / "out.npz", groups=table_of(place, rows))
        assert dataset.group_names == ("site 0", "site 1")
        assert group_of(dataset) == expected
    table = tmp_path / "windows.csv"
    table.write_bytes(
        "\r\n".join(["path,group", *(f'"./{path}",x' for path in paths)]).encode("utf-8-sig")
    )
    (root / "t.csv").unlink()
    assert import_folder(root, tmp_path / "out.npz", groups=table).group_names == ("x",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1:], "the first row is 'a/000.png,x', expected 'path,group'"),
        (lambda rows: [], "the first row is ''"),
        (lambda rows: rows[:-1], "does not list b/002.png"),
        (lambda rows: [*rows, rows[1]], "line 8: a/000.png is listed a second time"),
        (lambda rows: [*rows, "a/000.png/../000.png,x"], "line 8: there is no picture"),
        (
            lambda rows: [*rows, "../in/a/000.png,x"],
            "line 8: there is no picture '../in/a/000.png'",
        ),
        (lambda rows: [*rows, "/etc/hostname,x"], "line 8: there is no picture '/etc/hostname'"),
        (lambda rows: [*rows, "a/009.png,x"], "there is no picture 'a/009.png'"),
        (lambda rows: [rows[0], "a/000.png, "], "line 2: expected a path and a group"),
        (lambda rows: [rows[0], "a/000.png,x,y"], "line 2: expected a path and a group"),
        (lambda rows: [rows[0], '"a/000.png,x'], "is not a CSV file"),
        (lambda rows: [row.replace(",x", ",\x07") for row in rows], "the name of a group"),
    ],
)
def test_a_wrong_table_is_named(
    tmp_path: Path, change: Callable[[list[str]], list[str]], message: str
) -> None:
    root = folder_of(tmp_path / "in", a=3, b=3)
    rows = [f"{name}/00{number}.png,x" for name in "ab" for number in range(3)]
    table = table_of(tmp_path / "t.csv", change(["path,group", *rows]))
    with pytest.raises(DataError, match=message) as caught:
        import_folder(root, tmp_path / "out.npz", groups=table)
    assert "t.csv" in str(caught.value)
    assert not (tmp_path / "out.npz").exists()


def test_a_table_in_another_encoding_is_named(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", a=3, b=3)
    (tmp_path / "t.csv").write_bytes("path,group\nä.png,x\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        import_folder(root, tmp_path / "out.npz", groups=tmp_path / "t.csv")
