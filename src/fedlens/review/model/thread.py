"""One thread for the network, and requests that wait together answered together.

A network may be explained by one thread at a time. Requests are put in a line; the thread takes the
oldest and whatever else waits that asks the same question, up to a limit, and answers them in one
go. A lone request never waits for company: batches form only of what came while the thread was busy.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from fedlens.review.contract import ReviewError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

LARGEST_BATCH = 32
"""Images that are answered together at most; a single request may have more."""

LONGEST_LINE = 4096
"""Requests that may wait. More would only time out: they are refused at once."""

_log = logging.getLogger(__name__)


class BusyError(ReviewError):
    """More requests wait than can be answered in time."""

    status = 503


@dataclass(eq=False)
class _Request:
    key: Hashable
    work: Callable[[Sequence[Any]], Sequence[Any]]
    item: Any
    size: int
    future: "Future[Any]" = field(default_factory=Future)


class ModelThread:
    """A daemon thread that alone touches the network."""

    def __init__(self, name: str = "model") -> None:
        """Start the thread."""
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(
        self,
        key: Hashable,
        work: Callable[[Sequence[Item]], Sequence[Answer]],
        item: Item,
        *,
        size: int = 1,
    ) -> "Future[Answer]":
        """Put one request in the line and return at once.

        Args:
            key: requests of equal keys may be answered together, by the ``work`` of the first.
            work: given the items of some requests, returns as many answers. Where it raises, each
                of several is tried alone, so that nobody pays for another's bad image.
            item: what is asked about.
            size: how many images that is.

        Raises:
            ReviewError: the thread was closed.
            BusyError: too many wait already.
        """
        request = _Request(key, work, item, size)
        with self._changed:
            if self._closed:
                raise ReviewError("The model is closed; start the console again.")
            if len(self._waiting) >= LONGEST_LINE:
                raise BusyError(
                    f"{LONGEST_LINE:,} requests wait for the model already; try again in a while."
                )
            self._waiting.append(request)
            self._changed.notify()
        return request.future

    def close(self) -> None:
        """Answer what waits, then end the thread; what is asked later is refused."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        # The networks are small: a second thread costs more than it brings, and where another
        # process wants the processor too, a hundred times more (threads that wait for each other).
        torch.set_num_threads(1)
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                requests = self._taken()
            _answer(requests)

    def _taken(self) -> list[_Request]:
        """Return the oldest request and those that ask the same, and leave the others in order."""
        first = self._waiting.popleft()
        taken, room = [first], LARGEST_BATCH - first.size
        others: deque[_Request] = deque()
        while self._waiting:
            request = self._waiting.popleft()
            if request.key == first.key and request.size <= room:
                taken.append(request)
                room -= request.size
            else:
                others.append(request)
        self._waiting = others
        return taken


def _answer(requests: list[_Request]) -> None:
    wanted = [request for request in requests if request.future.set_running_or_notify_cancel()]
    if not wanted:
        return
    try:
        answers = wanted[0].work([request.item for request in wanted])
        for request, answer in zip(wanted, answers, strict=True):
            request.future.set_result(answer)
    except Exception as error:
        # Whatever it is belongs to whoever asked, and must not end the thread.
        if len(wanted) == 1:
            wanted[0].future.set_exception(error)
            return
        _log.info("A batch of %d failed (%s); each is tried alone.", len(wanted), error)
        for request in wanted:
            _answer_alone(request)


def _answer_alone(request: _Request) -> None:
    if request.future.done():
        return
    try:
        (answer,) = request.work([request.item])
    except Exception as error:
        request.future.set_exception(error)
    else:
        request.future.set_result(answer)
