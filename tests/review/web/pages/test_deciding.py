"""Deciding a case: what is recorded, what is refused, and the way back."""

import re
from urllib.parse import urlsplit

import pytest

import fedlens
from fedlens.review.contract import Role, State
from fedlens.review.model import map_digest
from fedlens.review.web.console import Console
from fedlens.review.web.pages import seeing


def decision_of(browser, case):
    (record,) = [one for one in browser.records(case) if one.kind == "decided"]
    return record.content


def test_accepting_records_evidence_and_goes_on_to_the_next_case(
    reviewer, revealed: int, console: Console
):
    fields = {"method": "gradient", "second": "grad-cam", "against": "", "opacity": "40"}
    reviewer.get(f"/cases/{revealed}?method=gradient&second=grad-cam")
    answer = reviewer.post(f"/cases/{revealed}/decide", choice="accept", text="clear", **fields)
    case = console.store.queue.get(revealed)
    assert (case.state, case.label) == (State.DECIDED, case.predicted)
    content = decision_of(reviewer, revealed)
    assert content["displayed"]["opacity"] == 0.4
    assert content["displayed"]["maps"][0]["method"] == "gradient"
    assert content["blind_label"] == 3
    assert content["evidence"]["model"]["weights"] == console.subject.digest
    assert content["evidence"]["explanation"]["method"] == "gradient"
    assert content["evidence"]["explanation"]["map"] == content["displayed"]["maps"][0]["map"]
    assert content["evidence"]["image"] == case.digest
    address = answer.headers["location"]
    assert re.fullmatch(rf"/cases/\d+\?after={case.decision}", address)
    assert not address.startswith(f"/cases/{revealed}?")
    assert f"/undo/{case.decision}" in reviewer.get(address)


FORM = {"method": "grad-cam", "second": "gradient", "against": "", "opacity": "90"}


@pytest.mark.parametrize(
    "claimed",
    [
        {"method": "gradient", "second": "grad-cam"},
        {"method": "occlusion"},
        {"second": "occlusion"},
        {"against": "other"},
    ],
)
@pytest.mark.parametrize("blind_first", [True, False])
def test_what_was_not_shown_is_not_decided_on(
    browser_of, console: Console, claimed: dict[str, str], blind_first: bool
):
    browser = browser_of(blind_first=blind_first)
    case = browser.take_next()
    if blind_first:
        browser.post(f"/cases/{case}/label", label="3")
        browser.get(f"/cases/{case}")
    other = str((console.store.queue.get(case).predicted + 1) % 10)
    form = {**FORM, **claimed, "choice": "accept"}
    form["against"] = form["against"].replace("other", other)
    refused = browser.post(f"/cases/{case}/decide", status=409, **form)
    assert "was not shown to you as the form says" in refused.text
    assert "decided" not in browser.kinds(case)
    query = "&".join(f"{name}={form[name]}" for name in ("method", "second", "against"))
    if "occlusion" in query:  # which this console does not offer
        return
    browser.get(f"/cases/{case}?{query}")
    shown = [one for one in browser.records(case) if one.kind == "revealed"][-1].content
    browser.post(f"/cases/{case}/decide", **form)
    content = decision_of(browser, case)
    assert content["displayed"] == shown["displayed"] | {"opacity": 0.9}
    assert content["evidence"] == shown["evidence"]
    assert content["evidence"]["explanation"]["method"] == form["method"]


def test_an_older_page_is_still_one_that_was_shown(reviewer, revealed: int):
    """Somebody goes back in the browser, or has two tabs."""
    reviewer.get(f"/cases/{revealed}?method=gradient&second=grad-cam")
    reviewer.post(f"/cases/{revealed}/decide", choice="accept", **FORM)
    maps = decision_of(reviewer, revealed)["displayed"]["maps"]
    assert [one["method"] for one in maps] == ["grad-cam", "gradient"]


def test_a_case_that_was_not_opened_is_not_decided(browser_of, console: Console):
    browser = browser_of(blind_first=False)
    path = urlsplit(browser.post("/next").headers["location"]).path
    case = int(path.rpartition("/")[2])
    browser.post(f"{path}/decide", status=409, choice="accept")
    assert browser.kinds(case) == []
    browser.get(path)
    browser.post(f"{path}/decide", choice="accept")
    assert decision_of(browser, case)["opened"] is not None
    browser.post(f"/undo/{console.store.queue.get(case).decision}")
    again = browser.post(f"{path}/decide", status=409, choice="accept")
    assert "Open case" in again.text


def test_maps_that_were_raised_without_a_word_of_it_are_on_record_before_the_decision(browser_of):
    browser = browser_of(blind_first=False)
    case = browser.take_next()
    browser.post(f"/cases/{case}/decide", choice="accept", **(FORM | {"opacity": "70"}))
    assert browser.kinds(case) == ["opened", "revealed", "revealed", "decided"]
    content = decision_of(browser, case)
    assert content["displayed"]["opacity"] == 0.7
    assert content["map_revealed"] == browser.records(case)[2].time


