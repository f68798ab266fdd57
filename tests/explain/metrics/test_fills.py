import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedlens.errors import ExplanationError
from fedlens.explain.baselines import BASELINES, baseline_images
from fedlens.explain.contract import Context
from fedlens.explain.metrics import fill_images, imputation_noise, impute


def neighbours(images: Tensor) -> Tensor:
    """The weighted mean of each pixel's neighbours, by convolution."""
    kernel = torch.tensor([[1.0, 2, 1], [2, 0, 2], [1, 2, 1]], dtype=images.dtype)[None, None] / 12
    flat = images.flatten(0, 1)[:, None]
    sums = F.conv2d(flat, kernel, padding=1)
    return (sums / F.conv2d(torch.ones_like(flat), kernel, padding=1)).reshape(images.shape)


def test_a_ramp_comes_back():
    """Exactly, in holes that do not touch the border: each pixel is the mean of its neighbours."""
    down, across = torch.meshgrid(torch.arange(9.0), torch.arange(11.0), indexing="ij")
    ramp = torch.stack((0.5 + 0.02 * down - 0.03 * across, 0.1 * down)).double()
    holes = torch.zeros(3, 9, 11, dtype=torch.bool)
    holes[0, 3:6, 2:8] = True
    holes[1, 1:-1, 1:-1] = True  # all but the border
    holes[2, 1::2, 1:-1:3] = True
    images = torch.where(holes[:, None], 99.0, ramp)
    torch.testing.assert_close(impute(images, holes), ramp.expand(3, -1, -1, -1))


@pytest.mark.parametrize("shape", [(7, 5), (4, 9), (1, 6), (6, 1), (2, 2), (8, 2)])
def test_balance_with_the_neighbours(rand, shape):
    images, removed = rand(6, 3, *shape), rand(6, *shape, seed=1) < 0.6
    removed[:, 0, 0] = False
    removed[0] = True
    removed[0, -1, -1] = False  # one pixel is known: all are like it
    removed[1] = False
    found = impute(images, removed)
    here = removed[:, None].expand_as(found)
    torch.testing.assert_close(found[here], neighbours(found)[here])
    assert found[~here].equal(images[~here])
    torch.testing.assert_close(found[0], images[0, :, -1:, -1:].expand(-1, *shape))
    assert found[1].equal(images[1])


def test_all_removed_is_the_mean(rand):
    images = rand(2, 3, 4, 5)
    found = impute(images, torch.ones(2, 4, 5, dtype=torch.bool))
    torch.testing.assert_close(found, images.mean((2, 3), keepdim=True).expand_as(images))


def test_images_are_independent(rand):
    images, removed = rand(130, 1, 5, 5), rand(130, 5, 5, seed=1) < 0.5
    together = impute(images, removed)
    for number in (0, 64, 129):
        part = slice(number, number + 1)
        assert impute(images[part], removed[part]).equal(together[part])
    assert impute(images[:0], removed[:0]).shape == (0, 1, 5, 5)
    assert impute(images.float(), removed).dtype == torch.float32


def test_noise(seeded):
    noise = imputation_noise(torch.zeros(2, 3, 50, 50), seeded())
    assert noise.shape == (3, 50, 50)
    assert abs(noise.std() - 0.01) < 5e-4 and abs(noise.mean()) < 5e-4


def test_named_fills_are_the_baselines(rand):
    images, model = rand(3, 2, 8, 8), nn.Flatten()
    for name in BASELINES:
        assert fill_images(name, images, model).equal(baseline_images(name, images, Context(model)))
    one = rand(1, 2, 8, 8, seed=1).float()
    assert fill_images(one, images.float(), model).equal(one.expand(3, -1, -1, -1))


def test_refusals(rand):
    with pytest.raises(ExplanationError, match=r"expected bool \(2, 4, 4\)"):
        impute(rand(2, 1, 4, 4), torch.zeros(2, 4, 5, dtype=torch.bool))
    with pytest.raises(ExplanationError, match="expected bool"):
        impute(rand(2, 1, 4, 4), torch.zeros(2, 4, 4))
