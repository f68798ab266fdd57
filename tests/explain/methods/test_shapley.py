"""Shapley values against permutations, closed forms and each other."""

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.baselines import baseline_images
from fedlens.explain.coalitions import all_coalitions, coalition_scores
from fedlens.explain.contract import Context
from fedlens.explain.explaining import explain
from fedlens.explain.methods.shapley import (
    draw_coalitions,
    exact_shapley,
    kernel_shap_values,
    kernel_weights,
)
from fedlens.explain.segments import grid_segments
from fedlens.explain.target import Contrast
from fedlens.models.paper_cnn import PaperCNN


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_permutations(values: Tensor, players: int) -> Tensor:
    """The definition: what a player adds when it comes, averaged over all orders of coming."""
    total = torch.zeros(len(values), players, dtype=torch.float64)
    for order in permutations(range(players)):
        present = 0
        for player in order:
            after = present | 1 << player
            total[:, player] += values[:, after] - values[:, present]
            present = after
    return total / math.factorial(players)


class Linear(nn.Module):
    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.output = nn.Linear(pixels, 3)
        with torch.no_grad():
            self.output.weight.copy_(randn(3, pixels, seed=5))

    def forward(self, images: Tensor) -> Tensor:
        return self.output(images.flatten(1))


def paper_cnn() -> PaperCNN:
    return PaperCNN(1, 5, 28, generator(1)).eval()


# Exact values.


@pytest.mark.parametrize("players", [1, 2, 3, 4, 5])
def test_exact_equals_all_permutations(players):
    values = randn(3, 2**players)
    found = exact_shapley(values)
    assert found.shape == (3, players) and found.dtype == torch.float64
    torch.testing.assert_close(found, by_permutations(values, players), rtol=0, atol=1e-12)


def test_exact_keeps_the_axioms():
    players = 8
    present = all_coalitions(players).double()
    values = randn(4, 2**players)
    found = exact_shapley(values)
    # Efficiency.
    torch.testing.assert_close(found.sum(1), values[:, -1] - values[:, 0], rtol=0, atol=1e-9)
    # A linear game's values are its weights; values of a sum are sums of values.
    weights = randn(4, players, seed=1)
    linear = weights @ present.T + 7
    torch.testing.assert_close(exact_shapley(linear), weights, rtol=0, atol=1e-9)
    torch.testing.assert_close(exact_shapley(values + linear), found + weights, rtol=0, atol=1e-9)
    # A player that changes nothing has the value zero: here player 2, left out of the game.
    numbers = torch.arange(2**players)
    assert exact_shapley(values[:, numbers & ~(1 << 2)])[:, 2].abs().max() == 0
    # Two players that may be swapped have the same value: here 1 and 4.
    one, four = numbers >> 1 & 1, numbers >> 4 & 1
    swapped = numbers - (one << 1) - (four << 4) + (four << 1) + (one << 4)
    same = exact_shapley(values + values[:, swapped])
    torch.testing.assert_close(same[:, 1], same[:, 4], rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(2, 1), (2, 6), (8,), (2, 2, 4)])
def test_exact_needs_every_coalition(shape):
    with pytest.raises(ExplanationError, match=r"expected \(B, 2\^M\)"):
        exact_shapley(torch.zeros(shape))


@pytest.mark.parametrize("method", ["exact-shapley", "kernel-shap"])
@pytest.mark.parametrize("baseline", ["black", "mean", "blurred"])
def test_maps_of_a_linear_network(method, baseline):
    """A cell's value is the sum of w (x - b) over its pixels, spread evenly over them."""
    model = Linear(2 * 6 * 6).double()
    images = randn(3, 2, 6, 6).sigmoid()
    result = explain(model, images, method, target=[0, 1, 2], across=3, baseline=baseline)
    blank = baseline_images(baseline, images, Context(model))
    products = model.output.weight.reshape(3, 2, 6, 6) * (images - blank)
    cells = products.detach().sum(1).reshape(3, 3, 2, 3, 2).mean((2, 4))
    expected = cells.repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(result.values.double(), expected, rtol=1e-5, atol=1e-6)
    assert result.details["completeness_gap"].abs().max() < 1e-5
    assert result.meta["baseline"] == baseline


