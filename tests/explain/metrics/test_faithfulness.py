import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import infidelity_perturb_func_decorator

from fedlens.errors import ExplanationError
from fedlens.explain import explain
from fedlens.explain.metrics import (
    completeness_gap,
    faithfulness_correlation,
    infidelity,
)
from fedlens.explain.metrics.faithfulness import _squares
from fedlens.explain.target import Contrast
from fedlens.models.paper_cnn import PaperCNN


@pytest.fixture
def case(linear, rand):
    """A linear network of one class, images, a baseline, and the weights."""
    weights = rand(1, 1, 7, 8) - 0.5
    return linear(weights), rand(6, 1, 7, 8, seed=1), rand(6, 1, 7, 8, seed=2), weights


def test_correlation_is_1_for_the_true_map(case, seeded):
    model, images, fill, weights = case
    true = (weights * (images - fill))[:, 0]

    def found(maps):
        return faithfulness_correlation(model, images, maps, 0, generator=seeded(), fill=fill)

    torch.testing.assert_close(found(true), torch.ones(6).double())
    torch.testing.assert_close(found(-3 * true + 1), -torch.ones(6).double())
    noise = found(torch.rand(6, 7, 8, generator=seeded(5)))
    assert (noise.abs() < 0.5).all()


def test_correlation_against_numpy(linear, seeded):
    """Two pixels out of four: the drops of [1, 2, 4, 8] name the set."""
    weights = torch.tensor([[[[1.0, 2], [4, 8]]]])
    maps = torch.tensor([[[3.0, -1], [0, 5]]])
    found = faithfulness_correlation(
        linear(weights),
        torch.ones(1, 1, 2, 2),
        maps,
        0,
        generator=seeded(),
        share=0.5,
        samples=5000,
    )
    sets = np.array([[a, b] for a in range(4) for b in range(a)])
    drops, sums = np.array([1, 2, 4, 8])[sets].sum(1), np.array([3, -1, 0, 5])[sets].sum(1)
    assert float(found) == pytest.approx(np.corrcoef(drops, sums)[0, 1], abs=0.02)


def test_correlation_is_nan_where_nothing_varies(case, linear, seeded):
    model, images, fill, _ = case
    blind = linear(torch.zeros(1, 1, 7, 8))
    flat = torch.full((6, 7, 8), 0.1)
    assert faithfulness_correlation(model, images, flat, 0, generator=seeded()).isnan().all()
    maps = torch.rand(6, 7, 8, generator=seeded())
    assert faithfulness_correlation(blind, images, maps, 0, generator=seeded()).isnan().all()
    maps[2, 3, 3] = float("nan")
    found = faithfulness_correlation(model, images, maps, 0, generator=seeded(), fill=fill)
    assert found.isnan().tolist() == [False, False, True, False, False, False]


def test_infidelity_is_0_for_a_linear_network(case, seeded):
    model, images, fill, weights = case
    gradient = weights[0].expand(6, -1, -1)
    product = gradient * (images - fill)[:, 0]

    def found(maps, multiplied):
        return infidelity(
            model,
            images,
            maps,
            0,
            multiplied=multiplied,
            generator=seeded(),
            fill=fill,
            samples=None,
        )

    for maps, multiplied in ((gradient, False), (product, True)):
        right = found(maps, multiplied)
        assert right.plain.max() < 1e-25 and right.scaled.max() < 1e-25
        torch.testing.assert_close(right.factor, torch.ones(6).double())
        scaled = found(-2 * maps, multiplied)
        assert scaled.plain.min() > 1e-3 and scaled.scaled.max() < 1e-25
        torch.testing.assert_close(scaled.factor, torch.full((6,), -0.5).double())
        # By the other convention both are misjudged.
        assert (found(maps, not multiplied).unexplained > 1e-3).all()
        wrong = found(torch.rand(6, 7, 8, generator=seeded()), multiplied)
        assert (wrong.unexplained > 0.1).all() and (wrong.unexplained <= 1).all()


def test_infidelity_in_colour(linear, rand, seeded):
    """A map has one value for three channels: exact where x - b is the same in all of them."""
    weights, fill = rand(1, 3, 6, 6) - 0.5, rand(4, 3, 6, 6, seed=1) / 2
    images = fill + rand(4, 1, 6, 6, seed=2) / 2
    given = {"generator": seeded(), "fill": fill}
    gradient = weights.sum(1).expand(4, -1, -1)
    found = infidelity(linear(weights), images, gradient, 0, multiplied=False, **given)
    assert found.plain.max() < 1e-25
    product = (weights * (images - fill)).sum(1)
    found = infidelity(linear(weights), images, product, 0, multiplied=True, **given)
    assert found.plain.max() < 1e-25


def test_infidelity_of_a_map_that_says_nothing(case, linear, seeded):
    model, images, _, _ = case
    given = {"multiplied": True, "generator": seeded()}
    zero = infidelity(model, images, torch.zeros(6, 7, 8), 0, **given)
    assert zero.factor.eq(0).all() and zero.unexplained.eq(1).all()
    assert zero.plain.equal(zero.scaled)
    maps = torch.ones(6, 7, 8)
    maps[1, 0, 0] = float("nan")
    found = infidelity(model, images, maps, 0, **given)
    for values in (found.plain, found.scaled, found.factor, found.unexplained):
        assert values.isnan().tolist() == [False, True, False, False, False, False]
    blind = infidelity(linear(torch.zeros(1, 1, 7, 8)), images, torch.ones(6, 7, 8), 0, **given)
    assert blind.unexplained.isnan().all()


