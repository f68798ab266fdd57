"""What every method owes: a new method joins METHODS and is tested here without another line."""

import json
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cheap import FEW
from fedlens.errors import ExplanationError
from fedlens.explain.explaining import explain, parameters_of
from fedlens.explain.explanation import Explanation
from fedlens.explain.methods import METHODS
from fedlens.explain.target import Contrast
from fedlens.models import build_model
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


def hybrid() -> nn.Module:
    """A network with attention."""
    return build_model("hybrid", in_channels=1, classes=CLASSES, image_size=28, seed=4)


class FlattenByView(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.view(len(maps), -1)


NETWORKS = {"paper-cnn": paper_cnn, "plain": plain_network}
ATTENTION = {"hybrid": hybrid}


def networks(method: str) -> dict[str, Callable[[], nn.Module]]:
    """The networks that a method is tried on."""
    return ATTENTION if METHODS[method].needs_attention else NETWORKS


every_pair = pytest.mark.parametrize(
    ("method", "make"),
    [
        pytest.param(method, make, id=f"{method}-{name}")
        for method in sorted(METHODS)
        for name, make in networks(method).items()
    ],
)
every_class_specific_pair = pytest.mark.parametrize(
    ("method", "make"),
    [
        pytest.param(method, make, id=f"{method}-{name}")
        for method in sorted(METHODS)
        if METHODS[method].class_specific
        for name, make in networks(method).items()
    ],
)
every_method = pytest.mark.parametrize("method", sorted(METHODS))
every_method_without_attention = pytest.mark.parametrize(
    "method", [name for name in sorted(METHODS) if not METHODS[name].needs_attention]
)
every_class_specific_method = pytest.mark.parametrize(
    "method", [name for name in sorted(METHODS) if METHODS[name].class_specific]
)


def images(count: int = 7) -> Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(3))


def ask(model: nn.Module, given: Tensor, method: str, target=None, **options) -> Explanation:
    """Explain with few samples, references where needed, and a target only where one is taken."""
    if METHODS[method].needs_references:
        options.setdefault("references", images(5).flip(3))
    if METHODS[method].class_specific:
        options["target"] = target
    return explain(model, given, method, **options, **FEW.get(method, {}))


def hooks(model: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in model.modules()
    )


@every_pair
def test_shapes_types_and_meta(method, make):
    given = images()
    result = ask(make(), given, method)
    assert isinstance(result, Explanation) and len(result) == 7
    assert result.values.shape == (7, 28, 28) and result.values.dtype == torch.float32
    assert result.logits.shape == (7, CLASSES)
    if METHODS[method].class_specific:
        assert result.target.shape == (7,) and result.target.dtype == torch.int64
    else:
        assert result.target is None
    assert result.degenerate.shape == (7,) and result.degenerate.dtype == torch.bool
    assert result.images is given
    assert not result.values.requires_grad and not result.logits.requires_grad
    assert not result.degenerate.any()
    assert set(result.meta) == {
        *("method", "version", "layer", "parameters", "seed", "baseline", "value_range"),
        *("references", "signed", "class_specific"),
    }
    assert result.meta["method"] == method
    assert (result.meta["seed"] is None) == (not METHODS[method].stochastic)
    assert (result.meta["layer"] is not None) == METHODS[method].uses_layer
    assert result.meta["signed"] == METHODS[method].signed == bool((result.values < 0).any())
    assert set(FEW.get(method, {})) <= set(parameters_of(method))
    assert all(values.shape == (7,) for values in result.details.values())
    assert json.loads(json.dumps(result.meta, allow_nan=False)) == result.meta


