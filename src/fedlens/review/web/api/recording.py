"""What the API leaves behind of every answer: a case without its image, and a record."""

import asyncio
from collections.abc import Sequence
from typing import Any

from fedlens.review.contract import SOURCE_API, Actor, Record
from fedlens.review.model import Explained, Prediction
from fedlens.review.store.answers import Answer
from fedlens.review.store.trail import EXPLAINED, PREDICTED
from fedlens.review.web.console import Console


async def record_findings(
    console: Console, found: Sequence[tuple[Actor, str, Prediction | Explained]]
) -> list[int]:
    """Record what was answered together, and return the cases' numbers once all is on the disk.

    Whether the model is in service is asked together with it: no answer leaves once it was stopped.

    Args:
        console: that answered.
        found: of each answer who asked, the kind of record (``predicted`` or ``explained``), and
            what the model said.

    Raises:
        ReviewError: it cannot be recorded, or the model is stopped; nothing was.
    """
    cases = [
        (one.prediction if isinstance(one, Explained) else one).case(SOURCE_API, queued=False)
        for _, _, one in found
    ]
    store = console.store
    if console.policy.api_log:
        answers = [
            Answer(case, actor, kind, console.examiner.evidence(one))
            for case, (actor, kind, one) in zip(cases, found, strict=True)
        ]
        return await asyncio.wrap_future(store.queue.answers_soon(answers))
    asked = [(case, actor) for case, (actor, _, _) in zip(cases, found, strict=True)]
    return await asyncio.wrap_future(store.queue.unrecorded_soon(asked))


def evidence_of(console: Console, case: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the model said of a case through the API, and how that was shown.

    Returns:
        ``evidence`` and ``displayed`` of a decision; both empty where the API did not answer.
    """
    answer = _last_answer(console.store.decisions.history(case))
    if answer is None:
        return {}, {}
    evidence = {name: value for name, value in answer.content.items() if name != "cases"}
    explanation = answer.content.get("explanation") or {}
    return evidence, {"record": answer.sequence, "map": explanation.get("map")}


def _last_answer(history: list[Record]) -> Record | None:
    answers = [record for record in history if record.kind in (PREDICTED, EXPLAINED)]
    return max(answers, key=lambda record: record.sequence, default=None)
