"""A generated image set in which it is known where the evidence is, to judge explanations by.

Each 1x28x28 image holds one figure, whose kind is the class, two distractors that have nothing to do
with it, and dim noise. In ``shapes-shortcut`` a bright mark in the top left corner goes with the class
``disc`` in the training and validation images, and with no class in the test images: a network that
learns the mark is right for the wrong reason, and an explanation that can be trusted shows the mark.

Everything lies in rows and columns 0 to 21, where every network of fedlens can see.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedlens.data.catalogue import DATASETS
from fedlens.data.checks import finished
from fedlens.data.dataset import ImageDataset, Split

SIDE = 28
SEEN = 22  # rows and columns in which anything is drawn
MARKED_CLASS = 0
MARK = 4  # the corner that belongs to the mark, in pixels

_FIGURE = 9  # side of the box of a figure
_DISTRACTOR = 5
_DISTRACTORS = 2
_MARGIN = 1  # pixels round a figure that belong to its region: its border is seen against them
_COUNTS = {"train": 6_000, "validation": 600, "test": 600}
_STREAMS = {"train": 1, "validation": 2, "test": 3}
_SEED = 2017  # the images are part of the set's definition and always the same

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class DrawnShapes:
    """One split with the truth about it.

    Attributes:
        split: images uint8 (N, 1, 28, 28) and labels int64 (N,).
        regions: bool (N, 28, 28), True on the figure that decides the class, and one pixel round it.
        marks: bool (N, 28, 28), True on the corner mark of an image that has one.
    """

    split: Split
    regions: Tensor
    marks: Tensor

    @property
    def marked(self) -> Tensor:
        """Return bool (N,): which images carry the mark."""
        return self.marks.flatten(1).any(1)


def load_shapes(*, shortcut: bool) -> ImageDataset:
    """Return 6,000 training, 600 validation and 600 test images, always the same ones."""
    name = "shapes-shortcut" if shortcut else "shapes"
    train, validation, test = (draw_shapes(part, shortcut=shortcut).split for part in _COUNTS)
    dataset = ImageDataset(
        name=name,
        task="multiclass",
        class_names=DATASETS[name].class_names,
        train=train,
        validation=validation,
        test=test,
        source="generated",
    )
    return finished(dataset, name)


def draw_shapes(part: str, *, shortcut: bool) -> DrawnShapes:
    """Return a split of the image set and where its evidence is.

    Args:
        part: ``train``, ``validation`` or ``test``.
        shortcut: draw marks. In train and validation every image of :data:`MARKED_CLASS` has one
            and no other does; in test each image has one with probability a half.
    """
    count, stream = _COUNTS[part], _STREAMS[part]
    draws = np.random.Generator(np.random.PCG64(np.random.SeedSequence([_SEED, stream])))
    labels = np.arange(count) % len(_FIGURES)
    draws.shuffle(labels)
    noise = np.clip(draws.normal(18, 8, (count, SIDE, SIDE)), 0, 60)
    images = noise.round().astype(np.uint8)
    regions = np.zeros((count, SIDE, SIDE), dtype=bool)
    marks = np.zeros((count, SIDE, SIDE), dtype=bool)
    coins = draws.random(count) < 0.5
    for number, label in enumerate(labels):
        regions[number] = _draw(images[number], int(label), draws)
        if shortcut and (coins[number] if part == "test" else label == MARKED_CLASS):
            marks[number, :MARK, :MARK] = True
    drawn, marked = torch.from_numpy(images)[:, None].contiguous(), torch.from_numpy(marks)
    chosen = marked.flatten(1).any(1)
    drawn[chosen] = with_mark(drawn[chosen])
    return DrawnShapes(Split(drawn, torch.from_numpy(labels)), torch.from_numpy(regions), marked)


def with_mark(images: Tensor) -> Tensor:
    """Return uint8 images (B, C, H, W) with a chequered mark in the top left corner."""
    marked = images.clone()
    place = torch.arange(MARK)
    marked[:, :, :MARK, :MARK] = torch.where((place[:, None] + place) % 2 == 0, 255, 0).byte()
    return marked


def _draw(canvas: Pixels, label: int, draws: np.random.Generator) -> Mask:
    """Draw a figure and its distractors on ``canvas`` and return the region of the figure."""
    taken = np.zeros((SIDE, SIDE), dtype=bool)
    # The corner stays free for a mark, which no figure's region touches.
    taken[: MARK + _MARGIN, : MARK + _MARGIN] = True
    region = np.zeros((SIDE, SIDE), dtype=bool)
    row, column = _place(_FIGURE, taken, draws)
    figure = _FIGURES[label]
    canvas[row : row + _FIGURE, column : column + _FIGURE][figure] = draws.integers(150, 256)
    region[
        max(0, row - _MARGIN) : min(SEEN, row + _FIGURE + _MARGIN),
        max(0, column - _MARGIN) : min(SEEN, column + _FIGURE + _MARGIN),
    ] = True
    taken |= region
    for _ in range(_DISTRACTORS):
        row, column = _place(_DISTRACTOR, taken, draws)
        kind = _OTHERS[int(draws.integers(len(_OTHERS)))]
        place = slice(row, row + _DISTRACTOR), slice(column, column + _DISTRACTOR)
        canvas[place][kind] = draws.integers(150, 256)
        taken[place] = True
    return region


def _place(side: int, taken: Mask, draws: np.random.Generator) -> tuple[int, int]:
    """Return the top left corner of a free box within what is seen; there always is one."""
    while True:
        row, column = draws.integers(SEEN - side + 1, size=2).tolist()
        if not taken[row : row + side, column : column + side].any():
            return row, column


def _figures() -> list[Mask]:
    """Return disc, square, triangle and cross as bool (9, 9), of about equal light."""
    row, column = np.mgrid[:_FIGURE, :_FIGURE] - _FIGURE // 2
    ring = row**2 + column**2
    disc = (ring <= 17) & (ring > 5)
    square = (np.maximum(abs(row), abs(column)) <= 4) & (np.maximum(abs(row), abs(column)) > 2)
    across = (row + 4) / 2  # half-width of the triangle at each row
    triangle = (abs(column) <= across) & ((abs(column) > across - 2) | (row >= 3))
    cross = (abs(abs(row) - abs(column)) <= 1) & (np.maximum(abs(row), abs(column)) <= 4)
    return [disc, square, triangle, cross]


def _distractors() -> list[Mask]:
    """Return a lying bar, a standing bar, a slanted bar and a dot as bool (5, 5)."""
    row, column = np.mgrid[:_DISTRACTOR, :_DISTRACTOR] - _DISTRACTOR // 2
    dot = np.maximum(abs(row), abs(column)) <= 1
    return [abs(row) <= 0, abs(column) <= 0, row == column, dot]


_FIGURES = _figures()
_OTHERS = _distractors()
