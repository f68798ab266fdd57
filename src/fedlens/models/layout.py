"""How images lie in memory."""

import torch
from torch import Tensor


def channels_last(images: Tensor) -> Tensor:
    """Return ``images`` (N, C, H, W) laid out with channels innermost, for faster convolutions.

    For one channel the two layouts hold the same bytes and PyTorch takes the ambiguous strides for
    the slow layout; the strides are therefore rewritten, at no cost.
    """
    if images.shape[1] == 1:
        return images.contiguous().flatten(1, 2).unsqueeze(-1).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)
