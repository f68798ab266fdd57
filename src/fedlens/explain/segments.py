"""Cutting images into segments: the players of Shapley values, the features of LIME."""

import torch
from torch import Tensor

from fedlens.errors import ExplanationError

GREY_COMPACTNESS = 0.1
"""SLIC's weight of nearness against likeness where likeness is of values in [0, 1]."""

RGB_COMPACTNESS = 10.0
"""The same for three channels, which SLIC compares in Lab, of values up to 100."""


def grid_segments(height: int, width: int, across: int) -> Tensor:
    """Return a grid of ``across`` x ``across`` cells, int64 (H, W), numbered in reading order.

    Where a side cannot be divided evenly, cells differ by one pixel.

    Args:
        height, width: of the images, in pixels.
        across: cells along each side, from 1 to the smaller side.

    Returns:
        int64 (H, W), each of the numbers 0 to across * across - 1 at least once.

    Raises:
        ExplanationError: ``across`` is not a whole number, or there are fewer pixels than cells.
    """
    if not isinstance(across, int) or isinstance(across, bool) or across < 1:
        raise ExplanationError(f"across is {across!r}, expected a whole number from 1.")
    if across > min(height, width):
        raise ExplanationError(
            f"across is {across}, expected at most {min(height, width)}, the smaller side of images "
            f"of {height}x{width} pixels."
        )
    down = torch.arange(height) * across // height
    right = torch.arange(width) * across // width
    return down[:, None] * across + right


def slic_segments(images: Tensor, count: int = 50, compactness: float | None = None) -> Tensor:
    """Return superpixels of each image, int64 (B, H, W): Achanta et al. 2012, by scikit-image.

    Each image is cut for itself, without a random draw, after its values are stretched to [0, 1];
    three channels are compared in the Lab colour space.

    Args:
        images: float (B, C, H, W), any finite values.
        count: segments to aim at; an image gets about so many, often fewer, at least 1.
        compactness: weight of nearness against likeness, above 0; None for
            :data:`RGB_COMPACTNESS` with three channels and :data:`GREY_COMPACTNESS` otherwise.

    Returns:
        int64 (B, H, W) on the CPU: image i has the numbers 0 to M_i - 1, each at least once.

    Raises:
        ExplanationError: scikit-image is not installed, or a parameter is out of its range.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ExplanationError(f"count is {count!r}, expected a whole number from 1.")
    channels = images.shape[1]
    if compactness is None:
        compactness = RGB_COMPACTNESS if channels == 3 else GREY_COMPACTNESS
    if not 0 < compactness < float("inf"):
        raise ExplanationError(f"compactness is {compactness}, expected a number above 0.")
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise ExplanationError(
            "Superpixels need scikit-image, which is not installed; install fedlens[superpixels], or "
            "choose the segments 'grid'."
        ) from error
    found = []
    for image in images.detach().double().cpu():
        pixels = image[0] if channels == 1 else image.permute(1, 2, 0)
        labels = slic(
            pixels.contiguous().numpy(),
            n_segments=count,
            compactness=compactness,
            start_label=0,
            channel_axis=None if channels == 1 else -1,
        )
        # Its numbers may have gaps: they are counted through again.
        found.append(torch.unique(torch.as_tensor(labels), return_inverse=True)[1])
    return torch.stack(found)


def segment_means(images: Tensor, segments: Tensor) -> Tensor:
    """Return ``images`` with each pixel replaced by the mean of its segment, channel by channel.

    Args:
        images: float (B, C, H, W).
        segments: int64 (H, W), numbers 0 to M - 1, each at least once.

    Returns:
        (B, C, H, W) in the precision of ``images``; the mean is taken in float64.
    """
    flat = segments.flatten().to(images.device)
    sums = torch.zeros(
        (*images.shape[:2], int(flat.max()) + 1), dtype=torch.float64, device=images.device
    )
    sums.index_add_(2, flat, images.double().flatten(2))
    means = sums / torch.bincount(flat)
    return means[:, :, flat].to(images.dtype).reshape(images.shape)


def spread(values: Tensor, segments: Tensor, *, shared: bool) -> Tensor:
    """Return maps in which each pixel has the value of its segment.

    Args:
        values: float (B, M), one value a segment.
        segments: int64 (H, W), numbers 0 to M - 1, each at least once.
        shared: a segment's value is divided among its pixels, so that a map sums to its values;
            else each pixel has the whole value.

    Returns:
        float32 (B, H, W) on the device of ``values``.
    """
    flat = segments.flatten().to(values.device)
    if shared:
        values = values / torch.bincount(flat)
    return values[:, flat].reshape(len(values), *segments.shape).float()
