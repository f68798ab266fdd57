"""How good one map is, in respects that a person can weigh: what holds, what does not, in words."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain import METHODS, Contrast
from fedlens.explain.metrics import (
    completeness_gap,
    max_sensitivity,
    perturbation_curve,
    seed_stability,
    top_overlap,
)
from fedlens.randomness import Purpose, torch_seed
from fedlens.report.wording import percent
from fedlens.review.model.findings import Badge, Rank

MapOf = Callable[[Tensor], Tensor]
"""Returns the maps (B, H, W) of images (B, C, H, W), uint8 or float in [0, 1]."""

RADIUS = 0.02
"""Largest change of a pixel, of a range of 1, that should not matter: 5 of 255 steps."""

ORDERS = 8
"""Random orders of pixels that a map's own order is held against."""

CLEARLY = 2.0
"""Standard deviations of the random orders that a map must be better than their mean to be good."""

STEPS = 10
"""Steps in which the pixels are removed."""

SEEDS = 3
"""Seeds at most, the map's own among them, over which a map is held to be steady."""

TOP_SHARE = 0.1
"""Share of the pixels by which two maps are compared: the strongest, which is what a person sees."""

AGREE, PARTLY = 0.5, 0.2
"""Overlap of two maps' top pixels from which they are said to agree, and to agree in part."""

_PLAIN_BASELINES = ("black", "blurred")
# Of methods that try an image many times: a page is waiting, and so is everybody else.
_DRAWS = {
    "integrated-gradients": 2,
    "smoothgrad": 2,
    "expected-gradients": 1,
    "exact-shapley": 1,
    "kernel-shap": 1,
    "lime": 1,
    "occlusion": 1,
}
_DRAWS_OF_GRADIENTS = 4
_STREAM = 3  # a round of Purpose.EXPLAIN, which knows no rounds: a stream of its own


@dataclass(frozen=True, eq=False)
class Trial:
    """One map, and what is needed to try it.

    Attributes:
        model: the network.
        image: uint8 (1, C, H, W).
        values: float32 (H, W), its map.
        target: int64 (1,), a contrast, or None where the method looks at no class.
        method: name of the method.
        meta: of the explanation.
        degenerate: the map is all zero or not finite.
        blind_area: bool (H, W), or None where the network sees everything.
        seed: root seed of what is drawn.
        explain: the same method and target, of other images.
        other: another method's name, and its map of the same image and target; None where there is
            none.
        reseeded: the maps (1, H, W) that other seeds of the method's random draws give; None where
            it draws nothing.
    """

    model: nn.Module
    image: Tensor
    values: Tensor
    target: Tensor | Contrast | None
    method: str
    meta: Mapping[str, Any]
    degenerate: bool
    blind_area: Tensor | None
    seed: int
    explain: MapOf
    other: tuple[str, MapOf] | None
    reseeded: Callable[[int], Tensor] | None = None

    def generator(self) -> torch.Generator:
        """Return a fresh generator; it draws the same for every image."""
        return torch.Generator().manual_seed(torch_seed(self.seed, Purpose.EXPLAIN, round=_STREAM))


def badges_of(trial: Trial) -> tuple[Badge, ...]:
    """Return what was found of one map, each respect that applies to it, in a fixed order."""
    if trial.degenerate:
        return (_degenerate(),)
    found = [
        _stability(trial),
        _seeds(trial),
        _faithfulness(trial),
        _completeness(trial),
        _agreement(trial),
        _blind_area(trial),
    ]
    return tuple(badge for badge in found if badge is not None)


def overall(badges: Sequence[Badge]) -> Rank:
    """Return the worst rank of ``badges``: a map is no better than its weakest respect.

    What is unknown does not count; unknown where nothing is known.
    """
    ranks = [badge.rank for badge in badges]
    for rank in (Rank.DEGENERATE, Rank.POOR, Rank.FAIR, Rank.GOOD):
        if rank in ranks:
            return rank
    return Rank.UNKNOWN


def _degenerate() -> Badge:
    return Badge(
        "degenerate",
        "No map",
        Rank.DEGENERATE,
        "The method found no evidence at all, or no number: there is nothing to look at.",
        None,
        "Such a map is not painted. It says nothing for or against the prediction.",
    )


