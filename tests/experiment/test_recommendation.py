"""What is recommended from the figures of a study: leads worked out by hand, and what went wrong."""

import dataclasses
import math
from typing import Any

import pytest

from fedlens.experiment.study.lead import AVERAGE, FINAL, WORST, Lead
from fedlens.experiment.study.recommendation import recommend
from fedlens.report.runaway import Runaway
from fedlens.report.study_content import Advice, CellResult, StudySummary
from fedlens.report.study_tables import accuracy_table, drift_table
from hand_made import changed, hand_made


def advice(summary: StudySummary) -> Advice:
    (found,) = recommend(summary)
    assert found.title == "Skewed"
    return dataclasses.replace(
        found,
        use=found.use.replace("\u00a0", " "),
        reasons=tuple(reason.replace("\u00a0", " ") for reason in found.reasons),
    )


def said(*arguments, **sent: int) -> Advice:
    return advice(hand_made(*arguments, **sent))


def lead(finals: dict[str, list[float]], figure=FINAL, change=lambda cell: {}) -> Lead:
    """Return the lead of SCAFFOLD over FedAvg."""
    summary = changed(hand_made(finals), change)
    one, two = summary.group("p", "scaffold"), summary.group("p", "fedavg")
    assert one is not None and two is not None
    found = Lead.between(one, two, figure)
    assert found is not None
    return found


# --- when a lead counts


def test_three_seeds_leave_both_standard_deviations_open() -> None:
    # means 0.81 and 0.86, both with a sample standard deviation of 0.01
    found = lead({"fedavg": [0.80, 0.81, 0.82], "scaffold": [0.85, 0.86, 0.87]})
    assert found.size == pytest.approx(0.05) and found.open == pytest.approx(0.02)
    assert found.clear and found.shown and found.on_each_seed and not found.behind
    # of equal seeds nothing is open, and a tenth of a point counts
    assert lead({"fedavg": [0.80] * 3, "scaffold": [0.801] * 3}).shown


def test_fewer_than_three_seeds_leave_a_point_open_and_show_nothing() -> None:
    # two seeds: spread 0.05 / sqrt 2 points, which chance gives; the lead of 0.15 points is none
    two = {"fedavg": [0.800, 0.8005], "scaffold": [0.8015, 0.802]}
    assert lead(two).open == 0.01 and not lead(two).clear
    apart = lead({"fedavg": [0.78, 0.80], "scaffold": [0.90, 0.92]})
    assert apart.open == pytest.approx(2 * 0.02 / math.sqrt(2))
    assert apart.clear and not apart.shown
    one = lead({"fedavg": [0.80], "scaffold": [0.82]})
    assert one.open == 0.01 and one.clear and not one.shown


def test_one_seed_leaves_open_what_the_curves_swing() -> None:
    """Of 100 rounds the last ten count: 0.70 and 0.74 in turn; of ten rounds the last five."""
    swinging = (0.1,) * 90 + (0.70, 0.74) * 5
    sd = 0.02 * math.sqrt(10 / 9)  # ten values, 0.02 from their mean each

    def change(cell: CellResult) -> dict[str, Any]:
        return {"accuracy": swinging} if cell.algorithm == "fedavg" else {}

    found = lead({"fedavg": [0.5], "scaffold": [0.76]}, change=change)
    assert found.open == pytest.approx(sd) and found.size == pytest.approx(0.02)
    assert not found.clear
    short = lead(
        {"fedavg": [0.5], "scaffold": [0.9]},
        change=lambda c: {"accuracy": (0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 0.5, 0.5, 0.6)},
    )
    # mean 0.52, squares 4 x 0.0004 + 0.0064 = 0.008 over 4: 0.002
    assert short.open == pytest.approx(2 * math.sqrt(0.002))


def test_the_worst_client_of_one_seed_shows_nothing() -> None:
    found = lead({"fedavg": [0.5], "scaffold": [0.9]}, WORST)
    assert found.size == pytest.approx(0.4) and found.open == math.inf and not found.clear
    assert lead({"fedavg": [0.5] * 3, "scaffold": [0.9] * 3}, WORST).shown


