"""Gradients and paths against captum, and on linear networks where they are known."""

import pytest
import torch
from captum.attr import IntegratedGradients
from torch import nn

from fedlens.explain.baselines import blurred
from fedlens.explain.explaining import explain
from fedlens.explain.target import Contrast
from fedlens.models import build_model


def images(count: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def linear() -> nn.Sequential:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    with torch.no_grad():
        model[1].weight.uniform_(-1, 1, generator=torch.Generator().manual_seed(1))
    return model.eval()


@pytest.mark.parametrize("network", ["paper-cnn", "paper-cnn-tanh"])
@pytest.mark.parametrize("baseline", ["black", "blurred"])
def test_integrated_gradients_equal_captums(network, baseline):
    model = build_model(network, in_channels=1, classes=4, image_size=28, seed=2).eval()
    given, target = images(2), torch.tensor([0, 3])
    start = torch.zeros_like(given) if baseline == "black" else blurred(given, 4.0)
    expected = IntegratedGradients(model).attribute(given, start, target, n_steps=500)
    result = explain(
        model, given, "integrated-gradients", target=target, baseline=baseline, panels=64
    )
    assert (result.values - expected[:, 0].detach()).abs().max() < 1e-4
    scale = expected.abs().max().item()
    assert (result.values - expected[:, 0].detach()).abs().max() < 0.02 * scale


def test_the_path_is_complete_to_the_bar_that_is_stated():
    model = build_model("paper-cnn", in_channels=1, classes=4, image_size=28, seed=2).eval()
    given = images(6)
    result = explain(model, given, "integrated-gradients", target=Contrast(2, 0))
    with torch.no_grad():
        scores = [model(some)[:, 2] - model(some)[:, 0] for some in (given, 0 * given)]
    gap = scores[0] - scores[1]
    missed = (result.values.sum((1, 2)) - gap).abs()
    assert (missed <= (1e-3 * gap.abs()).clamp_min(1e-4) + 1e-6).all()


@pytest.mark.parametrize("method", ["gradient", "smoothgrad"])
def test_the_slope_of_a_linear_network_is_its_weights(method):
    model = linear()
    result = explain(model, images(), method, target=1)
    torch.testing.assert_close(
        result.values, model[1].weight[1].detach().reshape(1, 28, 28).expand(4, -1, -1)
    )


def test_paths_of_a_linear_network_are_weights_times_the_way():
    model, given, others = linear(), images(), images(50, seed=3)
    weights = model[1].weight[1].detach().reshape(28, 28)
    black = explain(model, given, "integrated-gradients", target=1)
    torch.testing.assert_close(black.values, weights * given[:, 0], rtol=1e-4, atol=1e-6)
    expected = explain(
        model, given, "expected-gradients", target=1, references=others, samples=100
    )  # each of the fifty twice
    way = given[:, 0] - others[:, 0].mean(0)
    torch.testing.assert_close(expected.values, weights * way, rtol=1e-4, atol=1e-5)
