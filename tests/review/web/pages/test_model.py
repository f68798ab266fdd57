"""The page of the model: what it says is what was measured."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedlens.report.model_card import CardSection, ModelCard
from fedlens.report.tables import Table
from fedlens.review.contract import Role
from fedlens.review.model.measuring import calibration_on_test
from fedlens.review.web.console import Console
from fedlens.review.web.pages.model import class_table, method_words, privacy_words


def test_it_says_what_was_measured(auditor, console: Console, text_of):
    words = text_of(auditor.get("/model"))
    test = console.subject.test
    assert f"{100 * test.accuracy:.1f} % right, of {test.examples:,} test images" in words
    assert console.subject.digest in words
    assert "trained without differential privacy" in words
    assert "Model card as Markdown" not in words
    auditor.get("/model/card.md", status=404)


def test_the_table_of_classes_is_the_confusion_counted_anew(console: Console):
    confusion = console.subject.test.confusion
    for place, row in enumerate(class_table(console.subject).rows):
        named = confusion[:, place].sum()
        right = confusion[place, place]
        assert row[1] == f"{right / named if named else 0:.3f}"
        assert row[2] == f"{right / confusion[place].sum():.3f}"
        others = confusion[place].copy()
        others[place] = 0
        expected = f"digit {others.argmax()} ({others.max():,})" if others.any() else "–"
        assert row[5] == expected


def test_calibration_is_that_of_the_test_images(console: Console):
    split = console.subject.test_split
    found = calibration_on_test(console.examiner)
    with torch.no_grad():
        logits = console.subject.model(split.images.float() / 255).double()
    sure, said = (logits / console.examiner.temperature.value).softmax(1).max(1)
    right = (said == split.labels).double()
    edges = np.linspace(0, 1, 16)
    gaps = []
    for low, high in pairwise(edges):
        inside = ((sure > low) & (sure <= high)).numpy()
        if inside.any():
            gaps.append(
                inside.sum() * abs(sure.numpy()[inside].mean() - right.numpy()[inside].mean())
            )
    assert len(split) <= 1000
    assert found.after.error == pytest.approx(np.sum(gaps) / len(split), abs=1e-6)


def test_a_card_is_shown_and_sent(console: Console, client_of, sign_in, people, text_of):
    table = Table("Groups & more", ("Group", "F1"), [("ward <7>", "0.91")])
    card = ModelCard(
        "Digits",
        [CardSection("Intended use", ["To try <this>."]), CardSection("Factors", [], [table])],
    )
    client = client_of(replace(console, card=card))
    sign_in(client, Role.REVIEWER)
    page = client.get("/model").text
    assert "To try &lt;this&gt;." in page
    assert "ward &lt;7&gt;" in page
    answer = client.get("/model/card.md")
    assert answer.headers["content-disposition"].endswith('"model-card.md"')
    assert answer.text == card.markdown()


def test_privacy_names_unit_delta_and_relation():
    spent = {"epsilon": 2.5, "delta": 1e-5, "unit": "client", "relation": "add or remove one"}
    assert privacy_words(SimpleNamespace(privacy=spent)) == (
        "Epsilon 2.5 at delta 1e-05; the unit is one client, neighbouring sets differ by add or "
        "remove one."
    )


def test_methods_say_what_their_maps_are():
    assert method_words("grad-cam") == "evidence for"
    assert method_words("integrated-gradients") == (
        "evidence for and against; sums to the change in score"
    )
    assert "drawn at random" in method_words("smoothgrad")
    assert "about the image, not a class" in method_words("edges")
