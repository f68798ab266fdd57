"""Nearest training images: as scikit-learn finds them, and only where policy allows it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from fedlens.review.contract import NotAllowedError, ReviewError
from fedlens.review.model import Examiner, Subject
from fedlens.review.model.neighbours import Neighbours
from fedlens.training.novelty import features_of


def test_they_are_those_that_another_library_finds(
    examiner: Examiner, subject: Subject, images: torch.Tensor
) -> None:
    assert subject.train is not None
    known, asked = (
        torch.nn.functional.normalize(features_of(subject.model, batch)[0], dim=1).double().numpy()
        for batch in (subject.train.images, images[:6])
    )
    distances, places = NearestNeighbors(n_neighbors=3).fit(known).kneighbors(asked)
    neighbours = Neighbours(examiner, allowed=True)
    for row in range(6):
        found = neighbours.nearest(images[row])
        np.testing.assert_allclose([one.distance for one in found], distances[row], atol=1e-3)
        assert [one.position for one in found] == places[row].tolist()
        assert [one.label for one in found] == subject.train.labels[places[row]].tolist()


def test_a_training_image_is_its_own_nearest(examiner: Examiner, subject: Subject) -> None:
    assert subject.train is not None
    (found,) = Neighbours(examiner, allowed=True).nearest(subject.train.images[17], 1)
    assert found.position == 17 and found.distance < 1e-3


def test_no_training_image_is_shown_unless_policy_allows_it(
    examiner: Examiner, images: torch.Tensor
) -> None:
    with pytest.raises(NotAllowedError, match="policy"):
        Neighbours(examiner).nearest(images[0])


def test_training_images_that_are_elsewhere_cannot_be_shown(
    subject: Subject, images: torch.Tensor
) -> None:
    with (
        Examiner(replace(subject, train=None)) as examiner,
        pytest.raises(ReviewError, match="not here"),
    ):
        Neighbours(examiner, allowed=True).nearest(images[0])
