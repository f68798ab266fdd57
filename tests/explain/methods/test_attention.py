"""Attention rollout and relevance: hand-worked numbers, identities, and another derivation."""

import copy

import pytest
import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.explaining import explain
from fedlens.explain.methods.attention import attention_relevance, attention_rollout
from fedlens.explain.methods.cam import upsample
from fedlens.explain.target import Contrast
from fedlens.models import build_model
from fedlens.models.hybrid import Hybrid

METHODS = ("attention-rollout", "attention-relevance")


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attention(*shape: int, seed: int = 0) -> Tensor:
    """Random rows that sum to 1."""
    return (4 * rand(*shape, seed=seed)).softmax(-1)


def hybrid(seed: int = 0, channels: int = 1) -> Hybrid:
    """A network whose attention is not even: its weights are moved away from their first values."""
    model = build_model("hybrid", in_channels=channels, classes=6, image_size=28, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    assert isinstance(model, Hybrid)
    return model.double().eval()


class ClassToken(nn.Module):
    """Two blocks of one-layer attention over 2x3 patches and a class token, from which logits come."""

    token_grid = (2, 3)
    has_class_token = True

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.patch = nn.Parameter(torch.randn(4, 8, generator=generator))
        self.token = nn.Parameter(torch.randn(1, 1, 8, generator=generator))
        self.keys = nn.Parameter(torch.randn(2, 2, 4, 4, generator=generator))
        self.output = nn.Parameter(torch.randn(8, 5, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_with_attention(images)[0]

    def forward_with_attention(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        patches = images.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4).flatten(1, 3)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches @ self.patch], 1)
        weights = []
        for keys in self.keys:
            heads = tokens.unflatten(2, (2, 4)).transpose(1, 2)
            weights.append((heads @ keys @ heads.mT / 4).softmax(-1))
            tokens = tokens + (weights[-1] @ heads).transpose(1, 2).flatten(2).tanh()
        return tokens[:, 0] @ self.output, weights


# The two matrices.


def test_rollout_of_two_tokens_by_hand() -> None:
    """One head: A' = (A + I) / 2, R = A'_2 A'_1."""
    first = torch.tensor([[[[0.5, 0.5], [0.0, 1.0]]]])  # A'_1 = [[.75, .25], [0, 1]]
    second = torch.tensor([[[[0.0, 1.0], [0.6, 0.4]]]])  # A'_2 = [[.5, .5], [.3, .7]]
    expected = torch.tensor([[[0.375, 0.625], [0.225, 0.775]]])
    torch.testing.assert_close(attention_rollout([first, second]), expected)


def test_relevance_of_two_tokens_by_hand() -> None:
    """Two heads: A' is the mean of the positive products; R = I + A'_1, then R + A'_2 R."""
    first = torch.tensor([[[[0.5, 0.5], [0.0, 1.0]], [[1.0, 0.0], [0.5, 0.5]]]])
    gradient = torch.tensor([[[[2.0, -4.0], [8.0, 1.0]], [[-1.0, 5.0], [4.0, 2.0]]]])
    # Products [[1, -2], [0, 1]] and [[-1, 0], [2, 1]]; A'_1 = [[.5, 0], [1, 1]].
    second = torch.tensor([[[[0.5, 0.5], [0.5, 0.5]]] * 2])
    ones = torch.tensor([[[[0.0, 2.0], [0.0, 0.0]]] * 2])  # A'_2 = [[0, 1], [0, 0]]
    # R_1 = [[1.5, 0], [1, 2]]; A'_2 R_1 = [[1, 2], [0, 0]].
    expected = torch.tensor([[[2.5, 2.0], [1.0, 2.0]]]) - torch.eye(2)
    relevance = attention_relevance([first, second], [gradient, ones])
    torch.testing.assert_close(relevance, expected)


def test_rows_of_rollout_sum_to_one() -> None:
    blocks = [attention(5, 3, 10, 10, seed=seed) for seed in range(4)]
    rolled = attention_rollout(blocks)
    assert bool((rolled >= 0).all())
    torch.testing.assert_close(rolled.sum(-1), torch.ones(5, 10, dtype=torch.float64))
    # Also of attention whose rows do not sum to 1, such as after dropping weak links.
    thinned = attention_rollout([one * (one > 0.05) for one in blocks])
    torch.testing.assert_close(thinned.sum(-1), torch.ones(5, 10, dtype=torch.float64))


def test_rollout_of_identity_and_of_even_attention() -> None:
    one = torch.eye(6).expand(2, 3, 6, 6)
    assert torch.equal(attention_rollout([one] * 3), torch.eye(6).expand(2, 6, 6))
    even = torch.full((2, 3, 6, 6), 1 / 6)
    rolled = attention_rollout([even] * 3)
    # Even on what was mixed, and (1/2)^3 of each token itself.
    expected = torch.eye(6) / 8 + (1 - 1 / 8) / 6
    torch.testing.assert_close(rolled, expected.expand(2, 6, 6))
    torch.testing.assert_close(rolled.mean(1), torch.full((2, 6), 1 / 6))


def test_relevance_is_never_negative() -> None:
    blocks = [attention(5, 3, 10, 10, seed=seed) for seed in range(3)]
    gradients = [rand(5, 3, 10, 10, seed=9 + seed) - 0.5 for seed in range(3)]
    assert bool((attention_relevance(blocks, gradients) > 0).all())
    none = attention_relevance(blocks, [-gradient.abs() for gradient in gradients])
    assert not none.any()


def test_small_relevance_does_not_drown_beside_the_identity() -> None:
    blocks = [attention(2, 3, 10, 10, seed=seed) for seed in range(2)]
    gradients = [1e-8 * rand(2, 3, 10, 10, seed=9 + seed) for seed in range(2)]
    exact = attention_relevance(blocks, gradients)
    single = attention_relevance([b.float() for b in blocks], [g.float() for g in gradients])
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=0)


