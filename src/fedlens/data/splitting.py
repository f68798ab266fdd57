"""Cutting splits: the study's validation cut, and the cut of a set that has no splits at all."""

import math

import numpy as np
import numpy.typing as npt
import torch

from fedlens.data.dataset import Split
from fedlens.errors import DataError

VALIDATION_SHARE = 10  # one image in ten
LARGEST_SEED = 2**32 - 1  # what scikit-learn takes

Indices = npt.NDArray[np.int64]


def validation_cut(train: Split, seed: int) -> tuple[Split, Split]:
    """Cut a validation split of one tenth (rounded up) from ``train``.

    This is the study's split (section 3): scikit-learn's ``train_test_split``, stratified by class,
    with ``random_state=seed``; on the 60,000 training images of Fashion-MNIST and seed 42 it gives
    its 54,000 and 6,000. Both parts keep the order that ``train_test_split`` returns.

    The cut is *not* stratified where it cannot be: for a multi-label task, where a class has a
    single image, or where either part would have fewer images than there are classes.

    Args:
        train: at least 2 images.
        seed: 0 to 2**32 - 1.

    Returns:
        What is left to train on, and the validation split.
    """
    from sklearn.model_selection import train_test_split

    held = math.ceil(len(train) / VALIDATION_SHARE)
    kept, cut = train_test_split(
        np.arange(len(train)),
        test_size=held,
        random_state=seed,
        stratify=strata(train.labels, held),
    )
    return train.subset(torch.from_numpy(kept)), train.subset(torch.from_numpy(cut))


def strata(labels: torch.Tensor, cut: int) -> npt.NDArray[np.int64] | None:
    """Return the labels to cut ``cut`` images off class by class, or None where that cannot be.

    It cannot for a multi-label task, where a class has a single image, or where either part would
    have fewer images than there are classes.

    Args:
        labels: int64 (N,), or uint8 (N, L).
        cut: size of one of the two parts.
    """
    if labels.dim() != 1:
        return None
    classes: npt.NDArray[np.int64] = labels.numpy()
    counts = np.unique(classes, return_counts=True)[1]
    possible = counts.min() >= 2 and min(cut, len(classes) - cut) >= len(counts)
    return classes if possible else None


def check_seed(seed: int) -> None:
    """Raise ``DataError`` unless ``seed`` is one that :func:`validation_cut` can take."""
    if not 0 <= seed <= LARGEST_SEED:
        raise DataError(f"The seed of a split is {seed}, expected 0 to {LARGEST_SEED:,}.")


def three_way_cut(
    labels: npt.NDArray[np.int64], test_fraction: float, rng: np.random.Generator
) -> tuple[Indices, Indices, Indices]:
    """Cut a whole set into train, validation and test, class by class.

    Each class gives ``test_fraction`` of its images (rounded) to test and then a tenth of the rest
    to validation, but at least one to each of the three: the smallest set with three images a class
    still has every class everywhere, which a stratified draw over the whole set does not ensure.

    Args:
        labels: int64 (N,), at least three of each class.
        test_fraction: share of the test split, above 0 and below 1.
        rng: shuffles the images of each class.

    Returns:
        The indices of train, validation and test, each ascending.
    """
    train, validation, test = [], [], []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        tested = min(max(1, round(test_fraction * len(members))), len(members) - 2)
        validated = max(1, round((len(members) - tested) / VALIDATION_SHARE))
        test.append(members[:tested])
        validation.append(members[tested : tested + validated])
        train.append(members[tested + validated :])
    first, second, third = (np.sort(np.concatenate(part)) for part in (train, validation, test))
    return first, second, third
