"""The network with attention: its size, its two equal paths, and that it trains like the others."""

import copy
import warnings
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedlens.errors import ModelError
from fedlens.explain.blind_area import blind_area
from fedlens.explain.layers import AttentionNetwork, ExplainableNetwork, find_layer
from fedlens.models import FlatParameters, build_model, get_vector, has_batch_norm, set_vector
from fedlens.models.attention import MultiHeadAttention, TransformerBlock
from fedlens.models.hybrid import Hybrid
from fedlens.models.summary import summarise_layers
from fedlens.privacy.per_example import PerExampleClipper
from fedlens.training.losses import default_loss


def network(channels: int = 1, classes: int = 10, size: int = 28, seed: int = 0) -> Hybrid:
    model = build_model("hybrid", in_channels=channels, classes=classes, image_size=size, seed=seed)
    assert isinstance(model, Hybrid)
    return model


def random_images(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def stirred(model: Hybrid) -> Hybrid:
    """Move every parameter away from its first value, zeros and ones included."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.double()


def by_hand(channels: int, classes: int, size: int, tokens: int) -> int:
    between = {14: 0, 27: 0, 28: 1, 33: 1, 64: 2}[size]
    widths = [channels, 16, *[32] * between, 48]
    convolutions = sum(9 * before * after + 2 * after for before, after in pairwise(widths))
    block = 2 * 2 * 48 + (48 + 1) * 3 * 48 + (48 + 1) * 48 + (48 + 1) * 96 + (96 + 1) * 48
    return convolutions + tokens * 48 + 2 * block + 2 * 48 + (48 + 1) * classes


@pytest.mark.parametrize(
    ("channels", "classes", "size", "side"),
    [(1, 10, 28, 7), (3, 9, 28, 7), (1, 2, 14, 7), (1, 5, 27, 13), (2, 3, 33, 8), (3, 7, 64, 8)],
)
def test_parameters_and_the_grid_by_hand(channels: int, classes: int, size: int, side: int) -> None:
    model = network(channels, classes, size)
    assert get_vector(model).numel() == by_hand(channels, classes, size, side**2)
    assert model.token_grid == (side, side)
    assert model(torch.rand(2, channels, size, size)).shape == (2, classes)
    assert model(torch.rand(0, channels, size, size)).shape == (0, classes)
    if (channels, classes, size) == (1, 10, 28):
        assert get_vector(model).numel() == 59_626


@pytest.mark.parametrize("size", [14, 15, 27, 28, 29, 33, 61])
def test_it_sees_every_pixel(size: int) -> None:
    assert not blind_area(network(size=size), (1, size, size)).any()


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 31)])
def test_all_three_ways_compute_the_same(channels: int, size: int) -> None:
    model = stirred(network(channels, size=size))
    images = random_images(4, channels, size, size)
    logits = model(images)
    again, weights = model.forward_with_attention(images)
    torch.testing.assert_close(again, logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.explanation_view()(images), logits, rtol=0, atol=1e-12)
    single = copy.deepcopy(model).float()
    fast, slow = single(images.float()), single.forward_with_attention(images.float())[0]
    torch.testing.assert_close(
        fast, slow, rtol=0, atol=1e-6 * max(1.0, float(fast.detach().abs().max()))
    )
    tokens = model.token_grid[0] ** 2
    assert [one.shape for one in weights] == [(4, 3, tokens, tokens)] * 2
    for one in weights:
        assert bool((one >= 0).all())
        torch.testing.assert_close(one.sum(-1), torch.ones_like(one[..., 0]))
        assert float(one.detach().std()) > 0


def test_both_paths_have_the_same_weight_gradients() -> None:
    model = stirred(network())
    images, target = random_images(4, 1, 28, 28), torch.tensor([1, 2, 3, 4])
    weights = list(model.parameters())
    slow = model.forward_with_attention(images)[0]
    for one, other in zip(
        torch.autograd.grad(F.cross_entropy(model(images), target), weights),
        torch.autograd.grad(F.cross_entropy(slow, target), weights),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)
        assert bool(one.any())


def test_attention_written_out_head_by_head() -> None:
    generator = torch.Generator().manual_seed(1)
    layer = MultiHeadAttention(6, 2, generator).double()
    tokens = random_images(1, 4, 6)
    queries, keys, values = (tokens[0] @ layer.project.weight.T + layer.project.bias).split(6, 1)
    mixed, expected = [], []
    for head in (slice(0, 3), slice(3, 6)):
        weights = torch.softmax(queries[:, head] @ keys[:, head].T / 3**0.5, 1)
        expected.append(weights)
        mixed.append(weights @ values[:, head])
    out, weights = layer.with_weights(tokens)
    torch.testing.assert_close(weights[0], torch.stack(expected), rtol=0, atol=1e-14)
    torch.testing.assert_close(out[0], layer.merge(torch.cat(mixed, 1)), rtol=0, atol=1e-14)
    torch.testing.assert_close(layer(tokens), out, rtol=0, atol=1e-14)


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ModelError, match="width 10 cannot be shared by 3 heads"):
        TransformerBlock(10, 3, 20, torch.Generator())


def test_it_depends_on_where_things_are() -> None:
    model = stirred(network())
    images = random_images(1, 1, 28, 28)
    assert not torch.allclose(model(images), model(images.flip(3)), atol=1e-3)


def test_the_seed_decides_the_weights_and_nothing_global_does() -> None:
    before = torch.get_rng_state()
    first, again, other = (get_vector(network(seed=seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert bool(first.isfinite().all())
    network()(torch.rand(1, 1, 28, 28, generator=torch.Generator()))
    assert torch.equal(before, torch.get_rng_state())


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    model = stirred(network())
    assert not has_batch_norm(model)
    images = random_images(3, 1, 28, 28)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 15)])
def test_clipped_gradients_of_every_parameter_equal_the_loop(channels: int, size: int) -> None:
    """By the fast rules: a slower way would warn."""
    model = stirred(network(channels, size=size))
    images, target = random_images(5, channels, size, size), torch.arange(5)
    out = torch.zeros_like(get_vector(model))
    clip_norm = 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clipper = PerExampleClipper(model, default_loss, clip_norm=clip_norm)
        clipper.clipped_sum(images, target, out)
    expected = [torch.zeros_like(p) for p in model.parameters()]
    for one, label in zip(images, target, strict=True):
        loss = F.cross_entropy(model(one[None]), label[None])
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        for total, gradient in zip(expected, gradients, strict=True):
            total += gradient * min(1.0, clip_norm / float(norm))
    sizes = [p.numel() for p in model.parameters()]
    for (name, _), got, wanted in zip(
        model.named_parameters(), out.split(sizes), expected, strict=True
    ):
        scale = float(wanted.abs().max())
        assert scale > 0, name
        torch.testing.assert_close(got, wanted.flatten(), rtol=0, atol=1e-10 * scale, msg=name)


def test_the_vector_and_the_state_carry_all_of_it() -> None:
    model, other, third = network(seed=1), network(seed=2), network(seed=3)
    set_vector(other, get_vector(model))
    third.load_state_dict(model.state_dict())
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(other(images), model(images))
    assert torch.equal(third(images), model(images))
    plain = model(images)
    flat = FlatParameters(model)
    assert flat.state_length == len(flat)  # nothing travels but parameters
    assert torch.equal(model(images), plain)


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(ModelError, match="hybrid needs images of at least 14x14 pixels, got 13x13"):
        network(size=13)


def test_what_it_offers_to_explanations() -> None:
    model = network()
    assert isinstance(model, ExplainableNetwork)
    assert isinstance(model, AttentionNetwork)
    last = find_layer(model, None)
    assert (last.name, last.output_of) == ("conv3", "relu3")
    steps = summarise_layers(model, (1, 28, 28))
    shapes = {step.name: step.output_shape for step in steps}
    assert shapes["relu1"] == (16, 14, 14)
    assert shapes["relu3"] == (48, 7, 7)
    assert shapes["tokens"] == (49, 48)
    assert shapes["output"] == (10,)
    assert sum(step.parameters for step in steps) == get_vector(model).numel()


def test_it_learns() -> None:
    """Which half of the image is bright, in twenty steps of Adam."""
    model = network(classes=2)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(24, 1, 28, 28, generator=generator)
    target = torch.arange(24) % 2
    images[target == 0, :, :, :14] *= 0.5
    images[target == 1, :, :, 14:] *= 0.5
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for _ in range(20):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), target)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.2
