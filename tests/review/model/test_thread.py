"""The model thread: who waits together is answered together, and nobody pays for another."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError

import pytest

from fedlens.review.contract import ReviewError
from fedlens.review.model import thread as module
from fedlens.review.model.thread import BusyError, ModelThread


@pytest.fixture
def line() -> Iterator[ModelThread]:
    found = ModelThread()
    yield found
    found.close()


class Held:
    """Keeps the thread busy until it is let go."""

    def __init__(self, line: ModelThread) -> None:
        self._begun, self._go = threading.Event(), threading.Event()
        self.future = line.submit("held", self._wait, None)
        assert self._begun.wait(10)

    def _wait(self, items: Sequence[None]) -> Sequence[None]:
        self._begun.set()
        assert self._go.wait(10)
        return items

    def let_go(self) -> None:
        self._go.set()


def test_what_waits_with_one_question_is_one_batch_in_order(line: ModelThread) -> None:
    batches: list[tuple[str, list[int]]] = []

    def work(name: str):
        def run(items: Sequence[int]) -> list[int]:
            batches.append((name, list(items)))
            return [10 * item for item in items]

        return run

    held = Held(line)
    waiting = [line.submit("ab"[n % 2], work("ab"[n % 2]), n) for n in range(6)]
    held.let_go()
    assert [future.result(10) for future in waiting] == [0, 10, 20, 30, 40, 50]
    assert batches == [("a", [0, 2, 4]), ("b", [1, 3, 5])]


def test_a_lone_request_is_answered_at_once(line: ModelThread) -> None:
    sizes: list[int] = []

    def work(items: Sequence[int]) -> Sequence[int]:
        sizes.append(len(items))
        return items

    for n in range(3):
        assert line.submit("one", work, n).result(10) == n
    assert sizes == [1, 1, 1]


def test_a_batch_has_no_more_images_than_fit(
    line: ModelThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_BATCH", 4)
    batches: list[list[int]] = []

    def work(items: Sequence[int]) -> Sequence[int]:
        batches.append(list(items))
        return items

    held = Held(line)
    waiting = [line.submit("q", work, n, size=n) for n in (1, 2, 9, 1, 3)]
    held.let_go()
    for future in waiting:
        future.result(10)
    assert batches == [[1, 2, 1], [9], [3]]


def test_a_bad_item_fails_alone(line: ModelThread) -> None:
    def work(items: Sequence[int]) -> list[float]:
        return [1 / item for item in items]

    held = Held(line)
    waiting = [line.submit("q", work, n) for n in (1, 0, 2)]
    held.let_go()
    assert waiting[0].result(10) == 1 and waiting[2].result(10) == 0.5
    with pytest.raises(ZeroDivisionError):
        waiting[1].result(10)
    assert line.submit("q", work, 4).result(10) == 0.25  # and the thread lives on


def test_a_cancelled_request_is_not_worked_on(line: ModelThread) -> None:
    seen: list[int] = []

    def work(items: Sequence[int]) -> Sequence[int]:
        seen.extend(items)
        return items

    held = Held(line)
    first, second = line.submit("q", work, 1), line.submit("q", work, 2)
    assert first.cancel()
    held.let_go()
    assert second.result(10) == 2 and seen == [2]
    with pytest.raises(CancelledError):
        first.result(10)


def test_closing_answers_what_waits_and_refuses_what_comes_after(line: ModelThread) -> None:
    held = Held(line)
    waiting = line.submit("q", lambda items: items, "asked in time")
    closing = threading.Thread(target=line.close)
    closing.start()
    held.let_go()
    closing.join(10)
    assert waiting.result(10) == "asked in time"
    with pytest.raises(ReviewError, match="closed"):
        line.submit("q", lambda items: items, "too late")
    line.close()  # a second time does no harm


def test_a_line_that_is_too_long_is_refused(
    line: ModelThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_LINE", 2)
    held = Held(line)
    waiting = [line.submit("q", lambda items: items, n) for n in range(2)]
    with pytest.raises(BusyError, match="2 requests wait"):
        line.submit("q", lambda items: items, 2)
    held.let_go()
    assert [future.result(10) for future in waiting] == [0, 1]
