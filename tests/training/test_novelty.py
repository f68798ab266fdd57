"""How unusual features are: angles worked out by hand, and that the share is a true one."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import nn

from fedlens.errors import ModelError
from fedlens.models import MODELS, build_model
from fedlens.training.novelty import (
    MOST_REFERENCES,
    captured_features,
    features_of,
    fit_novelty,
    head_of,
)
from fedlens.training.prediction import predict


def at(*degrees: float) -> torch.Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1)


def test_distances_are_chords_to_the_nearest_other_reference() -> None:
    found = fit_novelty(at(0, 10, 40))
    chords = [2 * math.sin(math.radians(angle) / 2) for angle in (10, 10, 30)]
    np.testing.assert_allclose(found.distances, chords, atol=1e-6)


def test_the_score_is_the_share_that_is_less_unusual() -> None:
    found = fit_novelty(at(0, 10, 40))
    # 41 degrees is 1 from a reference, 60 is 20, and 90 is 50
    assert found.score(at(41, 60, 90)).tolist() == [0, 2 / 3, 1]


def test_length_does_not_count() -> None:
    found = fit_novelty(at(0, 10, 40))
    assert found.score(7.5 * at(60)).tolist() == found.score(at(60)).tolist()


def test_of_the_same_kind_every_share_is_as_likely() -> None:
    generator = torch.Generator().manual_seed(0)
    everything = torch.randn(1200, 3, generator=generator)
    scores = fit_novelty(everything[:600]).score(everything[600:])
    assert kstest(scores, "uniform").statistic < 0.08
    other = torch.tensor([10.0, 0, 0]) + 0.1 * torch.randn(500, 3, generator=generator)
    assert (fit_novelty(other).score(-other) == 1).all()


def test_references_are_taken_evenly_over_many() -> None:
    features = torch.randn(MOST_REFERENCES + 501, 2, generator=torch.Generator().manual_seed(1))
    found = fit_novelty(features)
    assert len(found.references) == len(found.distances) == MOST_REFERENCES
    ends = features[[0, -1]] / features[[0, -1]].norm(dim=1, keepdim=True)
    torch.testing.assert_close(found.references[[0, -1]], ends)


@pytest.mark.parametrize(
    "features", [torch.zeros(1, 3), torch.tensor([[0.0, float("inf")]] * 3), torch.zeros(4)]
)
def test_what_cannot_be_fitted_is_refused(features: torch.Tensor) -> None:
    with pytest.raises(ModelError):
        fit_novelty(features)


@pytest.mark.parametrize("name", MODELS)
def test_features_of_every_network_lead_to_its_logits(name: str) -> None:
    model = build_model(name, in_channels=1, classes=4, image_size=28, seed=1)
    images = torch.randint(
        0, 256, (5, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    features, logits = features_of(model, images)
    torch.testing.assert_close(logits, predict(model, images))
    head = head_of(model)
    with torch.no_grad():
        torch.testing.assert_close(head(features), logits)
    assert not head._forward_pre_hooks
    scores = fit_novelty(features).score(features)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_network_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(ModelError, match="linear layer"):
        head_of(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()))


def test_a_head_that_does_not_run_once_an_image_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(0, 2), nn.Linear(4, 2))  # once a row of pixels
    with pytest.raises(ModelError, match="once an image"):
        features_of(model, torch.zeros(2, 1, 3, 4, dtype=torch.uint8))


def test_no_more_features_are_kept_than_asked_for() -> None:
    head = nn.Linear(3, 2)
    with captured_features(head, most=2) as kept:
        for _ in range(5):
            head(torch.zeros(4, 3))
    assert [len(part) for part in kept] == [4, 4]
