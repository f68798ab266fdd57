"""Clipped per-example gradients against plain autograd on one example at a time."""

import warnings
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedlens.errors import ModelError
from fedlens.models import build_model, get_vector
from fedlens.privacy.per_example import ClippedSum, PerExampleClipper, clipping, gradients
from fedlens.privacy.per_example.parts import (
    FactoredProduct,
    Factors,
    Rows,
    StreamedProduct,
    Written,
)
from fedlens.training.losses import default_loss

Loss = Callable[[Tensor, Tensor], Tensor]


def one_by_one(
    model: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, clip_norm: float
) -> tuple[Tensor, Tensor]:
    """Return the sum of clipped gradients (P,) and the norms (N,): the oracle."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = torch.zeros_like(get_vector(model))
    norms = []
    for number in range(len(inputs)):
        losses = loss(model(inputs[number : number + 1]), targets[number : number + 1])
        found = torch.autograd.grad(losses.sum(), parameters, allow_unused=True)
        gradient = torch.cat(
            [
                (torch.zeros_like(p) if g is None else g).reshape(-1)
                for p, g in zip(parameters, found, strict=True)
            ]
        )
        norms.append(gradient.norm())
        total += gradient * min(1.0, clip_norm / float(gradient.norm()))
    return total, torch.stack(norms)


def clip(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss = default_loss,
    *,
    clip_norm: float = 1.0,
    chunk: int = 4,
) -> tuple[Tensor, ClippedSum]:
    """Return what is added to a vector of ones, and the result."""
    out = torch.ones_like(get_vector(model))
    clipper = PerExampleClipper(model, loss, clip_norm=clip_norm, chunk=chunk)
    result = clipper.clipped_sum(inputs, targets, out)
    return out - 1, result


def assert_right(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss = default_loss,
    tolerance: float = 1e-10,
) -> None:
    """Assert equality with the oracle at a clip norm that half of the examples exceed."""
    _, norms = one_by_one(model, loss, inputs, targets, 1.0)
    clip_norm = float(norms.median())
    wanted, norms = one_by_one(model, loss, inputs, targets, clip_norm)
    got, result = clip(model, inputs, targets, loss, clip_norm=clip_norm)
    scale = float(wanted.abs().max())
    torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance * max(scale, 1.0))
    torch.testing.assert_close(result.norms, norms, rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        outputs = model(inputs)
        torch.testing.assert_close(result.outputs, outputs, rtol=0, atol=tolerance * 10)
        torch.testing.assert_close(
            result.losses, loss(outputs, targets), rtol=0, atol=tolerance * 10
        )
    assert result.not_finite == 0


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def fast_only() -> object:
    """Turn the warning of a slower way into an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(params=["as it comes", "one by one", "streamed in two blocks"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write gradients out where it is cheaper, or all of them, an example or half a chunk at a time."""
    if request.param != "as it comes":
        monkeypatch.setattr(gradients, "product_part", StreamedProduct)
        monkeypatch.setattr(StreamedProduct, "memory", 10)
        monkeypatch.setattr(clipping, "BLOCK_BYTES", 10 if request.param == "one by one" else 20)


class Flat(nn.Module):
    """``body`` and a linear layer to three outputs of the flattened rest."""

    def __init__(self, body: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        with torch.no_grad():
            width = body(torch.zeros(2, *shape)).flatten(1).shape[1]
        self.head = nn.Linear(width, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.body(inputs)).flatten(1))
        return out


def check_body(
    body: nn.Module, shape: tuple[int, ...], examples: int = 6, tolerance: float = 1e-10
) -> None:
    model = Flat(deepcopy(body), shape).double()
    inputs = torch.randn(examples, *shape, dtype=torch.float64)
    assert_right(model, inputs, torch.arange(examples) % 3, tolerance=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("name", ["paper-cnn", "lenet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_networks_of_the_project(
    name: str, channels: int, dtype: torch.dtype, tolerance: float, fast_only: None
) -> None:
    model = build_model(name, in_channels=channels, classes=10, image_size=28).to(dtype)
    images = torch.rand(7, channels, 28, 28, dtype=dtype)
    assert_right(model, images, torch.arange(7), tolerance=tolerance)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 5, 3),
        nn.Conv2d(3, 5, 3, bias=False),
        nn.Conv2d(3, 5, 3, stride=2, padding=1),
        nn.Conv2d(3, 5, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 3)),
        nn.Conv2d(3, 5, (4, 3), padding="same", dilation=(2, 3)),
        nn.Conv2d(3, 5, (4, 3), padding="valid"),
        nn.Conv2d(3, 5, 3, padding=2, padding_mode="reflect"),
        nn.Conv2d(3, 5, 1),
        nn.Conv2d(3, 5, (1, 4), dilation=2),
        nn.Conv2d(3, 5, (3, 4), dilation=(3, 1), padding=(1, 2)),
        nn.Conv2d(3, 5, (2, 4), stride=(1, 2)),
        nn.Conv2d(3, 5, (2, 4), stride=(3, 1)),
        nn.Sequential(nn.Conv2d(3, 9, 3), nn.ReLU(inplace=True), nn.Conv2d(9, 4, 3, stride=3)),
        nn.Sequential(nn.Conv2d(3, 16, 3), nn.MaxPool2d(3), nn.Conv2d(16, 20, 2)),
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6, affine=False)),
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(2), nn.Linear(64, 5), nn.LayerNorm(5)),
        nn.Sequential(nn.LayerNorm((3, 10, 10)), nn.Conv2d(3, 6, 3)),
        nn.Sequential(nn.LayerNorm((10, 10), bias=False), nn.Conv2d(3, 6, 3)),
    ],
    ids=str,
)
def test_convolutions_and_norms(layer: nn.Module, fast_only: None, ways: None) -> None:
    check_body(layer, (3, 10, 10))


def test_channels_last_convolution(fast_only: None, ways: None) -> None:
    body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3))
    check_body(body.to(memory_format=torch.channels_last), (3, 10, 10))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens", [2, 40])  # factored, written out
def test_linear_on_tokens(tokens: int, bias: bool, fast_only: None, ways: None) -> None:
    check_body(
        nn.Sequential(nn.Linear(6, 8, bias=bias), nn.ReLU(inplace=True), nn.Linear(8, 4)),
        (tokens, 6),
    )


def test_linear_on_a_grid_of_tokens(fast_only: None) -> None:
    check_body(nn.Linear(6, 8), (4, 5, 6))


class Attention(nn.Module):
    """Two heads over tokens with a class token, a position embedding and a layer scale."""

    def __init__(self, tokens: int = 5, width: int = 8) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, tokens + 1, width))
        self.scale = nn.Parameter(torch.randn(width))
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        count = len(tokens)
        tokens = torch.cat([self.token.expand(count, -1, -1), tokens], 1) + self.position
        q, k, v = (
            part.view(count, -1, 2, 4).transpose(1, 2)
            for part in self.qkv(self.norm(tokens)).chunk(3, -1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return tokens + self.scale * self.project(mixed)


def test_attention_with_bare_parameters(fast_only: None) -> None:
    check_body(Attention(), (5, 8))


class Standardised(nn.Conv2d):
    """A convolution whose weight is standardised (Qiao et al. 2019)."""

    def forward(self, input: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        spread = self.weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(input, (self.weight - mean) / (spread + 1e-3), self.bias)


def test_standardised_weight(fast_only: None, ways: None) -> None:
    check_body(nn.Sequential(Standardised(3, 6, 3), nn.ReLU(), Standardised(6, 4, 3)), (3, 10, 10))


def test_parametrised_weight(fast_only: None) -> None:
    check_body(nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), (6,))


def test_a_layer_used_twice_is_summed_before_clipping(fast_only: None) -> None:
    layer = nn.Linear(6, 6)
    check_body(nn.Sequential(layer, nn.Tanh(), layer), (6,))
    layer = nn.Conv2d(3, 3, 3)
    check_body(nn.Sequential(layer, nn.Tanh(), layer), (3, 10, 10))
    layer = nn.LayerNorm(6)
    check_body(nn.Sequential(layer, nn.Linear(6, 6), layer), (6,))


def test_tied_parameters(fast_only: None, ways: None) -> None:
    body = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    body[2].weight = body[0].weight
    check_body(body, (6,))


def test_frozen_parameters_are_skipped(fast_only: None) -> None:
    for frozen in (["conv1.weight", "dense.bias"], ["conv2.weight", "conv2.bias", "output.weight"]):
        model = build_model("paper-cnn", in_channels=1, classes=10, image_size=28).double()
        for name in frozen:
            model.get_parameter(name).requires_grad_(False)
        assert_right(model, torch.rand(5, 1, 28, 28, dtype=torch.float64), torch.arange(5))
    norm = nn.GroupNorm(2, 6)
    norm.weight.requires_grad_(False)
    check_body(nn.Sequential(nn.Conv2d(3, 6, 3), norm), (3, 10, 10))


def test_multi_label_loss(fast_only: None) -> None:
    model = build_model("lenet", in_channels=1, classes=4, image_size=28).double()
    labels = torch.randint(0, 2, (6, 4), dtype=torch.uint8)
    assert_right(model, torch.rand(6, 1, 28, 28, dtype=torch.float64), labels)


def test_an_unused_layer_and_one_without_a_graph_have_no_gradient(fast_only: None) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused, self.cut = nn.Linear(6, 3), nn.Linear(6, 3), nn.Linear(6, 6)

        def forward(self, inputs: Tensor) -> Tensor:
            with torch.no_grad():
                inputs = self.cut(inputs)
            self.unused(inputs)
            out: Tensor = self.used(inputs) + self.unused(inputs).detach()
            return out

    assert_right(Network().double(), torch.randn(5, 6).double(), torch.arange(5) % 3)


def test_a_network_without_any_gradient() -> None:
    class Cut(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).detach()

    out, result = clip(Cut(6, 3), torch.randn(5, 6), torch.arange(5) % 3)
    assert not out.any()
    assert not result.norms.any()
    assert result.norms.shape == (5,)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_batch_sizes_around_the_chunk(count: int, fast_only: None) -> None:
    model = build_model("lenet", in_channels=1, classes=10, image_size=28).double()
    assert_right(model, torch.rand(count, 1, 28, 28, dtype=torch.float64), torch.arange(count))


def test_an_empty_batch_adds_nothing() -> None:
    model = build_model("lenet", in_channels=1, classes=10, image_size=28)
    out, result = clip(model, torch.rand(0, 1, 28, 28), torch.zeros(0, dtype=torch.int64))
    assert not out.any()
    assert result.norms.shape == result.losses.shape == (0,)
    assert result.not_finite == 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["paper-cnn", "lenet"])
def test_an_example_that_is_not_finite_counts_as_zero(name: str, bad: float, ways: None) -> None:
    model = build_model(name, in_channels=1, classes=10, image_size=28)
    images, labels = torch.rand(9, 1, 28, 28), torch.arange(9)
    images[1, 0, 5, 5] = bad
    images[6] = bad
    good = [0, 2, 3, 4, 5, 7, 8]
    wanted, norms = one_by_one(model, default_loss, images[good], labels[good], 1.0)
    got, result = clip(model, images, labels)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(result.norms[good], norms, rtol=1e-5, atol=1e-5)
    assert result.not_finite == 2
    assert not result.norms[[1, 6]].isfinite().any()


def test_no_example_moves_the_sum_by_more_than_the_clip_norm(fast_only: None) -> None:
    model = build_model("paper-cnn", in_channels=1, classes=10, image_size=28)
    for number in range(5):
        image = 10 * torch.randn(1, 1, 28, 28)
        got, _ = clip(model, image, torch.tensor([number]), clip_norm=0.1)
        assert float(got.norm()) <= 0.1 * (1 + 1e-5)


@pytest.mark.parametrize("body", ["fast", "functional", "loop"])
def test_views_of_an_example_are_averaged_before_clipping(body: str, ways: None) -> None:
    views, examples = 3, 5
    layers: dict[str, nn.Module] = {
        "fast": nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6), nn.Conv2d(6, 4, 3)),
        "functional": nn.Conv2d(3, 6, 3, groups=3),
        "loop": OneAtATime(),
    }
    model = Flat(layers[body], (3, 10, 10)).double()
    inputs = torch.randn(examples, views, 3, 10, 10, dtype=torch.float64)
    targets = torch.arange(examples) % 3

    def mean_loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return default_loss(outputs, targets.repeat_interleave(views)).view(-1, views).mean(1)

    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, rows: Tensor) -> Tensor:
            out: Tensor = self.inner(rows.flatten(0, 1))
            return out

    wanted, norms = one_by_one(Viewed(), mean_loss, inputs, targets, 0.5)
    out = torch.zeros_like(wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("error" if body == "fast" else "ignore")
        clipper = PerExampleClipper(model, default_loss, clip_norm=0.5, chunk=7, multiplicity=views)
        result = clipper.clipped_sum(inputs, targets, out)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-10)
    torch.testing.assert_close(result.norms, norms, rtol=1e-10, atol=0)
    torch.testing.assert_close(result.losses, mean_loss(Viewed()(inputs), targets).detach())
    assert result.outputs.shape == (examples, views, 3)


class OneAtATime(nn.Module):
    """What ``vmap`` cannot run: a choice that depends on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 10, 10))

    def forward(self, images: Tensor) -> Tensor:
        signs = torch.tensor([1.0 if float(image.sum()) > 0 else -1.0 for image in images])
        return torch.einsum("n,nchw,chw->nc", signs.to(images.dtype), images, self.weight)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (nn.Conv2d(3, 6, 3, groups=3), (3, 10, 10)),
        (nn.Conv1d(3, 5, 3), (3, 10)),
        (nn.PReLU(), (6,)),
        (nn.MultiheadAttention(8, 2, batch_first=True), (5, 8)),
        (nn.Bilinear(6, 6, 4), (6,)),
        (nn.InstanceNorm2d(3, affine=True), (3, 5, 5)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_layers_go_a_slower_way_and_say_so(body: nn.Module, shape: tuple[int, ...]) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = body

        def forward(self, x: Tensor) -> Tensor:
            if isinstance(body, nn.MultiheadAttention):
                out: Tensor = self.inner(x, x, x, need_weights=False)[0]
                return out
            return self.inner(x, x) if isinstance(body, nn.Bilinear) else self.inner(x)

    with pytest.warns(UserWarning, match=r"slower way \(torch.func\).*body\.inner"):
        check_body(Wrapped(), shape)


def test_what_vmap_cannot_run_goes_one_by_one() -> None:
    with pytest.warns(UserWarning, match="one example at a time"):
        check_body(OneAtATime(), (3, 10, 10))


class FunctionalUse(nn.Module):
    """Uses a layer's weight outside of the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) + inputs @ self.layer.weight


def test_a_use_that_no_rule_knows_is_not_missed() -> None:
    with pytest.warns(UserWarning, match=r"body\.layer\.weight"):
        check_body(FunctionalUse(), (6,))


class View(nn.Module):
    """Uses its weight in a way that a rule knows, and in one that none knows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(36))

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.weight.view(6, 6)) + inputs @ self.weight.view(6, 6).t()


