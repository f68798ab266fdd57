from itertools import permutations

import pytest
import torch
from torch import nn

from fedlens.errors import ExplanationError
from fedlens.explain.metrics import (
    FILLS,
    SCORES,
    Curve,
    imputation_noise,
    impute,
    order_gap,
    perturbation_curve,
    score_of,
)
from fedlens.explain.metrics.ordering import removal_places
from fedlens.explain.target import Contrast

# Four pixels of 1 that give 4, 3, 2 and 1 to the logit of class 0, and nothing to class 1.
BY_HAND = torch.tensor([[[[4.0, 1.0], [3.0, 2.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])


@pytest.mark.parametrize(
    ("order", "direction", "heights", "area", "drop"),
    [
        ("most-first", "delete", [10, 6, 3, 1, 0], 3.75, 6.0),
        ("least-first", "delete", [10, 9, 7, 4, 0], 6.25, 4.0),
        ("most-first", "insert", [0, 4, 7, 9, 10], 6.25, -6.0),
        ("least-first", "insert", [0, 1, 3, 6, 10], 3.75, -4.0),
    ],
)
@pytest.mark.parametrize("target", [0, [0], Contrast(0, 1), None])
def test_by_hand(linear, seeded, order, direction, heights, area, drop, target):
    curve = perturbation_curve(
        linear(BY_HAND),
        torch.ones(1, 1, 2, 2),
        BY_HAND[0],
        target,
        generator=seeded(),
        order=order,
        direction=direction,
        steps=4,
        score="logit",
    )
    assert curve.fractions.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.scores.tolist() == [heights]
    assert curve.area().tolist() == [area]
    assert curve.mean_drop().tolist() == [drop]


def test_order_gap_by_hand(linear, seeded):
    curves = [
        perturbation_curve(
            linear(BY_HAND),
            torch.ones(1, 1, 2, 2),
            BY_HAND[0],
            generator=seeded(),
            order=order,
            steps=4,
            score="logit",
        )
        for order in ("most-first", "least-first")
    ]
    assert order_gap(*curves).tolist() == [2.5]
    with pytest.raises(ExplanationError, match="differ in their images or steps"):
        order_gap(curves[0], Curve(torch.linspace(0, 1, 3), torch.zeros(1, 3)))


def test_no_order_lies_below_the_true_one(linear, rand, seeded):
    """Brute force: all 720 orders of a 2 x 3 image with two channels, each as an image of a batch."""
    weights = rand(1, 2, 2, 3) - 0.5
    image, baseline = rand(1, 2, 2, 3, seed=1), rand(1, 2, 2, 3, seed=2)
    orders = torch.tensor(list(permutations(range(6))), dtype=torch.float64).reshape(-1, 2, 3)

    def curves(maps, order):
        images = image.expand(len(maps), -1, -1, -1)
        return perturbation_curve(
            linear(weights),
            images,
            maps,
            0,
            generator=seeded(),
            order=order,
            fill=baseline,
            steps=6,
            score="logit",
        ).scores

    true = (weights * (image - baseline)).sum(1)
    every = curves(orders, "most-first")
    assert len(every) == 720
    torch.testing.assert_close(curves(true, "most-first")[0], every.amin(0))
    torch.testing.assert_close(curves(true, "least-first")[0], every.amax(0))


def test_the_true_map_beats_chance(linear, rand, seeded):
    weights, images = rand(1, 1, 8, 8) - 0.5, rand(20, 1, 8, 8, seed=1)

    def area(maps):
        curve = perturbation_curve(
            linear(weights), images, maps, 0, generator=seeded(), steps=16, score="sigmoid"
        )
        return curve.area()

    true = (weights * images).sum(1)
    assert (area(true) < area(rand(20, 8, 8, seed=2))).all()
    assert (area(-true) > area(true)).all()


def test_scores():
    logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 0.0]])
    target, contrast = torch.tensor([1, 1]), Contrast(0, 1)
    wide = logits.double()
    expected = {
        "probability": (wide.softmax(1)[:, 1], (wide[:, 0] - wide[:, 1]).sigmoid()),
        "logit": (wide[:, 1], wide[:, 0] - wide[:, 1]),
        "sigmoid": (wide[:, 1].sigmoid(), (wide[:, 0] - wide[:, 1]).sigmoid()),
        "decision": (torch.tensor([0.0, 1.0]).double(), torch.tensor([1.0, 0.0]).double()),
    }
    assert set(expected) == set(SCORES)
    for score, (of_class, of_contrast) in expected.items():
        torch.testing.assert_close(score_of(logits, target, score), of_class)
        torch.testing.assert_close(score_of(logits, contrast, score), of_contrast)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("direction", ["delete", "insert"])
def test_batch_equals_loop(network, rand, seeded, fill, direction):
    images, maps = rand(5, 3, 6, 7), rand(5, 6, 7, seed=1).round(decimals=1)

    def curve(part, rows):
        return perturbation_curve(
            network,
            images[part],
            maps[part],
            generator=seeded(),
            fill=fill,
            direction=direction,
            steps=9,
            rows=rows,
        ).scores

    together = curve(slice(None), 64)
    torch.testing.assert_close(curve(slice(None), 7), together)
    alone = [curve(slice(number, number + 1), 64) for number in range(5)]
    torch.testing.assert_close(torch.cat(alone), together)
    whole = network.double()(images).softmax(1).amax(1)
    torch.testing.assert_close(together[:, 0 if direction == "delete" else -1], whole)


