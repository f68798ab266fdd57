"""The reference benchmarks' network."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedlens.errors import ModelError
from fedlens.models import build_model


def lenet(channels: int = 1, classes: int = 10, size: int = 28, seed: int = 0) -> nn.Module:
    return build_model("lenet", in_channels=channels, classes=classes, image_size=size, seed=seed)


def test_it_has_exactly_44426_parameters() -> None:
    """By hand: 6 (25 + 1) + 16 (150 + 1) + 120 (256 + 1) + 84 (120 + 1) + 10 (84 + 1)."""
    assert sum(p.numel() for p in lenet().parameters()) == 156 + 2416 + 30_840 + 10_164 + 850
    assert sum(p.numel() for p in lenet().parameters()) == 44_426


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 33), (1, 16)])
def test_forward_and_gradients_are_those_of_the_textbook_network(channels, size) -> None:
    model = lenet(channels, size=size).double()
    x = torch.rand(4, channels, size, size, dtype=torch.float64)
    maps = x
    for layer in (model.conv1, model.conv2):
        maps = F.max_pool2d(torch.relu(F.conv2d(maps, layer.weight, layer.bias)), 2)
    hidden = torch.relu(F.linear(maps.flatten(1), model.dense1.weight, model.dense1.bias))
    hidden = torch.relu(F.linear(hidden, model.dense2.weight, model.dense2.bias))
    expected = F.linear(hidden, model.output.weight, model.output.bias)
    weights = list(model.parameters())
    plain = torch.autograd.grad(expected.square().sum(), weights)
    for outputs in (model(x), model.explanation_view()(x)):
        torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)
        for one, other in zip(
            torch.autograd.grad(outputs.square().sum(), weights), plain, strict=True
        ):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_weights_and_biases_are_uniform_within_the_root_of_the_fan_in() -> None:
    for name, fan_in in [("conv1", 25), ("conv2", 150), ("dense1", 256), ("dense2", 120)]:
        layer = getattr(lenet(seed=3), name)
        bound = 1 / math.sqrt(fan_in)
        for values in (layer.weight, layer.bias):
            assert float(values.detach().abs().max()) <= bound
        assert float(layer.weight.detach().abs().max()) > 0.9 * bound
    assert torch.equal(lenet(seed=5).conv2.weight, lenet(seed=5).conv2.weight)


def test_an_image_that_is_too_small_is_refused() -> None:
    with pytest.raises(ModelError, match="at least 16x16 pixels, got 15x15"):
        lenet(size=15)
