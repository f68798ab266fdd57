"""What was shown of a case, to whom and when: a record says so, whoever looks and however."""

import json
from dataclasses import replace
from html import unescape

import pytest

from fedlens.review.contract import Role
from fedlens.review.web.console import Console
from fedlens.review.web.pages import case as case_page


def test_where_maps_wait_the_trail_says_when_they_were_looked_at(browser_of, text_of):
    browser = browser_of(Role.REVIEWER, blind_first=False)
    case = browser.take_next()
    browser.get(f"/cases/{case}?opacity=0")
    assert "with the maps of grad-cam and gradient off" in text_of(browser.get(f"/cases/{case}"))
    browser.get(f"/cases/{case}?opacity=90")
    browser.get(f"/cases/{case}?opacity=30")
    shown = [one for one in browser.records(case) if one.kind == "revealed"]
    assert [one.content["displayed"]["opacity"] for one in shown] == [0.0, 0.9]
    words = text_of(browser.get(f"/cases/{case}?opacity=30"))
    assert "was shown the prediction with grad-cam and gradient" in words
    browser.post(f"/cases/{case}/decide", choice="accept")
    (decided,) = [one for one in browser.records(case) if one.kind == "decided"]
    assert decided.content["revealed"] == shown[0].time
    assert decided.content["map_revealed"] == shown[1].time


def test_a_map_that_stayed_off_was_not_looked_at(browser_of):
    browser = browser_of(Role.REVIEWER, blind_first=False)
    case = browser.take_next()
    browser.post(f"/cases/{case}/decide", choice="accept")
    (decided,) = [one for one in browser.records(case) if one.kind == "decided"]
    assert decided.content["revealed"] is not None
    assert decided.content["map_revealed"] is None


def case_in(content: str, number: int) -> dict[str, object]:
    """Return what a record's page says of one of the cases that came in."""
    text = unescape(content[content.index("<pre") : content.index("</pre>")].partition(">")[2])
    (found,) = [one for one in json.loads(text)["cases"] if one["case"] == number]
    return found


def test_the_record_of_what_came_in_tells_no_class_to_who_may_label_it(
    reviewer, lead, auditor, cases: list[int], browser_of
):
    (record,) = [one.sequence for one in lead.records() if one.kind == "cases-added"]
    first, second = cases[:2]
    all_of_it = case_in(auditor.get(f"/trail/{record}"), first)
    assert all_of_it["predicted"] is not None
    assert all_of_it["source"] == lead.store.queue.get(first).source
    for number in (first, second):
        told = case_in(lead.get(f"/trail/{record}"), number)
        assert (told["predicted"], told["source"]) == (None, None)
        assert "withheld" in told
    lead.post(f"/cases/{first}/take")
    lead.get(f"/cases/{first}")
    lead.post(f"/cases/{first}/label", label="3")
    assert case_in(lead.get(f"/trail/{record}"), first) == all_of_it
    assert case_in(lead.get(f"/trail/{record}"), second)["predicted"] is None
    assert case_in(browser_of(Role.LEAD, blind_first=False).get(f"/trail/{record}"), second)[
        "source"
    ]


def test_the_trail_tells_who_may_label_a_case_nothing_of_what_was_said_of_it(
    reviewer, lead, auditor, revealed: int, text_of
):
    reviewer.post(f"/cases/{revealed}/decide", choice="defer", text="looks like a seven")
    records = [one for one in lead.records(revealed) if one.kind != "opened"]
    assert [one.kind for one in records] == ["labelled-blind", "revealed", "decided"]
    for record in records:
        page = lead.get(f"/trail/{record.sequence}")
        assert "withheld" in page
        assert record.digest in page
        assert "withheld" not in auditor.get(f"/trail/{record.sequence}")
        assert "withheld" not in reviewer.get(f"/trail/{record.sequence}")
    listed = text_of(lead.get(f"/trail?case={revealed}"))
    assert "said digit 3" not in listed
    assert "said digit 3" in text_of(auditor.get(f"/trail?case={revealed}"))
    lead.post(f"/cases/{revealed}/take")
    lead.get(f"/cases/{revealed}")
    lead.post(f"/cases/{revealed}/label", label="2")
    assert "looks like a seven" in lead.get(f"/trail/{records[-1].sequence}")


