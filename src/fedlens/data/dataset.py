"""Image sets in memory: what every source produces and everything else consumes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fedlens.errors import DataError

Task = Literal["multiclass", "multilabel"]
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """One part of an image set.

    Attributes:
        images: uint8 (N, C, H, W), contiguous; 0 is black, 255 is full light.
        labels: int64 (N,) class numbers, or uint8 (N, L) of 0 and 1 for a multi-label task.
        groups: int64 (N,) number of the institution or patient, or None.
    """

    images: Tensor
    labels: Tensor
    groups: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return int(self.images.shape[0])

    def subset(self, indices: Tensor) -> "Split":
        """Return the split that holds only the images at ``indices`` (int64, in that order)."""
        groups = None if self.groups is None else self.groups[indices]
        return Split(self.images[indices], self.labels[indices], groups)


def concatenated(first: Split, second: Split) -> Split:
    """Return the split that holds the images of ``first``, then those of ``second``."""
    groups = None
    if first.groups is not None and second.groups is not None:
        groups = torch.cat([first.groups, second.groups])
    return Split(
        torch.cat([first.images, second.images]),
        torch.cat([first.labels, second.labels]),
        groups,
    )


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """A named image set with its three splits.

    Attributes:
        name: short name, e.g. ``fashion-mnist``.
        task: ``multiclass`` (one class an image) or ``multilabel`` (any number of labels an image).
        class_names: one name a class or label, in label order.
        train, validation, test: the splits.
        group_names: one name a group number, empty where there are no groups.
        source: where it was found, in words (a path, "download", "embedded").
        checksum: SHA-256 (hex) over the pixels and labels of the three splits.
    """

    name: str
    task: Task
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    group_names: tuple[str, ...] = ()
    source: str = ""
    checksum: str = ""

    @property
    def classes(self) -> int:
        """Number of classes or labels."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Number of colour channels: 1 or 3."""
        return int(self.train.images.shape[1])

    @property
    def image_size(self) -> int:
        """Height and width of the (square) images in pixels."""
        return int(self.train.images.shape[-1])

    def split(self, name: str) -> Split:
        """Return the split called ``name``: ``train``, ``validation`` or ``test``.

        Raises:
            DataError: there is no split of that name.
        """
        if name not in SPLITS:
            raise DataError(f"There is no split '{name}'; a split is one of {', '.join(SPLITS)}.")
        split: Split = getattr(self, name)
        return split


def validate(dataset: ImageDataset, where: Path | str) -> None:
    """Check that ``dataset`` keeps the contract of :class:`ImageDataset`.

    Raises:
        DataError: names ``where``, the split, what is wrong and what was expected.
    """
    if dataset.classes < 2:
        raise DataError(f"{where}: found {dataset.classes} class, expected at least two.")
    shape = dataset.train.images.shape[1:]
    for name in SPLITS:
        split = dataset.split(name)
        images, labels = split.images, split.labels
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
            raise DataError(
                f"{where}: the {name} images are {images.dtype} {tuple(images.shape)}, "
                "expected uint8 (N, 1 or 3, H, W)."
            )
        if images.shape[1:] != shape or shape[1] != shape[2] or not shape[1]:
            raise DataError(
                f"{where}: the {name} images have the shape {tuple(images.shape[1:])}, expected "
                "square images of one shape, of at least one pixel."
            )
        if len(labels) != len(images) or len(images) == 0:
            raise DataError(
                f"{where}: the {name} split has {len(images):,} images and {len(labels):,} labels, "
                "expected as many labels as images, and at least one."
            )
        if dataset.task == "multiclass":
            good = labels.dtype == torch.int64 and labels.dim() == 1
            expected = "int64 (N,)"
        else:
            good = labels.dtype == torch.uint8 and labels.shape == (len(images), dataset.classes)
            expected = f"uint8 (N, {dataset.classes})"
        if not good:
            raise DataError(
                f"{where}: the {name} labels are {labels.dtype} {tuple(labels.shape)}, "
                f"expected {expected}."
            )
        top = dataset.classes - 1 if dataset.task == "multiclass" else 1
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high > top:
            raise DataError(
                f"{where}: the {name} labels run from {low} to {high}, expected 0 to {top}."
            )
        if split.groups is not None and split.groups.shape != (len(images),):
            raise DataError(
                f"{where}: the {name} split has {len(split.groups):,} group numbers for "
                f"{len(images):,} images, expected one an image."
            )
