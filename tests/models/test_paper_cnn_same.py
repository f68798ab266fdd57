"""The study's network with same padding: it sees all of the image."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedlens.errors import ModelError
from fedlens.explain.blind_area import blind_area
from fedlens.models import build_model, get_vector, set_vector
from fedlens.models.paper_cnn import PaperCNNSame
from fedlens.models.summary import summarise_layers


def network(channels: int = 1, classes: int = 10, size: int = 28, seed: int = 0) -> PaperCNNSame:
    model = build_model(
        "paper-cnn-same", in_channels=channels, classes=classes, image_size=size, seed=seed
    )
    assert isinstance(model, PaperCNNSame)
    return model


def random_images(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize(
    ("channels", "classes", "size", "side"),
    [(1, 10, 28, 4), (3, 9, 28, 4), (1, 14, 29, 4), (1, 2, 8, 1), (2, 3, 33, 5)],
)
def test_parameters_by_hand(channels: int, classes: int, size: int, side: int) -> None:
    model = network(channels, classes, size)
    convolutions = (9 * channels + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 64
    expected = convolutions + (64 * side**2 + 1) * 128 + (128 + 1) * classes
    assert get_vector(model).numel() == expected
    assert model(torch.rand(2, channels, size, size)).shape == (2, classes)
    if (channels, classes, size) == (1, 10, 28):
        assert expected == 188_234


def test_forward_is_the_textbook_network() -> None:
    """Convolution, ReLU, pool, written out; zeros stand for the row that the last pooling lacks."""
    model = network().double()
    images = random_images(4, 1, 28, 28)
    maps = images
    for layer in (model.conv1, model.conv2, model.conv3):
        maps = torch.relu(F.conv2d(F.pad(maps, (1, 1, 1, 1)), layer.weight, layer.bias))
        odd = maps.shape[2] % 2
        # After a ReLU a row of zeros changes no maximum.
        maps = F.max_pool2d(F.pad(maps, (0, odd, 0, odd)), 2)
    expected = model.output(torch.relu(model.dense(maps.flatten(1))))
    torch.testing.assert_close(model(images), expected, rtol=0, atol=1e-12)
    view = model.explanation_view()
    torch.testing.assert_close(view(images), expected, rtol=0, atol=1e-12)
    weights = list(model.parameters())
    target = torch.tensor([1, 2, 3, 4])
    fast = torch.autograd.grad(F.cross_entropy(model(images), target), weights)
    plain = torch.autograd.grad(F.cross_entropy(view(images), target), weights)
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [8, 23, 28, 29])
def test_it_sees_every_pixel(size: int) -> None:
    model = network(size=size)
    assert model.visible == size
    assert not blind_area(model, (1, size, size)).any()


def test_every_cell_of_the_last_map_counts() -> None:
    """A pooling that dropped the last row of 7 would leave Grad-CAM without a gradient there."""
    view = network().double().explanation_view()
    maps: list[Tensor] = []
    handle = view.relu3.register_forward_hook(lambda _, __, output: maps.append(output))
    score = view(random_images(64, 1, 28, 28)).square().sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, maps[0])
    assert maps[0].shape[2:] == (7, 7)
    assert bool((gradient != 0).any(1).any(0).all())


def test_weights_are_drawn_like_those_of_the_study() -> None:
    model = network(seed=3)
    study = build_model("paper-cnn", in_channels=1, classes=10, image_size=28, seed=3)
    for name in ("conv1", "conv2", "conv3"):
        assert torch.equal(getattr(model, name).weight, getattr(study, name).weight)
    limit = (6 / (1024 + 128)) ** 0.5
    assert 0.99 * limit < float(model.dense.weight.detach().abs().max()) <= limit
    assert not any(m.bias.any() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    assert not torch.equal(model.conv1.weight, network(seed=4).conv1.weight)


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    model = network().double()
    images = random_images(3, 1, 28, 28)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=0, atol=1e-12)


def test_the_vector_and_the_state_carry_all_of_it() -> None:
    model, other, third = network(seed=1), network(seed=2), network(seed=3)
    set_vector(other, get_vector(model))
    third.load_state_dict(model.state_dict())
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(other(images), model(images))
    assert torch.equal(third(images), model(images))


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(ModelError, match=r"paper-cnn-same needs images of at least 8x8.*got 7x7"):
        network(size=7)


def test_the_summary_lists_every_step_with_its_shape() -> None:
    steps = summarise_layers(network(), (1, 28, 28))
    shapes = {step.name: step.output_shape for step in steps}
    assert shapes["pool1"] == (32, 14, 14)
    assert shapes["relu3"] == (64, 7, 7)
    assert shapes["pool3"] == (64, 4, 4)
    assert sum(step.parameters for step in steps) == 188_234
