"""The study's network: its size, its weights, its two equal forms."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedlens.errors import ModelError
from fedlens.models import build_model
from fedlens.models.paper_cnn import PaperCNN, channels_last
from fedlens.models.summary import summarise_layers


def paper_cnn(channels: int = 1, classes: int = 10, size: int = 28, seed: int = 0) -> PaperCNN:
    model = build_model(
        "paper-cnn", in_channels=channels, classes=classes, image_size=size, seed=seed
    )
    assert isinstance(model, PaperCNN)
    return model


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_it_has_exactly_65354_parameters() -> None:
    assert parameters(paper_cnn()) == 65_354


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 9), (1, 14)])
def test_channels_and_classes_change_only_the_ends(channels: int, classes: int) -> None:
    # By hand: the first convolution has 9 more weights a filter for each further channel, and the
    # last layer 128 weights and a bias a class.
    expected = 65_354 + (channels - 1) * 32 * 9 + (classes - 10) * 129
    model = paper_cnn(channels, classes)
    assert parameters(model) == expected
    assert model(torch.rand(2, channels, 28, 28)).shape == (2, classes)


def test_forward_returns_logits_of_the_textbook_network() -> None:
    """Convolution, ReLU, pool, written out with functions: the pooling comes after the ReLU."""
    model = paper_cnn().double()
    x = torch.rand(4, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    maps = x
    for layer in (model.conv1, model.conv2, model.conv3):
        maps = F.max_pool2d(torch.relu(F.conv2d(maps, layer.weight, layer.bias)), 2)
    hidden = torch.relu(F.linear(maps.flatten(1), model.dense.weight, model.dense.bias))
    expected = F.linear(hidden, model.output.weight, model.output.bias)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.explanation_view()(x), expected, rtol=0, atol=1e-12)


def test_both_forms_have_the_same_weight_gradients() -> None:
    model = paper_cnn().double()
    x = torch.rand(4, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([1, 2, 3, 4])
    weights = list(model.parameters())
    fast = torch.autograd.grad(F.cross_entropy(model(x), y), weights)
    plain = torch.autograd.grad(F.cross_entropy(model.explanation_view()(x), y), weights)
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [22, 23, 28, 29, 30, 31, 37, 38, 46])
def test_it_computes_on_what_it_sees_and_no_less(size: int) -> None:
    """The square that ``forward`` cuts out against the gradient of the textbook network."""
    model = paper_cnn(channels=2, size=size).double()
    generator = torch.Generator().manual_seed(4)
    x = torch.rand(32, 2, size, size, dtype=torch.float64, generator=generator)
    x.requires_grad_()
    plain = model.explanation_view()(x)
    (gradient,) = torch.autograd.grad(plain.square().sum(), x)
    seen = (gradient != 0).any(0).any(0)
    assert int(seen.any(1).sum()) == int(seen.any(0).sum()) == model.visible
    assert bool(seen[: model.visible, : model.visible].any(1).all())
    torch.testing.assert_close(model(x), plain, rtol=0, atol=1e-12)


def test_weights_are_glorot_uniform_and_biases_zero() -> None:
    model = paper_cnn(seed=3)
    layers = {
        # fan_in, fan_out as Keras counts them: receptive field times channels
        model.conv1: (9 * 1, 9 * 32),
        model.conv2: (9 * 32, 9 * 64),
        model.conv3: (9 * 64, 9 * 64),
        model.dense: (64, 128),
        model.output: (128, 10),
    }
    for layer, (fan_in, fan_out) in layers.items():
        limit = (6 / (fan_in + fan_out)) ** 0.5
        weight = layer.weight.detach()
        assert float(weight.abs().max()) <= limit
        assert float(weight.abs().max()) > 0.95 * limit
        # Uniform on [-a, a]: standard deviation a / sqrt(3); four standard errors of tolerance.
        spread = 4 * limit / (3**0.5) / (2 * weight.numel()) ** 0.5
        assert abs(float(weight.std()) - limit / 3**0.5) < spread
        assert not layer.bias.detach().any()


def test_the_seed_decides_the_weights_and_nothing_global_does() -> None:
    before = torch.random.get_rng_state()
    first, again, other = paper_cnn(seed=5), paper_cnn(seed=5), paper_cnn(seed=6)
    assert torch.equal(first.conv2.weight, again.conv2.weight)
    assert not torch.equal(first.conv2.weight, other.conv2.weight)
    assert torch.equal(before, torch.random.get_rng_state())


def test_it_cannot_see_rows_and_columns_22_to_27() -> None:
    """Valid padding and floor pooling: the last stage reads only pixels 0 to 21 (DESIGN, 4)."""
    model = paper_cnn().double()
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(64, 1, 28, 28, dtype=torch.float64, generator=generator)
    changed = x.clone()
    changed[:, :, 22:, :] = 1 - changed[:, :, 22:, :]
    changed[:, :, :, 22:] = 1 - changed[:, :, :, 22:]
    assert torch.equal(model(x), model(changed))
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).square().sum(), x)
    seen = (gradient != 0).any(0)[0]
    assert bool(seen[:22, :22].all())
    assert not seen[22:, :].any()
    assert not seen[:, 22:].any()


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_changes_the_layout_and_not_the_values(channels: int) -> None:
    x = torch.rand(5, channels, 28, 28)
    laid = channels_last(x)
    assert torch.equal(x, laid)
    assert laid.stride() == (784 * channels, 1, 28 * channels, channels)


def test_an_image_that_is_too_small_is_refused() -> None:
    with pytest.raises(ModelError, match="at least 22x22 pixels, got 21x21"):
        paper_cnn(size=21)
    assert paper_cnn(size=22)(torch.rand(1, 1, 22, 22)).shape == (1, 10)


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no network 'resnet'.*paper-cnn"):
        build_model("resnet", in_channels=1, classes=10, image_size=28)


def test_the_summary_lists_every_step_with_its_shape() -> None:
    steps = summarise_layers(paper_cnn(), (1, 28, 28))
    shapes = {step.name: step.output_shape for step in steps}
    # 28 -> 26 -> 13 -> 11 -> 5 -> 3 -> 1, from DESIGN section 4
    assert shapes["conv1"] == (32, 26, 26)
    assert shapes["pool1"] == (32, 13, 13)
    assert shapes["conv2"] == (64, 11, 11)
    assert shapes["pool2"] == (64, 5, 5)
    assert shapes["conv3"] == (64, 3, 3)
    assert shapes["pool3"] == (64, 1, 1)
    assert shapes["output"] == (10,)
    assert sum(step.parameters for step in steps) == 65_354
