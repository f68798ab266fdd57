"""The generated set: what its images are said to hold is there, and nothing else is."""

import pytest
import torch

from fedlens.data import load_dataset
from fedlens.data.shapes import MARK, MARKED_CLASS, SEEN, draw_shapes
from fedlens.data.summary import summarise


@pytest.mark.parametrize("shortcut", [False, True])
def test_the_parts_and_what_is_known_of_them(shortcut):
    drawn = draw_shapes("test", shortcut=shortcut)
    again = draw_shapes("test", shortcut=shortcut)
    images, labels = drawn.split.images, drawn.split.labels
    assert images.shape == (600, 1, 28, 28) and images.dtype == torch.uint8
    assert torch.equal(images, again.split.images) and torch.equal(drawn.regions, again.regions)
    assert labels.bincount().tolist() == [150] * 4
    bright = images[:, 0] > 100
    assert not bright[:, SEEN:].any() and not bright[:, :, SEEN:].any()
    # a region is a box of 9x9 and a border of one pixel, less what is cut off at the edge
    sizes = drawn.regions.flatten(1).sum(1)
    assert sizes.min() >= 100 and sizes.max() == 121
    light = (bright & drawn.regions).flatten(1).sum(1)
    # 36, 56, 36 and 45 pixels of figure
    for label, expected in enumerate((36, 56, 36, 45)):
        assert light[labels == label].unique().tolist() == [expected]


def test_distractors_never_touch_a_figures_region():
    drawn = draw_shapes("test", shortcut=False)
    outside = (drawn.split.images[:, 0] > 100) & ~drawn.regions
    count = outside.flatten(1).sum(1)
    assert count.min() >= 10 and count.max() <= 18  # two of 5 to 9 pixels
    assert not (outside[:, :MARK, :MARK]).any()


def test_the_mark_goes_with_a_class_in_training_and_with_none_in_the_test():
    train = draw_shapes("train", shortcut=True)
    assert torch.equal(train.marked, train.split.labels == MARKED_CLASS)
    test = draw_shapes("test", shortcut=True)
    share = test.marked.double()
    for label in range(4):
        assert share[test.split.labels == label].mean() == pytest.approx(0.5, abs=0.12)
    assert not draw_shapes("test", shortcut=False).marks.any()
    corner = test.split.images[test.marked, 0, :MARK, :MARK]
    assert (corner == corner[0]).all() and corner[0].float().std() > 100


def test_the_two_sets_differ_by_nothing_but_the_mark():
    plain, marked = draw_shapes("test", shortcut=False), draw_shapes("test", shortcut=True)
    rest = ~marked.marks
    assert torch.equal(plain.split.images[:, 0][rest], marked.split.images[:, 0][rest])
    assert torch.equal(plain.split.labels, marked.split.labels)
    assert torch.equal(plain.regions, marked.regions)


@pytest.mark.parametrize("name", ["shapes", "shapes-shortcut"])
def test_they_are_known_by_name(name):
    dataset = load_dataset(name, download=False)
    assert dataset.class_names == ("disc", "square", "triangle", "cross")
    assert list(summarise(dataset).images.values()) == [6_000, 600, 600]
    assert dataset.source == "generated" and len(dataset.checksum) == 64
    assert not torch.equal(dataset.train.images[:600], dataset.test.images)
