"""One network's explanations of one confusion: every method by every measure, and by region."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedlens.experiment.study.explanations.cases import Group
from fedlens.experiment.study.explanations.garments import regions_of
from fedlens.experiment.study.explanations.intervals import Floats, Table, interval, resampling
from fedlens.experiment.study.explanations.measures import MEASURES, Material, measured, ranked
from fedlens.experiment.study.explanations.rows import Row
from fedlens.explain import metrics

Watch = Callable[[float, str], None]
Arrays = dict[str, np.ndarray[Any, Any]]

SHOWN = 3  # images of each group in the gallery


def judge(
    material: Material, rows: Sequence[Row], watch: Watch, *, regions: bool
) -> tuple[dict[str, Any], Arrays]:
    """Return the table of one network and the pictures that belong to it.

    Args:
        material: the network and its decisions.
        rows: the methods.
        watch: called with the share that is done, and what is being done.
        regions: the images are garments: sum the maps by part too.

    Returns:
        Plain JSON values, and arrays: ``images/G`` uint8 and ``maps/G/ROW`` float16 of the first
        images of each group G, ``mean-image/G`` uint8 and ``mean-map/G/ROW`` float32 over all of its
        images.
    """
    maps: dict[str, list[Tensor]] = {}
    seconds: dict[str, float] = {}
    figures: dict[str, dict[str, Floats]] = {}
    images = sum(len(group) for group in material.groups)
    for place, row in enumerate(rows):
        watch(place / len(rows), f"{row.key}")
        begin = time.perf_counter()
        maps[row.key] = _maps(material, row)
        seconds[row.key] = (time.perf_counter() - begin) / images
        figures[row.key] = measured(material, row, maps[row.key])
    draws = resampling(material.seed, Table.MAIN)
    content = {
        "groups": [_group(group) for group in material.groups],
        "measures": [vars(measure) for measure in MEASURES],
        "rows": [_row(row, seconds[row.key], figures[row.key], draws) for row in rows],
        "ranking": _ranking(rows, figures, material.seed),
        "agreement": _agreement(material, rows, maps),
        "seen": _seen(material),
        "regions": regions_of(material, rows, maps) if regions else None,
    }
    return content, _arrays(material.groups, maps)


def _seen(material: Material) -> dict[str, Any]:
    """Return the box that the network sees, and how much of the images lies outside of it."""
    seen = material.seen
    rows, columns = (seen.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    lights = [group.images.double().sum(1) for group in material.groups]
    unseen = [
        float(((light * ~seen).sum((1, 2)) / light.sum((1, 2)).clamp_min(1)).mean())
        for light in lights
    ]
    return {
        "box": [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1],
        "height": seen.shape[0],
        "width": seen.shape[1],
        "blind": float((~seen).double().mean()),
        "light": unseen,
    }


def _maps(material: Material, row: Row) -> list[Tensor]:
    return [
        row.explain(
            material.model, group.images, group.contrast, material.references, seed=material.seed
        ).values
        for group in material.groups
    ]


def _group(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "true": group.true,
        "predicted": group.predicted,
        "right": group.right,
        "images": len(group),
        "found": group.found,
        "indices": group.indices.tolist(),
    }


def _row(
    row: Row, seconds: float, figures: dict[str, Floats], draws: np.random.Generator
) -> dict[str, Any]:
    return {
        "key": row.key,
        "method": row.method,
        "parameters": row.parameters,
        "control": row.control,
        "class_specific": row.class_specific,
        "names_parts": row.names_parts,
        "seconds_per_image": seconds,
        "figures": {key: interval(values, draws) for key, values in figures.items()},
    }


def _ranking(
    rows: Sequence[Row], figures: dict[str, dict[str, Floats]], seed: int
) -> dict[str, Any]:
    measures = ranked(figures[rows[0].key])
    ranking = metrics.rank_methods(
        {m.key: np.stack([figures[row.key][m.key] for row in rows]) for m in measures},
        {m.key: bool(m.higher_is_better) for m in measures},
        generator=resampling(seed, Table.RANKS),
    )
    return {
        "measures": list(ranking.metrics),
        "ranks": ranking.ranks.tolist(),
        "mean_rank": ranking.mean_rank.tolist(),
        "low": ranking.low.tolist(),
        "high": ranking.high.tolist(),
        "kept": ranking.kept.tolist(),
        "concordance": ranking.concordance,
        "missing": ranking.missing.tolist(),
    }


def _agreement(
    material: Material, rows: Sequence[Row], maps: dict[str, list[Tensor]]
) -> dict[str, Any]:
    """Return the mean rank correlation between the maps of each two methods."""
    all_maps = [material.visible(torch.cat(maps[row.key])) for row in rows]
    matrix = metrics.pairwise(all_maps, metrics.spearman).numpy()
    known = np.isfinite(matrix)
    total = np.where(known, matrix, 0).sum(0)
    mean = np.divide(total, known.sum(0), out=np.full(total.shape, np.nan), where=known.any(0))
    return {"rows": [row.key for row in rows], "matrix": mean.tolist()}


def _arrays(groups: Sequence[Group], maps: dict[str, list[Tensor]]) -> Arrays:
    arrays: Arrays = {}
    for place, group in enumerate(groups):
        arrays[f"images/{group.name}"] = group.images[:SHOWN].numpy()
        arrays[f"mean-image/{group.name}"] = (
            group.images.float().mean((0, 1)).round().byte().numpy()
        )
        for key, all_maps in maps.items():
            some = all_maps[place]
            arrays[f"maps/{group.name}/{key}"] = some[:SHOWN].numpy()
            scaled = some / some.abs().amax((1, 2), keepdim=True).clamp_min(1e-30)
            arrays[f"mean-map/{group.name}/{key}"] = scaled.mean(0).numpy()
    return arrays
