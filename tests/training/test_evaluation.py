"""Evaluation figures against hand-counted examples and definitions."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from fedlens.training import evaluate_logits, predict
from fedlens.training.evaluation import Evaluation
from fedlens.training.losses import default_loss
from fedlens.training.prediction import CHUNK, chunks


def sure(predicted: list[int], classes: int) -> torch.Tensor:
    return 10 * torch.nn.functional.one_hot(torch.tensor(predicted), classes).float()


def test_a_case_counted_by_hand() -> None:
    truth = torch.tensor([0, 0, 0, 1, 1, 2])
    figures = evaluate_logits(sure([0, 0, 1, 1, 0, 2], 4), truth)
    assert figures.confusion is not None
    assert figures.confusion.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert figures.accuracy == 4 / 6
    assert figures.precision.tolist() == [2 / 3, 1 / 2, 1, 0]
    assert figures.recall.tolist() == [2 / 3, 1 / 2, 1, 0]
    # F1 of class 3, which has no example, does not count
    assert math.isclose(figures.macro_f1, (2 / 3 + 1 / 2 + 1) / 3)
    assert figures.support.tolist() == [3, 2, 1, 0]
    # a right answer costs log(1 + 3 e^-10), a wrong one 10 more
    right = math.log1p(3 * math.exp(-10))
    assert math.isclose(figures.loss, right + 20 / 6, rel_tol=1e-6)
    assert math.isclose(figures.class_loss[0], right + 10 / 3, rel_tol=1e-6)
    assert math.isnan(figures.class_loss[3])


def test_multilabel_auc_is_the_share_of_pairs_in_order() -> None:
    logits = torch.tensor([[2.0, -1.0], [1.0, 3.0], [-1.0, 0.5], [-2.0, -3.0]])
    truth = torch.tensor([[1, 1], [0, 1], [1, 1], [0, 1]], dtype=torch.uint8)
    figures = evaluate_logits(logits, truth)
    assert figures.auc is not None
    # positives 2, -1 against negatives 1, -2: pairs in order 2>1, 2>-2, -1>-2 of four
    assert figures.auc[0] == 0.75
    assert math.isnan(figures.auc[1])  # a label that is always there
    assert figures.accuracy == 4 / 8  # right: rows 0, 3 of the first, rows 1, 2 of the second
    assert figures.confusion is None


def test_json_round_trip_keeps_every_figure() -> None:
    figures = evaluate_logits(sure([0, 1, 1], 3), torch.tensor([0, 1, 0]))
    text = json.dumps(figures.to_json(), allow_nan=False)
    back = Evaluation.from_json(json.loads(text))
    for key, value in figures.__dict__.items():
        np.testing.assert_equal(getattr(back, key), value)


def test_the_default_loss_is_one_value_an_example() -> None:
    logits = torch.zeros(3, 4)
    losses = default_loss(logits, torch.tensor([0, 1, 3]))
    assert torch.allclose(losses, torch.full((3,), math.log(4)))
    rows = default_loss(logits, torch.tensor([[0, 1, 0, 1]] * 3, dtype=torch.uint8))
    assert torch.allclose(rows, torch.full((3,), math.log(2)))


@pytest.mark.parametrize("count", [1, CHUNK, CHUNK + 1, 3 * CHUNK - 1])
def test_chunks_cover_everything_once(count: int) -> None:
    covered = [n for part in chunks(count) for n in range(part.start, part.stop)]
    assert covered == list(range(count))


def test_predict_scales_pixels_and_puts_flags_back() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 2))
    model[2].eval()
    images = torch.randint(0, 256, (7, 1, 2, 2), dtype=torch.uint8)
    expected = model[2](images.flatten(1).float() / 255)
    outputs = predict(model, images)
    torch.testing.assert_close(outputs, expected)
    assert model.training
    assert not model[2].training
    assert not outputs.is_inference()
