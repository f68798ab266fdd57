"""The MedMNIST layout: what arrays become, and what they may not hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedlens.data.dataset import SPLITS, ImageDataset, validate
from fedlens.data.layout import ARRAYS, arrays_from_dataset, dataset_from_arrays
from fedlens.data.npz import read_npz, write_npz
from fedlens.errors import DataError

WHERE = Path("some.npz")
PREFIXES = ("train", "val", "test")


def small(**changes: Any) -> dict[str, np.ndarray]:
    """Three splits of four 5x5 grey images in two classes; None takes an array out."""
    arrays: dict[str, Any] = {}
    for number, prefix in enumerate(PREFIXES):
        arrays[f"{prefix}_images"] = np.full((4, 5, 5), 10 * number, dtype=np.uint8)
        arrays[f"{prefix}_labels"] = np.array([[0], [1], [1], [0]], dtype=np.uint8)
    arrays.update(changes)
    return {key: array for key, array in arrays.items() if array is not None}


def loaded(arrays: dict[str, np.ndarray], seed: int = 42) -> ImageDataset:
    return dataset_from_arrays(arrays, name="small", where=WHERE, seed=seed)


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Any set of arrays that the layout allows, with a validation split."""
    side = draw(st.integers(1, 4))
    tail = draw(st.sampled_from([(), (1,), (3,)]))
    classes = draw(st.integers(2, 4))
    multilabel = draw(st.booleans())
    grouped = draw(st.booleans())
    arrays: dict[str, np.ndarray] = {
        "class_names": np.array([f"class {c}" for c in range(classes)])
    }
    if grouped:
        arrays["group_names"] = np.array(["north", "south"])
    for prefix in PREFIXES:
        n = draw(st.integers(1, 5))
        shape = (n, side, side, *tail)
        arrays[f"{prefix}_images"] = draw(hnp.arrays(np.uint8, shape))
        kind = draw(st.sampled_from([np.uint8, np.int64, np.dtype(">i2")]))
        if multilabel:
            arrays[f"{prefix}_labels"] = draw(
                hnp.arrays(kind, (n, classes), elements=st.integers(0, 1))
            )
        else:
            shape = draw(st.sampled_from([(n,), (n, 1)]))
            arrays[f"{prefix}_labels"] = draw(
                hnp.arrays(kind, shape, elements=st.integers(0, classes - 1))
            )
        if grouped:
            arrays[f"{prefix}_groups"] = draw(
                hnp.arrays(np.int64, (n,), elements=st.integers(0, 1))
            )
    return arrays


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(arrays=layouts())
def test_what_goes_in_comes_out_and_survives_a_file(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    dataset = loaded(arrays)
    validate(dataset, "here")
    for split, prefix in zip(SPLITS, PREFIXES, strict=True):
        images, labels = dataset.split(split).images, dataset.split(split).labels
        given_images = arrays[f"{prefix}_images"]
        assert images.is_contiguous()
        for n, row, column in np.ndindex(given_images.shape[:3]):
            pixel = np.atleast_1d(given_images[n, row, column])
            assert images[n, :, row, column].tolist() == pixel.tolist()
        given_labels = arrays[f"{prefix}_labels"]
        assert labels.tolist() == given_labels.reshape(labels.shape).tolist()
        groups = dataset.split(split).groups
        assert (groups is None) == (f"{prefix}_groups" not in arrays)
        if groups is not None:
            assert groups.tolist() == arrays[f"{prefix}_groups"].tolist()
    assert dataset.class_names == tuple(arrays["class_names"])

    write_npz(tmp_path / "set.npz", arrays_from_dataset(dataset))
    again = loaded(read_npz(tmp_path / "set.npz", ARRAYS))
    assert again.checksum == dataset.checksum
    assert (again.task, again.class_names) == (dataset.task, dataset.class_names)
    assert again.group_names == dataset.group_names


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_wrong_arrays_are_a_data_error_or_a_valid_set(data: st.DataObject) -> None:
    arrays = data.draw(layouts())
    for key in data.draw(
        st.lists(st.sampled_from(sorted({*arrays, "task"})), min_size=1, max_size=3)
    ):
        dtype = data.draw(st.sampled_from(["u1", "i8", "f4", "?", "<U3", "u8"]))
        shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
        if data.draw(st.booleans()):
            arrays[key] = data.draw(hnp.arrays(np.dtype(dtype), shape))
        else:
            arrays.pop(key, None)
    try:
        dataset = loaded(arrays)
    except DataError as error:
        assert "some.npz" in str(error)
    else:
        validate(dataset, "here")


def test_floats_from_0_to_1_become_bytes() -> None:
    images = np.zeros((4, 5, 5), dtype=np.float32)
    images[0, 0] = [0.0, 1.0, 0.5, 1 / 255, 254.6 / 255]
    dataset = loaded(small(train_images=images))
    # 0.5 * 255 = 127.5 lies between two values; rounding to even takes 128.
    assert dataset.train.images[0, 0, 0].tolist() == [0, 255, 128, 1, 255]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.001, 1.001, 255.0])
