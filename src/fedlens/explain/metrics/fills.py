"""What removed pixels become.

``black``, ``mean`` and ``blurred`` are the baselines of :mod:`fedlens.explain.baselines`. On images
with a black background "black" removes nothing there, so that no single fill decides a comparison.
"imputed" follows from the pixels that are left: a network cannot tell from it where the hole was.
"""

import numpy as np
import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.baselines import BASELINES, baseline_images
from fedlens.explain.contract import Context
from fedlens.explain.metrics.checks import check_choice, check_images
from fedlens.explain.metrics.scoring import network_images

FILLS = (*BASELINES, "imputed")
"""The names of fills; a tensor of images may stand in place of a name."""

NOISE = 0.01
"""Deviation of the noise on imputed pixels, for pixels in [0, 1]: Rong et al. 2022."""

# Half of a pixel's neighbours, as steps down and right, and their weights; the others mirror them.
_NEIGHBOURS = ((0, 1, 1 / 6), (1, -1, 1 / 12), (1, 0, 1 / 6), (1, 1, 1 / 12))


def fill_images(fill: str | Tensor, images: Tensor, model: nn.Module) -> Tensor:
    """Return the images that removed pixels are taken from, float (B, C, H, W).

    A name is for images in [0, 1], and "mean" is then the image's own mean. For other pixels, or the
    mean of other images, give ``baseline_images(name, images, Context(model, ...))``.

    Args:
        fill: a name in ``BASELINES``, or the images themselves, (B, C, H, W) or (1, C, H, W).
        images: float (B, C, H, W).
        model: the network.

    Raises:
        ExplanationError: there is no such fill, or it does not go with the images.
    """
    if isinstance(fill, str):
        check_choice("fill", fill, BASELINES)
        if images.numel() > 0 and not 0 <= float(images.min()) <= float(images.max()) <= 1:
            raise ExplanationError(
                f"The images have values from {float(images.min()):g} to {float(images.max()):g}, "
                f"and the fill '{fill}' by its name is for [0, 1]; give the fill as images."
            )
        return baseline_images(fill, images, Context(model))
    filled = network_images(model, fill)
    if filled.shape[1:] != images.shape[1:] or len(filled) not in (1, len(images)):
        raise ExplanationError(
            f"The fill has the shape {tuple(filled.shape)}, expected that of the images, "
            f"{tuple(images.shape)}."
        )
    return filled.expand_as(images)


def impute(images: Tensor, removed: Tensor) -> Tensor:
    """Return ``images`` with the removed pixels in balance with their neighbours.

    A removed pixel is the weighted mean of its eight neighbours, known or removed: 1/6 for each of
    the four beside it and 1/12 for each of the four across, over their sum where the border cuts
    some off (Rong et al. 2022, "A consistent and efficient evaluation strategy for attribution
    methods"). Each image is solved on its own, exactly, in float64; an affine ramp comes back as it
    was in holes that do not touch the border. Where all pixels are removed each channel becomes its
    mean. The noise that the method adds is the caller's: see :func:`imputation_noise`.

    Args:
        images: float (B, C, H, W).
        removed: bool (B, H, W).

    Raises:
        ExplanationError: the images or the mask are not of these shapes.
    """
    check_images(images)
    wanted = (len(images), *images.shape[2:])
    if removed.dtype != torch.bool or tuple(removed.shape) != wanted:
        raise ExplanationError(
            f"The removed pixels are {removed.dtype} {tuple(removed.shape)}, expected bool {wanted}."
        )
    pixels = images.detach().double().cpu().numpy()
    holes = removed.cpu().numpy()
    solved = [_solve(image, hole) for image, hole in zip(pixels, holes, strict=True)]
    if not solved:
        return images.clone()
    found = torch.from_numpy(np.stack(solved)).to(images.device, images.dtype)
    return torch.where(removed[:, None].to(images.device), found, images)


def imputation_noise(
    images: Tensor, generator: torch.Generator, deviation: float = NOISE
) -> Tensor:
    """Return normal noise (C, H, W) for imputed pixels: one draw, the same for every image."""
    draw = torch.randn(images.shape[1:], generator=generator)
    return deviation * draw.to(images.device, images.dtype)


def _solve(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Return one image (C, H, W) with its hole (H, W) in balance.

    The equations, times the sum of a pixel's weights, are symmetric and positive definite as long as
    one pixel is known, and reach no further than one row: a banded Cholesky factorisation solves
    them in H * W * W^2 steps, which for 28 x 28 is far below the cost of building a sparse matrix.
    """
    from scipy.linalg import solveh_banded

    if not hole.any():
        return image
    if hole.all():
        return np.broadcast_to(image.mean((1, 2), keepdims=True), image.shape)
    channels, height, width = image.shape
    known = np.where(hole, 0.0, image)
    diagonal = np.zeros((height, width))
    right = np.zeros_like(image)
    # bands[k, i] is the entry of pixel i with pixel i + k, counted in the order of reading. A known
    # pixel's equation is p = p, and what it gives to its neighbours stands on the right.
    bands = np.zeros((width + 2, height, width))
    for down, across, weight in _NEIGHBOURS:
        here = (slice(0, height - down), slice(max(0, -across), width - max(0, across)))
        there = (slice(down, height), slice(max(0, across), width + min(0, across)))
        diagonal[here] += weight
        diagonal[there] += weight
        right[:, *here] += weight * known[:, *there]
        right[:, *there] += weight * known[:, *here]
        bands[down * width + across][here] -= weight * (hole[here] & hole[there])
    bands[0] = np.where(hole, diagonal, 1.0)
    right = np.where(hole, right, image)
    found = solveh_banded(
        bands.reshape(width + 2, -1), right.reshape(channels, -1).T, lower=True, check_finite=False
    )
    solved: np.ndarray = found.T.reshape(image.shape)
    return solved
