"""The examiner against the network itself, scipy, and one image at a time."""

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from fedlens.errors import FedlensError
from fedlens.explain import Contrast, explain
from fedlens.models import MODELS, build_model
from fedlens.review.contract import ReviewError
from fedlens.review.model import Examiner, Subject, fitted, image_digest, map_digest, weights_digest
from fedlens.review.model.need import WEIGHTS, beyond_usual, need_of
from fedlens.training.prediction import predict


def test_a_prediction_is_the_networks_own_set_right(
    examiner: Examiner, subject: Subject, images: torch.Tensor
) -> None:
    found = examiner.predict(images[:70])
    logits = predict(subject.model, images[:70]).double().numpy()
    odds = softmax(logits / examiner.temperature.value, axis=1)
    for place, one in enumerate(found):
        np.testing.assert_allclose(one.logits, logits[place], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one.probabilities, odds[place], rtol=1e-4, atol=1e-6)
        assert one.predicted == logits[place].argmax()
        assert list(one.top) == np.argsort(-odds[place], kind="stable")[:3].tolist()
        assert one.digest == image_digest(images[place])
        assert one.signals["uncertainty"] == pytest.approx(1 - one.confidence)
        others = np.delete(examiner.validation.f1, one.predicted)
        behind = (others.mean() - examiner.validation.f1[one.predicted]) / 0.2
        assert one.signals["weak-class"] == pytest.approx(min(1, max(0, behind)))
        assert 0 <= one.need <= 1 and set(one.signals) == set(WEIGHTS)
        assert one.need == pytest.approx(sum(WEIGHTS[k] * v for k, v in one.signals.items()))


def test_the_confusable_class_is_the_one_most_often_taken_for_the_predicted(
    subject: Subject, images: torch.Tensor
) -> None:
    confusion = np.diag([10] * 10)
    confusion[7, 3] = 4
    confusion[2, 3] = 1
    counted = replace(subject.test, confusion=confusion)
    with Examiner(replace(subject, test=counted)) as examiner:
        by_class = {one.predicted: one for one in examiner.predict(images[:200])}
    assert by_class[3].confusable == 7 and by_class[3].confusable_share == 4 / 15
    assert by_class[5].confusable is None and by_class[5].confusable_share == 0


def test_need_is_a_weighted_mean_of_the_signals_that_there_are() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1)
    assert need_of(dict.fromkeys(WEIGHTS, 1.0)) == pytest.approx(1)
    assert need_of({"uncertainty": 0.5}) == 0.5
    weighted = WEIGHTS["uncertainty"] * 0.2 / (WEIGHTS["uncertainty"] + WEIGHTS["novelty"])
    assert need_of({"uncertainty": 0.2, "novelty": 0.0}) == pytest.approx(weighted)
    assert need_of({}) == 0
    assert [beyond_usual(share) for share in (0.0, 0.9, 1.0)] == [0, 0, 1]
    assert beyond_usual(0.95) == pytest.approx(0.5)


def test_what_is_unlike_the_images_needs_a_person_more(
    examiner: Examiner, images: torch.Tensor
) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8, generator=generator)
    usual, strange = examiner.predict(images[:200]), examiner.predict(noise)
    assert np.mean([one.novelty for one in strange]) > 0.95
    assert 0.3 < np.mean([one.novelty for one in usual]) < 0.7
    assert np.median([one.need for one in strange]) > 2 * np.median([one.need for one in usual])


@pytest.mark.parametrize(
    "method", ["grad-cam", "gradient", "integrated-gradients", "expected-gradients", "edges"]
)
def test_an_explanation_is_the_bare_one(
    examiner: Examiner, subject: Subject, images: torch.Tensor, method: str
) -> None:
    found = examiner.explain(images[3], method)
    references = None
    if found.meta["references"]:
        assert found.meta["references"]["split"] == "validation"
        references = subject.validation.images[found.meta["references"]["positions"]]
    bare = explain(subject.model, images[3:4], method, seed=5, references=references)
    torch.testing.assert_close(found.values, bare.values[0], rtol=1e-4, atol=1e-6)
    assert found.prediction.predicted == int(bare.logits.argmax())
    assert found.digest == map_digest(found.values)
    held = dict(found.meta)  # and where it all comes from
    del held["batch"]
    if held["references"]:
        held["references"] = {key: held["references"][key] for key in ("count", "sha256")}
    assert held == bare.meta
    assert (held["references"] is None) == (method != "expected-gradients")
    assert found.explained == (None if method == "edges" else found.prediction.predicted)
    assert found.signed == bare.meta["signed"] and not found.degenerate


