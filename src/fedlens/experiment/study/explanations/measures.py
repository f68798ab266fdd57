"""What each map is measured by, and how it is measured in the study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedlens.experiment.study.explanations.cases import Group
from fedlens.experiment.study.explanations.intervals import Floats
from fedlens.experiment.study.explanations.rows import Row
from fedlens.explain import metrics
from fedlens.explain.explanation import degenerate_maps
from fedlens.explain.methods.gradient import COMPLETE
from fedlens.explain.metrics.curves import order_gap, perturbation_curve
from fedlens.randomness import Purpose, torch_seed

STEPS = 28
NOISE_SETS = 100  # random sets of pixels, or squares, a faithfulness measure draws
FEW = 4  # images of a group for measures that need many explanations
DRAWS = 4  # changes of an image that max-sensitivity tries
SEEDS = (0, 1, 2, 3)
SLOPES = ("gradient", "smoothgrad", "grad-cam", "grad-cam++", "hires-cam", "layer-cam")
"""Maps of the score's slope, or weighted by it: not yet of what a pixel is worth against another."""


@dataclass(frozen=True)
class Measure:
    """One column of the table.

    Attributes:
        key, title, unit: what it is called.
        higher_is_better: None where neither is.
        ranked: counts towards the rank of a method.
        about: one sentence.
    """

    key: str
    title: str
    unit: str
    higher_is_better: bool | None
    ranked: bool
    about: str


MEASURES = (
    Measure(
        "deletion", "Deletion, blurred", "mean probability", False, True,
        "Area under the probability of the answer (of the two classes) as pixels are blurred, those "
        "that the map holds strongest first; lower is better.",
    ),
    Measure(
        "insertion", "Insertion, from blurred", "mean probability", True, True,
        "The same as pixels of the image come back into its blurred copy; higher is better.",
    ),
    Measure(
        "road", "ROAD gap", "probability", True, True,
        "How much further the probability falls when the strongest pixels are replaced from their "
        "neighbours (noisy linear imputation) than when the weakest are; higher is better, 0 is no "
        "better than chance.",
    ),
    Measure(
        "deletion-black", "Deletion, black", "mean probability", False, False,
        "Deletion to black, which on these images is also the background.",
    ),
    Measure(
        "deletion-mean", "Deletion, mean", "mean probability", False, False,
        "Deletion to the image's mean grey.",
    ),
    Measure(
        "faithfulness", "Faithfulness correlation", "correlation", True, True,
        "Correlation, over random sets of a tenth of the pixels, between what the map says they are "
        "worth and what the score loses when they are black (a slope, or a map weighted by one, is "
        "worth itself times the pixel); higher is better.",
    ),
    Measure(
        "infidelity", "Infidelity, scaled", "share", False, True,
        "The share of the change in score under black squares that the best scaled map leaves "
        "unexplained; lower is better. The best factor may be negative.",
    ),
    Measure(
        "complete", "Complete", "share", True, False,
        "Maps whose sum is the gap in score between the image and the method's own baseline, to a "
        "thousandth of the gap or 0.0001; methods that promise no such sum have no figure.",
    ),
    Measure(
        "sensitivity", "Max-sensitivity", "relative change", False, True,
        "The largest change of the map when each pixel moves by at most 0.02; lower is better.",
    ),
    Measure(
        "randomisation", "Randomisation", "rank correlation", False, True,
        "How alike the map stays when the network's weights are drawn anew from the output "
        "downwards; lower is better.",
    ),
    Measure(
        "randomised-entropy", "Randomisation, efficient", "relative entropy", True, False,
        "How much more complex the map becomes when all weights are drawn anew; higher is better.",
    ),
    Measure(
        "seeds", "Agreement over seeds", "rank correlation", True, False,
        "How alike the maps of different seeds are; a method that draws nothing has none.",
    ),
    Measure(
        "sparseness", "Sparseness", "Gini index", None, False,
        "0 where all pixels are worth the same, 1 where one pixel is all; neither is better.",
    ),
    Measure(
        "degenerate", "Degenerate", "share", False, False,
        "Maps that are all zero or not finite.",
    ),
)  # fmt: skip
"""The columns, in order."""


