"""Class activation maps: Grad-CAM, Grad-CAM++, HiResCAM and LayerCAM, of one convolution."""

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from fedlens.errors import ExplanationError
from fedlens.explain.contract import Attribution, Attributor, Context
from fedlens.explain.layers import captured_map, channels_innermost, find_layer, forward_logits
from fedlens.explain.target import Contrast, target_score


def grad_cam_map(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return L = ReLU(sum_k alpha_k A^k), where alpha_k is the mean over space of dy/dA^k.

    Selvaraju et al. 2017, equations 1 and 2, as the study defines it in its section 6.

    Args:
        activations: the maps A, float (B, K, h, w).
        gradients: dy/dA, float (B, K, h, w).

    Returns:
        float (B, h, w), at least 0.
    """
    alpha = gradients.mean((2, 3))
    return torch.einsum("bk,bkhw->bhw", alpha, activations).relu()


def grad_cam_plus_plus_map(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return the map of Grad-CAM++: Chattopadhay et al. 2018, equation 19, up to a positive factor.

    alpha_kij = g^2 / (2 g^2 + (sum_ab A^k_ab) g^3) with g = dy/dA^k_ij, w_k = sum_ij alpha_kij
    ReLU(g_kij), L = ReLU(sum_k w_k A^k). The convention: the score of the paper's derivation is
    exp(y) of a piecewise linear y, whose derivatives are exp(y) g, exp(y) g^2 and exp(y) g^3. Its
    factor exp(y) cancels in alpha and is left out of w, since it scales a whole map; the second and
    third derivatives are these powers only there, so that in a network with smooth activations
    (tanh) they are an approximation. alpha is 0 where g is 0, and where the denominator cancels to
    within 1e-7 of its terms; it is not normalised again.

    Args:
        activations: the maps A, float (B, K, h, w).
        gradients: dy/dA, float (B, K, h, w).

    Returns:
        float (B, h, w), at least 0.
    """
    # g^2 is cancelled from both sides of the fraction: it underflows where gradients are small.
    product = activations.sum((2, 3), keepdim=True) * gradients
    denominator = 2 + product
    usable = (gradients != 0) & (denominator.abs() > 1e-7 * (2 + product.abs()))
    alpha = torch.where(usable, 1 / torch.where(usable, denominator, 1.0), 0.0)
    weights = (alpha * gradients.relu()).sum((2, 3))
    return torch.einsum("bk,bkhw->bhw", weights, activations).relu()


def hires_cam_map(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return L = ReLU(sum_k dy/dA^k * A^k), elementwise: Draelos and Carin 2020.

    Args:
        activations: the maps A, float (B, K, h, w).
        gradients: dy/dA, float (B, K, h, w).

    Returns:
        float (B, h, w), at least 0.
    """
    return (gradients * activations).sum(1).relu()


def layer_cam_map(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return L = ReLU(sum_k ReLU(dy/dA^k) * A^k), elementwise: Jiang et al. 2021, equations 4 to 6.

    Args:
        activations: the maps A, float (B, K, h, w).
        gradients: dy/dA, float (B, K, h, w).

    Returns:
        float (B, h, w), at least 0.
    """
    return (gradients.relu() * activations).sum(1).relu()


def upsample(maps: Tensor, height: int, width: int) -> Tensor:
    """Return ``maps`` (B, h, w) enlarged bilinearly to (B, height, width).

    Pixels are areas, not points (``align_corners=False``): a cell of the map lies over the pixels
    that it was pooled from, without a shift.
    """
    size = (height, width)
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


class Cam(Attributor):
    """A class activation map of one layer; the last convolution unless another is asked for."""

    signed = False
    uses_layer = True
    weights: str

    def __init__(self, context: Context) -> None:
        """Find the layer.

        Raises:
            ExplanationError: there is no such layer.
        """
        super().__init__(context)
        self._source = find_layer(context.model, context.layer)
        self.layer = self._source.name
        self.parameters = {
            "map": f"output of {self._source.output_of}",
            "weights": self.weights,
            "relu": True,
            "upsampling": "bilinear",
            "align_corners": False,
        }

    @staticmethod
    @abstractmethod
    def combine(activations: Tensor, gradients: Tensor) -> Tensor:
        """Return the map, (B, h, w), of activations and gradients (B, K, h, w)."""

    def attribute(self, images: Tensor, target: Tensor | Contrast | None) -> Attribution:
        """Return the maps, at least 0, enlarged to the images; see :class:`Attributor`.

        Raises:
            ExplanationError: the layer gives no map or one of a single cell, the logits do not
                depend on it, or the target names a class that is not there.
        """
        if self._source.any_layout:
            images = channels_innermost(images)
        with torch.no_grad(), captured_map(self._source) as maps:
            logits = forward_logits(self._source.network, images)
        if maps and maps[0].shape[2:].numel() == 1:
            raise ExplanationError(
                f"The map of layer '{self.layer}' is 1x1, which cannot tell one place from another; "
                "choose an earlier layer."
            )
        with torch.enable_grad():
            score = target_score(logits, target).sum()
        if not maps or not score.requires_grad:
            raise self._unused()
        (gradients,) = torch.autograd.grad(score, maps[0], allow_unused=True)
        if gradients is None:
            raise self._unused()
        with torch.no_grad():
            small = self.combine(maps[0], gradients).float()
            return Attribution(upsample(small, *images.shape[2:]), logits.detach())

    def _unused(self) -> ExplanationError:
        return ExplanationError(
            f"The logits do not depend on layer '{self.layer}'; choose a layer that leads to them."
        )


class GradCam(Cam):
    """Grad-CAM: the maps of a layer, each weighted by its mean gradient; see :func:`grad_cam_map`."""

    weights = "gradients of the logit averaged over the map"
    combine = staticmethod(grad_cam_map)


class GradCamPlusPlus(Cam):
    """Grad-CAM++: the maps weighted by equation 19 of the paper.

    See :func:`grad_cam_plus_plus_map`.
    """

    weights = "equation 19, powers of the gradient for the derivatives, alpha not normalised"
    combine = staticmethod(grad_cam_plus_plus_map)


class HiResCam(Cam):
    """HiResCAM: gradient times map, cell by cell; see :func:`hires_cam_map`."""

    weights = "gradients of the logit, cell by cell"
    combine = staticmethod(hires_cam_map)


class LayerCam(Cam):
    """LayerCAM: positive gradient times map, cell by cell; see :func:`layer_cam_map`."""

    weights = "positive gradients of the logit, cell by cell"
    combine = staticmethod(layer_cam_map)