def test_only_seeds_that_both_have_are_compared() -> None:
    def average(cell: CellResult) -> dict[str, Any]:
        return {"averaged": (0.9,) * 6} if (cell.algorithm, cell.seed) != ("fedavg", 1) else {}

    found = lead({"fedavg": [0.5] * 3, "scaffold": [0.6] * 3}, AVERAGE, average)
    assert found.seeds == (0, 2) and found.size == 0
    summary = hand_made({"fedavg": [0.9], "scaffold": [0.8]}, {"fedavg": [0], "scaffold": [1]})
    groups = summary.groups("p")
    assert Lead.between(groups[0], groups[1]) is None


# --- what to use


def test_a_lead_that_three_seeds_show_is_to_be_used_and_its_price_is_told() -> None:
    found = said(
        {"fedavg": [0.80, 0.81, 0.82], "scaffold": [0.85, 0.86, 0.87], "fedprox": [0.70, 0.71, 0.72]},
        scaffold=200,
    )  # fmt: skip
    assert found.use == "Use SCAFFOLD."
    assert (
        "SCAFFOLD ends at 86.00 ± 1.00 % over three seeds, 5.00 points above FedAvg (81.00 ± 1.00 %): "
        "more than the spread over seeds (2.00 points)."
    ) in found.text
    assert "It sends 2.00 times the bytes of FedAvg." in found.text
    assert (
        "Its worst served client gets 76.0 ± 1.0 %, 5.0 points above FedAvg's (71.0 ± 1.0 %): more "
        "than the spread over seeds (2.0 points)."
    ) in found.text
    assert "FedProx" not in found.text


def test_within_the_spread_the_reference_is_to_be_used() -> None:
    found = said({"fedavg": [0.80, 0.84, 0.82], "scaffold": [0.81, 0.85, 0.83]}, scaffold=200)
    assert found.use == "Use FedAvg: no other is shown to be better, and none sends fewer bytes."
    assert (
        "1.00 points above FedAvg (82.00 ± 2.00 %): within the spread over seeds (4.00 points), though "
        "on each of the three seeds."
    ) in found.text
    found = said({"fedavg": [0.80, 0.84, 0.82], "scaffold": [0.81, 0.85, 0.81]}, scaffold=50)
    assert found.use == "Use FedAvg: no other is shown to be better."
    assert "on each" not in found.text


def test_a_lead_on_fewer_seeds_is_worth_a_try() -> None:
    near = said({"fedavg": [0.80], "scaffold": [0.808]})
    assert near.use.startswith("Use FedAvg: no other is shown to be better")
    assert "within what one seed leaves open (1.00 points)" in near.text
    assert "as many bytes as FedAvg" in near.text
    assert "FedAvg's (70.0 %): one seed cannot show that." in near.text
    far = said({"fedavg": [0.80], "scaffold": [0.83]})
    assert far.use == "Worth a try: SCAFFOLD, ahead of FedAvg, though one seed cannot show it."
    assert "3.00 points above FedAvg (80.00 %): more than what one seed leaves open" in far.text
    two = said({"fedavg": [0.80, 0.81], "scaffold": [0.90, 0.91]})
    assert two.use == "Worth a try: SCAFFOLD, ahead of FedAvg, though two seeds cannot show it."
    assert "more than what two seeds leave open (1.41 points)" in two.text


def test_the_reference_itself_may_be_ahead() -> None:
    found = said({"fedavg": [0.9] * 3, "scaffold": [0.8] * 3, "fedprox": [0.7] * 3})
    assert found.use == "Use FedAvg: it is ahead of all others that were compared."
    assert found.reasons[0].startswith(
        "FedAvg ends at 90.00 ± 0.00 % over three seeds, 10.00 points above the next, SCAFFOLD (80.00"
    )
    assert "times the bytes" not in found.text
    assert "Its worst served client gets 80.0 ± 0.0 %." in found.text
    found = said({"fedavg": [0.9] * 3, "scaffold": [0.8] * 3, "fedprox": [0.899]})
    assert found.use.startswith("Use FedAvg: no other is shown to be better")


