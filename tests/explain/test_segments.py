"""Grids by hand, superpixels by what they must be, means and maps of segments."""

import sys

import pytest
import torch

from fedlens.errors import ExplanationError
from fedlens.explain.segments import grid_segments, segment_means, slic_segments, spread


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_a_grid_in_reading_order():
    expected = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]])
    assert torch.equal(grid_segments(4, 4, 2), expected)
    grid = grid_segments(28, 28, 7)
    assert grid.dtype == torch.int64 and grid.shape == (28, 28)
    assert torch.equal(grid.flatten().bincount(), torch.full((49,), 16))
    assert grid[0, 4] == 1 and grid[4, 0] == 7 and grid[27, 27] == 48


def test_a_grid_that_does_not_divide():
    grid = grid_segments(5, 7, 3)
    assert grid[:, 0].tolist() == [0, 0, 3, 3, 6]
    assert grid[0].tolist() == [0, 0, 0, 1, 1, 2, 2]
    for side in range(1, 12):
        for across in range(1, side + 1):
            sizes = grid_segments(side, 12, across)[:, 0].unique(return_counts=True)[1]
            assert len(sizes) == across and sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize(
    ("across", "sentence"),
    [
        (0, "across is 0, expected a whole number from 1"),
        (2.0, "across is 2.0, expected a whole number"),
        (True, "across is True"),
        (5, "across is 5, expected at most 4"),
    ],
)
def test_a_grid_that_cannot_be(across, sentence):
    with pytest.raises(ExplanationError, match=sentence):
        grid_segments(4, 6, across)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_superpixels_are_numbered_through_and_each_images_own(channels):
    images = rand(3, channels, 28, 28)
    images[1] = 0.5  # nothing to tell pixels apart by but their place
    segments = slic_segments(images)
    assert segments.shape == (3, 28, 28) and segments.dtype == torch.int64
    for number, cut in enumerate(segments):
        assert cut.unique().tolist() == list(range(int(cut.max()) + 1))
        assert torch.equal(slic_segments(images[[number]])[0], cut)
    assert 25 <= int(segments[1].max()) + 1 <= 75


@pytest.mark.parametrize("channels", [1, 3])
def test_superpixels_follow_an_edge(channels):
    images = torch.zeros(1, channels, 28, 28)
    images[..., 13:] = 1
    (cut,) = slic_segments(images, count=16)
    assert not set(cut[:, :13].unique().tolist()) & set(cut[:, 13:].unique().tolist())
    stretched = slic_segments(2 * images - 1, count=16)
    assert torch.equal(stretched[0], cut)


def test_superpixels_that_cannot_be(monkeypatch):
    for options, sentence in [
        ({"count": 0}, "count is 0"),
        ({"compactness": 0.0}, "compactness is 0.0, expected a number above 0"),
    ]:
        with pytest.raises(ExplanationError, match=sentence):
            slic_segments(rand(1, 1, 8, 8), **options)
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ExplanationError, match=r"install fedlens\[superpixels\]"):
        slic_segments(rand(1, 1, 8, 8))


def test_means_and_maps_of_segments():
    segments = torch.tensor([[0, 0, 1], [0, 1, 1]])
    images = torch.tensor([[[[1.0, 2, 5], [6, 7, 9]], [[0.1, 0.1, 0.2], [0.1, 0.2, 0.2]]]])
    expected = torch.tensor([[[[3.0, 3, 7], [3, 7, 7]], [[0.1, 0.1, 0.2], [0.1, 0.2, 0.2]]]])
    assert torch.equal(segment_means(images, segments), expected)
    values = torch.tensor([[3.0, -6.0]], dtype=torch.float64)
    whole, share = (spread(values, segments, shared=shared) for shared in (False, True))
    assert whole.tolist() == [[[3, 3, -6], [3, -6, -6]]] and whole.dtype == torch.float32
    assert share.tolist() == [[[1, 1, -2], [1, -2, -2]]]