def test_a_weight_known_and_unknown_at_once_is_not_missed() -> None:
    with pytest.warns(UserWarning, match=r"body\.weight"):
        check_body(View(), (6,))


class BatchElsewhere(nn.Module):
    """Moves the batch to the second dimension, whose place is then taken by the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.layer(tokens.transpose(0, 1)).transpose(0, 1)
        return out


@pytest.mark.parametrize("tokens", [3, 4])  # as many as examples in the trial, and in a chunk
def test_a_batch_in_another_dimension_is_noticed(tokens: int) -> None:
    with pytest.warns(UserWarning, match="slower way"):
        check_body(BatchElsewhere(), (tokens, 6))


class Mixing(nn.Module):
    """Normalises by the batch without being a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.layer(inputs)
        return out - out.mean(0, keepdim=True) / 2


def test_mixing_of_examples_is_noticed() -> None:
    model = Flat(Mixing(), (6,)).double()
    inputs, targets = torch.randn(5, 6, dtype=torch.float64), torch.arange(5) % 3
    wanted, _ = one_by_one(model, default_loss, inputs, targets, 1.0)
    with pytest.warns(UserWarning, match="depends on the others of its batch"):
        got, _ = clip(model, inputs, targets)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-10)


class MixesInTraining(nn.Module):
    """Centres its features over the batch, in training alone: a batch normalisation by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.first(inputs)
        if self.training:
            features = features - features.mean(0, keepdim=True)
        return self.last(torch.tanh(features))


def test_mixing_in_training_alone_is_noticed() -> None:
    torch.manual_seed(0)
    model = MixesInTraining()
    inputs, targets = torch.randn(12, 8), torch.randint(0, 10, (12,))
    clipper = PerExampleClipper(model, default_loss, clip_norm=0.1)
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clipper.clipped_sum(inputs, targets, torch.zeros_like(get_vector(model)))
    model.train()
    sums = []
    for start in (0, 1):  # neighbours: without and with the first example, which is far off
        given = torch.cat([inputs[:1] * 1e3, inputs[1:]])[start:]
        out = torch.zeros_like(get_vector(model))
        with pytest.warns(UserWarning, match="depends on the others of its batch"):
            PerExampleClipper(model, default_loss, clip_norm=0.1).clipped_sum(
                given, targets[start:], out
            )
        sums.append(out)
    assert float((sums[0] - sums[1]).norm()) <= 0.1 * (1 + 1e-5)


class MixesForward(nn.Module):
    """The first example's features are the sum of all, in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(8, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            inputs = torch.cat([inputs.sum(0, keepdim=True), inputs[1:]])
        return self.last(inputs)


