"""A client whose update is far longer than the others' is found, and named in the report."""

import dataclasses
import html
import math
from pathlib import Path

import pytest

from fedlens.report import write_report
from fedlens.report.content import ReportContent
from fedlens.report.runaway import first_runaway


def line(number: int, *lengths: float | None) -> dict:
    clients = [{"client": k, "update_norm": length} for k, length in enumerate(lengths)]
    return {"round": number, "clients": clients}


def test_the_first_round_with_an_outlier_counts_and_its_longest_update() -> None:
    history = [line(4, 1.0, 2.0, 9.0), line(5, 2.0, 25.0, 30.0, 1.0, 2.0), line(6, 1.0, 1.0, 500.0)]
    found = first_runaway(history, 5)
    assert found is not None
    assert (found.round, found.client, found.length, found.median) == (5, 2, 30.0, 2.0)
    assert found.times == 15.0 and found.times_in_words == "15"


@pytest.mark.parametrize(
    "entry",
    [
        line(1, 1.0, 1.0, 10.0),
        line(1, 1.0, 3.0, 1.0, 20.0),  # the median lies between: 2
        line(1, 0.0, 1.0, 1.0, 10.0),
    ],
    ids=["three", "even", "one did nothing"],
)
def test_ten_medians_are_enough(entry: dict) -> None:
    found = first_runaway([entry], 5)
    assert found is not None and found.times == 10.0


@pytest.mark.parametrize("number", [None, math.nan, "five"])
def test_a_round_without_a_number_goes_by_its_place(number: object) -> None:
    found = first_runaway([line(1, 1.0, 1.0), {**line(0, 1.0, 1.0, 11.0), "round": number}], 3)
    assert found is not None and found.round == 2


def test_clients_that_do_not_exist_are_passed_over() -> None:
    strange = {"client": 99, "update_norm": 1e6}
    first = line(1, 1.0, 1.0, 1.0)
    first["clients"].append(strange)
    found = first_runaway([first, line(2, 1.0, 1.0, 50.0)], 3)
    assert found is not None and (found.round, found.client) == (2, 2)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [line(1, 1.0, 1.0, 9.9)],
        [line(1, 1.0, 100.0)],  # of two, each is as far from the median as the other
        [line(1, 0.0, 0.0, 5.0)],  # clients that did nothing: no length to compare with
        [line(1, None, 1.0, None, 100.0)],
        [line(1, 1.0, 1.0, math.inf)],
        [{"round": 1}, {"round": 2, "clients": None}, {"round": 3, "clients": [None, 7]}],
    ],
    ids=["nothing", "below ten", "two", "none moved", "two known", "infinite", "no clients"],
)
def test_nobody_is_named_without_a_cause(history: list[dict]) -> None:
    assert first_runaway(history, 5) is None


def report(content: ReportContent, folder: Path) -> str:
    return html.unescape(write_report(content, folder).read_text(encoding="utf-8"))


def with_runaway(content: ReportContent, length: float) -> ReportContent:
    """Return the content with one far update, client 2's, in its second round."""
    seed = content.seeds[0]
    history = [dict(entry) for entry in seed.history]
    history[1]["clients"] = [{**line(2, 1.0, 1.0, 1.0, 1.0)["clients"][k]} for k in range(4)]
    history[1]["clients"][2]["update_norm"] = length
    changed = dataclasses.replace(seed, history=history)
    return dataclasses.replace(content, seeds=[changed, *content.seeds[1:]])


def test_the_report_names_the_client_and_what_to_do(
    federated: ReportContent, tmp_path: Path
) -> None:
    assert "times as far as" not in report(federated, tmp_path / "before")
    page = report(with_runaway(federated, 33.2), tmp_path / "after")
    name = federated.client_names[2]
    assert f"the update of {name} moved the model 33 times as far as the median update" in page
    assert 'federation.far_off = "clip"' in page


def with_settings(content: ReportContent, **federation: object) -> ReportContent:
    settings = {**content.configuration["federation"], **federation}
    configuration = {**content.configuration, "federation": settings}
    return dataclasses.replace(content, configuration=configuration)


@pytest.mark.parametrize(
    ("settings", "advice", "left_out"),
    [
        ({"far_off": "clip", "far_off_factor": 12.0}, "far_off_factor = 12 medians", '"clip"'),
        ({"far_off": "reject", "far_off_factor": 40}, "far_off_factor = 40 medians", '"clip"'),
        ({"algorithm": "scaffold"}, "a pull (mu = 0.1) in federation.parameters", '"clip"'),
        (
            {"algorithm": "scaffold", "parameters": {"mu": 0.1}},
            "a stronger pull than mu = 0.1 in federation.parameters",
            '"clip"',
        ),
        ({"algorithm": "scaffold", "cohort": 3}, 'federation.far_off = "clip"', "mu = 0.1"),
    ],
)
def test_the_advice_is_one_that_is_not_followed_yet(
    federated: ReportContent,
    tmp_path: Path,
    settings: dict[str, object],
    advice: str,
    left_out: str,
) -> None:
    page = report(with_settings(with_runaway(federated, 33.2), **settings), tmp_path)
    said = page[page.index("times as far as") :][:600]
    assert advice in said
    assert left_out not in said


def test_of_several_seeds_the_one_is_named(federated: ReportContent, tmp_path: Path) -> None:
    other = dataclasses.replace(federated.seeds[0], seed=43)
    both = dataclasses.replace(federated, seeds=[federated.seeds[0], other])
    page = report(with_runaway(both, 1e25), tmp_path)
    assert (
        f"In round 2, seed {federated.seeds[0].seed}, the update of client 2 moved the model over a"
        in page
    )


def test_where_clients_are_hidden_none_is_named(private: ReportContent, tmp_path: Path) -> None:
    assert private.privacy is not None
    page = report(with_runaway(private, 33.2), tmp_path / "example")
    assert "times as far as" in page, "otherwise the next would pass for nothing"
    mechanism = dataclasses.replace(private.privacy.mechanism, unit="client")
    privacy = dataclasses.replace(private.privacy, mechanism=mechanism)
    hidden = dataclasses.replace(private, privacy=privacy)
    assert "times as far as" not in report(with_runaway(hidden, 33.2), tmp_path / "client")
