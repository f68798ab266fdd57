"""How much, how fast and for how long somebody may ask."""

import asyncio
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEBIBYTE = 1024 * 1024
FORM_BYTES = 256 * 1024
"""Largest body of anything that has no image in it."""
IMAGE_BYTES = 11 * MEBIBYTE
"""Largest body with one image: one of 10 MB, and what multipart puts around it."""
BATCH_BYTES = 64 * MEBIBYTE
"""Largest body with a batch of images."""
BODY_SECONDS = 30.0
"""How long a body may take to arrive."""


class BodyLimit:
    """ASGI middleware: refuses a body that is too large (413) or too slow (408).

    What a request says of its length is refused before anything is read; what it does not say is
    counted while it arrives, so that no more than the limit is ever held.

    Args:
        app: what is guarded.
        larger: path -> bytes, for the paths that may have more than :data:`FORM_BYTES`.
        seconds: how long a whole body may take.
    """

    def __init__(self, app: ASGIApp, larger: Mapping[str, int], seconds: float) -> None:
        self.app = app
        self.larger = larger
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a guarded body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.larger.get(scope["path"], FORM_BYTES)
        sentence = f"The request is larger than the {limit:,} bytes that it may have."
        announced = Headers(scope=scope).get("content-length", "0")
        if not (announced.isascii() and announced.isdigit() and len(announced) < 16):
            response = JSONResponse({"detail": "The length of the request is not a number."}, 400)
            await response(scope, receive, send)
            return
        if int(announced) > limit:
            await JSONResponse({"detail": sentence}, 413)(scope, receive, send)
            return
        await self.app(scope, _guarded(receive, limit, self.seconds, sentence), send)


def _guarded(receive: Receive, limit: int, seconds: float, sentence: str) -> Receive:
    taken = 0
    whole = False
    deadline: float | None = None

    async def guarded() -> Message:
        nonlocal taken, whole, deadline
        if whole:
            return await receive()
        now = time.monotonic()
        deadline = now + seconds if deadline is None else deadline
        try:
            async with asyncio.timeout(max(deadline - now, 0)):
                message = await receive()
        except TimeoutError:
            raise HTTPException(
                408, f"The request took longer than {seconds:g} seconds to arrive.", _CLOSE
            ) from None
        whole = message["type"] != "http.request" or not message.get("more_body", False)
        taken += len(message.get("body", b""))
        if taken > limit:
            raise HTTPException(413, sentence, _CLOSE)
        return message

    return guarded


_CLOSE = {"Connection": "close"}


class TokenBuckets:
    """A token bucket for each of many keys: a burst at once, then a steady rate.

    Keys that have been idle until their bucket was full are forgotten, and there are never more
    than ``most``: whoever sends endless new keys costs no memory.

    Args:
        rate: tokens a second that come back, over 0.
        burst: tokens of a full bucket.
        most: keys that are remembered.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        rate: float,
        burst: float,
        most: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rate = rate
        self.burst = burst
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, tokens: float = 1) -> float:
        """Take ``tokens`` from the bucket of ``key``.

        Args:
            key: whose bucket.
            tokens: how many, at most the burst.

        Returns:
            0 if they were there; else the seconds after which they will be, and nothing is taken.
        """
        now = self._clock()
        with self._lock:
            left, then = self._buckets.pop(key, (self.burst, now))
            left = min(self.burst, left + (now - then) * self.rate)
            enough = left >= tokens
            self._buckets[key] = (left - tokens if enough else left, now)
            while len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        return 0.0 if enough else (tokens - left) / self.rate

    def check(self, key: str, tokens: float = 1) -> None:
        """Take ``tokens`` from the bucket of ``key``, or refuse.

        Raises:
            HTTPException: 429, with ``Retry-After``.
        """
        wait = self.take(key, tokens)
        if wait > 0:
            seconds = math.ceil(wait)
            raise HTTPException(
                429,
                f"Too many requests; try again in {seconds} s.",
                {"Retry-After": str(seconds)},
            )


class InFlight:
    """How many may be at something at once; whoever comes when it is full is refused at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._now = 0

    def __enter__(self) -> None:
        if self._now >= self.most:
            raise HTTPException(
                429, "The console is busy; try again in a second.", {"Retry-After": "1"}
            )
        self._now += 1

    def __exit__(self, *_: object) -> None:
        self._now -= 1
