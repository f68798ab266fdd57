"""A folder of pictures, one subfolder a class, made into an image set."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fedlens.data.catalogue import DATASETS
from fedlens.data.checks import MAX_BYTES, check_names, regular_file, unreadable
from fedlens.data.dataset import ImageDataset
from fedlens.data.images import SUFFIXES, luma, read_picture
from fedlens.data.layout import PREFIXES, dataset_from_arrays
from fedlens.data.npz import write_npz
from fedlens.data.splitting import check_seed, three_way_cut
from fedlens.errors import DataError, DataNotFoundError
from fedlens.randomness import Purpose, generator

LEAST_IMAGES = 3  # of a class: one each for train, validation and test
LARGEST_SIZE = 1024
_NUISANCES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")  # besides hidden files
_CSV_HEADER = ["path", "group"]


@dataclass(frozen=True)
class _Picture:
    path: Path
    relative: str  # to the imported folder, with slashes
    label: int
    group: str  # name of the second folder level, or ""


def import_folder(
    folder: Path,
    out: Path,
    *,
    size: int = 28,
    channels: int | None = None,
    groups: Literal["folder"] | Path | None = None,
    seed: int = 42,
    test_fraction: float = 0.2,
) -> ImageDataset:
    """Make a folder of class-named subfolders into an image set, and write it to ``out``.

    Classes are numbered in alphabetical order of their folders. Pictures are PNG, JPEG or TIFF of
    any size, grey or in colour; see :func:`fedlens.data.images.read_picture` for how they become
    squares. Hidden files and those that file managers leave behind are passed over; any other file
    is an error, so that nothing is left out unnoticed. An existing ``out`` is replaced; nothing is
    written where anything is wrong.

    The splits are drawn class by class (see :func:`fedlens.data.splitting.three_way_cut`), whether
    or not there are groups: a group, and so a patient, may have images in several splits.

    Args:
        folder: holds one subfolder a class, at least two.
        out: the ``.npz`` file to write; its stem becomes the name of the set.
        size: height and width of the images in pixels, 1 to 1,024.
        channels: 1 (grey; colour by BT.601 luma), 3, or None for 1 where every picture is grey and
            3 otherwise.
        groups: "folder" where the second folder level names the institution
            (``class/institution/picture``), or a CSV file with the header ``path,group`` that
            lists every picture by its path relative to ``folder``, or None.
        seed: of the splits, 0 to 2**32 - 1.
        test_fraction: share of the test split, 0.01 to 0.5; a tenth of the rest is validation.

    Returns:
        The set, equal to what ``load_dataset(path=out)`` gives.

    Raises:
        DataError: a wrong argument, folder, picture or CSV row; the sentence names it.
        RunError: ``out`` cannot be written.
    """
    _check_arguments(out, size, channels, test_fraction)
    check_seed(seed)
    table = None if groups is None or groups == "folder" else Path(groups)
    try:
        class_names, pictures = _scan(folder, by_group=groups == "folder", table=table)
    except OSError as error:
        raise unreadable(Path(error.filename or folder), error) from error
    _check_counts(folder, class_names, pictures, size)
    named = _listed(table, pictures) if table else [picture.group for picture in pictures]
    group_names = check_names(sorted(set(named)), "group", table or folder) if groups else ()

    images = _stacked([read_picture(picture.path, size) for picture in pictures], channels)
    labels = np.array([picture.label for picture in pictures], dtype=np.int64)
    cuts = three_way_cut(labels, test_fraction, generator(seed, Purpose.VALIDATION_SPLIT))
    arrays: dict[str, npt.NDArray[Any]] = {
        "class_names": np.array(class_names),
        "task": np.array("multiclass"),
    }
    number = {name: index for index, name in enumerate(group_names)}
    for prefix, indices in zip(PREFIXES.values(), cuts, strict=True):
        arrays[f"{prefix}_images"] = images[indices]
        arrays[f"{prefix}_labels"] = labels[indices]
        if groups:
            arrays[f"{prefix}_groups"] = np.array([number[named[i]] for i in indices], np.int64)
    if groups:
        arrays["group_names"] = np.array(group_names)
    # Made before it is written, so that a file is written only if it can be loaded.
    dataset = dataset_from_arrays(arrays, name=out.stem, where=out, seed=seed)
    write_npz(out, arrays)
    return dataset


def _check_arguments(out: Path, size: int, channels: int | None, test_fraction: float) -> None:
    if out.suffix != ".npz":
        raise DataError(f"The image set would be written to {out}, expected a name in .npz.")
    if out.stem in DATASETS:
        raise DataError(
            f"{out.name} is what the official file of '{out.stem}' is called; choose another name."
        )
    if not out.parent.is_dir():
        raise DataError(f"There is no folder {out.parent} to write {out.name} to; make it first.")
    if not 1 <= size <= LARGEST_SIZE:
        raise DataError(f"The image size is {size} pixels, expected 1 to {LARGEST_SIZE:,}.")
    if channels not in (None, 1, 3):
        raise DataError(f"The images would have {channels} channels, expected 1 (grey) or 3.")
    if not 0.01 <= test_fraction <= 0.5:
        raise DataError(f"The test fraction is {test_fraction:g}, expected 0.01 to 0.5.")


def _scan(
    folder: Path, *, by_group: bool, table: Path | None
) -> tuple[tuple[str, ...], list[_Picture]]:
    if not folder.is_dir():
        raise DataNotFoundError(f"{folder} is not a folder, expected one with a subfolder a class.")
    root = folder.resolve()
    names: list[str] = []
    pictures: list[_Picture] = []
    for entry in _entries(folder, root):
        if entry.is_dir():
            names.append(entry.name)
            pictures += _class_pictures(entry, root, folder, len(names) - 1, by_group)
        elif table is None or entry.resolve() != table.resolve():
            raise DataError(f"{entry} is not in the folder of a class; move it or take it out.")
    if len(names) < 2:
        raise DataError(
            f"{folder} holds {len(names)} class folder{'' if len(names) == 1 else 's'}, expected a "
            "subfolder for each of at least two classes."
        )
    return check_names(names, "class", folder), pictures


def _class_pictures(
    place: Path, root: Path, folder: Path, label: int, by_group: bool
) -> list[_Picture]:
    pictures = []
    for entry in _entries(place, root):
        if by_group and entry.is_dir():
            found = [_picture(file, folder, label, entry.name) for file in _entries(entry, root)]
            if not found:
                raise DataError(f"{entry} holds no pictures, expected at least one or no folder.")
            pictures += found
        elif by_group:
            raise DataError(
                f"{entry} is not in the folder of a group, expected class/group/picture."
            )
        else:
            pictures.append(_picture(entry, folder, label, ""))
    if not pictures:
        raise DataError(
            f"{place} holds no pictures, expected at least {LEAST_IMAGES} of its class."
        )
    return pictures


def _picture(file: Path, folder: Path, label: int, group: str) -> _Picture:
    if file.is_dir():
        raise DataError(
            f"{file} is a folder where a picture was expected; if the second level of folders "
            "names the institutions, ask for groups by folder."
        )
    if file.suffix.lower() not in SUFFIXES or not file.is_file():
        raise DataError(f"{file} is not a PNG, JPEG or TIFF file; take it out of the folder.")
    return _Picture(file, file.relative_to(folder).as_posix(), label, group)


def _entries(place: Path, root: Path) -> Iterator[Path]:
    """Yield what is in ``place`` by name, without nuisances; refuse links that lead outside."""
    for entry in sorted(place.iterdir(), key=lambda entry: entry.name):
        if entry.name.startswith(".") or entry.name.lower() in _NUISANCES:
            continue
        if entry.is_symlink():
            try:
                inside = entry.resolve(strict=True).is_relative_to(root)
            except (OSError, RuntimeError):  # it leads nowhere, or in a circle
                inside = False
            if not inside:
                raise DataError(
                    f"{entry} is a link that leads out of {root}; copy the file instead."
                )
        yield entry


def _check_counts(
    folder: Path, class_names: tuple[str, ...], pictures: list[_Picture], size: int
) -> None:
    counts = np.bincount([picture.label for picture in pictures], minlength=len(class_names))
    for name, count in zip(class_names, counts.tolist(), strict=True):
        if count < LEAST_IMAGES:
            raise DataError(
                f"{folder}: the class '{name}' has {count} image{'' if count == 1 else 's'}, "
                f"expected at least {LEAST_IMAGES}: one each for train, validation and test."
            )
    needed = len(pictures) * size * size * 3
    if needed > MAX_BYTES:
        raise DataError(
            f"{folder}: {len(pictures):,} images of {size}x{size} pixels need {needed:,} bytes, "
            f"expected at most {MAX_BYTES:,}; choose a smaller size."
        )


def _listed(table: Path, pictures: list[_Picture]) -> list[str]:
    """Return the group of each picture, as the CSV file ``table`` lists it."""
    regular_file(table)
    paths = {picture.relative for picture in pictures}
    group_of: dict[str, str] = {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            if [cell.strip() for cell in header] != _CSV_HEADER:
                raise DataError(
                    f"{table}: the first row is {','.join(header)!r}, expected 'path,group'."
                )
            for row in rows:
                if not row:
                    continue
                where = f"{table}, line {rows.line_num}"
                if len(row) != 2 or not row[1].strip():
                    raise DataError(f"{where}: expected a path and a group, found {row}.")
                path = str(PurePosixPath(row[0]))
                if path not in paths:
                    raise DataError(
                        f"{where}: there is no picture {row[0]!r} in the folder, expected a path "
                        "relative to it, as in 'class/picture.png'."
                    )
                if path in group_of:
                    raise DataError(f"{where}: {path} is listed a second time.")
                group_of[path] = row[1].strip()
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{table} is not a CSV file in UTF-8 ({error}).") from error
    except OSError as error:
        raise unreadable(table, error) from error
    for picture in pictures:
        if picture.relative not in group_of:
            raise DataError(f"{table} does not list {picture.relative}, expected every picture.")
    return [group_of[picture.relative] for picture in pictures]


def _stacked(images: list[npt.NDArray[np.uint8]], channels: int | None) -> npt.NDArray[np.uint8]:
    if channels is None:
        channels = 1 if all(image.ndim == 2 for image in images) else 3
    if channels == 1:
        return np.stack([image if image.ndim == 2 else luma(image) for image in images])
    return np.stack(
        [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images]
    )
