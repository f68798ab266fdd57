"""People: who may sign in, and that a database without the key lets nobody in."""

from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import text

from fedlens.review.contract import (
    ConflictError,
    NotAllowedError,
    NotFoundError,
    Person,
    ReviewError,
    Role,
    State,
)
from fedlens.review.store import Store
from fedlens.review.store.trail import SIGN_IN_REFUSED, SIGNED_IN
from reviewing import ANNA, LEAD, PASSWORD, Clock, new_case


@pytest.fixture
def anna(store: Store) -> Person:
    return store.people.add("Anna", PASSWORD, Role.REVIEWER, LEAD)


def by_hand(store: Store, statement: str, **values: Any) -> None:
    with store.database._writing.begin() as connection:
        connection.execute(text(statement), values)


def everything(store: Store) -> str:
    """All that the database holds, as text."""
    tables = ("head", "records", "cases", "decisions", "people", "sessions")
    with store.database.read() as connection:
        return str([connection.execute(text(f"SELECT * FROM {name}")).all() for name in tables])


def test_a_person_signs_in_by_password(store: Store, anna: Person) -> None:
    assert anna.role is Role.REVIEWER
    assert store.people.check_password("Anna", PASSWORD) == anna
    assert store.people.check_password("ANNA", PASSWORD) == anna
    token = store.people.start_session(anna)
    found = store.people.session(token)
    assert found is not None
    assert found[0] == anna
    assert len(found[1]) == 64
    assert found[1] not in token
    store.people.end_session(token)
    assert store.people.session(token) is None
    (record,) = store.trail.page(kind=SIGNED_IN)
    assert (record.actor, record.content) == ("Anna", {"way": "password"})


def test_no_secret_is_anywhere_in_the_store(store: Store, anna: Person) -> None:
    token = store.people.start_session(anna)
    api = store.people.add_token("program", Role.REVIEWER, LEAD)
    link = store.people.one_time_link(anna)
    assert store.people.check_password("Anna", "not the password") is None
    assert store.people.check_password("a password typed as a name", "x") is None
    held = everything(store)
    for secret in (PASSWORD, token, api, link, "not the password", "typed as a name"):
        assert secret not in held
    assert "$argon2id$" in held


def test_refusals_are_in_the_trail(store: Store, anna: Person) -> None:
    store.people.check_password("Anna", "not the password")
    store.people.check_password("nobody", PASSWORD)
    store.people.deactivate("Anna", LEAD)
    assert store.people.check_password("Anna", PASSWORD) is None
    told = [(one.actor, one.content["why"]) for one in store.trail.page(kind=SIGN_IN_REFUSED)]
    assert told == [("Anna", "inactive"), ("unknown", "name"), ("Anna", "password")]


@pytest.mark.parametrize("password", ["", "eleven char", "x" * 1025, "\ud800" * 12])
def test_a_password_that_cannot_be_one(store: Store, password: str) -> None:
    with pytest.raises(ReviewError, match="password"):
        store.people.add("Anna", password, Role.REVIEWER, LEAD)


@pytest.mark.parametrize(
    "name", ["", " a", "a" * 65, "a\nb", "a\x00", "unknown", "\u202eanna", "Command line (root)"]
)
def test_a_name_that_cannot_be_one(store: Store, name: str) -> None:
    with pytest.raises(ReviewError):
        store.people.add(name, PASSWORD, Role.REVIEWER, LEAD)


def test_names_are_one_whatever_their_case(store: Store, anna: Person) -> None:
    for name in ("anna", "ANNA", "\uff21nna"):
        with pytest.raises(ConflictError, match="already"):
            store.people.add(name, PASSWORD, Role.REVIEWER, LEAD)
        with pytest.raises(ConflictError, match="already"):
            store.people.add_token(name, Role.REVIEWER, LEAD)


def test_only_a_lead_keeps_people(store: Store, anna: Person) -> None:
    for what in (
        lambda: store.people.add("Ben", PASSWORD, Role.LEAD, anna.actor),
        lambda: store.people.add_token("program", Role.LEAD, anna.actor),
        lambda: store.people.change("Anna", anna.actor, role=Role.LEAD),
        lambda: store.people.deactivate("Anna", anna.actor),
    ):
        with pytest.raises(NotAllowedError):
            what()
    store.people.change("Anna", anna.actor, password="another long password")
    assert store.people.check_password("Anna", PASSWORD) is None
    assert store.people.check_password("Anna", "another long password") is not None
    with pytest.raises(NotFoundError):
        store.people.change("Ben", LEAD, role=Role.LEAD)


