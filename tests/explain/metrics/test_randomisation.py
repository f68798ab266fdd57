import copy
import math

import pytest
import torch
from torch import nn

from fedlens.errors import ExplanationError
from fedlens.explain import explain
from fedlens.explain.metrics import (
    efficient_randomisation,
    parameter_randomisation,
    randomise,
    spearman,
)
from fedlens.models import build_model
from fedlens.models.paper_cnn import PaperCNN


def paper_cnn() -> nn.Module:
    return PaperCNN(1, 10, 28, torch.Generator().manual_seed(4)).eval()


class WithLooseParts(nn.Module):
    """A parameter of its own, attention, a norm, and a frozen one-number scale."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 4))
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm = nn.LayerNorm(4)
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)


@pytest.mark.parametrize("weights", ["normal", "permuted"])
def test_every_parameter_changes(seeded, weights):
    for model in (
        WithLooseParts(),
        paper_cnn(),
        build_model("hybrid", in_channels=1, classes=5, image_size=28),
    ):
        before = copy.deepcopy(model)
        names = [name for name, _ in model.named_parameters()]
        randomise(model, names, generator=seeded(), weights=weights)
        old = dict(before.named_parameters())
        for name, parameter in model.named_parameters():
            assert not parameter.equal(old[name]), name
            assert parameter.requires_grad == old[name].requires_grad
            assert torch.isfinite(parameter).all()


def test_new_weights_are_like_the_old(seeded):
    model = paper_cnn()
    old = model.conv2.weight.detach().clone()
    randomise(model, ["conv2.weight", "conv2.bias"], generator=seeded())
    new = model.conv2.weight.detach()
    assert abs(new.mean() - old.mean()) < 0.002 and abs(new.std() / old.std() - 1) < 0.03
    assert spearman(old.reshape(1, 64, -1), new.reshape(1, 64, -1)).abs() < 0.03
    assert 0.05 < model.conv2.bias.std() < 0.15  # they were zeros
    randomise(model, ["conv2.weight"], generator=seeded(), weights="permuted")
    assert model.conv2.weight.flatten().sort().values.equal(new.flatten().sort().values)
    again = paper_cnn()
    randomise(again, ["conv2.weight", "conv2.bias"], generator=seeded())
    randomise(again, ["conv2.weight"], generator=seeded(), weights="permuted")
    assert again.conv2.weight.equal(model.conv2.weight)


def test_two_numbers_are_always_swapped(seeded):
    for seed in range(20):
        layer = nn.Linear(2, 1, bias=False)
        old = layer.weight.detach().clone()
        randomise(layer, ["weight"], generator=seeded(seed), weights="permuted")
        assert layer.weight.equal(old.flip(1))


def test_cascade_from_the_output_down(seeded):
    model = paper_cnn()
    before = copy.deepcopy(model.state_dict())
    seen = []

    def maps(network):
        assert network is not model
        changed = [
            name
            for name, parameter in network.named_parameters()
            if not parameter.equal(before[name])
        ]
        seen.append({name.rpartition(".")[0] for name in changed})
        return network.conv1.weight.detach()[:3, 0]

    found = parameter_randomisation(model, maps, generator=seeded())
    assert found.groups == ("output", "dense", "conv3", "conv2", "conv1")
    assert seen == [set(found.groups[:count]) for count in range(6)]
    # What is shown changes in the last step alone, and the network as it was is not in the mean.
    assert found.similarity.shape == (5, 3)
    assert found.similarity[:4].eq(1).all() and (found.similarity[4] < 1).all()
    torch.testing.assert_close(found.mean(), (4 + found.similarity[4]) / 5)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert parameter_randomisation(
        WithLooseParts(), lambda _: torch.rand(1, 4, 4), generator=seeded()
    ).groups == ("norm", "attention.out_proj", "attention", "")


def test_maps_that_do_and_do_not_depend_on_the_network(rand, seeded):
    model, images = paper_cnn(), rand(6, 1, 28, 28).float()
    target = model(images).argmax(1)

    def maps(method, **given):
        # The network sees 22 x 22 pixels; the others are 0 in every gradient.
        return lambda network: explain(network, images, method, **given).values[:, :22, :22]

    edges = parameter_randomisation(model, maps("edges"), generator=seeded())
    assert edges.mean().tolist() == [1] * 6
    gradient = parameter_randomisation(model, maps("gradient", target=target), generator=seeded())
    assert gradient.mean().max() < 0.75 and gradient.similarity[-1].max() < 0.5
    risen = efficient_randomisation(model, maps("edges"), generator=seeded())
    assert risen.tolist() == [0] * 6
    assert not model.training and all(p.grad is None for p in model.parameters())


def test_magnitudes_are_compared_and_blank_maps_counted(seeded):
    model, calls = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), []

    def maps(_):
        found = torch.arange(1.0, 5).reshape(1, 2, 2).repeat(3, 1, 1)
        if calls:
            found[0] *= -1
            found[1] *= len(calls) - 1
        found[2, 0, 0] = float("nan")
        calls.append(1)
        return found

    found = parameter_randomisation(model, maps, generator=seeded())
    assert found.similarity.isnan().tolist() == [[False, True, True], [False, False, True]]
    assert found.mean()[:2].tolist() == [1, 1] and found.mean()[2].isnan()
    assert found.unknown().tolist() == [0, 1, 2]


def test_efficient_by_hand(seeded):
    """Before: two values, half each, ln 2. After: four values, a quarter each, 2 ln 2."""
    before = torch.tensor([[[0.0, 0], [1, 1]], [[0, 0], [0, 1]], [[2, 2], [2, 2]]])
    after = torch.tensor([[[0.0, 1], [2, 3]], [[0, 0], [0, 0]], [[0, 1], [2, 3]]])
    model, given = nn.Linear(2, 2), [before, after]
    found = efficient_randomisation(model, lambda _: given.pop(0), generator=seeded())
    assert found[:2].tolist() == pytest.approx([1.0, -1.0])
    assert math.isnan(found[2])  # a flat map has no entropy to compare with


def test_empty_batch(seeded):
    found = parameter_randomisation(
        nn.Linear(2, 2), lambda _: torch.zeros(0, 2, 2), generator=seeded()
    )
    assert found.mean().shape == found.unknown().shape == (0,)


def test_refusals(seeded):
    with pytest.raises(ExplanationError, match="no parameters"):
        parameter_randomisation(nn.Flatten(), lambda _: torch.zeros(1, 2, 2), generator=seeded())
    with pytest.raises(ExplanationError, match=r"explain_fn returned are \(2, 2\)"):
        parameter_randomisation(nn.Linear(2, 2), lambda _: torch.ones(2, 2), generator=seeded())
    with pytest.raises(ExplanationError, match="one of normal, permuted"):
        randomise(nn.Linear(2, 2), ["weight"], generator=seeded(), weights="zero")
    broken = nn.Linear(2, 2)
    nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(ExplanationError, match="'weight' of the network hold NaN"):
        randomise(broken, ["weight"], generator=seeded())
    sizes = [1, 2]
    with pytest.raises(ExplanationError, match="1 maps and then 2"):
        efficient_randomisation(
            nn.Linear(2, 2), lambda _: torch.ones(sizes.pop(0), 2, 2), generator=seeded()
        )
