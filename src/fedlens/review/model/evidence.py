"""What the audit record holds of what the model said: all that is needed to say it again."""

from typing import Any

from fedlens.explain import Contrast
from fedlens.files import without_nan
from fedlens.review.contract import NewCase
from fedlens.review.model.findings import Explained, Prediction
from fedlens.review.model.subject import Subject
from fedlens.training.calibration import Temperature

PREPROCESSING = "1: bytes / 255, no other step"
"""What is done to pixels before the network sees them; the number goes up when it changes."""

RULE = "largest logit"
"""How a class is decided. There is no threshold: of several classes the most probable is taken."""


def identity(subject: Subject, temperature: Temperature) -> dict[str, Any]:
    """Return which model speaks, plain JSON.

    ``model``, ``weights`` (SHA-256), ``round``, ``privacy`` (or None), ``dataset`` (name and
    checksum), ``preprocessing``, ``temperature``.
    """
    return {
        "model": subject.network,
        "weights": subject.digest,
        "round": subject.round,
        "privacy": None if subject.privacy is None else without_nan(dict(subject.privacy)),
        "dataset": {"name": subject.dataset_name, "checksum": subject.dataset_checksum},
        "preprocessing": PREPROCESSING,
        "temperature": temperature.value,
    }


def evidence(finding: Prediction | Explained, model: dict[str, Any]) -> dict[str, Any]:
    """Return all that the record holds of one prediction or explanation, plain JSON.

    Args:
        finding: what was said.
        model: see :func:`identity`.
    """
    prediction = finding.prediction if isinstance(finding, Explained) else finding
    content = _said(prediction, model) | {"novelty": prediction.novelty}
    if isinstance(finding, Explained):
        # Only here can a number be none: a prediction of such numbers is refused.
        content["explanation"] = {
            **how_made(finding),
            "map": finding.digest,
            "degenerate": finding.degenerate,
            "details": without_nan(dict(finding.details)),
            "badges": [without_nan(badge.to_json()) for badge in finding.badges],
        }
    return content


def evidence_of_case(case: NewCase, model: dict[str, Any]) -> dict[str, Any]:
    """Return what the record holds of a case where the model is not asked: what it said at first.

    Args:
        case: with its logits, if they are known.
        model: see :func:`identity`.
    """
    return _said(case, model) | {"explanation": None}


def how_made(finding: Explained) -> dict[str, Any]:
    """Return all that is needed to make a map again, plain JSON: its ``meta`` and ``target``."""
    return {**without_nan(dict(finding.meta)), "target": target_json(finding)}


def _said(of: Prediction | NewCase, model: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": model,
        "image": of.digest,
        "logits": None if of.logits is None else list(of.logits),
        "probabilities": list(of.probabilities),
        "predicted": of.predicted,
        "threshold": None,
        "rule": RULE,
        "need": of.need,
        "signals": dict(of.signals),
    }


def target_json(finding: Explained) -> int | dict[str, int] | None:
    """Return what a map is about: a class number, ``{"for": A, "against": B}``, or None."""
    if isinstance(finding.target, Contrast):
        return {"for": finding.target.for_class, "against": finding.target.against_class}
    return finding.explained
