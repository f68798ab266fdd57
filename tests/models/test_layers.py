"""Weight standardisation, worked out by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from fedlens.models.layers import WeightStandardizedConv2d, draw_uniform


def tiny() -> WeightStandardizedConv2d:
    layer = WeightStandardizedConv2d(1, 2, 2, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[0.0, 0.0], [0.0, 8.0]]]]))
    return layer


def test_a_tiny_kernel_by_hand() -> None:
    """Channel 0: mean 2.5, sum of squares 5. Channel 1: mean 2, sum of squares 3 * 4 + 36 = 48."""
    expected = torch.tensor(
        [[[[-1.5, -0.5], [0.5, 1.5]]], [[[-2.0, -2.0], [-2.0, 6.0]]]], dtype=torch.float64
    )
    expected[0] /= math.sqrt(5 + 1e-5)
    expected[1] /= math.sqrt(48 + 1e-5)
    layer = tiny()
    torch.testing.assert_close(layer.kernel(), expected, rtol=0, atol=1e-14)
    images = torch.rand(3, 1, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(images), F.conv2d(images, expected), rtol=0, atol=1e-14)


def test_mean_0_and_variance_1_over_the_fan_in() -> None:
    layer = WeightStandardizedConv2d(6, 8, 3, groups=2)
    draw_uniform([layer], torch.Generator().manual_seed(1))
    kernel = layer.kernel()
    torch.testing.assert_close(kernel.mean((1, 2, 3)), torch.zeros(8), rtol=0, atol=1e-7)
    variance = kernel.var((1, 2, 3), correction=0)
    torch.testing.assert_close(variance, torch.full((8,), 1 / 27), rtol=1e-4, atol=0)


def test_neither_shift_nor_scale_of_the_weights_matters() -> None:
    layer = tiny()
    before = layer.kernel()
    with torch.no_grad():
        layer.weight.mul_(3).add_(7)
    torch.testing.assert_close(layer.kernel(), before, rtol=1e-5, atol=0)


def test_equal_weights_give_a_black_kernel_and_a_finite_gradient() -> None:
    layer = tiny()
    with torch.no_grad():
        layer.weight.fill_(2.0)
    assert not layer.kernel().any()
    layer(torch.rand(1, 1, 4, 4, dtype=torch.float64)).sum().backward()
    assert bool(layer.weight.grad.isfinite().all())


def test_stride_and_padding_are_those_of_a_convolution() -> None:
    layer = WeightStandardizedConv2d(2, 4, 3, stride=2, padding=1)
    images = torch.rand(2, 2, 9, 9)
    expected = F.conv2d(images, layer.kernel(), layer.bias, stride=2, padding=1)
    assert torch.equal(layer(images), expected)


@pytest.mark.parametrize("bias", [True, False])
def test_initial_values_fill_the_bound_of_the_fan_in(bias: bool) -> None:
    layer = torch.nn.Conv2d(4, 200, 5, bias=bias)
    draw_uniform([layer], torch.Generator().manual_seed(2))
    values = layer.weight if layer.bias is None else torch.cat([layer.weight.flatten(), layer.bias])
    assert 0.099 < float(values.detach().abs().max()) <= 0.1  # 1 / sqrt(4 * 25)
