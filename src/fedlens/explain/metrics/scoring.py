"""How much a network holds of a class, for many changed copies of many images at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedlens.explain.layers import evaluation_mode, forward_logits
from fedlens.explain.metrics.checks import check_choice, check_images
from fedlens.explain.target import Contrast, Target, of_rows, parse_target, resolved, target_score

SCORES = ("probability", "logit", "sigmoid", "decision")
"""The names that :func:`score_of` knows."""

ROWS = 64
"""Images that go through the network at a time: more make the small networks no faster."""


def score_of(logits: Tensor, target: Tensor | Contrast, score: str) -> Tensor:
    """Return the score of each row, float64 (N,).

    ==============  =============================  ==================================
    score           for a class                    for a contrast
    ==============  =============================  ==================================
    "probability"   its softmax, in [0, 1]         sigmoid of the difference of logits
    "logit"         its logit                      the difference of logits
    "sigmoid"       sigmoid of its logit           sigmoid of the difference of logits
    "decision"      1 where it is predicted        1 where the difference is above 0
    ==============  =============================  ==================================

    The sigmoid of a difference is the softmax over the two classes alone. "sigmoid" is for
    independent labels. The mean of "decision" over images is an accuracy.

    Args:
        logits: float (N, L).
        target: int64 (N,) one class per row, or a contrast.
        score: one of :data:`SCORES`.
    """
    check_choice("score", score, SCORES)
    logits = logits.double()
    value = target_score(logits, target)
    if score == "logit":
        return value
    if score == "decision":
        if isinstance(target, Contrast):
            return (value > 0).double()
        return (logits.argmax(1) == target.to(logits.device)).double()
    if score == "probability" and not isinstance(target, Contrast):
        return target_score(logits.softmax(1), target)
    return value.sigmoid()


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into evaluation mode and gradients off; all is as it was at the end."""
    with evaluation_mode(model), torch.inference_mode(False), torch.no_grad():
        yield


def network_images(model: nn.Module, images: Tensor) -> Tensor:
    """Return ``images`` as floats on the device and in the precision of ``model``.

    Bytes are scaled to [0, 1].

    Raises:
        ExplanationError: they are not images.
    """
    check_images(images)
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    floats = images.detach().to(like.device, like.dtype)
    return floats / 255 if images.dtype == torch.uint8 else floats


def all_logits(model: nn.Module, images: Tensor, rows: int = ROWS) -> Tensor:
    """Return the logits (B, L) of ``images``, ``rows`` of them at a time; B must be above 0."""
    return torch.cat([forward_logits(model, part) for part in images.split(rows)])


def known_target(
    model: nn.Module, images: Tensor, target: Target, rows: int = ROWS
) -> Tensor | Contrast:
    """Return ``target`` as a contrast or one class per image: the predicted one where it is None."""
    wanted = parse_target(target, len(images))
    if wanted is not None or len(images) == 0:
        return torch.zeros(0, dtype=torch.int64) if wanted is None else wanted
    return resolved(None, all_logits(model, images, rows))


def image_scores(
    model: nn.Module, images: Tensor, target: Tensor | Contrast, score: str, rows: int = ROWS
) -> Tensor:
    """Return the score of each image, float64 (B,)."""
    return grid_scores(model, target, score, (len(images), 1), lambda b, _: images[b], rows)[:, 0]


def grid_scores(
    model: nn.Module,
    target: Tensor | Contrast,
    score: str,
    grid: tuple[int, int],
    copies: Callable[[Tensor, Tensor], Tensor],
    rows: int = ROWS,
) -> Tensor:
    """Return the scores of K changed copies of each of B images, float64 (B, K) on the CPU.

    Copies of several images share a forward pass, so that the passes are full.

    Args:
        model: the network, in evaluation mode.
        target: int64 (B,) or a contrast.
        score: one of :data:`SCORES`.
        grid: B and K.
        copies: given int64 (n,) numbers of images and (n,) numbers of copies, returns those copies,
            (n, C, H, W).
        rows: copies at a time; it does not change the scores.
    """
    images, count = grid
    scores = torch.empty(images * count, dtype=torch.float64)
    for start in range(0, images * count, rows):
        places = torch.arange(start, min(start + rows, images * count))
        image = places // count
        logits = forward_logits(model, copies(image, places % count))
        scores[places] = score_of(logits, of_rows(target, image), score).cpu()
    return scores.reshape(images, count)
