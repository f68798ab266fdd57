"""Every image set through its one door, real ones and wrong ones."""

import gzip
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fedlens.data import DATASETS, ImageDataset, load_dataset, summarise, validate
from fedlens.data.summary import pixel_statistics
from fedlens.errors import DataError, DataNotFoundError


@pytest.fixture(scope="module")
def real() -> Path:
    folder = os.environ.get("FEDLENS_DATA")
    if not folder:
        pytest.skip("FEDLENS_DATA names no folder of real images")
    return Path(folder)


@pytest.fixture(scope="module")
def fashion(real: Path) -> ImageDataset:
    return load_dataset("fashion-mnist", download=False)


def fashion_file(real: Path, name: str, header: int) -> np.ndarray:
    content = gzip.decompress((real / "fashion-mnist" / f"{name}.gz").read_bytes())
    return np.frombuffer(content, dtype=np.uint8, offset=header)


def test_fashion_mnist_is_split_as_the_study_splits_it(real: Path, fashion: ImageDataset) -> None:
    images = fashion_file(real, "train-images-idx3-ubyte", 16).reshape(-1, 1, 28, 28)
    labels = fashion_file(real, "train-labels-idx1-ubyte", 8)
    train, held, train_labels, held_labels = train_test_split(
        images, labels, test_size=6000, random_state=42, stratify=labels
    )
    np.testing.assert_array_equal(fashion.train.images, train)
    np.testing.assert_array_equal(fashion.train.labels, train_labels)
    np.testing.assert_array_equal(fashion.validation.images, held)
    np.testing.assert_array_equal(fashion.validation.labels, held_labels)
    assert (len(fashion.train), len(fashion.validation)) == (54_000, 6_000)


def test_the_test_images_of_fashion_mnist_are_untouched(real: Path, fashion: ImageDataset) -> None:
    images = fashion_file(real, "t10k-images-idx3-ubyte", 16).reshape(-1, 1, 28, 28)
    np.testing.assert_array_equal(fashion.test.images, images)
    np.testing.assert_array_equal(
        fashion.test.labels, fashion_file(real, "t10k-labels-idx1-ubyte", 8)
    )


def test_the_figures_of_fashion_mnist_are_the_published_ones(fashion: ImageDataset) -> None:
    mean, std = pixel_statistics(torch.cat([fashion.train.images, fashion.validation.images]))
    assert (round(mean, 5), round(std, 5)) == (0.28604, 0.35302)
    summary = summarise(fashion)
    assert summary.counts == {
        "train": (5400,) * 10,
        "validation": (600,) * 10,
        "test": (1000,) * 10,
    }
    assert summary.image_shape == (1, 28, 28)
    assert fashion.class_names[6] == "Shirt"
    assert summary.images == dict(
        zip(("train", "validation", "test"), DATASETS["fashion-mnist"].sizes, strict=True)
    )


def test_fashion_mnist_may_lie_there_unzipped_and_another_seed_cuts_otherwise(
    real: Path, fashion: ImageDataset, tmp_path: Path
) -> None:
    for file in (real / "fashion-mnist").glob("*.gz"):
        if "images" in file.name:
            (tmp_path / file.name.removesuffix(".gz")).write_bytes(
                gzip.decompress(file.read_bytes())
            )
        else:
            shutil.copy(file, tmp_path)
    assert load_dataset("fashion-mnist", path=tmp_path).checksum == fashion.checksum
    other = load_dataset("fashion-mnist", path=tmp_path, seed=43)
    assert not torch.equal(other.validation.images, fashion.validation.images)
    assert torch.equal(other.test.images, fashion.test.images)

    # One bit of one pixel: no longer the official set, but a set all the same.
    damaged = tmp_path / "t10k-images-idx3-ubyte"
    content = bytearray(damaged.read_bytes())
    content[5000] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte: .* expected 5b4141f0"):
        load_dataset("fashion-mnist", path=tmp_path)
    own = load_dataset("own", path=tmp_path)
    assert (own.name, own.class_names) == ("own", tuple("0123456789"))


