"""``fedlens review user`` and ``token``: who may use the console, and as what."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from fedlens.cli.display import errors, out, print_json, table
from fedlens.cli.options import Json
from fedlens.cli.review.app import KeyFile, StorePlace, check_installed, opened, operator
from fedlens.errors import RunError

if TYPE_CHECKING:
    from fedlens.review.contract import Person, Role

LONGEST_LINE = 4096

user = typer.Typer(help="People: add, change, list.", no_args_is_help=True)
token = typer.Typer(help="API tokens for programs: add, revoke, list.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="1 to 64 characters.")]
RoleName = Annotated[
    str,
    typer.Option(
        "--role",
        help="reviewer (works cases), lead (assigns them too, keeps people) or auditor (reads "
        "everything, changes nothing).",
    ),
]
FromInput = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read the password from the first line of the input."),
]


@user.command("add")
def add_user(
    store: StorePlace,
    name: Name,
    *,
    role: RoleName = "reviewer",
    password_stdin: FromInput = False,
    key: KeyFile = None,
) -> None:
    """Add a person; the password is asked for twice and never shown.

    Examples:

        fedlens review user add runs/first ada --role lead

        fedlens review user add runs/first bo < /run/secrets/bo --password-stdin
    """
    check_installed()
    wanted = _role(role)
    password = _password(password_stdin)
    with opened(store, key, must_exist=False) as place:
        person = place.people.add(name, password, wanted, operator())
    out.print(f"Added {person.name} as {person.role}.", highlight=False)


@user.command("change")
def change_user(
    store: StorePlace,
    name: Name,
    *,
    role: Annotated[
        str | None, typer.Option("--role", show_default=False, help="Their new role.")
    ] = None,
    password: Annotated[bool, typer.Option("--password", help="Ask for a new password.")] = False,
    password_stdin: FromInput = False,
    active: Annotated[
        bool | None,
        typer.Option("--active/--inactive", show_default=False, help="May they sign in?"),
    ] = None,
    key: KeyFile = None,
) -> None:
    """Change a person's role or password, or let them sign in no more; they are signed out.

    Examples:

        fedlens review user change runs/first bo --role auditor

        fedlens review user change runs/first bo --inactive
    """
    check_installed()
    if role is None and active is None and not (password or password_stdin):
        raise RunError("Nothing to change: give --role, --password, --active or --inactive.")
    wanted = None if role is None else _role(role)
    secret = _password(password_stdin) if password or password_stdin else None
    with opened(store, key) as place:
        person = place.people.change(name, operator(), role=wanted, password=secret, active=active)
    state = "" if person.active else ", who may not sign in"
    out.print(f"{person.name} is now {person.role}{state}.", highlight=False)


@user.command("list")
def list_users(store: StorePlace, *, key: KeyFile = None, json: Json = False) -> None:
    """List the people of a store."""
    with opened(store, key) as place:
        _show("People", place.people.list(), json)


@token.command("add")
def add_token(
    store: StorePlace, name: Name, *, role: RoleName = "reviewer", key: KeyFile = None
) -> None:
    """Add an API token and print it; it is shown this once, and kept only as a digest.

    Examples:

        fedlens review token add runs/first pacs > pacs.token
    """
    check_installed()
    wanted = _role(role)
    with opened(store, key, must_exist=False) as place:
        secret = place.people.add_token(name, wanted, operator())
    errors.print(f"Token of {name}, as {wanted}; it is not shown again:", highlight=False)
    sys.stdout.write(secret + "\n")


@token.command("revoke")
def revoke_token(store: StorePlace, name: Name, *, key: KeyFile = None) -> None:
    """Let a token count no more."""
    with opened(store, key) as place:
        place.people.revoke_token(name, operator())
    out.print(f"The token of {name} counts no more.", highlight=False)


@token.command("list")
def list_tokens(store: StorePlace, *, key: KeyFile = None, json: Json = False) -> None:
    """List the API tokens of a store: their names, never the tokens themselves."""
    with opened(store, key) as place:
        _show("API tokens", place.people.tokens(), json)


def _role(name: str) -> "Role":
    from fedlens.review.contract import Role

    try:
        return Role(name)
    except ValueError as error:
        raise RunError(f"There is no role '{name}', expected one of {', '.join(Role)}.") from error


def _password(from_input: bool) -> str:
    if from_input:
        line = sys.stdin.readline(LONGEST_LINE).rstrip("\r\n")
        if not line:
            raise RunError("The input holds no password, expected one on its first line.")
        return line
    if not sys.stdin.isatty():
        raise RunError("There is no terminal to ask for the password at; give --password-stdin.")
    secret: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return secret


def _show(title: str, people: "Sequence[Person]", json: bool) -> None:
    if json:
        print_json(
            [{"name": p.name, "role": p.role, "active": p.active, "added": p.added} for p in people]
        )
        return
    rows = [
        [
            person.name,
            person.role,
            "yes" if person.active else "no",
            datetime.fromtimestamp(person.added, UTC).strftime("%Y-%m-%d"),
        ]
        for person in people
    ]
    table(title, ["name", "role", "active", "added"], rows)
