"""The page of a case: nothing of the model before the own label, nothing chosen beforehand."""

import hashlib
import io
import re
from concurrent.futures import Future
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
import pytest
from PIL import Image

import fedlens
from fedlens.errors import ExplanationError
from fedlens.review.contract import Choice, Decision, Role
from fedlens.review.web.console import Console


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


def test_who_saw_what_another_decided_labels_it_blind_no_more(reviewer, lead, auditor, revealed):
    reviewer.post(f"/cases/{revealed}/decide", choice="accept")
    sequence = reviewer.store.queue.get(revealed).decision
    for who in (auditor, lead, lead):
        assert "The model's answer" in who.get(f"/cases/{revealed}")
    seen = [one.actor for one in lead.records(revealed) if one.kind == "revealed"]
    assert seen == ["reviewer", "lead"]
    lead.post(f"/undo/{sequence}")
    lead.post(f"/cases/{revealed}/assign", to="lead")
    lead.post(f"/cases/{revealed}/label", status=409, label="3")


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


def test_where_nobody_labels_first_all_is_shown_and_recorded_at_once(browser_of):
    browser = browser_of(Role.REVIEWER, blind_first=False)
    case = browser.take_next()
    page = browser.get(f"/cases/{case}")
    assert "The model's answer" in page
    assert "The maps are off" in page  # they wait for whoever wants them
    assert 'class="map-0"' in page
    assert browser.kinds(case) == ["opened", "revealed"]
    assert "map-50" in browser.get(f"/cases/{case}?opacity=50")
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


def test_the_model_is_asked_once_while_the_person_still_looks(
    reviewer, console: Console, monkeypatch: pytest.MonkeyPatch
):
    asked = []
    ask = console.examiner.explain_soon

    def counted(image, method, target=None, *, badges=False, beside=None):
        asked.append((method, target, badges))
        return ask(image, method, target, badges=badges, beside=beside)

    monkeypatch.setattr(console.examiner, "explain_soon", counted)
    monkeypatch.setattr("fedlens.review.web.pages.seeing._kept", WeakKeyDictionary())
    case = reviewer.take_next()
    before = [("gradient", None, False), ("grad-cam", None, True)]
    assert asked == before
    assert reviewer.kinds(case) == ["opened"]
    reviewer.post(f"/cases/{case}/label", label="3")
    reviewer.get(f"/cases/{case}")
    reviewer.get(f"/cases/{case}?opacity=10")
    for method in ("grad-cam", "gradient"):
        reviewer.client.get(f"/cases/{case}/map.png?method={method}")
    assert asked == before
    reviewer.post(f"/cases/{case}/decide", choice="defer")
    assert asked[: len(before)] == before
    assert asked[len(before) :] == []  # the next page has not been opened yet


def test_a_method_that_fails_is_named_and_the_other_is_shown(
    reviewer, revealed: int, console: Console, monkeypatch: pytest.MonkeyPatch
):
    ask = console.examiner.explain_soon

    def failing(image, method, target=None, *, badges=False, beside=None):
        if method == "gradient":
            answer: Future[None] = Future()
            answer.set_exception(ExplanationError("It met a kink."))
            return answer
        return ask(image, method, target, badges=badges, beside=beside)

    monkeypatch.setattr(console.examiner, "explain_soon", failing)
    monkeypatch.setattr("fedlens.review.web.pages.seeing._kept", WeakKeyDictionary())
    for _ in range(2):  # and it is asked again the next time
        page = reviewer.get(f"/cases/{revealed}")
        assert "gradient: It met a kink." in page
        assert "map.png?method=grad-cam" in page
        assert "map.png?method=gradient" not in page
    monkeypatch.undo()
    assert "map.png?method=gradient" in reviewer.get(f"/cases/{revealed}")


def test_while_stopped_an_unfamiliar_image_is_still_said_to_be(
    lead, console: Console, cases: list[int], text_of
):
    held = {number: console.store.queue.get(number).signals["novelty"] for number in cases}
    console.store.switch.stop(lead_of(console), "A test.")
    for number, signal in held.items():
        shown = "Unfamiliar image" in text_of(lead.get(f"/cases/{number}"))
        assert shown == (signal >= 0.5), signal  # beyond 95 of 100 validation images


def lead_of(console: Console):
    return next(one for one in console.store.people.list() if one.role is Role.LEAD).actor


def test_an_address_that_is_no_number_is_no_page(lead):
    for path in ("/cases/abc", "/trail/verify"):
        assert "nothing here" in lead.get(path, status=404)


def test_what_is_refused_leads_back_to_the_case(reviewer, lead, revealed: int):
    answer = lead.post(f"/cases/{revealed}/take", status=409)
    assert f'href="/cases/{revealed}"' in answer.text


def test_which_image_it_is_is_said_once_its_name_tells_nothing_any_more(
    reviewer, console: Console, text_of
):
    case = reviewer.take_next()
    source = console.store.queue.get(case).source
    assert f"image {source}" not in text_of(reviewer.get(f"/cases/{case}"))
    reviewer.post(f"/cases/{case}/label", label="3")
    assert f"image {source}" in text_of(reviewer.get(f"/cases/{case}"))


@pytest.mark.parametrize("against", ["", "other"])
def test_the_page_says_one_thing_of_how_far_its_maps_agree(
    reviewer, revealed: int, console: Console, text_of, against: str
):
    """The badge compares the map with the one that stands beside it, by what the sentence says."""
    predicted = console.store.queue.get(revealed).predicted
    asked = str((predicted + 1) % 10) if against else ""
    for method, other in (("grad-cam", "gradient"), ("gradient", "grad-cam")):
        page = reviewer.get(f"/cases/{revealed}?method={method}&second={other}&against={asked}")
        words = text_of(page)
        (said,) = re.findall(r"The two methods (agree in part|agree|disagree):", words)
        (rank,) = re.findall(rf"Agrees with {other}: (\w+)", words)
        assert said == {"good": "agree", "fair": "agree in part", "poor": "disagree"}[rank]
        (share,) = re.findall(r"(\d+) % are in both", words)
        shown = reviewer.records(revealed)[-1].content["displayed"]["maps"]
        assert [one["method"] for one in shown] == [method, other]
        (value,) = [b["value"] for b in shown[0]["badges"] if b["name"] == "agreement"]
        assert round(100 * value) == int(share)
