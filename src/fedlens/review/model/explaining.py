"""``explain`` for a network that stays as it is: what does not change is looked at once.

:func:`fedlens.explain.explain` checks the network and binds the method at each call, which for a
small image takes as long as the map itself. The examiner's network is its own, so that both are done
when a method is first asked for. The maps are the same, to the last bit.
"""

from typing import Any

import torch
from torch import Tensor, nn

from fedlens.explain import METHODS, Attributor, Context, Contrast, Explanation, explain
from fedlens.explain.explanation import degenerate_maps
from fedlens.explain.target import parse_target
from fedlens.review.contract import ReviewError
from fedlens.review.model.asking import Asking
from fedlens.review.model.reading import NO_NUMBER

AT_ONCE = 32
"""Images that go through a method at a time, as in ``explain``."""


class Explainer:
    """The methods of one network, each bound once; for one thread."""

    def __init__(self, model: nn.Module, asking: Asking) -> None:
        """Put the network into evaluation mode, in which it stays.

        Args:
            model: maps float (B, C, H, W) in [0, 1] to logits (B, L); its weights never change.
            asking: how each method is asked.
        """
        for module in model.modules():
            module.training = False  # some networks change their weights in ``train()``
        self._model = model
        self._like = next(model.parameters())
        self._asking = asking
        self._bound: dict[str, tuple[Attributor, dict[str, Any]]] = {}

    def explain(self, images: Tensor, method: str, target: Tensor | Contrast | None) -> Explanation:
        """Return what :func:`fedlens.explain.explain` returns.

        Args:
            images: uint8 (B, C, H, W), B >= 1.
            method: one that can explain the network.
            target: int64 (B,) class numbers, a contrast, or None for the predicted class; None for
                a method that looks at no class.

        Raises:
            ExplanationError: the method cannot explain these images.
            ReviewError: the network's answer is not a number.
        """
        given = self._asking.arguments(method)
        if method not in self._bound:
            # the long way, which checks the weights, the references and the method
            found = explain(self._model, images, method, target=target, **given)
            self._bound[method] = self._bind(method), found.meta
            return found
        bound, meta = self._bound[method]
        asked = parse_target(target, len(images))
        with torch.inference_mode(False), torch.no_grad():
            parts = [
                bound.attribute(
                    self._inputs(images[start : start + AT_ONCE]),
                    asked[start : start + AT_ONCE] if isinstance(asked, Tensor) else asked,
                )
                for start in range(0, len(images), AT_ONCE)
            ]
            values = torch.cat([part.maps.cpu() for part in parts])
            logits = torch.cat([part.logits.cpu() for part in parts])
            details = {
                name: torch.cat([part.details[name].cpu() for part in parts])
                for name in parts[0].details
            }
        if not bool(torch.isfinite(logits).all()):
            raise ReviewError(NO_NUMBER)
        return Explanation(
            values=values,
            logits=logits,
            target=logits.argmax(1) if asked is None and bound.class_specific else asked,
            degenerate=degenerate_maps(values),
            images=images,
            meta=meta,
            details=details,
        )

    def _bind(self, method: str) -> Attributor:
        given = self._asking.arguments(method)
        references = given["references"]
        if references is not None:
            references = self._inputs(references)
        context = Context(self._model, given["layer"], given["seed"], references)
        return METHODS[method](context)

    def _inputs(self, images: Tensor) -> Tensor:
        return images.to(self._like.device, self._like.dtype) / 255
