"""The parts of a multipart body that is in memory (RFC 7578): it is cut at its boundary.

A parser for bodies that trickle in looks at every byte in Python, which for one small picture takes
longer than to decode it. Here the whole body is there, and how large it may be was seen to before.
"""

import re
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header

LARGEST_HEAD = 2048
LONGEST_BOUNDARY = 70  # RFC 2046, section 5.1.1
_END = b"\r\n\r\n"


class MalformedError(Exception):
    """A body that is no multipart; its text says why, without a full stop."""


class TooManyError(Exception):
    """More parts than there may be."""


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        name: of the field.
        content: whole.
        is_file: it says that it is one, by a file name; what that name is does not matter.
    """

    name: str
    content: bytes
    is_file: bool


def parts_of(body: bytes, kind: str, most: int) -> list[Part]:
    """Return the parts of a body that are whole, in order; what follows the last is not looked at.

    Args:
        body: all of it.
        kind: the Content-Type, with the boundary.
        most: parts that there may be.

    Raises:
        MalformedError: there is no boundary, or the body does not keep to it, or a part has no name.
        TooManyError: there are more parts.
    """
    boundary = parse_options_header(kind)[1].get(b"boundary")
    if not boundary or len(boundary) > LONGEST_BOUNDARY:
        raise MalformedError("the boundary is missing or too long")
    delimiter = b"\r\n--" + boundary
    # content may have what looks like one, as often as it likes: that is passed over in one go
    ends = re.compile(re.escape(delimiter) + rb"(?=\r\n|--|\Z)")
    start = 2 if body.startswith(b"\r\n") else 0
    if len(body) == start:
        return []
    if not body.startswith(delimiter[2:], start):
        raise MalformedError("it does not begin with its boundary")
    place = start - 2  # where the line break of the first boundary is, or would be
    parts: list[Part] = []
    while True:
        place += len(delimiter)
        after = body[place : place + 2]
        if after == b"--" or len(after) < 2:
            return parts
        if after != b"\r\n":
            raise MalformedError("something follows a boundary on its line")
        head = body.find(_END, place, place + LARGEST_HEAD)
        if head < 0 and len(body) > place + LARGEST_HEAD:
            raise MalformedError("what a part says of itself is too long")
        found = ends.search(body, head + len(_END)) if head >= 0 else None
        if found is None:
            return parts  # cut short
        if len(parts) == most:
            raise TooManyError
        name, is_file = _described(body[place + 2 : head])
        place = found.start()
        parts.append(Part(name, body[head + len(_END) : place], is_file))


def _described(head: bytes) -> tuple[str, bool]:
    """Return the name that the head of a part gives it, and whether it says that it is a file."""
    found = []
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise MalformedError("what a part says of itself is no header")
        if name.lower() == b"content-disposition":
            found.append(parse_options_header(value)[1])
    if len(found) != 1 or b"name" not in found[0]:
        raise MalformedError("a part does not say its name once")
    return text_of(found[0][b"name"]), b"filename" in found[0]


def text_of(content: bytes) -> str:
    """Return bytes as text, in UTF-8 or else in Latin-1."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")