def test_the_first_bad_pixel_is_named(value: float) -> None:
    images = np.full((3000, 5, 5), 0.5)
    images[2500, 3, 1] = images[2999, 0, 0] = value
    arrays = small(train_images=images, train_labels=np.arange(3000) % 2)
    with pytest.raises(DataError) as caught:
        loaded(arrays)
    assert f"some.npz: train_images[2500, 3, 1] is {value}" in str(caught.value)


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, bool])
def test_other_whole_numbers_are_not_pixels(dtype: type) -> None:
    with pytest.raises(DataError, match=r"val_images holds .* expected uint8"):
        loaded(small(val_images=np.zeros((4, 5, 5), dtype=dtype)))


@pytest.mark.parametrize("shape", [(4, 25), (4, 5, 5, 2), (4, 3, 5, 5), (4, 5, 5, 3, 1)])
def test_other_shapes_are_not_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="test_images has the shape"):
        loaded(small(test_images=np.zeros(shape, dtype=np.uint8)))


def test_images_of_another_size_or_not_square_are_refused() -> None:
    with pytest.raises(DataError, match="test images have the shape"):
        loaded(small(test_images=np.zeros((4, 6, 6), dtype=np.uint8)))
    oblong = {f"{prefix}_images": np.zeros((4, 5, 6), dtype=np.uint8) for prefix in PREFIXES}
    with pytest.raises(DataError, match="square"):
        loaded(small(**oblong))
    empty = {f"{prefix}_images": np.zeros((4, 0, 0), dtype=np.uint8) for prefix in PREFIXES}
    with pytest.raises(DataError, match="of at least one pixel"):
        loaded(small(**empty))


@pytest.mark.parametrize(("label", "shown"), [(-1, "-1"), (2, "2"), (10**12, "1000000000000")])
def test_a_label_out_of_range_is_named(label: int, shown: str) -> None:
    names = np.array(["cat", "dog"])
    labels = np.array([0, 1, label, label])
    with pytest.raises(DataError, match=rf"val_labels\[2\] is {shown}, expected 0 to 1"):
        loaded(small(val_labels=labels, class_names=names))


def test_a_huge_label_does_not_make_as_many_classes() -> None:
    with pytest.raises(DataError, match=r"test_labels\[1\] is 4000000000, expected 0 to 9,999"):
        loaded(small(test_labels=np.array([0, 4_000_000_000, 1, 1])))
    with pytest.raises(DataError, match=r"test_labels\[0\] is 18446744073709551615"):
        loaded(small(test_labels=np.array([2**64 - 1, 0, 1, 1], dtype=np.uint64)))


def test_classes_without_names_are_numbered_over_all_splits() -> None:
    dataset = loaded(small(test_labels=np.array([0, 3, 1, 1])))
    assert dataset.class_names == ("0", "1", "2", "3")
    assert dataset.train.labels.dtype == torch.int64