def test_a_lead_that_is_shown_goes_before_a_larger_one_that_is_not() -> None:
    """SCAFFOLD leads by two points on three seeds, FedProx by five on the one that it has."""
    found = said({"fedavg": [0.8] * 3, "scaffold": [0.82] * 3, "fedprox": [0.85]})
    assert found.use == "Use SCAFFOLD."
    assert "FedProx (85.00 % on one seed (0)) is ahead of it there." in found.text
    # seeds that differ by ten points do not decide: 95 % is FedProx's on the easy one
    finals = {"fedavg": [0.9, 0.8, 0.7], "scaffold": [0.92, 0.82, 0.72]}
    found = said({**finals, "fedprox": [0.95]})
    assert found.reasons[0].startswith(
        "FedProx ends at 95.00 % on one seed (0), 5.00 points above FedAvg"
    )
    found = said({**finals, "fedprox": [0.905]})
    assert found.reasons[0].startswith("SCAFFOLD ends at 82.00 ± 10.00 % over three seeds")


def test_all_seeds_are_told_of_where_the_comparison_has_fewer() -> None:
    found = said({"fedavg": [0.5], "scaffold": [0.6, 0.7, 0.8]})
    assert found.reasons[0].startswith(
        "SCAFFOLD ends at 60.00 % on one seed (0), 10.00 points above"
    )
    assert "Over all its three seeds it ends at 70.00 ± 10.00 %." in found.text


def test_those_that_cannot_be_told_apart_are_named() -> None:
    found = said(
        {"fedavg": [0.70] * 3, "scaffold": [0.85, 0.86, 0.87], "fedprox": [0.849, 0.858, 0.867],
         "mean": [0.865]}
    )  # fmt: skip
    assert (
        "It cannot be told apart from FedProx (85.80 ± 0.90 %) and Mean (86.50 % on one seed (0))."
        not in found.text  # on seed 0 Mean is 1.5 points ahead of SCAFFOLD
    )
    assert "It cannot be told apart from FedProx (85.80 ± 0.90 %)." in found.text
    assert "Mean (86.50 % on one seed (0)) is ahead of it there." in found.text
    close = said({"fedavg": [0.70], "scaffold": [0.705], "fedprox": [0.704]})
    assert "It cannot be told apart from FedProx (70.40 %)." in close.text


def test_nothing_is_recommended_without_the_reference_or_from_the_small_version() -> None:
    summary = hand_made({"fedavg": [math.nan], "scaffold": [0.8] * 3, "fedprox": [0.9] * 3})
    found = advice(summary)
    assert found.use == (
        "Nothing to recommend yet: FedAvg, which the others are held against, is missing."
    )
    assert (
        "FedProx ends at 90.00 ± 0.00 % over three seeds, 10.00 points above SCAFFOLD" in found.text
    )
    quick = dataclasses.replace(hand_made({"fedavg": [0.8] * 3, "scaffold": [0.9] * 3}), quick=True)
    assert advice(quick).use == "The small version recommends nothing."
    # a study without FedAvg is held against its first algorithm
    assert said({"mean": [0.5] * 3, "fedprox": [0.62] * 3}).use == "Use FedProx."


def test_what_does_not_learn_is_not_recommended() -> None:
    """Ten classes: guessing gives 10 %, and two points more are no more than guessing."""
    found = said({"fedavg": [0.1] * 3, "scaffold": [0.12] * 3})
    assert found.use == ("Use none of these: not one that was compared does better than guessing.")
    assert "FedAvg and SCAFFOLD end no better than guessing, which gives 10.0 %." in found.text
    found = said({"fedavg": [0.1, 0.8], "scaffold": [0.9, 0.9]})
    assert "FedAvg on one of two seeds ends no better than guessing" in found.text


def test_too_little_to_compare_is_said_and_what_went_wrong_all_the_same() -> None:
    assert "FedAvg alone has a finished cell" in said({"fedavg": [0.9]}).text
    assert said({"fedavg": [0.9]}).use == ""
    nothing = said({"fedavg": [math.nan]}).text
    assert "no algorithm has a finished cell" in nothing
    assert "There is no accuracy of the last round for FedAvg." in nothing
    apart = said({"fedavg": [0.9], "scaffold": [0.1]}, {"fedavg": [0], "scaffold": [1]}).text
    assert "FedAvg and SCAFFOLD have no finished seed in common" in apart
    assert "SCAFFOLD ends no better than guessing" in apart
    aside = said({"fedavg": [0.9], "scaffold": [0.8], "fedprox": [0.7]}, {"fedprox": [1]}).text
    assert aside.endswith("FedProx shares no seed with FedAvg yet.")


