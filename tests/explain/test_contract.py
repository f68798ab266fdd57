"""What every method owes: a new method joins METHODS and is tested here without another line."""

import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.explaining import explain
from fedlens.explain.explanation import Explanation
from fedlens.explain.methods import METHODS
from fedlens.explain.target import Contrast
from fedlens.models.paper_cnn import PaperCNN

CLASSES = 5


def paper_cnn() -> nn.Module:
    """A network with an explanation view, away from its zero biases."""
    generator = torch.Generator().manual_seed(1)
    model = PaperCNN(1, CLASSES, 28, generator)
    with torch.no_grad():
        for layer in (model.conv1, model.conv2, model.conv3, model.dense, model.output):
            layer.bias.uniform_(-0.1, 0.1, generator=generator)
    return model


def plain_network() -> nn.Module:
    """A plain network in which training mode, in-place steps and flattening by view all matter."""
    generator = torch.Generator().manual_seed(2)
    model = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, 3, padding=1),
            norm=nn.BatchNorm2d(6),
            relu1=nn.ReLU(inplace=True),
            pool=nn.MaxPool2d(2),
            dropout=nn.Dropout(0.5),
            conv2=nn.Conv2d(6, 16, 3, padding=1),
            relu2=nn.ReLU(inplace=True),
            flatten=FlattenByView(),
            output=nn.Linear(16 * 14 * 14, CLASSES),
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.3, 0.3, generator=generator)
        # Kernels without a mean: maps of both signs, so that each class is lit somewhere.
        model.conv2.weight -= model.conv2.weight.mean((1, 2, 3), keepdim=True)
        model.norm.running_var.uniform_(0.5, 2.0, generator=generator)
    return model


class FlattenByView(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.view(len(maps), -1)


NETWORKS = {"paper-cnn": paper_cnn, "plain": plain_network}

every_method = pytest.mark.parametrize("method", sorted(METHODS))
every_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def images(count: int = 7) -> Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(3))


def hooks(model: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in model.modules()
    )


@every_method
@every_network
def test_shapes_types_and_meta(method, make):
    given = images()
    result = explain(make(), given, method)
    assert isinstance(result, Explanation) and len(result) == 7
    assert result.values.shape == (7, 28, 28) and result.values.dtype == torch.float32
    assert result.logits.shape == (7, CLASSES)
    assert result.target.shape == (7,) and result.target.dtype == torch.int64
    assert result.degenerate.shape == (7,) and result.degenerate.dtype == torch.bool
    assert result.images is given
    assert not result.values.requires_grad and not result.logits.requires_grad
    assert not result.degenerate.any()
    assert set(result.meta) == {"method", "version", "layer", "parameters", "seed", "baseline"}
    assert result.meta["method"] == method
    assert json.loads(json.dumps(result.meta, allow_nan=False)) == result.meta


