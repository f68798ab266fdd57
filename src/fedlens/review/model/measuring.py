"""What is measured of a model beside its run: what its confidence is worth, and on whom."""

import threading
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch

from fedlens.explain import METHODS
from fedlens.report.model_card import Measured
from fedlens.review.model.examiner import Examiner
from fedlens.training.calibration import Calibration, calibration_of

MEASURED_ON = 1000
"""Test images, evenly over the split, that confidence is measured on."""

_kept: "WeakKeyDictionary[Examiner, Calibration]" = WeakKeyDictionary()
_guard = threading.Lock()


def calibration_on_test(examiner: Examiner) -> Calibration | None:
    """Return what the model's confidence is worth on some test images; None without any.

    It is measured once, by the examiner, between what people ask of it.
    """
    split = examiner.subject.test_split
    if split is None or len(split) == 0:
        return None
    with _guard:
        found = _kept.get(examiner)
        if found is None:
            number = min(MEASURED_ON, len(split))
            places = torch.from_numpy(np.linspace(0, len(split) - 1, number).round().astype(int))
            predictions = examiner.predict(split.images[places])
            logits = torch.tensor([one.logits for one in predictions], dtype=torch.float64)
            temperature = examiner.temperature.value
            found = calibration_of(logits, split.labels[places], temperature)
            _kept[examiner] = found
    return found


def measured(examiner: Examiner, oversight: Sequence[str] = ()) -> Measured:
    """Return what the card of a model adds to its run.

    Args:
        examiner: of the model.
        oversight: how people oversee it, plain sentences.
    """
    subject = examiner.subject
    return Measured(
        weights=subject.digest,
        temperature=examiner.temperature,
        calibration=calibration_on_test(examiner),
        groups=subject.groups,
        methods=examiner.methods,
        no_class=[name for name in examiner.methods if not METHODS[name].class_specific],
        oversight=oversight,
    )
