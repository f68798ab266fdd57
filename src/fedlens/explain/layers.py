"""What the methods ask of a network: a layer by its name, its map, its logits, and peace."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError


@runtime_checkable
class ExplainableNetwork(Protocol):
    """A network whose ``forward`` hides the maps that explanations need, and that offers them here.

    A network that does not have these two members is explained as it stands.
    """

    def explanation_view(self) -> nn.Module:
        """Return a module over the same weights that computes the same logits step by step.

        It is given images in any memory layout.
        """
        ...

    @property
    def map_layers(self) -> Mapping[str, str]:
        """Convolution name -> name of the view's module whose output is its activated map.

        In the order of the forward pass: the last one is explained by default.
        """
        ...


@runtime_checkable
class AttentionNetwork(Protocol):
    """A network of attention between tokens that lie on a grid over the image.

    Attributes:
        token_grid: rows and columns of the grid, whose cells lie over the image without gaps.
        has_class_token: True where the logits are of a token that lies nowhere, number 0, before
            those of the grid; False where they are of the mean of the grid's tokens.
    """

    token_grid: tuple[int, int]
    has_class_token: bool

    def forward_with_attention(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits (B, L) of ``images`` (B, C, H, W), and each block's attention weights.

        The weights are (B, heads, T, T), at least 0, of the first block first; entry (i, j) is how
        much token i takes from token j, and each row sums to 1. They must be part of the graph that
        leads to the logits. The grid's tokens are in rows, from the top left.
        """
        ...


@dataclass(frozen=True, eq=False)
class MapLayer:
    """Where the map of a layer is found.

    Attributes:
        network: what is to be run: the network, or its explanation view.
        module: the module of ``network`` whose output is the map.
        name: the layer as a person calls it.
        output_of: name of ``module`` in ``network``.
        any_layout: ``network`` takes images in any memory layout.
    """

    network: nn.Module
    module: nn.Module
    name: str
    output_of: str
    any_layout: bool


def has_map(model: nn.Module) -> bool:
    """Return whether the network has a convolution that methods may explain by default."""
    try:
        find_layer(model, None)
    except ExplanationError:
        return False
    return True


def find_layer(model: nn.Module, layer: str | None) -> MapLayer:
    """Return where the map of ``layer`` is found.

    A network that offers an explanation view (:class:`ExplainableNetwork`) is explained through it,
    and the map of a convolution is its activated one. In any other network the map is the named
    module's own output: to explain a plain network after its activation, name the activation.

    Args:
        model: the network, in evaluation mode.
        layer: name of a convolution, or of any other module with a (B, K, h, w) output; None for
            the last convolution.

    Raises:
        ExplanationError: there is no such layer, or no convolution to choose by default.
    """
    network, maps = model, dict[str, str]()
    if isinstance(model, ExplainableNetwork):
        network, maps = model.explanation_view().eval(), dict(model.map_layers)
    modules = {name: module for name, module in network.named_modules() if name}
    choices = list(maps) or [
        name for name, module in modules.items() if isinstance(module, nn.Conv2d)
    ]
    if layer is None:
        if not choices:
            raise ExplanationError(
                f"{type(model).__name__} has no named convolution to explain; name a layer with a "
                "(B, K, h, w) output, or choose a method that needs none."
            )
        layer = choices[-1]
    output_of = maps.get(layer, layer)
    if output_of not in modules:
        convolutions = f"its convolutions are {', '.join(choices)}" if choices else "it has none"
        raise ExplanationError(
            f"There is no layer '{layer}' in {type(model).__name__}; {convolutions}."
        )
    return MapLayer(network, modules[output_of], layer, output_of, network is not model)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module of ``model`` into evaluation mode, and each back as it was at the end.

    The flags are set directly, because some networks change their weights in ``train()``.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def captured_map(layer: MapLayer) -> Iterator[list[Tensor]]:
    """Yield a list that a forward pass inside the block fills with the map of ``layer``.

    Run the forward pass under ``torch.no_grad()``. The graph begins at the map, a leaf (B, K, h, w)
    that requires a gradient: nothing before it is recorded. Gradient mode is on from there to the
    end of the caller's ``no_grad`` block. The hook is gone when the block ends.

    Raises:
        ExplanationError: the output of the layer is not (B, K, h, w), or it runs more than once.
    """
    maps: list[Tensor] = []

    def begin_graph(_module: nn.Module, _inputs: tuple[object, ...], output: object) -> Tensor:
        if not isinstance(output, Tensor) or output.dim() != 4:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ExplanationError(
                f"The output of layer '{layer.name}' is {got}, expected maps (B, K, h, w); choose "
                "a convolution."
            )
        if maps:
            raise ExplanationError(
                f"Layer '{layer.name}' runs more than once in a forward pass; choose one that runs "
                "once."
            )
        leaf = output.detach().requires_grad_()
        maps.append(leaf)
        torch.set_grad_enabled(True)
        return leaf.clone()  # what follows may work in place, and must not change the map

    handle = layer.module.register_forward_hook(begin_graph)
    try:
        yield maps
    finally:
        handle.remove()


