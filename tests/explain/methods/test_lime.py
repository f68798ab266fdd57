"""LIME against scikit-learn's ridge regression, closed forms and what it was told to fill in."""

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.baselines import baseline_images
from fedlens.explain.contract import Context
from fedlens.explain.explaining import explain
from fedlens.explain.methods.lime import Lime, lime_regression
from fedlens.explain.segments import slic_segments
from fedlens.models.paper_cnn import PaperCNN


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(samples: int, players: int, seed: int = 0) -> Tensor:
    coalitions = randn(samples, players, seed=seed) > 0
    coalitions[0] = True
    return coalitions


class Linear(nn.Module):
    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.output = nn.Linear(pixels, 3)
        with torch.no_grad():
            self.output.weight.copy_(randn(3, pixels, seed=5))

    def forward(self, images: Tensor) -> Tensor:
        return self.output(images.flatten(1))


def paper_cnn() -> PaperCNN:
    return PaperCNN(1, 5, 28, torch.Generator().manual_seed(1)).eval()


@pytest.mark.parametrize("kernel_width", [0.1, 0.25, 1.0])
@pytest.mark.parametrize("alpha", [0.01, 1.0, 30.0])
def test_equals_ridge_regression_of_scikit_learn(kernel_width, alpha):
    coalitions, scores = drawn(60, 7), randn(4, 60, seed=1) + 5
    coalitions[5] = False  # the empty coalition, whose cosine distance is 1
    found, intercepts, fits = lime_regression(
        coalitions, scores, kernel_width=kernel_width, alpha=alpha
    )
    present = coalitions.double()
    lengths = (present.norm(dim=1) * 7**0.5).clamp_min(1)
    distance = 1 - present.sum(1) / lengths
    assert distance[5] == 1 and distance[0].abs() < 1e-12
    weights = (-(distance**2) / (2 * kernel_width**2)).exp().numpy()
    for number in range(4):
        ridge = Ridge(alpha=alpha, solver="cholesky")
        ridge.fit(present.numpy(), scores[number].numpy(), sample_weight=weights)
        expected = torch.from_numpy(ridge.coef_)
        torch.testing.assert_close(found[number], expected, rtol=0, atol=1e-9)
        assert intercepts[number] == pytest.approx(ridge.intercept_, abs=1e-9)
        score = ridge.score(present.numpy(), scores[number].numpy(), sample_weight=weights)
        assert fits[number] == pytest.approx(score, abs=1e-9)


def test_equals_the_closed_form_with_an_intercept_of_its_own():
    """beta = (Z'WZ + D)^-1 Z'Wy with a column of ones, whose entry of D is zero."""
    coalitions, scores = drawn(50, 6), randn(3, 50, seed=1)
    found, intercepts, _ = lime_regression(coalitions, scores, alpha=2.0)
    design = torch.cat((torch.ones(50, 1), coalitions), dim=1).double()
    weights = (-((1 - (coalitions.sum(1) / 6.0).sqrt()) ** 2) / (2 * 0.25**2)).exp().double()
    penalty = torch.diag(torch.tensor([0.0, 2, 2, 2, 2, 2, 2])).double()
    weighted = design * weights[:, None]
    expected = torch.linalg.solve(design.T @ weighted + penalty, weighted.T @ scores.T).T
    torch.testing.assert_close(intercepts, expected[:, 0], rtol=0, atol=1e-6)
    torch.testing.assert_close(found, expected[:, 1:], rtol=0, atol=1e-6)


def test_a_linear_score_is_recovered():
    coalitions, weights = drawn(200, 8), randn(2, 8, seed=1)
    scores = weights @ coalitions.double().T - 3
    found, intercepts, fits = lime_regression(coalitions, scores, alpha=1e-9)
    torch.testing.assert_close(found, weights, rtol=0, atol=1e-7)
    torch.testing.assert_close(intercepts, torch.full((2,), -3.0).double(), rtol=0, atol=1e-7)
    torch.testing.assert_close(fits, torch.ones(2).double(), rtol=0, atol=1e-9)