def test_the_last_lead_stays(store: Store) -> None:
    lena = store.people.add("Lena", PASSWORD, Role.LEAD, LEAD)
    with pytest.raises(NotAllowedError, match="last lead"):
        store.people.deactivate("Lena", lena.actor)
    store.people.add("Anna", PASSWORD, Role.LEAD, LEAD)
    assert not store.people.deactivate("Lena", LEAD).active
    assert [(one.name, one.active) for one in store.people.list()] == [
        ("Anna", True),
        ("Lena", False),
    ]


@pytest.mark.parametrize("change", [{"active": False}, {"role": Role.AUDITOR}])
def test_who_works_no_more_gives_their_cases_back(
    store: Store, anna: Person, change: dict[str, Any]
) -> None:
    store.queue.add([new_case(number) for number in range(3)], LEAD)
    store.queue.assign(LEAD, 1, "Anna")  # without an end
    store.queue.claim(anna.actor, 2)
    store.people.change("Anna", LEAD, password=PASSWORD + "2")
    assert store.queue.get(1).assignee == "Anna"
    store.people.change("Anna", LEAD, **change)
    assert {store.queue.get(number).state for number in (1, 2, 3)} == {State.OPEN}
    assert store.trail.page(limit=1)[0].content["given_back"] == 2
    assert store.verify().valid


def test_a_session_ends_by_time(store: Store, anna: Person, clock: Clock) -> None:
    token = store.people.start_session(anna)
    clock.now += 30 * 60
    assert store.people.session(token) is None
    token = store.people.start_session(anna)
    for _ in range(24):  # in use all the time, and over after twelve hours
        clock.now += 29.9 * 60
        assert store.people.session(token) is not None
    clock.now += 10 * 60
    assert store.people.session(token) is None


def test_a_changed_person_is_signed_out(store: Store, anna: Person) -> None:
    token = store.people.start_session(anna)
    store.people.change("Anna", LEAD, role=Role.AUDITOR)
    assert store.people.session(token) is None
    with pytest.raises(NotFoundError):
        store.people.deactivate("Anna", LEAD)
        store.people.start_session(anna)


def test_a_link_lets_in_once_and_for_ten_minutes(store: Store, anna: Person, clock: Clock) -> None:
    link = store.people.one_time_link(anna)
    assert store.people.session(link) is None
    assert store.people.use_link("another") is None
    assert store.people.use_link(link) == anna
    assert store.people.use_link(link) is None
    link = store.people.one_time_link(anna)
    clock.now += 600
    assert store.people.use_link(link) is None
    session = store.people.start_session(anna)
    assert store.people.use_link(session) is None


def test_a_token_of_the_api(store: Store, anna: Person) -> None:
    token = store.people.add_token("program", Role.LEAD, LEAD)
    person = store.people.token(token)
    assert person is not None
    assert (person.name, person.role) == ("program", Role.LEAD)
    assert store.people.token(token + "x") is None
    assert store.people.token("\ud800") is None
    assert store.people.check_password("program", token) is None
    assert store.people.session(token) is None
    assert [one.name for one in store.people.tokens()] == ["program"]
    assert [one.name for one in store.people.list()] == ["Anna"]
    with pytest.raises(NotAllowedError):
        store.people.revoke_token("program", ANNA)
    store.people.revoke_token("program", LEAD)
    assert store.people.token(token) is None
    assert store.verify().valid


def test_weak_hashes_are_made_anew(store: Store, anna: Person) -> None:
    token = store.people.start_session(anna)
    store.people.hasher = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    assert store.people.check_password("Anna", PASSWORD) == anna
    assert "m=16,t=2" in everything(store)
    assert store.people.session(token) is not None
    assert store.verify().valid


def test_without_the_key_nobody_is_let_in(store: Store, anna: Person) -> None:
    lena = store.people.add("Lena", PASSWORD, Role.LEAD, LEAD)
    token, api = store.people.start_session(lena), store.people.add_token("p", Role.LEAD, LEAD)
    known = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(
        "the attacker's password"
    )
    by_hand(store, "UPDATE people SET secret = :known WHERE name = 'Lena'", known=known)
    with pytest.raises(ConflictError, match="changed outside"):
        store.people.check_password("Lena", "the attacker's password")
    with pytest.raises(ConflictError, match="changed outside"):
        store.people.session(token)
    by_hand(store, "UPDATE people SET role = 'auditor' WHERE name = 'p'")
    assert store.people.token(api) is None
    anna_token = store.people.start_session(anna)
    by_hand(store, "UPDATE sessions SET began = began + 1")
    assert store.people.session(anna_token) is None
    assert {one.problem for one in store.verify().findings} == {"people"}