def test_the_order_of_heads_does_not_matter() -> None:
    blocks = [attention(2, 4, 5, 5, seed=seed) for seed in range(2)]
    gradients = [rand(2, 4, 5, 5, seed=9 + seed) - 0.5 for seed in range(2)]
    turned = [[one[:, [2, 0, 3, 1]] for one in both] for both in (blocks, gradients)]
    torch.testing.assert_close(attention_rollout(turned[0]), attention_rollout(blocks))
    torch.testing.assert_close(attention_relevance(*turned), attention_relevance(blocks, gradients))


# The maps.


def test_rollout_of_a_network_written_out() -> None:
    model, images = hybrid(), rand(3, 1, 28, 28)
    result = explain(model, images, "attention-rollout")
    _, (first, second) = model.forward_with_attention(images)
    for index in range(3):
        rolled = torch.eye(49, dtype=torch.float64)
        for of_block in (first, second):
            mean = sum(of_block[index, head] for head in range(3)) / 3
            rolled = (0.5 * mean + 0.5 * torch.eye(49)) @ rolled
        small = torch.stack([rolled[:, token].sum() / 49 for token in range(49)]).view(1, 7, 7)
        expected = upsample(small, 28, 28)[0].detach().float()
        torch.testing.assert_close(result.values[index], expected, rtol=1e-5, atol=1e-8)
    assert result.target is None
    assert result.meta["parameters"]["read"] == "mean over the tokens"
    torch.testing.assert_close(result.logits, model(images).detach())


@pytest.mark.parametrize("target", [2, Contrast(4, 1)])
def test_relevance_of_a_network_derived_another_way(target: int | Contrast) -> None:
    """dy/dA as the response to a change of one block's attention, one image and head at a time."""
    model, images = hybrid(1), rand(2, 1, 28, 28)
    result = explain(model, images, "attention-relevance", target=target)
    for index in range(2):
        _, weights = model.forward_with_attention(images[index : index + 1])
        relevance = torch.eye(49, dtype=torch.float64)
        for number in range(2):
            gradient = torch.func.grad(
                lambda change, number=number, index=index: scored(
                    model, images[index : index + 1], number, change, target
                )
            )(torch.zeros(3, 49, 49, dtype=torch.float64))
            mixed = sum(
                (weights[number][0, head] * gradient[head]).clamp(min=0) for head in range(3)
            )
            relevance = relevance + mixed / 3 @ relevance
        small = (relevance - torch.eye(49)).mean(0).view(1, 7, 7)
        expected = upsample(small, 28, 28)[0].detach().float()
        scale = float(expected.max())
        assert scale > 0
        torch.testing.assert_close(result.values[index], expected, rtol=0, atol=1e-5 * scale)


def scored(
    model: Hybrid, image: Tensor, changed: int, change: Tensor, target: int | Contrast
) -> Tensor:
    """Return the score of the network, its forward pass written out, with a changed attention."""
    tokens = model._stem(image)
    for number, block in enumerate(model.blocks):
        normed = block.norm1(tokens)
        weights = block.attention.with_weights(normed)[1]
        if number == changed:
            weights = weights + change
        values = block.attention.project(normed)[..., 96:].unflatten(-1, (3, 16)).transpose(1, 2)
        tokens = tokens + block.attention.merge((weights @ values).transpose(1, 2).flatten(2))
        hidden = torch.nn.functional.gelu(block.hidden(block.norm2(tokens)))
        tokens = tokens + block.out(hidden)
    logits = model.output(model.norm(tokens).mean(1))[0]
    if isinstance(target, Contrast):
        return logits[target.for_class] - logits[target.against_class]
    return logits[target]