@pytest.mark.parametrize("file", ["export.csv", "export.jsonl"])
def test_who_exported_the_trail_labels_nothing_in_it_blind(
    reviewer, lead, console: Console, file: str
):
    case = console.store.queue.get(lead.take_next())
    lead.get(f"/trail/{file}")
    lead.post(f"/cases/{case.number}/label", status=409, label="3")
    assert "The model's answer" in lead.get(f"/cases/{case.number}")
    lead.post(f"/cases/{case.number}/decide", choice="accept")
    (decided,) = [one for one in lead.records(case.number) if one.kind == "decided"]
    assert decided.content["labelled_blind"] is False
    assert "What do you see?" in reviewer.get(f"/cases/{reviewer.take_next()}")  # it was not theirs
    later = console.store.queue.add(
        [replace(case, source="test/400", digest="f" * 64)],
        console.store.people.get("auditor").actor,
    )
    lead.post(f"/cases/{later[0]}/take")
    assert "What do you see?" in lead.get(f"/cases/{later[0]}")


@pytest.mark.parametrize("through", ["/v1/cases/{}", "/cases/{}/map.png?method=grad-cam"])
def test_whoever_asks_for_a_decided_case_labels_it_blind_no_more(
    reviewer, lead, browser_of, revealed: int, through: str
):
    reviewer.post(f"/cases/{revealed}/decide", choice="accept")
    for _ in range(2):
        lead.get(through.format(revealed))
    shown = [one for one in lead.records(revealed) if one.actor == "lead"]
    assert [one.kind for one in shown] == ["revealed"]
    lead.post(f"/undo/{lead.store.queue.get(revealed).decision}")
    lead.post(f"/cases/{revealed}/assign", to="lead")
    lead.post(f"/cases/{revealed}/label", status=409, label="3")


def test_a_map_by_itself_was_looked_at_and_one_on_a_page_is_faded_there(browser_of):
    browser = browser_of(Role.REVIEWER, blind_first=False)
    case = browser.take_next()
    address = f"/cases/{case}/map.png?method=grad-cam"
    browser.client.get(address, headers={"Sec-Fetch-Dest": "image"})
    shown = [one.content["displayed"] for one in browser.records(case) if one.kind == "revealed"]
    assert [one["opacity"] for one in shown] == [0.0]
    browser.get(address)
    shown = [one.content["displayed"] for one in browser.records(case) if one.kind == "revealed"]
    assert [one["opacity"] for one in shown] == [0.0, 1.0]
    assert [one["method"] for one in shown[1]["maps"]] == ["grad-cam"]


def test_the_name_of_a_file_is_hidden_with_the_rest(reviewer, cases: list[int]):
    hidden = json.loads(reviewer.get(f"/v1/cases/{cases[0]}"))
    assert (hidden["hidden"], hidden["source"]) == (True, None)
    case = reviewer.take_next()
    reviewer.post(f"/cases/{case}/label", label="3")
    shown = json.loads(reviewer.get(f"/v1/cases/{case}"))
    assert shown["source"] == reviewer.store.queue.get(case).source
    assert reviewer.kinds(case) == ["opened", "labelled-blind", "revealed"]


