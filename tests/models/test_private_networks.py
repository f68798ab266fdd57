"""The networks that are made for training under differential privacy."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedlens.errors import ModelError
from fedlens.models import (
    FixedFeatureNetwork,
    FlatParameters,
    build_model,
    get_vector,
    has_batch_norm,
)
from fedlens.models.layers import WeightStandardizedConv2d
from fedlens.models.paper_cnn import PaperCNN, PaperCNNTanh
from fedlens.models.summary import summarise_layers

# By hand, for 1x28x28 images and 10 classes.
PARAMETERS = {
    "paper-cnn-tanh": 65_354,
    "tanh-cnn": (64 + 1) * 16 + (256 + 1) * 32 + (512 + 1) * 32 + (32 + 1) * 10,
    "scatter-linear": (81 * 49 + 1) * 10,
    "scatter-cnn": (729 + 1) * 16 + (144 + 1) * 32 + (512 + 1) * 32 + (32 + 1) * 10,
    "wide-gn": 9 * (32 + 32 * 48 + 48 * 64 + 64 * 96) + 2 * (32 + 48 + 64 + 96) + (96 + 1) * 10,
}
CONVOLUTIONAL = [name for name in PARAMETERS if name != "scatter-linear"]
SCATTER = ["scatter-linear", "scatter-cnn"]
SMALLEST = {
    "paper-cnn-tanh": 22,
    "tanh-cnn": 14,
    "scatter-linear": 8,
    "scatter-cnn": 8,
    "wide-gn": 8,
}


def network(
    name: str, channels: int = 1, classes: int = 10, size: int = 28, seed: int = 0
) -> nn.Module:
    return build_model(name, in_channels=channels, classes=classes, image_size=size, seed=seed)


def random_images(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def test_parameters_by_hand() -> None:
    for name, expected in PARAMETERS.items():
        assert get_vector(network(name)).numel() == expected, name
    assert PARAMETERS["tanh-cnn"] == 26_010
    assert PARAMETERS["scatter-linear"] == 39_700
    assert PARAMETERS["scatter-cnn"] == 33_066
    assert PARAMETERS["wide-gn"] == 98_506


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 28), (1, 64), (3, 64), (1, 31)])
def test_colours_and_sizes(name: str, channels: int, size: int) -> None:
    model = network(name, channels, classes=7, size=size)
    images = torch.rand(2, channels, size, size)
    assert model(images).shape == (2, 7)
    assert model(images[:0]).shape == (0, 7)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_seed_decides_the_weights_and_nothing_global_does(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = (get_vector(network(name, seed=seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert bool(first.isfinite().all())
    network(name)(torch.rand(1, 1, 28, 28, generator=torch.Generator()))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_and_every_pixel_has_a_gradient(name: str) -> None:
    model = network(name).double()
    images = random_images(8, 1, 28, 28).requires_grad_()
    F.cross_entropy(model(images), torch.arange(8)).backward()
    for parameter in model.parameters():
        assert bool(parameter.grad.isfinite().all())
        assert bool(parameter.grad.any())
    seen = (images.grad != 0).any(0)[0]
    assert bool(seen[:22, :22].all())
    # paper-cnn's blind area (DESIGN, section 4) is of its shape, whatever the activation.
    assert bool(seen.all()) == (name != "paper-cnn-tanh")


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_image_does_not_depend_on_its_neighbours(name: str) -> None:
    """What per-example clipping needs: no statistics of the batch."""
    model = network(name).double()
    assert not has_batch_norm(model)
    images = random_images(3, 1, 28, 28)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_copy_in_double_precision_and_a_flat_one_compute_the_same(name: str) -> None:
    model = network(name)
    images = random_images(4, 1, 28, 28)
    plain = model(images.float())
    double = copy.deepcopy(model).double()(images)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), plain, rtol=0, atol=1e-4)
    flat = FlatParameters(model)
    state = torch.empty(flat.state_length)
    assert flat.state_length == PARAMETERS[name]  # no filter travels
    flat.save_state(state)
    flat.load_state(state)
    assert torch.equal(model(images.float()), plain)


@pytest.mark.parametrize("name", PARAMETERS)
def test_too_small_an_image_is_refused(name: str) -> None:
    smallest = SMALLEST[name]
    assert network(name, size=smallest)(torch.rand(1, 1, smallest, smallest)).shape == (1, 10)
    small = smallest - 1
    with pytest.raises(ModelError, match=rf"at least {smallest}x{smallest} pixels, got {small}x"):
        network(name, size=small)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 31)])
def test_the_explanation_view_is_the_same_function(name: str, channels: int, size: int) -> None:
    model = network(name, channels, size=size).double().eval()
    images = random_images(4, channels, size, size)
    view = model.explanation_view()
    assert not view.training
    torch.testing.assert_close(view(images), model(images), rtol=0, atol=1e-12)
    weights = list(model.parameters())
    target = torch.tensor([1, 2, 3, 4])
    fast = torch.autograd.grad(F.cross_entropy(model(images), target), weights)
    plain = torch.autograd.grad(F.cross_entropy(view(images), target), weights)
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_maps_are_activated_by_tanh(name: str) -> None:
    model = network(name)
    view = model.explanation_view()
    modules = dict(view.named_modules())
    convolutions = [key for key, module in modules.items() if isinstance(module, nn.Conv2d)]
    assert list(model.map_layers) == convolutions
    for activated in model.map_layers.values():
        assert isinstance(modules[activated], nn.Tanh)
    assert not any(isinstance(module, nn.ReLU) for module in view.modules())


def test_a_scattering_network_without_convolution_offers_no_map() -> None:
    """Then the explaining room says so itself: it looks for these two, or for a convolution."""
    model = network("scatter-linear")
    assert not hasattr(model, "explanation_view")
    assert not hasattr(model, "map_layers")
    assert not any(isinstance(module, nn.Conv2d) for module in model.modules())


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_summary_counts_every_parameter(name: str) -> None:
    steps = summarise_layers(network(name), (1, 28, 28))
    assert sum(step.parameters for step in steps) == PARAMETERS[name]
    assert steps[-1].output_shape == (10,)


def test_paper_cnn_tanh_is_the_textbook_network_with_the_weights_of_paper_cnn() -> None:
    model = network("paper-cnn-tanh", seed=3)
    relu = network("paper-cnn", seed=3)
    assert isinstance(model, PaperCNNTanh)
    assert isinstance(relu, PaperCNN)
    assert torch.equal(get_vector(model), get_vector(relu))
    assert list(model.map_layers.values()) == ["tanh1", "tanh2", "tanh3"]
    assert list(relu.map_layers.values()) == ["relu1", "relu2", "relu3"]
    model = model.double()
    images = random_images(4, 1, 28, 28)
    maps = images
    for layer in (model.conv1, model.conv2, model.conv3):
        maps = F.max_pool2d(torch.tanh(layer(maps)), 2)
    expected = model.output(torch.tanh(model.dense(maps.flatten(1))))
    torch.testing.assert_close(model(images), expected, rtol=0, atol=1e-12)
    with pytest.raises(ModelError, match="paper-cnn-tanh needs images"):
        network("paper-cnn-tanh", size=21)


def test_wide_gn_standardises_all_convolutions_but_the_first() -> None:
    model = network("wide-gn")
    kinds = [type(getattr(model, f"conv{number}")) for number in range(1, 5)]
    assert kinds == [nn.Conv2d] + 3 * [WeightStandardizedConv2d]


@pytest.mark.parametrize("name", SCATTER)
@pytest.mark.parametrize("channels", [1, 3])
def test_forward_is_the_head_on_the_fixed_features(name: str, channels: int) -> None:
    model = network(name, channels)
    assert isinstance(model, FixedFeatureNetwork)
    images = torch.rand(5, channels, 28, 28)
    features = model.fixed_features(images)
    assert features.shape == (5, 81 * channels, 7, 7)
    assert not features.requires_grad
    assert torch.equal(model(images), model.head(features))
    assert list(model.parameters()) == list(model.head.parameters())
    # GroupNorm by hand: 3 neighbouring channels of one image together, eps = 1e-5.
    groups = model.scattering(images).view(5, 27 * channels, -1)
    centred = groups - groups.mean(2, keepdim=True)
    expected = centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(features, expected.view_as(features), rtol=0, atol=1e-4)
    assert float(features.abs().max()) <= (3 * 49 - 1) ** 0.5


@pytest.mark.parametrize("name", SCATTER)
def test_features_of_half_precision_are_half_the_size_and_rounded_as_said(name: str) -> None:
    model = network(name)
    images = torch.rand(5, 1, 28, 28)
    features = model.fixed_features(images)
    half = model.fixed_features(images, dtype=torch.float16)
    assert half.nbytes * 2 == features.nbytes
    error = (half.double() - features.double()).abs()
    assert bool((error <= features.double().abs() * 2**-11 + 2**-25).all())
    logits = model.head(half)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, model.head(features), rtol=0, atol=2e-3)


def test_other_networks_have_no_fixed_features() -> None:
    for name in ("paper-cnn", "lenet", "paper-cnn-tanh", "tanh-cnn", "wide-gn"):
        assert not isinstance(network(name), FixedFeatureNetwork)
