"""What an explanation is about: one class per image, or one class against another."""

import difflib
import operator
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlens.errors import ExplanationError


@dataclass(frozen=True)
class Contrast:
    """The question "why ``for_class`` rather than ``against_class``?".

    What is explained is the logit of ``for_class`` minus the logit of ``against_class``.

    Attributes:
        for_class, against_class: two different class numbers, from 0.

    Raises:
        ExplanationError: the two classes are the same, or not numbers from 0.
    """

    for_class: int
    against_class: int

    def __post_init__(self) -> None:
        for number in (self.for_class, self.against_class):
            if not isinstance(number, int) or isinstance(number, bool) or number < 0:
                raise ExplanationError(
                    f"A contrast is between two class numbers from 0, got {number!r}."
                )
        if self.for_class == self.against_class:
            raise ExplanationError(
                f"A contrast is between two different classes, got class {self.for_class} twice."
            )


Target = int | Sequence[int] | Tensor | Contrast | None
"""One class for all images, one class per image, a contrast, or None for the predicted class."""


def class_number(name: str, class_names: Sequence[str]) -> int:
    """Return the number of the class called ``name``.

    Raises:
        ExplanationError: there is none, or there are several.
    """
    names = list(class_names)
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        question = f" Did you mean '{close[0]}'?" if close else ""
        raise ExplanationError(
            f"There is no class '{name}', expected one of {', '.join(names)}.{question}"
        )
    if names.count(name) > 1:
        raise ExplanationError(f"Several classes are called '{name}'; choose one by its number.")
    return names.index(name)


def check_names(class_names: Sequence[str], classes: int) -> None:
    """Raise ``ExplanationError`` where the names are not one for each of ``classes`` classes."""
    if len(class_names) != classes:
        raise ExplanationError(
            f"Got {len(class_names)} class names for a network with {classes} classes, expected one "
            "name per class."
        )


def contrast_of(classes: Sequence[int | str], class_names: Sequence[str] | None = None) -> Contrast:
    """Return why the first of two classes rather than the second.

    Args:
        classes: two different ones, each by its number or, with ``class_names``, by its name.
        class_names: one name per class.

    Raises:
        ExplanationError: they are not two different classes, or a name is that of no class.
    """
    if not isinstance(classes, Sequence) or isinstance(classes, str) or len(classes) != 2:
        raise ExplanationError(
            f"The contrast is {classes!r}, expected two classes: their numbers, or with class_names "
            "their names."
        )
    first, second = classes
    if isinstance(first, str) and first == second:
        raise ExplanationError(f"A contrast is between two different classes, got '{first}' twice.")
    return Contrast(_number(first, class_names), _number(second, class_names))


def named_target(
    target: Target | str,
    contrast: Sequence[int | str] | Contrast | None = None,
    class_names: Sequence[str] | None = None,
) -> Target:
    """Return the target that is meant by ``target`` or by ``contrast``, its names as numbers.

    Args:
        target: what :func:`parse_target` takes, or the name of a class.
        contrast: a :class:`Contrast`, or the classes of :func:`contrast_of`.
        class_names: one name per class.

    Raises:
        ExplanationError: both were given, the contrast is not of two different classes, a name is
            that of no class, or there are no ``class_names`` to find it in.
    """
    if class_names is not None and not (
        isinstance(class_names, Sequence)
        and not isinstance(class_names, str)
        and all(isinstance(name, str) for name in class_names)
    ):
        raise ExplanationError(f"class_names is {class_names!r}, expected one name per class.")
    if contrast is None:
        return _number(target, class_names) if isinstance(target, str) else target
    if target is not None:
        raise ExplanationError(
            "A target and a contrast were both given; give the one or the other."
        )
    return contrast if isinstance(contrast, Contrast) else contrast_of(contrast, class_names)


def _number(one: int | str, class_names: Sequence[str] | None) -> int:
    """Return the number of a class; what is neither number nor name is left to be refused."""
    if isinstance(one, str):
        if class_names is None:
            raise ExplanationError(
                f"The class '{one}' is asked for by name, but there are no class_names; give them, "
                "one per class, or a class number."
            )
        return class_number(one, class_names)
    if not isinstance(one, bool):
        with suppress(TypeError):
            return operator.index(one)  # of NumPy and PyTorch too
    return one


def parse_target(target: Target, images: int) -> Tensor | Contrast | None:
    """Return ``target`` as int64 (images,) on the CPU, as a :class:`Contrast`, or as None.

    Args:
        target: what was asked for.
        images: number of images B.

    Raises:
        ExplanationError: it is neither a class number, nor one class number per image, nor a
            contrast.
    """
    if target is None or isinstance(target, Contrast):
        return target
    try:
        classes = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _not_a_target(f"{target!r}") from error
    whole = classes.dtype != torch.bool and torch.can_cast(classes.dtype, torch.int64)
    if classes.numel() > 0 and not whole:
        raise _not_a_target(f"values of type {str(classes.dtype).removeprefix('torch.')}")
    if classes.dim() == 0:
        classes = classes.expand(images)
    if classes.shape != (images,):
        raise ExplanationError(
            f"The target has the shape {tuple(classes.shape)}, expected one class for each of the "
            f"{images:,} images."
        )
    return classes.detach().to("cpu", torch.int64).clone()


def check_target(target: Tensor | Contrast, classes: int) -> None:
    """Check that ``target`` names only classes below ``classes``.

    Raises:
        ExplanationError: it names a class that the network does not have.
    """
    if isinstance(target, Contrast):
        wanted = torch.tensor([target.for_class, target.against_class])
    else:
        wanted = target
    wrong = wanted[(wanted < 0) | (wanted >= classes)]
    if wrong.numel() > 0:
        raise ExplanationError(
            f"There is no class {int(wrong[0])} to explain: the network has the classes 0 to "
            f"{classes - 1}."
        )


def target_score(logits: Tensor, target: Tensor | Contrast | None) -> Tensor:
    """Return (B,): what is explained of each row of ``logits`` (B, L), differentiable.

    Args:
        logits: float (B, L).
        target: int64 (B,) one class per image, a contrast, or None for the largest logit.

    Raises:
        ExplanationError: the target names a class that the network does not have.
    """
    if target is None:
        target = logits.argmax(1)
    check_target(target, logits.shape[1])
    if isinstance(target, Contrast):
        return logits[:, target.for_class] - logits[:, target.against_class]
    return logits.gather(1, target.to(logits.device)[:, None])[:, 0]


def resolved(target: Tensor | Contrast | None, logits: Tensor) -> Tensor | Contrast:
    """Return ``target``, or the classes (B,) with the largest of ``logits`` (B, L) where it is None."""
    return logits.argmax(1) if target is None else target


def of_rows(target: Tensor | Contrast, rows: Tensor) -> Tensor | Contrast:
    """Return what is asked about the images at the positions ``rows``, which may name one twice."""
    return target if isinstance(target, Contrast) else target[rows.to(target.device)]


def _not_a_target(got: str) -> ExplanationError:
    return ExplanationError(
        f"The target is {got}, expected a class number, one class number per image, a Contrast, or "
        "None for the predicted class."
    )