def test_scores_that_are_all_equal():
    found, intercepts, fits = lime_regression(drawn(40, 5), torch.full((1, 40), 0.1))
    assert not found.any() and fits.tolist() == [1]
    assert intercepts[0] == pytest.approx(0.1, abs=1e-7)


@pytest.mark.parametrize("fill", ["segment-mean", "black", "mean", "blurred"])
def test_maps_of_a_linear_network(fill):
    """With hardly a penalty, a pixel has the sum of w (x - fill) over its segment."""
    model = Linear(2 * 6 * 6).double()
    images = randn(3, 2, 6, 6).sigmoid()
    options = {"across": 3, "samples": 200, "alpha": 1e-9, "fill": fill}
    result = explain(model, images, "lime", target=[0, 1, 2], **options)
    if fill == "segment-mean":
        cells = images.reshape(3, 2, 3, 2, 3, 2).mean((3, 5))
        filled = cells.repeat_interleave(2, 2).repeat_interleave(2, 3)
    else:
        filled = baseline_images(fill, images, Context(model))
    products = model.output.weight.detach().reshape(3, 2, 6, 6) * (images - filled)
    sums = products.sum(1).reshape(3, 3, 2, 3, 2).sum((2, 4))
    expected = sums.repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(result.values.double(), expected, rtol=1e-5, atol=1e-5)
    assert (result.details["weighted_r2"] > 0.999).all()
    assert result.meta["baseline"] == fill


def test_superpixels_in_a_batch_and_alone():
    model, images = paper_cnn(), randn(4, 1, 28, 28).sigmoid().float()
    images[2, :, 6:20, 6:20] = 0.3
    segments = slic_segments(images, 30)
    assert len({int(cut.max()) for cut in segments}) > 1
    options = {"segments": "slic", "count": 30, "samples": 100}
    together = explain(model, images, "lime", target=[0, 1, 2, 3], **options)
    for index, cut in enumerate(segments):
        alone = explain(model, images[[index]], "lime", target=index, **options)
        assert torch.equal(alone.values[0], together.values[index])
        assert alone.details["weighted_r2"][0] == together.details["weighted_r2"][index]
        for number in range(int(cut.max()) + 1):  # one value a segment
            assert len(together.values[index][cut == number].unique()) == 1
    assert together.meta["parameters"]["segments"] == "slic"
    assert "across" not in together.meta["parameters"]


def test_draws_are_of_the_seed_and_the_number_of_segments():
    first, other = (Lime(Context(paper_cnn(), seed=seed), samples=500) for seed in (0, 1))
    assert torch.equal(first._draw(20), first._draw(20))
    assert first._draw(20).shape == (500, 20) and first._draw(20)[0].all()
    assert not torch.equal(first._draw(20), other._draw(20))
    assert first._draw(20)[1:].double().mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"segments": "quickshift"}, r"no segments 'quickshift'; choose one of grid, slic"),
        ({"fill": "grey"}, r"no fill 'grey'; choose one of segment-mean, black"),
        ({"across": 0}, r"across is 0"),
        ({"across": 29}, r"across is 29, expected at most 28"),
        ({"count": -1}, r"count is -1"),
        ({"samples": 1}, r"samples is 1, expected"),
        ({"samples": 2.5}, r"samples is 2.5, expected a whole number"),
        ({"kernel_width": 0}, r"kernel_width is 0, expected a number above 0"),
        ({"alpha": float("nan")}, r"alpha is nan, expected a number above 0"),
    ],
)
def test_wrong_parameters_are_one_clear_sentence(options, sentence):
    with pytest.raises(ExplanationError, match=sentence) as caught:
        explain(paper_cnn(), torch.rand(1, 1, 28, 28), "lime", **options)
    assert str(caught.value).endswith(".")
