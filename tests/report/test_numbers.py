"""The numbers on the page, against figures worked out by hand or by the standard library."""

import dataclasses
import math
import statistics
from typing import Any

import numpy as np
import pytest

from fedlens.report import tables, words
from fedlens.report.comparison import comparison, late_spread, stability
from fedlens.report.content import ReportContent, SeedResult
from fedlens.report.history import (
    Point,
    aligned,
    best,
    client_series,
    final,
    latest,
    look,
    number,
    spread,
)
from fedlens.report.wording import (
    count,
    decimal,
    duration,
    listing,
    percent,
    signed,
    size,
    whole,
    with_spread,
)


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


@pytest.mark.parametrize(
    "value",
    [10**400, -(10**400), math.inf, math.nan, True, "1", None, [1]],
    ids=lambda value: repr(value)[:5],
)
def test_what_is_no_finite_number_in_a_record_counts_as_missing(value: Any) -> None:
    assert math.isnan(number(value))
    assert math.isnan(look({"a": {"b": value}}, "a", "b"))


def row(content: ReportContent, name: str) -> list[str]:
    return next([plain(cell) for cell in f.cells()] for f in comparison(content) if f.name == name)


def with_history(content: ReportContent, history: list[dict[str, Any]]) -> ReportContent:
    seed = content.seeds[0]
    return dataclasses.replace(content, seeds=[SeedResult(seed.seed, history, seed.test)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (percent(0.8957), "89.57 %"),
        (percent(math.nan), "–"),
        (decimal(-0.00001), "0.0000"),
        (decimal(-1.5, 1), "−1.5"),
        (signed(0.0049, 2), "0.00"),
        (signed(0.005001, 2), "+0.01"),
        (signed(-0.3, 1), "−0.3"),
        (whole(1043), "1,043"),
        (whole(122.3333), "122.3"),
        (size(999), "999 bytes"),
        (size(4 * 65354), "255.3 KiB"),
        (size(2**40), "1.0 TiB"),
        (duration(8.14), "8.1 s"),
        (duration(59.96), "1 min 0 s"),
        (duration(125), "2 min 5 s"),
        (duration(3 * 3600 + 240), "3 h 4 min"),
        (count(1, "round"), "one round"),
        (count(10, "client"), "ten clients"),
        (count(1200, "client"), "1,200 clients"),
        (listing(["a"]), "a"),
        (listing(["a", "b", "c"]), "a, b and c"),
        (with_spread(spread([0.5]), percent), "50.00 %"),
        (with_spread(None, percent), "–"),
    ],
)
def test_numbers_are_written_in_one_way(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_the_spread_over_seeds_is_the_sample_standard_deviation() -> None:
    # 1, 2 and 4: mean 7/3, squared deviations 16/9 + 1/9 + 25/9 = 14/3, halved 7/3.
    found = spread([1.0, 2.0, math.nan, 4.0])
    assert found is not None and found.count == 3
    assert found.mean == pytest.approx(7 / 3) and found.sd == pytest.approx(math.sqrt(7 / 3))
    assert plain(with_spread(spread([0.88, 0.90]), percent)) == "89.00 ± 1.41 %"


def test_the_comparison_holds_both_sides_and_their_difference(central: ReportContent) -> None:
    # The seeds take 121, 122 and 123 shirts for T-shirts, and all take 110 T-shirts for shirts.
    assert row(central, "Shirt taken for T-shirt/top")[1:] == ["114", "122 ± 1", "+8.0"]
    assert row(central, "T-shirt/top taken for Shirt")[1:] == ["112", "110 ± 0", "−2.0"]
    # The losses are 0.36, 0.37 and 0.38.
    assert row(central, "Test loss")[1:] == ["0.3562", "0.3700 ± 0.0100", "+0.0138"]
    # 940, 941 and 942 errors in 10,000.
    assert row(central, "Test accuracy")[1:] == ["89.57 %", "90.59 ± 0.01 %", "+1.02"]
    shares = [231 / 940, 232 / 941, 233 / 942]
    assert row(central, "These two as a share of all errors")[1:] == [
        f"{100 * 226 / 1043:.2f} %",
        f"{100 * statistics.mean(shares):.2f} ± {100 * statistics.stdev(shares):.2f} %",
        f"+{100 * (statistics.mean(shares) - 226 / 1043):.2f}",
    ]


def test_gap_and_accuracies_are_those_of_the_last_epoch(central: ReportContent) -> None:
    ends = [seed.history[-1] for seed in central.seeds]
    gaps = [100 * (end["train_accuracy"] - end["validation"]["accuracy"]) for end in ends]
    mean = statistics.mean(gaps)
    assert row(central, "Overfitting gap (points)")[1:] == [
        "4.70",
        f"{mean:.2f} ± {statistics.stdev(gaps):.2f}",
        f"{mean - 4.7:+.2f}",
    ]
    train = [100 * end["train_accuracy"] for end in ends]
    assert row(central, "Training accuracy")[2] == (
        f"{statistics.mean(train):.2f} ± {statistics.stdev(train):.2f} %"
    )


def test_all_classes_are_compared_and_what_the_study_leaves_out_is_said(
    central: ReportContent,
) -> None:
    names = [figure.name for figure in comparison(central)]
    assert [f"F1, {name}" for name in central.class_names] == names[6:16]
    assert row(central, "F1, Sneaker")[1] == "not given"
    assert row(central, "F1, Sneaker")[3] == "–"
    assert row(central, "F1, Shirt")[1] == "0.71"
    assert comparison(dataclasses.replace(central, study={})) == []


def test_a_study_that_gives_little_and_a_run_without_errors(central: ReportContent) -> None:
    test = central.seeds[0].test
    perfect = dataclasses.replace(test, confusion=np.diag(test.support))
    content = dataclasses.replace(
        central, study={"source": "x"}, seeds=[SeedResult(1, [], perfect)]
    )
    assert row(content, "Test accuracy")[1] == "not given"
    assert row(content, "Training accuracy")[1:] == ["not given", "–", "–"]
    assert row(content, "These two as a share of all errors")[2] == "–"
    assert tables.confusions_table(content) is None


def test_the_late_spread_is_over_the_last_five_epochs(central: ReportContent) -> None:
    seed = central.seeds[0]
    last = [line["validation"]["loss"] for line in seed.history[-5:]]
    assert late_spread(seed, "validation", "loss") == pytest.approx(statistics.stdev(last))
    every = [
        statistics.stdev(line["train_accuracy"] for line in seed.history[-5:])
        for seed in central.seeds
    ]
    cells = {cells[0]: [plain(cell) for cell in cells[1:]] for cells in stability(central)}
    assert cells["Training accuracy"] == [
        f"{statistics.mean(every):.4f} ± {statistics.stdev(every):.4f}",
        "below 0.02",
        "below it",
    ]
    assert len(cells) == 4
    short = SeedResult(1, seed.history[:1], seed.test)
    assert stability(dataclasses.replace(central, seeds=[short], study={})) == []


def test_the_confusions_are_counted_both_ways(federated: ReportContent) -> None:
    table = tables.confusions_table(federated)
    assert table is not None
    # 110 + 121 of 940 errors.
    assert [plain(cell) for cell in table.rows[0]] == [
        "T-shirt/top and Shirt",
        "110",
        "121",
        "24.6 %",
    ]
    both = [int(a) + int(b) for _, a, b, _ in table.rows]
    assert both == sorted(both, reverse=True) and len(both) == 8


def test_total_variation_of_a_hand_worked_partition() -> None:
    # The whole is half and half; the first client has only one class, the second is like the whole.
    skew = tables.total_variation(np.array([[10, 0], [5, 5], [0, 10], [0, 0]]))
    assert skew is not None
    np.testing.assert_allclose(skew, [0.5, 0.0, 0.5, np.nan])
    assert tables.total_variation(None) is None


def test_the_clients_table_takes_the_latest_figures(federated: ReportContent) -> None:
    history = [
        {"round": 1, "clients": [{"client": 0, "accuracy": 0.5, "update_norm": 2.0, "seconds": 1}]},
        {"round": 2, "clients": [{"client": 0, "accuracy": None, "seconds": 2}, {"client": 1}]},
    ]
    content = dataclasses.replace(
        with_history(federated, history),
        client_names=["a", "b", "c"],
        client_label_counts=np.array([[10, 0], [5, 5], [0, 10]]),
    )
    table = tables.clients_table(content)
    assert table is not None
    assert list(table.columns) == [
        "Client", "Images", "Label skew", "Accuracy", "Rounds", "Update norm", "Time",
    ]  # fmt: skip
    assert [[plain(cell) for cell in cells] for cells in table.rows] == [
        ["a", "10", "0.50", "50.0 %", "2", "2.000", "3.0 s"],
        ["b", "10", "0.00", "–", "1", "–", "0.0 s"],
        ["c", "10", "0.50", "–", "0", "–", "–"],
    ]


def test_of_many_clients_the_worst_served_are_listed(federated: ReportContent) -> None:
    entries = [{"client": k, "accuracy": 0.9 - 0.001 * k} for k in range(50)]
    content = dataclasses.replace(
        with_history(federated, [{"round": 1, "clients": entries}]),
        client_names=[f"c{k}" for k in range(50)],
        client_label_counts=None,
    )
    table = tables.clients_table(content)
    assert table is not None and len(table.rows) == 30
    assert [cells[0] for cells in table.rows[:2]] == ["c49", "c48"]
    assert table.caption.startswith("The 30 clients of 50 that are served worst.")


def test_what_the_rounds_cost(federated: ReportContent) -> None:
    history = [
        {"round": n, "bytes_down": 1024 * n, "bytes_up": 2048, "seconds": 10.0 * n}
        for n in (1, 2, 3)
    ]
    table = tables.cost_table(with_history(federated, history), unit="round")
    assert [[plain(cell) for cell in cells] for cells in table.rows] == [
        ["Sent to the clients", "2.0 KiB", "3.0 KiB", "6.0 KiB"],
        ["Sent back to the server", "2.0 KiB", "2.0 KiB", "6.0 KiB"],
        ["Wall-clock time", "20.0 s", "30.0 s", "1 min 0 s"],
    ]


def test_settings_are_flat_and_in_order() -> None:
    table = tables.settings_table(
        "x", {"b": {"d": None, "c": True}, "a": [1, 2], "e": {}, "f": "z" * 5000}
    )
    rows = [list(cells) for cells in table.rows]
    assert rows[:4] == [["b.d", "–"], ["b.c", "yes"], ["a", "1, 2"], ["e", "–"]]
    assert len(rows[4][1]) == 600


def test_updates_that_were_left_out_are_counted_by_reason() -> None:
    history = [
        {"left_out": [{"client": 1, "reason": "not finite"}]},
        {"left_out": [{"client": 2, "reason": "not finite"}, {"client": 3}]},
        {"left_out": None},
    ]
    assert tables.left_out(history) == {"not finite": 2, "no reason given": 1}


def test_the_last_round_comes_first_and_the_best_stands_beside_it(
    federated: ReportContent,
) -> None:
    accuracies = [0.7, 0.9, 0.9, 0.85, None]
    history = [
        {"round": n, "validation": None if a is None else {"accuracy": a, "loss": 1 - a}}
        for n, a in enumerate(accuracies, start=1)
    ]
    sentences = [plain(text) for text in words.ending(with_history(federated, history))]
    assert sentences == [
        "After round 4, the last one evaluated, validation accuracy is 85.00 % and validation "
        "loss 0.1500.",
        "The best round was 2, with validation accuracy 90.00 %.",
        "All test figures are those of the last round: none was picked afterwards.",
    ]
    last_is_best = words.ending(with_history(federated, history[:2]))
    assert last_is_best[1] == "The last round is also the best."


def test_a_multilabel_run_is_judged_by_its_loss(multilabel: ReportContent) -> None:
    history = [
        {"round": n, "validation": {"accuracy": a, "loss": loss}}
        for n, a, loss in ((1, 0.9, 0.5), (2, 0.8, 0.3), (3, 0.85, 0.4))
    ]
    assert words.best_step(with_history(multilabel, history)) == Point(2, 0.3)


@pytest.mark.parametrize(
    ("section", "unprotected"),
    [
        (None, True),
        ({}, True),
        ("none", True),
        ({"mechanism": "none"}, True),
        ({"mechanism": "none", "clip_norm": 1.0}, True),
        ({"noise_multiplier": 0.0, "secure": False}, True),
        ({"mechanism": "dp-fedavg", "noise_multiplier": 1.0}, False),
        ({"noise_multiplier": 1.0}, False),
    ],
)
def test_whether_the_updates_were_protected_is_said_plainly(
    federated: ReportContent, section: Any, unprotected: bool
) -> None:
    content = dataclasses.replace(federated, configuration={"privacy": section})
    assert words.is_unprotected(section) is unprotected
    assert words.protection(content).startswith("The updates were not protected") is unprotected


def test_the_seeds_are_read_from_the_configuration_in_words(federated: ReportContent) -> None:
    assert words.cohort(federated) == "All 10 clients take part in every round"
    history = [{"cohort": [1, 2]}, {"cohort": [1, 2, 3]}, {}]
    assert words.cohort(with_history(federated, history)) == (
        "2 to 3 of 10 clients take part in each round"
    )
    assert words.sharing(federated) == (
        "The training images were skewed by a Dirichlet draw for each class (α = 0.5)."
    )
    ranged = dataclasses.replace(federated, configuration={"local": {"epochs": [1, 3]}})
    assert words.local_work(ranged) == "1–3 local epochs"


def test_histories_of_different_length_are_laid_side_by_side() -> None:
    first = [{"epoch": 1, "train_loss": 3.0}, {"epoch": 2, "train_loss": 2.0}]
    second = [{"epoch": 2, "train_loss": 1.0}, {"epoch": 3, "train_loss": None}]
    steps, values = aligned([first, second], "train_loss")
    assert steps == [1, 2, 3]
    np.testing.assert_array_equal(values, [[3, 2, np.nan], [np.nan, 1, np.nan]])
    assert final(second, "train_loss") == Point(2, 1.0)
    assert best(first, "train_loss") == Point(1, 3.0)
    assert best(first, "train_loss", lowest=True) == Point(2, 2.0)
    assert best([], "train_loss") is None and final([], "train_loss") is None


@pytest.mark.parametrize("value", [None, "1", True, [1], {}, math.inf, math.nan])
def test_what_is_no_number_counts_as_missing(value: Any) -> None:
    assert math.isnan(look({"a": {"b": value}}, "a", "b"))
    assert math.isnan(look(value, "a"))


def test_the_latest_figure_of_each_client() -> None:
    history = [
        {"clients": [{"client": 0, "accuracy": 0.1}, {"client": 2, "accuracy": 0.3}]},
        {"clients": [{"client": 2, "accuracy": 0.4}, {"client": -1, "accuracy": 9}]},
    ]
    table = client_series(history, 3, "accuracy")
    np.testing.assert_array_equal(table, [[0.1, np.nan], [np.nan, np.nan], [0.3, 0.4]])
    np.testing.assert_array_equal(latest(table), [0.1, np.nan, 0.4])


def test_every_algorithm_is_written_as_its_authors_do() -> None:
    from fedlens.federated import ALGORITHMS
    from fedlens.report import words

    assert set(words.ALGORITHMS) == set(ALGORITHMS)