# --- averages, bytes, clients


def test_averages_are_compared_on_the_seeds_that_have_one() -> None:
    """FedAvg's average gains a point on each seed that has one; its first seed has none."""
    finals = {"fedavg": [0.9, 0.8, 0.8], "scaffold": [0.72, 0.72, 0.72]}
    averages = {"fedavg": [None, 0.81, 0.81], "scaffold": [0.99, 0.74, 0.74]}

    def average(cell: CellResult) -> dict[str, Any]:
        value = averages[cell.algorithm][cell.seed]
        return {"averaged": () if value is None else (*[0.1] * 5, value)}

    summary = changed(hand_made(finals), average)
    found = advice(summary)
    assert found.use.startswith("Use FedAvg with an average over the rounds: ")
    assert (
        "The average of its rounds' models ends at 81.00 ± 0.00 % on 2 of its seeds, 1.00 points above "
        "its last round."
    ) in found.text
    assert "SCAFFOLD's average" not in found.text
    shown = accuracy_table(summary).rows[0][1].replace("\u00a0", " ")
    assert shown.splitlines()[-1] == "average 81.00 ± 0.00 (2 of 3)"
    averages["fedavg"] = [0.85, 0.81, 0.85]  # worse than the last round on seed 0
    averages["scaffold"] = [0.95, 0.91, 0.95]  # ten points above on each: standard deviation 0.0231
    found = advice(changed(hand_made(finals), average))
    assert found.use.startswith("Use FedAvg: it is ahead")
    assert (
        "SCAFFOLD's average (93.67 ± 2.31 %) is 10.00 points above FedAvg's over three seeds: more than "
        "the spread over seeds (4.62 points)."
    ) in found.text


def test_the_average_of_the_pick_is_held_against_that_of_the_reference() -> None:
    finals = {"fedavg": [0.5] * 3, "scaffold": [0.8] * 3}

    def average(cell: CellResult) -> dict[str, Any]:
        return {"averaged": (0.1,) * 5 + ((0.7 if cell.algorithm == "fedavg" else 0.79),)}

    found = advice(changed(hand_made(finals), average))
    assert found.use == "Use SCAFFOLD."  # its average is a point below its last round
    assert (
        "The average of its rounds' models ends at 79.00 ± 0.00 %, 1.00 points below its last round "
        "and 9.00 points above FedAvg's (70.00 ± 0.00 %): more than the spread over seeds (0.00 points"
    ) in found.text
    alone = changed(hand_made(finals), lambda c: average(c) if c.algorithm == "scaffold" else {})
    assert "below its last round; FedAvg has none on these seeds." in advice(alone).text


def test_whom_the_worst_served_client_is_chosen_from_is_said() -> None:
    summary = changed(hand_made({"fedavg": [0.8], "scaffold": [0.9]}), lambda c: {"federation": 6})
    assert (
        "Of the 2 of 6 clients that are measured, those whose update was used in the last round, its "
        "worst served one gets 80.0 %"
    ) in advice(summary).text


def test_a_central_reference_sends_nothing_to_compare_with() -> None:
    text = said({"fedavg": [0.80], "scaffold": [0.85]}, fedavg=0).text
    assert "bytes" not in text and "5.00 points above FedAvg" in text


# --- what went wrong