def test_mixing_is_noticed_in_either_direction_and_once_examples_differ() -> None:
    inputs, targets = torch.randn(6, 8), torch.arange(6)
    for model in (MixesForward(), MixesInTraining()):
        out = torch.zeros_like(get_vector(model))
        clipper = PerExampleClipper(model, default_loss, clip_norm=0.1)
        clipper.clipped_sum(inputs[:1].repeat(6, 1), targets, out)  # equal: nothing to see
        with pytest.warns(UserWarning, match="depends on the others of its batch"):
            clipper.clipped_sum(inputs, targets, out)


@pytest.mark.parametrize("eps", [1e-5, 1e-12])
def test_positions_that_cancel_do_not_hide_a_norm(eps: float) -> None:
    """A patch embedding, normalised, on nearly white images: products of some 1e6 leave 1e-2."""
    worst = 0.0
    for seed in range(8):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 64, 7, stride=7, bias=False),
            nn.InstanceNorm2d(64, eps=eps),
            nn.Tanh(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(256, 10, bias=False),
        )
        image = torch.full((784,), 255.0)
        image[torch.randperm(784)[: [1, 2, 784][seed % 3]]] -= 1
        inputs = (image / 255).view(1, 1, 28, 28)
        out = torch.zeros_like(get_vector(model), dtype=torch.float64)
        clipper = PerExampleClipper(model, default_loss, clip_norm=0.05)
        clipper.clipped_sum(torch.rand(3, 1, 28, 28), torch.arange(3), out)
        clipper.clipped_sum(inputs, torch.tensor([seed]), out.zero_())
        worst = max(worst, float(out.norm()))
    assert worst <= 0.05 * (1 + 1e-4)


