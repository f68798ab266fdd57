"""When the lead of one algorithm over another counts, worked out by hand."""

import math
from typing import Any

import pytest

from fedlens.experiment.study.lead import AVERAGE, FINAL, WORST, Lead, average_is_better
from fedlens.report.study_content import CellResult
from hand_made import changed, hand_made


def lead(finals: dict[str, list[float]], figure=FINAL, change=lambda cell: {}) -> Lead:
    """Return the lead of SCAFFOLD over FedAvg."""
    summary = changed(hand_made(finals), change)
    one, two = summary.group("p", "scaffold"), summary.group("p", "fedavg")
    assert one is not None and two is not None
    found = Lead.between(one, two, figure)
    assert found is not None
    return found


def test_three_seeds_leave_both_standard_deviations_open() -> None:
    # means 0.81 and 0.86, both with a sample standard deviation of 0.01
    found = lead({"fedavg": [0.80, 0.81, 0.82], "scaffold": [0.85, 0.86, 0.87]})
    assert found.size == pytest.approx(0.05) and found.margin == pytest.approx(0.02)
    assert found.clear and found.shown and found.on_each_seed and not found.behind
    # of equal seeds nothing is open but what is not seen in print: a tenth of a point counts
    assert not lead({"fedavg": [0.80] * 3, "scaffold": [0.80005] * 3}).clear
    assert lead({"fedavg": [0.80] * 3, "scaffold": [0.801] * 3}).shown


def test_fewer_than_three_seeds_leave_a_point_open_and_show_nothing() -> None:
    # two seeds: spread 0.05 / sqrt 2 points, which chance gives; the lead of 0.15 points is none
    two = {"fedavg": [0.800, 0.8005], "scaffold": [0.8015, 0.802]}
    assert lead(two).margin == 0.01 and not lead(two).clear
    apart = lead({"fedavg": [0.78, 0.80], "scaffold": [0.90, 0.92]})
    assert apart.margin == pytest.approx(2 * 0.02 / math.sqrt(2))
    assert apart.clear and not apart.shown
    one = lead({"fedavg": [0.80], "scaffold": [0.82]})
    assert one.margin == 0.01 and one.clear and not one.shown


def test_one_seed_leaves_open_what_the_curves_swing() -> None:
    """Of 100 rounds the last ten count: 0.70 and 0.74 in turn; of ten rounds the last five."""
    swinging = (0.1,) * 90 + (0.70, 0.74) * 5
    sd = 0.02 * math.sqrt(10 / 9)  # ten values, 0.02 from their mean each

    def change(cell: CellResult) -> dict[str, Any]:
        return {"accuracy": swinging} if cell.algorithm == "fedavg" else {}

    found = lead({"fedavg": [0.5], "scaffold": [0.76]}, change=change)
    assert found.margin == pytest.approx(sd) and found.size == pytest.approx(0.02)
    assert not found.clear
    short = lead(
        {"fedavg": [0.5], "scaffold": [0.9]},
        change=lambda c: {"accuracy": (0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 0.5, 0.5, 0.6)},
    )
    # mean 0.52, squares 4 x 0.0004 + 0.0064 = 0.008 over 4: 0.002
    assert short.margin == pytest.approx(2 * math.sqrt(0.002))


def test_the_worst_client_of_one_seed_shows_nothing() -> None:
    found = lead({"fedavg": [0.5], "scaffold": [0.9]}, WORST)
    assert found.size == pytest.approx(0.4) and found.margin == math.inf and not found.clear
    assert lead({"fedavg": [0.5] * 3, "scaffold": [0.9] * 3}, WORST).shown


def test_only_seeds_that_both_have_are_compared() -> None:
    def average(cell: CellResult) -> dict[str, Any]:
        return {"averaged": (0.9,) * 6} if (cell.algorithm, cell.seed) != ("fedavg", 1) else {}

    found = lead({"fedavg": [0.5] * 3, "scaffold": [0.6] * 3}, AVERAGE, average)
    assert found.seeds == (0, 2) and found.size == 0
    summary = hand_made({"fedavg": [0.9], "scaffold": [0.8]}, {"fedavg": [0], "scaffold": [1]})
    groups = summary.groups("p")
    assert Lead.between(groups[0], groups[1]) is None