@every_pair
def test_logits_are_those_of_the_network_in_evaluation_mode(method, make):
    model = make()
    result = ask(model.train(), images(), method)
    with torch.no_grad():
        expected = model.eval()(images())
    torch.testing.assert_close(result.logits, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(result.predicted(), expected.argmax(1))
    if METHODS[method].class_specific:
        assert torch.equal(result.target, expected.argmax(1))


@every_pair
@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_a_batch_equals_the_loop_over_its_images(method, make, batch_size):
    model, given = make(), images()
    classes = [0, 1, 2, 3, 4, 0, 1]
    together = ask(model, given, method, target=classes, batch_size=batch_size)
    for index, number in enumerate(classes):
        alone = ask(model, given[index : index + 1], method, target=number)
        scale = alone.values.abs().max().item()
        torch.testing.assert_close(
            together.values[index], alone.values[0], rtol=1e-4, atol=1e-5 * scale
        )
        torch.testing.assert_close(together.logits[index], alone.logits[0], rtol=1e-5, atol=1e-6)


@every_pair
def test_the_network_is_left_as_it_was(method, make):
    model = make().train()
    list(model.children())[1].eval()  # a mixture of flags, as when a layer is frozen
    first, frozen = next(model.named_parameters())
    kept = frozen.grad = torch.zeros_like(frozen)
    for parameter in model.parameters():
        parameter.register_hook(_never)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    flags = {name: module.training for name, module in model.named_modules()}

    ask(model, images(), method)

    assert {name: module.training for name, module in model.named_modules()} == flags
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert hooks(model) == 0
    assert frozen.grad is kept and not kept.any()
    assert all(
        parameter.grad is None and parameter.requires_grad
        for name, parameter in model.named_parameters()
        if name != first
    )


def _never(_gradient: Tensor) -> None:
    raise AssertionError("a weight gradient was computed")


@every_pair
def test_nothing_global_changes_and_the_result_repeats(method, make):
    model = make().train()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    first = ask(model, images(), method)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002
    assert torch.equal(ask(model, images(), method).values, first.values)


@every_pair
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_works_under_every_gradient_mode_and_restores_it(method, make, mode):
    model = make()
    expected = ask(model, images(), method, target=[1] * 7)
    with mode():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        result = ask(model, images(), method, target=[1] * 7)
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


@every_method_without_attention
def test_images_made_in_inference_mode(method):
    model = Gate()
    expected = ask(model, images(), method, target=1)
    with torch.inference_mode():
        result = ask(model, images(), method, target=torch.tensor([1] * 7))
    assert torch.equal(result.values, expected.values)


class InPlace(nn.Module):
    """Normalises the images that it is given where they lie."""

    def __init__(self) -> None:
        super().__init__()
        self.network = plain_network()

    def forward(self, given: Tensor) -> Tensor:
        return self.network(given.sub_(0.5).div_(0.5))


@every_method_without_attention
def test_a_network_that_changes_its_images_is_given_copies(method):
    class OutOfPlace(InPlace):
        def forward(self, given: Tensor) -> Tensor:
            return self.network((given - 0.5) / 0.5)

    given = images()
    layer = "network.conv2" if METHODS[method].uses_layer else None
    expected = ask(OutOfPlace(), given, method, target=1, layer=layer)
    result = ask(InPlace(), given, method, target=1, layer=layer)
    assert torch.equal(given, images())
    assert torch.equal(result.logits, expected.logits)
    torch.testing.assert_close(result.values, expected.values)


@every_method_without_attention
def test_a_network_that_expects_another_size_is_refused(method):
    model = plain_network()
    model.output = nn.Linear(3, CLASSES)
    with pytest.raises(ExplanationError, match=r"cannot take images.*\(1, 28, 28\)"):
        ask(model, images(), method)
    assert hooks(model) == 0


class Picky(nn.Module):
    """Complains of whatever it is given."""

    def __init__(self, complaint: Exception) -> None:
        super().__init__()
        self.complaint = complaint

    def forward(self, given: Tensor) -> Tensor:
        raise self.complaint


@every_method_without_attention
def test_a_defect_of_the_network_keeps_its_traceback(method):
    """What the size of an image does not cause is not blamed on it."""
    model = plain_network()
    model.output = Picky(AttributeError("no such thing"))
    with pytest.raises(AttributeError, match="no such thing"):
        ask(model, images(), method)
    assert hooks(model) == 0


@every_method_without_attention
@pytest.mark.parametrize("error", [RuntimeError, ValueError, TypeError, IndexError, AssertionError])
@pytest.mark.parametrize("words", ["the side is 28, not 32.\nsecond line", ""])
def test_a_failing_network_is_restored(method, error, words):
    model = plain_network().train()
    model.output = Picky(error(words))
    told = "the side is 28, not 32" if words else error.__name__
    sentence = rf"cannot take images.*\(1, 28, 28\), expected.* \({told}\)\.$"
    with pytest.raises(ExplanationError, match=sentence) as caught:
        ask(model, images(), method)
    assert caught.value.__cause__ is model.output.complaint
    assert hooks(model) == 0
    assert all(module.training for module in model.modules())
    assert torch.is_grad_enabled()


@every_pair
def test_bytes_are_scaled_to_one(method, make):
    model = make()
    pixels = (images() * 255).to(torch.uint8)
    from_bytes = ask(model, pixels, method)
    from_floats = ask(model, pixels.float() / 255, method)
    assert torch.equal(from_bytes.values, from_floats.values)
    assert from_bytes.images is pixels


@every_pair
def test_a_double_precision_network_gives_single_precision_maps(method, make):
    single = ask(make(), images(), method, target=2)
    double = ask(make().double(), images(), method, target=2)
    assert double.values.dtype == torch.float32 and double.logits.dtype == torch.float64
    scale = single.values.abs().max().item()
    torch.testing.assert_close(double.values, single.values, rtol=1e-4, atol=1e-5 * scale)


@every_class_specific_pair
@pytest.mark.parametrize(
    "target",
    [3, np.int64(3), torch.tensor(3), [3] * 7, torch.full((7,), 3), torch.full((7,), 3).byte()],
    ids=["int", "numpy", "scalar tensor", "list", "tensor", "byte tensor"],
)
def test_every_form_of_a_target(method, make, target):
    model = make()
    result = ask(model, images(), method, target=target)
    assert result.target.tolist() == [3] * 7 and result.target.dtype == torch.int64
    assert torch.equal(result.values, ask(model, images(), method, target=[3] * 7).values)


@every_class_specific_pair
def test_classes_have_maps_of_their_own(method, make):
    first, second = (ask(make(), images(), method, target=number) for number in (0, 1))
    assert not torch.allclose(first.values, second.values, rtol=0.1)


@every_pair
@pytest.mark.parametrize("target", [None, 2, [], Contrast(1, 0)])
def test_an_empty_batch(method, make, target):
    result = ask(make(), images(0), method, target=target)
    assert result.values.shape == (0, 28, 28) and result.logits.shape == (0, CLASSES)
    assert result.degenerate.shape == (0,) and result.predicted().shape == (0,)
    if not METHODS[method].class_specific:
        assert result.target is None
    elif isinstance(target, Contrast):
        assert result.target == target
    else:
        assert result.target.shape == (0,) and result.target.dtype == torch.int64


@every_class_specific_pair
def test_a_contrast_explains_the_difference_of_two_logits(method, make):
    """Equal to explaining class 0 of the same network with a difference as its output layer."""
    model, difference = make(), make()
    with torch.no_grad():
        for values in (difference.output.weight, difference.output.bias):
            values[0] = values[3] - values[1]
    contrast = ask(model, images(), method, target=Contrast(3, 1))
    expected = ask(difference, images(), method, target=0)
    assert contrast.target == Contrast(3, 1)
    assert not contrast.degenerate.any()
    scale = expected.values.abs().max().item()
    torch.testing.assert_close(contrast.values, expected.values, rtol=1e-4, atol=1e-5 * scale)
    assert not torch.allclose(contrast.values, ask(model, images(), method, target=3).values)


@every_class_specific_pair
def test_a_class_that_depends_on_nothing_is_flagged(method, make):
    model = make()
    with torch.no_grad():
        model.output.weight[0] = 0
    zero = ask(model, images(5), method, target=[0, 1, 2, 3, 4])
    assert zero.degenerate[0] and not zero.degenerate[1:].all()


@every_pair
def test_weights_that_are_not_finite_are_refused(method, make):
    model = make()
    with torch.no_grad():
        model.output.weight[0] = float("nan")
    with pytest.raises(ExplanationError, match=r"weights 'output.weight' .* NaN or infinity"):
        ask(model, images(2), method)


@every_pair
def test_logits_that_are_not_finite_are_refused(method, make):
    model = make()
    with torch.no_grad():
        model.output.bias[1] = 3e38
        model.output.weight[1] = 3e38
    given = images(2)
    with pytest.raises(ExplanationError, match=r"logits of image 0 are NaN or infinite"):
        ask(model, given, method)


@pytest.mark.parametrize("method", [m for m in sorted(METHODS) if not METHODS[m].class_specific])
@pytest.mark.parametrize("target", [1, [1, 1], Contrast(1, 0)])
def test_a_method_that_looks_at_no_class_refuses_a_target(method, target):
    (make, *_) = networks(method).values()
    with pytest.raises(ExplanationError, match=f"'{method}' looks at no class"):
        explain(make(), images(2), method, target=target)


@pytest.mark.parametrize("method", [m for m in sorted(METHODS) if not METHODS[m].uses_layer])
def test_a_method_without_a_layer_refuses_one(method):
    (make, *_) = networks(method).values()
    with pytest.raises(ExplanationError, match=f"'{method}' explains no single layer.*grad-cam"):
        ask(make(), images(2), method, layer="conv1")


@pytest.mark.parametrize("method", [m for m in sorted(METHODS) if METHODS[m].needs_references])
def test_a_method_that_needs_references_says_so(method):
    with pytest.raises(ExplanationError, match="give it references"):
        explain(paper_cnn(), images(2), method)


@pytest.mark.parametrize("method", [m for m in sorted(METHODS) if METHODS[m].complete])
def test_a_complete_map_sums_to_the_gap_in_score(method):
    """Against the black image, or the mean score of the references; 2 % for those that sample."""
    model, given, others = paper_cnn(), images(), images(5).flip(3)
    # exact values are complete on any grid; those that sample come close with as many as usual
    grid = {"across": 3} if method == "exact-shapley" else {}
    result = explain(model, given, method, target=2, references=others, **grid)
    black = torch.zeros_like(given)
    with torch.no_grad():
        before = model(others if METHODS[method].needs_references else black)[:, 2].mean()
        gap = model(given)[:, 2] - before
    sampled = METHODS[method].needs_references
    torch.testing.assert_close(
        result.values.sum((1, 2)),
        gap,
        rtol=0.02 if sampled else 1e-3,
        atol=0.05 if sampled else 1e-4,
    )
    missed = result.values.sum((1, 2)) - gap
    torch.testing.assert_close(result.details["completeness_gap"], missed, rtol=0.01, atol=1e-4)


def test_no_two_methods_are_the_same():
    """A method that silently falls back on another would pass every other test."""
    found = {
        name: ask(make(), images(), name, target=1).values.flatten(1)
        for name in METHODS
        for make in networks(name).values()
        if make is not paper_cnn
    }
    names = sorted(found)
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            likeness = torch.cosine_similarity(found[first], found[second])
            assert (likeness < 0.9999).all(), (first, second)


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
        (images() * 255, {}, r"Image 0 has values from .* expected 0 to 1; give bytes, or say"),
        (images(), {"value_range": (1.0, 0.0)}, r"value_range is \(1.0, 0.0\)"),
        (images(), {"value_range": (0.0, float("nan"))}, r"value_range is"),
        (images(), {"seed": -1}, r"seed is -1"),
        (images(), {"unheard_of": 3}, r"has no parameter 'unheard_of'; it has "),
        (images(), {"references": images(2) - 1}, r"Reference 0 has values from -0"),
        (images(), {"references": images(2)[:, :, :14]}, r"references have the shape .* 14, 28\)"),
        (
            images(),
            {"references": images(0)},
            r"have the shape \(0, .* at least one|give it references",
        ),
        (images(), {"references": images(2).long()}, r"The references are torch.int64"),
        (images().byte(), {"value_range": (-1.0, 1.0)}, r"are bytes, which become 0 to 1"),
        (images(), {"batch_size": 2.5}, r"batch_size is 2.5"),
        (images(), {"seed": True}, r"seed is True"),
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
        (images(), {"target": "Shirt"}, r"class 'Shirt' is asked for by name"),
        (images(), {"contrast": (1, 7)}, r"no class 7"),
    ],
)
def test_a_wrong_request_is_one_clear_sentence(method, given, options, sentence):
    if {"target", "contrast"} & set(options) and not METHODS[method].class_specific:
        sentence = "looks at no class"
    alike = isinstance(given, Tensor) and given.dim() == 4 and 0 not in given.shape
    references = given.float().clamp(0, 1) if alike else images(3)
    (make, *_) = networks(method).values()
    model = make()
    with pytest.raises(ExplanationError, match=sentence) as caught:
        explain(model, given, method, **{"references": references} | options)
    assert str(caught.value).endswith(".")
    assert hooks(model) == 0


@every_method_without_attention
@pytest.mark.parametrize("output", [nn.Identity(), nn.Flatten(0)], ids=["maps", "one row"])
def test_a_network_without_logits(method, output):
    model = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3), output=output))
    with pytest.raises(ExplanationError, match=r"expected logits \(B, L\)"):
        ask(model, images(), method)


def test_an_unknown_method_names_the_methods():
    with pytest.raises(ExplanationError, match=r"no explanation method 'grad_cam'.*grad-cam"):
        explain(paper_cnn(), images(), "grad_cam")


def test_the_first_bad_image_is_named():
    given = images()
    given[4, 0, 3, 3] = float("inf")
    with pytest.raises(ExplanationError, match="Image 4 has a pixel"):
        explain(paper_cnn(), given)
