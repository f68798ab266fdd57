"""``explain``: one verb for every attribution method."""

import hashlib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.contract import OF_REFERENCES, Attributor, Context
from fedlens.explain.explanation import Explanation, degenerate_maps
from fedlens.explain.layers import evaluation_mode
from fedlens.explain.methods import METHODS
from fedlens.explain.target import Contrast, Target, check_names, named_target, parse_target


def explain(
    model: nn.Module,
    images: Tensor,
    method: str = "grad-cam",
    *,
    target: Target | str = None,
    contrast: Sequence[int | str] | Contrast | None = None,
    class_names: Sequence[str] | None = None,
    layer: str | None = None,
    seed: int = 0,
    references: Tensor | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 32,
    **parameters: Any,
) -> Explanation:
    """Return the maps of why ``model`` decided as it did on ``images``.

    The network is left as it was: weights, gradients, hooks and training flags. It may not be used
    by another thread meanwhile.

    Args:
        model: network that returns logits (B, L).
        images: uint8 (B, C, H, W), scaled to [0, 1] here, or float (B, C, H, W) as the network was
            trained on; B may be 0.
        method: a name in :data:`METHODS`.
        target: what is explained: a class number for all images (or, with ``class_names``, the
            name of the class), one class number per image, a :class:`Contrast`, or None for the
            predicted class. A method that looks at no class (``class_specific`` is False) takes
            None alone.
        contrast: in place of a target, the two classes of "why the first rather than the second?",
            by number or, with ``class_names``, by name: ``(6, 0)`` or ``("Shirt", "T-shirt/top")``
            is ``target=Contrast(6, 0)``.
        class_names: L names, one per class in the order of the logits, to ask by name.
        layer: name of the convolution whose map is explained; None for the last one. See
            :func:`fedlens.explain.layers.find_layer`. Only for methods that explain a layer.
        seed: root seed of the method's random draws, at least 0.
        references: other images (R, C, H, W), uint8 or float as ``images``, for instance of the
            training split: what ``expected-gradients`` and the baseline ``mean`` are taken over.
            Without them ``mean`` is that of each image itself. Where a method looks at them
            ``meta`` has their number and digest.
        value_range: smallest and largest value of a pixel in float images; the smallest is black.
        batch_size: images at a time; it does not change the maps.
        **parameters: of the method, such as ``panels`` of ``integrated-gradients``; those that are
            not given have the values that its class states.

    Raises:
        ExplanationError: the method, layer, class or parameter is not there, a target and a
            contrast were both given, the network's weights or logits are not finite, or the images
            are not what the network takes; the sentence names what may be chosen.
    """
    kind = METHODS.get(method)
    if kind is None:
        raise ExplanationError(
            f"There is no explanation method '{method}'; choose one of {', '.join(METHODS)}."
        )
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ExplanationError(
            f"batch_size is {batch_size!r}, expected a whole number of at least 1."
        )
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ExplanationError(f"seed is {seed!r}, expected a whole number from 0.")
    low, high = value_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ExplanationError(
            f"value_range is {value_range}, expected the smallest and the largest value of a pixel."
        )
    _check_images(images, value_range, "Image")
    asks = target is not None or contrast is not None
    _check_request(method, kind, asks, layer, references, parameters)
    target = named_target(target, contrast, class_names)
    _check_weights(model)
    with evaluation_mode(model), torch.inference_mode(False), torch.no_grad():
        wanted = parse_target(target, len(images))
        inputs, asked = images, wanted
        if len(images) == 0:
            # A black image stands in: the layer is checked, and the logits have their width.
            inputs = images.new_full(
                (1, *images.shape[1:]), 0 if images.dtype == torch.uint8 else low
            )
            asked = wanted if isinstance(wanted, Contrast) else None
        others = None
        if references is not None:
            _check_images(references, value_range, "Reference")
            _check_references(references, images)
            others = _for_network(model, references)
        context = Context(model, layer, seed, others, low, high)
        attributor = kind(context, **parameters)
        results = []
        for start in range(0, len(inputs), batch_size):
            batch = slice(start, start + batch_size)
            part = asked[batch] if isinstance(asked, Tensor) else asked
            results.append(attributor.attribute(_for_network(model, inputs[batch]), part))
            if class_names is not None:
                check_names(class_names, results[-1].logits.shape[1])
        values = torch.cat([result.maps.cpu() for result in results])[: len(images)]
        logits = torch.cat([result.logits.cpu() for result in results])[: len(images)]
        details = {
            name: torch.cat([result.details[name].cpu() for result in results])[: len(images)]
            for name in results[0].details
        }
        _check_logits(logits)
        explained = logits.argmax(1) if wanted is None and kind.class_specific else wanted
        degenerate = degenerate_maps(values)
    return Explanation(
        values=values,
        logits=logits,
        target=explained,
        degenerate=degenerate,
        images=images,
        meta={
            "method": method,
            "version": attributor.version,
            "layer": attributor.layer,
            "parameters": {**attributor.parameters, "batch_size": batch_size},
            "seed": seed if attributor.stochastic else None,
            "baseline": attributor.baseline,
            "value_range": [float(low), float(high)],
            "references": _record_of(references) if attributor.uses_references else None,
            "signed": attributor.signed,
            "class_specific": attributor.class_specific,
        },
        details=details,
    )