@pytest.mark.parametrize("method", ["exact-shapley", "kernel-shap"])
@pytest.mark.parametrize("target", [[0, 4], Contrast(1, 3)], ids=str)
def test_maps_sum_to_the_gap_in_score(method, target):
    model, images = paper_cnn(), randn(2, 1, 28, 28).sigmoid().float()
    few = {"samples": 60} if method == "kernel-shap" else {}
    result = explain(model, images, method, target=target, across=3, **few)
    with torch.no_grad():
        rise = model(images) - model(torch.zeros_like(images))
    contrast = isinstance(target, Contrast)
    expected = rise[:, 1] - rise[:, 3] if contrast else rise[[0, 1], target]
    torch.testing.assert_close(result.values.sum((1, 2)), expected, rtol=1e-4, atol=1e-5)
    assert result.details["completeness_gap"].abs().max() < 1e-6


def test_a_cell_like_the_baseline_has_no_value():
    images = randn(2, 1, 28, 28).sigmoid().float()
    lit = explain(paper_cnn(), images, "exact-shapley", across=2, target=1)
    images[:, :, :14, 14:] = 0
    dark = explain(paper_cnn(), images, "exact-shapley", across=2, target=1)
    assert lit.values[:, :14, 14:].abs().min() > 0
    assert dark.values[:, :14, 14:].abs().max() < 1e-8


# KernelSHAP.


@pytest.mark.parametrize("players", [2, 3, 4, 9])
def test_kernel_shap_with_every_coalition_is_exact(players):
    values = randn(5, 2**players)
    coalitions = all_coalitions(players)[1:-1]
    weights = kernel_weights(players)[coalitions.sum(1) - 1]
    found = kernel_shap_values(coalitions, values[:, 1:-1], values[:, 0], values[:, -1], weights)
    torch.testing.assert_close(found, exact_shapley(values), rtol=0, atol=1e-9)


def test_kernel_shap_maps_are_exact_where_samples_are_enough():
    model, images = paper_cnn(), randn(3, 1, 28, 28).sigmoid().float()
    exact = explain(model, images, "exact-shapley", across=3, target=2)
    kernel = explain(model, images, "kernel-shap", across=3, target=2, samples=510)
    # Of cells, not of pixels, which have a hundredth of it.
    assert (exact.values - kernel.values).abs().max() * 100 < 1e-6


def test_kernel_shap_equals_a_solve_with_a_multiplier():
    """The same problem by Lagrange's equations, with repeated and weighted coalitions."""
    players = 6
    coalitions = draw_coalitions(players, 40, generator())
    scores, ends = randn(3, 80), randn(2, 3, seed=1)
    weights = randn(80, seed=2).exp()
    found = kernel_shap_values(coalitions, scores, ends[0], ends[1], weights)
    present = coalitions.double()
    system = torch.zeros(players + 1, players + 1, dtype=torch.float64)
    system[:players, :players] = present.T @ (weights[:, None] * present)
    system[:players, players] = system[players, :players] = 1
    right = torch.cat(
        (((scores - ends[0][:, None]) * weights) @ present, (ends[1] - ends[0])[:, None]), dim=1
    )
    expected = torch.linalg.solve(system, right.T).T[:, :players]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.sum(1), ends[1] - ends[0], rtol=0, atol=1e-12)


def test_draws_follow_the_kernel_and_come_in_pairs():
    players, pairs = 7, 20_000
    drawn = draw_coalitions(players, pairs, generator())
    assert drawn.shape == (2 * pairs, players) and drawn.dtype == torch.bool
    assert torch.equal(drawn[:pairs], ~drawn[pairs:])
    sizes = drawn[:pairs].sum(1)
    expected = torch.tensor([1 / (size * (players - size)) for size in range(1, players)])
    shares = torch.bincount(sizes, minlength=players)[1:] / pairs
    assert (shares - expected / expected.sum()).abs().max() < 0.02
    means = drawn[:pairs].double().mean(0)  # no player is favoured
    assert (means - means.mean()).abs().max() < 0.02


def error_of_draws(values: Tensor, pairs: int, seeds: range, *, paired: bool = True) -> float:
    """The root mean squared error over seeds, with twice ``pairs`` coalitions each time."""
    players = values.shape[1].bit_length() - 1
    bits = 2 ** torch.arange(players)
    squares = []
    for seed in seeds:
        if paired:
            drawn = draw_coalitions(players, pairs, generator(seed))
        else:  # the first half of the rows are draws that know nothing of each other
            drawn = draw_coalitions(players, 2 * pairs, generator(seed))[: 2 * pairs]
        found = kernel_shap_values(
            drawn, values[:, drawn.long() @ bits], values[:, 0], values[:, -1]
        )
        squares.append((found - exact_shapley(values)).square().mean())
    return float(torch.stack(squares).mean().sqrt())


