"""Where each trainable parameter lies in the flat vector."""

import torch
from torch import Tensor, nn

from fedlens.errors import ModelError


class FlatLayout:
    """The trainable parameters in ``named_parameters`` order, each row-major, concatenated.

    Attributes:
        names: of the parameters.
        parameters: themselves.
        places: the slice of the vector that each one fills.
        length: P, of the vector.
        numbers: id of a parameter -> its place in these lists.
        dtype: of all of them.
        device: of all of them.
    """

    def __init__(self, model: nn.Module) -> None:
        """Look up the parameters of ``model`` that are trainable at this moment.

        Raises:
            ModelError: there are none, or they are not all of one dtype on one device.
        """
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        if not named:
            raise ModelError("The network has no trainable parameters.")
        kinds = {(p.dtype, p.device) for _, p in named}
        if len(kinds) > 1:
            raise ModelError(
                f"The network's parameters are of {len(kinds)} kinds (dtype and device), expected "
                "one: " + ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds)) + "."
            )
        self.dtype: torch.dtype
        self.device: torch.device
        ((self.dtype, self.device),) = kinds
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        self.numbers = {id(p): number for number, p in enumerate(self.parameters)}
        self.places: list[slice] = []
        self.length = 0
        for parameter in self.parameters:
            self.places.append(slice(self.length, self.length + parameter.numel()))
            self.length += parameter.numel()

    def zeros(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return a vector (P,) of zeros, of the parameters' dtype where none is given."""
        return torch.zeros(self.length, dtype=dtype or self.dtype, device=self.device)

    def views(self, vector: Tensor) -> list[Tensor]:
        """Return the parts of ``vector`` (P,) in the shapes of the parameters, sharing its memory."""
        return [
            vector[place].view(parameter.shape)
            for place, parameter in zip(self.places, self.parameters, strict=True)
        ]

    def check(self, vector: Tensor) -> None:
        """Raise ModelError unless ``vector`` is (P,), float64 or of their dtype, on their device."""
        fits = tuple(vector.shape) == (self.length,) and vector.device == self.device
        if not fits or vector.dtype not in (self.dtype, torch.float64):
            raise ModelError(
                f"The clipped gradients are to be added to a vector of shape {tuple(vector.shape)}, "
                f"{vector.dtype} on {vector.device}, but the network's is of shape "
                f"({self.length},), {self.dtype} on {self.device}."
            )
