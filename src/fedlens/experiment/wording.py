"""What a configuration key may be, in words."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args


def values_in_words(field: Any) -> str:
    """Return what a field of the configuration may be, e.g. ``number above 0``."""
    words = _type_words(field.annotation)
    limits = []
    for rule in field.metadata:
        for name, sign in (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below")):
            bound = getattr(rule, name, None)
            if bound is not None and bound < 2**62:
                limits.append(f"{sign} {bound:g}")
    return " ".join([words, *limits])


def _type_words(annotation: Any) -> str:
    simple = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    if annotation in simple:
        return simple[annotation]
    arguments = get_args(annotation)
    origin = getattr(annotation, "__origin__", None)
    if origin is Literal or (arguments and all(isinstance(a, str) for a in arguments)):
        return ", ".join(str(value) for value in arguments)
    if hasattr(annotation, "__metadata__"):
        return _type_words(arguments[0])
    if origin is dict:
        return f"table of {_type_words(arguments[1])}"
    if origin is list:
        return f"list of {_type_words(arguments[0])}"
    return " or ".join(_type_words(a) for a in arguments if a is not type(None))


def default_in_words(field: Any) -> str:
    """Return the default of a field, or an empty text where it has none."""
    value = field.default
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def did_you_mean(word: str, allowed: Sequence[str] | Mapping[str, Any]) -> str:
    """Return a question that names the closest of ``allowed``, or an empty text."""
    close = difflib.get_close_matches(word, list(allowed), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""
