"""What the application works on: one value that every request can reach."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends
from starlette.requests import Request

if TYPE_CHECKING:  # the model side loads torch and more: what only draws a page can do without
    from fedlens.report.model_card import ModelCard
    from fedlens.review.model.examiner import Examiner
    from fedlens.review.model.subject import Subject
    from fedlens.review.store import Store
    from fedlens.review.web.images import ImageSource

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""The names by which a browser on the same machine may call the console."""


@dataclass(frozen=True)
class Policy:
    """What whoever serves the console decides of it.

    Attributes:
        blind_first: a reviewer labels first, and sees the prediction and the map afterwards.
        neighbours: similar training images may be shown.
        secure_cookies: it is reached through TLS; cookies are then sent through nothing else.
        api_log: every call of the API that uses the model leaves a record in the trail.
        hosts: names that a request may call the console by, without the port.
        api_rate: images a second that one API token may send on average, over 0.
        api_burst: images that it may send at once after a pause, at least 64 (one batch).
    """

    blind_first: bool = True
    neighbours: bool = False
    secure_cookies: bool = False
    api_log: bool = True
    hosts: tuple[str, ...] = LOOPBACK_HOSTS
    api_rate: float = 500.0
    api_burst: int = 1000

    @cached_property
    def names(self) -> frozenset[str]:
        """Return ``hosts`` in lower case."""
        return frozenset(name.lower() for name in self.hosts)

    @property
    def oversight(self) -> tuple[str, ...]:
        """Return how people oversee the model under this policy, plain sentences."""
        order = (
            "Reviewers label an image before they see the model's answer."
            if self.blind_first
            else "Reviewers see the model's answer together with the image."
        )
        return (
            "Every case is decided by a person, who accepts, overrules or defers; nothing is decided "
            "by waiting. Anyone who works cases can take the model out of service at once.",
            order,
            "Everything that was shown and decided is in a signed trail, in which a decision is taken "
            "back by a new record and nothing is overwritten.",
        )


@dataclass(frozen=True)
class Console:
    """One run under review.

    Attributes:
        store: cases, trail, people and the stop switch.
        examiner: predicts and explains.
        subject: the model under review, and what it was measured on.
        images: finds the image of a case again.
        policy: see :class:`Policy`.
        fingerprint: of the key that signs the trail.
        card: of the model, or None.
    """

    store: "Store"
    examiner: "Examiner"
    subject: "Subject"
    images: "ImageSource"
    policy: Policy
    fingerprint: str
    card: "ModelCard | None" = None


def console_of(request: Request) -> Console:
    """Return the console that ``request`` is made to."""
    console: Console = request.app.state.console
    return console


async def _console(request: Request) -> Console:
    return console_of(request)  # as a coroutine: anything else would cost a change of thread


ConsoleOf = Annotated[Console, Depends(_console)]
"""A parameter of a handler: the console."""
