"""Random changes of images that leave what they show as it is."""

import torch
from torch import Tensor
from torch.nn import functional as F


def shift_and_mirror(images: Tensor, generator: torch.Generator, *, shift: int = 2) -> Tensor:
    """Return the images, each moved by up to ``shift`` pixels each way and mirrored or not.

    Every image draws its own move, uniformly from the (2 shift + 1)^2 there are, and is mirrored left
    to right with probability 1/2; what comes in at an edge is black.

    Args:
        images: float (N, C, H, W).
        generator: CPU generator that the draws come from.
        shift: most pixels of a move, from 0.
    """
    count, _, height, width = images.shape
    moves = torch.randint(0, 2 * shift + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    rows = moves[0].unsqueeze(1) + torch.arange(height)
    columns = moves[1].unsqueeze(1) + torch.arange(width)
    columns = torch.where(mirrored.unsqueeze(1), columns.flip(1), columns)
    padded = F.pad(images, (shift, shift, shift, shift))
    which = torch.arange(count).view(-1, 1, 1)
    # indices around the channel's slice put the channel last
    moved = padded[which, :, rows.unsqueeze(2), columns.unsqueeze(1)]
    return moved.permute(0, 3, 1, 2).contiguous()
