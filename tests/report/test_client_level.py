"""A report of client-level privacy shows no exact figure of what a client holds, and says why."""

import dataclasses
import html
import re
from pathlib import Path

import numpy as np
import pytest

from fedlens.privacy.mechanism import Mechanism
from fedlens.report import write_report
from fedlens.report.content import PrivacyAccount, ReportContent, SeedResult
from fedlens.report.model_card import model_card
from fedlens.report.tables import split_table

NAMES = [f"Hospital {word}" for word in ("Alder", "Birch", "Cedar", "Damson", "Elm")]
COUNTS = np.array(
    [[7001 + 13 * client + 101 * label for label in range(10)] for client in range(5)]
)


def client_level(private: ReportContent, placement: str) -> ReportContent:
    spending = private.privacy
    assert spending is not None
    mechanism = Mechanism("client", 5, 2, 1.0, 3.0, 10, placement=placement)
    names = NAMES if placement == "local" else ["every client"]
    accounts = [PrivacyAccount(name, 5, mechanism.plan(), 4.1) for name in names]
    secret = {"cohort": [], "clients": [], "left_out": [], "drift": {}}
    history = [
        {**line, **secret, "seconds": 4321.5 + number}
        for number, line in enumerate(private.seeds[0].history)
    ]
    update = {"unit": "client", "relation": mechanism.relation, "mechanism": "dp-fedavg"}
    return dataclasses.replace(
        private,
        seeds=[SeedResult(42, history, private.seeds[0].test)],
        client_names=NAMES,
        client_label_counts=COUNTS,
        client_sizes=COUNTS.sum(1),
        split_counts=np.array([COUNTS.sum(0), [600] * 10, [1000] * 10]),
        privacy=dataclasses.replace(
            spending,
            terms=spending.terms.model_copy(update=update),
            mechanism=mechanism,
            accounts=accounts,
            amplification=(),
        ),
    )


def everything(report: Path) -> str:
    """Return the words of the page and of all its figures."""
    page = report.read_text()
    page = re.sub(r"<style.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ").split())


def exact() -> list[str]:
    """Return each count of images that a page could show: a cell, a client, a class, all."""
    numbers = [*COUNTS.ravel(), *COUNTS.sum(1), *COUNTS.sum(0), COUNTS.sum()]
    return [f"{number:,}" for number in numbers] + [f"{number}" for number in numbers]


@pytest.fixture(scope="module", params=["server", "local"])
def made(
    request: pytest.FixtureRequest, private: ReportContent, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, ReportContent, str, Path]:
    """Return the placement of the noise, the content, its page and the folder of both."""
    folder = tmp_path_factory.mktemp(request.param)
    content = client_level(private, request.param)
    return request.param, content, everything(write_report(content, folder)), folder


def test_no_count_of_a_clients_images_is_shown(made) -> None:
    _, content, page, folder = made
    card = model_card(content).markdown()
    for text in (page, card):
        assert not [number for number in exact() if re.search(rf"\b{number}\b", text)]
    assert not (folder / "figures" / "partition.svg").exists()
    assert "What each client holds is left out" in page
    assert "skew" not in page.replace("skewed by a Dirichlet draw", "")


def test_who_is_there_is_shown_only_where_it_is_seen(made) -> None:
    placement, _, page, _ = made
    if placement == "server":
        assert not [name for name in NAMES if name in page]
        assert "its name" in page and "five clients" in page.lower()
    else:
        assert all(name in page for name in NAMES) and "its name" not in page


def test_no_time_of_a_round_is_shown(made) -> None:
    """It follows from how many were drawn, and from how much they hold."""
    _, _, page, folder = made
    assert "Wall-clock time" not in page and not (folder / "figures" / "seconds.svg").exists()
    assert "Times are left out" in page


def test_the_training_column_says_why_it_is_not_there(private: ReportContent) -> None:
    table = split_table(client_level(private, "server"))
    assert list(table.columns) == ["Class", "Validation", "Test"]
    assert "Training images are left out" in table.caption
    assert all(len(row) == 3 for row in table.rows)


def test_at_the_level_of_examples_the_exact_counts_say_what_they_are(
    private: ReportContent, private_report: Path
) -> None:
    page = everything(private_report)
    assert "Who holds what" in page and "Wall-clock time" in page
    assert "class of the one that is left" in page
    rows = list(split_table(private).columns)
    assert rows == ["Class", "Training", "Validation", "Test"]
    assert "exact" in split_table(private).caption


def test_without_privacy_nothing_is_left_out(
    federated: ReportContent, federated_report: Path
) -> None:
    page = everything(federated_report)
    assert "left out of this page" not in page and "Wall-clock time" in page
    assert "exact" not in split_table(federated).caption
