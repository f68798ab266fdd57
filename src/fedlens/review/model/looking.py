"""One look at some images: logits, features, and how alike two cheap maps are, in one pass."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlens.explain.layers import (
    MapLayer,
    captured_map,
    channels_innermost,
    evaluation_mode,
    find_layer,
    forward_logits,
    has_map,
)
from fedlens.explain.methods.cam import grad_cam_map, hires_cam_map, upsample
from fedlens.explain.metrics import top_overlap
from fedlens.review.contract import ReviewError
from fedlens.training.novelty import captured_features, head_of

CHUNK = 64


@dataclass(frozen=True, eq=False)
class Look:
    """What one pass shows of B images.

    Attributes:
        logits: (B, L).
        features: (B, F), what the last linear layer is given.
        likeness: float64 (B,), overlap of the top tenth of the pixels of the Grad-CAM and the
            HiResCAM of the predicted class, in [0, 1]; 0 where either is flat. None where the
            network has no convolution.
    """

    logits: Tensor
    features: Tensor
    likeness: Tensor | None


class Looker:
    """A network as :meth:`look` needs it."""

    def __init__(self, model: nn.Module, layer: str | None = None) -> None:
        """Find the last linear layer, and the convolution if there is one.

        Raises:
            ModelError: the network does not end in a linear layer.
            ExplanationError: there is no such layer.
        """
        self.model = model
        self.head = head_of(model)
        with evaluation_mode(model):
            known = layer is not None or has_map(model)
            self.layer: MapLayer | None = find_layer(model, layer) if known else None

    def look(self, images: Tensor) -> Look:
        """Return what one pass shows of ``images`` uint8 (B, C, H, W), B >= 1.

        Raises:
            ReviewError: the network's logits are not finite.
        """
        parts = [self._look(part) for part in images.split(CHUNK)]
        likeness = [part.likeness for part in parts if part.likeness is not None]
        return Look(
            torch.cat([part.logits for part in parts]),
            torch.cat([part.features for part in parts]),
            torch.cat(likeness) if likeness else None,
        )

    def _look(self, images: Tensor) -> Look:
        like = next(self.model.parameters())
        floats = images.to(like.device, like.dtype) / 255
        with (
            evaluation_mode(self.model),
            torch.inference_mode(False),
            captured_features(self.head) as features,
        ):
            likeness = None
            if self.layer is None:
                with torch.no_grad():
                    logits = forward_logits(self.model, floats)
            else:
                logits, likeness = self._with_map(self.layer, floats)
        if not bool(torch.isfinite(logits).all()):
            raise ReviewError(
                "The network's answer to this image is not a number; it may not be reviewed."
            )
        return Look(logits.detach().cpu(), features[-1].cpu(), likeness)

    def _with_map(self, layer: MapLayer, floats: Tensor) -> tuple[Tensor, Tensor | None]:
        if layer.any_layout:
            floats = channels_innermost(floats)
        with torch.no_grad(), captured_map(layer) as maps:
            logits = forward_logits(layer.network, floats)
        with torch.enable_grad():
            score = logits.amax(1).sum()
        if not maps or not score.requires_grad:
            return logits, None
        found = torch.autograd.grad(score, maps[0], allow_unused=True)
        gradients: Tensor | None = found[0]
        if gradients is None:
            return logits, None
        with torch.no_grad():
            size = floats.shape[2:]
            first, second = (
                upsample(combine(maps[0].detach(), gradients).float(), *size)
                for combine in (grad_cam_map, hires_cam_map)
            )
            return logits, top_overlap(first, second).nan_to_num(0.0).cpu()
