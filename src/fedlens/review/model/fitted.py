"""What the examiner works out once for a network, on validation images, and the file that keeps it."""

import base64
import binascii
import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedlens.errors import FedlensError, RunError
from fedlens.files import read_bytes, write_json
from fedlens.review.model.looking import Looker
from fedlens.review.model.subject import Subject
from fedlens.training import Evaluation, evaluate_logits
from fedlens.training.calibration import Temperature, fit_temperature
from fedlens.training.novelty import Novelty, fit_novelty

MOST_IMAGES = 10_000
"""Validation images that are looked at, evenly over the split."""

_FORMAT = 1
_LARGEST_FILE = 100_000_000
_log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fitted:
    """What confidence, novelty and disagreement of a network are measured by.

    Attributes:
        temperature: see :mod:`fedlens.training.calibration`.
        figures: of the network on the validation images.
        novelty: see :mod:`fedlens.training.novelty`.
        likeness: float64 (N,), rising: how alike the two cheap maps of each validation image are;
            None where the network has no convolution.
    """

    temperature: Temperature
    figures: Evaluation
    novelty: Novelty
    likeness: Floats | None


def fit(subject: Subject, looker: Looker) -> Fitted:
    """Work it out on the validation images of ``subject``.

    The validation images alone are used: what is kept says nothing of a training image beyond what
    the network itself says, so that a promise of privacy stays what it is.

    Raises:
        FedlensError: the network's answers are not numbers, or there are too few images.
    """
    positions = chosen(len(subject.validation), MOST_IMAGES)
    split = subject.validation.subset(positions)
    seen = looker.look(split.images)
    likeness = None if seen.likeness is None else np.sort(seen.likeness.numpy())
    return Fitted(
        fit_temperature(seen.logits, split.labels),
        evaluate_logits(seen.logits.float(), split.labels),
        fit_novelty(seen.features),
        likeness,
    )


def chosen(images: int, most: int) -> Tensor:
    """Return the positions of at most ``most`` of ``images``, evenly over all, int64."""
    places = np.linspace(0, images - 1, min(images, most)).round().astype(np.int64)
    return torch.from_numpy(places)


def fitted(subject: Subject, looker: Looker, folder: Path | None) -> Fitted:
    """Return what is kept in ``folder``, or work it out and keep it there.

    Raises:
        FedlensError: see :func:`fit`.
    """
    if folder is None:
        return fit(subject, looker)
    key, path = _key(subject), folder / f"examiner-{subject.digest[:16]}.json"
    kept = _read(path, key, subject.classes)
    if kept is not None:
        return kept
    found = fit(subject, looker)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"format": _FORMAT, "key": key, **_to_json(found)})
    except (OSError, RunError) as error:
        _log.warning("What was worked out of the network could not be kept: %s", error)
    return found


def _key(subject: Subject) -> str:
    """Return a digest of all that the figures depend on."""
    validation = hashlib.sha256(subject.validation.images.contiguous().numpy().tobytes())
    validation.update(subject.validation.labels.contiguous().numpy().tobytes())
    parts = [subject.digest, validation.hexdigest(), str(subject.layer), str(MOST_IMAGES)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _to_json(found: Fitted) -> dict[str, Any]:
    temperature = found.temperature
    return {
        "temperature": {
            "value": temperature.value,
            "examples": temperature.examples,
            "loss_before": temperature.loss_before,
            "loss_after": temperature.loss_after,
        },
        "figures": found.figures.to_json(),
        "novelty": {
            "features": int(found.novelty.references.shape[1]),
            "references": _packed(found.novelty.references.numpy(), "<f4"),
            "distances": _packed(found.novelty.distances, "<f8"),
        },
        "likeness": None if found.likeness is None else _packed(found.likeness, "<f8"),
    }


def _read(path: Path, key: str, classes: int) -> Fitted | None:
    """Return what is kept in ``path``; None where there is none, or not what it should be."""
    if not path.exists():
        return None
    try:
        content = json.loads(read_bytes(path, _LARGEST_FILE))
        if content["format"] != _FORMAT or content["key"] != key:
            return None
        found = _from_json(content)
        if len(found.figures.support) != classes:
            raise ValueError("figures of other classes")
        return found
    except (
        FedlensError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
        binascii.Error,
    ) as error:
        _log.warning("%s is damaged (%s) and is worked out again.", path, error)
        return None


def _from_json(content: dict[str, Any]) -> Fitted:
    temperature = Temperature(**content["temperature"])
    if not (0 < float(temperature.value) < float("inf")):
        raise ValueError("a temperature that is not above 0")
    novelty = content["novelty"]
    references = _unpacked(novelty["references"], "<f4").reshape(-1, int(novelty["features"]))
    distances = _rising(novelty["distances"])
    if len(references) == 0 or references.shape[1] == 0:
        raise ValueError("no references")
    likeness = None if content["likeness"] is None else _rising(content["likeness"])
    return Fitted(
        temperature,
        Evaluation.from_json(content["figures"]),
        Novelty(torch.from_numpy(references.astype(np.float32)), distances),
        likeness,
    )


def _packed(values: npt.NDArray[Any], dtype: str) -> str:
    return base64.b64encode(values.astype(dtype).tobytes()).decode()


def _unpacked(text: str, dtype: str) -> npt.NDArray[Any]:
    values = np.frombuffer(base64.b64decode(text, validate=True), dtype=dtype)
    if not np.isfinite(values).all():
        raise ValueError("a number that is not finite")
    return values


def _rising(text: str) -> Floats:
    values = _unpacked(text, "<f8").astype(np.float64)
    if len(values) == 0 or (np.diff(values) < 0).any():
        raise ValueError("values that do not rise")
    return values