def test_undoing_is_a_record_of_its_own_and_leads_back(reviewer, revealed: int, console: Console):
    reviewer.post(f"/cases/{revealed}/decide", choice="accept")
    sequence = console.store.queue.get(revealed).decision
    answer = reviewer.post(f"/undo/{sequence}")
    assert answer.headers["location"] == f"/cases/{revealed}?undone={sequence}"
    assert console.store.queue.get(revealed).state is State.ASSIGNED
    assert "undone" in reviewer.kinds(revealed)
    assert 'id="decision"' in reviewer.get(f"/cases/{revealed}")
    reviewer.post(f"/cases/{revealed}/decide", choice="defer", text="blurred")
    assert console.store.queue.get(revealed).state is State.DEFERRED


def test_after_an_undo_the_page_says_so_while_it_is_still_to_decide(
    reviewer, revealed: int, text_of
):
    reviewer.post(f"/cases/{revealed}/decide", choice="accept")
    decided = reviewer.records(revealed)[-1].sequence
    back = reviewer.post(f"/undo/{decided}").headers["location"]
    assert "is taken back" in text_of(reviewer.get(back))
    assert "is taken back" not in text_of(reviewer.get(f"/cases/{revealed}"))
    reviewer.post(f"/cases/{revealed}/decide", choice="accept")
    assert "is taken back" not in text_of(reviewer.get(back))


def test_an_override_needs_a_reason_and_keeps_what_was_typed(reviewer, revealed: int, console):
    predicted = console.store.queue.get(revealed).predicted
    other = str((predicted + 1) % 10)
    answer = reviewer.post(
        f"/cases/{revealed}/decide", status=400, choice="override", label=other, text="a <b> note"
    )
    assert "An override needs a reason" in answer.text
    assert "a &lt;b&gt; note" in answer.text
    assert re.search(r'id="choice-override"[^>]* checked', answer.text)
    assert re.search(rf'name="label" value="{other}"[^>]* checked', answer.text)
    reviewer.post(f"/cases/{revealed}/decide", choice="override", label=other, reason="wrong-class")
    content = decision_of(reviewer, revealed)
    assert (content["choice"], content["label"]) == ("override", int(other))


def test_none_of_the_classes_is_its_own_reason(reviewer, revealed: int):
    path = f"/cases/{revealed}/decide"
    refused = reviewer.post(path, status=400, choice="override", label="none", reason="wrong-class")
    assert "that is the reason" in refused.text
    reviewer.post(path, choice="override", label="none")
    content = decision_of(reviewer, revealed)
    assert (content["label"], content["reason"]) == (None, "not-of-any-class")


def test_fields_that_are_hidden_when_accepting_do_not_count(reviewer, revealed: int):
    reviewer.post(
        f"/cases/{revealed}/decide", choice="accept", label="5", reason="other", misleading="yes"
    )
    content = decision_of(reviewer, revealed)
    assert (content["choice"], content["reason"], content["misleading"]) == ("accept", None, True)


@pytest.mark.parametrize("choice", ["", "agree", "ACCEPT"])
def test_what_is_no_choice_is_refused(reviewer, revealed: int, choice: str):
    assert (
        "Choose whether"
        in reviewer.post(f"/cases/{revealed}/decide", status=400, choice=choice).text
    )


def test_while_the_model_is_stopped_people_decide_without_its_maps(
    reviewer, lead, revealed: int, console: Console
):
    lead.post("/stop", why="it went astray")
    page = reviewer.get(f"/cases/{revealed}")
    assert "out of service" in page
    assert "map.png" not in page
    reviewer.get(f"/cases/{revealed}/map.png?method=grad-cam", status=503)
    reviewer.post(f"/cases/{revealed}/decide", choice="accept")
    content = decision_of(reviewer, revealed)
    assert content["displayed"]["stopped"] is True
    assert content["displayed"]["maps"] == []
    evidence = content["evidence"]
    assert evidence["explanation"] is None
    assert evidence["model"]["weights"] == console.subject.digest
    image = console.images.image(console.store.queue.get(revealed))
    (said,) = console.examiner.predict(image[None])
    assert evidence["logits"] == list(said.logits)
    assert (evidence["rule"], evidence["threshold"]) == ("largest logit", None)
    assert (evidence["image"], evidence["need"]) == (said.digest, said.need)


