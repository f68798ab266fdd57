"""The tables beside the trail, as they follow from its records: one place writes and checks them."""

from collections.abc import Mapping
from typing import Any

from fedlens.review.contract import Record

NO_CLASS = -1
"""What stands in the table for a label of "none of the classes", said before the reveal."""


def decision_row(record: Record) -> dict[str, Any]:
    """Return the row of ``decisions`` that follows from a record of a decision; not yet undone."""
    content = record.content
    return {
        "sequence": record.sequence,
        "time": record.time,
        "case": record.case,
        "reviewer": record.actor,
        "role": record.role,
        "predicted": content.get("predicted"),
        "label": content.get("label"),
        "choice": content.get("choice"),
        "reason": content.get("reason"),
        "misleading": content.get("misleading"),
        "blind_label": _blind_label(content),
        "revealed": content.get("revealed") is not None,
        "seconds": content.get("seconds"),
        "model": model_digest(content.get("evidence")),
    }


def _blind_label(content: Mapping[str, Any]) -> Any:
    label = content.get("blind_label")
    return NO_CLASS if label is None and content.get("labelled_blind") is True else label


def model_digest(evidence: Any) -> str | None:
    """Return the digest of the weights in what the model said, or None where it does not say.

    It is looked for as ``digest``, ``weights`` or ``weights_digest`` of ``identity`` or ``model``,
    then of the whole.
    """
    if not isinstance(evidence, Mapping):
        return None
    for place in (evidence.get("identity"), evidence.get("model"), evidence):
        if isinstance(place, Mapping):
            for name in ("weights_digest", "weights", "digest"):
                value = place.get(name)
                if isinstance(value, str):
                    return value
    return None