def test_norms_from_gram_matrices_are_never_less_than_they_are() -> None:
    torch.manual_seed(1)
    for positions, spread in ((4, 1e-3), (16, 1e-4), (49, 1e-2)):
        inputs = 1 + spread * torch.randn(64, positions, 30)
        deltas = torch.randn(64, positions, 40)
        deltas -= deltas.mean(1, keepdim=True)
        true = torch.einsum("nti,nto->nio", inputs.double(), deltas.double()).flatten(1).norm(dim=1)
        found = FactoredProduct(Factors(Rows(inputs), deltas, (30,))).norms().double()
        assert bool((found >= true * (1 - 1e-4)).all())
    ordinary = torch.randn(64, 16, 30), torch.randn(64, 16, 40)
    true = torch.einsum("nti,nto->nio", *(t.double() for t in ordinary)).flatten(1).norm(dim=1)
    found = FactoredProduct(Factors(Rows(ordinary[0]), ordinary[1], (30,))).norms().double()
    torch.testing.assert_close(found, true, rtol=1e-4, atol=0)


def test_streamed_gradients_are_added_up_in_double_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clipping, "BLOCK_BYTES", 1)  # an example at a time
    inputs = torch.ones(101, 1, 1)
    inputs[0] = 2.0**24
    parts = [(0, StreamedProduct(Factors(Rows(inputs), torch.ones(101, 1, 1), (1,))))]
    total, norms = torch.zeros(1, 1, dtype=torch.float64), torch.empty(101)
    assert clipping.add_clipped(parts, 1e9, norms, [total]) == 0
    assert norms.tolist() == [2.0**24] + [1.0] * 100
    assert float(total) == 2.0**24 + 100  # in float32 each 1 would be lost


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_many_small_parts_count_in_half_precision(dtype: torch.dtype) -> None:
    gradients = [torch.full((1, 4), 1e-3, dtype=dtype) for _ in range(300)]
    gradients[0][:] = 0.02
    parts = [(number, Written(g)) for number, g in enumerate(gradients)]
    total = [torch.zeros(4, dtype=torch.float64) for _ in gradients]
    clipping.add_clipped(parts, 1e-3, torch.empty(1, dtype=dtype), total)
    # each factor and norm is rounded to the dtype, and no more
    room = 4 * torch.finfo(dtype).eps
    assert float(torch.cat(total).norm()) == pytest.approx(1e-3, rel=room)


