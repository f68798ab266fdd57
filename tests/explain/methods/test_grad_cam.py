"""Grad-CAM against captum, hand-worked numbers and identities."""

import math
from collections import OrderedDict

import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor, nn
from torch.nn import functional as F

from fedlens.errors import ExplanationError
from fedlens.explain.explaining import explain
from fedlens.explain.methods.cam import upsample
from fedlens.explain.target import Contrast
from fedlens.models.paper_cnn import PaperCNN


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def paper_cnn(in_channels: int = 1, seed: int = 0) -> PaperCNN:
    generator = torch.Generator().manual_seed(seed)
    model = PaperCNN(in_channels, 10, 28, generator)
    with torch.no_grad():
        for layer in (model.conv1, model.conv2, model.conv3, model.dense, model.output):
            layer.bias.uniform_(-0.1, 0.1, generator=generator)
    return model.eval()


# Captum's implementation, on the ReLU output of the convolution in the view.


@pytest.mark.parametrize("layer", [None, "conv1", "conv2", "conv3"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_captum(layer, channels, dtype):
    model, images = paper_cnn(channels).to(dtype), rand(6, channels, 28, 28).to(dtype)
    target = torch.tensor([0, 3, 9, 1, 1, 5])
    result = explain(model, images, target=target, layer=layer, batch_size=4)

    view = model.explanation_view()
    activation = view.get_submodule(model.map_layers[layer or "conv3"])
    small = LayerGradCam(view, activation).attribute(images, target=target, relu_attributions=True)
    expected = LayerAttribution.interpolate(small, (28, 28), "bilinear")[:, 0].detach()

    assert (result.values - expected).abs().max() < (1e-5 if dtype == torch.float32 else 1e-8)
    peaks = expected.amax((1, 2), keepdim=True)  # the maps are small: compare them at full scale
    lit = peaks[:, 0, 0] > 0
    assert lit.sum() >= 3
    # A map may be the small rest of terms fifty times its size: single precision then differs from
    # itself by 2e-5 of the peak on some processors, double by 2e-6, the rounding of the result.
    if dtype == torch.float64:
        assert ((result.values - expected) / peaks)[lit].abs().max() < 1e-5
    assert result.meta["layer"] == (layer or "conv3")


def test_equals_captum_for_the_predicted_class():
    model, images = paper_cnn(seed=4), rand(5, 1, 28, 28)
    view = model.explanation_view()
    predicted = model(images).argmax(1)
    small = LayerGradCam(view, view.relu3).attribute(
        images, target=predicted, relu_attributions=True
    )
    expected = F.interpolate(small, (28, 28), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(explain(model, images).values, expected.detach())


# A network small enough for paper. Image x = [[1/4, 1/2], [3/4, 1]]; two 1x1 convolutions:
#   A1 = 3 - 4x = [[2, 1], [0, -1]]   after ReLU [[2, 1], [0, 0]]
#   A2 = 4x - 1 = [[0, 1], [2, 3]]    after ReLU the same
# and a linear layer whose weights on the activated maps are
#   class 0: [[0, 2], [4, -2]] on A1, mean 1;      [[1, -1], [-2, 0]] on A2, mean -1/2
#   class 1: [[-1, 0], [0, 0]] on A1, mean -1/4;   [[1, 1], [1, 1]] on A2, mean 1
# The logits are 2 - 1 - 4 = -3 and -2 + 6 = 4.


def two_by_two() -> nn.Sequential:
    model = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 2, 1), relu=nn.ReLU(), flatten=nn.Flatten(), output=nn.Linear(8, 2)
        )
    )
    with torch.no_grad():
        model.conv.weight.copy_(torch.tensor([-4.0, 4.0]).reshape(2, 1, 1, 1))
        model.conv.bias.copy_(torch.tensor([3.0, -1.0]))
        model.output.weight.copy_(
            torch.tensor(
                [[0.0, 2.0, 4.0, -2.0, 1.0, -1.0, -2.0, 0.0], [-1.0, 0, 0, 0, 1.0, 1.0, 1.0, 1.0]]
            )
        )
        model.output.bias.zero_()
    return model


BY_HAND = torch.tensor([[[[0.25, 0.5], [0.75, 1.0]]]])


