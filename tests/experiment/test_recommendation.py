"""What is recommended from the figures of a study, why, and what went wrong."""

import dataclasses
import math
from typing import Any

import pytest

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
    assert "SCAFFOLD sends 2.00 times the bytes of FedAvg." in found.reasons
    assert (
        "SCAFFOLD's worst served client gets 76.0 ± 1.0 %, 5.0 points above FedAvg's (71.0 ± 1.0 %): "
        "more than the spread over seeds (2.0 points)."
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
    assert found.use == "Use FedAvg: it is ahead of all others here."
    assert found.reasons[0].startswith(
        "FedAvg ends at 90.00 ± 0.00 % over three seeds, 10.00 points above SCAFFOLD (80.00"
    )
    assert "times the bytes" not in found.text
    assert "FedAvg's worst served client gets 80.0 ± 0.0 %." in found.text
    found = said({"fedavg": [0.9] * 3, "scaffold": [0.8] * 3, "fedprox": [0.899]})
    assert found.use.startswith("Use FedAvg: no other is shown to be better")


def test_a_lead_that_is_shown_goes_before_a_larger_one_that_is_not() -> None:
    """SCAFFOLD leads by two points on three seeds, FedProx by five on the one that it has."""
    found = said({"fedavg": [0.8] * 3, "scaffold": [0.82] * 3, "fedprox": [0.85]})
    assert found.use == "Use SCAFFOLD."
    assert (
        "FedProx (85.00 % on one seed (0)) is ahead of SCAFFOLD on the same seeds." in found.reasons
    )
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


def test_one_that_is_shown_to_be_ahead_of_the_first_choice_goes_before_it() -> None:
    """SCAFFOLD leads FedAvg by more, on its three seeds; FedProx, on six, is ahead of it there."""
    found = said(
        {"fedavg": [0.5] * 3 + [0.8] * 3, "scaffold": [0.9] * 3, "fedprox": [0.95] * 6},
    )
    assert found.use == "Use FedProx."
    assert "ahead of" not in found.text
    found = said({"fedavg": [0.5] * 3 + [0.8] * 3, "scaffold": [0.9] * 3, "fedprox": [0.89] * 6})
    assert found.use == "Use SCAFFOLD."
    # on two seeds it is not shown to be, nor is one whose own lead over FedAvg is not shown
    found = said(
        {"fedavg": [0.5] * 5, "scaffold": [0.9] * 3, "fedprox": [0.95, 0.95, 0.6, 0.6]},
        {"fedprox": [1, 2, 3, 4]},
    )
    assert found.use == "Use SCAFFOLD."
    assert (
        "FedProx (95.00 ± 0.00 % over two seeds) is ahead of SCAFFOLD on the same seeds."
        in found.reasons
    )
    found = said(
        {"fedavg": [0.5] * 3 + [0.2, 0.9, 0.5], "scaffold": [0.9] * 3,
         "fedprox": [0.95] * 3 + [0.3, 0.9, 0.5]}
    )  # fmt: skip
    assert found.use == "Use SCAFFOLD."
    assert "FedProx (95.00 ± 0.00 %) is ahead of SCAFFOLD on the same seeds." in found.reasons


def test_one_that_fails_goes_before_no_sound_one_whose_lead_counts() -> None:
    def falling(summary: StudySummary) -> Advice:
        """FedProx was lost on its first seed, from wherever it ends."""
        return advice(
            changed(
                summary,
                lambda c: (
                    {"accuracy": lost(0.97, c.final)}
                    if (c.algorithm, c.seed) == ("fedprox", 0)
                    else {}
                ),
            )
        )

    found = falling(hand_made({"fedavg": [0.5] * 3, "scaffold": [0.7] * 3, "fedprox": [0.75] * 3}))
    assert found.use == "Use SCAFFOLD."
    assert "FedProx (75.00 ± 0.00 %) is ahead of SCAFFOLD on the same seeds." in found.reasons
    # a sound one without a lead does not hide it
    found = falling(
        hand_made({"fedavg": [0.6] * 3, "scaffold": [0.45, 0.65, 0.75], "fedprox": [0.64] * 3})
    )
    assert found.use == (
        "Worth a try: FedProx, ahead of FedAvg, though it fails on one of three seeds."
    )


def test_those_that_cannot_be_told_apart_are_named() -> None:
    found = said(
        {"fedavg": [0.70] * 3, "scaffold": [0.85, 0.86, 0.87], "fedprox": [0.849, 0.858, 0.867],
         "mean": [0.865]}
    )  # fmt: skip
    # on seed 0 Mean is 1.5 points ahead of SCAFFOLD, which one seed does not leave open
    assert (
        "SCAFFOLD cannot be told apart from FedProx (85.80 ± 0.90 %). Mean (86.50 % on one seed (0)) "
        "is ahead of SCAFFOLD on the same seeds."
    ) in found.reasons
    close = said({"fedavg": [0.70], "scaffold": [0.705], "fedprox": [0.704]})
    assert "SCAFFOLD cannot be told apart from FedProx (70.40 %)." in close.reasons
    both = said({"fedavg": [0.7] * 3, "scaffold": [0.85] * 3, "fedprox": [0.9], "mean": [0.8, 0.9]})
    assert (
        "SCAFFOLD cannot be told apart from Mean (85.00 ± 7.07 % over two seeds). FedProx (90.00 % on "
        "one seed (0)) is ahead of SCAFFOLD on the same seeds."
    ) in both.reasons
    two = said({"fedavg": [0.7] * 3, "scaffold": [0.85] * 3, "fedprox": [0.9], "mean": [0.95]})
    assert (
        "Mean (95.00 % on one seed (0)) and FedProx (90.00 % on one seed (0)) are ahead of SCAFFOLD on "
        "the same seeds."
    ) in two.reasons
    other = said(
        {"fedavg": [0.8, 0.795], "scaffold": [0.9, 0.9], "fedprox": [0.895]}, {"fedprox": [1]}
    )
    assert "FedProx (89.50 % on one seed (1))." in other.text
    ring = said(
        {"fedavg": [0.5, 0.5], "scaffold": [0.9, 0.9], "fedprox": [0.895, 0.7]},
        {"fedavg": [0, 2], "fedprox": [1, 2]},
    )
    assert "SCAFFOLD cannot be told apart from FedProx (89.50 % on one seed (1))." in ring.reasons


def test_of_equals_the_reference_is_told_of() -> None:
    found = said({"fedavg": [0.8] * 3, "scaffold": [0.8] * 3, "fedprox": [0.8] * 3})
    assert found.use == "Use FedAvg: no other is shown to be better, and none sends fewer bytes."
    assert found.reasons[0] == (
        "FedAvg ends at 80.00 ± 0.00 % over three seeds, the same as SCAFFOLD (80.00 ± 0.00 %)."
    )


def test_one_seed_does_not_show_the_reference_to_be_ahead_either() -> None:
    found = said({"fedavg": [0.9], "scaffold": [0.5], "fedprox": [0.4]})
    assert found.use == "Use FedAvg: no other is shown to be better, and none sends fewer bytes."
    cheaper = said({"fedavg": [0.9], "scaffold": [0.5]}, fedavg=1000, scaffold=999)
    assert cheaper.use == "Use FedAvg: no other is shown to be better."
    aside = said(
        {"fedavg": [0.9], "scaffold": [0.5], "fedprox": [0.4]}, {"fedprox": [1]}, fedprox=1
    )
    assert aside.use == "Use FedAvg: no other is shown to be better."
    shown = said(
        {"fedavg": [0.9] * 3, "scaffold": [0.5] * 3, "fedprox": [0.95] * 3}, {"fedprox": [3, 4, 5]}
    )
    assert shown.use == "Use FedAvg: no other is shown to be better."
    fewer = said(
        {"fedavg": [0.8, 0.8], "scaffold": [0.801]}, {"fedavg": [0, 1]}, fedavg=100, scaffold=90
    )
    assert fewer.use == "Use FedAvg: no other is shown to be better."


def test_nothing_is_recommended_without_the_reference_or_from_the_small_version() -> None:
    summary = hand_made({"fedavg": [math.nan], "scaffold": [0.8] * 3, "fedprox": [0.9] * 3})
    found = advice(summary)
    assert found.use == (
        "Nothing to recommend yet: FedAvg, which others are held against, has no figure."
    )
    assert (
        "FedProx ends at 90.00 ± 0.00 % over three seeds, 10.00 points above SCAFFOLD" in found.text
    )
    quick = dataclasses.replace(hand_made({"fedavg": [0.8] * 3, "scaffold": [0.9] * 3}), quick=True)
    assert advice(quick).use == "The small version recommends nothing."


def test_without_fedavg_the_first_algorithm_is_held_against_but_not_recommended() -> None:
    assert said({"mean": [0.5] * 3, "fedprox": [0.62] * 3}).use == "Use FedProx."
    assert said({"mean": [0.5], "fedprox": [0.502]}).use == "None is shown to be better than Mean."
    assert said({"mean": [0.7] * 3, "fedprox": [0.6] * 3}).use == (
        "Use Mean: it is ahead of all others here."
    )


def test_what_does_not_learn_is_not_recommended() -> None:
    """Ten classes: guessing gives 10 %, and two points more are hardly better."""
    found = said({"fedavg": [0.1] * 3, "scaffold": [0.12] * 3})
    assert found.use == "Use none of these: all end hardly better than guessing."
    assert "FedAvg and SCAFFOLD end hardly better than guessing (10.0 %)." in found.reasons
    found = said({"fedavg": [0.1] * 3, "scaffold": [0.12, 0.125, math.nan]})
    assert found.use == (
        "Worth a try: SCAFFOLD, ahead of FedAvg, though two seeds cannot show it and it fails on "
        "one of two seeds."
    )
    aside = said({"fedavg": [0.1], "scaffold": [0.1], "fedprox": [0.9]}, {"fedprox": [1]})
    assert aside.use == "Nothing to recommend: FedAvg fails, and no other is shown to be better."
    # one that learned goes before one that did not, however few its seeds
    found = said({"fedavg": [0.1] * 3, "scaffold": [0.119] * 3, "fedprox": [0.9]})
    assert found.use == "Worth a try: FedProx, ahead of FedAvg, though one seed cannot show it."
    found = said({"fedavg": [0.05, 0.9, 0.9], "scaffold": [0.11]})
    assert found.use == (
        "Nothing to recommend: FedAvg fails on one of three seeds, and no other is shown to be better."
    )
    assert "FedAvg on one of three seeds and SCAFFOLD end hardly better than guessing" in found.text
    summary = dataclasses.replace(
        hand_made({"fedavg": [1.0], "scaffold": [0.5]}), class_names=("a",)
    )
    assert "guessing" not in advice(summary).text  # of one class there is nothing to guess


def lost(best: float, final: float, round_: int = 6) -> tuple[float, ...]:
    """Return the accuracies of six rounds that fall in one of them."""
    return (*[best] * (round_ - 1), *[final] * (7 - round_))


def test_what_lost_its_model_on_a_seed_is_worth_a_try_at_most() -> None:
    finals = {"fedavg": [0.2] * 3, "scaffold": [0.9, 0.9, 0.6]}
    summary = changed(
        hand_made(finals), lambda c: {"accuracy": lost(0.9, 0.6)} if c.final == 0.6 else {}
    )
    assert advice(summary).use == (
        "Worth a try: SCAFFOLD, ahead of FedAvg, though it fails on one of three seeds."
    )
    all_lost = changed(
        hand_made({"fedavg": [0.4] * 3, "scaffold": [0.5] * 3}),
        lambda c: {"accuracy": lost(0.9, 0.5)} if c.algorithm == "scaffold" else {},
    )
    assert advice(all_lost).use == "Worth a try: SCAFFOLD, ahead of FedAvg, though it fails."
    base_lost = changed(
        hand_made({"fedavg": [0.9] * 3, "scaffold": [0.3] * 3}),
        lambda c: {"accuracy": lost(0.9, 0.4)} if c.algorithm == "fedavg" else {},
    )
    assert advice(base_lost).use == (
        "Nothing to recommend: FedAvg fails, and no other is shown to be better."
    )


def test_one_that_fails_is_told_apart_by_that_from_one_that_does_not() -> None:
    fedprox = [0.78, 0.1, 0.78]
    found = advice(
        changed(
            hand_made({"fedavg": [0.8] * 3, "scaffold": [0.82] * 3, "fedprox": fedprox}),
            lambda c: {"accuracy": lost(0.9, 0.1)} if c.final == 0.1 else {},
        )
    )
    assert found.use == "Use SCAFFOLD."
    assert "told apart" not in found.text
    assert "Lost what had been learned: FedProx" in found.text
    both = changed(  # the pick fails as well
        hand_made({"fedavg": [0.7] * 3, "scaffold": [0.82, 0.76, 0.88], "fedprox": fedprox}),
        lambda c: {"accuracy": lost(0.97, c.final)} if c.final in (0.1, 0.76) else {},
    )
    assert "SCAFFOLD cannot be told apart from FedProx (55.33 ± 39.26 %)." in advice(both).reasons


@pytest.mark.parametrize(
    ("finals", "lost_at", "apart"),
    [
        # the other failed on a seed that the pick has not
        ({"scaffold": [0.6, 0.62, 0.58], "fedprox": [0.59, 0.61, 0.585, 0.3]}, [0.3], False),
        # the pick failed on a seed that the other has not, and the other on one that both have
        ({"scaffold": [0.8, 0.82, 0.78, 0.5], "fedprox": [0.78, 0.56, 0.8]}, [0.5, 0.56], True),
        # the pick failed and the other did not
        (
            {"fedavg": [0.7] * 3, "scaffold": [0.88, 0.74, 0.88], "fedprox": [0.7, 0.75, 0.9]},
            [0.74],
            False,
        ),
        # the other failed and is above the pick all the same
        ({"scaffold": [0.6] * 3, "fedprox": [0.9, 0.9, 0.3]}, [0.3], False),
    ],
)
def test_a_failure_tells_apart_what_it_puts_behind_on_shared_seeds(
    finals: dict[str, list[float]], lost_at: list[float], apart: bool
) -> None:
    summary = changed(
        hand_made({"fedavg": [0.4] * 4, **finals}),
        lambda c: {"accuracy": lost(0.97, c.final)} if c.final in lost_at else {},
    )
    found = advice(summary)
    assert found.reasons[0].startswith("SCAFFOLD ends at ")
    assert ("SCAFFOLD cannot be told apart from FedProx" not in found.text) is apart


def test_a_reference_that_fails_is_not_protected_by_the_spread_that_this_makes() -> None:
    summary = changed(
        hand_made({"fedavg": [0.9, 0.9, 0.1], "scaffold": [0.85] * 3}),
        lambda c: {"accuracy": lost(0.9, 0.1)} if c.final == 0.1 else {},
    )
    found = advice(summary)
    assert found.use == (
        "Worth a try: SCAFFOLD, which does not fail as FedAvg does on one of three seeds."
    )
    assert "within the spread over seeds" in found.reasons[0]
    # on the one seed that SCAFFOLD has, FedAvg does not fail either
    one = changed(
        hand_made({"fedavg": [0.9, 0.9, 0.1], "scaffold": [0.901]}),
        lambda c: {"accuracy": lost(0.9, 0.1)} if c.final == 0.1 else {},
    )
    assert advice(one).use == (
        "Nothing to recommend: FedAvg fails on one of three seeds, and no other is shown to be better."
    )


def test_what_has_no_update_any_more_is_not_to_be_used() -> None:
    summary = changed(
        hand_made({"fedavg": [0.6] * 3, "scaffold": [0.8] * 3}),
        lambda c: (
            {"cosines": (0.5, 0.5, *[math.nan] * 4)}
            if (c.algorithm, c.seed) == ("scaffold", 1)
            else {}
        ),
    )
    assert advice(summary).use == (
        "Worth a try: SCAFFOLD, ahead of FedAvg, though it fails on one of three seeds."
    )


def test_too_little_to_compare_is_said_and_what_went_wrong_all_the_same() -> None:
    assert said({"fedavg": [0.9]}).reasons == (
        "So far FedAvg alone has a figure here: there is nothing to compare.",
    )
    assert said({"fedavg": [0.9]}).use == ""
    assert said({"fedavg": [math.nan]}).reasons == (
        "So far no algorithm has a figure here: there is nothing to compare.",
        "There is no accuracy of the last round for FedAvg.",
    )
    assert said({"fedavg": [0.9], "scaffold": [0.1]}, {"fedavg": [0], "scaffold": [1]}).reasons == (
        "No finished seed is shared with FedAvg: nothing can be compared yet.",
        "SCAFFOLD ends hardly better than guessing (10.0 %).",
    )
    other = {"mean": [0.8], "fedavg": [0.8], "scaffold": [0.7]}
    assert (
        said(other, {"fedavg": [1]})
        .reasons[0]
        .startswith("No finished seed is shared with FedAvg:")
    )
    finals = {"fedavg": [0.9], "scaffold": [0.8], "fedprox": [0.7], "mean": [0.6]}
    one = said(finals, {"fedprox": [1]})
    assert one.reasons[-1] == "FedProx shares no seed with FedAvg yet."
    two = said(finals, {"fedprox": [1], "mean": [2]})
    assert two.reasons[-1] == "FedProx and Mean share no seed with FedAvg yet."
    unmeasured = said({**finals, "mean": [math.nan]})
    assert "share" not in unmeasured.text


def test_seeds_that_were_not_measured_are_not_counted() -> None:
    found = said({"fedavg": [0.5, 0.5], "scaffold": [0.6, math.nan]})
    assert found.reasons[0].startswith("SCAFFOLD ends at 60.00 % on one seed (0), 10.00 points")
    assert "Over all its" not in found.text
    assert (
        "There is no accuracy of the last round for SCAFFOLD on one of two seeds." in found.reasons
    )


# --- averages, bytes, clients


def averaged(values: dict[str, list[float | None]]) -> Any:
    """Return a change that gives cells an average, the same after each of the last five rounds."""

    def change(cell: CellResult) -> dict[str, Any]:
        value = values.get(cell.algorithm, [None] * 9)[cell.seed]
        return {"averaged": () if value is None else (0.1, *[value] * 5)}

    return change


def test_an_average_that_is_better_on_each_seed_is_advised() -> None:
    finals = {"fedavg": [0.8] * 3, "scaffold": [0.72] * 3}
    summary = changed(hand_made(finals), averaged({"fedavg": [0.81] * 3, "scaffold": [0.73] * 3}))
    found = advice(summary)
    assert (
        found.use == "Use FedAvg with an average over the rounds: it is ahead of all others here."
    )
    assert (
        "The average of FedAvg's rounds ends at 81.00 ± 0.00 %, 1.00 points above its last round."
    ) in found.reasons
    # advised for the reference while another is told of: its figures are told too
    near = changed(
        hand_made({"fedavg": [0.8] * 3, "scaffold": [0.81, 0.9, 0.7]}),
        averaged({"fedavg": [0.81] * 3}),
    )
    assert advice(near).use.startswith("Use FedAvg with an average over the rounds: no other is")
    assert ("FedAvg's average ends at 81.00 ± 0.00 %, 1.00 points above its last round.") in advice(
        near
    ).reasons


def test_averages_on_some_of_the_seeds_are_told_but_not_advised() -> None:
    finals = {"fedavg": [0.9, 0.8, 0.8], "scaffold": [0.72] * 3}
    summary = changed(hand_made(finals), averaged({"fedavg": [None, 0.81, 0.81]}))
    found = advice(summary)
    assert found.use == "Use FedAvg: it is ahead of all others here."
    assert (
        "The average of FedAvg's rounds ends at 81.00 ± 0.00 %, 1.00 points above its last round on "
        "two of its three seeds."
    ) in found.reasons
    shown = accuracy_table(summary).rows[0][1].replace("\u00a0", " ")
    assert shown.splitlines()[-1] == "average 81.00 ± 0.00 (2 of 3)"


def test_an_average_above_that_of_the_one_recommended_is_told() -> None:
    finals = {"fedavg": [0.9, 0.8, 0.8], "scaffold": [0.72] * 3, "fedprox": [0.7]}
    values = {
        "fedavg": [0.85, 0.81, 0.85],
        "scaffold": [0.95, 0.91, 0.95],  # ten points above on each: standard deviation 0.0231
        "fedprox": [0.99],
    }
    found = advice(changed(hand_made(finals), averaged(values)))
    assert found.use == (
        "Use FedAvg (by averages over the rounds SCAFFOLD is ahead): no other is shown to be better, "
        "and none sends fewer bytes."
    )
    # FedProx's is further above, on a seed that shows nothing
    assert (
        "Over three seeds SCAFFOLD's average (93.67 ± 2.31 %) is 10.00 points above FedAvg's "
        "(83.67 ± 2.31 %): more than the spread over seeds (4.62 points)."
    ) in found.reasons
    # the reference's, above the pick's: told once, with the pick's
    both = changed(
        hand_made({"fedavg": [0.5] * 3, "scaffold": [0.6] * 3}),
        averaged({"fedavg": [0.9] * 3, "scaffold": [0.61] * 3}),
    )
    assert advice(both).use == ("Use SCAFFOLD (by averages over the rounds FedAvg is ahead).")
    assert "points below FedAvg's (90.00 ± 0.00 %)" in advice(both).text
    assert "FedAvg's average (90.00" not in advice(both).text
    # what one seed says of averages stays below
    values["scaffold"] = [0.7] * 3
    one = advice(changed(hand_made(finals), averaged(values)))
    assert one.use == "Use FedAvg: no other is shown to be better, and none sends fewer bytes."
    assert "On one seed (0) FedProx's average (99.00 %) is 14.00 points above" in one.text


def test_the_average_of_the_pick_is_held_against_that_of_the_reference() -> None:
    finals = {"fedavg": [0.5] * 3, "scaffold": [0.8] * 3}
    values = {"fedavg": [0.7] * 3, "scaffold": [0.79] * 3}
    found = advice(changed(hand_made(finals), averaged(values)))
    assert found.use == "Use SCAFFOLD."  # its average is a point below its last round
    assert "FedAvg's average ends" not in found.text  # better than its last round, but not advised
    assert (
        "The average of SCAFFOLD's rounds ends at 79.00 ± 0.00 %, 1.00 points below its last round, "
        "9.00 points above FedAvg's (70.00 ± 0.00 %): more than the spread over seeds "
        "(0.01 points)."
    ) in found.reasons
    alone = changed(hand_made(finals), averaged({"scaffold": [0.79] * 3}))
    assert "below its last round; FedAvg has none on the same seeds." in advice(alone).text
    fewer = changed(
        hand_made(finals),
        averaged({"fedavg": [None, 0.7, None], "scaffold": [0.79, 0.76, 0.79]}),
    )
    assert (
        "The average of SCAFFOLD's rounds ends at 78.00 ± 1.73 %, 2.00 points below its last round. "
        "On one seed (1) it is 76.00 %, 6.00 points above FedAvg's (70.00 %): more than what one seed "
        "leaves open (1.00 points)."
    ) in advice(fewer).reasons


def test_whom_the_worst_served_client_is_chosen_from_is_said() -> None:
    summary = changed(hand_made({"fedavg": [0.8], "scaffold": [0.9]}), lambda c: {"federation": 6})
    assert (
        "Of the 2 of 6 clients that are measured, those whose update was used in the last round, "
        "SCAFFOLD's worst served one gets 80.0 %"
    ) in advice(summary).text


def test_seeds_without_a_measured_client_are_left_out_and_that_is_said() -> None:
    """SCAFFOLD's second seed was lost and has no client; FedAvg's third has one of two."""
    summary = changed(
        hand_made({"fedavg": [0.6] * 3, "scaffold": [0.8] * 3}),
        lambda c: {
            ("scaffold", 1): {"clients": ()},
            ("scaffold", 2): {"clients": (0.5,), "federation": 3},
        }.get((c.algorithm, c.seed), {}),
    )
    assert (
        "Of the 1 of 3 clients that are measured, those whose update was used in the last round, "
        "SCAFFOLD's worst served one gets 60.0 ± 14.1 % on two of its three seeds, 10.0 points above "
        "FedAvg's (50.0 ± 0.0 %): within what two seeds leave open (14.1 points)."
    ) in advice(summary).reasons
    reference = changed(
        hand_made({"fedavg": [0.8] * 3, "scaffold": [0.6] * 3}),
        lambda c: {"clients": ()} if c.seed == 1 else {},
    )
    assert ("FedAvg's worst served client gets 70.0 ± 0.0 % on two of its three seeds.") in advice(
        reference
    ).reasons
    none = changed(summary, lambda c: {"clients": ()})
    assert "worst" not in advice(none).text
    lone = changed(
        hand_made({"fedavg": [0.6], "scaffold": [0.8] * 3}),
        lambda c: {"clients": (0.1 * c.seed + 0.2,)} if c.algorithm == "scaffold" else {},
    )
    assert (
        "SCAFFOLD's worst served client gets 30.0 ± 10.0 %. On one seed (0) it is 20.0 %, 30.0 points "
        "below FedAvg's (50.0 %): one seed cannot show that."
    ) in advice(changed(lone, lambda c: {"federation": 1})).reasons
    equal = changed(summary, lambda c: {"clients": (0.5, 0.7)})
    assert "gets 50.0 ± 0.0 %, the same as FedAvg's (50.0 ± 0.0 %)." in advice(equal).text


def test_a_central_reference_sends_nothing_to_compare_with() -> None:
    text = said({"fedavg": [0.80], "scaffold": [0.85]}, fedavg=0).text
    assert "bytes" not in text and "5.00 points above FedAvg" in text
    assert "sends" not in said({"fedavg": [0.80], "scaffold": [0.85]}, scaffold=0).text


# --- what went wrong


def test_a_loss_is_dated_and_no_cosine_after_it_counts() -> None:
    cell = hand_made({"fedavg": [0.5]}).cells[0]
    lost = dataclasses.replace(
        cell,
        accuracy=(0.1, 0.6, 0.35, 0.45, 0.39, 0.1),  # the fourth round is less than 20 points below
        cosines=(0.3, 0.5, 0.4, 0.4, 1.0, 1.0),
    )
    assert lost.lost_in == 5 and lost.mean_cosine == pytest.approx(0.4)
    # a client that ran away before it takes no round from the mean: the loss is what ends it
    wild = dataclasses.replace(lost, f1=(0.1,) * 10, runaway=Runaway(2, 5, 753.0, 6.9))
    assert wild.at_chance and wild.mean_cosine == pytest.approx(0.4)
    assert dataclasses.replace(cell, accuracy=(0.7, 0.5)).lost_in == 2  # 0.7 - 0.5 < 0.2 in floats
    assert dataclasses.replace(cell, accuracy=(0.7, 0.501)).lost_in is None
    assert dataclasses.replace(cell, accuracy=(0.7, math.nan)).lost_in is None
    assert dataclasses.replace(cell, accuracy=(0.7, math.nan, 0.1)).lost_in == 2
    assert cell.lost_in is None and cell.mean_cosine == pytest.approx(2.5 / 6)


def test_where_nothing_was_learned_no_cosine_counts_from_a_runaway_update_on() -> None:
    """There is no loss to date: what ends the rounds that mean something is the update."""
    cell = dataclasses.replace(
        hand_made({"fedavg": [0.1]}).cells[0], cosines=(0.5, 0.3, 0.2, 1.0, 1.0, 1.0)
    )
    assert cell.at_chance and cell.lost_in is None
    assert cell.mean_cosine == pytest.approx(4.0 / 6)
    wild = dataclasses.replace(cell, runaway=Runaway(3, 5, 753.0, 6.9))
    assert wild.mean_cosine == pytest.approx(0.4)
    # what came back from it goes on: all its rounds count
    back = dataclasses.replace(wild, accuracy=(0.1, 0.1, 0.1, 0.1, 0.1, 0.121))
    assert not back.at_chance and back.mean_cosine == pytest.approx(4.0 / 6)
    assert dataclasses.replace(wild, f1=(0.5,)).mean_cosine == pytest.approx(4.0 / 6)


def test_where_nothing_was_learned_the_client_that_ran_away_is_named() -> None:
    """Of several seeds the earliest; in the table of drift it stands where the last cosine would."""
    away = {0: Runaway(9, 5, 5196.0, 6.9), 1: Runaway(4, 2, 60.0, 3.0)}
    summary = changed(
        hand_made({"fedavg": [0.3] * 3, "scaffold": [0.1, 0.1, 0.3], "fedprox": [0.1] * 3}),
        lambda c: {"runaway": away.get(c.seed)} if c.algorithm != "fedprox" else {},
    )
    assert (
        "SCAFFOLD on two of three seeds (client 2's update in round 4 was 20 times as long as the "
        "median) and FedProx end hardly better than guessing (10.0 %)."
    ) in advice(summary).reasons
    fedavg, scaffold, fedprox = (row[1].splitlines() for row in drift_table(summary).rows)
    assert scaffold[-1] == "runaway in round 4 (2 of 3)"
    assert fedavg[-1].startswith("last ") and fedprox[-1].startswith("last ")
    # accuracies speak for themselves
    assert "runaway" not in accuracy_table(summary).rows[1][1]


def test_where_a_model_was_lost_the_client_that_ran_away_before_is_named() -> None:
    summary = changed(
        hand_made({"fedavg": [0.8] * 3, "scaffold": [0.1, 0.1, 0.7], "fedprox": [0.1, 0.8, 0.8]}),
        lambda c: {
            ("scaffold", 0): {"accuracy": lost(0.6, 0.1), "runaway": Runaway(3, 29, 30.0, 2.0)},
            ("scaffold", 1): {"accuracy": lost(0.6, 0.1, 5), "runaway": Runaway(5, 3, 2500.0, 1.0)},
            ("scaffold", 2): {"runaway": Runaway(1, 4, 40.0, 2.0)},
            ("fedprox", 0): {"accuracy": lost(0.29, 0.1), "runaway": Runaway(2, 1, 90.0, 2.0)},
        }.get((c.algorithm, c.seed), {}),
    )
    # the first loss is told; what fell by less than 20 points, or goes on, is no loss
    found = advice(summary)
    assert (
        "Lost what had been learned: SCAFFOLD first in round 5 on two of three seeds (60.0 % at best, "
        "10.0 % at the end; client 3 in round 5: 2,500 times). Where a client is named its update was "
        "the first to be ten or more times as long as the median of its round. federation.far_off = "
        '"clip" shortens such updates, "reject" leaves them out, and a lower local.lr may prevent them.'
    ) in found.reasons
    assert (
        "FedProx on one of three seeds (client 1's update in round 2 was 45 times as long as the "
        "median) ends hardly better than guessing (10.0 %)."
    ) in found.reasons
    assert "far_off" not in advice(changed(summary, lambda c: {"runaway": None})).text
    # an update that went far only after the loss did not bring it about
    late = changed(summary, lambda c: {"runaway": Runaway(6, 1, 90.0, 2.0)})
    assert (
        "Lost what had been learned: SCAFFOLD first in round 5 on two of three seeds (60.0 % at best, "
        "10.0 % at the end)."
    ) in advice(late).reasons
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


def test_one_remedy_is_told_once() -> None:
    summary = changed(
        hand_made({"fedavg": [0.8], "scaffold": [0.1], "fedprox": [0.1]}),
        lambda c: (
            {"accuracy": lost(0.6, 0.1), "runaway": Runaway(2, 1, 90.0, 2.0)}
            if c.algorithm != "fedavg"
            else {}
        ),
    )
    found = advice(summary).text
    assert "SCAFFOLD in round 6 (60.0" in found and "FedProx in round 6 (60.0" in found
    assert found.count("federation.far_off") == 1


def test_an_algorithm_without_updates_at_its_end_is_named_and_marked() -> None:
    """On its first seed SCAFFOLD's third round was the last with an update, on its second the first."""
    summary = changed(
        hand_made({"fedavg": [0.8] * 3, "scaffold": [0.7] * 3}),
        lambda c: (
            {"cosines": [(0.9,) * 3 + (math.nan,) * 3, (0.9,) + (math.nan,) * 5][c.seed]}
            if c.algorithm == "scaffold" and c.seed < 2
            else {}
        ),
    )
    assert (
        "No client's update could be used any more: SCAFFOLD first after round 1 on two of three seeds."
    ) in advice(summary).reasons
    for table in (accuracy_table(summary), drift_table(summary)):
        ours, theirs = (row[1] for row in table.rows)
        assert "no update" not in ours
        assert theirs.splitlines()[-1] == "no update after round 1 (2 of 3)"
        assert "No update after a round" in table.caption and "Lost" not in table.caption
    # a loss says it already
    gone = changed(
        summary, lambda c: {"accuracy": lost(0.9, 0.3)} if c.algorithm == "scaffold" else {}
    )
    assert "update could" not in advice(gone).text
    assert "No update" not in accuracy_table(gone).caption
    # where no round has a cosine, as under privacy, nothing is known of updates
    hidden = changed(summary, lambda c: {"cosines": (math.nan,) * 6})
    assert "update could" not in advice(hidden).text