def test_a_model_that_is_stopped_between_two_maps_shows_neither_and_the_record_says_so(
    reviewer, people, revealed: int, console: Console, monkeypatch: pytest.MonkeyPatch
):
    first_of = seeing.explained

    def stopping(*asked, **how):
        found = first_of(*asked, **how)
        console.store.switch.stop(people[Role.LEAD].actor, "it went astray")
        return found

    monkeypatch.setattr(seeing, "explained", stopping)
    page = reviewer.get(f"/cases/{revealed}?method=gradient")
    assert "out of service" in page
    assert "map.png" not in page
    monkeypatch.undo()
    reviewer.post(f"/cases/{revealed}/decide", choice="accept")
    shown = decision_of(reviewer, revealed)["displayed"]
    assert (shown["stopped"], shown["maps"]) == (True, [])


def test_maps_that_were_shown_before_the_stop_stay_on_record(reviewer, lead, revealed: int):
    lead.post("/stop", why="it went astray")
    reviewer.post(f"/cases/{revealed}/decide", choice="accept", **FORM)
    shown = decision_of(reviewer, revealed)["displayed"]
    assert shown["stopped"] is True
    assert [one["method"] for one in shown["maps"]] == ["grad-cam", "gradient"]


def test_each_map_is_on_record_with_all_that_made_it(reviewer, revealed: int, console: Console):
    reviewer.post(f"/cases/{revealed}/decide", choice="accept")
    content = decision_of(reviewer, revealed)
    image = console.images.image(console.store.queue.get(revealed))
    for one in content["displayed"]["maps"]:
        bare = fedlens.explain(console.subject.model, image[None], one["method"])
        for name in ("method", "version", "parameters", "seed", "baseline", "layer"):
            assert one["meta"][name] == bare.meta[name]
        assert map_digest(bare.values[0]) == one["map"]
    first = content["displayed"]["maps"][0]["meta"]
    assert first.items() <= content["evidence"]["explanation"].items()


def test_a_flag_says_which_explanation_it_is_about(
    reviewer, revealed: int, console: Console, text_of, lead
):
    reviewer.post(f"/cases/{revealed}/decide", choice="accept")
    other = str((console.store.queue.get(revealed).predicted + 1) % 10)
    page = reviewer.get(f"/cases/{revealed}?method=gradient&against={other}&opacity=40")
    assert re.search(rf'id="flagging"[^>]*action="/cases/{revealed}/flag"', page)
    fields = dict(re.findall(r'form="flagging" name="(\w+)" value="([^"]*)"', page))
    asked = {"method": "gradient", "second": "grad-cam", "against": other, "opacity": "40"}
    assert fields == asked
    reviewer.post(f"/cases/{revealed}/flag", text="it marks the corner", **fields)
    record = reviewer.records(revealed)[-1]
    assert record.kind == "flagged"
    assert record.content["text"] == "it marks the corner"
    shown = record.content["displayed"]
    assert [one["method"] for one in shown["maps"]] == ["gradient", "grad-cam"]
    assert all(len(one["map"]) == 64 for one in shown["maps"])
    assert shown["contrast"] == [console.store.queue.get(revealed).predicted, int(other)]
    assert shown["opacity"] == 0.4
    assert "it marks the corner" in reviewer.get(f"/cases/{revealed}")
    words = text_of(lead.get("/insight"))
    assert re.search(r"100.0 % explanations flagged as misleading, .*; one flag outside", words)
    assert console.store.verify().valid


def test_a_flag_needs_words_and_an_explanation_that_the_person_may_see(reviewer, lead, auditor):
    case = reviewer.take_next()
    path = f"/cases/{case}/flag"
    assert "after you have labelled it" in reviewer.post(path, status=403, text="before").text
    reviewer.post(f"/cases/{case}/label", label="3")
    assert "Say how" in reviewer.post(path, status=400, text=" \n").text
    lead.post(path, status=403, text="a colleague's, of which I have seen nothing")
    auditor.post(path, status=403, text="no")
    assert "flagged" not in reviewer.kinds(case)


def test_a_flag_is_of_what_was_shown_and_needs_no_model(reviewer, lead, revealed: int):
    path = f"/cases/{revealed}/flag"
    never = {"method": "gradient", "second": "gradient"}
    refused = reviewer.post(path, status=409, text="it marks the corner", **never)
    assert "was not shown to you" in refused.text
    shown = reviewer.records(revealed)[-1].content["displayed"]
    lead.post("/stop", why="it went astray")
    fields = {"method": "grad-cam", "second": "gradient", "against": "", "opacity": "30"}
    reviewer.post(path, text="it marks the corner", **fields)
    record = reviewer.records(revealed)[-1]
    assert record.kind == "flagged"
    assert record.content["displayed"] == shown | {"opacity": 0.3}
    reviewer.post(f"/cases/{revealed}/release")
    lead.post(f"/cases/{revealed}/take")
    other = reviewer.take_next()
    reviewer.post(f"/cases/{other}/label", label="3")  # while it is stopped: no maps
    reviewer.post(f"/cases/{other}/flag", status=409, text="which?")
    assert "flagged" not in reviewer.kinds(other)
