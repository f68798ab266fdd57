"""Which decisions the study explains: two classes taken for each other, and as many right ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fedlens.data import ImageDataset
from fedlens.errors import ExplanationError
from fedlens.explain import Contrast
from fedlens.randomness import Purpose, generator
from fedlens.training.prediction import predict

MAIN_PAIR = ("Shirt", "T-shirt/top")  # the study's critical pair
OTHER_PAIRS = (("Coat", "Pullover"), ("Dress", "Coat"), ("Ankle boot", "Sneaker"))
REFERENCES = 100  # training images that baselines and expectations are taken over


class NothingToExplainError(ExplanationError):
    """The network makes no such mistakes, or the image set has no such classes: a finding too."""


@dataclass(frozen=True, eq=False)
class Group:
    """Images of one class with one prediction, and what is asked of them.

    Attributes:
        true, predicted: names of the classes.
        contrast: for a mistake, why the predicted class and not the true one; for a right answer,
            why it and not the other class of the pair.
        indices: int64 (n,), positions in the test split, in order.
        images: uint8 (n, C, H, W).
        found: how many such images the test split has.
    """

    true: str
    predicted: str
    contrast: Contrast
    indices: npt.NDArray[np.int64]
    images: Tensor
    found: int

    @property
    def right(self) -> bool:
        """Return whether the answers are right."""
        return self.true == self.predicted

    @property
    def name(self) -> str:
        """Return what the group is called."""
        return f"{self.true}, right" if self.right else f"{self.true} taken for {self.predicted}"

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.indices)

    def head(self, count: int) -> "Group":
        """Return the group of its first images."""
        return Group(
            self.true, self.predicted, self.contrast,
            self.indices[:count], self.images[:count], self.found,
        )  # fmt: skip


def pair_groups(
    model: nn.Module, dataset: ImageDataset, pair: Sequence[str], most: int, seed: int
) -> list[Group]:
    """Return the mistakes in both directions and as many right answers of each class.

    Where there are more mistakes than ``most``, and always among the right answers, images are
    drawn without repetition from the stream of ``seed``.

    Args:
        model: the network whose decisions they are.
        dataset: its image set; the test split is used.
        pair: names of two classes.
        most: images in a group.
        seed: root seed of the draw.

    Raises:
        NothingToExplainError: the image set has not these classes, or there is no mistake between
            them.
    """
    names = list(dataset.class_names)
    for name in pair:
        if name not in names:
            raise NothingToExplainError(
                f"There is no class '{name}' in {dataset.name}, expected one of {', '.join(names)}."
            )
    predicted = predict(model, dataset.test.images).argmax(1).numpy()
    truth = dataset.test.labels.numpy()
    draws = generator(seed, Purpose.EXPLAIN, client=1)
    first, second = (names.index(name) for name in pair)
    groups: list[Group] = []
    for true, answer in ((first, second), (second, first), (first, first), (second, second)):
        found = np.flatnonzero((truth == true) & (predicted == answer))
        wanted = most
        if true == answer:
            wanted = max((len(group) for group in groups if group.true == names[true]), default=0)
        chosen = np.sort(draws.permutation(found)[:wanted])
        if len(chosen) == 0:
            continue
        against = true if true != answer else first + second - true
        groups.append(
            Group(
                true=names[true],
                predicted=names[answer],
                contrast=Contrast(answer, against),
                indices=chosen,
                images=dataset.test.images[torch.from_numpy(chosen)],
                found=len(found),
            )
        )
    if not groups:
        raise NothingToExplainError(
            f"The network never takes {pair[0]} and {pair[1]} for each other on the test images; "
            "there is nothing to explain."
        )
    return groups


def reference_images(dataset: ImageDataset, seed: int) -> Tensor:
    """Return uint8 (R, C, H, W): training images drawn without repetition."""
    count = len(dataset.train)
    draws = generator(seed, Purpose.EXPLAIN, client=2)
    chosen = draws.permutation(count)[: min(REFERENCES, count)]
    return dataset.train.images[torch.from_numpy(np.sort(chosen))]