def test_ends_on_the_fill(network, rand, seeded):
    images, fill = rand(2, 3, 4, 4), rand(2, 3, 4, 4, seed=1)
    curve = perturbation_curve(
        network, images, rand(2, 4, 4), 1, generator=seeded(), fill=fill, steps=3, score="logit"
    )
    torch.testing.assert_close(curve.scores[:, -1], network(fill)[:, 1])
    # 16 pixels in three steps
    assert (curve.fractions * 16).tolist() == [0, 5, 11, 16]


def test_imputed_pixels_carry_noise(network, rand, seeded):
    """One step of the curve, put together by hand; the order of ties is drawn before the noise."""
    images, maps = rand(3, 3, 6, 6), rand(3, 6, 6, seed=1)
    curve = perturbation_curve(
        network, images, maps, 1, generator=seeded(), fill="imputed", steps=4, score="logit"
    )
    generator = seeded()
    removed = removal_places(maps, "most-first", generator).reshape(3, 6, 6) < 18
    filled = impute(images, removed) + imputation_noise(images, generator)
    changed = torch.where(removed[:, None], filled, images)
    torch.testing.assert_close(curve.scores[:, 2], network(changed)[:, 1])


def test_ties_have_one_random_order(seeded):
    flat = torch.zeros(3, 28, 28)
    flat[1] = -0.0
    places = removal_places(flat, "most-first", seeded())
    assert places.sort(1).values.equal(torch.arange(784).expand(3, -1))
    assert places[0].equal(places[1]) and places[0].equal(places[2])
    reading = torch.arange(784.0)
    assert torch.corrcoef(torch.stack((places[0], reading)))[0, 1].abs() < 0.1
    assert not places.equal(removal_places(flat, "most-first", seeded(1)))
    # Of a map with ties, only the ties are in that order.
    flat[0, 5:] = 1
    first = removal_places(flat, "most-first", seeded())[0]
    assert first[5 * 28 :].max() < first[: 5 * 28].min()
    last = removal_places(flat, "least-first", seeded())[0]
    assert last[5 * 28 :].min() > last[: 5 * 28].max()


def test_nan_map_gives_nan(network, rand, seeded):
    maps = rand(3, 4, 4)
    maps[1, 0, 0] = float("nan")
    maps[2, 0, 0] = float("inf")
    curve = perturbation_curve(network, rand(3, 3, 4, 4), maps, generator=seeded(), steps=4)
    assert curve.area().isnan().tolist() == [False, True, True]
    assert curve.scores[1:].isnan().all()


def test_empty_batch(network, rand, seeded):
    for target in (None, 1, []):
        curve = perturbation_curve(
            network, rand(0, 3, 4, 4), rand(0, 4, 4), target, generator=seeded(), steps=4
        )
        assert curve.scores.shape == (0, 5) and curve.area().shape == (0,)


def test_full_passes_and_a_network_left_as_it_was(network, rand, seeded):
    network.train()
    calls = []
    network.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
    images = (rand(4, 3, 4, 4) * 255).round()
    as_bytes, as_floats = (
        perturbation_curve(network, given, rand(4, 4, 4), generator=seeded(), steps=15)
        for given in (images.to(torch.uint8), images / 255)
    )
    assert as_bytes.scores.equal(as_floats.scores)
    assert calls == [4, 64] * 2  # the classes; then 4 images at 16 points
    assert all(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not as_bytes.scores.requires_grad and len(network._forward_hooks) == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"maps": torch.zeros(2, 4, 5)}, r"maps are \(2, 4, 5\), expected \(2, 4, 4\)"),
        ({"maps": torch.zeros(2, 1, 4, 4)}, r"expected a tensor \(B, H, W\)"),
        ({"maps": torch.zeros(2, 4, 4, dtype=torch.int64)}, "expected a float type"),
        ({"images": torch.zeros(3, 4, 4)}, r"expected a tensor \(B, C, H, W\)"),
        ({"images": torch.zeros(2, 3, 4, 4, dtype=torch.int32)}, "expected uint8 or a float"),
        ({"images": torch.full((2, 3, 4, 4), float("nan"))}, "NaN or infinite"),
        ({"images": torch.full((2, 3, 4, 4), -1.0)}, r"by its name is for \[0, 1\]"),
        ({"target": 9}, "no class 9"),
        ({"target": [1]}, "one class for each"),
        ({"order": "best"}, "order is 'best', expected one of most-first, least-first"),
        ({"direction": "up"}, "expected one of delete, insert"),
        ({"fill": "grey"}, "expected one of black, mean, blurred, imputed"),
        ({"fill": torch.zeros(2, 3, 4, 5)}, "fill has the shape"),
        ({"score": "loss"}, "expected one of probability, logit, sigmoid, decision"),
        ({"steps": 0}, "whole number from 1 to 16"),
        ({"steps": 17}, "whole number from 1 to 16"),
    ],
)
def test_refusals(network, seeded, changes, says):
    given = {"images": torch.zeros(2, 3, 4, 4), "maps": torch.zeros(2, 4, 4), "steps": 4}
    with pytest.raises(ExplanationError, match=says):
        perturbation_curve(network, generator=seeded(), **{**given, **changes})


@pytest.fixture
def network() -> nn.Module:
    """A network in which neighbouring pixels, training mode and in-place steps matter."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 3),
    ).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1, generator=generator)
    return model.eval()