def test_a_contrast_is_a_difference_of_logits_and_not_of_maps() -> None:
    model, images = hybrid(), rand(3, 1, 28, 28)
    difference = copy.deepcopy(model)
    with torch.no_grad():
        for values in (difference.output.weight, difference.output.bias):
            values[0] = values[3] - values[1]
    contrast = explain(model, images, "attention-relevance", target=Contrast(3, 1)).values
    expected = explain(difference, images, "attention-relevance", target=0).values
    torch.testing.assert_close(contrast, expected)
    single = [explain(model, images, "attention-relevance", target=n).values for n in (3, 1)]
    assert not torch.allclose(contrast, single[0] - single[1], rtol=0.1)


def test_a_class_token_is_read_by_its_row() -> None:
    model, images = ClassToken().double(), rand(3, 1, 4, 6)
    _, weights = model.forward_with_attention(images)
    rolled = attention_rollout(weights).detach()
    result = explain(model, images, "attention-rollout")
    expected = upsample(rolled[:, 0, 1:].reshape(3, 2, 3), 4, 6).float()
    torch.testing.assert_close(result.values, expected)
    assert result.meta["parameters"]["read"] == "class token"
    relevance = explain(model, images, "attention-relevance", target=1)
    assert relevance.values.shape == (3, 4, 6)
    assert not relevance.degenerate.any()


def test_frozen_weights_are_explained_too() -> None:
    model, images = hybrid(), rand(2, 1, 28, 28)
    expected = explain(model, images, "attention-relevance", target=1).values
    model.requires_grad_(False)
    assert torch.equal(explain(model, images, "attention-relevance", target=1).values, expected)


def test_colours_give_one_map() -> None:
    for method in METHODS:
        result = explain(hybrid(channels=3), rand(2, 3, 28, 28), method)
        assert result.values.shape == (2, 28, 28)
        assert bool((result.values >= 0).all())


# Refusals.


@pytest.mark.parametrize("method", METHODS)
def test_a_network_without_attention_is_told_what_is_missing(method: str) -> None:
    model = build_model("lenet", in_channels=1, classes=6, image_size=28)
    with pytest.raises(ExplanationError, match=r"LeNet does not offer.*forward_with_attention"):
        explain(model, torch.rand(1, 1, 28, 28), method)


def test_rollout_explains_no_class() -> None:
    with pytest.raises(ExplanationError, match="looks at no class"):
        explain(hybrid(), rand(1, 1, 28, 28), "attention-rollout", target=1)


class Wrong(ClassToken):
    """A network whose attention is not what it says."""

    def __init__(self, change: str) -> None:
        super().__init__()
        self.change = change

    def forward_with_attention(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        logits, weights = super().forward_with_attention(images)
        changed = {
            "averaged": [one.mean(1) for one in weights],
            "none": [],
            "cut off": [one.detach() for one in weights],
            "copied": [one.clone() for one in weights],
        }
        return logits, changed[self.change]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("averaged", r"shape \(2, 7, 7\), expected \(2, heads, 7, 7\) for its grid of 2x3"),
        ("none", "returned no attention"),
        ("cut off", "do not depend on the attention"),
        ("copied", "do not depend on the attention"),
    ],
)
def test_attention_that_does_not_fit_is_named(change: str, complaint: str) -> None:
    with pytest.raises(ExplanationError, match=complaint):
        explain(Wrong(change).double(), rand(2, 1, 4, 6), "attention-relevance", target=0)


@pytest.mark.parametrize("method", METHODS)
def test_images_of_another_size_are_refused(method: str) -> None:
    with pytest.raises(ExplanationError, match=r"cannot take images .* \(1, 56, 56\)"):
        explain(hybrid(), rand(1, 1, 56, 56), method)


@pytest.mark.parametrize("method", METHODS)
def test_a_failing_network_is_restored(method: str) -> None:
    model = hybrid().train()
    model.output = nn.Linear(3, 6).double()
    with pytest.raises(ExplanationError, match="cannot take images"):
        explain(model, rand(1, 1, 28, 28), method)
    assert all(module.training for module in model.modules())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("method", METHODS)
def test_a_network_without_logits(method: str) -> None:
    model = hybrid()
    model.output = nn.Flatten(0)
    with pytest.raises(ExplanationError, match=r"expected logits \(B, L\)"):
        explain(model, rand(2, 1, 28, 28), method)


@pytest.mark.parametrize("method", METHODS)
def test_images_made_in_inference_mode(method: str) -> None:
    model = hybrid()
    expected = explain(model, rand(2, 1, 28, 28), method)
    with torch.inference_mode():
        result = explain(model, rand(2, 1, 28, 28), method)
    assert torch.equal(result.values, expected.values)
