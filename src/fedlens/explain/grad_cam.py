"""Grad-CAM (Selvaraju et al. 2017), as the study defines it in its section 6."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedlens.errors import ExplanationError
from fedlens.explain.layers import captured_map, find_layer, forward_logits
from fedlens.explain.target import Contrast, target_score


def grad_cam_map(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return L = ReLU(sum_k alpha_k A^k), where alpha_k is the mean over space of dy/dA^k.

    Args:
        activations: the maps A, float (B, K, h, w).
        gradients: dy/dA, float (B, K, h, w).

    Returns:
        float (B, h, w), at least 0.
    """
    alpha = gradients.mean((2, 3))
    return torch.einsum("bk,bkhw->bhw", alpha, activations).relu()


def upsample(maps: Tensor, height: int, width: int) -> Tensor:
    """Return ``maps`` (B, h, w) enlarged bilinearly to (B, height, width).

    Pixels are areas, not points (``align_corners=False``): a cell of the map lies over the pixels
    that it was pooled from, without a shift.
    """
    size = (height, width)
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


class GradCam:
    """Grad-CAM bound to one layer of one network; see :mod:`fedlens.explain.methods`."""

    version = 1
    seed: int | None = None
    baseline: str | None = None

    def __init__(self, model: nn.Module, layer: str | None) -> None:
        """Find the layer; ``model`` is in evaluation mode, None is its last convolution.

        Raises:
            ExplanationError: there is no such layer.
        """
        self._source = find_layer(model, layer)
        self.layer: str | None = self._source.name
        self.parameters: dict[str, Any] = {
            "map": f"output of {self._source.output_of}",
            "weights": "gradients of the logit averaged over the map",
            "relu": True,
            "upsampling": "bilinear",
            "align_corners": False,
        }

    def attribute(self, images: Tensor, target: Tensor | Contrast | None) -> tuple[Tensor, Tensor]:
        """Return the maps, float32 (B, H, W), at least 0, and the logits (B, L) of ``images``.

        Args:
            images: float (B, C, H, W) as the network takes them.
            target: int64 (B,) class numbers, a contrast, or None for the predicted class.

        Raises:
            ExplanationError: the layer gives no map, the logits do not depend on it, or the target
                names a class that is not there.
        """
        if self._source.any_layout:
            images = channels_innermost(images)
        with torch.no_grad(), captured_map(self._source) as maps:
            logits = forward_logits(self._source.network, images)
        with torch.enable_grad():
            score = target_score(logits, target).sum()
        if not maps or not score.requires_grad:
            raise self._unused()
        (gradients,) = torch.autograd.grad(score, maps[0], allow_unused=True)
        if gradients is None:
            raise self._unused()
        with torch.no_grad():
            small = grad_cam_map(maps[0], gradients).float()
            return upsample(small, *images.shape[2:]), logits.detach()

    def _unused(self) -> ExplanationError:
        return ExplanationError(
            f"The logits do not depend on layer '{self.layer}'; choose a layer that leads to them."
        )


def channels_innermost(images: Tensor) -> Tensor:
    """Return ``images`` (B, C, H, W) with the channels innermost in memory: faster convolutions.

    The strides are written out because for one channel the two layouts are the same bytes, and
    PyTorch would take the slower one.
    """
    count, channels, height, width = images.shape
    strides = (height * width * channels, 1, width * channels, channels)
    images = images.contiguous(memory_format=torch.channels_last)
    return images.as_strided((count, channels, height, width), strides)