def test_a_contrast_and_a_class_are_explained(
    examiner: Examiner, subject: Subject, images: torch.Tensor
) -> None:
    contrast = Contrast(2, 7)
    found = examiner.explain(images[0], "gradient", contrast)
    bare = explain(subject.model, images[:1], "gradient", target=contrast)
    torch.testing.assert_close(found.values, bare.values[0], rtol=1e-4, atol=1e-6)
    assert found.explained is None and found.target == contrast
    other = examiner.explain(images[0], "gradient", 7)
    assert other.explained == 7
    own = examiner.explain(images[0], "gradient", 2)
    torch.testing.assert_close(own.values - other.values, found.values, rtol=1e-3, atol=1e-5)


@pytest.fixture
def held(examiner: Examiner) -> Iterator[threading.Event]:
    """The model thread is busy until the event is set."""
    begun, go = threading.Event(), threading.Event()

    def wait(items):
        begun.set()
        assert go.wait(20)
        return items

    future = examiner._thread.submit("held", wait, None)
    assert begun.wait(10)
    yield go
    go.set()
    future.result(10)


def test_requests_that_wait_are_explained_together_and_can_be_repeated_to_the_last_bit(
    examiner: Examiner, subject: Subject, images: torch.Tensor, held: threading.Event
) -> None:
    waiting = [examiner.explain_soon(images[n]) for n in range(5)]
    held.set()
    found = [future.result(20) for future in waiting]
    for place, one in enumerate(found):
        assert one.meta["batch"] == {"size": 5, "position": place}
        again = explain(subject.model, images[place].expand(5, -1, -1, -1), "grad-cam")
        assert map_digest(again.values[place]) == one.digest


def test_trials_let_others_have_their_turn(
    examiner: Examiner, images: torch.Tensor, held: threading.Event
) -> None:
    order: list[str] = []
    waiting = []
    for name, badges in (("first", True), ("second", True), ("between", False)):
        future = examiner.explain_soon(images[0], badges=badges)
        future.add_done_callback(lambda _, name=name: order.append(name))
        waiting.append(future)
    held.set()
    assert [future.result(20).meta["batch"]["size"] for future in waiting] == [1, 1, 1]
    assert order == ["first", "second", "between"]


def test_eight_callers_of_mixed_questions_each_get_their_own_answer(
    examiner: Examiner, subject: Subject, images: torch.Tensor
) -> None:
    questions = [
        (n, method, target)
        for n in range(24)
        for method, target in (
            ("grad-cam", None),
            ("grad-cam", n % 10),
            ("gradient", Contrast(1, 2)),
        )
    ]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda q: examiner.explain(images[q[0]], q[1], q[2]), questions))
    for (n, method, target), one in zip(questions, found, strict=True):
        bare = explain(subject.model, images[n : n + 1], method, target=target)
        torch.testing.assert_close(one.values, bare.values[0], rtol=1e-4, atol=1e-6)
        assert one.prediction.digest == image_digest(images[n])
        np.testing.assert_allclose(one.prediction.logits, bare.logits[0], rtol=1e-4, atol=1e-5)


def test_an_explanation_has_all_signals_where_they_are_known(subject: Subject) -> None:
    assert subject.test_split is not None
    image = subject.test_split.images[99]
    with Examiner(subject) as examiner:
        glanced = examiner.explain(image).prediction
        assert "disagreement" not in glanced.signals
        (full,) = examiner.predict(image[None])
        assert examiner.explain(image).prediction == full
        assert glanced.signals == {k: v for k, v in full.signals.items() if k != "disagreement"}


@pytest.mark.parametrize(
    ("method", "target", "sentence"),
    [
        ("nonsense", None, "choose one of grad-cam"),
        ("attention-rollout", None, "attention"),
        ("lime", None, "not offered here"),
        ("grad-cam", 10, "no class 10"),
        ("grad-cam", -1, "no class -1"),
        ("gradient", Contrast(0, 12), "no class 12"),
        ("edges", 3, "looks at no class"),
    ],
)
def test_a_question_without_an_answer_is_refused(
    examiner: Examiner, images: torch.Tensor, method: str, target: object, sentence: str
) -> None:
    with pytest.raises(ReviewError, match=sentence):
        examiner.explain(images[0], method, target)


