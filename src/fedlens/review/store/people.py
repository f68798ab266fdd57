"""Who may use the console: people with passwords, and API tokens for programs.

A row is sealed with the store's key: whoever can write to the database, and has no key, can neither
add a person nor change what one may do. Whether a row was put back to an older state, verification
finds by the trail. No password is kept, only its Argon2id hash; of a token only its SHA-256.
"""

import secrets
import threading
import unicodedata
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, bindparam, delete, func, select, update

from fedlens.review.contract import (
    Actor,
    ConflictError,
    NotAllowedError,
    NotFoundError,
    Person,
    ReviewError,
    Role,
)
from fedlens.review.store.chain import canonical, check_name
from fedlens.review.store.leases import give_back
from fedlens.review.store.query import Prepared
from fedlens.review.store.rights import may_lead, must_lead
from fedlens.review.store.sessions import Sessions, folded_name, secret_digest
from fedlens.review.store.tables import PEOPLE, SESSIONS
from fedlens.review.store.trail import (
    PERSON_ADDED,
    PERSON_CHANGED,
    SIGN_IN_REFUSED,
    Trail,
)

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 1024
TOKEN_PREFIX = "fedlens_"
UNKNOWN = Actor("unknown", Role.REVIEWER)
"""Who a refused sign-in is by when the name is nobody's: what was typed may be a password."""
COMMAND_LINE = "command line"
"""What no name begins with: in the trail it is whoever runs a command, and not the person so called."""
_AT_ONCE = 2  # each hash takes 64 MiB


Persons = list[Person]

_BY_TOKEN = Prepared(
    select(PEOPLE).where(PEOPLE.c.secret == bindparam("sought"), PEOPLE.c.token.is_(True))
)
"""It is asked at every request of a program."""


