"""Who is signed in: sessions and one-time links. The store holds only the SHA-256 of each."""

import hashlib
import secrets
import unicodedata
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, delete, or_, select, update

from fedlens.review.contract import NotFoundError, Person
from fedlens.review.store.chain import canonical
from fedlens.review.store.tables import SESSIONS
from fedlens.review.store.trail import SIGNED_IN, Trail

IDLE_SECONDS = 30 * 60
LONGEST_SECONDS = 12 * 3600
LINK_SECONDS = 10 * 60
SEEN_EVERY = 60
"""A session's last use is written at most once in so many seconds."""


def secret_digest(token: str) -> str:
    """Return what is kept of a token: it has 256 random bits, so that a plain digest is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def folded_name(name: str) -> str:
    """Return what is equal for names that differ in case or composition only."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


class Sessions:
    """The sessions of a store.

    Args:
        trail: of the store.
        person: finds a person by folded name, or None.
    """

    def __init__(self, trail: Trail, person: Callable[[Connection, str], Person | None]) -> None:
        self.trail = trail
        self.database = trail.database
        self._person = person

    def start(self, person: Person, way: str = "password") -> str:
        """Sign a person in, leave a record, and return the token of the session.

        Args:
            person: whose name and password were checked.
            way: how: ``password`` or ``link``.

        Raises:
            NotFoundError: they are gone, or may not sign in any more.
        """
        token = secrets.token_urlsafe(32)

        def work(connection: Connection) -> str:
            self._begin(connection, token, person.name, way)
            return token

        return self.database.write(work)

    def find(self, token: str) -> tuple[Person, str] | None:
        """Return whose session it is and its secret against forged requests; None when it is over.

        A session is over after half an hour without use, or twelve hours.
        """
        now = self.trail.clock()
        with self.database.read() as connection:
            row = self._row(connection, token, link=False)
            if row is None or not self._lasts(row, now):
                return None
            person = self._person(connection, row.folded)
        if person is None or not person.active:
            return None
        if now - row.seen >= SEEN_EVERY:
            self.database.write(lambda connection: self._see(connection, row.secret, now))
        return person, self.csrf(token)

    def csrf(self, token: str) -> str:
        """Return a session's secret against forged requests: it follows from the token and the key."""
        return self.trail.key.seal(f"csrf\n{token}".encode("utf-8", "surrogatepass"))

    def end(self, token: str) -> None:
        """Sign out; a session that is none is over already."""
        secret = secret_digest(token)
        self.database.write(
            lambda connection: connection.execute(
                delete(SESSIONS).where(SESSIONS.c.secret == secret)
            )
        )

    def link(self, person: Person) -> str:
        """Return the token of a link that signs a person in once, within ten minutes."""
        token = secrets.token_urlsafe(32)
        self.database.write(
            lambda connection: self._insert(connection, token, person.name, link=True)
        )
        return token

    def use_link(self, token: str) -> Person | None:
        """Use up a one-time link, and return whom it lets in; None where it is none, or too old."""

        def work(connection: Connection) -> Person | None:
            row = self._row(connection, token, link=True)
            if row is None:
                return None
            connection.execute(delete(SESSIONS).where(SESSIONS.c.secret == row.secret))
            if not 0 <= self.trail.clock() - row.began < LINK_SECONDS:
                return None
            person = self._person(connection, row.folded)
            return person if person is not None and person.active else None

        return self.database.write(work)

    def _begin(self, connection: Connection, token: str, name: str, way: str) -> None:
        person = self._person(connection, folded_name(name))
        if person is None or not person.active:
            raise NotFoundError(f"There is no person '{name}' who may sign in.")
        self._clear(connection)
        self._insert(connection, token, person.name, link=False)
        self.trail.append(connection, SIGNED_IN, person.actor, {"way": way})

    def _insert(self, connection: Connection, token: str, name: str, *, link: bool) -> None:
        now = self.trail.clock()
        row: dict[str, Any] = {
            "secret": secret_digest(token),
            "folded": folded_name(name),
            "link": link,
            "began": now,
            "seen": now,
        }
        row["seal"] = self.trail.key.seal(_message(row))
        connection.execute(SESSIONS.insert(), row)

    def _row(self, connection: Connection, token: str, *, link: bool) -> Any:
        row = connection.execute(
            select(SESSIONS).where(
                SESSIONS.c.secret == secret_digest(token), SESSIONS.c.link.is_(link)
            )
        ).one_or_none()
        if row is None or not self.trail.key.sealed(row.seal, _message(row._mapping)):
            return None
        return row

    def _see(self, connection: Connection, secret: str, now: float) -> None:
        row = connection.execute(select(SESSIONS).where(SESSIONS.c.secret == secret)).one_or_none()
        if row is None or row.seen >= now:
            return
        seal = self.trail.key.seal(_message({**row._mapping, "seen": now}))
        connection.execute(
            update(SESSIONS).where(SESSIONS.c.secret == secret).values(seen=now, seal=seal)
        )

    @staticmethod
    def _lasts(row: Any, now: float) -> bool:
        return bool(now - row.seen < IDLE_SECONDS and now - row.began < LONGEST_SECONDS)

    def _clear(self, connection: Connection) -> None:
        now = self.trail.clock()
        connection.execute(
            delete(SESSIONS).where(
                or_(SESSIONS.c.seen < now - IDLE_SECONDS, SESSIONS.c.began < now - LONGEST_SECONDS)
            )
        )


def _message(row: Any) -> bytes:
    names = ("secret", "folded", "link", "began", "seen")
    return canonical(["session", *(row[name] for name in names)]).encode()
