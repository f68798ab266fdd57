"""What the API leaves behind of every answer: a case without its image, and a record."""

import asyncio
from typing import Any

from starlette.concurrency import run_in_threadpool

from fedlens.review.contract import SOURCE_API, Actor, Record
from fedlens.review.model import Explained, Prediction
from fedlens.review.store.trail import EXPLAINED, PREDICTED
from fedlens.review.web.console import Console


async def record_finding(
    console: Console, actor: Actor, kind: str, answered: Prediction | Explained
) -> int:
    """Record what was answered, and return its case's number once both are on the disk.

    Whether the model is in service is asked together with it: no answer leaves once it was stopped.

    Args:
        console: that answered.
        actor: who asked.
        kind: ``predicted`` or ``explained``.
        answered: what the model said.
    """
    prediction = answered.prediction if isinstance(answered, Explained) else answered
    new = prediction.case(SOURCE_API, queued=False)
    if not console.policy.api_log:
        await run_in_threadpool(console.store.switch.check)
        (number,) = await run_in_threadpool(console.store.queue.add, [new], actor)
        return number
    content = dict(console.examiner.evidence(answered))
    return await asyncio.wrap_future(console.store.queue.answer_soon(new, actor, kind, content))


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
