"""Where in a long list a page is."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode


@dataclass(frozen=True)
class Paging:
    """Addresses of the pages before and after, or None, and where this one is."""

    previous: str | None
    next: str | None
    words: str


def paging(path: str, query: Mapping[str, str], offset: int, limit: int, total: int) -> Paging:
    """Return where the page that begins at ``offset`` is among ``total`` rows.

    Args:
        path: of the list.
        query: the other parameters; empty ones are left out.
        offset: of the first row, from 0.
        limit: rows of a page.
        total: rows of the list.
    """

    def at(place: int) -> str:
        kept = {name: value for name, value in query.items() if value}
        return f"{path}?{urlencode(kept | ({'offset': str(place)} if place else {}))}".rstrip("?")

    return Paging(
        at(max(0, offset - limit)) if offset > 0 else None,
        at(offset + limit) if offset + limit < total else None,
        f"{min(offset + 1, total):,} to {min(offset + limit, total):,} of {total:,}",
    )


def offset_of(query: Mapping[str, str]) -> int:
    """Return the offset that an address asks for; 0 where it is none."""
    text = query.get("offset", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