@pytest.mark.parametrize("first", [1, 5])
def test_the_trial_is_made_up_for_where_the_first_batch_was_no_use(first: int) -> None:
    """One example, or none but NaN, cannot show that a network mixes its examples."""
    model = Flat(Mixing(), (6,)).double()
    inputs, targets = torch.randn(5, 6, dtype=torch.float64), torch.arange(5) % 3
    wanted, _ = one_by_one(model, default_loss, inputs, targets, 1.0)
    clipper = PerExampleClipper(model, default_loss, clip_norm=1.0)
    useless = inputs[:1] if first == 1 else torch.full_like(inputs, torch.nan)
    out = torch.zeros_like(wanted)
    clipper.clipped_sum(useless, targets[:first], out)
    out.zero_()
    with pytest.warns(UserWarning, match="depends on the others of its batch"):
        clipper.clipped_sum(inputs, targets, out)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-10)


class Overwriting(nn.Module):
    """Overwrites what its layer has read."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, inputs: Tensor) -> Tensor:
        kept = inputs.clone()
        out: Tensor = self.layer(kept)
        kept.zero_()
        return out


def test_an_overwritten_input_is_noticed() -> None:
    model = Flat(Overwriting(), (6,)).double()
    with pytest.raises(RuntimeError, match="inplace"):  # plain autograd, in the trial
        clip(model, torch.randn(5, 6).double(), torch.arange(5) % 3)
    with pytest.warns(UserWarning, match="overwritten"), pytest.raises(RuntimeError):
        clip(model, torch.randn(1, 6).double(), torch.arange(1))


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(3), nn.InstanceNorm2d(3, track_running_stats=True)]
)
def test_statistics_of_the_batch_are_refused(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), norm)
    with pytest.raises(ModelError, match=f"1 \\({type(norm).__name__}\\)"):
        PerExampleClipper(model, default_loss, clip_norm=1.0)


def test_a_buffer_that_keeps_something_of_the_examples_is_refused() -> None:
    class Remembering(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, 3)
            self.register_buffer("seen", torch.zeros(6))

        def forward(self, input: Tensor) -> Tensor:
            self.seen += input.detach().mean(0)
            return super().forward(input)

    out = torch.zeros(21)
    clipper = PerExampleClipper(Remembering(), default_loss, clip_norm=1.0)
    with pytest.raises(ModelError, match="buffer seen"):
        clipper.clipped_sum(torch.randn(5, 6), torch.arange(5) % 3, out)
    assert not out.any()


@pytest.mark.parametrize("slow", [False, True])
def test_dropout_is_drawn_for_each_example(slow: bool) -> None:
    first: nn.Module = nn.Conv1d(1, 1, 1) if slow else nn.Linear(200, 200)
    model = nn.Sequential(first, nn.Flatten(), nn.Dropout(0.5), nn.Linear(200, 3))
    inputs = torch.ones(8, 1, 200) if slow else torch.ones(8, 200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if slow else "error")
        _, result = clip(model, inputs, torch.zeros(8, dtype=torch.int64), chunk=8)
    assert len(result.losses.unique()) == 8
    assert all(module.training for module in model.modules())


def test_autocast_is_for_the_network_only(fast_only: None) -> None:
    model = build_model("paper-cnn", in_channels=1, classes=10, image_size=28)
    images, labels = torch.rand(6, 1, 28, 28), torch.arange(6)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return default_loss(outputs.float(), targets)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted, _ = one_by_one(model, loss, images, labels, 1.0)
        got, result = clip(model, images, labels, loss)
    assert result.norms.dtype == got.dtype == torch.float32
    assert float((got - wanted).norm()) < 0.03 * float(wanted.norm())


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.calls_left = 6  # five of the trial, the first chunk

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls_left -= 1
        if self.calls_left < 0:
            raise ValueError("in the middle")
        out: Tensor = self.layer(inputs)
        return out


def test_nothing_is_left_behind_by_an_exception() -> None:
    model = Failing()
    model.layer.bias.requires_grad_(False)
    model.layer.weight.grad = torch.full((3, 6), 7.0)
    out = torch.ones(18)
    clipper = PerExampleClipper(model, default_loss, clip_norm=1.0, chunk=2)
    with pytest.raises(ValueError, match="in the middle"):
        clipper.clipped_sum(torch.randn(6, 6), torch.arange(6) % 3, out)
    assert bool((out == 1).all())
    assert bool((model.layer.weight.grad == 7).all())
    assert model.layer.weight.requires_grad
    assert not model.layer.bias.requires_grad
    assert model.layer.bias.grad is None
    for module in model.modules():
        assert module.training
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert not module._backward_hooks and not module._backward_pre_hooks
    assert not model.layer.weight._backward_hooks


def test_the_clip_norm_may_change_between_calls() -> None:
    model = build_model("lenet", in_channels=1, classes=10, image_size=28).double()
    images, labels = torch.rand(4, 1, 28, 28, dtype=torch.float64), torch.arange(4)
    clipper = PerExampleClipper(model, default_loss, clip_norm=1.0)
    out = torch.zeros_like(get_vector(model))
    clipper.clipped_sum(images, labels, out)
    clipper.clip_norm = 0.25
    out.zero_()
    clipper.clipped_sum(images, labels, out)
    wanted, _ = one_by_one(model, default_loss, images, labels, 0.25)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-10)


def test_what_does_not_fit_is_named() -> None:
    model = build_model("lenet", in_channels=1, classes=10, image_size=28)
    images, labels = torch.rand(4, 1, 28, 28), torch.arange(4)
    out = torch.zeros_like(get_vector(model))
    clipper = PerExampleClipper(model, default_loss, clip_norm=1.0)
    with pytest.raises(ModelError, match="vector of shape"):
        clipper.clipped_sum(images, labels, out[1:])
    with pytest.raises(ModelError, match="vector of shape"):
        clipper.clipped_sum(images, labels, out.half())
    with pytest.raises(ModelError, match="4 inputs were given with 3 targets"):
        clipper.clipped_sum(images, labels[:3], out)
    with pytest.raises(ModelError, match="one value per example"):
        PerExampleClipper(model, F.cross_entropy, clip_norm=1.0).clipped_sum(images, labels, out)
    with pytest.raises(ModelError, match="With 2 views"):
        PerExampleClipper(model, default_loss, clip_norm=1.0, multiplicity=2).clipped_sum(
            images, labels, out
        )
    for clip_norm in (0.0, -1.0, float("nan")):
        with pytest.raises(ModelError, match="greater than 0"):
            PerExampleClipper(model, default_loss, clip_norm=clip_norm)
    with pytest.raises(ModelError, match="at least 1"):
        PerExampleClipper(model, default_loss, clip_norm=1.0, chunk=0)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ModelError, match="no trainable"):
        clipper.clipped_sum(images, labels, out)
