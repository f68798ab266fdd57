"""What a network is made of, step by step, for its drawing."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fedlens.models.vector import get_vector


@dataclass(frozen=True, eq=False)
class LayerSummary:
    """One step of the network for its drawing.

    Attributes:
        name: module name, e.g. ``conv1``.
        kind: ``Conv2d``, ``MaxPool2d``, ``Linear``, ...
        detail: e.g. ``3x3, 32 filters``.
        output_shape: shape of its output without the batch axis, e.g. (32, 26, 26).
        parameters: number of trainable parameters of its own.
    """

    name: str
    kind: str
    detail: str
    output_shape: tuple[int, ...]
    parameters: int


def summarise_layers(model: nn.Module, image_shape: tuple[int, int, int]) -> list[LayerSummary]:
    """Return the steps of ``model``'s explanation view (or of itself), in the order they run.

    Args:
        model: a network; it is run once on a black image, in evaluation mode.
        image_shape: (C, H, W) of the images.
    """
    offered = getattr(model, "explanation_view", None)
    view = offered() if callable(offered) else model
    steps: list[LayerSummary] = []
    hooks = []
    flags = {module: module.training for module in view.modules()}

    def watch(name: str, module: nn.Module) -> None:
        def record(_: nn.Module, __: Any, output: Any) -> None:
            own = sum(p.numel() for p in module.parameters(recurse=False) if p.requires_grad)
            shape = tuple(output.shape[1:])
            steps.append(LayerSummary(name, type(module).__name__, _detail(module), shape, own))

        hooks.append(module.register_forward_hook(record))

    try:
        for name, module in view.named_modules():
            if not list(module.children()):
                watch(name, module)
        view.eval()
        with torch.no_grad():
            view(torch.zeros(1, *image_shape, dtype=get_vector(model).dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for module, flag in flags.items():
            module.training = flag
    return steps


def _detail(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        return f"{height}x{width}, {module.out_channels} filters"
    if isinstance(module, nn.MaxPool2d):
        return f"{module.kernel_size}x{module.kernel_size}"
    if isinstance(module, nn.Linear):
        return f"{module.out_features} units"
    return ""
