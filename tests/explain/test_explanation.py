"""The record of a decision, confidences, degenerate maps, contrasts."""

import math

import pytest
import torch

from fedlens.errors import ExplanationError
from fedlens.explain.explanation import Explanation, degenerate_maps
from fedlens.explain.target import Contrast


def explanation(target=None):
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]])
    values = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
    return Explanation(
        values=values,
        logits=logits,
        target=torch.tensor([1, 1]) if target is None else target,
        degenerate=degenerate_maps(values),
        images=torch.arange(4, dtype=torch.uint8).reshape(2, 1, 1, 2),
        meta={"layer": "conv3"},
    )


def test_predicted_class_and_confidence_by_hand():
    result = explanation()
    assert result.predicted().tolist() == [1, 0]
    assert result.confidence().tolist() == pytest.approx([0.75, 0.8])  # 3 / (1 + 3), 4 / (4 + 1)
    assert result.confidence(multilabel=True).tolist() == pytest.approx([0.75, 0.8])  # 3/(1+3)
    logits = torch.tensor([[2.0, 2.0]])
    double = Explanation(logits[:, None], logits, torch.tensor([0]), logits[0] > 9, logits, {})
    assert double.confidence().tolist() == pytest.approx([0.5])
    assert double.confidence(multilabel=True).tolist() == pytest.approx([1 / (1 + math.exp(-2))])


def test_the_record_has_the_five_parts():
    record = explanation().record(0, ["Shirt", "Coat"])
    assert record.image.tolist() == [[[0, 1]]] and record.image.dtype == torch.uint8
    assert record.predicted_class == "Coat"
    assert record.confidence == pytest.approx(0.75)
    assert record.heatmap.tolist() == [[1.0, 0.0]]
    assert record.layer == "conv3"
    assert record.explained == "Coat" and record.degenerate is False


def test_the_record_says_when_the_map_is_not_of_the_predicted_class():
    record = explanation().record(1, ["Shirt", "Coat"])
    assert (record.predicted_class, record.explained) == ("Shirt", "Coat")
    assert record.degenerate is True
    assert record.confidence == pytest.approx(0.8)
    record = explanation(Contrast(0, 1)).record(1, ["Shirt", "Coat"])
    assert record.explained == "Shirt against Coat"


def test_the_record_without_names_gives_numbers():
    record = explanation().record(0)
    assert (record.predicted_class, record.explained) == ("1", "1")


def test_the_record_of_a_multilabel_network_has_the_label_probability():
    result = explanation()
    assert result.record(1, multilabel=True).confidence == pytest.approx(0.8)
    shifted = Explanation(
        result.values, result.logits + 1, result.target, result.degenerate, result.images, {}
    )
    shifted.meta["layer"] = None
    odds = 4 * math.e
    assert shifted.record(1, multilabel=True).confidence == pytest.approx(odds / (1 + odds))
    assert shifted.record(1).confidence == pytest.approx(0.8)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_record_of_no_image(index):
    with pytest.raises(ExplanationError, match=f"no image {index}: the explanation is of 2 images"):
        explanation().record(index)


def test_a_record_with_too_few_names():
    with pytest.raises(ExplanationError, match="Got 1 class names for a network with 2 classes"):
        explanation().record(0, ["Shirt"])


def test_degenerate_maps():
    values = torch.zeros(6, 2, 2)
    values[1, 0, 1] = 1e-30
    values[2, 1, 1] = -1e-30
    values[3, 0, 0] = float("nan")
    values[4, 1, 0] = float("inf")
    values[5, 1, 0] = float("-inf")
    assert degenerate_maps(values).tolist() == [True, False, False, True, True, True]
    assert degenerate_maps(torch.zeros(0, 2, 2)).shape == (0,)


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ((2, 2), "two different classes, got class 2 twice"),
        ((-1, 2), "two class numbers from 0, got -1"),
        ((0, 1.5), "two class numbers from 0, got 1.5"),
        ((True, 0), "two class numbers from 0, got True"),
    ],
)
def test_a_contrast_that_is_none(classes, sentence):
    with pytest.raises(ExplanationError, match=sentence):
        Contrast(*classes)