@pytest.mark.parametrize(
    "image", [torch.zeros(1, 28, 28), torch.zeros(1, 27, 28, dtype=torch.uint8)]
)
def test_what_is_no_such_image_is_refused(examiner: Examiner, image: torch.Tensor) -> None:
    with pytest.raises(ReviewError, match="expected uint8"):
        examiner.explain(image)
    with pytest.raises(ReviewError, match="expected uint8"):
        examiner.predict(image[None])


def test_methods_that_cannot_explain_are_named(examiner: Examiner, subject: Subject) -> None:
    assert examiner.methods == subject.methods[:-1]
    assert "attention" in examiner.refused["attention-rollout"]
    with pytest.raises(ReviewError, match="No chosen method"):
        Examiner(replace(subject, methods=("attention-rollout",)))
    with pytest.raises(ReviewError, match="no explanation method 'nonsense'"):
        Examiner(replace(subject, methods=("nonsense",)))


def test_nothing_is_predicted_of_nothing(examiner: Examiner) -> None:
    assert examiner.predict(torch.zeros(0, 1, 28, 28, dtype=torch.uint8)) == []


def test_the_scale_is_a_percentile_of_validation_maps(examiner: Examiner, subject: Subject) -> None:
    positions = np.linspace(0, len(subject.validation) - 1, 32).round().astype(int)
    maps = explain(subject.model, subject.validation.images[positions], "gradient").values.abs()
    strong = maps[maps > 0].numpy().astype(np.float64)
    assert examiner.scale("gradient") == pytest.approx(np.quantile(strong, 0.99), rel=1e-4)
    assert examiner.scale("gradient") == examiner.scale("gradient")
    with pytest.raises(ReviewError):
        examiner.scale("nonsense")


def test_evidence_is_plain_json_with_all_that_the_record_needs(
    examiner: Examiner, subject: Subject, images: torch.Tensor
) -> None:
    found = examiner.explain(images[1], "integrated-gradients", badges=True)
    text = json.dumps(examiner.evidence(found), allow_nan=False)
    content = json.loads(text)
    assert content["image"] == image_digest(images[1])
    assert content["model"] == {
        "model": "paper-cnn-same",
        "weights": weights_digest(subject.model),
        "round": 7,
        "privacy": dict(subject.privacy or {}),
        "dataset": {"name": "digits", "checksum": "0" * 64},
        "preprocessing": "1: bytes / 255, no other step",
        "temperature": examiner.temperature.value,
    }
    assert content["probabilities"] == list(found.prediction.probabilities)
    assert content["logits"] == list(found.prediction.logits)
    assert content["threshold"] is None and content["rule"] == "largest logit"
    told = content["explanation"]
    assert told["map"] == found.digest and told["target"] == found.prediction.predicted
    assert told["baseline"] == "black" and told["seed"] is None and told["version"] >= 1
    assert {badge["name"] for badge in told["badges"]} >= {"stability", "completeness"}
    contrast = examiner.evidence(examiner.explain(images[1], target=Contrast(4, 9)))
    assert contrast["explanation"]["target"] == {"for": 4, "against": 9}
    assert "explanation" not in examiner.evidence(found.prediction)
    case = found.prediction.case("test/1")
    assert case.confidence == found.prediction.confidence and case.source == "test/1"


def test_the_network_is_left_as_it_was(subject: Subject, images: torch.Tensor) -> None:
    model = subject.model
    with Examiner(subject) as examiner:
        for method in examiner.methods:
            examiner.explain(images[0], method, badges=True)
    assert weights_digest(model) == subject.digest
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with pytest.raises(ReviewError, match="closed"):
        examiner.predict(images[:1])


