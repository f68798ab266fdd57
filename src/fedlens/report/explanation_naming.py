"""How the methods of explanation, and figures about them, are written in text."""

from collections.abc import Sequence

from fedlens.report.explanation_reading import Estimate
from fedlens.report.wording import decimal, listing, signed


def method_name(key: str) -> str:
    """Return a method as it is called in text: no comma, which would break a list in two."""
    name, _, setting = key.partition(", ")
    return f"{name} ({setting})" if setting else name


def methods_named(keys: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    return listing([method_name(key) for key in keys])


def ranged(figure: Estimate, digits: int = 2) -> str:
    """Return ``mean (low to high)``."""
    mean = decimal(figure.mean, digits)
    if not figure.low <= figure.high:
        return mean
    return f"{mean} ({decimal(figure.low, digits)} to {decimal(figure.high, digits)})"


def lifted(figure: Estimate) -> str:
    """Return a lift in points with its sign, ``+12 (9 to 15)``."""
    mean = signed(100 * figure.mean, 0)
    if not figure.low <= figure.high:
        return mean
    return f"{mean} ({decimal(100 * figure.low, 0)} to {decimal(100 * figure.high, 0)})"


def capital(text: str) -> str:
    """Return ``text`` with a capital letter in front, the rest as it is."""
    return text[:1].upper() + text[1:]


def lowered(text: str) -> str:
    """Return a sentence as it goes on after a colon: with a small letter in front."""
    return text[:1].lower() + text[1:]


def images_text(number_of: int) -> str:
    """Return ``1,200 images``."""
    return f"{number_of:,} {'image' if number_of == 1 else 'images'}"


def some_of(number_of: int, of: int) -> str:
    """Return ``3 of 8 methods``."""
    return f"{number_of} of {of} methods"
