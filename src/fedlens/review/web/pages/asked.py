"""What of a case is looked at: which maps, of which question, and how opaque."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

OPACITY = 90
"""In percent, where a map is shown. Maps are see-through by themselves where they are weak."""


@dataclass(frozen=True)
class Asked:
    """What of a case is looked at.

    Attributes:
        method: shown beside the image.
        second: shown beside that; the same one where there is only one.
        against: class number that the maps weigh the predicted class against, or None.
        opacity: of the maps, in percent, a multiple of 10.
    """

    method: str
    second: str
    against: int | None = None
    opacity: int = OPACITY


def asked_of(
    query: Mapping[str, str],
    methods: Sequence[str],
    predicted: int,
    classes: int,
    shown: int = OPACITY,
) -> Asked:
    """Return what an address or a form asks for; what it cannot have becomes the default.

    Args:
        query: its parameters.
        methods: that there are.
        predicted: class number.
        classes: number of classes.
        shown: opacity in percent where none is asked for.
    """
    method = query.get("method", "")
    method = method if method in methods else methods[0]
    other = next((name for name in methods if name != method), method)
    second = query.get("second", "")
    second = second if second in methods and second != method else other
    against = query.get("against", "")
    number = int(against) if against.isascii() and against.isdigit() and len(against) < 6 else -1
    opacity = query.get("opacity", "")
    step = int(opacity) if opacity.isascii() and opacity.isdigit() and len(opacity) < 4 else shown
    return Asked(
        method,
        second,
        number if 0 <= number < classes and number != predicted else None,
        min(100, 10 * round(step / 10)),
    )


def map_address(number: int, method: str, against: int | None) -> str:
    """Return the address of a map's picture."""
    query = {"method": method} | ({} if against is None else {"against": str(against)})
    return f"/cases/{number}/map.png?{urlencode(query)}"
