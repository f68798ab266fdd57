"""A queue of some cases, and people who are signed in to work it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.testclient import TestClient

from fedlens.review.contract import Person, Record, Role
from fedlens.review.store import Store
from fedlens.review.web.console import Console

CASES = 12


@dataclass
class Browser:
    """A signed-in person's browser: it sends the session's token along with every form."""

    client: TestClient
    csrf: str
    store: Store

    def get(self, path: str, status: int = 200) -> str:
        answer = self.client.get(path)
        assert answer.status_code == status, (path, answer.status_code, answer.text[-600:])
        return answer.text

    def post(self, path: str, status: int = 303, **fields: str) -> httpx.Response:
        answer = self.client.post(path, data={"csrf": self.csrf, **fields})
        assert answer.status_code == status, (path, answer.status_code, answer.text[-600:])
        return answer

    def take_next(self) -> int:
        """Claim the next case and open it; return its number."""
        path = urlsplit(self.post("/next").headers["location"]).path
        self.get(path)
        return int(path.rpartition("/")[2])

    def records(self, case: int | None = None) -> list[Record]:
        return self.store.trail.page(case=case, limit=1000)[::-1]

    def kinds(self, case: int) -> list[str]:
        return [record.kind for record in self.records(case)]


@pytest.fixture
def cases(console: Console, people: dict[Role, Person]) -> list[int]:
    by = people[Role.LEAD].actor
    found = [
        case for batch in console.images.cases(console.examiner, first=CASES) for case in batch
    ]
    return console.store.queue.add(found, by)


@pytest.fixture
def browser_of(
    console: Console,
    client_of: Callable[..., TestClient],
    sign_in: Callable[[TestClient, Role], str],
    cases: list[int],
) -> Callable[..., Browser]:
    def enter(role: Role = Role.REVIEWER, **policy: object) -> Browser:
        client = client_of(console, **policy)
        return Browser(client, sign_in(client, role), console.store)

    return enter


@pytest.fixture
def reviewer(browser_of: Callable[..., Browser]) -> Browser:
    return browser_of(Role.REVIEWER)


@pytest.fixture
def lead(browser_of: Callable[..., Browser]) -> Browser:
    return browser_of(Role.LEAD)


@pytest.fixture
def auditor(browser_of: Callable[..., Browser]) -> Browser:
    return browser_of(Role.AUDITOR)


@pytest.fixture
def revealed(reviewer: Browser) -> int:
    """A case in the reviewer's hands, labelled 3 before the model's answer was shown."""
    case = reviewer.take_next()
    reviewer.post(f"/cases/{case}/label", label="3")
    reviewer.get(f"/cases/{case}")
    return case


@pytest.fixture(scope="session")
def text_of() -> Callable[[str], str]:
    """Reduce a page to the words that a person reads."""

    def read(page: str) -> str:
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).replace("\u00a0", " ").split())

    return read