def _stability(trial: Trial) -> Badge:
    draws = _DRAWS.get(trial.method, _DRAWS_OF_GRADIENTS)
    first = trial.values[None]

    def maps(images: Tensor) -> Tensor:
        # The first call is for the image as it is, whose map is known.
        nonlocal first
        known, first = first, torch.empty(0)
        return known if len(known) else trial.explain(images)

    found = max_sensitivity(
        trial.model, trial.image, maps, generator=trial.generator(), radius=RADIUS, draws=draws
    )
    value, flipped = float(found.values[0]), int(found.flipped[0])
    if flipped == draws:
        rank = Rank.POOR
        words = "Noise too faint to see changes the prediction itself, and with it the map."
    elif not math.isfinite(value):
        rank, words = Rank.UNKNOWN, "The map of a slightly changed image could not be compared."
    else:
        rank = _rank(value, good=0.1, fair=0.5, lower=True)
        words = {
            Rank.GOOD: "Noise too faint to see hardly changes the map ({}).",
            Rank.FAIR: "Noise too faint to see changes the map somewhat ({}).",
            Rank.POOR: "Noise too faint to see changes the map a great deal ({}).",
        }[rank].format(f"by {percent(value, 0)} of its strength at most")
        if flipped:
            rank = Rank.POOR
            words = f"{words[:-1]}, and in {flipped} of {draws} tries the prediction itself."
    return Badge(
        "stability",
        "Steady",
        rank,
        words,
        value if math.isfinite(value) else None,
        f"Largest change of the map, as a share of its norm, over {draws} draws of noise of at most "
        f"{RADIUS:g} of a pixel's range; from 0, lower is better.",
    )


def _seeds(trial: Trial) -> Badge | None:
    """The maps of a method with random draws are one of many; of one without there is only one."""
    reseeded = trial.reseeded
    if reseeded is None:
        return None

    def maps(seed: int) -> Tensor:
        return trial.values[None] if seed == trial.seed else reseeded(seed)

    seeds = min(SEEDS, 1 + _DRAWS.get(trial.method, _DRAWS_OF_GRADIENTS))
    found = seed_stability(maps, range(trial.seed, trial.seed + seeds))
    value = float(found.deviation[0])
    rank = _rank(value, good=0.1, fair=0.3, lower=True)
    by = f"by {percent(value, 0)} of its strength on average" if math.isfinite(value) else ""
    words = {
        Rank.GOOD: f"Other random draws hardly change the map ({by}).",
        Rank.FAIR: f"Other random draws change the map somewhat ({by}).",
        Rank.POOR: f"Other random draws change the map a great deal ({by}): it is one of many.",
        Rank.UNKNOWN: "The maps of other random draws could not be compared.",
    }[rank]
    return Badge(
        "seeds",
        "Steady over seeds",
        rank,
        words,
        value if math.isfinite(value) else None,
        f"Standard deviation of a pixel over {seeds} seeds of the method's random draws, mean over the "
        "pixels, as a share of the maps' root mean square; from 0 to 1, lower is better.",
    )