@pytest.mark.parametrize(
    ("target", "layer", "expected"),
    [
        # 1 A1 - 1/2 A2 = [[2, 1/2], [-1, -3/2]]
        (0, "relu", [[2.0, 0.5], [0.0, 0.0]]),
        # -1/4 A1 + 1 A2 = [[-1/2, 3/4], [2, 3]]
        (1, "relu", [[0.0, 0.75], [2.0, 3.0]]),
        # class 0 against 1: 5/4 A1 - 3/2 A2 = [[5/2, -1/4], [-3, -9/2]]
        (Contrast(0, 1), "relu", [[2.5, 0.0], [0.0, 0.0]]),
        # class 1 against 0: the negative of that
        (Contrast(1, 0), "relu", [[0.0, 0.25], [3.0, 4.5]]),
        # Before the ReLU the gradients are zero where it rests (A1 <= 0 below, A2 <= 0 at the top
        # left): alpha = (2/4, -3/4), and 1/2 A1 - 3/4 A2 = [[1, -1/4], [-3/2, -11/4]]
        (0, "conv", [[1.0, 0.0], [0.0, 0.0]]),
        # by default the last convolution's own output, and the predicted class 1: alpha =
        # (-1/4, 3/4), and -1/4 A1 + 3/4 A2 = [[-1/2, 1/2], [3/2, 5/2]]
        (None, None, [[0.0, 0.5], [1.5, 2.5]]),
    ],
)
def test_by_hand(target, layer, expected):
    result = explain(two_by_two(), BY_HAND, target=target, layer=layer)
    assert result.values.tolist() == [expected]
    assert result.logits.tolist() == [[-3.0, 4.0]]
    assert result.meta["layer"] == (layer or "conv")
    record = result.record(0, ["left", "right"])
    assert record.predicted_class == "right"
    assert record.confidence == pytest.approx(1 / (1 + math.exp(-7)))


def test_with_pooled_features_and_one_linear_layer_it_is_cam():
    """conv, ReLU, global average pooling, linear: alpha_k = w_ck / Z, so Grad-CAM = CAM / Z."""
    torch.manual_seed(1)
    model = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 5, 3, padding=1),
            relu=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            output=nn.Linear(5, 3),
        )
    )
    images = rand(4, 1, 8, 8)
    target = torch.tensor([0, 1, 2, 1])
    with torch.no_grad():
        maps = model.relu(model.conv(images))
        weights = model.output.weight[target]
        cam = (weights[:, :, None, None] * maps).sum(1).clamp(min=0)
    result = explain(model, images, target=target, layer="relu")
    assert cam.amax((1, 2)).min() > 0
    torch.testing.assert_close(result.values, cam / 64, rtol=1e-5, atol=1e-8)


# Upsampling: half-pixel centres, no shift.


def test_upsampling_by_hand():
    """Between centres two pixels apart the weights are 3/4 and 1/4; outside them the edge stays."""
    rows = torch.tensor([1.0, 0.75, 0.25, 0.0])
    expected = 4 * rows[:, None] * rows[None, :]
    enlarged = upsample(torch.tensor([[[4.0, 0.0], [0.0, 0.0]]]), 4, 4)
    assert torch.equal(enlarged[0], expected)


def peak_pixels(cell: int) -> list[int]:
    """The middle two of the cell's four pixels; at the border the map stays level to the edge."""
    return {0: [0, 1], 6: [26, 27]}.get(cell, [4 * cell + 1, 4 * cell + 2])


