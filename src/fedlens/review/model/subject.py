"""The model under review: what the console knows of a trained network, as plain values."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedlens.data import Split
from fedlens.review.contract import ReviewError
from fedlens.training import Evaluation


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network and what it was trained on; L is the number of classes.

    Attributes:
        title: one line.
        network: its name, such as ``paper-cnn``.
        model: maps float (B, C, H, W) in [0, 1] to logits (B, L). The console gives it to one
            thread: nothing else may use it meanwhile.
        digest: SHA-256 of its weights, 64 hexadecimal digits; see :func:`weights_digest`.
        class_names: L names.
        channels, image_size: C, and height and width of the (square) images in pixels.
        dataset_name, dataset_checksum: of the image set.
        test: figures on the test split.
        validation: what confidence, novelty and the scales of maps are set by.
        task: ``multiclass``; no other can be reviewed.
        train: for nearest examples alone, which are off unless policy allows them; None where the
            images are elsewhere.
        test_split: the test images, or None.
        round: last round of a federation (or last epoch), from 1; None where not known.
        trained: how it was trained, in words.
        privacy: ``epsilon``, ``delta``, ``unit``, ``relation`` of what was spent, plain JSON; None
            for a network that was trained without.
        methods: names of explanation methods, at least one; the first is shown first.
        layer: convolution that is explained, or None for the last one.
        blind_area: bool (H, W), True where the network cannot see; None if it sees everything.
        groups: institution (or patient group) -> figures on its test images; None where the test
            images have no groups.
        seed: root seed of the run, from which all draws of the console come.

    Raises:
        ReviewError: the values do not fit together, or the task has several labels an image.
    """

    title: str
    network: str
    model: nn.Module
    digest: str
    class_names: tuple[str, ...]
    channels: int
    image_size: int
    dataset_name: str
    dataset_checksum: str
    test: Evaluation
    validation: Split
    task: str = "multiclass"
    train: Split | None = None
    test_split: Split | None = None
    round: int | None = None
    trained: str = ""
    privacy: Mapping[str, Any] | None = None
    methods: tuple[str, ...] = ("grad-cam", "integrated-gradients")
    layer: str | None = None
    blind_area: Tensor | None = None
    groups: Mapping[str, Evaluation] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task != "multiclass":
            raise ReviewError(
                f"{self.title} has several labels an image, and the console reviews one class an "
                "image; review a multiclass run."
            )
        if len(self.class_names) < 2 or not self.methods:
            raise ReviewError(
                f"{self.title} has {len(self.class_names)} classes and {len(self.methods)} "
                "explanation methods, expected at least two and one."
            )
        if self.test.confusion is None or len(self.test.support) != len(self.class_names):
            raise ReviewError(
                f"The test figures of {self.title} are not of its {len(self.class_names)} classes."
            )
        for name, split in (
            ("validation", self.validation),
            ("test", self.test_split),
            ("train", self.train),
        ):
            if split is None:
                continue
            if split.images.dtype != torch.uint8 or split.images.shape[1:] != self.image_shape:
                raise ReviewError(
                    f"The {name} images are {split.images.dtype} {tuple(split.images.shape[1:])}, "
                    f"expected uint8 {self.image_shape}."
                )
        if len(self.validation) == 0:
            raise ReviewError(
                f"{self.title} has no validation images, by which confidence is set right."
            )
        if self.blind_area is not None and self.blind_area.shape != self.image_shape[1:]:
            raise ReviewError(
                f"The blind area is {tuple(self.blind_area.shape)}, expected "
                f"{self.image_shape[1:]}."
            )

    @property
    def classes(self) -> int:
        """Return L, the number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Return (C, H, W)."""
        return self.channels, self.image_size, self.image_size


def weights_digest(model: nn.Module) -> str:
    """Return SHA-256 over all parameters and persistent buffers, 64 hexadecimal digits.

    Over the name, dtype, shape and bytes (row-major, little-endian) of each, in the order of the
    names, so that two networks have one digest only where they compute the same.
    """
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        found.update(f"{name}\0{values.dtype}\0{tuple(values.shape)}\0".encode())
        found.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def image_digest(image: Tensor) -> str:
    """Return SHA-256 of the pixels of an image uint8 (C, H, W), row by row, 64 hexadecimal digits."""
    return hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()


def map_digest(values: Tensor) -> str:
    """Return SHA-256 of a map float32 (H, W), little-endian and row by row, 64 hexadecimal digits."""
    return hashlib.sha256(
        values.detach().cpu().contiguous().numpy().astype("<f4").tobytes()
    ).hexdigest()