def _faithfulness(trial: Trial) -> Badge:
    height, width = trial.values.shape
    draws = torch.rand((ORDERS, height, width), generator=trial.generator())
    maps = torch.cat([trial.values[None], draws])
    images = trial.image.expand(1 + ORDERS, -1, -1, -1)
    target = trial.target
    if isinstance(target, Tensor):
        target = target.expand(1 + ORDERS)
    # At least two pixels a step in images smaller than the steps are many.
    steps = min(STEPS, max(1, height * width // 2))
    areas = perturbation_curve(
        trial.model, images, maps, target, generator=trial.generator(), fill="blurred", steps=steps
    ).area()
    gap = float(areas[1:].mean() - areas[0])
    beaten = int((areas[0] < areas[1:]).sum())
    # To beat them all alone would befall one map of chance in nine.
    clear = gap >= CLEARLY * float(areas[1:].std())
    if not math.isfinite(gap):
        rank = Rank.UNKNOWN
    elif beaten == ORDERS and clear:
        rank = Rank.GOOD
    else:
        rank = Rank.FAIR if gap > 0 else Rank.POOR
    words = {
        Rank.GOOD: f"Blurring what the map marks lowers the model's confidence clearly faster than "
        f"blurring at random ({beaten} of {ORDERS} tries).",
        Rank.FAIR: f"Blurring what the map marks lowers the model's confidence little faster than "
        f"blurring at random ({beaten} of {ORDERS} tries).",
        Rank.POOR: "Blurring what the map marks lowers the model's confidence no faster than blurring "
        f"at random ({beaten} of {ORDERS} tries).",
        Rank.UNKNOWN: "What the model says of changed images is not a number.",
    }[rank]
    return Badge(
        "faithfulness",
        "Matters to the model",
        rank,
        words,
        gap if math.isfinite(gap) else None,
        f"Mean probability while pixels are blurred in {ORDERS} random orders, minus that in the "
        "map's order; from -1 to 1, higher is better.",
    )


def _completeness(trial: Trial) -> Badge | None:
    baseline = trial.meta.get("baseline")
    if not METHODS[trial.method].complete or baseline not in _PLAIN_BASELINES:
        return None
    found = completeness_gap(
        trial.model, trial.image, trial.values[None], trial.target, fill=str(baseline)
    )
    value = float(found.relative[0])
    rank = _rank(value, good=0.01, fair=0.1, lower=True)
    words = {
        Rank.GOOD: "The map adds up to the model's score: nothing is left unexplained.",
        Rank.FAIR: f"The map misses the model's score by {percent(value, 1)}.",
        Rank.POOR: f"The map misses the model's score by {percent(value, 0)}: do not read amounts.",
        Rank.UNKNOWN: "What the map adds up to is not a number.",
    }[rank]
    return Badge(
        "completeness",
        "Adds up",
        rank,
        words,
        value if math.isfinite(value) else None,
        f"How far the sum of the map is from the rise of the score over a {baseline} image, as a "
        "share of that rise; from 0, lower is better.",
    )


def _agreement(trial: Trial) -> Badge | None:
    if trial.other is None:
        return None
    name, maps = trial.other
    try:
        value = agreement(trial.values, maps(trial.image)[0], trial.blind_area)
    except ExplanationError:  # it cannot answer this question, which is no fault of this map
        value = math.nan
    rank = _rank(value, good=AGREE, fair=PARTLY, lower=False)
    words = {
        Rank.GOOD: f"{name} marks mostly the same places.",
        Rank.FAIR: f"{name} marks partly other places.",
        Rank.POOR: f"{name} marks other places: trust neither map alone.",
        Rank.UNKNOWN: f"{name} has no map that could be compared.",
    }[rank]
    chance = TOP_SHARE / (2 - TOP_SHARE)
    return Badge(
        "agreement",
        f"Agrees with {name}",
        rank,
        words,
        value if math.isfinite(value) else None,
        f"Of the pixels that either this map or that of {name} counts among its top "
        f"{percent(TOP_SHARE, 0)} of those that the network sees, the share that is in both; from 0 "
        f"to 1, {chance:.2f} for maps that have nothing to do with each other, higher is better.",
    )


def agreement(first: Tensor, second: Tensor, blind_area: Tensor | None = None) -> float:
    """Return how far two maps of one image mark the same places, in [0, 1].

    It is the intersection of their top pixels over the union; see
    :func:`~fedlens.explain.metrics.top_overlap`. Evidence against the target is no top.

    Args:
        first, second: float (H, W).
        blind_area: bool (H, W), pixels that do not count: all maps of a gradient are 0 there.

    Returns:
        1 for the same top pixels; NaN where a map is flat or not finite.
    """
    seen = torch.ones_like(first, dtype=torch.bool) if blind_area is None else ~blind_area
    rows = [values[seen][None, None] for values in (first, second)]
    return float(top_overlap(rows[0], rows[1], TOP_SHARE)[0])


def _blind_area(trial: Trial) -> Badge | None:
    if trial.blind_area is None or not bool(trial.blind_area.any()):
        return None
    strength = trial.values.abs().double()
    value = float(strength[trial.blind_area].sum() / strength.sum())
    rank = _rank(value, good=0.01, fair=0.1, lower=True)
    words = {
        Rank.GOOD: "Nothing is marked where the network cannot see.",
        Rank.FAIR: f"{percent(value, 0)} of the map lies where the network cannot see: pass over it.",
        Rank.POOR: f"{percent(value, 0)} of the map lies where the network cannot see: nothing there "
        "counted.",
        Rank.UNKNOWN: "How much of the map lies where the network cannot see is not a number.",
    }[rank]
    return Badge(
        "blind-area",
        "Within sight",
        rank,
        words,
        value if math.isfinite(value) else None,
        "Share of the map's strength on pixels that no answer depends on; in [0, 1], lower is better.",
    )


def _rank(value: float, *, good: float, fair: float, lower: bool) -> Rank:
    """Return the rank of ``value`` between two bounds, which belong to the better side."""
    if not math.isfinite(value):
        return Rank.UNKNOWN
    sign = 1 if lower else -1
    if sign * value <= sign * good:
        return Rank.GOOD
    return Rank.FAIR if sign * value <= sign * fair else Rank.POOR