class People:
    """The people and API tokens of a store, and who is signed in.

    Args:
        trail: of the store.
        hasher: of passwords; Argon2id with the parameters of RFC 9106 by default.
    """

    def __init__(self, trail: Trail, hasher: PasswordHasher | None = None) -> None:
        self.trail = trail
        self.database = trail.database
        self.hasher = hasher or PasswordHasher()
        self.sessions = Sessions(trail, self._person)
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._decoy = ""
        self.start_session = self.sessions.start
        self.session = self.sessions.find
        self.end_session = self.sessions.end
        self.one_time_link = self.sessions.link
        self.use_link = self.sessions.use_link

    def add(self, name: str, password: str, role: Role, by: Actor) -> Person:
        """Add a person.

        Args:
            name: 1 to 64 characters; names that differ in case only are one.
            password: 12 to 1,024 characters.
            role: what they may do.
            by: a lead, or the command line as one.

        Raises:
            NotAllowedError: ``by`` is no lead.
            ConflictError: a person or token has the name.
            ReviewError: the name or password cannot be one.
        """
        secret = self._hash(_checked(password))
        return self._add(name, secret, Role(role), by, token=False)

    def change(
        self,
        name: str,
        by: Actor,
        *,
        role: Role | None = None,
        password: str | None = None,
        active: bool | None = None,
    ) -> Person:
        """Change a person, and sign them out everywhere; what is None stays.

        Whoever may work no more gives back the cases that they have.

        One's own password anyone may change; everything else is a lead's.

        Raises:
            NotFoundError: there is no such person.
            NotAllowedError: ``by`` may not, or the last lead would be gone.
            ReviewError: the password cannot be one.
        """
        own = role is None and active is None and by.name == name
        if not may_lead(by) and not own:
            raise NotAllowedError("Only a lead changes people; you may change your own password.")
        secret = None if password is None else self._hash(_checked(password))

        def work(connection: Connection) -> Person:
            row = self._row(connection, name, token=False)
            after = {
                "role": row.role if role is None else str(Role(role)),
                "active": row.active if active is None else bool(active),
                "secret": row.secret if secret is None else secret,
            }
            was_lead = row.active and row.role == Role.LEAD
            if was_lead and not (after["active"] and after["role"] == Role.LEAD):
                leads = (
                    select(func.count())
                    .select_from(PEOPLE)
                    .where(
                        PEOPLE.c.role == str(Role.LEAD),
                        PEOPLE.c.active.is_(True),
                        PEOPLE.c.token.is_(False),
                    )
                )
                if connection.execute(leads).scalar_one() < 2:
                    raise NotAllowedError(f"{row.name} is the last lead; make another one first.")
            about: dict[str, int] = {"password": secret is not None}
            if not after["active"] or after["role"] == Role.AUDITOR:
                # what a lead gave them is theirs without an end: nobody else would ever see it
                about["given_back"] = give_back(connection, row.name)
            return self._change(connection, row, after, by, **about)

        return self.database.write(work)

    def deactivate(self, name: str, by: Actor) -> Person:
        """Let a person sign in no more; their records stay. See :meth:`change` for what it raises."""
        return self.change(name, by, active=False)

    def list(self) -> Persons:
        """Return all people, in the order of their names."""
        return self._list(token=False)

    def tokens(self) -> Persons:
        """Return all API tokens, in the order of their names; never the tokens themselves."""
        return self._list(token=True)

    def get(self, name: str) -> Person:
        """Return a person.

        Raises:
            NotFoundError: there is none of this name.
            ConflictError: their row was changed outside the console.
        """
        with self.database.read() as connection:
            return _person(self._row(connection, name, token=False))

    def check_password(self, name: str, password: str) -> Person | None:
        """Return the person whose name and password these are, or None, after a record of it.

        It takes as long for a name that is nobody's.

        Raises:
            ConflictError: their row was changed outside the console.
        """
        with self.database.read() as connection:
            row = self._find(connection, name, token=False)
        if not self._decoy:
            self._decoy = self._hash(secrets.token_hex(16))
        right = self._matches(self._decoy if row is None else row.secret, password)
        if row is None or not right or not row.active:
            actor = UNKNOWN if row is None else _person(row).actor
            content = {"why": "name" if row is None else "password" if not right else "inactive"}
            self.trail.add(SIGN_IN_REFUSED, actor, content)
            return None
        if self.hasher.check_needs_rehash(row.secret):
            after = {"secret": self._hash(_normal(password))}

            def work(connection: Connection) -> None:
                now = self._row(connection, name, token=False)
                if now.secret == row.secret:
                    self._change(connection, now, after, _person(now).actor, rehashed=True)

            self.database.write(work)
        return _person(row)

    def add_token(self, name: str, role: Role, by: Actor) -> str:
        """Add an API token, and return it: it is shown this once.

        Raises:
            NotAllowedError: ``by`` is no lead.
            ConflictError: a person or token has the name.
            ReviewError: the name cannot be one.
        """
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        self._add(name, secret_digest(token), Role(role), by, token=True)
        return token

    def token(self, token: str) -> Person | None:
        """Return whom an API token speaks for, or None where it is none or was revoked."""
        rows = self.database.look(_BY_TOKEN, {"sought": secret_digest(token)})
        if len(rows) != 1:
            return None
        row = dict(zip(PEOPLE.columns.keys(), rows[0], strict=True))
        # SQLite has numbers for what is true and false
        row |= {name: bool(row[name]) for name in ("active", "token")}
        if not row["active"] or not self.trail.key.sealed(row["seal"], person_message(row)):
            return None
        return Person(row["name"], Role(row["role"]), row["active"], row["added"])

    def revoke_token(self, name: str, by: Actor) -> None:
        """Let an API token count no more.

        Raises:
            NotFoundError: there is none of this name.
            NotAllowedError: ``by`` is no lead.
        """
        must_lead(by, "revokes a token")

        def work(connection: Connection) -> None:
            row = self._row(connection, name, token=True)
            self._change(connection, row, {"active": False}, by)

        self.database.write(work)

    def _add(self, name: str, secret: str, role: Role, by: Actor, *, token: bool) -> Person:
        must_lead(by, "adds people and tokens")
        name = unicodedata.normalize("NFC", check_name(name))
        folded_given = folded_name(name)
        if folded_given == UNKNOWN.name or folded_given.startswith(COMMAND_LINE):
            raise ReviewError(
                f"'{name}' stands for somebody else in the trail; choose another name."
            )
        now = self.trail.clock()

        def work(connection: Connection) -> Person:
            folded = folded_name(name)
            there = select(PEOPLE.c.name).where(PEOPLE.c.folded == folded)
            if connection.execute(there).one_or_none() is not None:
                raise ConflictError(f"There is a person or a token of the name '{name}' already.")
            row = {
                "folded": folded,
                "name": name,
                "role": str(role),
                "active": True,
                "token": token,
                "secret": secret,
                "added": now,
            }
            record = self.trail.append(connection, PERSON_ADDED, by, vouched_person(row))
            row["record"] = record.sequence
            connection.execute(PEOPLE.insert(), {**row, "seal": self._seal(row)})
            return Person(name, role, True, now)

        return self.database.write(work)

    def _change(
        self,
        connection: Connection,
        row: Any,
        after: dict[str, Any],
        by: Actor,
        **about: int,
    ) -> Person:
        new = {**row._mapping, **after}
        content = {**vouched_person(new), **about}
        new["record"] = self.trail.append(connection, PERSON_CHANGED, by, content).sequence
        new["seal"] = self._seal(new)
        connection.execute(update(PEOPLE).where(PEOPLE.c.folded == row.folded).values(**new))
        if "rehashed" not in about and "carried" not in about:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.folded == row.folded))
        return Person(new["name"], Role(new["role"]), new["active"], new["added"])

    def carry(self, connection: Connection, row: Any, by: Actor) -> None:
        """Record a person or token anew, within a write, since the record about them goes."""
        self._change(connection, row, {}, by, carried=True)

    def _person(self, connection: Connection, folded: str) -> Person | None:
        row = self._find(connection, folded, token=False)
        return None if row is None else _person(row)

    def _list(self, *, token: bool) -> Persons:
        query = select(PEOPLE).where(PEOPLE.c.token.is_(token)).order_by(PEOPLE.c.folded)
        with self.database.read() as connection:
            return [_person(row) for row in connection.execute(query)]

    def _find(self, connection: Connection, name: str, *, token: bool) -> Any:
        """Return a person's row, or None.

        Raises:
            ConflictError: it was changed outside the console.
        """
        row = connection.execute(
            select(PEOPLE).where(PEOPLE.c.folded == folded_name(name), PEOPLE.c.token.is_(token))
        ).one_or_none()
        if row is not None and not self._sealed(row):
            raise ConflictError(
                f"What the store says of {row.name} was changed outside the console, so that nobody "
                "can sign in by that name; verify the store."
            )
        return row

    def _row(self, connection: Connection, name: str, *, token: bool) -> Any:
        row = self._find(connection, name, token=token)
        if row is None:
            raise NotFoundError(f"There is no {'token' if token else 'person'} '{name[:64]}'.")
        return row

    def _seal(self, row: dict[str, Any]) -> str:
        return self.trail.key.seal(person_message(row))

    def _sealed(self, row: Any) -> bool:
        return self.trail.key.sealed(row.seal, person_message(row._mapping))

    def _hash(self, password: str) -> str:
        with self._slots:
            return self.hasher.hash(password)

    def _matches(self, secret: str, password: str) -> bool:
        try:
            with self._slots:
                return self.hasher.verify(secret, _normal(password)[:LONGEST_PASSWORD])
        except (VerificationError, InvalidHashError, UnicodeError):
            return False


def vouched_person(row: Any) -> dict[str, Any]:
    """Return what the trail says of a person or token: of their secret only a digest."""
    return {
        "name": row["name"],
        "role": row["role"],
        "active": row["active"],
        "token": row["token"],
        "secret": secret_digest(str(row["secret"])),
    }


def person_message(row: Any) -> bytes:
    """Return what a person's row is sealed over."""
    names = ("folded", "name", "role", "active", "token", "secret", "added", "record")
    return canonical(["person", *(row[name] for name in names)]).encode()


def _person(row: Any) -> Person:
    return Person(row.name, Role(row.role), row.active, row.added)


def _normal(password: str) -> str:
    return unicodedata.normalize("NFC", password)


def _checked(password: str) -> str:
    password = _normal(password)
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ReviewError(
            f"A password has at least {SHORTEST_PASSWORD} characters, and at most "
            f"{LONGEST_PASSWORD:,}; this has {len(password):,}."
        )
    try:
        password.encode()
    except UnicodeEncodeError as error:
        raise ReviewError("The password holds characters that are not Unicode.") from error
    return password
