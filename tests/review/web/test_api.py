import json
from collections.abc import Callable

import pytest
import torch
from starlette.testclient import TestClient

from fedlens.explain import Contrast, explain
from fedlens.review.contract import Actor, NewCase, Person, Role, State
from fedlens.review.model import Examiner, Subject, image_digest, map_digest
from fedlens.review.model.intake import read_upload
from fedlens.review.store import Store
from fedlens.review.web.api.asking import _answer
from fedlens.review.web.console import Console

Make = Callable[..., TestClient]
Picture = Callable[..., bytes]
LEAD = Actor("lead", Role.LEAD)


def send(program: TestClient, path: str, image: bytes, **fields: str):
    return program.post(path, files={"image": ("a.png", image)}, data=fields)


def last(kept: Store):
    return kept.trail.record(kept.trail.head().count)


def test_a_prediction_is_the_models_own(
    program: TestClient, picture: Picture, subject: Subject, examiner: Examiner
):
    upload = picture(seed=1)
    answer = send(program, "/v1/predict", upload).json()
    image = read_upload(upload, size=28, channels=1)
    with torch.inference_mode():
        logits = subject.model(image[None].float() / 255)[0]
    assert answer["logits"] == pytest.approx(logits.tolist(), abs=1e-5)
    assert answer["predicted"]["number"] == int(logits.argmax())
    assert answer["predicted"]["name"] == f"digit {int(logits.argmax())}"
    calibrated = torch.softmax(logits.double() / examiner.temperature.value, 0)
    assert answer["probabilities"] == pytest.approx(calibrated.tolist(), abs=1e-5)
    top = [each["number"] for each in answer["top"]]
    assert top == calibrated.argsort(descending=True)[:3].tolist()
    assert answer["digest"] == image_digest(image)
    assert answer["model"]["weights"] == subject.digest
    confusable = answer["confusable"]
    if confusable is not None:
        column = subject.test.confusion[:, top[0]]
        assert confusable["share"] == pytest.approx(column[confusable["number"]] / column.sum())


def test_an_explanation_is_the_methods_own(program: TestClient, picture: Picture, subject: Subject):
    upload = picture(seed=2)
    answer = send(program, "/v1/explain", upload, method="gradient", target="digit 3").json()
    image = read_upload(upload, size=28, channels=1)
    found = explain(subject.model, image[None], "gradient", target=3).values[0]
    assert torch.tensor(answer["map"]) == pytest.approx(found, abs=1e-5)
    assert answer["map_digest"] == map_digest(torch.tensor(answer["map"]))
    assert answer["asked"] == {"target": "digit 3", "against": None}
    assert answer["meta"]["method"] == answer["method"] == "gradient"
    assert answer["badges"] == []


def test_a_contrast_is_of_one_class_against_another(
    program: TestClient, picture: Picture, subject: Subject
):
    upload = picture(seed=3)
    answer = send(
        program, "/v1/explain", upload, method="gradient", target="digit 3", against="digit 8"
    ).json()
    image = read_upload(upload, size=28, channels=1)
    found = explain(subject.model, image[None], "gradient", target=Contrast(3, 8)).values[0]
    assert torch.tensor(answer["map"]) == pytest.approx(found, abs=1e-5)
    assert answer["asked"] == {"target": "digit 3", "against": "digit 8"}


def test_badges_come_when_asked_for(program: TestClient, picture: Picture):
    answer = send(program, "/v1/explain", picture(), badges="true").json()
    assert {"stability", "faithfulness"} <= {badge["name"] for badge in answer["badges"]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": "astrology"}, "grad-cam, gradient"),
        ({"target": "shirt"}, "digit 0, digit 1"),
        ({"target": "digit 1", "against": "coat"}, "digit 0"),
        ({"against": "digit 1"}, "target"),
        ({"target": "digit 1", "against": "digit 1"}, "two different"),
        ({"badges": "perhaps"}, "true"),
        ({"target": ""}, "digit 0"),
    ],
)
def test_a_field_that_cannot_be_is_named_in_a_sentence(
    program: TestClient, picture: Picture, kept: Store, fields: dict[str, str], words: str
):
    before = kept.trail.head().count
    answer = send(program, "/v1/explain", picture(), **fields)
    assert answer.status_code == 422
    sentence = answer.json()["detail"]
    assert words in sentence
    assert sentence.startswith(("method: ", "target: ", "against: ", "badges: "))
    assert kept.trail.head().count == before


