"""What the pages say, against sentences written by hand."""

import math

import pytest
import torch

from fedlens.review.contract import Choice, Reason
from fedlens.review.model.need import beyond_usual
from fedlens.review.web.pages import words
from fedlens.review.web.pages.asked import Asked, asked_of, map_address
from fedlens.review.web.pages.charts import themed

NAMES = ("Coat", "Shirt", "Bag")


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("confidence", "said"),
    [
        (
            0.999,
            "Over 99 %, very sure. Of 100 answers as sure as this one, about 99 are right and 1",
        ),
        (0.8, "80 %, fairly sure. Of 100 answers as sure as this one, about 80 are right and 20"),
        (0.62, "62 %, unsure. Of 100 answers as sure as this one, about 62 are right and 38"),
        (0.31, "31 %, very unsure. Of 100 answers as sure as this one, about 31 are right and 69"),
    ],
)
def test_confidence_is_a_frequency_and_never_certain(confidence: float, said: str):
    assert plain(words.sureness(confidence)) == f"{said} wrong."


def test_no_chance_is_said_to_be_nothing_or_all():
    shares = (0.0, 0.0009, 0.0012, 0.02, 0.994, 0.996, 1.0)
    assert [plain(words.chance(share)) for share in shares] == [
        "under 0.1 %",
        "under 0.1 %",
        "0.1 %",
        "2 %",
        "99 %",
        "over 99 %",
        "over 99 %",
    ]


def test_known_errors_are_counted_from_the_confusion():
    confusion = [[8, 2, 0], [1, 6, 0], [0, 0, 0]]
    assert plain(words.known_errors(1, confusion, NAMES)) == (
        "On the test images, 25 % of its 8 answers Shirt were wrong; most often it was Coat (2). "
        "It missed 14 % of the 7 that are Shirt."
    )
    assert words.known_errors(2, confusion, NAMES) == (
        "On the test images it never said Bag, so that nothing is known of this answer."
    )
    assert plain(words.known_errors(0, [[3, 0, 0], [0, 1, 0], [0, 0, 1]], NAMES)) == (
        "On the test images it said Coat three times and was never wrong. "
        "It missed 0 % of the 3 that are Coat."
    )


def test_agreement_is_beside_what_chance_gives():
    said = plain(words.agreement_words(0.3, 0.1))
    assert said == (
        "The two methods agree in part: of the pixels that either counts among its top 10 %, 30 % "
        "are in both (by chance 5 %)."
    )
    assert "disagree" in words.agreement_words(0.1, 0.1)
    assert "cannot be compared" in words.agreement_words(math.nan, 0.1)


def test_signals_are_named_from_a_half_the_strongest_first():
    signals = {"uncertainty": 0.5, "novelty": 0.9, "weak-class": 0.49, "unheard-of": 1.0}
    assert words.why_needy(signals) == (
        "the image is unlike those that it knows; the model is unsure"
    )
    assert words.why_needy({}) == "–"


def test_decisions_in_words():
    said = words.decision_words
    assert said(Choice.ACCEPT, 0, 0, None, NAMES) == "accepted as Coat"
    assert said(Choice.OVERRIDE, 0, 1, Reason.WRONG_CLASS, NAMES) == "overridden: Shirt, not Coat"
    assert said(Choice.OVERRIDE, 0, None, Reason.NOT_OF_ANY_CLASS, NAMES) == (
        "overridden: none of the classes, not Coat"
    )
    assert said(Choice.DEFER, 0, None, None, NAMES) == "deferred to somebody else"


def test_a_faint_map_is_said_to_be_faint():
    assert words.faint_words(0.5) == ""
    assert "12\u00a0% of the scale" in words.faint_words(0.12)


def test_the_novelty_of_a_signal_is_the_one_that_it_was_made_of():
    for novelty in (0.9, 0.93, 0.987, 1.0):
        assert words.percentile_of(beyond_usual(novelty)) == pytest.approx(novelty)
    assert words.novelty_words(words.percentile_of(beyond_usual(0.5))) == ""


def test_novelty_is_named_only_where_it_is_rare():
    assert words.novelty_words(0.94) == ""
    assert "97 % of the validation images look more usual" in plain(words.novelty_words(0.97))
    assert "99.9 %" in plain(words.novelty_words(1.0))


def test_what_is_asked_for_is_what_there_is():
    methods = ("grad-cam", "lime")
    assert asked_of({}, methods, 0, 3) == Asked("grad-cam", "lime", None, 90)
    query = {"method": "lime", "second": "lime", "against": "2", "opacity": "44"}
    assert asked_of(query, methods, 0, 3) == Asked("lime", "grad-cam", 2, 40)
    assert asked_of({"against": "0", "opacity": "250"}, methods, 0, 3).against is None
    assert asked_of({"opacity": "250"}, methods, 0, 3).opacity == 100
    assert asked_of({}, ("lime",), 0, 3) == Asked("lime", "lime", None, 90)
    assert map_address(7, "grad-cam++", 2) == "/cases/7/map.png?method=grad-cam%2B%2B&against=2"


def test_a_chart_keeps_its_drawing_and_takes_two_looks():
    found = themed('<?xml version="1.0"?><svg width="4"><path style="fill: #1c2126"/></svg>')
    assert found.startswith('<svg width="4"><style>')
    assert 'style="fill: var(--c0)"' in found
    assert "--c0:#1c2126;" in found
    assert "--c0:#e6e9ec;" in found


def test_maps_are_compared_only_where_the_network_sees():
    from fedlens.review.web.pages.case_view import _seen_pixels

    blind = torch.tensor([[False, True], [False, False]])
    values = torch.tensor([[1.0, 9.0], [2.0, 3.0]])
    assert _seen_pixels(values, blind).tolist() == [[[1.0, 2.0, 3.0]]]
    assert _seen_pixels(values, None).tolist() == [[[1.0, 9.0, 2.0, 3.0]]]