@dataclass(frozen=True, eq=False)
class Material:
    """What is explained and measured.

    Attributes:
        model: the network.
        groups: the decisions.
        references: uint8 (R, C, H, W).
        seen: bool (H, W), pixels that the network can see; the others are left out where maps are
            compared pixel by pixel.
        seed: root seed of all draws.
    """

    model: nn.Module
    groups: Sequence[Group]
    references: Tensor
    seen: Tensor
    seed: int

    def few(self) -> "Material":
        """Return the same with a few images in each group."""
        groups = [group.head(FEW) for group in self.groups]
        return Material(self.model, groups, self.references, self.seen, self.seed)

    def shown(self, maps: Tensor) -> Tensor:
        """Return the maps (B, H, W) with zero where the network does not see."""
        return torch.where(self.seen, maps, 0)

    def visible(self, maps: Tensor) -> Tensor:
        """Return the maps (B, H, W) cut to the box that the network sees."""
        rows = self.seen.any(1).nonzero().flatten()
        columns = self.seen.any(0).nonzero().flatten()
        return maps[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    def generator(self) -> torch.Generator:
        """Return the generator of the measures' own draws: the same for every row."""
        return torch.Generator().manual_seed(torch_seed(self.seed, Purpose.MEASURES))


def measured(material: Material, row: Row, maps: Sequence[Tensor]) -> dict[str, Floats]:
    """Return measure -> float64 (B,): the figure of each image of all groups in order, or NaN.

    Args:
        material: what was explained.
        row: the method.
        maps: of each group, float32 (n, H, W).
    """
    parts = [
        _of_maps(material, group, some, multiplied=row.method not in SLOPES)
        | _completeness(material, row, group, some)
        for group, some in zip(material.groups, maps, strict=True)
    ]
    figures = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    few = material.few()
    for key, values in _of_explanations(few, row).items():
        figures[key] = _padded(values, few.groups, material.groups)
    return figures


def _of_maps(
    material: Material, group: Group, maps: Tensor, *, multiplied: bool
) -> dict[str, Floats]:
    """Return the measures that need only the maps of one group."""
    model, images = material.model, group.images.float() / 255
    target = group.contrast

    def curve(fill: str, direction: str = "delete", order: str = "most-first") -> metrics.Curve:
        return perturbation_curve(
            model, images, maps, target,
            generator=material.generator(), steps=STEPS, fill=fill, direction=direction, order=order,
        )  # fmt: skip

    first = curve("imputed")
    last = curve("imputed", order="least-first")
    # What a pixel is worth against black: of a slope, times how far the pixel is from black.
    worth = maps if multiplied else maps * images.mean(1)
    correlation = metrics.faithfulness_correlation(
        model, images, worth, target, generator=material.generator(), samples=NOISE_SETS
    )
    unfaithful = metrics.infidelity(
        model, images, maps, target,
        multiplied=multiplied, generator=material.generator(), samples=NOISE_SETS,
    )  # fmt: skip
    found = {
        "deletion": curve("blurred").area(),
        "insertion": curve("blurred", "insert").area(),
        "road": order_gap(first, last),
        "deletion-black": curve("black").area(),
        "deletion-mean": curve("mean").area(),
        "faithfulness": correlation,
        "infidelity": unfaithful.unexplained,
        "sparseness": metrics.sparseness(material.visible(maps)),
        "degenerate": degenerate_maps(maps).double(),
    }
    return {key: values.double().numpy() for key, values in found.items()}


def _completeness(material: Material, row: Row, group: Group, maps: Tensor) -> dict[str, Floats]:
    """Return which maps are complete, of a method that promises it for a baseline of its own."""
    if row.complete_from is None:
        return {}
    gap = metrics.completeness_gap(
        material.model, group.images.float() / 255, maps, group.contrast, fill=row.complete_from
    )
    rise = maps.double().sum((1, 2)) - gap.absolute
    bar = (COMPLETE[0] * rise.abs()).clamp_min(COMPLETE[1])
    kept = (gap.absolute.abs() <= bar).double()
    return {"complete": torch.where(gap.absolute.isnan(), torch.nan, kept).numpy()}


def _of_explanations(material: Material, row: Row) -> dict[str, list[Floats]]:
    """Return the measures that explain again, for each group: other images, weights or seeds."""
    found: dict[str, list[Floats]] = {}
    for group in material.groups:
        again = _Again(material, row, group)
        images = group.images.float() / 255
        change = metrics.max_sensitivity(
            material.model, images, again.images, generator=material.generator(), draws=DRAWS
        )
        plain = metrics.parameter_randomisation(
            material.model, again.weights, generator=material.generator()
        )
        efficient = metrics.efficient_randomisation(
            material.model, again.weights, generator=material.generator()
        )
        found.setdefault("sensitivity", []).append(change.values.double().numpy())
        found.setdefault("randomisation", []).append(plain.mean().double().numpy())
        found.setdefault("randomised-entropy", []).append(efficient.double().numpy())
        if row.stochastic:
            over = metrics.seed_stability(again.seed, SEEDS)
            found.setdefault("seeds", []).append(over.spearman.double().numpy())
    return found


class _Again:
    """Explains the images of a group again, with one thing changed."""

    def __init__(self, material: Material, row: Row, group: Group) -> None:
        self._material, self._row, self._group = material, row, group
        self._asked = 0

    def images(self, images: Tensor) -> Tensor:
        """Return the maps of other images, float (n, C, H, W)."""
        return self._material.shown(self._values(self._material.model, images, 0))

    def weights(self, model: nn.Module) -> Tensor:
        """Return the maps under other weights; a control that draws noise draws it anew."""
        self._asked += 1
        seed = self._asked if self._row.control else 0
        return self._maps(model, self._group.images.float() / 255, seed)

    def seed(self, seed: int) -> Tensor:
        """Return the maps of another seed."""
        return self._maps(self._material.model, self._group.images.float() / 255, seed)

    def _maps(self, model: nn.Module, images: Tensor, seed: int) -> Tensor:
        return self._material.visible(self._values(model, images, seed))

    def _values(self, model: nn.Module, images: Tensor, seed: int) -> Tensor:
        references = self._material.references.float() / 255
        explanation = self._row.explain(
            model, images.clamp(0, 1), self._group.contrast, references, seed=seed
        )
        return explanation.values


def _padded(values: Sequence[Floats], few: Sequence[Group], groups: Sequence[Group]) -> Floats:
    """Return the figures of a few images of each group in the places that they have among all."""
    whole = []
    for part, some, group in zip(values, few, groups, strict=True):
        whole.append(np.concatenate([part, np.full(len(group) - len(some), np.nan)]))
    return np.concatenate(whole)


def ranked(figures: Mapping[str, Floats]) -> list[Measure]:
    """Return the measures that count towards a rank and have figures."""
    return [measure for measure in MEASURES if measure.ranked and measure.key in figures]
