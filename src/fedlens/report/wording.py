"""Numbers as text: one way to write a share, a loss, a size and a duration."""

import math
from collections.abc import Callable

from fedlens.report.history import Spread

NONE = "–"  # what stands where there is no number
_SPACE = "\u00a0"  # no line break between a number and its unit
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def percent(value: float, digits: int = 2) -> str:
    """Return a share in percent, e.g. ``89.57 %``."""
    return f"{decimal(100 * value, digits)}{_SPACE}%" if math.isfinite(value) else NONE


def points(value: float, digits: int = 2) -> str:
    """Return a difference of shares in percentage points, e.g. ``4.70``."""
    return decimal(100 * value, digits)


def signed_points(value: float) -> str:
    """Return a difference of shares in percentage points with its sign, e.g. ``−0.21``."""
    return signed(100 * value, 2)


def decimal(value: float, digits: int = 4) -> str:
    """Return ``value`` with ``digits`` decimals, a true minus, and no minus before zero."""
    if not math.isfinite(value):
        return NONE
    text = f"{value:.{digits}f}"
    return text.replace("-", "−" if text.strip("-0.") else "")


def signed(value: float, digits: int) -> str:
    """Return ``value`` with ``digits`` decimals and a sign unless it rounds to zero."""
    text = decimal(value, digits)
    return f"+{text}" if value > 0 and text.strip("0.") else text


def whole(value: float) -> str:
    """Return a count with thousands separators; the mean of several may have one decimal."""
    if not math.isfinite(value):
        return NONE
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def size(count: float) -> str:
    """Return a number of bytes in binary units, e.g. ``255.3 KiB``."""
    if not math.isfinite(count):
        return NONE
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while count >= 1024 and len(units) > 1:
        count /= 1024
        units.pop(0)
    return f"{count:,.{0 if units[0] == 'bytes' else 1}f}{_SPACE}{units[0]}"


def duration(seconds: float) -> str:
    """Return seconds in the units a person would use, e.g. ``2 min 5 s``."""
    if not math.isfinite(seconds):
        return NONE
    if seconds < 59.95:
        return f"{seconds:.1f}{_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_SPACE}min{_SPACE}{rest}{_SPACE}s"
    return f"{minutes // 60}{_SPACE}h{_SPACE}{minutes % 60}{_SPACE}min"


def with_spread(value: Spread | None, show: Callable[[float], str]) -> str:
    """Return ``mean ± sd`` with each shown by ``show``; the mean alone for a single seed."""
    if value is None:
        return NONE
    mean = show(value.mean)
    if value.sd is None:
        return mean
    return f"{mean.removesuffix(f'{_SPACE}%')}{_SPACE}±{_SPACE}{show(value.sd)}"


def spelled(number: int) -> str:
    """Return a whole number as it reads in a sentence: in words up to ten, then in digits."""
    return _WORDS[number] if 0 <= number < len(_WORDS) else f"{number:,}"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a count as it reads in a sentence, e.g. ``ten clients``, ``one round``."""
    return f"{spelled(number)} {noun if number == 1 else plural or noun + 's'}"


def listing(items: list[str]) -> str:
    """Return ``a``, ``a and b``, or ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))
