"""One look at some images: logits, features, and how alike two cheap maps are, in one pass."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.layers import (
    MapLayer,
    captured_map,
    channels_innermost,
    evaluation_mode,
    find_layer,
    forward_logits,
    has_map,
)
from fedlens.explain.methods.cam import hires_cam_map, layer_cam_map, upsample
from fedlens.explain.metrics import spearman
from fedlens.training.novelty import captured_features, head_of

CHUNK = 64


@dataclass(frozen=True, eq=False)
class Look:
    """What one pass shows of B images.

    Attributes:
        logits: (B, L).
        features: (B, F), what the last linear layer is given.
        likeness: float64 (B,), Spearman's correlation in [-1, 1] of the HiResCAM and the LayerCAM
            of the predicted class, which part where gradients against the class count; -1 where
            either is flat. None where the network has no convolution. Of the six pairs of
            Grad-CAM, Grad-CAM++, HiResCAM and LayerCAM it tells wrong answers from right ones best
            on validation images of Fashion-MNIST (area under the ROC curve 0.68, mean of the five
            networks of :mod:`fedlens.review.model.need`; the next pair 0.57). On the test images
            it has 0.67 (0.52 for ``hybrid``, hardly more than chance, to 0.73), Grad-CAM beside
            HiResCAM 0.54.
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

    def settle(self, images: Tensor) -> None:
        """Do without maps from now on where the convolution gives none of ``images`` uint8."""
        try:
            self.look(images)
        except ExplanationError:
            self.layer = None

    def look(self, images: Tensor) -> Look:
        """Return what one pass shows of ``images`` uint8 (B, C, H, W); B may be 0."""
        parts = [self._look(part, self.layer) for part in images.split(CHUNK)]
        likeness = [part.likeness for part in parts if part.likeness is not None]
        return Look(
            torch.cat([part.logits for part in parts]),
            torch.cat([part.features for part in parts]),
            torch.cat(likeness) if likeness else None,
        )

    def glance(self, images: Tensor) -> Look:
        """Return the same without ``likeness``, in a third of the time."""
        parts = [self._look(part, None) for part in images.split(CHUNK)]
        return Look(
            torch.cat([part.logits for part in parts]),
            torch.cat([part.features for part in parts]),
            None,
        )

    def _look(self, images: Tensor, layer: MapLayer | None) -> Look:
        like = next(self.model.parameters())
        floats = images.to(like.device, like.dtype) / 255
        with (
            evaluation_mode(self.model),
            torch.inference_mode(False),
            captured_features(self.head) as features,
        ):
            likeness = None
            if layer is None:
                with torch.no_grad():
                    logits = forward_logits(self.model, floats)
            else:
                logits, likeness = self._with_map(layer, floats)
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
                for combine in (hires_cam_map, layer_cam_map)
            )
            return logits, spearman(first, second).nan_to_num(-1.0).cpu()