def test_kernel_shap_converges_as_one_over_the_root():
    values = randn(4, 2**8)
    pairs = [32, 64, 128, 256, 512, 1024]
    errors = torch.tensor([error_of_draws(values, count, range(40)) for count in pairs])
    steps = torch.tensor(pairs).double().log()
    logs = errors.double().log()
    slope = ((steps - steps.mean()) * (logs - logs.mean())).sum() / (
        (steps - steps.mean()).square().sum()
    )
    assert -0.65 < float(slope) < -0.4


def test_pairs_cancel_effects_of_two_players():
    """An additive game with pairwise effects: exact from pairs, and not from as many single draws."""
    players = 8
    present = all_coalitions(players).double()
    effects = randn(players, players, seed=3)
    values = (present @ randn(players, seed=4) + ((present @ effects) * present).sum(1))[None]
    pairs, singles = (error_of_draws(values, 50, range(20), paired=p) for p in (True, False))
    assert singles > 0.01
    assert pairs < 1e-9


def test_pairs_lower_the_error_of_a_network():
    images = randn(2, 1, 28, 28).sigmoid().float()
    context = Context(paper_cnn())
    with torch.no_grad():
        values = coalition_scores(
            context,
            images,
            baseline_images("black", images, context),
            grid_segments(28, 28, 3),
            all_coalitions(9),
            torch.tensor([0, 1]),
        )
    pairs, singles = (error_of_draws(values, 50, range(20), paired=p) for p in (True, False))
    assert pairs < singles


def test_kernel_shap_is_one_draw_for_all_images_and_the_seed_decides():
    model, images = paper_cnn(), randn(2, 1, 28, 28).sigmoid().float()
    options = {"across": 4, "samples": 100, "target": 0}
    first = explain(model, images, "kernel-shap", **options)
    again = explain(model, images[[1]].repeat(2, 1, 1, 1), "kernel-shap", **options)
    other = explain(model, images, "kernel-shap", seed=1, **options)
    torch.testing.assert_close(again.values[0], first.values[1], rtol=1e-5, atol=1e-8)
    assert torch.equal(again.values[0], again.values[1])
    assert not torch.allclose(first.values, other.values, rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    ("method", "options", "sentence"),
    [
        ("exact-shapley", {"across": 5}, r"across is 5, expected at most 4.*'kernel-shap'"),
        ("exact-shapley", {"across": 0}, r"across is 0, expected a whole number"),
        ("exact-shapley", {"baseline": "grey"}, r"no baseline 'grey'"),
        ("kernel-shap", {"across": 1}, r"across is 1, expected at least 2"),
        ("kernel-shap", {"samples": 0}, r"samples is 0, expected"),
        ("kernel-shap", {"samples": 95}, r"samples is 95, expected at least 96 for 49 cells"),
        ("kernel-shap", {"samples": 99.5}, r"samples is 99.5, expected a whole number"),
    ],
)
def test_wrong_parameters_are_one_clear_sentence(method, options, sentence):
    with pytest.raises(ExplanationError, match=sentence) as caught:
        explain(paper_cnn(), torch.rand(1, 1, 28, 28), method, **options)
    assert str(caught.value).endswith(".")


def test_more_cells_than_pixels():
    with pytest.raises(ExplanationError, match=r"across is 4, expected at most 3.*of 3x9 pixels"):
        explain(Linear(27), torch.rand(1, 1, 3, 9), "kernel-shap", across=4, samples=100)


def test_coalitions_that_cannot_tell_players_apart():
    drawn = draw_coalitions(9, 1, generator()).repeat(20, 1)
    zero = torch.zeros(1)
    with pytest.raises(
        ExplanationError, match=r"The 40 coalitions cannot tell the 9 segments apart"
    ):
        kernel_shap_values(drawn, torch.zeros(1, 40), zero, zero)


def test_a_score_that_is_nan_spoils_its_own_image_alone():
    drawn, zero = draw_coalitions(4, 50, generator()), torch.zeros(2)
    scores = randn(2, 100)
    scores[0, 3] = float("nan")
    found = kernel_shap_values(drawn, scores, zero, zero)
    assert found[0].isnan().all() and found[1].isfinite().all()