@pytest.mark.parametrize("multiplied", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_infidelity_equals_captum(rand, seeded, multiplied, normalize):
    model = PaperCNN(1, 10, 28, torch.Generator().manual_seed(4)).eval()
    images = rand(3, 1, 28, 28).float()
    maps = rand(3, 28, 28, seed=1).float() - 0.3
    target = torch.tensor([1, 5, 5])
    squares = _squares(28, 28)
    squares = squares[torch.randperm(len(squares), generator=seeded())[:20]][:, None]

    @infidelity_perturb_func_decorator(multiplied)
    def remove(inputs, baselines=None):
        return inputs * ~squares.repeat(3, 1, 1, 1)

    with np.errstate(all="ignore"):
        expected = captum_infidelity(
            model,
            remove,
            images,
            maps[:, None],
            baselines=0 if multiplied else None,
            target=target,
            n_perturb_samples=20,
            normalize=normalize,
        )
    found = infidelity(
        model, images, maps, target, multiplied=multiplied, generator=seeded(), samples=20
    )
    torch.testing.assert_close(
        found.scaled if normalize else found.plain, expected.double(), rtol=2e-4, atol=1e-7
    )


def test_squares():
    squares = _squares(28, 28)
    assert len(squares) == sum((29 - side) ** 2 for side in range(1, 11)) == 5605
    areas = squares.flatten(1).sum(1)
    assert areas.bincount().nonzero()[:, 0].tolist() == [side**2 for side in range(1, 11)]
    assert len(squares.flatten(1).unique(dim=0)) == 5605
    assert _squares(2, 3).shape == (6, 2, 3)
    assert _squares(1, 1).shape == (1, 1, 1)


def test_completeness_is_exact(case):
    model, images, fill, weights = case
    true = (weights * (images - fill))[:, 0]
    found = completeness_gap(model, images, true, 0, fill=fill)
    assert found.absolute.abs().max() < 1e-14
    assert found.relative.max() < 1e-12
    gap = (weights * (images - fill)).sum((1, 2, 3))
    off = true.clone()
    off[:, 2, 2] += 0.5
    found = completeness_gap(model, images, off, 0, fill=fill, floor=1e-6)
    torch.testing.assert_close(found.absolute, torch.full((6,), 0.5).double())
    torch.testing.assert_close(found.relative, 0.5 / gap.abs())
    # Where the score does not change, the gap is held against the floor.
    same = completeness_gap(model, images, off - true, 0, fill=images, floor=0.1)
    torch.testing.assert_close(same.relative, torch.full((6,), 5.0).double())
    off[3, 0, 0] = float("inf")
    assert completeness_gap(model, images, off, 0).relative.isnan().nonzero().tolist() == [[3]]


def test_completeness_of_integrated_gradients(rand):
    model, images = (
        PaperCNN(1, 10, 28, torch.Generator().manual_seed(4)).eval(),
        rand(3, 1, 28, 28).float(),
    )
    for target in (None, 3, Contrast(2, 1)):
        result = explain(model, images, "integrated-gradients", target=target)
        found = completeness_gap(model, images, result.values, target)
        torch.testing.assert_close(
            found.absolute.float(), result.details["completeness_gap"], atol=2e-5, rtol=0
        )


def test_batch_equals_loop(rand, seeded, linear):
    model = linear(rand(3, 2, 5, 5) - 0.5)
    images, maps = rand(4, 2, 5, 5, seed=1), rand(4, 5, 5, seed=2) - 0.5

    def figures(part, rows):
        given = model, images[part], maps[part], None
        tables = infidelity(*given, multiplied=False, generator=seeded(), samples=12, rows=rows)
        gaps = completeness_gap(*given, fill="mean", rows=rows)
        correlation = faithfulness_correlation(
            *given, generator=seeded(), fill="blurred", samples=12, rows=rows
        )
        return torch.stack(
            [correlation, gaps.absolute, gaps.relative, *vars(tables).values()], dim=1
        )

    together = figures(slice(None), 64)
    torch.testing.assert_close(figures(slice(None), 5), together)
    loop = [figures(slice(number, number + 1), 64) for number in range(4)]
    torch.testing.assert_close(torch.cat(loop), together)
    assert figures(slice(0), 64).shape == (0, 7)


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"share": 0}, "share above 0"), ({"samples": 1}, "from 2"), ({"fill": "imputed"}, "fill is")],
)
def test_refusals(case, seeded, changes, says):
    model, images, _, _ = case
    with pytest.raises(ExplanationError, match=says):
        faithfulness_correlation(
            model, images, torch.zeros(6, 7, 8), 0, generator=seeded(), **changes
        )
    with pytest.raises(ExplanationError, match="floor is 0"):
        completeness_gap(model, images, torch.zeros(6, 7, 8), 0, floor=0)
    with pytest.raises(ExplanationError, match=r"expected \(6, 7, 8\)"):
        infidelity(model, images, torch.zeros(5, 7, 8), 0, multiplied=True, generator=seeded())