@every_method
@every_network
def test_logits_are_those_of_the_network_in_evaluation_mode(method, make):
    model = make()
    result = explain(model.train(), images(), method)
    with torch.no_grad():
        expected = model.eval()(images())
    torch.testing.assert_close(result.logits, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(result.predicted(), expected.argmax(1))
    assert torch.equal(result.target, expected.argmax(1))


@every_method
@every_network
@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_a_batch_equals_the_loop_over_its_images(method, make, batch_size):
    model, given = make(), images()
    classes = [0, 1, 2, 3, 4, 0, 1]
    together = explain(model, given, method, target=classes, batch_size=batch_size)
    for index, number in enumerate(classes):
        alone = explain(model, given[index : index + 1], method, target=number)
        scale = alone.values.abs().max().item()
        torch.testing.assert_close(
            together.values[index], alone.values[0], rtol=1e-4, atol=1e-5 * scale
        )
        torch.testing.assert_close(together.logits[index], alone.logits[0], rtol=1e-5, atol=1e-6)


@every_method
@every_network
def test_the_network_is_left_as_it_was(method, make):
    model = make().train()
    model.get_submodule("conv2").eval()  # a mixture of flags, as when a layer is frozen
    kept = torch.zeros_like(model.conv1.bias)
    model.conv1.bias.grad = kept
    for parameter in model.parameters():
        parameter.register_hook(_never)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    flags = {name: module.training for name, module in model.named_modules()}

    explain(model, images(), method)

    assert {name: module.training for name, module in model.named_modules()} == flags
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert hooks(model) == 0
    assert model.conv1.bias.grad is kept and not kept.any()
    assert all(
        parameter.grad is None and parameter.requires_grad
        for name, parameter in model.named_parameters()
        if name != "conv1.bias"
    )


def _never(_gradient: Tensor) -> None:
    raise AssertionError("a weight gradient was computed")


@every_method
@every_network
def test_nothing_global_changes_and_the_result_repeats(method, make):
    model = make().train()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    first = explain(model, images(), method)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002
    assert torch.equal(explain(model, images(), method).values, first.values)


@every_method
@every_network
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_works_under_every_gradient_mode_and_restores_it(method, make, mode):
    model = make()
    expected = explain(model, images(), method, target=[1] * 7)
    with mode():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        result = explain(model, images(), method, target=[1] * 7)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    assert torch.equal(result.values, expected.values)
    assert not result.values.is_inference()


class Gate(nn.Module):
    """Multiplies what it saw with the image: the graph then holds the image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 1)

    def forward(self, given: Tensor) -> Tensor:
        return (self.conv(given) * given).mean((2, 3))


@every_method
def test_images_made_in_inference_mode(method):
    model = Gate()
    expected = explain(model, images(), method, target=1)
    with torch.inference_mode():
        result = explain(model, images(), method, target=torch.tensor([1] * 7))
    assert torch.equal(result.values, expected.values)


@every_method
def test_a_failing_network_is_restored(method):
    model = plain_network().train()
    model.output = nn.Linear(3, CLASSES)
    with pytest.raises(ExplanationError, match=r"cannot take images.*\(1, 28, 28\)"):
        explain(model, images(), method)
    assert hooks(model) == 0
    assert all(module.training for module in model.modules())
    assert torch.is_grad_enabled()


@every_method
@every_network
def test_bytes_are_scaled_to_one(method, make):
    model = make()
    pixels = (images() * 255).to(torch.uint8)
    from_bytes = explain(model, pixels, method)
    from_floats = explain(model, pixels.float() / 255, method)
    assert torch.equal(from_bytes.values, from_floats.values)
    assert from_bytes.images is pixels


@every_method
@every_network
def test_a_double_precision_network_gives_single_precision_maps(method, make):
    single = explain(make(), images(), method, target=2)
    double = explain(make().double(), images(), method, target=2)
    assert double.values.dtype == torch.float32 and double.logits.dtype == torch.float64
    scale = single.values.abs().max().item()
    torch.testing.assert_close(double.values, single.values, rtol=1e-4, atol=1e-5 * scale)


@every_method
@every_network
@pytest.mark.parametrize(
    "target",
    [3, np.int64(3), torch.tensor(3), [3] * 7, torch.full((7,), 3), torch.full((7,), 3).byte()],
    ids=["int", "numpy", "scalar tensor", "list", "tensor", "byte tensor"],
)
def test_every_form_of_a_target(method, make, target):
    model = make()
    result = explain(model, images(), method, target=target)
    assert result.target.tolist() == [3] * 7 and result.target.dtype == torch.int64
    assert torch.equal(result.values, explain(model, images(), method, target=[3] * 7).values)


@every_method
@every_network
def test_classes_have_maps_of_their_own(method, make):
    first, second = (explain(make(), images(), method, target=number) for number in (0, 1))
    assert not torch.allclose(first.values, second.values, rtol=0.1)


@every_method
@every_network
@pytest.mark.parametrize("target", [None, 2, [], Contrast(1, 0)])
def test_an_empty_batch(method, make, target):
    result = explain(make(), images(0), method, target=target)
    assert result.values.shape == (0, 28, 28) and result.logits.shape == (0, CLASSES)
    assert result.degenerate.shape == (0,) and result.predicted().shape == (0,)
    if isinstance(target, Contrast):
        assert result.target == target
    else:
        assert result.target.shape == (0,) and result.target.dtype == torch.int64


@every_method
@every_network
def test_a_contrast_explains_the_difference_of_two_logits(method, make):
    """Equal to explaining class 0 of the same network with a difference as its output layer."""
    model, difference = make(), make()
    with torch.no_grad():
        for values in (difference.output.weight, difference.output.bias):
            values[0] = values[3] - values[1]
    contrast = explain(model, images(), method, target=Contrast(3, 1))
    expected = explain(difference, images(), method, target=0)
    assert contrast.target == Contrast(3, 1)
    assert not contrast.degenerate.any()
    scale = expected.values.abs().max().item()
    torch.testing.assert_close(contrast.values, expected.values, rtol=1e-4, atol=1e-5 * scale)
    assert not torch.allclose(contrast.values, explain(model, images(), method, target=3).values)


@every_method
def test_a_map_that_is_zero_or_not_finite_is_flagged(method):
    model = paper_cnn()
    with torch.no_grad():
        model.output.weight[0] = 0
    zero = explain(model, images(2), method, target=[0, 1])
    assert zero.degenerate.tolist() == [True, False]
    with torch.no_grad():
        model.output.weight[0] = float("nan")
    assert explain(model, images(2), method, target=0).degenerate.all()


@every_method
@pytest.mark.parametrize(
    ("given", "options", "sentence"),
    [
        (images().numpy(), {}, r"type ndarray, expected a tensor"),
        (images()[0], {}, r"shape \(1, 28, 28\), expected \(B, C, H, W\)"),
        (torch.rand(2, 1, 0, 28), {}, r"shape \(2, 1, 0, 28\)"),
        (images().long(), {}, r"torch.int64, expected uint8"),
        (images() / torch.zeros(7, 1, 28, 28), {}, r"Image 0 has a pixel that is NaN or infinite"),
        (torch.rand(2, 3, 28, 28), {}, r"cannot take images of the shape .* \(3, 28, 28\)"),
        (torch.rand(2, 1, 12, 12), {}, r"cannot take images of the shape .* \(1, 12, 12\)"),
        (images(), {"batch_size": 0}, r"batch_size is 0"),
        (images(), {"target": 5}, r"no class 5 .* classes 0 to 4"),
        (images(), {"target": -1}, r"no class -1"),
        (images(), {"target": [0, 1, 2, 3, 4, 9, 0]}, r"no class 9"),
        (images(), {"target": Contrast(1, 7)}, r"no class 7"),
        (images(), {"target": [0, 1]}, r"shape \(2,\), expected one class for each of the 7"),
        (images(), {"target": torch.zeros(7, 1).long()}, r"shape \(7, 1\)"),
        (images(), {"target": torch.zeros(7)}, r"values of type float32, expected a class number"),
        (images(), {"target": True}, r"values of type bool"),
        (images(), {"target": "Shirt"}, r"target is 'Shirt', expected a class number"),
    ],
)
def test_a_wrong_request_is_one_clear_sentence(method, given, options, sentence):
    model = paper_cnn()
    with pytest.raises(ExplanationError, match=sentence) as caught:
        explain(model, given, method, **options)
    assert str(caught.value).endswith(".")
    assert hooks(model) == 0


@every_method
@pytest.mark.parametrize("output", [nn.Identity(), nn.Flatten(0)], ids=["maps", "one row"])
def test_a_network_without_logits(method, output):
    model = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3), output=output))
    with pytest.raises(ExplanationError, match=r"expected logits \(B, L\)"):
        explain(model, images(), method)


def test_an_unknown_method_names_the_methods():
    with pytest.raises(ExplanationError, match=r"no explanation method 'grad_cam'.*grad-cam"):
        explain(paper_cnn(), images(), "grad_cam")


def test_the_first_bad_image_is_named():
    given = images()
    given[4, 0, 3, 3] = float("inf")
    with pytest.raises(ExplanationError, match="Image 4 has a pixel"):
        explain(paper_cnn(), given)
