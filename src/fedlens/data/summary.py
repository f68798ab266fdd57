"""What an image set holds, in figures that fit one screen."""

from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from fedlens.data.dataset import SPLITS, ImageDataset, Split, Task


@dataclass(frozen=True)
class DatasetSummary:
    """The figures of one image set.

    Attributes:
        name, task, class_names, source, checksum: as in :class:`ImageDataset`.
        image_shape: (C, H, W) of every image.
        images: split -> number of images.
        counts: split -> number of images of each class (or with each label), in class order.
        mean, std: mean and population standard deviation of all pixels of the train split, all
            channels together, on the scale from 0 (black) to 1 (full light).
        groups: split -> group name -> number of images, for the groups that occur; empty where no
            split has groups.
    """

    name: str
    task: Task
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    images: dict[str, int]
    counts: dict[str, tuple[int, ...]]
    mean: float
    std: float
    groups: dict[str, dict[str, int]]
    source: str
    checksum: str

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON values; tuples become lists."""
        content = asdict(self)
        for key in ("class_names", "image_shape"):
            content[key] = list(content[key])
        content["counts"] = {split: list(counts) for split, counts in self.counts.items()}
        return content


def summarise(dataset: ImageDataset) -> DatasetSummary:
    """Return the figures of ``dataset``."""
    splits = {name: dataset.split(name) for name in SPLITS}
    mean, std = pixel_statistics(dataset.train.images)
    channels, height, width = dataset.train.images.shape[1:]
    return DatasetSummary(
        name=dataset.name,
        task=dataset.task,
        class_names=dataset.class_names,
        image_shape=(channels, height, width),
        images={name: len(split) for name, split in splits.items()},
        counts={name: _class_counts(split, dataset.classes) for name, split in splits.items()},
        mean=mean,
        std=std,
        groups={
            name: _group_counts(split.groups, dataset.group_names)
            for name, split in splits.items()
            if split.groups is not None
        },
        source=dataset.source,
        checksum=dataset.checksum,
    )


def pixel_statistics(images: Tensor) -> tuple[float, float]:
    """Return mean and population standard deviation of uint8 pixels, scaled to [0, 1].

    Both come from the counts of the 256 values in whole numbers, so they are exact to the last
    rounding and need no copy of the pixels as floats.

    Args:
        images: uint8 of any shape, at least one pixel.
    """
    counts: list[int] = torch.bincount(images.flatten(), minlength=256).tolist()
    pixels = sum(counts)
    first = sum(value * count for value, count in enumerate(counts))
    second = sum(value * value * count for value, count in enumerate(counts))
    variance = (pixels * second - first * first) / (pixels * pixels)
    return first / pixels / 255, sqrt(variance) / 255


def _class_counts(split: Split, classes: int) -> tuple[int, ...]:
    if split.labels.dim() == 1:
        counts = torch.bincount(split.labels, minlength=classes)
    else:
        counts = split.labels.sum(0, dtype=torch.int64)
    return tuple(counts.tolist())


def _group_counts(groups: Tensor, names: tuple[str, ...]) -> dict[str, int]:
    counts = torch.bincount(groups, minlength=len(names)).tolist()
    return {name: count for name, count in zip(names, counts, strict=True) if count}
