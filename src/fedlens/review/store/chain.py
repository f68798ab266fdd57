"""How records hang together: canonical JSON, digests, signatures, and the head that closes the chain.

A record's digest covers all of its fields and the digest of the one before, so that a digest stands
for everything up to it. Each record is signed, so that whoever writes the rest of the chain anew
is found at the first record that they changed. The head is signed too, with how many records there
are and with a running digest of their signatures: it alone says where the chain ends.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fedlens.review.contract import ReviewError
from fedlens.review.store.signing import PublicKey, ReviewKey

NOTHING = "0" * 64
LARGEST_CONTENT = 128 << 10
LONGEST_NAME = 64
_MATRIX = 8
_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)
_HEX = re.compile(r"[0-9a-f]+")


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: keys sorted, no spaces, UTF-8, no NaN.

    Raises:
        ReviewError: it is not plain JSON, holds a number that is not finite, or text that is not
            Unicode.
    """
    try:
        text = _CANONICAL.encode(value)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ReviewError(f"This cannot be kept in the trail: {error}.") from error
    return text


def canonical_content(content: Mapping[str, Any]) -> str:
    """Return the canonical JSON of a record's content.

    Raises:
        ReviewError: it is not plain JSON, is larger than 128 KiB, or holds an image or a map: bytes,
            or a list of eight rows or more of as many numbers.
    """
    plain = dict(content)
    _refuse_pictures(plain)
    text = canonical(plain)
    size = len(text.encode())
    if size > LARGEST_CONTENT:
        raise ReviewError(f"A record may hold {LARGEST_CONTENT:,} bytes, and this has {size:,}.")
    return text


def _refuse_pictures(value: Any) -> None:
    # What is no dict, list or tuple is no JSON that could hold one, and is refused as such.
    if isinstance(value, dict):
        items: Sequence[Any] = tuple(value.values())
    else:
        items = value
        rows = [row for row in value if isinstance(row, list | tuple) and len(row) >= _MATRIX]
        if len(rows) >= _MATRIX and all(_is_numbers(row) for row in rows):
            raise ReviewError("A record holds digests of images and maps, never the pixels.")
    for item in items:
        if isinstance(item, dict | list | tuple):
            _refuse_pictures(item)


def _is_numbers(row: Sequence[Any]) -> bool:
    return all(isinstance(item, int | float) for item in row)


def check_name(name: str, what: str = "name") -> str:
    """Return a name that can stand in a record.

    Raises:
        ReviewError: it is empty, longer than 64 characters, or holds control characters.
    """
    if not name or len(name) > LONGEST_NAME or name != name.strip() or not name.isprintable():
        raise ReviewError(
            f"A {what} has 1 to {LONGEST_NAME} characters, all of which can be printed, and no space "
            "around it."
        )
    return name


def digest_of(
    sequence: int,
    time: str,
    kind: str,
    actor: str,
    role: str,
    case: int | None,
    content: str,
    previous: str,
) -> str:
    """Return a record's digest: SHA-256 (64 hexadecimal digits) of its canonical JSON.

    Args:
        sequence: from 1.
        time: as it is written.
        kind: of the record.
        actor: who did it.
        role: as what.
        case: its number, or None.
        content: canonical JSON.
        previous: digest of the record before.
    """
    text = (
        f'{{"actor":{_CANONICAL.encode(actor)},'
        f'"case":{"null" if case is None else case},"content":{content},'
        f'"kind":{_CANONICAL.encode(kind)},"previous":"{previous}",'
        f'"role":{_CANONICAL.encode(role)},"sequence":{sequence},'
        f'"time":{_CANONICAL.encode(time)}}}'
    )
    return hashlib.sha256(_bytes(text)).hexdigest()


def _bytes(text: str) -> bytes:
    """Return text in UTF-8; what somebody made unreadable is of no true digest, and breaks nothing."""
    return text.encode("utf-8", "surrogatepass")


def record_message(store: str, sequence: int, digest: str) -> bytes:
    """Return what is signed of a record."""
    return _bytes(f"fedlens review record 1\n{store}\n{sequence}\n{digest}")


def add_seal(seals: str, signature: str) -> str:
    """Return the running digest of all signatures after one more."""
    return hashlib.sha256(_bytes(f"{seals}{signature}")).hexdigest()


def signed_by(key: PublicKey, signature: str, message: bytes) -> bool:
    """Return whether a signature in hexadecimal digits, from an untrusted source, holds."""
    if len(signature) != 128 or not _HEX.fullmatch(signature):
        return False
    return key.verify(bytes.fromhex(signature), message)


@dataclass(frozen=True)
class Head:
    """Where a chain ends.

    Attributes:
        store: identity of the store, 32 hexadecimal digits.
        count: sequence number of the last record; 0 where there is none.
        digest: of the last record.
        seals: running digest of all signatures.
        time: when it was signed.
        fingerprint: of the key.
        signature: of all of the above, 128 hexadecimal digits.
    """

    store: str
    count: int
    digest: str
    seals: str
    time: str
    fingerprint: str
    signature: str = ""

    def message(self, purpose: str = "head") -> bytes:
        """Return what is signed; a signature for one purpose is none for another."""
        return _bytes(
            f"fedlens review {purpose} 1\n{self.store}\n{self.count}\n{self.digest}\n{self.seals}\n"
            f"{self.time}\n{self.fingerprint}"
        )

    def signed(self, key: ReviewKey, purpose: str = "head") -> "Head":
        """Return this head, signed."""
        signature = key.sign(self.message(purpose)).hex()
        return Head(
            self.store,
            self.count,
            self.digest,
            self.seals,
            self.time,
            self.fingerprint,
            signature,
        )

    def holds(self, key: PublicKey, purpose: str = "head") -> bool:
        """Return whether the signature is this key's."""
        return self.fingerprint == key.fingerprint and signed_by(
            key, self.signature, self.message(purpose)
        )


def in_words(moment: float) -> str:
    """Return a time as records have it: UTC, to the microsecond."""
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def in_seconds(moment: str) -> float:
    """Return seconds since 1970 of a time as records have it."""
    return datetime.fromisoformat(moment).timestamp()


def finite(value: float) -> float:
    """Return a number that JSON can hold.

    Raises:
        ReviewError: it is NaN or infinite.
    """
    if not math.isfinite(value):
        raise ReviewError("A number that is not finite cannot be kept in the trail.")
    return float(value)
