"""The gradient of each example's loss, by three ways that give the same numbers.

A way takes a chunk of a batch and returns its :class:`ChunkGradients`. :func:`by_rules` is the fast
one. :func:`by_vmap` and :func:`by_loop` know no layers: the network sees one example at a time, in
the former all of them at once.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.func import functional_call, grad, vmap

from fedlens.errors import ModelError
from fedlens.privacy.per_example.capture import Capture, Product
from fedlens.privacy.per_example.convolution import Windows, positions
from fedlens.privacy.per_example.layout import FlatLayout
from fedlens.privacy.per_example.parts import Factors, Part, Rows, Written, product_part

Loss = Callable[[Tensor, Tensor], Tensor]
"""``loss(outputs, targets)`` returns one value per example, shape (N,)."""


Placed = tuple[int, Part]
"""The number of a parameter, and the gradients with respect to it."""


class UncaughtUseError(Exception):
    """The rules do not cover this network; the text says where."""


@dataclass(frozen=True)
class Task:
    """What is differentiated.

    Attributes:
        model: the network.
        loss: one value per example.
        layout: of the trainable parameters.
        views: K, rows of the batch for each example.
    """

    model: nn.Module
    loss: Loss
    layout: FlatLayout
    views: int

    def forward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs (n K, ...) and losses (n K,) of ``inputs`` (n K, ...), targets (n, ...).

        Raises:
            ModelError: the loss does not return one value per example.
        """
        if self.views > 1:
            targets = targets.repeat_interleave(self.views, 0)
        outputs = self.model(inputs)
        losses = self.loss(outputs, targets)
        self.check(losses, len(inputs))
        return outputs, losses

    def check(self, losses: Tensor, rows: int) -> None:
        """Raise ModelError unless ``losses`` is (rows,)."""
        if losses.shape != (rows,):
            raise ModelError(
                f"The loss returned a tensor of shape {tuple(losses.shape)} for {rows} examples, "
                'expected one value per example (for PyTorch\'s own losses: reduction="none").'
            )


@dataclass(frozen=True)
class ChunkGradients:
    """The gradients of n examples.

    Attributes:
        parts: which together are the gradients; no parameter is in two of them.
        losses: (n K,), without a graph.
        outputs: (n K, ...), without a graph.
    """

    parts: list[Placed]
    losses: Tensor
    outputs: Tensor


def by_rules(task: Task, inputs: Tensor, targets: Tensor) -> ChunkGradients:
    """Return the gradients of a chunk by one forward and one backward pass over all its rows.

    The network must treat each row by itself.

    Args:
        task: what is differentiated.
        inputs: (n K, ...).
        targets: (n, ...).

    Raises:
        UncaughtUseError: a parameter gets a gradient in a way that no rule covers.
    """
    layout = task.layout
    capture = Capture(layout, len(targets), task.views)
    with capture:
        outputs, losses = task.forward(inputs, targets)
    with full_precision(layout.device):
        return ChunkGradients(
            _backward(task, capture, losses, len(targets)), losses.detach(), outputs.detach()
        )


def _backward(task: Task, capture: Capture, losses: Tensor, examples: int) -> list[Placed]:
    layout, products, copies = task.layout, capture.products, capture.copies
    ends: list[Tensor | GradientEdge] = [
        *(p.output for p in products),
        *(c for _, c in copies),
        *layout.parameters,
    ]
    arrived: tuple[Tensor | None, ...] = (None,) * len(ends)
    if losses.requires_grad:
        # The sum, so that each example's loss has its own gradient; K views share a mean.
        root = losses.sum() if task.views == 1 else losses.sum() / task.views
        arrived = torch.autograd.grad(root, ends, allow_unused=True)  # type: ignore[arg-type]
    # Every parameter that a rule caught was detached, so that a gradient here was caught by none.
    own = zip(layout.names, arrived[len(products) + len(copies) :], strict=True)
    uncaught = [name for name, gradient in own if gradient is not None]
    if uncaught:
        raise UncaughtUseError(f"no rule covers how {', '.join(uncaught)} is used")

    uses = Counter(id(o) for p in products for _, origins in p.operands for o in origins)
    uses.update(id(parameter) for parameter, _ in copies)
    parts: list[Placed] = []
    # The gradients of parameters that are used more than once, or through a computation: number of
    # the parameter -> gradients (n, *shape), to be summed before any norm is taken.
    pieces: dict[int, list[Tensor]] = defaultdict(list)
    for product, arriving in zip(products, arrived, strict=False):
        if arriving is None:
            continue
        if product.inputs._version != product.version:
            raise UncaughtUseError("the input of a layer is overwritten in place")
        given = _product_parts(product, arriving.to(layout.dtype), examples)
        for (operand, origins), part in zip(product.operands, given, strict=True):
            if uses[id(operand)] == 1:
                parts.append((layout.numbers[id(operand)], part))
                continue
            chained = _chain(operand, origins, part.gradients())
            for origin, gradient in zip(origins, chained, strict=True):
                pieces[layout.numbers[id(origin)]].append(gradient)
    for (parameter, _), arriving in zip(copies, arrived[len(products) :], strict=False):
        if arriving is not None:
            shaped = arriving.reshape(examples, *parameter.shape)
            pieces[layout.numbers[id(parameter)]].append(shaped)
    for number, found in pieces.items():
        parts.append((number, Written(reduce(torch.add, found))))
    return parts


