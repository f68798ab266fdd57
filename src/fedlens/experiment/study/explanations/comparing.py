"""Do explanations survive: the maps of one network held against those of another."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedlens.experiment.study.explanations.cases import Group
from fedlens.experiment.study.explanations.intervals import Floats, Table, interval, resampling
from fedlens.experiment.study.explanations.measures import STEPS, Material
from fedlens.experiment.study.explanations.rows import Row
from fedlens.explain import metrics
from fedlens.explain.metrics.curves import perturbation_curve
from fedlens.explain.target import target_score
from fedlens.training.prediction import predict

Maps = dict[str, list[Tensor]]


def maps_of(model: nn.Module, material: Material, rows: Sequence[Row]) -> Maps:
    """Return row -> the maps of each group of ``material`` under ``model``: the same questions."""
    return {
        row.key: [
            row.explain(
                model, group.images, group.contrast, material.references, seed=material.seed
            ).values
            for group in material.groups
        ]
        for row in rows
    }


def compared(material: Material, rows: Sequence[Row], first: Maps, second: Maps) -> dict[str, Any]:
    """Return how alike two networks' maps of the same questions are, method by method.

    Args:
        material: the questions.
        rows: the methods.
        first, second: the maps of either network, as :func:`maps_of` returns them.

    Returns:
        Row -> ``spearman`` (rank correlation of the maps) and ``top`` (the share that the strongest
        tenths of the pixels have in common: intersection over union), each with its interval.
    """
    draws = resampling(material.seed, Table.ALIKE)
    found = {}
    for row in rows:
        one = material.visible(torch.cat(first[row.key]))
        two = material.visible(torch.cat(second[row.key]))
        found[row.key] = {
            "spearman": interval(metrics.spearman(one, two).double().numpy(), draws),
            "top": interval(metrics.top_overlap(one, two).double().numpy(), draws),
        }
    return found


def shared_answers(models: Sequence[nn.Module], material: Material) -> list[Floats]:
    """Return for each group which of its questions all ``models`` answer alike: 1, else NaN.

    How much a map holds of a decision that a network does not make says little of its maps.
    """
    found = []
    for group in material.groups:
        kept = torch.ones(len(group), dtype=torch.bool)
        for model in models:
            kept &= target_score(predict(model, group.images), group.contrast) > 0
        found.append(np.where(kept.numpy(), 1.0, np.nan))
    return found


def quality(
    model: nn.Module,
    material: Material,
    rows: Sequence[Row],
    maps: Maps,
    kept: Sequence[Floats] | None = None,
) -> dict[str, Any]:
    """Return how good a network's maps are for itself: row -> ``deletion``, ``insertion``, ``road``.

    Args:
        model: the network whose maps they are.
        material: the questions.
        rows: the methods.
        maps: the network's maps.
        kept: of each group, 1 for the questions that count and NaN for the others; see
            :func:`shared_answers`. All count by default.
    """
    draws = resampling(material.seed, Table.QUALITY)
    counting = 1.0 if kept is None else np.concatenate(kept)
    found = {}
    for row in rows:
        parts = [
            _curves(model, group, some, material.generator)
            for group, some in zip(material.groups, maps[row.key], strict=True)
        ]
        found[row.key] = {
            key: interval(np.concatenate([part[key] for part in parts]) * counting, draws)
            for key in parts[0]
        }
    return found


def _curves(
    model: nn.Module, group: Group, maps: Tensor, generator: Callable[[], torch.Generator]
) -> dict[str, Floats]:
    def curve(fill: str, direction: str = "delete", order: str = "most-first") -> metrics.Curve:
        return perturbation_curve(
            model, group.images.float() / 255, maps, group.contrast,
            generator=generator(), steps=STEPS, fill=fill, direction=direction, order=order,
        )  # fmt: skip

    gap = metrics.order_gap(curve("imputed"), curve("imputed", order="least-first"))
    return {
        "deletion": curve("blurred").area().double().numpy(),
        "insertion": curve("blurred", "insert").area().double().numpy(),
        "road": gap.double().numpy(),
    }
