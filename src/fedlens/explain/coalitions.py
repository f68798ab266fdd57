"""Scores of images of which parts are hidden: what every perturbation method is made of.

Nearly all the time goes into the network, so that one loop is enough: it hides the parts in a
buffer that is used again, and gives the network as many rows at a time as it is fastest with.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.contract import Context
from fedlens.explain.layers import channels_innermost, forward_logits
from fedlens.explain.target import Contrast, of_rows, target_score


def masked_scores(
    context: Context,
    images: Tensor,
    baselines: Tensor,
    masks: Iterable[Tensor],
    number: int,
    target: Tensor | Contrast,
) -> Tensor:
    """Return the score of each image under each mask, float64 (B, N).

    Rows of different images never share a forward pass, so that an image's scores are the same, bit
    by bit, in every batch.

    Args:
        context: gives the network, in evaluation mode, and :attr:`Context.rows`.
        images: float (B, C, H, W), on the device and in the precision of the network.
        baselines: float (B, C, H, W), what is seen where an image is hidden.
        masks: bool (n, H, W), 1 <= n <= ``context.rows``, N in all: True where an image is seen.
        number: N.
        target: int64 (B,) class numbers, or a contrast: the score is a logit, or a difference of
            two.

    Returns:
        float64 (B, N) on the CPU.

    Raises:
        ExplanationError: the network cannot take such images, or has no such class.
    """
    count, channels, height, width = images.shape
    buffer = images.new_empty((context.rows, channels, height, width))
    if _takes_channels_innermost(context.model, images[:1]):
        buffer = channels_innermost(buffer)
    # Written in place: many small results between the network's large ones would keep the allocator
    # from using memory again (gigabytes for 65,536 coalitions of 64 images).
    scores = torch.empty((count, number), dtype=torch.float64)
    done = 0
    for seen in masks:
        shown = seen[:, None].to(images.device)
        rows = buffer[: len(seen)]
        for image in range(count):
            torch.where(shown, images[image], baselines[image], out=rows)
            logits = forward_logits(context.model, rows)
            wanted = of_rows(target, torch.tensor([image]).expand(len(rows)))
            scores[image, done : done + len(rows)] = target_score(logits, wanted).detach()
        done += len(seen)
    return scores


def coalition_scores(
    context: Context,
    images: Tensor,
    baselines: Tensor,
    segments: Tensor,
    coalitions: Tensor,
    target: Tensor | Contrast,
) -> Tensor:
    """Return the score of each image when only the segments of a coalition are seen.

    Args:
        context: see :func:`masked_scores`.
        images: float (B, C, H, W), on the device and in the precision of the network.
        baselines: float (B, C, H, W), what is seen in place of absent segments.
        segments: int64 (H, W), numbers 0 to M - 1: the same for all images.
        coalitions: bool (N, M), True where a segment is present; N >= 1.
        target: int64 (B,) class numbers, or a contrast.

    Returns:
        float64 (B, N) on the CPU.

    Raises:
        ExplanationError: the network cannot take such images, or has no such class.
    """
    masks = coalition_masks(coalitions, segments, context.rows)
    return masked_scores(context, images, baselines, masks, len(coalitions), target)


def coalition_masks(coalitions: Tensor, segments: Tensor, rows: int) -> Iterator[Tensor]:
    """Yield which pixels ``coalitions`` (N, M) show, bool (n, H, W), ``rows`` coalitions at a time.

    They are made when they are needed: 65,536 masks of an image are 51 MB at 28x28.
    """
    # Bytes, not booleans: indexing them is several times faster.
    present = coalitions.to(torch.uint8)
    for part in present.split(rows):
        yield part.index_select(1, segments.flatten()).view(-1, *segments.shape).bool()


def all_coalitions(players: int) -> Tensor:
    """Return every coalition, bool (2^M, M): in row k player i is present where bit i of k is set."""
    numbers = torch.arange(2**players, dtype=torch.int32)[:, None]
    return (numbers >> torch.arange(players, dtype=torch.int32)) & 1 == 1


def _takes_channels_innermost(model: nn.Module, images: Tensor) -> bool:
    """Return whether the network runs on images with the channels innermost in memory.

    Convolutions are up to three times faster so, but a network that flattens its maps by ``view``
    fails. The images must be ones that it takes in the usual layout.
    """
    try:
        forward_logits(model, channels_innermost(images))
    except ExplanationError:
        return False
    return True