FILES = {
    "pneumoniamnist": ((4708, 524, 624), (1, 28, 28), 2),
    "breastmnist_resaved": ((546, 78, 156), (1, 28, 28), 2),
    "bloodmnist_rebuilt": ((11_959, 1_712, 3_421), (3, 28, 28), 8),
    "pathmnist_partial": ((900, 100, 718), (3, 28, 28), 9),
    "chestmnist_like_nih1000": ((600, 200, 200), (1, 28, 28), 14),
}


@pytest.mark.parametrize("name", FILES)
def test_archives_load_by_path(real: Path, name: str) -> None:
    path = real / "medmnist" / f"{name}.npz"
    dataset = load_dataset(path=path)
    sizes, shape, classes = FILES[name]
    validate(dataset, path)
    assert dataset.name == name
    assert dataset.source == str(path)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == sizes
    assert dataset.train.images.shape[1:] == shape
    assert dataset.classes == classes
    raw = np.load(path)
    tested = raw["test_images"].reshape(len(raw["test_images"]), 28, 28, -1)
    np.testing.assert_array_equal(dataset.test.images, tested.transpose(0, 3, 1, 2))
    assert dataset.test.labels.tolist() == raw["test_labels"].squeeze().tolist()
    assert dataset.task == ("multilabel" if name.startswith("chest") else "multiclass")


def test_an_official_name_gives_class_names_and_demands_the_official_file(
    real: Path, tmp_path: Path
) -> None:
    dataset = load_dataset("pneumoniamnist", download=False)
    assert dataset.class_names == ("normal", "pneumonia")
    assert dataset.source == str(real / "medmnist" / "pneumoniamnist.npz")
    assert load_dataset("pneumoniamnist", path=real / "medmnist").checksum == dataset.checksum

    saved = tmp_path / "pneumoniamnist.npz"
    np.savez_compressed(saved, **np.load(real / "medmnist" / "pneumoniamnist.npz"))
    for name in ("pneumoniamnist", None):  # without a name it is called like its file
        with pytest.raises(
            DataError, match="expected the official 28209eda62fecd6e6a2d98b1501bb15f"
        ):
            load_dataset(name, path=saved)
    again = load_dataset("resaved", path=saved)
    assert (again.name, again.checksum) == ("resaved", dataset.checksum)
    with pytest.raises(DataError, match="expected the official 750601b1"):
        load_dataset("breastmnist", path=real / "medmnist" / "breastmnist_resaved.npz")


def test_the_digits_are_always_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDLENS_DATA", str(tmp_path / "absent"))
    monkeypatch.setenv("FEDLENS_CACHE", str(tmp_path / "absent"))
    dataset = load_dataset("digits", download=False)
    validate(dataset, "digits")
    summary = summarise(dataset)
    assert tuple(summary.images.values()) == DATASETS["digits"].sizes
    assert summary.image_shape == (1, 28, 28)
    assert dataset.source == "embedded"

    pixels, targets = load_digits(return_X_y=True)
    found = np.sum([summary.counts[split] for split in summary.counts], axis=0)
    assert found.tolist() == np.bincount(targets).tolist()
    # Enlarging hardly changes how much light an image has.
    light = np.sort(pixels.mean(1)) / 16
    everything = torch.cat([dataset.split(split).images for split in summary.counts])
    enlarged = np.sort((everything.float().mean((1, 2, 3)) / 255).numpy())
    assert np.abs(light - enlarged).max() < 0.03
    assert everything.max() == 255
    assert everything.min() == 0

    other = load_dataset("digits", seed=7)
    assert torch.equal(other.test.images, dataset.test.images)
    assert not torch.equal(other.validation.images, dataset.validation.images)


IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx_folder(folder: Path, train: int = 30, test: int = 10) -> Path:
    """Four small IDX files of 6x6 images in three classes."""
    folder.mkdir()
    for images, labels, count in ((0, 1, train), (2, 3, test)):
        pixels = bytes(36 * count)
        (folder / IDX_NAMES[images]).write_bytes(
            struct.pack(">BBBB3I", 0, 0, 8, 3, count, 6, 6) + pixels
        )
        (folder / IDX_NAMES[labels]).write_bytes(
            struct.pack(">BBBBI", 0, 0, 8, 1, count) + bytes(i % 3 for i in range(count))
        )
    return folder