def test_a_loss_is_dated_and_no_cosine_after_it_counts() -> None:
    cell = hand_made({"fedavg": [0.5]}).cells[0]
    lost = dataclasses.replace(
        cell,
        accuracy=(0.1, 0.6, 0.35, 0.45, 0.39, 0.1),  # the fourth round is less than 20 points below
        cosines=(0.3, 0.5, 0.4, 0.4, 1.0, 1.0),
    )
    assert lost.lost_in == 5 and lost.mean_cosine == pytest.approx(0.4)
    assert dataclasses.replace(cell, accuracy=(0.7, 0.5)).lost_in == 2  # 0.7 - 0.5 < 0.2 in floats
    assert dataclasses.replace(cell, accuracy=(0.7, 0.501)).lost_in is None
    assert dataclasses.replace(cell, accuracy=(0.7, math.nan)).lost_in is None
    assert dataclasses.replace(cell, accuracy=(0.7, math.nan, 0.1)).lost_in == 2
    assert cell.lost_in is None and cell.mean_cosine == pytest.approx(2.5 / 6)


def test_where_a_model_was_lost_the_client_that_ran_away_before_is_named() -> None:
    def lost(round_: int) -> tuple[float, ...]:
        return (*[0.6] * (round_ - 1), *[0.1] * (7 - round_))

    summary = changed(
        hand_made(
            {"fedavg": [0.8] * 3, "scaffold": [0.1, 0.1, 0.7], "fedprox": [0.1, 0.8, 0.8]}
        ),
        lambda c: {
            ("scaffold", 0): {"accuracy": lost(6), "runaway": Runaway(3, 29, 30.0, 2.0)},
            ("scaffold", 1): {"accuracy": lost(5), "runaway": Runaway(5, 3, 2500.0, 1.0)},
            ("scaffold", 2): {"runaway": Runaway(1, 4, 40.0, 2.0)},
            ("fedprox", 0): {"accuracy": (*[0.29] * 5, 0.1), "runaway": Runaway(2, 1, 90.0, 2.0)},
        }.get((c.algorithm, c.seed), {}),
    )  # fmt: skip
    # the first loss is told; what fell by less than 20 points, or goes on, is no loss
    text = advice(summary).text
    assert (
        "Lost what had been learned: SCAFFOLD in round 5 on two of three seeds (60.0 % at best, 10.0 % "
        "at the end; client 3 in round 5: 2,500 times). Where a client is named its update was the "
        "first to be ten or more times as long as the median of its round. federation.far_off = "
        '"clip" shortens such updates, "reject" leaves them out, and a lower local.lr may prevent them.'
    ) in text
    assert "FedProx on one of three seeds ends no better than guessing" in text
    assert "far_off" not in advice(changed(summary, lambda c: {"runaway": None})).text
    # an update that went far only after the loss did not bring it about
    late = changed(summary, lambda c: {"runaway": Runaway(6, 1, 90.0, 2.0)})
    assert "SCAFFOLD in round 5 on two of three seeds (60.0 % at best, 10.0 % at the end)." in (
        advice(late).text
    )
    for table in (accuracy_table(summary), drift_table(summary)):
        assert table.rows[1][1].splitlines()[-1] == "lost in round 5 (2 of 3)"
        assert "Lost: 20 points or more below its best round" in table.caption
    # where all take part, SCAFFOLD's own advice: clipping only delays it
    known = {"federation": {"algorithm": "scaffold", "cohort": "all"}}
    text = advice(
        changed(summary, lambda c: {"config": known if c.algorithm == "scaffold" else {}})
    ).text
    assert "Under SCAFFOLD with all clients in every round clipping only delays the loss" in text
    assert "a pull (mu = 0.1) in federation.parameters" in text
    assert "far_off" not in text


def test_an_algorithm_without_updates_at_its_end_is_named_and_marked() -> None:
    summary = changed(
        hand_made({"fedavg": [0.8, 0.8], "scaffold": [0.7, 0.7]}),
        lambda c: (
            {"cosines": (0.9, *[math.nan] * 5)} if (c.algorithm, c.seed) == ("scaffold", 0) else {}
        ),
    )
    assert "No client's update could be used for SCAFFOLD after round 1 on one of two seeds." in (
        advice(summary).text
    )
    for table in (accuracy_table(summary), drift_table(summary)):
        ours, theirs = (row[1] for row in table.rows)
        assert "no update" not in ours
        assert theirs.splitlines()[-1] == "no update after round 1 (1 of 2)"
    # where no round has a cosine, as under privacy, nothing is known of updates
    hidden = changed(summary, lambda c: {"cosines": (math.nan,) * 6})
    assert "update could" not in advice(hidden).text
