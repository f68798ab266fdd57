"""Anchors: where the chain ended, signed, and kept outside the store.

Whoever can write to the database can put an older state of it back, which was truly signed. Only what
lies elsewhere tells: one line of JSON a time, beside the key by default, or wherever it was sent.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedlens.errors import RunError
from fedlens.files import read_bytes, write_bytes
from fedlens.review.contract import Actor, ReviewError
from fedlens.review.store.chain import Head, in_words
from fedlens.review.store.signing import PublicKey, ReviewKey
from fedlens.review.store.trail import ANCHORED, Trail

PURPOSE = "anchor"
LARGEST_FILE = 64 << 20


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    store: str = Field(pattern=r"^[0-9a-f]{32}$")
    count: int = Field(ge=0, lt=2**63)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    seals: str = Field(pattern=r"^[0-9a-f]{64}$")
    time: str = Field(max_length=40)
    fingerprint: str = Field(pattern=r"^[0-9a-f]{32}$")
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")


def anchor_of(trail: Trail) -> Head:
    """Return an anchor of where the chain ends now.

    Raises:
        ConflictError: the end of the trail was removed or changed: nothing false is signed.
    """
    head = trail.head()
    if not head.holds(trail.key.public):
        raise_untrue(trail)
    now = in_words(trail.clock())
    bare = Head(head.store, head.count, head.digest, head.seals, now, head.fingerprint)
    return bare.signed(trail.key, PURPOSE)


def raise_untrue(trail: Trail) -> None:
    """Raise that the end of a trail is not what this key signed."""
    raise ReviewError(
        f"The end of the trail in {trail.database.place} is not what {trail.key.path} signed, so "
        "that no anchor is made of it; verify the store."
    )


def export_anchor(trail: Trail, path: Path, actor: Actor) -> Head:
    """Write an anchor to a file, keep it beside the key too, and leave a record.

    Raises:
        ReviewError: the file cannot be written, or the end of the trail is not what was signed.
    """
    record = trail.add(ANCHORED, actor, {"file": path.name})
    anchor = anchor_of(trail)
    if anchor.count < record.sequence:
        raise_untrue(trail)
    try:
        write_bytes(path, anchor_line(anchor).encode())
    except RunError as error:
        raise ReviewError(str(error)) from error
    _append(kept_path(trail.key), anchor)
    return anchor


def keep_anchor(trail: Trail) -> Head | None:
    """Append an anchor to the file beside the key, unless the newest there says the same.

    Returns:
        The anchor; None where nothing is signed yet, or the end of the trail is not what was signed
        (which verification tells).

    Raises:
        ReviewError: the file cannot be written.
    """
    head = trail.head()
    if head.count == 0 or not head.holds(trail.key.public):
        return None
    newest = newest_kept(trail.key, head.store)
    if newest is not None and newest.count >= head.count:
        return newest
    anchor = anchor_of(trail)
    _append(kept_path(trail.key), anchor)
    return anchor


def kept_path(key: ReviewKey) -> Path:
    """Return the file beside a key in which its anchors are kept."""
    return key.path.with_name(f"{key.path.name}.anchors.jsonl")


def kept_anchors(key: ReviewKey, store: str | None = None) -> list[Head]:
    """Return the anchors that are kept beside a key, of one store or of all; there may be none.

    Raises:
        ReviewError: the file is there and cannot be read.
    """
    path = kept_path(key)
    if not path.exists():
        return []
    anchors = read_anchors(path)
    return [anchor for anchor in anchors if store is None or anchor.store == store]


def newest_kept(key: ReviewKey, store: str) -> Head | None:
    """Return the newest anchor of a store that is kept beside the key and truly signed, or None."""
    # the newest first: over the years there are many, and each signature takes a while
    kept = sorted(kept_anchors(key, store), key=lambda anchor: anchor.count, reverse=True)
    return next((anchor for anchor in kept if anchor.holds(key.public, PURPOSE)), None)


def read_anchors(path: Path) -> list[Head]:
    """Return the anchors in a file, one a line; their signatures are not checked here.

    Raises:
        ReviewError: it cannot be read, or a line is no anchor. A last line that a crash left half
            written is passed over.
    """
    try:
        content = read_bytes(path, LARGEST_FILE)
    except RunError as error:
        raise ReviewError(str(error)) from error
    *whole, last = content.split(b"\n")
    return list(_parsed([*whole, last] if _is_json(last) else whole, path))


def anchor_line(anchor: Head) -> str:
    """Return an anchor as one line of JSON."""
    return json.dumps(asdict(anchor), separators=(",", ":")) + "\n"


def true_anchors(anchors: Iterable[Head], key: PublicKey) -> Iterator[tuple[Head, bool]]:
    """Yield each anchor, and whether its signature holds."""
    for anchor in anchors:
        yield anchor, anchor.holds(key, PURPOSE)


def _parsed(lines: Iterable[bytes], path: Path) -> Iterator[Head]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield Head(**_Line.model_validate_json(line).model_dump())
        except ValidationError as error:
            raise ReviewError(f"Line {number} of {path} is not an anchor of a trail.") from error


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _append(path: Path, anchor: Head) -> None:
    """Append a line, on the disk when it returns; a half line that a crash left is ended first."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    _drop_half_line(file.fileno(), path)
            os.write(file.fileno(), anchor_line(anchor).encode())
            os.fsync(file.fileno())
    except OSError as error:
        raise ReviewError(
            f"Could not keep the anchor in {path}: {error.strerror or error}."
        ) from error


def _drop_half_line(handle: int, path: Path) -> None:
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if not _is_json(content[end:]):
        os.ftruncate(handle, end)
    else:
        os.write(handle, b"\n")
