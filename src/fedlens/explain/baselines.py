"""What stands for "nothing there": the image that evidence is measured against."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fedlens.errors import ExplanationError
from fedlens.explain.contract import Context

BASELINES = ("black", "mean", "blurred")
"""The names that :func:`baseline_images` knows."""

BLUR = 1 / 7
"""Deviation of the blurring Gaussian over the image's height: 4 pixels of 28."""


def baseline_images(name: str, images: Tensor, context: Context) -> Tensor:
    """Return the baseline of each image, float (B, C, H, W).

    ``black`` is the smallest value of a pixel everywhere. On it the evidence of dark pixels is zero
    by construction, which hides what is missing (a sleeve that is not there). ``mean`` is, in each
    channel, the mean over all pixels of all references; where there are none, each image has the
    mean over its own pixels.
    ``blurred`` is the image itself through a Gaussian of 1/7 of its height, its border repeated.

    Args:
        name: one of :data:`BASELINES`.
        images: float (B, C, H, W).
        context: gives the references and the range of pixels.

    Raises:
        ExplanationError: there is no such baseline.
    """
    check_baseline(name)
    if name == "black":
        return torch.full_like(images, context.low)
    if name == "mean":
        if context.references is not None:
            return context.references.mean((0, 2, 3))[None, :, None, None].expand_as(images).clone()
        return images.mean((2, 3), keepdim=True).expand_as(images).clone()
    return blurred(images, BLUR * images.shape[2])


def check_baseline(name: str) -> None:
    """Raise ``ExplanationError`` where there is no such baseline."""
    if name not in BASELINES:
        raise ExplanationError(
            f"There is no baseline '{name}'; choose one of {', '.join(BASELINES)}."
        )


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Return ``images`` (B, C, H, W) through a Gaussian of deviation ``sigma`` pixels.

    The kernel ends at three deviations, is normalised, and the border pixels are repeated outward,
    so that a flat image stays as it is.
    """
    reach = max(1, round(3 * sigma))
    place = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-place.square() / (2 * sigma * sigma))
    kernel = kernel / kernel.sum()
    batch, channels, height, width = images.shape
    flat = images.reshape(batch * channels, 1, height, width)
    padded = F.pad(flat, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, kernel.reshape(1, 1, -1, 1))
    return F.conv2d(rows, kernel.reshape(1, 1, 1, -1)).reshape(images.shape)
