"""Writing so that nothing is ever half-written, and reading so that nothing is trusted.

A file is written beside its destination, flushed to the disk and renamed over it: a reader, a kill or
a full disk sees the old file or the new one, never a part.
"""

import json
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from fedlens.errors import RunError


@contextmanager
def atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that becomes ``path`` when the block ends, or vanishes if it raises.

    Raises:
        RunError: the folder is missing or read-only, or the disk is full.
    """
    temporary: Path | None = None
    try:
        temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}.part"
        with temporary.open("xb") as file:  # with the permissions that the umask leaves
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RunError(
            f"Could not write {path}: {error.strerror or error}; free some space or choose a folder "
            "that you may write to."
        ) from error
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                temporary.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically; see :func:`atomic_writer` for what it raises."""
    with atomic_writer(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text to ``path`` atomically; see :func:`atomic_writer` for what it raises."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON to ``path`` atomically; NaN is refused (``ValueError``)."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def make_once(path: Path, content: bytes) -> None:
    """Make a file that its owner alone may read, unless there is one already.

    Of several processes that make it at once, one wins; all find the same complete file.

    Raises:
        OSError: it cannot be made.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first: its file is the file
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def without_nan(value: Any) -> Any:
    """Return plain JSON values with None in the place of every number that is not finite."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of ``path``, refusing more than ``limit`` bytes.

    Raises:
        RunError: the file is missing, unreadable, or larger than ``limit``.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise RunError(f"Could not read {path}: {error.strerror or error}.") from error
    if len(content) > limit:
        raise RunError(f"{path} is larger than the {limit:,} bytes that such a file may have.")
    return content
