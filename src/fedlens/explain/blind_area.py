"""Pixels that a network cannot see, and how much of the images' light falls on them."""

import copy

import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.layers import evaluation_mode, forward_logits

PROBES_PER_BATCH = 16
BATCHES_WITHOUT_NEWS = 64
"""A pixel is called blind after 64 x 16 = 1,024 probes in a row in which nothing new was seen.

A pixel that counts in a share p of the probes is missed with probability (1 - p)^1024. Resting
ReLUs and max-pooling bring p below 1; in the study's network, untrained or trained, every pixel
that it can see was measured to count in more than 0.9 of the probes. Even behind a bare 8x8
max-pooling, where p = 1/64, a pixel is missed with probability 1e-7.
"""


def blind_area(model: nn.Module, image_shape: tuple[int, int, int], *, seed: int = 0) -> Tensor:
    """Return bool (H, W), True where no logit depends on the pixel, in any channel.

    Random images go through a copy of the network in evaluation mode, and random sums of the
    logits, with weights of both signs, are differentiated with respect to the pixels. A pixel whose
    gradient is not exactly zero is seen, for certain; a pixel that is not seen in any of many
    images is called blind (see :data:`BATCHES_WITHOUT_NEWS`). The copy is in double precision, in
    which a small gradient does not vanish by underflow. What a network takes from pixels only
    through steps without a gradient, such as a threshold, is not noticed.

    Args:
        model: network that takes images in [0, 1] and returns logits (B, L); it is not changed.
        image_shape: (C, H, W) of the images.
        seed: seed of the random images and sums.

    Raises:
        ExplanationError: the network cannot take such images, or does not return logits.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), torch.enable_grad():
        probe = copy.deepcopy(model).double().requires_grad_(False)
        device = next((p.device for p in probe.parameters()), torch.device("cpu"))
        seen = torch.zeros(image_shape[1:], dtype=torch.bool)
        batches_without_news = 0
        with evaluation_mode(probe):
            while not seen.all() and batches_without_news < BATCHES_WITHOUT_NEWS:
                images = _random_images(image_shape, generator).to(device).requires_grad_()
                logits = forward_logits(probe, images)
                weights = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
                news = _depends(images, (logits * weights.to(device)).sum()).cpu() & ~seen
                seen |= news
                batches_without_news = 0 if news.any() else batches_without_news + 1
        return ~seen


def blind_light(images: Tensor, labels: Tensor, classes: int, mask: Tensor) -> Tensor:
    """Return float64 (L,): the share of the light of each class that lies in the blind area.

    The light of a class is the sum of all pixel values of its images; a multi-label image counts
    for each of its labels. The share is in [0, 1], and NaN for a class without light.

    Args:
        images: uint8 (N, C, H, W), 0 is black.
        labels: int64 (N,) class numbers, or (N, L) labels of 0 and 1.
        classes: number of classes or labels L.
        mask: bool (H, W), True where the network is blind.

    Raises:
        ExplanationError: the shapes do not fit together, or a label is out of range.
    """
    count = len(images)
    if mask.dtype != torch.bool or mask.shape != images.shape[2:]:
        raise ExplanationError(
            f"The blind area is {mask.dtype} {tuple(mask.shape)}, expected bool (H, W) = "
            f"{tuple(images.shape[2:])}."
        )
    if labels.shape not in ((count,), (count, classes)):
        raise ExplanationError(
            f"The labels have the shape {tuple(labels.shape)} for {count:,} images, expected "
            f"({count},) or ({count}, {classes})."
        )
    if labels.dim() == 1:
        if count > 0 and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ExplanationError(
                f"The labels run from {int(labels.min())} to {int(labels.max())}, expected 0 to "
                f"{classes - 1}."
            )
        labels = torch.nn.functional.one_hot(labels.to(torch.int64), classes)
    membership = labels.to(torch.float64)
    light = images.sum(1, dtype=torch.int64)  # exact; all channels of a pixel together
    total = light.sum((1, 2)).to(torch.float64)
    hidden = light[:, mask].sum(1).to(torch.float64)
    return (hidden @ membership) / (total @ membership)


def _random_images(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Return noise (P, C, H, W) in [0, 1] of a random contrast about a random grey level each.

    Between black, white, flat and full noise, so that units which rest on one kind fire on another.
    """
    count = PROBES_PER_BATCH
    noise = torch.rand((count, *shape), generator=generator, dtype=torch.float64)
    contrast = torch.rand((count, 1, 1, 1), generator=generator, dtype=torch.float64)
    grey = torch.rand((count, 1, 1, 1), generator=generator, dtype=torch.float64)
    return grey + contrast * (noise - grey)


def _depends(images: Tensor, score: Tensor) -> Tensor:
    """Return bool (H, W): where ``score`` has a gradient for some image and channel."""
    gradients = None
    if score.requires_grad:
        (gradients,) = torch.autograd.grad(score, images, allow_unused=True)
    if gradients is None:
        return torch.zeros(images.shape[2:], dtype=torch.bool)
    return (gradients != 0).any(1).any(0)