@pytest.mark.parametrize("row", range(7))
@pytest.mark.parametrize("column", [0, 2, 6])
def test_a_lit_cell_peaks_at_the_centre_of_its_block(row, column):
    """Mean pooling over 4x4 blocks: a lit block of the image is one cell of the 7x7 map."""
    model = nn.Sequential(
        OrderedDict(
            pool=nn.AvgPool2d(4),
            conv=nn.Conv2d(1, 1, 1),
            mean=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            output=nn.Linear(1, 2),
        )
    )
    with torch.no_grad():
        model.conv.weight.fill_(1.0)
        model.conv.bias.zero_()
        model.output.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    image = torch.zeros(1, 1, 28, 28)
    image[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1
    values = explain(model, image, target=0).values[0]

    peaks = (values > 0.9999 * values.max()).nonzero().tolist()
    assert peaks == [[r, c] for r in peak_pixels(row) for c in peak_pixels(column)]
    if 0 < row < 6:
        mass = values.sum(1)
        centre = (mass * torch.arange(28.0)).sum() / mass.sum()
        assert centre.item() == pytest.approx(4 * row + 1.5, abs=1e-5)


# Hooks and graphs.


def test_a_step_in_place_after_the_layer_does_not_spoil_its_map():
    images = rand(3, 1, 12, 12)
    results = []
    for inplace in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(1, 4, 3),
                relu=nn.ReLU(inplace=inplace),
                flatten=nn.Flatten(),
                output=nn.Linear(400, 3),
            )
        )
        results.append(explain(model, images, target=1, layer="conv").values)
    assert results[0].abs().max() > 0
    assert torch.equal(results[0], results[1])


def test_nothing_is_recorded_before_the_layer():
    model, recorded = paper_cnn(), []
    for layer in (model.conv1, model.conv2, model.conv3):
        layer.register_forward_hook(
            lambda _module, _inputs, output: recorded.append(output.requires_grad)
        )
    explain(model, rand(2, 1, 28, 28), layer="conv2")
    assert recorded == [False, False, True]


def test_images_that_require_a_gradient_get_none():
    images = rand(2, 1, 28, 28).requires_grad_()
    explain(paper_cnn(), images)
    assert images.grad is None


# Layers.


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3)
        self.twice = nn.Conv2d(2, 2, 1)
        self.aside = nn.Conv2d(2, 2, 1)
        self.never = nn.Conv2d(2, 2, 1)
        self.output = nn.Linear(2, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        self.aside(maps)
        maps = self.twice(F.relu(self.twice(maps)))
        logits: Tensor = self.output(maps.mean((2, 3)))
        return logits


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        (
            "conv9",
            r"no layer 'conv9' in Branches; its convolutions are stem, twice, aside, never\.",
        ),
        ("", r"no layer ''"),
        ("output", r"'output' is \(2, 3\), expected maps \(B, K, h, w\)"),
        ("twice", r"'twice' runs more than once"),
        ("aside", r"do not depend on layer 'aside'"),
        ("never", r"do not depend on layer 'never'"),
        (None, r"do not depend on layer 'never'"),
    ],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_layer_that_cannot_be_explained(layer, sentence, frozen):
    model = Branches().requires_grad_(not frozen)
    with pytest.raises(ExplanationError, match=sentence):
        explain(model, rand(2, 1, 8, 8), layer=layer)
    assert not any(module._forward_hooks for module in model.modules())
    assert explain(model, rand(2, 1, 8, 8), layer="stem").values.shape == (2, 8, 8)


def test_the_study_network_names_its_convolutions():
    sentence = r"no layer 'conv4' in PaperCNN; its convolutions are conv1, conv2, conv3\."
    with pytest.raises(ExplanationError, match=sentence):
        explain(paper_cnn(), rand(1, 1, 28, 28), layer="conv4")


def test_an_empty_batch_still_checks_the_layer():
    with pytest.raises(ExplanationError, match="no layer 'conv4'"):
        explain(paper_cnn(), rand(0, 1, 28, 28), layer="conv4")


def test_a_network_without_a_convolution():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(ExplanationError, match="no named convolution to explain"):
        explain(model, rand(1, 1, 4, 4))


def test_a_nested_layer_is_found_by_its_full_name():
    inner = two_by_two()
    model = nn.Sequential(OrderedDict(body=inner))
    result = explain(model, BY_HAND, target=0, layer="body.relu")
    assert result.values.tolist() == [[[2.0, 0.5], [0.0, 0.0]]]


def test_only_the_black_image_is_degenerate():
    """A convolution without a bias gives a black image a map of zeros."""
    model = two_by_two()
    with torch.no_grad():
        model.conv.bias.zero_()
    images = torch.stack([BY_HAND[0], torch.zeros(1, 2, 2), BY_HAND[0]])
    result = explain(model, images, target=1, layer="relu")
    assert result.degenerate.tolist() == [False, True, False]
    assert not result.values[1].any() and result.values[0].any()