def _product_parts(product: Product, deltas: Tensor, examples: int) -> list[Part]:
    """Return the parts of the weight and the bias, those of them that get a gradient."""
    if product.geometry is not None:
        deltas = positions(deltas)
    deltas = deltas.reshape(examples, -1, deltas.shape[-1])
    parts: list[Part] = []
    if product.weight is not None:
        inputs = product.inputs.detach().to(deltas.dtype)
        seen = (
            Rows(inputs.reshape(*deltas.shape[:2], -1))
            if product.geometry is None
            else Windows(inputs, product.geometry, examples)
        )
        parts.append(product_part(Factors(seen, deltas, product.weight.shape[1:])))
    if product.has_bias:
        parts.append(Written(deltas.sum(1)))
    return parts


def _chain(operand: Tensor, origins: list[Tensor], gradients: Tensor) -> tuple[Tensor, ...]:
    """Take the gradients (n, ...) of an operand to the parameters that it was computed from.

    This is for instance the standardisation of a weight (Qiao et al. 2019, arXiv:1903.10520). The
    chain rule is linear in the gradient, so that it holds for each example's.
    """
    if len(origins) == 1 and origins[0] is operand:
        return (gradients,)
    return torch.autograd.grad(
        operand, origins, gradients, retain_graph=True, is_grads_batched=True
    )


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Return a context without autocast, which is for the network, not for norms and sums."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()  # several times cheaper


def by_vmap(task: Task, inputs: Tensor, targets: Tensor) -> ChunkGradients:
    """Return the gradients of a chunk by ``torch.func``; dropout draws anew for each example.

    Args and result as of :func:`by_rules`.
    """
    layout, views = task.layout, task.views

    def mean_loss(
        parameters: dict[str, Tensor], rows: Tensor, target: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        outputs = functional_call(task.model, parameters, (rows,))
        losses = task.loss(outputs, target.unsqueeze(0).expand(views, *target.shape))
        task.check(losses, views)
        return losses.mean(), (outputs, losses)

    parameters = {name: p.detach() for name, p in zip(layout.names, layout.parameters, strict=True)}
    rows = inputs.reshape(len(targets), views, *inputs.shape[1:])
    differentiate = vmap(
        grad(mean_loss, has_aux=True), in_dims=(None, 0, 0), randomness="different"
    )
    gradients, (outputs, losses) = differentiate(parameters, rows, targets)
    parts: list[Placed] = [
        (number, Written(gradients[name])) for number, name in enumerate(layout.names)
    ]
    return ChunkGradients(parts, losses.detach().flatten(), outputs.detach().flatten(0, 1))


def by_loop(task: Task, inputs: Tensor, targets: Tensor) -> ChunkGradients:
    """Return the gradients of a chunk by plain autograd, one example after the other.

    Args and result as of :func:`by_rules`.
    """
    parameters = task.layout.parameters
    gradients = [p.new_zeros(len(targets), *p.shape) for p in parameters]
    seen, lost = [], []
    for number, rows in enumerate(inputs.split(task.views)):
        outputs, losses = task.forward(rows, targets[number : number + 1])
        if losses.requires_grad:
            found = torch.autograd.grad(losses.mean(), parameters, allow_unused=True)
            for all_of_it, gradient in zip(gradients, found, strict=True):
                if gradient is not None:
                    all_of_it[number] = gradient
        seen.append(outputs.detach())
        lost.append(losses.detach())
    parts: list[Placed] = [(number, Written(g)) for number, g in enumerate(gradients)]
    return ChunkGradients(parts, torch.cat(lost), torch.cat(seen))
