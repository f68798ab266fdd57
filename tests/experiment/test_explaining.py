"""Questions read from words, and many images explained some at a time."""

import numpy as np
import pytest
import torch
from torch import nn

from fedlens.data import Split
from fedlens.errors import ExplanationError
from fedlens.experiment.explaining import Question, explain_images, methods_in_words
from fedlens.experiment.explaining import reference_positions as positions
from fedlens.experiment.modes import Event
from fedlens.experiment.questions import chosen_positions, parameters_for, parse_contrast
from fedlens.explain import METHODS, Contrast, explain
from fedlens.models import build_model

GARMENTS = ["T-shirt/top", "Trouser", "Shirt", "a:b", "a", "b", "b:c", "c"]


def test_selections_mean_what_slices_mean() -> None:
    assert chosen_positions(["3", "0:8:3", ":2", "8:", " 9 "], 10, "test") == [
        3, 0, 3, 6, 0, 1, 8, 9, 9,
    ]  # fmt: skip
    assert chosen_positions(["8:100"], 10, "test") == [8, 9]
    with pytest.raises(ExplanationError, match="10:12 holds no image"):
        chosen_positions(["0", "10:12"], 10, "test")


def test_a_contrast_is_found_whatever_the_names_hold() -> None:
    assert parse_contrast("Shirt:T-shirt/top", GARMENTS) == Contrast(2, 0)
    assert parse_contrast("Shirt : T-shirt/top", GARMENTS) == Contrast(2, 0)
    assert parse_contrast("a:b:Shirt", GARMENTS) == Contrast(3, 2)
    assert parse_contrast("a:b", GARMENTS) == Contrast(4, 5)
    with pytest.raises(ExplanationError, match=r"several ways.*T-shirt/top, Trouser"):
        parse_contrast("a:b:c", GARMENTS)  # a against b:c, or a:b against c
    with pytest.raises(ExplanationError, match="not two classes"):
        parse_contrast("Shirt:", GARMENTS)


def test_parameters_go_to_the_methods_that_take_them() -> None:
    given = {"samples": "20", "noise": "1", "baseline": "mean"}
    methods = ["smoothgrad", "kernel-shap", "edges"]
    assert parameters_for("smoothgrad", given, methods) == {"samples": 20, "noise": 1.0}
    assert parameters_for("kernel-shap", given, methods) == {"samples": 20, "baseline": "mean"}
    assert parameters_for("edges", given, methods) == {}
    # what no method takes is refused, also where `explain` has an argument of that name
    for name in ("other", "batch_size", "model", "layer", "seed"):
        with pytest.raises(ExplanationError, match=f"'edges' has no parameter '{name}'"):
            parameters_for("edges", {name: "1"}, methods)


def test_references_depend_on_the_seed_alone() -> None:
    chosen = positions(1000, 3)
    np.testing.assert_array_equal(chosen, positions(1000, 3))
    assert (np.diff(chosen) > 0).all() and len(chosen) == 100 and chosen.max() < 1000
    assert not np.array_equal(chosen, positions(1000, 4))
    assert positions(7, 3).tolist() == [0, 1, 2, 3, 4, 5, 6]


@pytest.fixture(scope="module")
def split() -> Split:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (70, 1, 14, 14), generator=draws, dtype=torch.uint8)
    return Split(images, torch.arange(70) % 3)


@pytest.fixture(scope="module")
def hybrid() -> nn.Module:
    return build_model("hybrid", in_channels=1, classes=3, image_size=14).eval()


def test_batches_change_nothing_and_move_the_bar(hybrid: nn.Module, split: Split) -> None:
    seen: list[Event] = []
    methods = ["attention-relevance", "attention-rollout", "smoothgrad"]
    question = Question(methods, target=Contrast(0, 2), seed=4, parameters={"samples": "2"})
    answers = explain_images(hybrid, split.images, question, split, watch=seen.append)
    assert list(answers.explanations) == methods and answers.refused == {}
    whole = explain(
        hybrid, split.images, "smoothgrad", target=Contrast(0, 2), seed=4, batch_size=70, samples=2
    )
    found = answers.explanations["smoothgrad"]
    torch.testing.assert_close(found.values, whole.values)
    torch.testing.assert_close(found.logits, whole.logits)
    assert found.target == Contrast(0, 2) and len(found) == 70
    assert answers.explanations["attention-rollout"].target is None
    done = [event.done for event in seen]
    assert done == sorted(done) and done[-1] == seen[-1].total == 210
    assert [event.message for event in seen if event.message] == [
        f"{name}: 70 images" for name in methods
    ]


def test_a_baseline_of_the_mean_is_that_of_the_references(hybrid: nn.Module, split: Split) -> None:
    question = Question(["occlusion"], parameters={"baseline": "mean", "size": "7", "stride": "7"})
    found = explain_images(hybrid, split.images[:2], question, split).explanations["occlusion"]
    assert found.meta["references"]["positions"] == list(range(70))
    expected = explain(
        hybrid, split.images[:2], "occlusion", references=split.images,
        baseline="mean", size=7, stride=7,
    )  # fmt: skip
    torch.testing.assert_close(found.values, expected.values)


def test_a_method_that_cannot_is_refused_by_name(split: Split) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(196, 3))
    question = Question(["grad-cam", "gradient", "attention-rollout"])
    answers = explain_images(flat, split.images[:2], question, split, strict=False)
    assert list(answers.explanations) == ["gradient"]
    assert "no named convolution" in answers.refused["grad-cam"]
    assert "attention" in answers.refused["attention-rollout"]
    with pytest.raises(ExplanationError, match="no named convolution"):
        explain_images(flat, split.images[:2], question, split)


def test_every_method_has_one_plain_sentence() -> None:
    rows = methods_in_words()
    assert [name for name, _, _ in rows] == list(METHODS)
    for _, sentence, _ in rows:
        assert sentence.endswith(".") and ":func:" not in sentence and "\n" not in sentence
