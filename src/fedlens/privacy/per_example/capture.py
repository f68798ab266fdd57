"""Catches every use of a trainable parameter in a forward pass, before autograd sums it up.

The rules hang on operations, not on modules: while :class:`Capture` is active, PyTorch shows it the
operations of the forward pass. Those that it knows compute with detached parameters, so that autograd
computes gradients of activations only, which is also what makes it fast:

- ``linear`` and ``conv2d``: what goes in and the gradient at what comes out give each example's
  gradient;
- ``group_norm`` and ``layer_norm``, and a parameter that is added to or multiplied with activations
  or expanded over the batch (position embedding, layer scale, class token): the parameter is
  replaced by a copy for each example, and the gradients of the copies are what is wanted.

A parameter that takes part in any other way stays tied to the autograd graph, where
:mod:`fedlens.privacy.per_example.gradients` finds it. No hook is set and no parameter is changed, so
that there is nothing to undo.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fedlens.privacy.per_example.convolution import Geometry
from fedlens.privacy.per_example.layout import FlatLayout

Operation = Callable[..., Any]


class Product(NamedTuple):
    """One call of ``linear`` or ``conv2d``.

    Attributes:
        inputs: (R, ...), what went in.
        version: of ``inputs`` at that moment; another one later means that it was overwritten.
        output: where the gradient at what came out arrives.
        weight: what was multiplied with, None where it gets no gradient.
        has_bias: whether something was added that gets a gradient.
        operands: those of the weight and the bias that get a gradient, each with the trainable
            parameters that it is computed from: itself, if it is one.
        geometry: of a convolution, None for ``linear``.
    """

    inputs: Tensor
    version: int
    output: GradientEdge
    weight: Tensor | None
    has_bias: bool
    operands: list[tuple[Tensor, list[Tensor]]]
    geometry: Geometry | None


class Capture(TorchFunctionMode):
    """The uses of trainable parameters while this context is active.

    Attributes:
        products: calls of ``linear`` and ``conv2d``.
        copies: (parameter, its copies (n, ...), leaves of the graph).
    """

    def __init__(self, layout: FlatLayout, examples: int, views: int) -> None:
        """Prepare for one forward pass.

        Args:
            layout: the trainable parameters.
            examples: n.
            views: rows of the batch for each example, one after the other; R = n * views.
        """
        super().__init__()
        self.products: list[Product] = []
        self.copies: list[tuple[Tensor, Tensor]] = []
        self._trainable = layout.numbers
        self._examples = examples
        self._views = views
        self._rows = examples * views

    def __torch_function__(
        self,
        func: Operation,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Compute ``func`` by its rule, or as it stands where there is none that fits."""
        kwargs = kwargs or {}
        rule = _RULES.get(func)
        result = None
        if rule is not None and torch.is_grad_enabled():
            result = rule(self, func, *args, **kwargs)
        return func(*args, **kwargs) if result is None else result

    def _linear(
        self, func: Operation, input: Tensor, weight: Tensor, bias: Tensor | None = None
    ) -> Tensor | None:
        if input.dim() < 2 or input.shape[0] != self._rows or weight.dim() != 2:
            return None

        def compute(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
            out: Tensor = func(x.flatten(0, -2), w, b)
            return out

        # On flattened inputs: ``linear`` returns a view for more dimensions, and an operation in
        # place on a view takes its edge out of the graph. Here the edge is that of the base.
        out = self._product(compute, input, weight, bias, None)
        return None if out is None else out.view(*input.shape[:-1], -1)

    def _conv2d(
        self,
        func: Operation,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: str | int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
    ) -> Tensor | None:
        if input.dim() != 4 or input.shape[0] != self._rows or groups != 1:
            return None

        def compute(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
            out: Tensor = func(x, w, b, stride, padding, dilation)
            return out

        kernel = (weight.shape[2], weight.shape[3])
        geometry = Geometry.of(kernel, stride, padding, dilation)
        return self._product(compute, input, weight, bias, geometry)

    def _product(
        self,
        compute: Callable[[Tensor, Tensor, Tensor | None], Tensor],
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: Geometry | None,
    ) -> Tensor | None:
        weight_origins = self._origins(weight)
        bias_origins = [] if bias is None else self._origins(bias)
        operands = [
            (operand, origins)
            for operand, origins in ((weight, weight_origins), (bias, bias_origins))
            if operand is not None and origins
        ]
        if not operands:
            return None
        # Something must require a gradient for there to be a graph that the gradient comes down;
        # that of the inputs themselves is never asked for, and so never computed.
        source = inputs if inputs.requires_grad else inputs.detach().requires_grad_()
        out = compute(
            source,
            weight.detach() if weight_origins else weight,
            bias.detach() if bias is not None and bias_origins else bias,
        )
        self.products.append(
            Product(
                inputs,
                inputs._version,
                get_gradient_edge(out),
                weight if weight_origins else None,
                bool(bias_origins),
                operands,
                geometry,
            )
        )
        return out

    def _group_norm(
        self,
        func: Operation,
        input: Tensor,
        num_groups: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Tensor | None:
        if input.dim() < 2 or input.shape[0] != self._rows:
            return None
        shape = (1, input.shape[1], *([1] * (input.dim() - 2)))
        return self._affine(lambda: func(input, num_groups, None, None, eps), weight, bias, shape)

    def _layer_norm(
        self,
        func: Operation,
        input: Tensor,
        normalized_shape: list[int],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Tensor | None:
        outer = input.dim() - len(normalized_shape)
        if outer < 1 or input.shape[0] != self._rows:
            return None
        shape = (*([1] * outer), *normalized_shape)
        return self._affine(
            lambda: func(input, normalized_shape, None, None, eps), weight, bias, shape
        )

    def _affine(
        self,
        normalised: Callable[[], Tensor],
        weight: Tensor | None,
        bias: Tensor | None,
        shape: tuple[int, ...],
    ) -> Tensor | None:
        if not any(id(t) in self._trainable for t in (weight, bias)):
            return None
        out = normalised()
        if weight is not None:
            out = out * self._copied(weight, shape)
        return out if bias is None else out + self._copied(bias, shape)

    def _elementwise(
        self, func: Operation, first: Any, second: Any = None, *rest: Any, **options: Any
    ) -> Any:
        parameter, other = (first, second) if id(first) in self._trainable else (second, first)
        if id(parameter) not in self._trainable or not isinstance(other, Tensor):
            return None
        missing = other.dim() - parameter.dim()
        shape = (*([1] * missing), *parameter.shape)
        if other.dim() == 0 or other.shape[0] != self._rows or missing < 0 or shape[0] != 1:
            return None
        copied = self._copied(parameter, shape)
        pair = (copied, other) if parameter is first else (other, copied)
        return func(*pair, *rest, **options)

    def _expand(self, func: Operation, parameter: Tensor, *sizes: Any) -> Tensor | None:
        if id(parameter) not in self._trainable or not parameter.dim() or parameter.shape[0] != 1:
            return None
        wanted = tuple(sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes)
        if len(wanted) != parameter.dim() or wanted[0] != self._rows:
            return None
        out: Tensor = func(self._copied(parameter, tuple(parameter.shape)), wanted)
        return out

    def _copied(self, parameter: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return ``parameter`` in ``shape``, (R, ...) if it is trainable."""
        if id(parameter) not in self._trainable:
            return parameter.view(shape)
        copies = parameter.detach().view(shape).expand(self._examples, *shape[1:]).requires_grad_()
        self.copies.append((parameter, copies))
        return copies if self._views == 1 else copies.repeat_interleave(self._views, 0)

    def _origins(self, tensor: Tensor) -> list[Tensor]:
        """Return the trainable parameters that ``tensor`` is, or is computed from.

        The list is empty where anything else that requires a gradient, such as activations, has a
        part in it.
        """
        if id(tensor) in self._trainable:
            return [tensor]
        found: dict[int, Tensor] = {}
        seen, waiting = set(), [tensor.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            leaf = getattr(node, "variable", None)
            if leaf is not None:
                if id(leaf) not in self._trainable:
                    return []
                found[id(leaf)] = leaf
            waiting.extend(following for following, _ in node.next_functions)
        return list(found.values())


_RULES: dict[Operation, Operation] = {
    F.linear: Capture._linear,
    F.conv2d: Capture._conv2d,
    F.group_norm: Capture._group_norm,
    F.layer_norm: Capture._layer_norm,
    Tensor.expand: Capture._expand,
    **dict.fromkeys(
        (
            torch.add, Tensor.add, Tensor.add_, torch.sub, Tensor.sub,
            torch.mul, Tensor.mul, Tensor.mul_,
        ),
        Capture._elementwise,
    ),
}  # fmt: skip
