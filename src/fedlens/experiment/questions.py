"""What a person asks about decisions, read from words: which images, which classes, which settings."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from fedlens.errors import ExplanationError
from fedlens.experiment.wording import did_you_mean
from fedlens.explain import METHODS, Contrast, parameters_of
from fedlens.explain.target import contrast_of

_NUMBER = "[0-9]{1,18}"
_SLICE = re.compile(f"({_NUMBER})?:({_NUMBER})?(?::({_NUMBER})?)?")
_KINDS: dict[type[Any], str] = {bool: "true or false", int: "a whole number", float: "a number"}


def chosen_positions(selections: Sequence[str], images: int, split: str) -> list[int]:
    """Return the positions that ``selections`` name, in their order.

    Args:
        selections: numbers such as ``12``, and slices ``start:stop`` or ``start:stop:step``, which
            mean what they do in Python: ``stop`` is not taken, and what lies past the end is not
            there.
        images: how many images the split has.
        split: its name, for the sentences.

    Raises:
        ExplanationError: a selection is neither, a number is out of range, or a slice is empty.
    """
    positions: list[int] = []
    for selection in selections:
        text = selection.strip()
        bounds = _SLICE.fullmatch(text)
        if bounds is not None and bounds[3] is not None and int(bounds[3]) == 0:
            raise ExplanationError(f"The step of the selection {text} is 0, expected at least 1.")
        if bounds is not None:
            part = slice(*(None if bound is None else int(bound) for bound in bounds.groups()))
            found = list(range(images)[part])
            if not found:
                raise ExplanationError(
                    f"The selection {text} holds no image: the {split} split has the images 0 to "
                    f"{images - 1:,}, and stop is not taken."
                )
            positions += found
        elif re.fullmatch(_NUMBER, text):
            if int(text) >= images:
                raise ExplanationError(
                    f"There is no image {int(text)} in the {split} split, expected from 0 to "
                    f"{images - 1:,}."
                )
            positions.append(int(text))
        else:
            raise ExplanationError(
                f"{selection!r} selects no images, expected a number from 0 such as 12, or a slice "
                "start:stop or start:stop:step such as 0:64."
            )
    return positions


def parse_contrast(text: str, class_names: Sequence[str]) -> Contrast:
    """Return the contrast ``A:B``, "why A rather than B"; a name may itself hold colons.

    Raises:
        ExplanationError: no colon, or more than one, parts the text into two names of classes, or
            the two are the same.
    """
    parts = text.split(":")
    splits = [(":".join(parts[:cut]), ":".join(parts[cut:])) for cut in range(1, len(parts))]
    known = [pair for pair in splits if all(name in class_names for name in pair)]
    if not known:
        tidied = [(first.strip(), second.strip()) for first, second in splits]
        known = [pair for pair in tidied if all(name in class_names for name in pair)]
    if len(known) != 1:
        several = "may be read in several ways" if known else "is not two classes"
        raise ExplanationError(
            f"The contrast '{text}' {several}, expected A:B, where A and B are of "
            f"{', '.join(class_names)}."
        )
    return contrast_of(known[0], class_names)


def check_methods(names: Sequence[str]) -> list[str]:
    """Return ``names``, each once; raises ``ExplanationError`` where there is no such method."""
    for name in names:
        if name not in METHODS:
            raise ExplanationError(
                f"There is no explanation method '{name}', expected one of {', '.join(METHODS)}."
                f"{did_you_mean(name, METHODS)}"
            )
    return list(dict.fromkeys(names))


def parse_parameters(texts: Sequence[str]) -> dict[str, str]:
    """Return the parts of ``NAME=VALUE``; raises ``ExplanationError`` where one has no such form."""
    given = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name.strip() or not value.strip():
            raise ExplanationError(
                f"The parameter {text!r} is not of the form NAME=VALUE, e.g. samples=500."
            )
        given[name.strip().replace("-", "_")] = value.strip()
    return given


def parameters_for(method: str, given: Mapping[str, str], methods: Sequence[str]) -> dict[str, Any]:
    """Return those of ``given`` that ``method`` takes, each as what its default value is.

    Raises:
        ExplanationError: no method of ``methods`` takes a parameter of that name, or a value is not
            a number, or not true or false, where one is expected.
    """
    known = parameters_of(method)
    others = {name for other in methods for name in parameters_of(other)}
    for name in given:
        if name not in others:
            choices = f"it has {', '.join(known)}" if known else "it has none"
            raise ExplanationError(f"The method '{method}' has no parameter '{name}'; {choices}.")
    return {name: _value(name, text, known[name]) for name, text in given.items() if name in known}


def _value(name: str, text: str, default: object) -> Any:
    """Return ``text`` as a value of the type of ``default``."""
    kind = type(default)
    if kind not in _KINDS:
        return text
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind is not bool:
        with suppress(ValueError, OverflowError):
            number = kind(text)
            if math.isfinite(number):
                return number
    raise ExplanationError(f"{name} is '{text}', expected {_KINDS[kind]}.")
