"""A client whose update is far longer than the others' is found, and named in the report."""

import dataclasses
import html
from pathlib import Path

import pytest

from fedlens.report import write_report
from fedlens.report.content import ReportContent
from fedlens.report.runaway import first_runaway


def line(number: int, *lengths: float | None) -> dict:
    clients = [{"client": 10 + k, "update_norm": length} for k, length in enumerate(lengths)]
    return {"round": number, "clients": clients}


def test_the_first_round_with_an_outlier_counts_and_its_longest_update() -> None:
    history = [line(1, 1.0, 2.0, 9.0), line(2, 2.0, 1.0, 30.0, 25.0, 2.0), line(3, 1.0, 1.0, 500.0)]
    found = first_runaway(history)
    assert found is not None
    assert (found.round, found.client, found.length, found.median) == (2, 12, 30.0, 2.0)
    assert found.times == 15.0


@pytest.mark.parametrize(
    "history",
    [
        [],
        [line(1, 1.0, 1.0, 9.9)],
        [line(1, 1.0, 100.0)],  # of two, each is as far from the median as the other
        [line(1, 0.0, 0.0, 5.0)],  # clients that did nothing: no length to compare with
        [line(1, None, 1.0, None, 100.0)],
        [{"round": 1}, {"round": 2, "clients": None}],
    ],
    ids=["nothing", "below ten", "two", "none moved", "two known", "no clients"],
)
def test_nobody_is_named_without_a_cause(history: list[dict]) -> None:
    assert first_runaway(history) is None


def report(content: ReportContent, folder: Path) -> str:
    return html.unescape(write_report(content, folder).read_text(encoding="utf-8"))


def test_the_report_names_the_client_and_what_to_do(
    federated: ReportContent, tmp_path: Path
) -> None:
    assert "times as long as" not in report(federated, tmp_path / "before")
    seed = federated.seeds[0]
    history = [dict(entry) for entry in seed.history]
    history[1]["clients"] = [dict(c, update_norm=1.0) for c in history[1]["clients"]]
    history[1]["clients"][2]["update_norm"] = 33.2
    changed = dataclasses.replace(
        federated, seeds=[dataclasses.replace(seed, history=history), *federated.seeds[1:]]
    )
    page = report(changed, tmp_path / "after")
    name = federated.client_names[history[1]["clients"][2]["client"]]
    assert f"In round {history[1]['round']} the update of {name} was 33 times as long as" in page
    assert 'federation.far_off = "clip"' in page
