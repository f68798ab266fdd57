"""The figures of a set against hand-worked ones and against plain floating-point arithmetic."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedlens.data import summarise
from fedlens.data.layout import dataset_from_arrays
from fedlens.data.summary import pixel_statistics


@settings(deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4)))
def test_pixel_statistics_equal_those_of_floats(pixels: np.ndarray) -> None:
    mean, std = pixel_statistics(torch.from_numpy(pixels))
    scaled = pixels.astype(np.float64) / 255
    assert mean == pytest.approx(scaled.mean(), abs=1e-12)
    assert std == pytest.approx(scaled.std(), abs=1e-9)


def test_a_hand_worked_set() -> None:
    images = np.zeros((4, 2, 2, 3), dtype=np.uint8)
    images[1] = 255  # a quarter of the light: mean 1/4, variance 1/4 * 3/4
    labels = np.array([0, 1, 1, 2])
    arrays = {
        "train_images": images,
        "train_labels": labels,
        "val_images": images[:1],
        "val_labels": labels[:1],
        "test_images": images[:2],
        "test_labels": labels[:2],
        "train_groups": np.array([1, 1, 0, 1]),
        "group_names": np.array(["north", "south"]),
        "class_names": np.array(["a", "b", "c"]),
    }
    dataset = dataset_from_arrays(arrays, name="hand", where=Path("hand.npz"), seed=42)
    summary = summarise(dataset)
    assert summary.image_shape == (3, 2, 2)
    assert summary.images == {"train": 4, "validation": 1, "test": 2}
    assert summary.counts == {"train": (1, 2, 1), "validation": (1, 0, 0), "test": (1, 1, 0)}
    assert summary.mean == 0.25
    assert summary.std == pytest.approx((3 / 16) ** 0.5, abs=1e-15)
    assert summary.groups == {"train": {"north": 1, "south": 3}}

    order = ("train", "val", "test")
    digest = hashlib.sha256()
    for prefix in order:
        digest.update(np.ascontiguousarray(arrays[f"{prefix}_images"].transpose(0, 3, 1, 2)))
        digest.update(arrays[f"{prefix}_labels"].astype("<i8"))
    assert summary.checksum == digest.hexdigest()

    written = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert written == summary.to_json()
    assert written["counts"]["train"] == [1, 2, 1]
    assert written["name"] == "hand"
    assert written["source"] == "hand.npz"


@settings(deadline=None, max_examples=25)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(2, 6), st.just(3)), elements=st.integers(0, 1)))
def test_labels_of_a_multilabel_set_are_counted_one_by_one(rows: np.ndarray) -> None:
    images = np.zeros((len(rows), 2, 2), dtype=np.uint8)
    arrays = {f"{prefix}_images": images for prefix in ("train", "val", "test")}
    arrays |= {f"{prefix}_labels": rows for prefix in ("train", "val", "test")}
    dataset = dataset_from_arrays(arrays, name="rows", where=Path("rows.npz"), seed=42)
    summary = summarise(dataset)
    assert summary.counts["train"] == tuple(
        sum(row[label] for row in rows.tolist()) for label in range(3)
    )
    assert summary.groups == {}
