"""Where what is asked at the same time is answered together: one pass of the network, one commit.

Requests that come in one after the other within a moment are gathered here, on the event loop, and
go through the model and into the store as one batch, which takes little longer for eight than for
one. A moment is over when a few turns of the event loop brought nothing new: who comes alone waits
for these turns, some microseconds, and for nobody. What comes while a batch is being answered makes
up the next one.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from typing import Any

from torch import Tensor

from fedlens.review.contract import Actor, StoppedError
from fedlens.review.model import Explained, Prediction
from fedlens.review.model.examiner import Question
from fedlens.review.store import StoreError
from fedlens.review.store.trail import EXPLAINED, PREDICTED
from fedlens.review.web.api.recording import record_findings
from fedlens.review.web.console import Console

QUIET_TURNS = 3
"""Turns of the loop without a new request after which nobody else is waited for."""
LONGEST_WAIT = 0.005
"""Seconds after which those who wait are answered, however many still come."""

Finding = Prediction | Explained


@dataclass(eq=False)
class _Ask:
    actor: Actor
    kind: str
    start: Callable[[], "Future[Any]"]
    answer: "asyncio.Future[tuple[int, Any]]"


class Desk:
    """Answers what is asked of a console on one event loop."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._waiting: dict[Hashable, list[_Ask]] = {}
        self._gathering = False
        self._quiet = 0
        self._until = 0.0
        self._answering: set[asyncio.Task[None]] = set()
        self._aside: set[asyncio.Task[None]] = set()

    def expect(self) -> None:
        """Say that a request is about to ask: those who wait let some turns pass for it."""
        self._quiet = 0

    async def predict(self, actor: Actor, image: Tensor) -> tuple[int, Prediction]:
        """Return the number of the case and what the network says of ``image`` uint8 (C, H, W).

        Both are on the disk by then.

        Raises:
            FedlensError: it cannot be answered or recorded, or the model is stopped.
        """
        examiner = self._console.examiner
        found: tuple[int, Prediction] = await self._asked(
            PREDICTED, actor, PREDICTED, lambda: examiner.predict_soon(image[None])
        )
        return found

    async def explain(
        self, actor: Actor, image: Tensor, method: str, target: Question, *, badges: bool
    ) -> tuple[int, Explained]:
        """Return the number of the case and what :meth:`Examiner.explain` returns.

        Both are on the disk by then.

        Raises:
            FedlensError: it cannot be answered or recorded, or the model is stopped.
        """
        examiner = self._console.examiner
        found: tuple[int, Explained] = await self._asked(
            # a trial takes long: it is recorded by itself, and nobody waits for it
            None if badges else (method, type(target)),
            actor,
            EXPLAINED,
            lambda: examiner.explain_soon(image, method, target, badges=badges),
        )
        return found

    async def _asked(
        self, key: Hashable, actor: Actor, kind: str, start: Callable[[], "Future[Any]"]
    ) -> Any:
        loop = asyncio.get_running_loop()
        ask = _Ask(actor, kind, start, loop.create_future())
        if key is None:
            self._begin([ask], self._aside)
        else:
            self._waiting.setdefault(key, []).append(ask)
            self._quiet = 0
            self._gather_soon(loop)
        return await ask.answer

    def _gather_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and not self._gathering and not self._answering:
            self._gathering = True
            self._until = loop.time() + LONGEST_WAIT
            loop.call_soon(self._gather, loop)

    def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        self._quiet += 1
        if self._quiet <= QUIET_TURNS and loop.time() < self._until:
            loop.call_soon(self._gather, loop)
            return
        self._gathering = False
        groups, self._waiting = list(self._waiting.values()), {}
        for group in groups:
            self._begin(group, self._answering)

    def _begin(self, group: list[_Ask], running: "set[asyncio.Task[None]]") -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._answer(group))
        running.add(task)  # the loop itself keeps no hold of a task

        def ended(_: "asyncio.Task[None]") -> None:
            running.discard(task)
            if not task.cancelled() and (problem := task.exception()) is not None:
                for ask in group:  # or they would wait for ever
                    _refuse(ask, problem)
            self._gather_soon(loop)

        task.add_done_callback(ended)

    async def _answer(self, group: list[_Ask]) -> None:
        asked: list[tuple[_Ask, Future[Any]]] = []
        for ask in group:
            try:
                asked.append((ask, ask.start()))
            except Exception as error:
                _refuse(ask, error)
        await asyncio.wrap_future(all_done([future for _, future in asked]))
        found: list[tuple[_Ask, Finding]] = []
        for ask, future in asked:
            problem = future.exception()
            if problem is not None:
                _refuse(ask, problem)
                continue
            finding = future.result()
            found.append((ask, finding[0] if isinstance(finding, list) else finding))
        if found:
            await self._record(found)

    async def _record(self, found: list[tuple[_Ask, Finding]]) -> None:
        try:
            numbers = await record_findings(
                self._console, [(ask.actor, ask.kind, finding) for ask, finding in found]
            )
        except Exception as error:
            if len(found) == 1 or isinstance(error, StoppedError | StoreError):
                for ask, _ in found:
                    _refuse(ask, error)
                return
            for one in found:  # what cannot be recorded of one is nobody else's
                await self._record([one])
            return
        for (ask, finding), number in zip(found, numbers, strict=True):
            if not ask.answer.done():
                ask.answer.set_result((number, finding))


def _refuse(ask: _Ask, error: BaseException) -> None:
    if not ask.answer.done():  # whoever asked may be gone
        ask.answer.set_exception(error)


def all_done(futures: Sequence["Future[Any]"]) -> "Future[None]":
    """Return at once a future that is done when all of ``futures`` are, however they end."""
    whole: Future[None] = Future()
    so_far = count(1)

    def one(_: "Future[Any]") -> None:
        if next(so_far) == len(futures):
            whole.set_result(None)

    if not futures:
        whole.set_result(None)
    for future in futures:
        future.add_done_callback(one)
    return whole
