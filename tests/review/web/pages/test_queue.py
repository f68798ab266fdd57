"""The queue as a page: in order of need, without what would lead the eye, each case for one."""

import re

import pytest

from fedlens.review.contract import Filters, Progress, Role, State
from fedlens.review.web.console import Console
from fedlens.review.web.pages.paging import paging
from fedlens.review.web.pages.queue import progress_view


def listed(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'<th scope="row"><a href="/cases/(\d+)">', page)]


def test_cases_are_listed_by_need(reviewer, console: Console):
    cases = [console.store.queue.get(number) for number in listed(reviewer.get("/"))]
    assert len(cases) == 12
    assert [case.need for case in cases] == sorted((case.need for case in cases), reverse=True)


def test_who_labels_first_is_not_told_what_was_predicted(reviewer, lead, auditor, console: Console):
    some = console.store.queue.get(1).predicted
    for worker in (reviewer, lead):  # a lead works cases too
        assert not any(name in worker.get("/") for name in console.subject.class_names)
        assert len(listed(worker.get(f"/?predicted={some}"))) == 12
    assert all(
        f"digit {n}" in auditor.get("/") for n in {c.predicted for c in console.store.queue.page()}
    )
    found = listed(auditor.get(f"/?predicted={some}"))
    assert 0 < len(found) < 12
    assert {console.store.queue.get(number).predicted for number in found} == {some}


def test_who_labels_first_is_not_told_how_weak_the_class_is(reviewer, auditor, text_of):
    """Each class has its own, so that it says which class was predicted."""
    page = reviewer.get("/?state=all")
    assert "Weak class" not in page
    assert "worse at this class" not in page
    assert "Weak class" in auditor.get("/?state=all")
    every = len(listed(page))
    assert len(listed(reviewer.get("/?signal=weak-class&state=all"))) == every
    numbers = re.findall(r'<td class="words (?:need|signal)">([0-9.]+)<', page)
    assert len(numbers) >= 3 * every
    assert all(number.endswith("0") for number in numbers)  # from exact ones it could be worked out


def test_filters_narrow_the_list(reviewer, lead, console: Console):
    case = reviewer.take_next()
    assert listed(reviewer.get("/?mine=yes")) == [case]
    assert listed(lead.get("/?mine=yes")) == []
    assert case not in listed(lead.get("/?state=open"))
    reviewer.post(f"/cases/{case}/label", label="1")
    reviewer.post(f"/cases/{case}/decide", choice="accept")
    assert case not in listed(reviewer.get("/"))
    assert listed(reviewer.get("/?state=decided")) == [case]
    assert case in listed(reviewer.get("/?state=all"))
    strange = console.store.queue.count(Filters(signal="novelty"))
    assert len(listed(lead.get("/?signal=novelty&state=all"))) == strange
    for nonsense in ("?state=x", "?signal=%3Cb%3E", "?predicted=-1", "?offset=x"):
        assert len(listed(lead.get(f"/{nonsense}"))) == 11


def test_the_next_case_is_the_neediest_and_then_ones_own(reviewer, lead):
    first = listed(reviewer.get("/"))[0]
    assert reviewer.take_next() == first
    assert "Go on with your case" in reviewer.get("/")
    assert reviewer.take_next() == first
    assert lead.take_next() != first


def test_when_nothing_is_left_it_is_said(reviewer, cases: list[int]):
    for _ in cases:
        case = reviewer.take_next()
        reviewer.post(f"/cases/{case}/label", label="unsure")
        answer = reviewer.post(f"/cases/{case}/decide", choice="accept")
    page = reviewer.get(answer.headers["location"])
    assert "There is no case left for you" in page
    assert "12 of 12 cases decided" in page
    assert "/undo/" in page


def test_a_lead_gives_and_takes_back(reviewer, lead, auditor, console: Console):
    lead.post("/cases/3/assign", to="reviewer")
    assert console.store.queue.get(3).assignee == "reviewer"
    assert "Take it back from reviewer" in lead.get("/")
    assert "Take it back" not in reviewer.get("/")
    lead.post("/cases/3/release")
    assert console.store.queue.get(3).state is State.OPEN
    lead.post("/cases/3/assign", status=403, to="auditor")
    lead.post("/cases/3/assign", status=403, to="nobody")
    reviewer.post("/cases/3/assign", status=403, to="reviewer")
    auditor.post("/next", status=403)


def test_the_progress_bar_is_as_wide_as_its_cases_are_many():
    view = progress_view(Progress(total=8, open=3, assigned=1, deferred=0, decided=4))
    parts = view["parts"]
    assert [(part.kind, part.start, part.width) for part in parts] == [
        ("decided", 0.0, 50.0),
        ("assigned", 50.0, 12.5),
        ("deferred", 62.5, 0.0),
        ("open", 62.5, 37.5),
    ]
    assert view["words"] == "4 of 8 cases decided (50\u00a0%)"
    assert progress_view(Progress(0, 0, 0, 0, 0))["words"] == "No cases"


@pytest.mark.parametrize(
    ("offset", "before", "after", "words"),
    [
        (0, None, "/?a=1&offset=25", "1 to 25 of 60"),
        (25, "/?a=1", "/?a=1&offset=50", "26 to 50 of 60"),
        (50, "/?a=1&offset=25", None, "51 to 60 of 60"),
        (99, "/?a=1&offset=74", None, "60 to 60 of 60"),
    ],
)
def test_pages_lead_to_their_neighbours(offset: int, before, after, words: str):
    found = paging("/", {"a": "1", "b": ""}, offset, 25, 60)
    assert (found.previous, found.next, found.words) == (before, after, words)


@pytest.mark.parametrize("role", list(Role))
def test_everybody_sees_the_queue(browser_of, role: Role):
    assert len(listed(browser_of(role).get("/"))) == 12
