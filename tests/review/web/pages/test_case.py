"""The page of a case: nothing of the model before the own label, nothing chosen beforehand."""

import hashlib
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import fedlens
from fedlens.review.contract import Choice, Decision, Role, State
from fedlens.review.web.console import Console


def decision_of(browser, case):
    (record,) = [one for one in browser.records(case) if one.kind == "decided"]
    return record.content


def test_nothing_of_the_model_is_shown_before_the_own_label(reviewer, console: Console, text_of):
    case = reviewer.take_next()
    address = f"/cases/{case}"
    words = text_of(reviewer.get(address))
    assert "What do you see?" in words
    assert "The model's answer" not in words
    assert "%" not in words
    page = reviewer.get(address)
    assert "map.png" not in page
    reviewer.get(f"{address}/map.png?method=grad-cam", status=403)
    refused = reviewer.post(f"{address}/decide", status=409, choice="accept")
    assert "Label case" in refused.text
    assert reviewer.kinds(case) == ["opened"]

    reviewer.post(f"{address}/label", label="3")
    page = reviewer.get(address)
    assert "The model's answer" in page
    assert "Your own label was digit 3" in text_of(page)
    assert "map.png?method=grad-cam" in page
    assert reviewer.kinds(case) == ["opened", "labelled-blind", "revealed"]


def test_a_label_is_blind_once(reviewer, revealed: int):
    answer = reviewer.post(f"/cases/{revealed}/label", status=409, label="4")
    assert "shown to you already" in answer.text
    assert reviewer.kinds(revealed).count("labelled-blind") == 1


def test_who_cannot_tell_leaves_no_label_and_a_word_of_it(reviewer):
    case = reviewer.take_next()
    reviewer.post(f"/cases/{case}/label", status=400)
    reviewer.post(f"/cases/{case}/label", label="unsure")
    assert reviewer.kinds(case) == ["opened", "revealed"]
    assert reviewer.records(case)[-1].content["displayed"]["own_label"] == "unsure"


def test_no_choice_is_made_beforehand_and_all_three_weigh_the_same(reviewer, revealed: int):
    page = reviewer.get(f"/cases/{revealed}")
    form = page[page.index('id="decision"') : page.index("</form>", page.index('id="decision"'))]
    assert "checked" not in form
    choices = re.findall(r"<label><strong><input type=\"radio\" id=\"choice-.*?</label>", form)
    assert len(choices) == 3
    own = r"accept|override|defer|It is right|It is not|Somebody else|>[aod]<|data-key=\"[aod]\""
    shapes = {re.sub(own, "", choice, flags=re.IGNORECASE) for choice in choices}
    assert len(shapes) == 1


def test_what_is_shown_is_recorded_once_for_each_view(reviewer, revealed: int):
    address = f"/cases/{revealed}"
    shown = reviewer.records(revealed)
    reviewer.get(address)
    reviewer.get(f"{address}?opacity=30")
    assert len(reviewer.records(revealed)) == len(shown)
    reviewer.get(f"{address}?method=gradient")
    (new,) = reviewer.records(revealed)[len(shown) :]
    assert new.kind == "revealed"
    assert [one["method"] for one in new.content["displayed"]["maps"]] == ["gradient", "grad-cam"]


def test_the_map_that_the_trail_names_is_the_map_that_fedlens_explains(
    reviewer, revealed: int, console: Console
):
    image = console.images.image(console.store.queue.get(revealed))
    values = fedlens.explain(console.subject.model, image[None], "grad-cam").values[0]
    expected = hashlib.sha256(values.numpy().astype("<f4").tobytes()).hexdigest()
    (record,) = [one for one in reviewer.records(revealed) if one.kind == "revealed"]
    assert record.content["displayed"]["maps"][0]["map"] == expected


def test_accepting_records_evidence_and_goes_on_to_the_next_case(
    reviewer, revealed: int, console: Console
):
    fields = {"method": "gradient", "second": "grad-cam", "against": "", "opacity": "40"}
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


def test_undoing_is_a_record_of_its_own_and_leads_back(reviewer, revealed: int, console: Console):
    reviewer.post(f"/cases/{revealed}/decide", choice="accept")
    sequence = console.store.queue.get(revealed).decision
    answer = reviewer.post(f"/undo/{sequence}")
    assert answer.headers["location"] == f"/cases/{revealed}"
    assert console.store.queue.get(revealed).state is State.ASSIGNED
    assert "undone" in reviewer.kinds(revealed)
    assert 'id="decision"' in reviewer.get(f"/cases/{revealed}")
    reviewer.post(f"/cases/{revealed}/decide", choice="defer", text="blurred")
    assert console.store.queue.get(revealed).state is State.DEFERRED


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


def test_a_case_is_one_persons(reviewer, lead, revealed: int):
    page = lead.get(f"/cases/{revealed}")
    assert 'id="decision"' not in page
    assert "The model's answer" not in page
    lead.post(f"/cases/{revealed}/take", status=409)
    lead.post(f"/cases/{revealed}/label", status=409, label="1")