def test_every_answer_leaves_a_record_and_a_case_but_no_image(
    program: TestClient, picture: Picture, kept: Store
):
    explained = send(program, "/v1/explain", picture(seed=4)).json()
    record = last(kept)
    assert (record.kind, record.actor, record.case) == (
        "explained",
        "reviewer-program",
        explained["case"],
    )
    assert record.content["explanation"]["map"] == explained["map_digest"]
    assert record.content["logits"] == explained["logits"]
    assert record.content["image"] == explained["digest"]
    case = kept.queue.get(explained["case"])
    assert (case.source, case.queued, case.digest) == ("api", False, explained["digest"])
    predicted = send(program, "/v1/predict", picture(seed=4)).json()
    assert last(kept).kind == "predicted"
    assert predicted["case"] != explained["case"]
    assert kept.queue.count() == 0  # nobody is shown it


def test_where_the_calls_are_not_recorded_the_case_still_stands(
    console: Console, client_of: Make, tokens: dict[Role, str], picture: Picture, kept: Store
):
    program = client_of(console, token=tokens[Role.REVIEWER], api_log=False)
    number = send(program, "/v1/predict", picture()).json()["case"]
    assert kept.queue.get(number).source == "api"
    assert kept.trail.count(kind="predicted") == 0


def test_a_batch_answers_in_order(program: TestClient, picture: Picture, kept: Store):
    uploads = [picture(seed=seed) for seed in range(5)]
    answer = program.post("/v1/predict/batch", files=[("images", each) for each in uploads])
    assert answer.status_code == 200, answer.text
    digests = [each["digest"] for each in answer.json()["predictions"]]
    assert digests == [image_digest(read_upload(each, size=28, channels=1)) for each in uploads]
    numbers = [each["case"] for each in answer.json()["predictions"]]
    assert len(set(numbers)) == 5
    for number, digest in zip(numbers, digests, strict=True):
        assert kept.queue.get(number).digest == digest
    assert kept.trail.count(kind="predicted") == 5


def test_one_bad_image_refuses_the_batch(program: TestClient, picture: Picture, kept: Store):
    answer = program.post(
        "/v1/predict/batch", files=[("images", picture()), ("images", b"not a picture")]
    )
    assert answer.status_code == 415
    assert answer.json()["detail"].startswith("Image 2 of 2: The file is ")
    assert kept.trail.count(kind="predicted") == 0


def test_while_it_is_stopped_nothing_is_predicted_and_decisions_stay_possible(
    program: TestClient, picture: Picture, kept: Store
):
    case = send(program, "/v1/predict", picture()).json()["case"]
    kept.switch.stop(LEAD, "the scanner was replaced")
    for path in ("/v1/predict", "/v1/explain"):
        answer = send(program, path, picture())
        assert answer.status_code == 503
        assert "lead" in answer.json()["detail"]
        assert "the scanner was replaced" in answer.json()["detail"]
        assert "Retry-After" in answer.headers
    assert program.get("/health").json() == {"alive": True, "stopped": True}
    assert program.get("/v1/model").json()["stopped"] is True
    decided = program.post("/v1/decisions", json={"case": case, "choice": "defer"})
    assert decided.status_code == 201
    kept.switch.resume(LEAD, "it was calibrated")
    assert send(program, "/v1/predict", picture()).status_code == 200