def test_any_folder_of_idx_files_loads_by_path(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "letters")
    dataset = load_dataset(path=str(folder))
    assert (dataset.name, dataset.class_names) == ("letters", ("0", "1", "2"))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (27, 3, 10)
    with pytest.raises(DataError, match=r"announces \(30, 6, 6\), expected \(60000, 28, 28\)"):
        load_dataset("fashion-mnist", path=folder)


def test_a_missing_idx_file_is_named(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "letters")
    (folder / IDX_NAMES[3]).unlink()
    with pytest.raises(DataNotFoundError, match="has no t10k-labels-idx1-ubyte"):
        load_dataset(path=folder)
    with pytest.raises(DataNotFoundError, match="does not hold the image set 'fashion-mnist'"):
        load_dataset("fashion-mnist", path=folder)


def test_a_label_file_that_does_not_fit_its_images_is_named(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "letters")
    shutil.copy(folder / IDX_NAMES[3], folder / IDX_NAMES[1])
    with pytest.raises(DataError, match="train_images holds 30 images for 10 labels"):
        load_dataset(path=folder)
    shutil.copy(folder / IDX_NAMES[0], folder / IDX_NAMES[1])
    with pytest.raises(DataError, match="train_labels is uint8"):
        load_dataset(path=folder)


def test_a_truncated_archive_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cut.npz"
    images, labels = np.zeros((9, 4, 4), np.uint8), np.arange(9) % 2
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    assert len(load_dataset(path=path).train) == 8
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut\.npz is not an intact \.npz archive"):
        load_dataset(path=path)


def test_an_archive_of_something_else_says_what_was_expected(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(DataError, match="has no train_images"):
        load_dataset(path=tmp_path / "other.npz")


def test_names_and_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"no image set called 'cifar'.*fashion-mnist"):
        load_dataset("cifar")
    with pytest.raises(DataError, match="Name an image set or give a path"):
        load_dataset()
    with pytest.raises(DataNotFoundError, match="There is no file or folder"):
        load_dataset(path=tmp_path / "absent.npz")
    with pytest.raises(DataNotFoundError, match="Could not look for"):
        load_dataset(path="~nobody-of-that-name/set.npz")
    with pytest.raises(DataNotFoundError, match="fedlens datasets import"):
        load_dataset(path=tmp_path)
    with pytest.raises(DataError, match="embedded"):
        load_dataset("digits", path=tmp_path)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(DataError, match="expected 0 to 4,294,967,295"):
        load_dataset("digits", seed=seed)


def test_the_catalogue_is_whole() -> None:
    assert len(DATASETS) == 16
    for name, known in DATASETS.items():
        assert name == known.name
        assert known.task == ("multilabel" if name == "chestmnist" else "multiclass")
        assert len(set(known.class_names)) == len(known.class_names)
        assert len(known.files) == {"idx": 4, "npz": 1, "embedded": 0}[known.kind]
        assert all(len(bytes.fromhex(file.md5)) == 16 for file in known.files)
        assert all(url.endswith(f"/{file.name}") for file in known.files for url in file.urls)
    # Table 1 of Yang et al. (2023): number of classes or labels of the twelve sets.
    published = {"path": 9, "chest": 14, "derma": 7, "oct": 4, "pneumonia": 2, "retina": 5}
    published |= {"breast": 2, "blood": 8, "tissue": 8, "organa": 11, "organc": 11, "organs": 11}
    for name, classes in published.items():
        assert len(DATASETS[f"{name}mnist"].class_names) == classes
    medmnist = [known for known in DATASETS.values() if known.kind == "npz"]
    assert {known.name for known in medmnist} == {f"{name}mnist" for name in published}
    assert {known.name for known in medmnist if known.channels == 3} == {
        "pathmnist",
        "dermamnist",
        "retinamnist",
        "bloodmnist",
    }
