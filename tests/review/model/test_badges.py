"""Badges of maps whose worth is known: a linear network, and maps that are made good or bad."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fedlens.errors import ExplanationError
from fedlens.explain import Contrast, explain
from fedlens.review.contract import ReviewError
from fedlens.review.model import Examiner, Subject
from fedlens.review.model.badges import Trial, agreement, badges_of, overall
from fedlens.review.model.findings import Badge, Rank

SIDE = 8


class Linear(nn.Module):
    """Two logits that are weighted sums of the pixels, so that the true evidence is known."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(SIDE * SIDE, 2, bias=False)
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn(SIDE * SIDE, generator=generator) / 2
        with torch.no_grad():
            self.head.weight.copy_(torch.stack([weights, -weights]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.flatten(1))


MODEL = Linear()
IMAGE = torch.randint(
    0, 256, (1, 1, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
)
TARGET = torch.tensor([int(MODEL(IMAGE.float() / 255).argmax())])


def blurred() -> torch.Tensor:
    from fedlens.explain.baselines import BLUR
    from fedlens.explain.baselines import blurred as blur

    return blur(IMAGE.float() / 255, BLUR * SIDE)


def evidence(baseline: torch.Tensor | float) -> torch.Tensor:
    """Each pixel's part in the rise of the target's logit over a baseline."""
    weights = MODEL.head.weight.detach()[TARGET[0]].reshape(SIDE, SIDE)
    return weights * (IMAGE.float() / 255 - baseline).reshape(SIDE, SIDE)


def trial(values: torch.Tensor, **changes: object) -> Trial:
    found = Trial(
        model=MODEL,
        image=IMAGE,
        values=values,
        target=TARGET,
        method="integrated-gradients",
        meta={"baseline": "black"},
        degenerate=False,
        blind_area=None,
        seed=0,
        explain=lambda images: values.expand(len(images), -1, -1),
        other=None,
    )
    return replace(found, **changes)


def named(tried: Trial, name: str) -> Badge:
    (found,) = [badge for badge in badges_of(tried) if badge.name == name]
    return found


def test_the_true_order_matters_to_the_model_and_the_reverse_does_not() -> None:
    # Blurring whatever raises the logit most comes first: no order lowers the curve more.
    truth = evidence(blurred())
    good, bad = (named(trial(values), "faithfulness") for values in (truth, -truth))
    assert good.rank is Rank.GOOD and "8 of 8" in good.words
    assert bad.rank is Rank.POOR and "0 of 8" in bad.words
    assert good.value is not None and bad.value is not None
    assert good.value > 0.05 and bad.value < 0


def test_a_random_map_is_not_called_good_often() -> None:
    generator = torch.Generator().manual_seed(3)
    ranks = [
        named(trial(torch.rand(SIDE, SIDE, generator=generator)), "faithfulness").rank
        for _ in range(40)
    ]
    assert ranks.count(Rank.GOOD) <= 4


@pytest.mark.parametrize(
    ("factor", "rank"), [(1.0, Rank.GOOD), (1.05, Rank.FAIR), (2.0, Rank.POOR)]
)
def test_a_map_adds_up_or_misses_by_what_it_misses(factor: float, rank: Rank) -> None:
    found = named(trial(factor * evidence(0.0)), "completeness")
    assert found.rank is rank
    assert found.value == pytest.approx(factor - 1, abs=1e-5)


def test_completeness_is_asked_only_of_methods_that_promise_it() -> None:
    for changes in ({"method": "gradient"}, {"meta": {"baseline": "references"}}):
        names = {badge.name for badge in badges_of(trial(evidence(0.0), **changes))}
        assert "completeness" not in names


def test_a_map_that_never_changes_is_steady_and_one_of_chance_is_not() -> None:
    values = evidence(0.0)
    found = named(trial(values), "stability")
    assert found.rank is Rank.GOOD and found.value == 0
    generator = torch.Generator().manual_seed(0)

    def chance(images: torch.Tensor) -> torch.Tensor:
        return torch.randn(len(images), SIDE, SIDE, generator=generator)

    found = named(trial(values, explain=chance), "stability")
    assert found.rank is Rank.POOR and found.value is not None and found.value > 0.5


def test_the_largest_change_is_a_share_of_the_norm() -> None:
    values = evidence(0.0)

    def longer(images: torch.Tensor) -> torch.Tensor:
        return (1.3 * values).expand(len(images), -1, -1)

    found = named(trial(values, explain=longer), "stability")
    assert found.value == pytest.approx(0.3, rel=1e-5) and found.rank is Rank.FAIR
    assert "30" in found.words


def test_where_noise_changes_the_prediction_the_map_is_not_steady() -> None:
    class Edge(nn.Module):
        """Says 1 where the mean is above that of the image as it is, by however little."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.0))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            exact = (images == IMAGE.float() / 255).flatten(1).all(1).float()
            return torch.stack([exact, 1 - exact], 1) * self.scale

    found = named(trial(evidence(0.0), model=Edge(), target=torch.tensor([0])), "stability")
    assert found.rank is Rank.POOR and "changes the prediction itself" in found.words


def test_agreement_is_the_overlap_of_the_top_pixels_that_are_seen() -> None:
    first = torch.arange(100.0).reshape(10, 10)  # its top tenth is the last row
    second = first.clone()
    second[9, :5] = -1  # so that half of that is another's, 5 pixels of row 8
    assert agreement(first, second) == pytest.approx(5 / 15)
    assert agreement(first, 2 * first) == 1
    assert agreement(first, -first) == 0  # evidence against is no top
    blind = torch.zeros(10, 10, dtype=torch.bool)
    blind[9, :] = True  # of the 90 that are left, the top is row 8 but for its first pixel
    assert agreement(first, second, blind) == 1
    assert np.isnan(agreement(first, torch.ones(10, 10)))


@pytest.mark.parametrize(
    ("other", "rank"),
    [
        (lambda values: 3 * values, Rank.GOOD),
        (lambda values: values.flip(0), Rank.POOR),
        (lambda values: torch.ones_like(values), Rank.UNKNOWN),
    ],
)
def test_a_second_method_agrees_or_not(other: Callable, rank: Rank) -> None:
    values = torch.arange(SIDE * SIDE, dtype=torch.float32).reshape(SIDE, SIDE) + 1
    found = named(trial(values, other=("another", lambda _: other(values)[None])), "agreement")
    assert found.rank is rank and "another" in found.words
    assert found.title == "Agrees with another"
    assert (found.value is None) == (rank is Rank.UNKNOWN)


def test_a_second_method_that_cannot_answer_is_no_fault_of_the_first() -> None:
    def cannot(_: torch.Tensor) -> torch.Tensor:
        raise ExplanationError("It cannot.")

    found = named(trial(evidence(0.0), other=("another", cannot)), "agreement")
    assert found.rank is Rank.UNKNOWN and "no map that could be compared" in found.words


@pytest.mark.parametrize(("spread", "rank"), [(0.0, Rank.GOOD), (0.2, Rank.FAIR), (2.0, Rank.POOR)])
def test_a_map_is_steady_over_seeds_or_one_of_many(spread: float, rank: Rank) -> None:
    values = evidence(0.0)

    def drawn(seed: int) -> torch.Tensor:
        noise = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
        return (values + spread * values.square().mean().sqrt() * noise)[None]

    found = named(trial(values, method="smoothgrad", reseeded=drawn), "seeds")
    maps = torch.stack([values, drawn(1)[0], drawn(2)[0]]).double()
    expected = maps.std(0, correction=0).mean() / maps.square().mean().sqrt()
    assert found.value == pytest.approx(float(expected), abs=1e-6) and found.rank is rank
    assert "over 3 seeds" in found.meaning
    slow = named(trial(values, method="lime", reseeded=drawn), "seeds")
    assert "over 2 seeds" in slow.meaning and (slow.value == 0) == (spread == 0)


def test_a_method_that_draws_nothing_has_no_seeds(examiner: Examiner, images: torch.Tensor) -> None:
    for method, draws in (("grad-cam", False), ("expected-gradients", True)):
        badges = examiner.explain(images[2], method, badges=True).badges
        assert ("seeds" in [badge.name for badge in badges]) == draws


def test_a_map_is_compared_with_one_that_comes_about_in_another_way(
    examiner: Examiner, images: torch.Tensor
) -> None:
    """A near twin agrees whatever the map is worth."""
    expected = {
        "grad-cam": "integrated-gradients",
        "gradient": "grad-cam",
        "integrated-gradients": "grad-cam",
        "edges": "integrated-gradients",
    }
    for method, other in expected.items():
        (found,) = [
            badge
            for badge in examiner.explain(images[1], method, badges=True).badges
            if badge.name == "agreement"
        ]
        assert found.title == f"Agrees with {other}", method


def test_a_map_is_compared_with_the_one_that_is_shown_beside_it(
    examiner: Examiner, images: torch.Tensor
) -> None:
    first = examiner.explain(images[1], "grad-cam", 3, badges=True, beside="gradient")
    second = examiner.explain(images[1], "gradient", 3)
    (found,) = [badge for badge in first.badges if badge.name == "agreement"]
    assert found.title == "Agrees with gradient"
    assert found.value == pytest.approx(agreement(first.values, second.values), abs=0.03)
    with pytest.raises(ReviewError, match="not offered here"):
        examiner.explain(images[1], "grad-cam", badges=True, beside="no-such-method")


@pytest.mark.parametrize(
    ("inside", "rank"), [(0.0, Rank.GOOD), (0.05, Rank.FAIR), (0.5, Rank.POOR)]
)
def test_the_share_in_the_blind_area(inside: float, rank: Rank) -> None:
    blind = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    blind[0, 0] = True
    values = torch.zeros(SIDE, SIDE)
    values[0, 0], values[4, 4] = -inside, 1 - inside
    found = named(trial(values, blind_area=blind), "blind-area")
    assert found.value == pytest.approx(inside) and found.rank is rank


def test_a_network_that_sees_everything_has_no_such_badge() -> None:
    sees = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    for blind in (None, sees):
        names = {badge.name for badge in badges_of(trial(evidence(0.0), blind_area=blind))}
        assert "blind-area" not in names


def test_a_degenerate_map_has_one_badge() -> None:
    (found,) = badges_of(trial(torch.zeros(SIDE, SIDE), degenerate=True))
    assert found.rank is Rank.DEGENERATE and found.value is None
    assert overall([found]) is Rank.DEGENERATE


def test_a_map_is_no_better_than_its_weakest_respect() -> None:
    def badge(rank: Rank) -> Badge:
        return Badge("name", "Title", rank, "Words.")

    assert overall([badge(Rank.GOOD), badge(Rank.FAIR)]) is Rank.FAIR
    assert overall([badge(Rank.POOR), badge(Rank.UNKNOWN), badge(Rank.GOOD)]) is Rank.POOR
    assert overall([badge(Rank.UNKNOWN)]) is Rank.UNKNOWN
    assert overall([]) is Rank.UNKNOWN


def test_badges_come_out_the_same_whoever_asks(examiner: Examiner, images: torch.Tensor) -> None:
    first, again = (examiner.explain(images[4], badges=True).badges for _ in range(2))
    assert first == again
    assert [badge.name for badge in first] == ["stability", "faithfulness", "agreement"]
    for badge in first:
        assert badge.words.endswith(".") and badge.meaning.endswith(".")


def test_a_contrast_and_a_map_of_no_class_have_badges(
    examiner: Examiner, subject: Subject, images: torch.Tensor
) -> None:
    contrast = examiner.explain(images[0], "integrated-gradients", Contrast(3, 5), badges=True)
    gaps = [badge.value for badge in contrast.badges if badge.name == "completeness"]
    bare = explain(
        subject.model, images[:1], "integrated-gradients", target=Contrast(3, 5)
    ).details["completeness_gap"]
    rise = float(contrast.values.sum()) - float(bare[0])
    assert gaps == [pytest.approx(abs(float(bare[0])) / max(abs(rise), 0.01), abs=1e-4)]
    edges = examiner.explain(images[0], "edges", badges=True)
    assert {badge.name for badge in edges.badges} >= {"stability", "faithfulness"}