def forward_logits(network: nn.Module, images: Tensor) -> Tensor:
    """Return the logits (B, L) of ``images`` (B, C, H, W), which stay as they are.

    Raises:
        ExplanationError: the network cannot take such images, or its output is not (B, L).
    """
    with _refusing(images):
        logits = network(images.clone())  # a first step in place is to change only this
    return _checked(logits, images)


def forward_attention(network: AttentionNetwork, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the logits (B, L) of ``images`` (B, C, H, W) and the attention weights (B, heads, T, T).

    Raises:
        ExplanationError: the network cannot take such images, its output is not (B, L), or its
            attention does not fit its grid.
    """
    with _refusing(images):
        logits, weights = network.forward_with_attention(images.clone())
    _checked(logits, images)
    rows, columns = network.token_grid
    tokens = rows * columns + network.has_class_token
    for one in weights:
        if one.dim() != 4 or len(one) != len(images) or one.shape[2:] != (tokens, tokens):
            raise ExplanationError(
                f"The network returned attention of the shape {tuple(one.shape)}, expected "
                f"({len(images)}, heads, {tokens}, {tokens}) for its grid of {rows}x{columns} tokens."
            )
    if not weights:
        raise ExplanationError("The network returned no attention, expected that of each block.")
    return logits, weights


# PyTorch's own is the first; a forward that checks the shape itself, unpacks it or counts on it
# raises one of the others. What a wrong size does not cause, such as a missing name, is left alone.
_COMPLAINTS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)


@contextmanager
def _refusing(images: Tensor) -> Iterator[None]:
    """Turn the complaint of a network that cannot take ``images`` into one of ours."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except _COMPLAINTS as error:
        told = str(error).strip() or type(error).__name__
        reason = told.splitlines()[0].rstrip(".")
        raise ExplanationError(
            f"The network cannot take images of the shape (C, H, W) = {tuple(images.shape[1:])}, "
            f"expected images like those it was trained on ({reason})."
        ) from error


def _checked(logits: object, images: Tensor) -> Tensor:
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(images):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ExplanationError(
            f"The network returned {got} for {len(images)} images, expected logits (B, L)."
        )
    return logits


def channels_innermost(images: Tensor) -> Tensor:
    """Return ``images`` (B, C, H, W) with the channels innermost in memory: faster convolutions.

    The strides are written out because for one channel the two layouts are the same bytes, and
    PyTorch would take the slower one.
    """
    count, channels, height, width = images.shape
    strides = (height * width * channels, 1, width * channels, channels)
    images = images.contiguous(memory_format=torch.channels_last)
    return images.as_strided((count, channels, height, width), strides)