def test_rows_of_0_and_1_are_several_labels_an_image() -> None:
    rows = np.array([[0, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]], dtype=np.int32)
    labels: dict[str, Any] = {f"{prefix}_labels": rows for prefix in PREFIXES}
    dataset = loaded(small(**labels))
    assert (dataset.task, dataset.class_names) == ("multilabel", ("0", "1", "2"))
    assert dataset.train.labels.dtype == torch.uint8
    assert dataset.train.labels.tolist() == rows.tolist()
    labels["test_labels"] = rows * 2
    with pytest.raises(DataError, match=r"test_labels\[0, 1\] is 2, expected 0 to 1"):
        loaded(small(**labels))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": None}, "no train_images"),
        ({"test_images": None}, "no test_images"),
        ({"val_labels": None}, "no val_labels"),
        ({"test_labels": np.zeros(4)}, "test_labels is float64"),
        ({"test_labels": np.array(["a", "b", "a", "b"])}, "expected integers"),
        ({"test_labels": np.zeros(3, np.int64)}, "4 images for 3 labels"),
        ({"test_labels": np.zeros((4, 2), np.int64)}, "test_labels has the shape"),
        ({"task": np.array("regression")}, "task is 'regression'"),
        ({"task": np.array("multilabel")}, "task is 'multilabel' but train_labels"),
        ({"task": np.array(3)}, "expected a single text"),
        ({"class_names": np.array(["a", "a"])}, "'a' occurs twice"),
        ({"class_names": np.array(["a", " "])}, "cannot be the name of a class"),
        ({"class_names": np.array(["a", "\x1b[2J"])}, "printable"),
        ({"class_names": np.array([["a", "b"]])}, "class_names is <U1"),
        ({"class_names": np.array([1, 2])}, "class_names is int64"),
        ({"train_groups": np.array([0, 1, 2])}, "3 numbers for 4 images"),
        ({"train_groups": np.array([0, 1, -2, 0])}, r"train_groups\[2\] is -2"),
        ({"train_groups": np.zeros(4)}, "train_groups is float64"),
        (
            {"train_groups": np.array([0, 1, 2, 0]), "group_names": np.array(["a", "b"])},
            r"train_groups\[2\] is 2, expected 0 to 1",
        ),
    ],
)
def test_what_cannot_be_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        loaded(small(**changes))
    assert str(caught.value).startswith("some.npz")


def test_text_that_is_not_unicode_is_refused() -> None:
    names = np.frombuffer(b"\xff\xff\xff\x7f" * 2, dtype="<U1")
    with pytest.raises(DataError, match="not valid Unicode"):
        loaded(small(class_names=names))


def test_a_set_of_one_class_is_refused() -> None:
    labels: dict[str, Any] = {f"{prefix}_labels": np.zeros(4, np.int64) for prefix in PREFIXES}
    with pytest.raises(DataError, match="1 class"):
        loaded(small(**labels))


def numbered(labels: np.ndarray) -> dict[str, np.ndarray]:
    """A set without validation whose training images carry their number, up to 65,535."""
    images = np.zeros((len(labels), 2, 2), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.divmod(np.arange(len(labels)), 256)
    test = {"test_images": images[:2], "test_labels": labels[:2]}
    return {"train_images": images, "train_labels": labels, **test}


def numbers(images: torch.Tensor) -> list[int]:
    wide = images.to(torch.int64)
    return (wide[:, 0, 0, 0] * 256 + wide[:, 0, 0, 1]).tolist()


@settings(deadline=None, max_examples=50)
@given(counts=st.lists(st.integers(1, 60), min_size=2, max_size=4), seed=st.integers(0, 2**32 - 1))
def test_a_missing_validation_split_is_a_stratified_tenth(counts: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    dataset = loaded(numbered(labels), seed)
    train, held = numbers(dataset.train.images), numbers(dataset.validation.images)
    assert sorted(train + held) == list(range(len(labels)))
    assert len(held) == -(-len(labels) // 10)
    assert dataset.train.labels.tolist() == labels[train].tolist()
    assert dataset.validation.labels.tolist() == labels[held].tolist()
    if min(counts) > 1 and len(held) >= len(counts):
        for label, count in enumerate(counts):
            share = count * len(held) / len(labels)
            assert abs(int((dataset.validation.labels == label).sum()) - share) <= 1
    assert loaded(numbered(labels), seed).checksum == dataset.checksum


def test_groups_go_with_their_images_when_validation_is_cut() -> None:
    labels = np.arange(50) % 2
    arrays = numbered(labels) | {"train_groups": np.arange(50)}
    dataset = loaded(arrays)
    assert dataset.train.groups is not None
    assert dataset.train.groups.tolist() == numbers(dataset.train.images)
    assert dataset.group_names == tuple(str(number) for number in range(50))
    assert dataset.test.groups is None


def test_one_training_image_cannot_be_cut() -> None:
    arrays = small(
        val_images=None,
        val_labels=None,
        train_images=np.zeros((1, 5, 5), np.uint8),
        train_labels=np.array([1]),
    )
    with pytest.raises(DataError, match="single training image"):
        loaded(arrays)