def test_a_decision_carries_what_the_model_said(program: TestClient, picture: Picture, kept: Store):
    explained = send(program, "/v1/explain", picture(seed=5)).json()
    said = explained["predicted"]["number"]
    other = explained["top"][1]["name"]
    answer = program.post(
        "/v1/decisions",
        json={
            "case": explained["case"],
            "choice": "override",
            "label": other,
            "reason": "confusable-classes",
            "text": "the loop is closed",
            "misleading": True,
        },
    )
    assert answer.status_code == 201, answer.text
    record = last(kept)
    assert answer.json()["sequence"] == record.sequence
    assert answer.json()["digest"] == record.digest
    assert record.kind == "decided"
    content = record.content
    assert (content["predicted"], content["choice"]) == (said, "override")
    assert content["label"] == explained["top"][1]["number"]
    assert content["evidence"]["explanation"]["map"] == explained["map_digest"]
    assert content["displayed"] == {
        "through": "api",
        "record": record.sequence - 1,
        "map": explained["map_digest"],
    }
    case = program.get(f"/v1/cases/{explained['case']}").json()
    assert (case["state"], case["label"], case["decision"]) == ("decided", other, record.sequence)
    assert [each["kind"] for each in case["history"]] == ["explained", "decided"]
    again = program.post("/v1/decisions", json={"case": explained["case"], "choice": "accept"})
    assert again.status_code == 409


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"choice": "override"}, 400, "reason"),
        ({"choice": "override", "reason": "wrong-class", "label": "coat"}, 422, "digit 0"),
        ({"choice": "accept", "reason": "wrong-class"}, 400, "override"),
        ({"choice": "maybe"}, 422, "choice"),
        ({"case": 0}, 422, "case"),
        ({"case": 999}, 404, "999"),
        ({"case": 10**30}, 422, "case"),
        ({"text": "x" * 2001}, 422, "text"),
        ({"extra": 1}, 422, "extra"),
        ({"label": None, "choice": None}, 422, "choice"),
    ],
)
def test_a_decision_that_cannot_be(
    program: TestClient, picture: Picture, changes: dict, status: int, words: str
):
    case = send(program, "/v1/predict", picture()).json()["case"]
    answer = program.post("/v1/decisions", json={"case": case, "choice": "accept"} | changes)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert answer.json()["detail"].count("\n") == 0


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"{", "application/json"), (b"", "application/json"), (b"[]", "application/json"),
     (b"{}", "text/plain"), (b"\xff", "application/json"), (b"[" * 100_000, "application/json")],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(program: TestClient, content: bytes, kind: str):
    answer = program.post("/v1/decisions", content=content, headers={"Content-Type": kind})
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["detail"].endswith(".")


def queued(kept: Store, subject: Subject) -> int:
    probabilities = (0.91,) + (0.01,) * 9
    signals, logits = {"uncertainty": 0.09}, (2.5,) + (-2.0,) * 9
    new = NewCase("a" * 64, "test/0", 0, probabilities, 0.5, signals, logits=logits)
    return kept.queue.add([new], LEAD)[0]


def test_what_the_model_says_is_withheld_until_a_person_labelled(
    console: Console,
    client_of: Make,
    tokens: dict[Role, str],
    people: dict[Role, Person],
    kept: Store,
    subject: Subject,
):
    number = queued(kept, subject)
    program = client_of(console, token=tokens[Role.REVIEWER])
    hidden = program.get(f"/v1/cases/{number}").json()
    assert hidden["hidden"] is True
    assert [hidden[name] for name in ("predicted", "probabilities", "need", "signals")] == [
        None
    ] * 4
    auditor = client_of(console, token=tokens[Role.AUDITOR]).get(f"/v1/cases/{number}").json()
    assert auditor["predicted"]["name"] == "digit 0"
    actor = Actor("reviewer-program", Role.REVIEWER)
    kept.queue.claim(actor, number)
    kept.decisions.opened(actor, number)
    kept.decisions.label_blind(actor, number, 0)
    assert program.get(f"/v1/cases/{number}").json()["hidden"] is True
    kept.decisions.reveal(actor, number, {})
    shown = program.get(f"/v1/cases/{number}").json()
    assert shown["predicted"] == {"number": 0, "name": "digit 0", "probability": 0.91}
    plain = client_of(console, token=tokens[Role.LEAD], blind_first=False)
    assert plain.get(f"/v1/cases/{number}").json()["hidden"] is False


def test_nobody_decides_before_they_have_labelled(
    program: TestClient, kept: Store, subject: Subject
):
    """That an override to the predicted class is refused would tell the prediction."""
    number = queued(kept, subject)
    actor = Actor("reviewer-program", Role.REVIEWER)
    kept.queue.claim(actor, number)
    kept.decisions.opened(actor, number)
    answers = [
        program.post("/v1/decisions", json={"case": number} | decision)
        for decision in (
            {"choice": "accept"},
            {"choice": "override", "label": "digit 0", "reason": "wrong-class"},
            {"choice": "override", "label": "digit 1", "reason": "wrong-class"},
        )
    ]
    assert {(one.status_code, one.text) for one in answers} == {(403, answers[0].text)}
    kept.decisions.reveal(actor, number, {})
    assert program.post("/v1/decisions", json={"case": number, "choice": "accept"}).is_success
    (record,) = kept.decisions.recent(actor)
    evidence = record.content["evidence"]
    assert evidence["model"]["weights"] == subject.digest
    assert evidence["logits"] == [2.5] + [-2.0] * 9
    assert (evidence["rule"], evidence["threshold"]) == ("largest logit", None)