def parameters_of(method: str) -> dict[str, Any]:
    """Return the parameters of a method in :data:`METHODS` and their values where not given."""
    given = inspect.signature(METHODS[method]).parameters.values()
    return {p.name: p.default for p in given if p.kind is inspect.Parameter.KEYWORD_ONLY}


def compares_with_references(method: str, parameters: Mapping[str, Any] | None = None) -> bool:
    """Return whether a method in :data:`METHODS` looks at references, before it is bound.

    Args:
        method: its name.
        parameters: those that are not the method's own, by name.
    """
    settings = parameters_of(method) | dict(parameters or {})
    return METHODS[method].needs_references or any(
        name in settings.values() for name in OF_REFERENCES
    )


def _check_request(
    method: str,
    kind: type[Attributor],
    asks: bool,
    layer: str | None,
    references: Tensor | None,
    parameters: dict[str, Any],
) -> None:
    known = parameters_of(method)
    for name in parameters:
        if name not in known:
            choices = f"it has {', '.join(known)}" if known else "it has none"
            raise ExplanationError(f"The method '{method}' has no parameter '{name}'; {choices}.")
    if asks and not kind.class_specific:
        raise ExplanationError(
            f"The method '{method}' looks at no class, so that it cannot explain one, or one against "
            "another; leave out the target or contrast, or choose a method that does."
        )
    if layer is not None and not kind.uses_layer:
        having = [name for name, other in METHODS.items() if other.uses_layer]
        raise ExplanationError(
            f"The method '{method}' explains no single layer; leave out the layer, or choose one of "
            f"{', '.join(having)}."
        )
    if kind.needs_references and (references is None or len(references) == 0):
        raise ExplanationError(
            f"The method '{method}' compares with other images; give it references (R, C, H, W), for "
            "instance a hundred images of the training split."
        )


def _check_weights(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not bool(torch.isfinite(parameter).all()):
            raise ExplanationError(
                f"The weights '{name}' of the network hold NaN or infinity, so that there is no "
                "decision to explain."
            )


def _check_logits(logits: Tensor) -> None:
    finite = torch.isfinite(logits).all(1)
    if not finite.all():
        first = int((~finite).nonzero()[0])
        raise ExplanationError(
            f"The network's logits of image {first} are NaN or infinite, so that there is no decision "
            "to explain."
        )


def _check_images(images: Tensor, value_range: tuple[float, float], what: str) -> None:
    if not isinstance(images, Tensor):
        raise ExplanationError(
            f"The {what.lower()}s are of type {type(images).__name__}, expected a tensor "
            "(B, C, H, W)."
        )
    if images.dim() != 4 or 0 in images.shape[1:]:
        raise ExplanationError(
            f"The {what.lower()}s have the shape {tuple(images.shape)}, expected (B, C, H, W)."
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ExplanationError(
            f"The {what.lower()}s are {images.dtype}, expected uint8 or a float type."
        )
    if images.dtype == torch.uint8 and value_range != (0.0, 1.0):
        raise ExplanationError(
            f"The {what.lower()}s are bytes, which become 0 to 1, and value_range is {value_range}; "
            "give floats in that range."
        )
    low, high = value_range
    if images.is_floating_point():
        finite = torch.isfinite(images).flatten(1).all(1)
        if not finite.all():
            first = int((~finite).nonzero()[0])
            raise ExplanationError(
                f"{what} {first} has a pixel that is NaN or infinite, expected values in [{low:g}, "
                f"{high:g}]."
            )
        if (
            images.numel() > 0
            and not low <= float(images.detach().min()) <= float(images.detach().max()) <= high
        ):
            first = int(((images < low) | (images > high)).flatten(1).any(1).nonzero()[0])
            raise ExplanationError(
                f"{what} {first} has values from {float(images[first].min()):g} to "
                f"{float(images[first].max()):g}, expected {low:g} to {high:g}; give bytes, or say "
                "with value_range what the network was trained on."
            )


def _check_references(references: Tensor, images: Tensor) -> None:
    if len(references) == 0 or references.shape[1:] != images.shape[1:]:
        raise ExplanationError(
            f"The references have the shape {tuple(references.shape)}, expected at least one image of "
            f"the shape of those that are explained, {tuple(images.shape[1:])}."
        )


def _record_of(references: Tensor | None) -> dict[str, Any] | None:
    """Return how many references there are and the digest that tells them from others.

    Of the references as they were given: so it can be worked out again without the network, and
    is the same on every device.
    """
    if references is None:
        return None
    content = references.detach().cpu().contiguous()
    kind = str(content.dtype).removeprefix("torch.")
    digest = hashlib.sha256(f"{kind} {tuple(content.shape)}".encode())
    digest.update(content.view(torch.uint8).numpy().tobytes())  # NumPy knows no bfloat16
    return {"count": len(content), "sha256": digest.hexdigest()}


def _for_network(model: nn.Module, images: Tensor) -> Tensor:
    """Return ``images`` as floats on the device and in the precision of ``model``."""
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    if images.is_inference():
        images = images.clone()  # a tensor of inference mode cannot take part in a graph
    floats = images.to(like.device, like.dtype)
    return floats / 255 if images.dtype == torch.uint8 else floats
