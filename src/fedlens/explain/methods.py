"""``explain``: one verb for every attribution method."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.explanation import Explanation, degenerate_maps
from fedlens.explain.grad_cam import GradCam
from fedlens.explain.layers import evaluation_mode
from fedlens.explain.target import Contrast, Target, parse_target


class Attributor(Protocol):
    """A method bound to a network: what a new method supplies.

    It is made and called while the network is in evaluation mode and gradients are off; it changes
    neither the network nor anything global, and leaves no hook behind.

    Attributes:
        version: goes up whenever the maps may change.
        layer: name of the layer that it explains, or None where it uses none.
        parameters: all settings that the maps depend on, plain JSON values.
        seed: seed of its random draws, or None where it makes none.
        baseline: name of what stands for "nothing", or None where it needs none.
    """

    version: int
    layer: str | None
    parameters: dict[str, Any]
    seed: int | None
    baseline: str | None

    def attribute(self, images: Tensor, target: Tensor | Contrast | None) -> tuple[Tensor, Tensor]:
        """Return the maps, float32 (B, H, W), and the logits, (B, L), of one batch.

        Args:
            images: float (B, C, H, W), on the device and in the precision of the network.
            target: int64 (B,) class numbers, a contrast, or None for the predicted class.

        Raises:
            ExplanationError: the method cannot explain this network or target.
        """
        ...


METHODS: dict[str, Callable[[nn.Module, str | None], Attributor]] = {"grad-cam": GradCam}
"""Method name -> what binds it to a network and a layer."""


def explain(
    model: nn.Module,
    images: Tensor,
    method: str = "grad-cam",
    *,
    target: Target = None,
    layer: str | None = None,
    batch_size: int = 32,
) -> Explanation:
    """Return the maps of why ``model`` decided as it did on ``images``.

    The network is left as it was: weights, gradients, hooks and training flags. It may not be used
    by another thread meanwhile.

    Args:
        model: network that returns logits (B, L).
        images: uint8 (B, C, H, W), scaled to [0, 1] here, or float (B, C, H, W) as the network was
            trained on, for fedlens in [0, 1]; B may be 0.
        method: a name in :data:`METHODS`.
        target: what is explained: a class number for all images, one class number per image, a
            :class:`Contrast`, or None for the predicted class.
        layer: name of the convolution whose map is explained; None for the last one. See
            :func:`fedlens.explain.layers.find_layer`.
        batch_size: images at a time; it does not change the maps.

    Raises:
        ExplanationError: the method, layer or class is not there, or the images are not what the
            network takes; the sentence names what may be chosen.
    """
    if method not in METHODS:
        raise ExplanationError(
            f"There is no explanation method '{method}'; choose one of {', '.join(METHODS)}."
        )
    if batch_size < 1:
        raise ExplanationError(f"batch_size is {batch_size}, expected at least 1.")
    _check_images(images)
    with evaluation_mode(model), torch.inference_mode(False), torch.no_grad():
        wanted = parse_target(target, len(images))
        inputs, asked = images, wanted
        if len(images) == 0:
            # A black image stands in: the layer is checked, and the logits have their width.
            inputs = images.new_zeros((1, *images.shape[1:]))
            asked = wanted if isinstance(wanted, Contrast) else None
        attributor = METHODS[method](model, layer)
        values, logits = [], []
        for start in range(0, len(inputs), batch_size):
            batch = slice(start, start + batch_size)
            part = asked[batch] if isinstance(asked, Tensor) else asked
            maps, outputs = attributor.attribute(_for_network(model, inputs[batch]), part)
            values.append(maps.cpu())
            logits.append(outputs.cpu())
        all_values = torch.cat(values)[: len(images)]
        all_logits = torch.cat(logits)[: len(images)]
        explained = all_logits.argmax(1) if wanted is None else wanted
        degenerate = degenerate_maps(all_values)
    return Explanation(
        values=all_values,
        logits=all_logits,
        target=explained,
        degenerate=degenerate,
        images=images,
        meta={
            "method": method,
            "version": attributor.version,
            "layer": attributor.layer,
            "parameters": {**attributor.parameters, "batch_size": batch_size},
            "seed": attributor.seed,
            "baseline": attributor.baseline,
        },
    )


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise ExplanationError(
            f"The images are of type {type(images).__name__}, expected a tensor (B, C, H, W)."
        )
    if images.dim() != 4 or 0 in images.shape[1:]:
        raise ExplanationError(
            f"The images have the shape {tuple(images.shape)}, expected (B, C, H, W)."
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ExplanationError(f"The images are {images.dtype}, expected uint8 or a float type.")
    if images.is_floating_point():
        finite = torch.isfinite(images).flatten(1).all(1)
        if not finite.all():
            first = int((~finite).nonzero()[0])
            raise ExplanationError(
                f"Image {first} has a pixel that is NaN or infinite, expected values in [0, 1]."
            )


def _for_network(model: nn.Module, images: Tensor) -> Tensor:
    """Return ``images`` as floats on the device and in the precision of ``model``."""
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    if images.is_inference():
        images = images.clone()  # a tensor of inference mode cannot take part in a graph
    floats = images.to(like.device, like.dtype)
    return floats / 255 if images.dtype == torch.uint8 else floats