def test_somebody_elses_case_is_not_decided(program: TestClient, kept: Store, subject: Subject):
    number = queued(kept, subject)
    decision = {"case": number, "choice": "accept"}
    assert program.post("/v1/decisions", json=decision).status_code == 403
    kept.queue.claim(LEAD, number)
    assert program.post("/v1/decisions", json=decision).status_code == 403
    shown = Actor("reviewer-program", Role.REVIEWER)
    kept.decisions.reveal(shown, number, {})
    assert program.post("/v1/decisions", json=decision).status_code == 409
    assert kept.queue.get(number).state is State.ASSIGNED


@pytest.mark.parametrize("blind_first", [True, False])
def test_no_answer_tells_what_was_predicted_of_somebody_elses_case(
    console: Console,
    client_of: Make,
    tokens: dict[Role, str],
    kept: Store,
    subject: Subject,
    blind_first: bool,
):
    number = queued(kept, subject)
    kept.queue.claim(LEAD, number)
    program = client_of(console, token=tokens[Role.REVIEWER], blind_first=blind_first)
    before = kept.trail.count()
    override = {"case": number, "choice": "override", "reason": "wrong-class"}
    answers = [
        program.post("/v1/decisions", json=override | {"label": name})
        for name in subject.class_names
    ]
    expected = 403 if blind_first else 409
    assert {(one.status_code, one.text) for one in answers} == {(expected, answers[0].text)}
    assert kept.trail.count() == before
    assert kept.decisions.unseen(Actor("reviewer-program", Role.REVIEWER), [number]) == {number}


def test_the_model_is_described(program: TestClient, subject: Subject, kept: Store):
    answer = program.get("/v1/model").json()
    assert [each["name"] for each in answer["classes"]] == list(subject.class_names)
    assert answer["test_accuracy"] == pytest.approx(subject.test.accuracy)
    assert answer["identity"]["weights"] == subject.digest
    assert answer["signing_key"] == kept.key.public.fingerprint
    assert answer["methods"] == ["grad-cam", "gradient"]


def test_a_token_may_not_ask_for_more_than_its_share(
    console: Console, client_of: Make, tokens: dict[Role, str], picture: Picture
):
    slow = {"api_rate": 0.001, "api_burst": 64}
    program = client_of(console, token=tokens[Role.REVIEWER], **slow)
    batch = program.post("/v1/predict/batch", files={"images": picture()})
    assert batch.status_code == 200  # a batch counts in full
    refused = send(program, "/v1/predict", picture())
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 900
    program.headers["Authorization"] = f"Bearer {tokens[Role.LEAD]}"
    assert send(program, "/v1/predict", picture()).status_code == 200


def test_metrics_tell_what_happened(
    console: Console,
    client_of: Make,
    tokens: dict[Role, str],
    picture: Picture,
    kept: Store,
    subject: Subject,
):
    queued(kept, subject)
    program = client_of(console, token=tokens[Role.LEAD])
    send(program, "/v1/predict", picture())
    send(program, "/v1/predict", b"no picture")
    program.get("/a/path/that/nobody/should/see")
    text = program.get("/metrics").text
    counted = 'fedlens_review_requests_total{method="POST",route="/v1/predict",status="%d"} 1.0'
    assert counted % 200 in text
    assert counted % 415 in text
    assert 'fedlens_review_cases{state="open"} 1.0' in text
    assert "fedlens_review_stopped 0.0" in text
    assert "nobody" not in text


def test_metrics_need_no_token_on_this_machine_and_always_from_elsewhere(
    console: Console, client_of: Make
):
    near = client_of(console)
    assert near.get("/metrics").status_code == 200
    for header in ("X-Forwarded-For", "Forwarded", "Via"):
        assert near.get("/metrics", headers={header: "x"}).status_code == 401
    assert client_of(console, secure_cookies=True).get("/metrics").status_code == 401
    far = TestClient(near.app, base_url="http://127.0.0.1:8000", client=("192.0.2.7", 5))
    assert far.get("/metrics").status_code == 401


def test_health_is_for_anybody_and_says_no_more(client: TestClient):
    assert client.get("/health").json() == {"alive": True, "stopped": False}


def test_the_document_is_of_the_api_alone(program: TestClient):
    document = program.get("/v1/openapi.json").json()
    assert "/v1/explain" in document["paths"]
    assert not any(path.startswith("/sign-in") for path in document["paths"])
    assert program.get("/docs").status_code in (303, 404)


def test_an_answer_is_json_whatever_its_numbers_are():
    body = _answer({"values": [[0.5, float("nan"), float("inf")]]}).body
    assert json.loads(body, parse_constant=pytest.fail) == {"values": [[0.5, None, None]]}
