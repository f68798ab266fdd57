"""Clipping a chunk: the norms of all its parts together, and their sum weighted by the clip factors."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fedlens.privacy.per_example.gradients import Placed
from fedlens.privacy.per_example.parts import StreamedProduct, WholePart, norms, without

BLOCK_BYTES = 6 << 20  # written at a time: about what the caches of a core hold


def add_clipped(parts: list[Placed], clip_norm: float, lengths: Tensor, total: list[Tensor]) -> int:
    """Add the sum over n examples of g min(1, C / ||g||) to ``total``.

    Args:
        parts: which together are the gradients g.
        clip_norm: C.
        lengths: (n,), of the gradients' dtype, to be filled with the norms ||g||: NaN or inf where g
            is not finite.
        total: float64, one tensor a parameter, in its shape.

    Returns:
        How many examples' gradients are not finite; they count as zero.
    """
    whole: list[tuple[int, WholePart]] = []
    streamed: list[tuple[int, StreamedProduct]] = []
    # float64, or many small parts would be lost beside a large one where the gradients are bfloat16
    found = torch.zeros_like(lengths, dtype=torch.float64)
    for number, part in parts:
        if isinstance(part, StreamedProduct):
            streamed.append((number, part))
        else:
            whole.append((number, part))
            torch.hypot(found, part.norms(), out=found)
    if streamed:  # last, since they are weighted as soon as they are measured
        _add_streamed(streamed, clip_norm, found, lengths.dtype, total)
    lengths.copy_(found)
    factors, bad = _factors(found, clip_norm, lengths.dtype), ~found.isfinite()
    count = int(bad.sum())
    for number, part in whole:
        if count:
            part.drop(bad)  # zero times NaN would still be NaN
        total[number].add_(part.weighted_sum(factors))
    return count


def _add_streamed(
    parts: list[tuple[int, StreamedProduct]],
    clip_norm: float,
    lengths: Tensor,
    dtype: torch.dtype,
    total: list[Tensor],
) -> None:
    """Add what ``parts`` have in the clipped sum; ``lengths`` holds the norms of all others."""
    sums: list[list[Tensor]] = [[] for _ in parts]
    for block in _blocks(lengths, sum(part.memory for _, part in parts)):
        some = lengths[block]
        rows: list[list[Tensor]] = []
        for _, part in parts:
            rows.append([])
            for gradients in part.rows(block):  # each is measured before the next one is written
                torch.hypot(some, norms(gradients), out=some)
                rows[-1].append(gradients)
        factors, sound = _factors(some, clip_norm, dtype), math.isfinite(some.sum())
        for summed, pieces in zip(sums, rows, strict=True):
            if not sound:
                pieces = [without(gradients, ~some.isfinite()) for gradients in pieces]
            found = [factors @ gradients for gradients in pieces]
            if not summed:
                summed += [piece.double() for piece in found]
                continue
            for into, piece in zip(summed, found, strict=True):
                into.add_(piece)
    for (number, part), summed in zip(parts, sums, strict=True):
        total[number].add_(part.shaped(summed))


def _factors(lengths: Tensor, clip_norm: float, dtype: torch.dtype) -> Tensor:
    """Return (n,), what gradients of these norms are multiplied with: 0 where one is not finite."""
    return (clip_norm / lengths).clamp_(max=1).nan_to_num_(nan=0).to(dtype)


def _blocks(lengths: Tensor, memory: int) -> Iterator[slice]:
    """Cut n examples, of ``memory`` bytes each, into blocks of nearly the same size.

    Only a processor's cache asks for it; elsewhere all are one block.
    """
    examples = len(lengths)
    most = max(1, BLOCK_BYTES // max(1, memory)) if lengths.device.type == "cpu" else examples
    size = math.ceil(examples / math.ceil(examples / most))
    for start in range(0, examples, size):
        yield slice(start, start + size)
