"""Gradients and paths against captum, and on linear networks where they are known."""

import pytest
import torch
from captum.attr import IntegratedGradients
from torch import nn

from fedlens.explain.baselines import blurred
from fedlens.explain.explaining import explain
from fedlens.explain.methods import gradient
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
    draws = torch.Generator().manual_seed(5)
    with torch.no_grad():  # without biases the score would be linear along the path from black
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(torch.randn(parameter.shape, generator=draws) / 2)
    given = images(6)
    result = explain(model, given, "integrated-gradients", target=Contrast(2, 0))
    assert (result.details["steps"] > 24).any(), "no path bends"
    with torch.no_grad():
        scores = [model(some)[:, 2] - model(some)[:, 0] for some in (given, 0 * given)]
    gap = scores[0] - scores[1]
    missed = (result.values.sum((1, 2)) - gap).abs()
    assert (missed <= (1e-3 * gap.abs()).clamp_min(1e-4) + 1e-6).all()


class Bent(nn.Module):
    """The first logit bends at 200 places on the way from black to white, and ends where it began."""

    def __init__(self) -> None:
        super().__init__()
        jumps = 10 * torch.randn(200, generator=torch.Generator().manual_seed(0))
        places = torch.linspace(0.02, 0.98, 200)
        self.places, self.jumps = nn.Parameter(places), nn.Parameter(jumps)
        self.level = float(jumps @ (1 - places))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        way = images.mean((1, 2, 3))[:, None]
        logit = (way - self.places).relu() @ self.jumps - self.level * way[:, 0]
        return torch.stack((logit, torch.zeros_like(logit)), 1)


def test_a_path_that_ends_where_it_began_is_complete_too():
    model, white = Bent().eval(), torch.ones(1, 1, 4, 4)
    assert (
        abs(float(model(white)[0, 0].detach())) < 1e-4
    )  # so that only the floor of the bar is left
    result = explain(model, white, "integrated-gradients", target=Contrast(0, 1))
    assert float(result.details["completeness_gap"].abs()) < 1e-4
    assert abs(float(result.values.double().sum())) < 2e-4
    # where the budget does not suffice, all of it is spent on the worst panels, and the gap is told
    short = explain(model, white, "integrated-gradients", target=Contrast(0, 1), most_steps=3000)
    assert int(short.details["steps"]) == 3000
    assert float(short.details["completeness_gap"].abs()) > 1e-4


def test_a_path_ends_where_only_the_networks_rounding_is_left():
    """Logits near 1e6 are known to about 0.1: no number of gradients reaches a bar of 1e-4."""
    model, white = Bent().eval(), torch.ones(1, 1, 4, 4)

    class Raised(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return model(images) + 1e6

    result = explain(Raised().eval(), white, "integrated-gradients", target=Contrast(0, 1))
    assert int(result.details["steps"]) < 3000


def test_halving_keeps_the_sum_of_the_panels(monkeypatch):
    """What is kept along the way equals what the panels that are left at the end sum to."""
    kept = []

    def integrate(path, panels, most_steps, run=gradient._Path.integrate):
        run(path, panels, most_steps)
        kept.append(path)

    monkeypatch.setattr(gradient._Path, "integrate", integrate)
    explain(Bent().eval(), torch.ones(1, 1, 4, 4), "integrated-gradients", target=0)
    (path,) = kept
    order = path._left.argsort()
    assert torch.equal(path._left[order][1:], path._right[order][:-1]), "the panels tile the path"
    assert path._left.min() == 0 and path._right.max() == 1
    parts = path._parts[: len(path._left)]
    assert torch.allclose(path._total, parts.sum(0), rtol=0, atol=1e-9)
    residuals = parts.sum((1, 2)) - (path._after - path._before)
    assert torch.allclose(path._residuals, residuals, rtol=0, atol=1e-9)


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
