"""The array layout of MedMNIST, in which every set that is read from a file reaches us.

- ``train_images``, ``val_images``, ``test_images``: uint8, or floats in [0, 1], of the shape
  (N, H, W), (N, H, W, 1) or (N, H, W, 3);
- ``train_labels``, ``val_labels``, ``test_labels``: integers, (N,) or (N, 1) of class numbers, or
  (N, L) of 0 and 1 for a multi-label task;
- optional: ``train_groups``, ``val_groups``, ``test_groups`` (integers (N,), the institution or
  patient), ``class_names``, ``group_names`` (text), ``task`` ("multiclass" or "multilabel").

The validation arrays may be missing.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedlens.data.catalogue import KnownDataset
from fedlens.data.checks import MAX_CLASSES, MAX_GROUPS, check_names, finished
from fedlens.data.dataset import SPLITS, ImageDataset, Split, Task
from fedlens.data.splitting import validation_cut
from fedlens.errors import DataError

PREFIXES = dict(zip(SPLITS, ("train", "val", "test"), strict=True))
_PARTS = ("images", "labels", "groups")
ARRAYS = (
    *(f"{prefix}_{part}" for part in _PARTS for prefix in PREFIXES.values()),
    "class_names",
    "group_names",
    "task",
)

Arrays = Mapping[str, npt.NDArray[Any]]
_BLOCK = 1024  # images that are checked at a time, so that a check needs little memory


def dataset_from_arrays(
    arrays: Arrays,
    *,
    name: str,
    where: Path,
    seed: int,
    known: KnownDataset | None = None,
) -> ImageDataset:
    """Return the image set that ``arrays`` hold; where they have no validation split, cut one.

    Without names in the arrays or in the catalogue, classes and groups are called "0", "1", ... up
    to the largest number that occurs in any split.

    Args:
        arrays: see the module's text; arrays of other names are ignored.
        name: what to call the set.
        where: the file or folder that the arrays come from, for error messages.
        seed: of the validation cut, see :func:`fedlens.data.splitting.validation_cut`.
        known: the catalogue's entry, which then gives task and class names.

    Raises:
        DataError: a missing array, a wrong type or shape, a label out of range, a pixel that is
            NaN, infinite or out of range; the sentence names the array and, where there is one,
            the first bad index.
    """
    present = [split for split in SPLITS if f"{PREFIXES[split]}_images" in arrays]
    for split in ("train", "test"):
        if split not in present:
            held = ", ".join(sorted(arrays)) or "no array of an image set"
            raise DataError(
                f"{where} has no {PREFIXES[split]}_images (it holds {held}), expected images and "
                "labels of at least train and test."
            )
    labels = {split: _labels(arrays, f"{PREFIXES[split]}_labels", where) for split in present}
    task = known.task if known else _task(arrays, labels, where)
    class_names = known.class_names if known else _class_names(arrays, labels, task, where)
    groups = {split: _groups(arrays, f"{PREFIXES[split]}_groups", where) for split in present}
    group_names = _group_names(arrays, groups, where)
    splits: dict[str, Split] = {}
    for split in present:
        images = _images(arrays, f"{PREFIXES[split]}_images", where)
        marks = _ranged(labels[split], task, class_names, f"{PREFIXES[split]}_labels", where)
        if len(marks) != len(images) or len(images) == 0:
            raise DataError(
                f"{where}: {PREFIXES[split]}_images holds {len(images):,} images for "
                f"{len(marks):,} labels, expected as many, and at least one."
            )
        group = groups[split]
        splits[split] = Split(images, marks, None if group is None else torch.from_numpy(group))
        if group is not None and len(group) != len(images):
            raise DataError(
                f"{where}: {PREFIXES[split]}_groups holds {len(group):,} numbers for "
                f"{len(images):,} images, expected one an image."
            )
    if "validation" not in splits:
        if len(splits["train"]) < 2:
            raise DataError(
                f"{where} has no validation split and a single training image, expected at least "
                "two to cut one from."
            )
        splits["train"], splits["validation"] = validation_cut(splits["train"], seed)
    dataset = ImageDataset(
        name=name,
        task=task,
        class_names=class_names,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        group_names=group_names,
        source=str(where),
    )
    return finished(dataset, where)


def arrays_from_dataset(dataset: ImageDataset) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays from which :func:`dataset_from_arrays` makes an equal set again."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "class_names": np.array(dataset.class_names),
        "task": np.array(dataset.task),
    }
    if dataset.group_names:
        arrays["group_names"] = np.array(dataset.group_names)
    for name, prefix in PREFIXES.items():
        split = dataset.split(name)
        images = split.images.permute(0, 2, 3, 1).contiguous().numpy()
        arrays[f"{prefix}_images"] = images[..., 0] if images.shape[3] == 1 else images
        arrays[f"{prefix}_labels"] = split.labels.numpy()
        if split.groups is not None:
            arrays[f"{prefix}_groups"] = split.groups.numpy()
    return arrays


def _images(arrays: Arrays, key: str, where: Path) -> Tensor:
    array = arrays[key]
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
        raise DataError(
            f"{where}: {key} has the shape {array.shape}, expected (N, H, W), (N, H, W, 1) or "
            "(N, H, W, 3)."
        )
    if array.dtype.kind == "f":
        array = _pixels(array, key, where)
    elif array.dtype != np.uint8:
        raise DataError(
            f"{where}: {key} holds {array.dtype} values, expected uint8, or floats from 0 to 1."
        )
    images = torch.from_numpy(np.ascontiguousarray(array))
    if images.dim() == 3:
        return images.unsqueeze(1)
    return images.permute(0, 3, 1, 2).contiguous()


def _pixels(array: npt.NDArray[Any], key: str, where: Path) -> npt.NDArray[np.uint8]:
    pixels = np.empty(array.shape, dtype=np.uint8)
    for start in range(0, len(array), _BLOCK):
        block = array[start : start + _BLOCK].astype(np.float64)
        bad = ~((block >= 0) & (block <= 1))  # NaN is neither
        if bad.any():
            first = _first(bad)
            place = [start + first[0], *first[1:]]
            raise DataError(
                f"{where}: {key}{place} is {block[first]}, expected floats from 0 (black) to 1 "
                "(full light)."
            )
        pixels[start : start + _BLOCK] = np.rint(block * 255)
    return pixels


def _labels(arrays: Arrays, key: str, where: Path) -> npt.NDArray[Any]:
    if key not in arrays:
        raise DataError(f"{where} has images but no {key}, expected one label (row) an image.")
    array = arrays[key]
    if array.dtype.kind not in "biu" or array.ndim not in (1, 2):
        raise DataError(
            f"{where}: {key} is {array.dtype} {array.shape}, expected integers of the shape (N,), "
            "(N, 1) or, for several labels an image, (N, L)."
        )
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _task(arrays: Arrays, labels: Mapping[str, npt.NDArray[Any]], where: Path) -> Task:
    found: Task = "multiclass" if labels["train"].ndim == 1 else "multilabel"
    if "task" in arrays:
        stated = _texts(arrays, "task", 0, where)[0]
        if stated not in get_args(Task) or stated != found:
            raise DataError(
                f"{where}: task is {stated!r} but train_labels has the shape "
                f"{arrays['train_labels'].shape}, expected 'multiclass' with (N,) or (N, 1), or "
                "'multilabel' with (N, L)."
            )
    return found


def _class_names(
    arrays: Arrays, labels: Mapping[str, npt.NDArray[Any]], task: Task, where: Path
) -> tuple[str, ...]:
    if "class_names" in arrays:
        return check_names(_texts(arrays, "class_names", 1, where), "class", where)
    if task == "multilabel":
        count = labels["train"].shape[1]
    else:
        count = _span(labels, "labels", MAX_CLASSES, where)
    if count > MAX_CLASSES:
        raise DataError(
            f"{where}: found {count:,} labels an image, expected at most {MAX_CLASSES}."
        )
    return tuple(str(number) for number in range(count))


def _groups(arrays: Arrays, key: str, where: Path) -> npt.NDArray[np.int64] | None:
    if key not in arrays:
        return None
    array = arrays[key]
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DataError(
            f"{where}: {key} is {array.dtype} {array.shape}, expected integers of the shape (N,)."
        )
    _in_range(array, MAX_GROUPS, key, where)
    return array.astype(np.int64)


def _group_names(
    arrays: Arrays, groups: Mapping[str, npt.NDArray[np.int64] | None], where: Path
) -> tuple[str, ...]:
    numbers = {split: group for split, group in groups.items() if group is not None}
    if not numbers:
        return ()
    if "group_names" not in arrays:
        count = _span(numbers, "groups", MAX_GROUPS, where)
        return tuple(str(number) for number in range(count))
    names = check_names(_texts(arrays, "group_names", 1, where), "group", where)
    for split, group in numbers.items():
        _in_range(group, len(names), f"{PREFIXES[split]}_groups", where)
    return names


def _ranged(
    labels: npt.NDArray[Any], task: Task, class_names: tuple[str, ...], key: str, where: Path
) -> Tensor:
    classes = len(class_names)
    if (task == "multiclass") != (labels.ndim == 1) or labels.shape[1:] not in ((), (classes,)):
        expected = "(N,) or (N, 1)" if task == "multiclass" else f"(N, {classes})"
        raise DataError(f"{where}: {key} has the shape {labels.shape}, expected {expected}.")
    _in_range(labels, classes if task == "multiclass" else 2, key, where)
    return torch.from_numpy(labels.astype(np.int64 if task == "multiclass" else np.uint8))


def _span(numbers: Mapping[str, npt.NDArray[Any]], part: str, most: int, where: Path) -> int:
    for split, array in numbers.items():
        _in_range(array, most, f"{PREFIXES[split]}_{part}", where)
    return 1 + max((int(array.max()) for array in numbers.values() if array.size), default=-1)


def _in_range(array: npt.NDArray[Any], end: int, key: str, where: Path) -> None:
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    bad = (array < 0) | (array >= end)
    if bad.any():
        first = _first(bad)
        raise DataError(
            f"{where}: {key}{list(first)} is {array[first]}, expected 0 to {end - 1:,}."
        )


def _first(bad: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(place) for place in np.unravel_index(int(bad.argmax()), bad.shape))


def _texts(arrays: Arrays, key: str, dimensions: int, where: Path) -> list[str]:
    array = arrays[key]
    shape = "a single text" if dimensions == 0 else "text of the shape (number of names,)"
    if array.dtype.kind != "U" or array.ndim != dimensions or array.size > MAX_GROUPS:
        raise DataError(f"{where}: {key} is {array.dtype} {array.shape}, expected {shape}.")
    code_points = np.ascontiguousarray(array).reshape(-1).view(np.uint32)
    if (code_points > sys.maxunicode).any():  # of which Python could make no string
        raise DataError(f"{where}: {key} is not valid Unicode, expected {shape}.")
    return [str(text) for text in array.reshape(-1).tolist()]
