"""The subject refuses what does not fit together, and its digests are what they say."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fedlens.data import Split
from fedlens.review.contract import ReviewError
from fedlens.review.model import Subject, image_digest, map_digest, weights_digest


def test_the_digest_of_weights_is_over_names_kinds_and_bytes() -> None:
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0]]))
        model.bias.copy_(torch.tensor([0.5]))
    expected = hashlib.sha256()
    for name, values in (("bias", [0.5]), ("weight", [[1.0, -2.0]])):
        array = np.array(values, dtype="<f4")
        expected.update(f"{name}\0torch.float32\0{array.shape}\0".encode())
        expected.update(array.tobytes())
    assert weights_digest(model) == expected.hexdigest()


def test_one_bit_of_one_weight_or_buffer_changes_the_digest() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    first = weights_digest(model)
    assert weights_digest(model) == first
    with torch.no_grad():
        weight = model[0].weight.view(-1)[3]
        weight.copy_(torch.nextafter(weight, torch.tensor(9.0)))
    second = weights_digest(model)
    model[1].running_mean[1] += 1
    assert len({first, second, weights_digest(model)}) == 3


def test_digests_of_images_and_maps_are_of_their_rows() -> None:
    image = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 4)
    assert image_digest(image) == hashlib.sha256(bytes(range(12))).hexdigest()
    turned = image.transpose(1, 2)  # another image over the same memory
    rows = bytes([0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])
    assert image_digest(turned) == hashlib.sha256(rows).hexdigest()
    values = torch.tensor([[1.0, -2.5]])
    assert map_digest(values) == hashlib.sha256(np.array([1, -2.5], "<f4").tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"task": "multilabel"}, "several labels an image"),
        ({"class_names": ("one",)}, "1 classes"),
        ({"methods": ()}, "0 explanation methods"),
        ({"class_names": ("a", "b")}, "not of its 2 classes"),
        ({"image_size": 27}, "validation images are torch.uint8"),
        ({"blind_area": torch.zeros(2, 2, dtype=torch.bool)}, "blind area is"),
        (
            {
                "validation": Split(
                    torch.zeros(0, 1, 28, 28, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)
                )
            },
            "no validation images",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(
    subject: Subject, change: dict, sentence: str
) -> None:
    with pytest.raises(ReviewError, match=sentence):
        replace(subject, **change)
