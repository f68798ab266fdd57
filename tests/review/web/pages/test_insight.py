"""The page of insight: the numbers are those of the decisions, and only leads and auditors see them."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from fedlens.review.web.console import Console
from fedlens.review.web.pages import figures

CHARTS = ("/insight/classes.svg", "/insight/weeks.svg", "/insight/agreement.svg")


def test_it_is_for_leads_and_auditors(reviewer, lead, auditor):
    for path in ("/insight", *CHARTS):
        reviewer.get(path, status=403)
    for reader in (lead, auditor):
        assert "Nothing is decided yet" in reader.get("/insight")


def test_the_numbers_are_those_of_the_decisions(reviewer, lead, console: Console, text_of):
    towards = 0
    for turn in range(6):
        number = reviewer.take_next()
        predicted = console.store.queue.get(number).predicted
        own = (predicted + (turn % 2)) % 10  # every second time another class than the model's
        reviewer.post(f"/cases/{number}/label", label=str(own))
        if turn < 4:
            towards += own != predicted
            answer = reviewer.post(f"/cases/{number}/decide", choice="accept")
        elif turn == 4:
            answer = reviewer.post(
                f"/cases/{number}/decide",
                choice="override",
                label=str((predicted + 1) % 10),
                reason="confusable-classes",
            )
        else:
            answer = reviewer.post(f"/cases/{number}/decide", choice="defer")
        assert "after=" in answer.headers["location"]
    words = text_of(lead.get("/insight"))
    assert "6 decisions, 1 of them deferred" in words
    assert "20.0 % overridden, 3.6 to 62.4 %" in words  # 1 of 5, Wilson
    assert "Of 5 cases that were labelled before the reveal, 60.0 % agreed" in words
    assert f"{towards} moved to the model's answer and 1 away" in words
    assert console.subject.digest[:12] in words
    number = reviewer.take_next()
    reviewer.post(f"/cases/{number}/label", label="1")
    reviewer.post(f"/cases/{number}/decide", choice="accept")
    sequence = console.store.queue.get(number).decision
    assert "7 decisions" in text_of(lead.get("/insight"))
    reviewer.post(f"/undo/{sequence}")
    assert "6 decisions" in text_of(lead.get("/insight"))


def test_none_of_the_classes_said_before_the_reveal_is_no_agreement(
    reviewer, lead, console: Console, text_of
):
    for label in ("none", "unsure", "predicted"):
        number = reviewer.take_next()
        own = str(console.store.queue.get(number).predicted) if label == "predicted" else label
        reviewer.post(f"/cases/{number}/label", label=own)
        reviewer.post(f"/cases/{number}/decide", choice="accept")
    words = text_of(lead.get("/insight"))
    assert "Of 2 cases that were labelled before the reveal, 50.0 % agreed" in words
    assert "1 moved to the model's answer and 0 away" in words
    assert console.store.verify().valid


def test_charts_are_pictures_for_light_and_dark(reviewer, lead):
    number = reviewer.take_next()
    reviewer.post(f"/cases/{number}/label", label="1")
    reviewer.post(f"/cases/{number}/decide", choice="accept")
    for path in (*CHARTS, "/model/confusion.svg", "/model/reliability.svg"):
        answer = lead.client.get(path)
        assert answer.headers["content-type"].startswith("image/svg+xml")
        ElementTree.fromstring(answer.text)
        assert "prefers-color-scheme:dark" in answer.text
        used = set(re.findall(r"var\((--c\d)\)", answer.text))
        assert used
        assert all(f"{name}:#" in answer.text for name in used)


def test_the_figures_are_worked_out_once_for_each_state(
    reviewer, lead, console: Console, text_of, monkeypatch: pytest.MonkeyPatch
):
    """At a hundred thousand decisions each working out takes seconds, and a page has three charts."""
    worked = []
    work = figures.figures

    def counted(rows, flags):
        worked.append(len(rows))
        return work(rows, flags)

    monkeypatch.setattr(figures, "figures", counted)

    def look() -> str:
        for path in CHARTS:
            lead.get(path)
        return text_of(lead.get("/insight"))

    number = reviewer.take_next()
    reviewer.post(f"/cases/{number}/label", label="1")
    reviewer.post(f"/cases/{number}/decide", choice="accept")
    look()
    assert "flag outside" not in look()
    assert worked == [1]
    reviewer.post(f"/cases/{number}/flag", text="it marks the corner")
    assert "one flag outside of a decision" in look()
    assert worked == [1, 1]
    reviewer.post(f"/undo/{console.store.queue.get(number).decision}")
    assert "1 decisions undone" in look()
    assert worked == [1, 1, 1]
