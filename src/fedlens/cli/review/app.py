"""What the commands of ``fedlens review`` share: their place, their options, and the store."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedlens.errors import RunError
from fedlens.experiment.run_directory import RunDirectory

if TYPE_CHECKING:
    from fedlens.review.contract import Actor
    from fedlens.review.store import Store

NEEDED = ("alembic", "argon2", "fastapi", "prometheus_client", "multipart", "sqlalchemy", "uvicorn")
COMMAND_LINE = "command line"
SQLITE = "sqlite:///"

review = typer.Typer(
    help="The reviewer's console: see why, decide, overrule, and leave a trail that can be proven.",
    no_args_is_help=True,
)

StorePlace = Annotated[
    str,
    typer.Argument(
        metavar="STORE",
        help="A run directory (its own store), or sqlite:///FILE or postgresql://USER@HOST/NAME.",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help="The key that signs the trail; keep it away from the store. Made where there is none.",
        show_default="review.key in your configuration folder",
        envvar="FEDLENS_REVIEW_KEY",
    ),
]


def check_installed() -> None:
    """Raise ``RunError`` where a package that the console stands on is not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise RunError(
            "The console needs packages that are not installed; install them with "
            "`pip install 'fedlens[review]'` (with -c constraints.txt in a checkout)."
        )


def address_of(place: str, *, must_exist: bool = True) -> str:
    """Return the address of the store at ``place``, a run directory or an address itself.

    Args:
        place: as the person wrote it.
        must_exist: refuse an SQLite file that is not there, rather than make an empty store.

    Raises:
        RunError: it is neither, or the store is not there.
    """
    from fedlens.review.store import default_url

    address = place
    if "://" not in place:
        RunDirectory(Path(place)).read_config()
        address = default_url(Path(place))
    file = Path(address.removeprefix(SQLITE))
    if must_exist and address.startswith(SQLITE) and not file.exists():
        raise RunError(
            f"There is no store at {file}; `fedlens review serve RUN` or `fedlens review user add` "
            "makes one."
        )
    return address


@contextmanager
def opened(place: str, key: Path | None, *, must_exist: bool = True) -> "Iterator[Store]":
    """Yield the store that was asked for, and close it; see :func:`address_of`."""
    check_installed()
    from fedlens.review.store import ReviewKey, open_store

    store = open_store(address_of(place, must_exist=must_exist), ReviewKey.load(key))
    try:
        yield store
    finally:
        store.close()


def account() -> str:
    """Return the name of the account that runs the command."""
    try:
        import getpass

        return getpass.getuser()[:40]
    except (OSError, KeyError, ImportError):  # an account without a name
        return f"uid {os.getuid()}"


def operator() -> "Actor":
    """Return who runs the command, for the trail: whoever may, may do what a lead does."""
    from fedlens.review.contract import Actor, Role

    return Actor(f"{COMMAND_LINE} ({account()})", Role.LEAD)