def test_a_lead_as_large_as_what_is_open_counts_on_neither_side() -> None:
    even = lead({"fedavg": [0.5] * 3, "scaffold": [0.5] * 3})
    assert even.size == 0 and not even.clear and not even.behind and not even.on_each_seed
    back = lead({"fedavg": [0.82] * 3, "scaffold": [0.8] * 3})
    assert back.behind and not back.clear and back.rank < even.rank
    assert back.standing() == "more than the spread over seeds (0.01 points)"


def test_what_counts_for_more_goes_first() -> None:
    shown = lead({"fedavg": [0.8] * 3, "scaffold": [0.801] * 3})
    clear = lead({"fedavg": [0.5], "scaffold": [0.55]})
    level = Lead(shown.first, shown.first, FINAL)
    assert not level.clear and not level.behind
    wide = lead({"fedavg": [0.1, 0.9], "scaffold": [0.3, 0.9]})
    assert shown.rank > clear.rank > wide.rank and shown.size < clear.size < wide.size
    # of two that leave it open the one on more seeds: half a point on one seed says less
    three = lead({"fedavg": [0.6, 0.7, 0.8], "scaffold": [0.603, 0.703, 0.803]})
    one = lead({"fedavg": [0.6], "scaffold": [0.605]})
    assert not three.clear and not one.clear and three.size < one.size and three.rank > one.rank


def test_it_is_said_in_words() -> None:
    on_one = lead({"fedavg": [0.80], "scaffold": [0.805]})
    assert (on_one.over, on_one.standing()) == (
        "on one seed (0)",
        "within what one seed leaves open (1.00 points)",
    )
    on_two = lead({"fedavg": [0.80, 0.82], "scaffold": [0.81, 0.83]})
    assert (on_two.over, on_two.standing(1)) == (
        "over two seeds",
        "within what two seeds leave open (2.8 points), though on each of the two seeds",
    )


def test_rounds_that_were_not_measured_do_not_swing() -> None:
    known = lead(
        {"fedavg": [0.5], "scaffold": [0.7]},
        change=lambda c: {"accuracy": (0.1, 0.3, math.nan, 0.5, math.nan, c.final)},
    )
    # of the last five 0.3, 0.5 and the final: 0.3, 0.5, 0.5 and 0.3, 0.5, 0.7
    assert known.margin == pytest.approx(0.2 / math.sqrt(3) + 0.2)
    alone = lead(
        {"fedavg": [0.5], "scaffold": [0.7]},
        change=lambda c: {"accuracy": (0.1, *[math.nan] * 4, c.final)},
    )
    assert alone.margin == 0.01


def test_an_average_swings_by_its_own_curve() -> None:
    found = lead(
        {"fedavg": [0.5], "scaffold": [0.5]},
        AVERAGE,
        lambda c: {"averaged": (0.1, 0.1, 0.2, 0.2, 0.2, 0.7), "accuracy": (0.9,) * 6},
    )
    sd = math.sqrt(
        (0.18**2 + 3 * 0.08**2 + 0.42**2) / 4
    )  # of 0.1, 0.2, 0.2, 0.2 and 0.7, mean 0.28
    assert found.margin == pytest.approx(2 * sd)


@pytest.mark.parametrize(
    ("averages", "better"),
    [
        ([0.51, 0.61, 0.71], True),
        ([0.51, 0.61, 0.70], False),  # no better on the last seed
        ([0.51, 0.61, 0.70005], False),  # nor is what is not seen in print
        ([0.51, 0.61, None], False),
        ([0.51, 0.61], False),  # two seeds are too few
    ],
)
def test_an_average_is_better_on_each_of_three_seeds(
    averages: list[float | None], better: bool
) -> None:
    def average(cell: CellResult) -> dict[str, Any]:
        value = averages[cell.seed]
        return {"averaged": () if value is None else (value,) * 6}

    summary = changed(hand_made({"fedavg": [0.5, 0.6, 0.7][: len(averages)]}), average)
    assert average_is_better(summary.groups("p")[0]) is better
