"""What every method returns: maps that are neither normalised nor painted, and what made them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fedlens.errors import ExplanationError
from fedlens.explain.target import Contrast, check_names


@dataclass(frozen=True, eq=False)
class Record:
    """One decision as it is laid before a reviewer: the five parts of the study's pipeline.

    The five are ``image``, ``predicted_class``, ``confidence``, ``heatmap`` and ``layer``; the two
    others say how the map may be read.

    Attributes:
        image: (C, H, W) as it was given.
        predicted_class: name of the class with the largest logit, or its number as text.
        confidence: probability of the predicted class, in [0, 1].
        heatmap: float32 (H, W), signed as the method defines, not normalised.
        layer: layer that the map was taken from, or None where the method uses none.
        explained: what the map explains, in words: a class (the predicted one unless another was
            asked for), "this against that", or "no class".
        degenerate: the map is all zero or not finite, and is not to be painted.
    """

    image: Tensor
    predicted_class: str
    confidence: float
    heatmap: Tensor
    layer: str | None
    explained: str
    degenerate: bool


@dataclass(frozen=True, eq=False)
class Explanation:
    """The maps of a batch of B images; normalisation happens only where they are drawn.

    Attributes:
        values: float32 (B, H, W) on the CPU, signed as the method defines, not normalised.
        logits: (B, L) on the CPU, in the precision of the network.
        target: int64 (B,) explained class of each image, the :class:`Contrast` of all of them, or
            None where the method looks at no class.
        degenerate: bool (B,), True where a map is all zero or not finite.
        images: (B, C, H, W) as they were given.
        meta: plain JSON values: ``method``, ``version`` (of the method: a higher number may give
            other maps), ``layer``, ``parameters`` (all of them), ``seed`` and ``baseline`` (None
            where the method has none), ``value_range`` ([low, high] of a pixel), ``references``
            (None where the method looks at none), ``signed`` (there is evidence against the target
            too, as negative values) and ``class_specific``. ``references`` has their ``count`` and
            the ``sha256`` of their type, shape and bytes as they were given, not as the network
            takes them: hex, of a text such as "uint8 (100, 1, 28, 28)" and the bytes of the
            pixels, row after row. For one network, the same images and target, equal values are
            of equal maps.
        details: name -> (B,) what the method knows of its own maps, such as how far an integrated
            gradient's sum is from the gap in score (``completeness_gap``).
    """

    values: Tensor
    logits: Tensor
    target: Tensor | Contrast | None
    degenerate: Tensor
    images: Tensor
    meta: dict[str, Any]
    details: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of images B."""
        return int(self.values.shape[0])

    def predicted(self) -> Tensor:
        """Return int64 (B,): the class with the largest logit."""
        return self.logits.argmax(1)

    def confidence(self, *, multilabel: bool = False) -> Tensor:
        """Return float32 (B,): the probability of the predicted class, in [0, 1].

        Args:
            multilabel: the outputs are independent labels: sigmoid in place of softmax.
        """
        logits = self.logits.float()
        probabilities = logits.sigmoid() if multilabel else logits.softmax(1)
        return probabilities.amax(1)

    def record(
        self, index: int, class_names: Sequence[str] | None = None, *, multilabel: bool = False
    ) -> Record:
        """Return the record of one image.

        Args:
            index: its position in the batch, from 0 to B - 1.
            class_names: L names; class numbers are used where not given.
            multilabel: as for :meth:`confidence`.

        Raises:
            ExplanationError: there is no image at ``index``, or the names are not L.
        """
        classes = self.logits.shape[1]
        if not 0 <= index < len(self):
            raise ExplanationError(
                f"There is no image {index}: the explanation is of {len(self):,} images, counted "
                "from 0."
            )
        names = [str(number) for number in range(classes)] if class_names is None else class_names
        check_names(names, classes)
        row = self.logits[index].float()
        predicted = int(row.argmax())
        probabilities = row.sigmoid() if multilabel else row.softmax(0)
        if self.target is None:
            explained = "no class"
        elif isinstance(self.target, Contrast):
            explained = f"{names[self.target.for_class]} against {names[self.target.against_class]}"
        else:
            explained = names[int(self.target[index])]
        return Record(
            image=self.images[index],
            predicted_class=names[predicted],
            confidence=float(probabilities[predicted]),
            heatmap=self.values[index],
            layer=self.meta["layer"],
            explained=explained,
            degenerate=bool(self.degenerate[index]),
        )


def degenerate_maps(values: Tensor) -> Tensor:
    """Return bool (B,): True where a map of ``values`` (B, H, W) is all zero or not finite."""
    low, high = torch.aminmax(values.flatten(1), dim=1)  # both are NaN where the map holds a NaN
    return ((low == 0) & (high == 0)) | ~torch.isfinite(low) | ~torch.isfinite(high)
