"""A network's trainable parameters as one flat vector, which the network itself computes with.

Aggregation, clipping, noise, secure aggregation and attacks all speak vectors. The layout is fixed:
the trainable parameters in ``named_parameters`` order, each in row-major order.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedlens.errors import ModelError


def trainable(model: nn.Module) -> list[Tensor]:
    """Return the trainable parameters in the order of the flat vector.

    Raises:
        ModelError: there are none, or they are not all of one floating dtype on one device.
    """
    parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ModelError("The network has no trainable parameters.")
    kinds = {(p.dtype, p.device) for p in parameters}
    if len(kinds) > 1:
        raise ModelError(
            f"The network's parameters are of {len(kinds)} kinds (dtype and device), expected one: "
            + ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            + "."
        )
    return parameters


def get_vector(model: nn.Module) -> Tensor:
    """Return a copy of the trainable parameters as one vector (P,), of the model's dtype."""
    return torch.cat([p.detach().reshape(-1) for p in trainable(model)])


def set_vector(model: nn.Module, vector: Tensor) -> None:
    """Copy ``vector`` (P,) into the trainable parameters of ``model``.

    Raises:
        ModelError: the vector has another length than the model has parameters.
    """
    parameters = trainable(model)
    count = sum(p.numel() for p in parameters)
    if vector.shape != (count,):
        raise ModelError(
            f"A vector of shape {tuple(vector.shape)} was given to a network of {count:,} "
            "parameters; they belong to different networks."
        )
    with torch.no_grad():
        for parameter, part in zip(parameters, _split(vector, parameters), strict=True):
            parameter.copy_(part.view(parameter.shape))


class FlatParameters:
    """Rebinds a network's parameters to one vector, and their gradients to another.

    After construction every trainable parameter is a view into :attr:`vector` and its ``.grad`` a
    view into :attr:`gradient`, so that an optimiser step, a copy or a norm is one operation instead
    of one per layer. Call ``gradient.zero_()`` before a backward pass, never
    ``zero_grad(set_to_none=True)``, which would cut the tie.

    Attributes:
        model: the network, which now computes with :attr:`vector`.
        vector: (P,) parameters, of the model's dtype.
        gradient: (P,) gradient of the last backward pass since it was zeroed.
        buffers: the buffers that travel (for instance running statistics and their counts).
    """

    def __init__(self, model: nn.Module, share: "FlatParameters | None" = None) -> None:
        """Take over ``model``.

        Args:
            model: a network; its parameters' storage is replaced.
            share: compute with the vector of this one (of an equal network), not an own copy.

        Raises:
            ModelError: see :func:`trainable`.
        """
        parameters = trainable(model)
        self.model = model
        self.vector: Tensor = get_vector(model) if share is None else share.vector
        self.gradient = torch.zeros_like(self.vector)
        values = _split(self.vector, parameters)
        gradients = _split(self.gradient, parameters)
        for parameter, value, gradient in zip(parameters, values, gradients, strict=True):
            parameter.data = value.view(parameter.shape)
            parameter.grad = gradient.view(parameter.shape)
        self.buffers = travelling_buffers(model)
        mine = {id(buffer) for buffer in self.buffers}
        self._scratch = [(b, b.clone()) for b in model.buffers() if id(b) not in mine]

    def __len__(self) -> int:
        """Return P, the number of trainable parameters."""
        return int(self.vector.numel())

    @property
    def state_length(self) -> int:
        """Length of the vector that travels: the parameters, then the buffers."""
        return len(self) + sum(buffer.numel() for buffer in self.buffers)

    @contextmanager
    def holding(self, vector: Tensor) -> Iterator[None]:
        """Let the network compute with ``vector`` (P,) inside the block, and put its own back after."""
        if vector is self.vector:
            yield
            return
        own = self.vector.clone()
        self.vector.copy_(vector)
        try:
            yield
        finally:
            self.vector.copy_(own)

    def load_state(self, state: Tensor) -> None:
        """Copy ``state`` (P + buffers,) into the network."""
        self.vector.copy_(state[: len(self)])
        for buffer, part in zip(
            self.buffers, _split(state[len(self) :], self.buffers), strict=True
        ):
            # A whole number that was averaged may lie a rounding error below itself.
            value = part if buffer.is_floating_point() else part.round()
            buffer.copy_(value.view(buffer.shape))
        for buffer, initial in self._scratch:
            buffer.copy_(initial)

    def save_state(self, state: Tensor) -> None:
        """Copy the network's parameters and buffers into ``state`` (P + buffers,)."""
        state[: len(self)].copy_(self.vector)
        for buffer, part in zip(
            self.buffers, _split(state[len(self) :], self.buffers), strict=True
        ):
            part.copy_(buffer.reshape(-1))


def travelling_buffers(model: nn.Module) -> list[Tensor]:
    """Return the buffers that are part of ``state_dict``, in its order.

    In the state vector whole numbers are written in the model's dtype, exactly up to 2^24 in
    float32.
    """
    persistent = model.state_dict(keep_vars=True)
    return [buffer for name, buffer in model.named_buffers() if name in persistent]


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether any layer normalises by statistics of the batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def _split(vector: Tensor, like: Iterable[Tensor]) -> list[Tensor]:
    return list(vector.split([tensor.numel() for tensor in like]))
