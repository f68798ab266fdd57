import asyncio

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from fedlens.review.web.limits import FORM_BYTES, BodyLimit, InFlight, TokenBuckets


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_full_bucket_gives_its_burst_and_then_the_rate():
    clock = Clock()
    buckets = TokenBuckets(rate=0.5, burst=3, clock=clock)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") == pytest.approx(2)  # one token at half a token a second
    clock.now += 1.5
    assert buckets.take("a") == pytest.approx(0.5)
    clock.now += 0.5
    assert buckets.take("a") == 0
    assert buckets.take("a") == pytest.approx(2)


def test_what_is_granted_in_a_long_time_is_burst_and_rate_times_time():
    clock = Clock()
    buckets = TokenBuckets(rate=4, burst=10, clock=clock)
    granted = 0
    for _ in range(2000):  # 100 seconds, 20 attempts a second
        granted += buckets.take("a") == 0
        clock.now += 0.05
    assert granted == pytest.approx(10 + 4 * 100, abs=1)


def test_one_key_does_not_spend_what_is_anothers():
    buckets = TokenBuckets(rate=1, burst=1, clock=Clock())
    assert buckets.take("a") == 0
    assert buckets.take("b") == 0
    assert buckets.take("a") > 0


def test_endless_new_keys_cost_no_memory():
    buckets = TokenBuckets(rate=1, burst=1, most=10, clock=Clock())
    for number in range(1000):
        buckets.take(str(number))
    assert len(buckets._buckets) == 10


def test_a_refusal_says_when_to_try_again():
    buckets = TokenBuckets(rate=0.1, burst=1, clock=Clock())
    buckets.check("a")
    with pytest.raises(HTTPException) as refused:
        buckets.check("a")
    assert refused.value.status_code == 429
    assert refused.value.headers == {"Retry-After": "10"}


def test_who_comes_when_it_is_full_is_refused_and_a_place_is_given_back():
    places = InFlight(2)
    with places:
        with places, pytest.raises(HTTPException, match="busy"), places:
            pass
        with places:
            pass


def body(app_reads: list[bytes]) -> BodyLimit:
    """What counts as an application: it reads the whole body, and answers 200."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        app_reads.append(await Request(scope, receive).body())
        await send({"type": "http.response.start", "status": 200, "headers": []})

    return BodyLimit(app, {"/larger": 1000}, seconds=0.05)


def ask(path: str, chunks: list[bytes], headers: dict[str, str], pause: float = 0) -> int:
    """Return the status of the answer to a body that arrives in chunks."""
    read: list[bytes] = []
    sent: list[Message] = []
    waiting = list(chunks)

    async def receive() -> Message:
        await asyncio.sleep(pause)
        chunk = waiting.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(waiting)}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    try:
        asyncio.run(body(read)(scope, receive, send))
    except HTTPException as refused:
        assert not read
        return refused.status_code
    assert sent[0]["status"] != 200 or read == [b"".join(chunks)]
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("path", "chunks", "status"),
    [
        ("/larger", [b"x" * 500, b"x" * 500], 200),
        ("/larger", [b"x" * 500, b"x" * 501], 413),
        ("/larger", [b"", b""], 200),
        ("/other", [b"x" * FORM_BYTES], 200),
        ("/other", [b"x" * FORM_BYTES, b"x"], 413),
    ],
)
def test_a_body_is_counted_while_it_arrives(path: str, chunks: list[bytes], status: int):
    assert ask(path, chunks, {}) == status


@pytest.mark.parametrize(
    ("length", "status"), [("1000", 200), ("1001", 413), ("-1", 400), ("1e3", 400), ("٣", 400)]
)
def test_what_a_request_says_of_its_length_is_refused_before_reading(length: str, status: int):
    assert ask("/larger", [b"x"], {"content-length": length}) == status


def test_a_body_that_trickles_in_is_cut_off():
    assert ask("/larger", [b"x"] * 100, {}, pause=0.01) == 408
