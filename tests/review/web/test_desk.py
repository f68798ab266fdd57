"""What is asked at the same time is answered together, and nobody pays for anybody else."""

import asyncio
import io
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from fedlens.explain import Contrast
from fedlens.review.contract import Actor, NotFoundError, ReviewError, Role, StoppedError
from fedlens.review.model import Explained, Prediction, Subject, image_digest
from fedlens.review.store import Store
from fedlens.review.web.api.desk import Desk, all_done
from fedlens.review.web.app import create_app
from fedlens.review.web.console import Console, Policy

ME = Actor("me", Role.REVIEWER)
LEAD = Actor("lead", Role.LEAD)


@pytest.fixture
def images(subject: Subject) -> torch.Tensor:
    assert subject.test_split is not None
    return subject.test_split.images[:40]


@pytest.fixture
def commits(kept: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pieces of work each transaction of the store has had."""
    found: list[int] = []
    together = kept.database._write_together

    def counted(batch):
        found.append(len(batch))
        together(batch)

    monkeypatch.setattr(kept.database, "_write_together", counted)
    return found


async def explained(desk: Desk, images: torch.Tensor, **asked: object) -> list[object]:
    """Ask about all images at once; what failed is there as what was raised."""
    question = {"method": "grad-cam", "target": None, "badges": False} | asked
    return await asyncio.gather(
        *(desk.explain(ME, image, **question) for image in images), return_exceptions=True
    )


def test_eight_at_once_are_one_batch_and_one_commit_and_eight_records(
    console: Console, kept: Store, images: torch.Tensor, commits: list[int]
):
    answers = asyncio.run(explained(Desk(console), images[:8]))
    assert commits == [1]
    assert [found.meta["batch"]["size"] for _, found in answers] == [8] * 8
    records = {record.case: record for record in kept.trail.page(kind="explained")}
    for image, (number, found) in zip(images, answers, strict=False):
        assert found.prediction.digest == image_digest(image)
        assert records[number].content["explanation"]["map"] == found.digest
        assert kept.queue.get(number).digest == image_digest(image)
    assert kept.verify().valid


def test_what_comes_while_a_batch_is_answered_makes_up_the_next(
    console: Console, kept: Store, images: torch.Tensor, commits: list[int]
):
    async def two_waves() -> list[object]:
        desk = Desk(console)
        first = asyncio.create_task(explained(desk, images[:3]))
        while not desk._answering:
            await asyncio.sleep(0)
        later = asyncio.create_task(explained(desk, images[3:8]))
        return [*await first, *await later]

    answers = asyncio.run(two_waves())
    assert [found.meta["batch"]["size"] for _, found in answers] == [3] * 3 + [5] * 5
    assert commits == [1, 1]
    assert len({number for number, _ in answers}) == 8


def test_more_than_the_model_takes_at_once_are_all_answered(
    console: Console, images: torch.Tensor, commits: list[int]
):
    answers = asyncio.run(explained(Desk(console), images))
    assert sorted({found.meta["batch"]["size"] for _, found in answers}) == [8, 32]
    assert commits == [1]


def test_questions_of_all_kinds_are_answered_side_by_side(
    console: Console, kept: Store, images: torch.Tensor
):
    async def mixed() -> list[tuple[int, Explained | Prediction]]:
        desk = Desk(console)
        return await asyncio.gather(
            desk.explain(ME, images[0], "grad-cam", None, badges=False),
            desk.explain(ME, images[1], "grad-cam", 3, badges=False),
            desk.explain(ME, images[2], "gradient", Contrast(1, 2), badges=False),
            desk.predict(ME, images[3]),
            desk.explain(ME, images[4], "gradient", None, badges=True),
            desk.explain(ME, images[5], "grad-cam", 4, badges=False),
        )

    answers = asyncio.run(mixed())
    found = [one for _, one in answers]
    assert [one.target for one in found if isinstance(one, Explained)] == [
        *(None, 3, Contrast(1, 2), None, 4)
    ]
    assert isinstance(found[3], Prediction)
    assert found[4].badges and not found[0].badges
    digests = [
        one.digest if isinstance(one, Prediction) else one.prediction.digest for one in found
    ]
    assert digests == [image_digest(image) for image in images[:6]]
    assert kept.trail.count(kind="explained") == 5
    assert kept.trail.count(kind="predicted") == 1
    assert kept.verify().valid


def test_what_cannot_be_explained_is_its_own_askers_alone(
    console: Console, kept: Store, images: torch.Tensor
):
    async def some() -> list[object]:
        desk = Desk(console)
        wrong = torch.zeros(1, 27, 28, dtype=torch.uint8)
        asked = [images[0], wrong, images[1]]
        return await explained(desk, asked)  # type: ignore[arg-type]

    first, second, third = asyncio.run(some())
    assert isinstance(second, ReviewError) and "27" in str(second)
    assert {first[0], third[0]} == {1, 2}
    assert kept.trail.count(kind="explained") == 2


def test_what_cannot_be_recorded_is_its_own_askers_alone(
    console: Console, kept: Store, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
):
    evidence = console.examiner.evidence

    def broken(found: Explained) -> dict[str, object]:
        picture = image_digest(images[1]) == found.prediction.digest
        return evidence(found) | ({"pixels": images[1][0].tolist()} if picture else {})

    monkeypatch.setattr(console.examiner, "evidence", broken)
    first, second, third = asyncio.run(explained(Desk(console), images[:3]))
    assert isinstance(second, ReviewError) and "never the pixels" in str(second)
    assert isinstance(first, tuple) and isinstance(third, tuple)
    assert kept.trail.count(kind="explained") == 2
    assert kept.verify().valid


def test_nothing_is_answered_once_the_model_is_stopped(
    console: Console, kept: Store, images: torch.Tensor, commits: list[int]
):
    kept.switch.stop(LEAD, "wrong weights")
    commits.clear()
    answers = asyncio.run(explained(Desk(console), images[:4]))
    assert all(isinstance(one, StoppedError) for one in answers)
    assert commits == [1], "who is refused for all is not asked again one by one"
    assert kept.trail.count(kind="explained") == 0


def test_a_trial_keeps_nobody_waiting(
    console: Console, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
):
    ask = console.examiner.explain_soon
    held: list[Future] = []

    def slow(image, method, target, *, badges=False):
        if not badges:
            return ask(image, method, target)
        held.append(Future())  # a trial that goes on until the test ends it
        return held[-1]

    monkeypatch.setattr(console.examiner, "explain_soon", slow)

    async def both() -> None:
        desk = Desk(console)
        trial = asyncio.create_task(desk.explain(ME, images[0], "grad-cam", None, badges=True))
        number, found = await desk.explain(ME, images[1], "grad-cam", None, badges=False)
        assert number == 1
        assert not trial.done()
        held[0].set_result(found)
        assert (await trial)[0] == 2

    asyncio.run(both())


def test_who_went_away_takes_nothing_with_them(console: Console, kept: Store, images: torch.Tensor):
    async def one_gives_up() -> list[object]:
        desk = Desk(console)
        tasks = [
            asyncio.create_task(desk.explain(ME, image, "grad-cam", None, badges=False))
            for image in images[:3]
        ]
        while not desk._answering:
            await asyncio.sleep(0)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = asyncio.run(one_gives_up())
    assert isinstance(second, asyncio.CancelledError)
    assert first[1].prediction.digest == image_digest(images[0])
    assert third[1].prediction.digest == image_digest(images[2])
    assert kept.trail.count(kind="explained") == 3, "what was answered is recorded"


def test_where_the_calls_are_not_recorded_each_still_has_its_case(
    console: Console, kept: Store, images: torch.Tensor
):
    quiet = replace(console, policy=Policy(api_log=False))
    answers = asyncio.run(explained(Desk(quiet), images[:3]))
    assert [number for number, _ in answers] == [1, 2, 3]
    assert kept.trail.count(kind="explained") == 0


def test_where_the_calls_are_not_recorded_the_cases_are_one_commit_or_none(
    console: Console,
    kept: Store,
    images: torch.Tensor,
    commits: list[int],
    monkeypatch: pytest.MonkeyPatch,
):
    desk = Desk(replace(console, policy=Policy(api_log=False)))
    asyncio.run(explained(desk, images[:8]))
    assert commits == [1]

    def fails_at_the_third(connection, batch, actor):
        if batch[0].digest == image_digest(images[12]):
            raise ReviewError("not this one")
        return add(connection, batch, actor)

    add = kept.queue._add
    monkeypatch.setattr(kept.queue, "_add", fails_at_the_third)
    answers = asyncio.run(explained(desk, images[10:14]))
    assert isinstance(answers[2], ReviewError), "what cannot be added of one is nobody else's"
    numbers = [answers[place][0] for place in (0, 1, 3)]
    assert numbers == [9, 10, 11], "none was added twice"
    with pytest.raises(NotFoundError):
        kept.queue.get(12)


def test_where_the_calls_are_not_recorded_a_stopped_model_still_answers_nobody(
    console: Console, kept: Store, images: torch.Tensor
):
    desk = Desk(replace(console, policy=Policy(api_log=False)))
    kept.switch.stop(LEAD, "recall")
    answers = asyncio.run(explained(desk, images[:3]))
    assert [type(answer) for answer in answers] == [StoppedError] * 3
    with pytest.raises(NotFoundError):
        kept.queue.get(1)


def test_programs_that_call_at_once_share_a_batch(
    console: Console,
    tokens: dict[Role, str],
    picture: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
):
    """Over the whole application: each gets its own answer, and the network ran less often.

    How many come in the first moment is the machine's; all others wait while that is answered, which
    here takes until the last has come.
    """
    count = 8
    arrived: list[object] = []
    passes: list[int] = []
    all_there = threading.Event()
    desk_explain, network = Desk.explain, console.examiner._explain

    def arriving(desk: Desk, *asked: object, **more: object):
        arrived.append(asked)
        if len(arrived) == count:
            all_there.set()
        return desk_explain(desk, *asked, **more)

    def counted(*asked):
        passes.append(len(asked[-1]))
        return network(*asked)

    monkeypatch.setattr(Desk, "explain", arriving)
    monkeypatch.setattr(console.examiner, "_explain", counted)
    held = console.examiner._thread.submit("held", lambda _: [all_there.wait(60)], None)
    transport = httpx.ASGITransport(create_app(console), client=("127.0.0.1", 5))
    headers = {"Authorization": f"Bearer {tokens[Role.REVIEWER]}"}

    async def all_at_once() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8000", headers=headers
        ) as program:
            return await asyncio.gather(
                *(program.post("/v1/explain", files={"image": picture(n)}) for n in range(count))
            )

    answers = [answer.json() for answer in asyncio.run(all_at_once())]
    assert held.result(), "all came while the network was busy"
    assert sum(passes) == count
    assert len(passes) <= 2, "the first moment's, and all that came after it"
    own = [
        image_digest(torch.from_numpy(np.array(Image.open(io.BytesIO(picture(n)))))[None])
        for n in range(count)
    ]
    assert [answer["digest"] for answer in answers] == own
    assert sorted(answer["meta"]["batch"]["size"] for answer in answers) == sorted(
        size for size in passes for _ in range(size)
    )
    assert sorted(answer["case"] for answer in answers) == list(range(1, count + 1))


def test_all_done_waits_for_the_last_and_minds_no_failure():
    futures: list[Future] = [Future() for _ in range(3)]
    whole = all_done(futures)
    futures[2].set_result(1)
    futures[0].set_exception(ValueError())
    assert not whole.done()
    futures[1].set_result(2)
    assert whole.done() and whole.result() is None
    assert all_done([]).done()


def test_what_nobody_foresaw_is_told_to_all_who_asked(
    console: Console, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
):
    def broken(_: object) -> Future[None]:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr("fedlens.review.web.api.desk.all_done", broken)

    async def within_time() -> list[object]:
        return await asyncio.wait_for(explained(Desk(console), images[:3]), 20)

    answers = asyncio.run(within_time())
    assert [str(one) for one in answers] == ["nobody foresaw this"] * 3