def test_an_auditor_sees_all_and_changes_nothing(reviewer, auditor, revealed: int, text_of):
    before = len(auditor.records())
    page = auditor.get(f"/cases/{revealed}?method=gradient")
    assert "The model's answer" in page
    assert 'id="decision"' not in page
    assert "said digit 3 before seeing the prediction" in text_of(page)
    assert len(auditor.records()) == before
    auditor.post(f"/cases/{revealed}/decide", status=403, choice="accept")
    auditor.post(f"/cases/{revealed}/flag", status=403, text="no")


def test_who_takes_a_deferred_case_does_not_see_what_was_said_of_it(
    reviewer, lead, revealed: int, text_of
):
    reviewer.post(f"/cases/{revealed}/decide", choice="defer", text="looks like a seven")
    lead.post(f"/cases/{revealed}/take")
    words = text_of(lead.get(f"/cases/{revealed}"))
    assert "said digit 3" not in words
    assert "looks like a seven" not in words
    lead.post(f"/cases/{revealed}/label", label="2")
    assert "said digit 3" in text_of(lead.get(f"/cases/{revealed}"))


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
    assert content["evidence"]["explanation"] is None
    assert content["evidence"]["model"]["weights"] == console.subject.digest


def test_where_nobody_labels_first_all_is_shown_and_recorded_at_once(browser_of):
    browser = browser_of(Role.REVIEWER, blind_first=False)
    case = browser.take_next()
    assert "The model's answer" in browser.get(f"/cases/{case}")
    assert browser.kinds(case) == ["opened", "revealed"]
    browser.post(f"/cases/{case}/decide", choice="accept")


def test_the_contrast_names_both_classes(reviewer, revealed: int, console: Console, text_of):
    case = console.store.queue.get(revealed)
    other = (case.predicted + 1) % 10
    words = text_of(reviewer.get(f"/cases/{revealed}?against={other}"))
    assert f"why digit {case.predicted} and not digit {other}" in words
    shown = reviewer.records(revealed)[-1].content["displayed"]
    assert shown["contrast"] == [case.predicted, other]


@pytest.mark.parametrize(
    "query", ["method=../x&second=1", "against=99", "against=-1", "opacity=9e9"]
)
def test_an_address_that_asks_for_nonsense_shows_the_default(reviewer, revealed: int, query: str):
    page = reviewer.get(f"/cases/{revealed}?{query}")
    assert 'value="grad-cam" selected' in page
    assert "map-90" in page


def test_pictures_are_the_images_own_pixels(reviewer, revealed: int, console: Console):
    pixels = console.images.image(console.store.queue.get(revealed))[0].numpy()

    def picture(name: str) -> np.ndarray:
        answer = reviewer.client.get(f"/cases/{revealed}/{name}.png")
        assert answer.headers["content-type"] == "image/png"
        return np.asarray(Image.open(io.BytesIO(answer.content)))

    assert np.array_equal(picture("native"), pixels)
    assert np.array_equal(picture("image"), np.kron(pixels, np.ones((16, 16), np.uint8)))
    heat = Image.open(
        io.BytesIO(reviewer.client.get(f"/cases/{revealed}/map.png?method=gradient").content)
    )
    assert (heat.mode, heat.size) == ("RGBA", (448, 448))


def test_an_image_that_is_gone_is_said_to_be(reviewer, console: Console, lead):
    case = console.store.queue.get(1)
    gone = replace(case, source="folder/a.png", digest="ab" * 32)
    (number,) = console.store.queue.add([gone], console.store.people.get("lead").actor)
    reviewer.post(f"/cases/{number}/take")
    page = reviewer.get(f"/cases/{number}")
    assert 'role="alert"' in page
    assert "image.png" not in page
    reviewer.post(f"/cases/{number}/label", label="unsure")
    reviewer.post(f"/cases/{number}/decide", choice="defer", text="no image")


def test_a_case_of_the_api_is_shown_without_an_image(lead, auditor, console: Console):
    case = console.store.queue.get(1)
    new = replace(case, source="api", queued=False)
    by = console.store.people.get("lead").actor
    number = console.store.queue.answer(new, by, "predicted", {})
    assert "was not kept" in auditor.get(f"/cases/{number}")
    decision = Decision(case=number, choice=Choice.ACCEPT)
    console.store.decisions.decide(by, decision)
    assert "decided by lead" in auditor.get(f"/cases/{number}")


def test_flagging_outside_a_decision_is_a_record(reviewer, revealed: int, lead):
    reviewer.post(f"/cases/{revealed}/decide", choice="accept")
    assert f"/cases/{revealed}/flag" in reviewer.get(f"/cases/{revealed}")
    reviewer.post(f"/cases/{revealed}/flag", text="it marks the corner")
    assert reviewer.kinds(revealed)[-1] == "flagged"
    assert "it marks the corner" in reviewer.get(f"/cases/{revealed}")
