"""``fedlens review verify``, ``export``, ``anchor``, ``prune`` and ``key``: proving what was done."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedlens.cli.display import errors, out, print_json
from fedlens.cli.options import Json
from fedlens.cli.review.app import (
    KeyFile,
    StorePlace,
    address_of,
    check_installed,
    opened,
    operator,
)
from fedlens.errors import RunError
from fedlens.files import atomic_writer, read_bytes, write_bytes
from fedlens.report.wording import count

if TYPE_CHECKING:
    from fedlens.review.store import PublicKey
    from fedlens.review.store.chain import Head
    from fedlens.review.store.verification import Verification

NOT_VALID = 1  # exit code: nothing was wrong with the question, but with the trail
MOST_SHOWN = 20

PublicKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--public-key",
        help="Public key (PEM) of the trail, from `fedlens review key --public`; without it, that of "
        "this machine's key.",
        show_default=False,
    ),
]


def verify(
    store: StorePlace,
    *,
    export_file: Annotated[
        bool, typer.Option("--exported", help="STORE is a file that `export` wrote as JSONL.")
    ] = False,
    anchors: Annotated[
        list[Path] | None,
        typer.Option(help="Anchors that were kept elsewhere.", show_default=False),
    ] = None,
    public_key: PublicKeyFile = None,
    key: KeyFile = None,
    json: Json = False,
) -> None:
    """Check that nothing in a trail was altered, removed, reordered or cut off.

    Prints "chain valid" and how many records there are, or names each record that is not as it was
    signed and exits with code 1. Anchors that lie beside this machine's key are compared too.

    Examples:

        fedlens review verify runs/first

        fedlens review verify runs/first --public-key review.pub --anchors anchor-2026-11.jsonl

        fedlens review verify trail.jsonl --exported --public-key review.pub
    """
    check_installed()
    from fedlens.review.store import ReviewKey
    from fedlens.review.store.anchors import kept_anchors, read_anchors
    from fedlens.review.store.database import open_to_read
    from fedlens.review.store.exports import verify_export
    from fedlens.review.store.verification import verify as verify_store

    if export_file and anchors:
        raise RunError("Anchors are compared with a store; an exported file has a signed end.")
    given = [anchor for path in anchors or [] for anchor in read_anchors(path)]
    kept: list[Head] = []
    if public_key is None:
        secret = ReviewKey.load(key, make=False)
        public = secret.public
        kept = kept_anchors(secret)
    else:
        public = _public(public_key)
    if export_file:
        with _text(Path(store)) as lines:
            found = verify_export(lines, public)
    else:
        database = open_to_read(address_of(store))
        try:
            found = verify_store(database, public, kept, given=given)
        finally:
            database.close()
    _show(found, json)
    if not found.valid:
        raise typer.Exit(NOT_VALID)


def export(
    store: StorePlace,
    *,
    out_: Annotated[
        Path, typer.Option("--out", help="File to write: NAME.jsonl (verifiable) or NAME.csv.")
    ],
    key: KeyFile = None,
) -> None:
    """Write the trail to a file; no image is in it.

    Examples:

        fedlens review export runs/first --out trail.jsonl

        fedlens review export runs/first --out trail.csv
    """
    check_installed()
    from fedlens.review.store.exports import jsonl, table

    kinds = {".jsonl": jsonl, ".csv": table}
    if out_.suffix.lower() not in kinds:
        raise RunError(f"{out_} has no known ending, expected .jsonl or .csv.")
    with opened(store, key) as place, atomic_writer(out_) as file:
        lines = 0
        for line in kinds[out_.suffix.lower()](place, operator()):
            file.write(line.encode())
            lines += 1
    out.print(f"Wrote {lines:,} lines to {out_}.", highlight=False, soft_wrap=True)


def anchor(
    store: StorePlace,
    *,
    out_: Annotated[Path, typer.Option("--out", help="File to write.")],
    key: KeyFile = None,
) -> None:
    """Write a signed line that says where the trail ends now; keep it where nobody here can reach it.

    With it `verify` finds even that a whole older state of the store was put back.

    Examples:

        fedlens review anchor runs/first --out anchor-2026-11.jsonl
    """
    check_installed()
    from fedlens.review.store.anchors import export_anchor

    with opened(store, key) as place:
        made = export_anchor(place.trail, out_, operator())
    out.print(f"Anchored {made.count:,} records in {out_}.", highlight=False, soft_wrap=True)


def prune(
    store: StorePlace,
    *,
    older_than: Annotated[
        int, typer.Option(min=1, help="Days; at least 183.", show_default=True)
    ] = 183,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    key: KeyFile = None,
) -> None:
    """Remove the oldest records as the rules of retention have it; what is left still verifies.

    Export the trail first. A signed record says what was removed, when and by whom.

    Examples:

        fedlens review prune runs/first --older-than 365
    """
    check_installed()
    from fedlens.review.store.retention import SHORTEST_DAYS
    from fedlens.review.store.retention import prune as prune_store

    if older_than < SHORTEST_DAYS:
        raise RunError(
            f"--older-than is {older_than} days, expected at least {SHORTEST_DAYS}: half a year is "
            "the shortest that a log may be kept."
        )
    address_of(store)
    if not yes:
        if not sys.stdin.isatty():
            raise RunError("Pruning cannot be taken back; give --yes where nobody can be asked.")
        typer.confirm(f"Remove all records older than {older_than} days for good?", abort=True)
    with opened(store, key) as place:
        record = prune_store(place, operator(), older_than)
    if record is None:
        out.print(
            f"No record is older than {older_than} days; nothing was removed.", highlight=False
        )
        return
    gone = record.content
    out.print(
        f"Removed {gone['count']:,} records ({gone['first']:,} to {gone['last']:,}); record "
        f"{record.sequence:,} says so.",
        highlight=False,
    )


def key(
    *,
    public: Annotated[
        Path | None,
        typer.Option("--public", help="Write the public half there, for an auditor (PEM)."),
    ] = None,
    key_file: KeyFile = None,
) -> None:
    """Say which key signs the trails of this machine, and hand out its public half.

    Examples:

        fedlens review key --public review.pub
    """
    check_installed()
    from fedlens.review.store import ReviewKey

    secret = ReviewKey.load(key_file)
    if public is not None:
        write_bytes(public, secret.public.pem())
    out.print(
        f"{secret.path}: fingerprint {secret.public.fingerprint}",
        highlight=False,
        soft_wrap=True,
    )
    if public is not None:
        out.print(f"Its public half is in {public}.", highlight=False, soft_wrap=True)


def _public(path: Path) -> "PublicKey":
    from fedlens.review.store import PublicKey
    from fedlens.review.store.signing import LARGEST_KEY_FILE

    return PublicKey.read(read_bytes(path, LARGEST_KEY_FILE))


def _show(found: "Verification", json: bool) -> None:
    if json:
        print_json({**asdict(found), "valid": found.valid, "sentence": found.sentence})
        return
    if found.valid:
        kept = "anchor" if found.anchors == 1 else "anchors"
        against = f" and {found.anchors:,} {kept}" if found.anchors else ""
        out.print(found.sentence, style="green", highlight=False)
        out.print(
            f"Checked with the key {found.fingerprint}{against}; signed last at {found.time}.",
            highlight=False,
            soft_wrap=True,
        )
        return
    many = count(len(found.findings), "finding")
    errors.print(f"The chain is NOT valid: {many}.", style="red")
    for finding in found.findings[:MOST_SHOWN]:
        errors.print(f"- {finding.sentence}", highlight=False, soft_wrap=True)
    if len(found.findings) > MOST_SHOWN:
        errors.print(f"These are the first {MOST_SHOWN}; --json has all.", highlight=False)


@contextmanager
def _text(path: Path) -> "Iterator[Iterator[str]]":
    """Yield the lines of a file."""
    try:
        with path.open(encoding="utf-8") as file:
            yield iter(file)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise RunError(f"Could not read {path}: {why}.") from error