def test_what_was_worked_out_is_kept_and_found_again(
    subject: Subject, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "review"
    with Examiner(subject, folder) as examiner:
        first = examiner.predict(images[:20])
    (path,) = folder.iterdir()
    monkeypatch.setattr(fitted, "fit", lambda *_: pytest.fail("was worked out again"))
    with Examiner(subject, folder) as examiner:
        assert examiner.predict(images[:20]) == first
    assert path.name == f"examiner-{subject.digest[:16]}.json"


def _rewritten(**changes: object):
    def rewrite(path: Path) -> None:
        content = json.loads(path.read_text())
        for name, value in changes.items():
            place, keys = content, name.split("__")
            for key in keys[:-1]:
                place = place[key]
            place[keys[-1]] = value
        path.write_text(json.dumps(content))

    return rewrite


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-50]),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
        _rewritten(format=0),
        _rewritten(key="of another network"),
        _rewritten(temperature=None),
        _rewritten(temperature__value=-1.0),
        _rewritten(temperature__value="hot"),
        _rewritten(temperature__more=1),
        _rewritten(figures={}),
        _rewritten(novelty__references="*"),
        _rewritten(novelty__references=""),
        _rewritten(novelty__features=7),
        _rewritten(novelty__features=0),
        _rewritten(novelty__distances=base64.b64encode(np.array([1, np.nan])).decode()),
        _rewritten(novelty__distances=base64.b64encode(np.array([2.0, 1.0])).decode()),
        _rewritten(likeness=3),
    ],
)
def test_a_kept_file_that_is_damaged_is_worked_out_again(
    subject: Subject, images: torch.Tensor, kept: Path, tmp_path: Path, damage
) -> None:
    path = tmp_path / kept.name
    path.write_bytes(kept.read_bytes())
    damage(path)
    with Examiner(subject, tmp_path) as examiner:
        assert examiner.predict(images[:3]) == _expected(subject, images, kept)
    assert json.loads(path.read_text()) == json.loads(kept.read_text())


_known: dict[Path, list] = {}


def _expected(subject: Subject, images: torch.Tensor, kept: Path) -> list:
    if kept not in _known:
        with Examiner(subject, kept.parent) as examiner:
            _known[kept] = examiner.predict(images[:3])
    return _known[kept]


@pytest.fixture(scope="module")
def kept(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    Examiner(subject, folder).close()
    (path,) = folder.iterdir()
    return path


def test_a_folder_that_cannot_be_written_does_no_harm(subject: Subject, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with Examiner(subject, blocked / "inside") as examiner:
        assert examiner.temperature.value > 0


def drawn(model: nn.Module) -> nn.Module:
    """Return ``model`` with weights of a generator's own."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.05, generator=generator)
    return model


def test_a_network_without_a_convolution_has_no_disagreement(
    subject: Subject, images: torch.Tensor
) -> None:
    model = drawn(nn.Sequential(nn.Flatten(), nn.Linear(784, 12), nn.ReLU(), nn.Linear(12, 10)))
    flat = replace(
        subject, model=model, digest=weights_digest(model), methods=("grad-cam", "gradient")
    )
    with Examiner(flat) as examiner:
        assert examiner.methods == ("gradient",)
        (one,) = examiner.predict(images[:1])
        assert "disagreement" not in one.signals
        assert examiner.explain(images[0], badges=True).badges


def test_a_network_whose_convolution_runs_twice_has_no_disagreement(
    subject: Subject, images: torch.Tensor
) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same = nn.Conv2d(1, 1, 3, padding=1)
            self.head = nn.Linear(784, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(self.same(self.same(images)).flatten(1))

    model = drawn(Twice())
    twice = replace(subject, model=model, digest=weights_digest(model), methods=("gradient",))
    with Examiner(twice) as examiner:
        assert "disagreement" not in examiner.predict(images[:1])[0].signals


@pytest.mark.parametrize("name", MODELS)
def test_every_network_of_the_registry_is_examined(
    subject: Subject, images: torch.Tensor, name: str
) -> None:
    model = build_model(name, in_channels=1, classes=10, image_size=28, seed=2).eval()
    few = subject.validation.subset(torch.arange(12))
    own = replace(
        subject,
        network=name,
        model=model,
        digest=weights_digest(model),
        validation=few,
        methods=("grad-cam", "gradient", "attention-rollout"),
    )
    with Examiner(own) as examiner:
        assert "gradient" in examiner.methods
        (one,) = examiner.predict(images[:1])
        assert sum(one.probabilities) == pytest.approx(1)
        for method in examiner.methods:
            found = examiner.explain(images[0], method, badges=True)
            assert found.prediction == one
            json.dumps(examiner.evidence(found), allow_nan=False)


def test_a_network_whose_answers_are_no_numbers_is_refused(
    subject: Subject, images: torch.Tensor
) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(784, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(images.flatten(1)) * float("inf")

    model = Broken()
    broken = replace(subject, model=model, digest=weights_digest(model), methods=("gradient",))
    with pytest.raises(FedlensError, match="NaN or infinite"):
        Examiner(broken)
