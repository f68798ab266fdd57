"""What each method says of the parts of a garment, and whether two groups of decisions differ in it."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from fedlens.experiment.study.explanations.cases import Group
from fedlens.experiment.study.explanations.intervals import (
    Floats,
    Table,
    difference,
    interval,
    resampling,
)
from fedlens.experiment.study.explanations.measures import Material
from fedlens.experiment.study.explanations.rows import Row
from fedlens.explain.regions import REGIONS, garment_regions, region_areas, region_shares

Shares = Mapping[str, Sequence[Floats]]


def regions_of(
    material: Material, rows: Sequence[Row], maps: Mapping[str, Sequence[Tensor]]
) -> dict[str, Any]:
    """Return the share of positive attribution in each part of the garment, and the part's area.

    Args:
        material: the decisions.
        rows: the methods.
        maps: row -> of each group, float32 (n, H, W).

    Returns:
        ``names`` of the parts; ``tables``, of each group the mean ``areas`` and, row -> part, the
        ``shares`` and the ``lift`` (share less the part's share of the pixels that the network sees)
        with their intervals; ``unseen``, of each group
        the share of each part's pixels that the network does not see; ``differences``, of groups
        that gave the same answer or were asked the same, the first's shares minus the second's.
    """
    groups = material.groups
    parts = [garment_regions(group.images) for group in groups]
    areas = [region_areas(some) for some in parts]
    seen_areas = [
        region_shares(material.shown(torch.ones(some.shape)), some).numpy() for some in parts
    ]
    # What a coarse map paints where the network does not see is no evidence.
    shares: Shares = {
        row.key: [
            region_shares(material.shown(some), own).numpy()
            for some, own in zip(maps[row.key], parts, strict=True)
        ]
        for row in rows
    }
    draws = resampling(material.seed, Table.REGIONS)
    tables = []
    for place, group in enumerate(groups):
        area = seen_areas[place]
        tables.append(
            {
                "group": group.name,
                "areas": areas[place].mean(0).tolist(),
                "shares": {
                    key: [interval(of[place][:, part], draws) for part in range(len(REGIONS))]
                    for key, of in shares.items()
                },
                "lift": {
                    key: [
                        interval(of[place][:, part] - area[:, part], draws)
                        for part in range(len(REGIONS))
                    ]
                    for key, of in shares.items()
                },
            }
        )
    return {
        "names": list(REGIONS),
        "tables": tables,
        "unseen": [_unseen(some, material.seen) for some in parts],
        "differences": _differences(groups, shares, material.seed),
    }


def _unseen(regions: Tensor, seen: Tensor) -> list[float]:
    """Return the share of all pixels of each part (n, H, W) that lie where the network is blind."""
    hidden = (~seen).expand_as(regions)
    return [
        float((hidden & (regions == part)).sum() / (regions == part).sum().clamp_min(1))
        for part in range(len(REGIONS))
    ]


def _differences(groups: Sequence[Group], shares: Shares, seed: int) -> list[dict[str, Any]]:
    """Hold groups against each other that answer alike, and the right answers of the two classes.

    Groups with the same answer were asked the same question, why this class and not the other one.
    """
    draws = resampling(seed, Table.PARTS)
    found = []
    for first, second in combinations(range(len(groups)), 2):
        one, two = groups[first], groups[second]
        if one.predicted != two.predicted and not (one.right and two.right):
            continue
        values = {
            key: [
                difference(of[first][:, part], of[second][:, part], draws)
                for part in range(len(REGIONS))
            ]
            for key, of in shares.items()
        }
        found.append({"first": one.name, "second": two.name, "values": values})
    return found
