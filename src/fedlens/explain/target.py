"""What an explanation is about: one class per image, or one class against another."""

from collections.abc import Sequence
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
