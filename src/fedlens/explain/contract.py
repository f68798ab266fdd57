"""What a method of attribution is given, owes and says of itself."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fedlens.explain.target import Contrast
from fedlens.randomness import Purpose, torch_seed

OF_REFERENCES = ("mean",)
"""The baselines that are taken over the references where there are any."""


@dataclass(frozen=True, eq=False)
class Context:
    """What a method is bound to.

    Attributes:
        model: the network, in evaluation mode; it maps images (B, C, H, W) to logits (B, L).
        layer: the layer that was asked for, or None for the method's own choice.
        seed: root seed of the random draws of methods that make any.
        references: other images (R, C, H, W), as the network takes them, or None: what baselines
            and expectations are taken over.
        low, high: smallest and largest value of a pixel; ``low`` is black.
        rows: images that go through the network at a time when a method tries many of them.
    """

    model: nn.Module
    layer: str | None = None
    seed: int = 0
    references: Tensor | None = None
    low: float = 0.0
    high: float = 1.0
    rows: int = 64

    def generator(self, stream: int = 0) -> torch.Generator:
        """Return a fresh CPU generator; equal seeds and streams draw equal numbers."""
        return torch.Generator().manual_seed(torch_seed(self.seed, Purpose.EXPLAIN, client=stream))


@dataclass(frozen=True, eq=False)
class Attribution:
    """The maps of one batch.

    Attributes:
        maps: float32 (B, H, W), signed as the method defines.
        logits: (B, L) of the images as they were given.
        details: name -> (B,) figures that the method knows of each map, for instance LIME's
            ``weighted_r2``.
    """

    maps: Tensor
    logits: Tensor
    details: dict[str, Tensor] = field(default_factory=dict)


class Attributor(ABC):
    """A method bound to a network: what a new method supplies.

    It is made as ``Method(context, **parameters)`` and called while the network is in evaluation
    mode and gradients are off. It changes neither the network nor anything global, leaves no hook
    behind, and draws random numbers from ``context.generator()`` only, the same ones for each
    image, so that an image has the same map whatever it shares its batch with.

    Attributes:
        version: goes up whenever the maps may change.
        signed: a map has evidence against the target too, as negative values.
        complete: a map sums to the target's score minus its score on the baseline.
        stochastic: the map depends on the seed.
        class_specific: the map is about a class or a contrast; else it is about the image and the
            network alone, and a target is refused.
        uses_layer: ``context.layer`` chooses the layer that it explains.
        needs_references: it cannot do without ``context.references``.
        needs_attention: it explains only networks with attention.
        layer: name of the layer that it explains, or None where it uses none.
        parameters: all settings that the maps depend on, plain JSON values.
        baseline: what stands for "nothing", or None where it needs none.
        uses_references: its maps depend on ``context.references`` where there are any, which the
            record then names. One whose ``baseline`` is of :data:`OF_REFERENCES`, or that needs
            them, does; another method that looks at them says so by ``uses_references = True``.
    """

    version: ClassVar[int] = 1
    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False
    class_specific: ClassVar[bool] = True
    uses_layer: ClassVar[bool] = False
    needs_references: ClassVar[bool] = False
    needs_attention: ClassVar[bool] = False

    def __init__(self, context: Context) -> None:
        """Bind the method; a subclass takes its parameters by keyword.

        Raises:
            ExplanationError: the network has not what the method needs, or a parameter is out of
                its range.
        """
        self.context = context
        self.layer: str | None = None
        self.baseline: str | None = None
        self.parameters: dict[str, Any] = {}

    @property
    def uses_references(self) -> bool:
        """See the class."""
        return self.needs_references or self.baseline in OF_REFERENCES

    @abstractmethod
    def attribute(self, images: Tensor, target: Tensor | Contrast | None) -> Attribution:
        """Return the maps of one batch.

        Args:
            images: float (B, C, H, W), B >= 1, on the device and in the precision of the network.
            target: int64 (B,) class numbers, a contrast, or None for the predicted class.

        Raises:
            ExplanationError: the method cannot explain this network or target.
        """