@pytest.mark.parametrize("endpoint", ["/v1/predict", "/v1/explain"])
@pytest.mark.parametrize("api_log", [True, False])
def test_who_had_the_image_of_a_case_answered_labels_it_blind_no_more(
    browser_of, reviewer, lead, endpoint: str, api_log: bool
):
    asking = browser_of(Role.REVIEWER, api_log=api_log)
    case = asking.take_next()
    image = asking.client.get(f"/cases/{case}/native.png").content
    answer = asking.client.post(
        endpoint, files={"image": image}, headers={"X-CSRF-Token": asking.csrf}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["digest"] == asking.store.queue.get(case).digest
    asking.post(f"/cases/{case}/label", status=409, label="3")
    assert "The model's answer" in asking.get(f"/cases/{case}")
    assert asking.kinds(case) == ["opened", "revealed"]
    asking.post(f"/cases/{case}/release")
    lead.post(f"/cases/{case}/take")
    assert "What do you see?" in lead.get(f"/cases/{case}")  # they did not ask


@pytest.mark.parametrize("through", ["/cases/{}", "/v1/cases/{}"])
def test_who_was_shown_what_another_asked_of_the_same_image_labels_it_blind_no_more(
    reviewer, lead, through: str
):
    case = reviewer.take_next()
    image = reviewer.client.get(f"/cases/{case}/native.png").content
    answer = lead.client.post(
        "/v1/predict", files={"image": image}, headers={"X-CSRF-Token": lead.csrf}
    ).json()
    assert answer["digest"] == reviewer.store.queue.get(case).digest
    assert "What do you see?" in reviewer.get(f"/cases/{case}")
    for _ in range(2):
        assert answer["predicted"]["name"] in reviewer.get(through.format(answer["case"]))
    assert [one.actor for one in reviewer.records(answer["case"])] == ["lead", "reviewer"]
    reviewer.post(f"/cases/{case}/label", status=409, label="3")
    lead.get(f"/v1/cases/{answer['case']}")
    assert len(reviewer.records(answer["case"])) == 2  # who asked was answered then


def test_a_colleague_who_looks_at_anothers_case_is_on_record(browser_of, auditor):
    mine = browser_of(Role.REVIEWER, blind_first=False)
    colleague = browser_of(Role.LEAD, blind_first=False)
    case = mine.take_next()
    for query in ("", "", "?method=gradient", "?opacity=90"):
        assert "The model's answer" in colleague.get(f"/cases/{case}{query}")
    auditor.get(f"/cases/{case}")
    records = [one for one in mine.records(case) if one.actor != "reviewer"]
    assert [(one.actor, one.kind) for one in records] == [("lead", "revealed")] * 3
    shown = [one.content["displayed"] for one in records]
    assert [one["maps"][0]["method"] for one in shown] == ["grad-cam", "gradient", "grad-cam"]
    assert [one["opacity"] for one in shown] == [0.0, 0.0, 0.9]
    # the console is served anew, and labels come first from now on
    labelling = browser_of(Role.LEAD)
    mine.post(f"/cases/{case}/release")
    labelling.post(f"/cases/{case}/take")
    assert "The model's answer" in labelling.get(f"/cases/{case}")
    labelling.post(f"/cases/{case}/label", status=409, label="3")


def test_the_same_display_of_another_question_is_on_record_and_can_be_decided_on(
    reviewer, revealed: int, monkeypatch
):
    monkeypatch.setattr(case_page, "both_maps", lambda *_: ([], "neither can explain it"))
    for method in ("grad-cam", "gradient", "gradient"):
        reviewer.get(f"/cases/{revealed}?method={method}")
    shown = [one.content["displayed"] for one in reviewer.records(revealed)[-2:]]
    assert [one["maps"] for one in shown] == [[], []]
    assert [one["asked"] for one in shown] == [["grad-cam", "gradient"], ["gradient", "grad-cam"]]
    form = {"method": "gradient", "second": "grad-cam", "against": "", "opacity": "60"}
    reviewer.post(f"/cases/{revealed}/decide", choice="accept", **form)


def test_a_display_whose_record_has_no_evidence_leaves_one_that_has(reviewer, revealed: int):
    last = reviewer.records(revealed)[-1]
    actor = reviewer.store.people.get("reviewer").actor
    reviewer.store.decisions.reveal(actor, revealed, last.content["displayed"])
    for _ in range(2):
        reviewer.get(f"/cases/{revealed}")
    found = [one for one in reviewer.records(revealed) if one.sequence > last.sequence]
    assert [bool(one.content.get("evidence")) for one in found] == [False, True]
    reviewer.post(f"/cases/{revealed}/decide", choice="accept")
    (decided,) = [one for one in reviewer.records(revealed) if one.kind == "decided"]
    assert decided.content["evidence"]["explanation"]


def test_what_a_colleague_saw_is_not_what_is_decided_on(browser_of):
    mine = browser_of(Role.REVIEWER, blind_first=False)
    colleague = browser_of(Role.LEAD, blind_first=False)
    case = mine.take_next()
    colleague.get(f"/cases/{case}?opacity=90")
    mine.post(f"/cases/{case}/decide", choice="accept")
    (decided,) = [one for one in mine.records(case) if one.kind == "decided"]
    assert decided.content["displayed"]["opacity"] == 0.0
    assert decided.content["map_revealed"] is None
