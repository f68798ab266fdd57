"""Whether the numbers of a map say how the score would change."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.metrics.checks import (
    check_count,
    check_maps,
    check_share,
    nan_where_not_finite,
)
from fedlens.explain.metrics.fills import fill_images
from fedlens.explain.metrics.scoring import (
    ROWS,
    grid_scores,
    image_scores,
    known_target,
    network_images,
    undisturbed,
)
from fedlens.explain.target import Target

LARGEST_SQUARE = 10 / 28
"""Side of the largest square of :func:`infidelity` over the shorter side of the image: Yeh et al."""

FLOOR = 0.01
"""Smallest gap in score that :func:`completeness_gap` divides by, in the unit of the score."""


@dataclass(frozen=True, eq=False)
class Infidelity:
    """Mean squares between what a map foretells and how the score drops; lower is better.

    Attributes:
        plain: float64 (B,), for the map as it is, at least 0, in squares of the score's unit. It
            judges only methods whose values are in that unit.
        scaled: float64 (B,), for the map times ``factor``; from 0 to the mean square of the drops.
        factor: float64 (B,), what the map must be multiplied by to foretell best; 0 where the map is
            zero in every square.
        unexplained: float64 (B,), ``scaled`` over the mean square of the drops, in [0, 1]: without
            a unit, so that images and networks compare. NaN where the score never changes.
    """

    plain: Tensor
    scaled: Tensor
    factor: Tensor
    unexplained: Tensor


@dataclass(frozen=True, eq=False)
class Completeness:
    """How far the sum of a map is from the gap in score; nearer to 0 is better.

    Attributes:
        absolute: float64 (B,), the map's sum minus (score(x) - score(baseline)), signed, in the unit
            of the score.
        relative: float64 (B,), |absolute| over |score(x) - score(baseline)|, or over the floor where
            that is larger; at least 0.
    """

    absolute: Tensor
    relative: Tensor


def faithfulness_correlation(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    target: Target = None,
    *,
    generator: torch.Generator,
    fill: str | Tensor = "black",
    share: float = 0.1,
    samples: int = 200,
    score: str = "logit",
    rows: int = ROWS,
) -> Tensor:
    """Return the correlation of summed values and drops in score over random sets of pixels, (B,).

    Bhatt et al. 2020: Pearson's correlation, over ``samples`` random sets of pixels, between the sum
    of the map over the set and score(x) - score(x with the set filled). float64 in [-1, 1]; higher
    is better; 1 for w_i (x_i - b_i) of a linear network, 0 on average for a map at random. NaN where
    the sums or the drops are all equal. Each image gets the same sets.

    Args:
        model, images, maps, target, rows: see :func:`fedlens.explain.metrics.perturbation_curve`.
        generator: CPU generator of the sets.
        fill: see :func:`fedlens.explain.metrics.fills.fill_images`.
        share: share of the pixels that a set holds, above 0; at 1 all sets are the same.
        samples: number of sets, at least 2.
        score: see :func:`fedlens.explain.metrics.scoring.score_of`.

    Raises:
        ExplanationError: an argument is not what is stated here.
    """
    images = network_images(model, images)
    check_maps(maps, images)
    check_share("share", share)
    check_count("samples", samples, 2)
    height, width = images.shape[2:]
    size = max(1, round(share * height * width))
    draws = torch.rand(samples, height * width, generator=generator)
    sets = torch.zeros(samples, height * width, dtype=torch.bool)
    sets.scatter_(1, draws.topk(size, dim=1).indices, True)
    drops = _drops(model, images, target, sets.reshape(-1, height, width), fill, score, rows)
    sums = maps.detach().double().cpu().flatten(1) @ sets.double().T
    return nan_where_not_finite(_pearson(sums, drops), maps.cpu())


def infidelity(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    target: Target = None,
    *,
    multiplied: bool,
    generator: torch.Generator,
    fill: str | Tensor = "black",
    samples: int | None = 200,
    score: str = "logit",
    rows: int = ROWS,
) -> Infidelity:
    """Return the infidelity of each map over squares of pixels: Yeh et al. 2019.

    The mean over squares of (I . map - (score(x) - score(x with the square filled)))^2. The squares
    have all sides from 1 to 10/28 of the image and all places within it; each image gets the same
    ones. What I is depends on the map, and a map judged by the other one is misjudged:

    - ``multiplied=True``, for maps that hold the factor x - b (integrated and expected gradients,
      Shapley values, occlusion): I is 1 in the square. 0 for w_i (x_i - b_i) of a linear network.
    - ``multiplied=False``, for maps like a gradient (gradient, SmoothGrad, CAMs): I is x - b in the
      square. 0 for the weights of a linear network. A map has one value for all channels, so that I
      is the mean of x - b over the channels.

    Args:
        model, images, maps, target, rows: see :func:`fedlens.explain.metrics.perturbation_curve`.
        multiplied: the map holds the factor x - b.
        generator: CPU generator of the choice of squares.
        fill: b; see :func:`fedlens.explain.metrics.fills.fill_images`.
        samples: squares, drawn without repetition; None for all (5,605 on 28 x 28).
        score: see :func:`fedlens.explain.metrics.scoring.score_of`.

    Raises:
        ExplanationError: an argument is not what is stated here.
    """
    images = network_images(model, images)
    check_maps(maps, images)
    squares = _squares(images.shape[2], images.shape[3])
    if samples is not None:
        check_count("samples", samples)
        squares = squares[torch.randperm(len(squares), generator=generator)[:samples]]
    drops = _drops(model, images, target, squares, fill, score, rows)
    weighted = maps.detach().double().cpu()
    if not multiplied:
        way = images - fill_images(fill, images, model)
        weighted = weighted * way.double().mean(1).cpu()
    foretold = weighted.flatten(1) @ squares.flatten(1).double().T
    square, cross = foretold.square().mean(1), (foretold * drops).mean(1)
    factor = torch.where(square > 0, cross / square, 0.0)
    scaled = (factor[:, None] * foretold - drops).square().mean(1)
    found = [
        (foretold - drops).square().mean(1),
        scaled,
        factor,
        scaled / drops.square().mean(1),
    ]
    return Infidelity(*(nan_where_not_finite(values, maps.cpu()) for values in found))


def completeness_gap(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    target: Target = None,
    *,
    fill: str | Tensor = "black",
    score: str = "logit",
    floor: float = FLOOR,
    rows: int = ROWS,
) -> Completeness:
    """Return how far each map's sum is from score(x) - score(baseline); nearer to 0 is better.

    Only for methods that promise it (``complete``), with their own baseline (Sundararajan et al.
    2017). A relative gap alone would punish images whose score is the one of the baseline, hence the
    floor.

    Args:
        model, images, maps, target, rows: see :func:`fedlens.explain.metrics.perturbation_curve`.
        fill: the baseline; see :func:`fedlens.explain.metrics.fills.fill_images`.
        score: see :func:`fedlens.explain.metrics.scoring.score_of`.
        floor: smallest gap in score that is divided by, above 0.

    Raises:
        ExplanationError: an argument is not what is stated here.
    """
    images = network_images(model, images)
    check_maps(maps, images)
    if not 0 < floor < float("inf"):
        raise ExplanationError(f"floor is {floor!r}, expected a number above 0.")
    with undisturbed(model):
        baseline = fill_images(fill, images, model)
        wanted = known_target(model, images, target, rows)
        here = image_scores(model, images, wanted, score, rows)
        gap = here - image_scores(model, baseline, wanted, score, rows)
    absolute = maps.detach().double().cpu().sum((1, 2)) - gap
    relative = absolute.abs() / gap.abs().clamp_min(floor)
    return Completeness(
        nan_where_not_finite(absolute, maps.cpu()), nan_where_not_finite(relative, maps.cpu())
    )


def _drops(
    model: nn.Module,
    images: Tensor,
    target: Target,
    sets: Tensor,
    fill: str | Tensor,
    score: str,
    rows: int,
) -> Tensor:
    """Return score(x) - score(x with a set filled), float64 (B, R), for ``sets`` bool (R, H, W)."""
    with undisturbed(model):
        filled = fill_images(fill, images, model)
        wanted = known_target(model, images, target, rows)
        # The image itself is the last copy: an empty set.
        holes = torch.cat((sets, torch.zeros_like(sets[:1])))[:, None].to(images.device)
        scores = grid_scores(
            model,
            wanted,
            score,
            (len(images), len(holes)),
            lambda image, hole: torch.where(holes[hole], filled[image], images[image]),
            rows,
        )
    return scores[:, -1:] - scores[:, :-1]


def _squares(height: int, width: int) -> Tensor:
    """Return all squares, bool (R, H, W)."""
    shorter = min(height, width)
    down, across = torch.arange(height), torch.arange(width)
    found = []
    for side in range(1, max(1, round(LARGEST_SQUARE * shorter)) + 1):
        top = torch.arange(height - side + 1)[:, None]
        left = torch.arange(width - side + 1)[:, None]
        rows = (down >= top) & (down < top + side)
        columns = (across >= left) & (across < left + side)
        found.append((rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1))
    return torch.cat(found)


def _pearson(first: Tensor, second: Tensor) -> Tensor:
    """Return the correlation of the rows of two float64 (B, R), NaN where a row does not vary."""
    a = first - first.mean(1, keepdim=True)
    b = second - second.mean(1, keepdim=True)
    sizes = [values.norm(dim=1) for values in (a, b)]
    found: Tensor = ((a * b).sum(1) / (sizes[0] * sizes[1])).clamp(-1, 1)
    for size, values in zip(sizes, (first, second), strict=True):
        # Equal sums differ by their rounding, which must not be correlated with anything.
        found = torch.where(size > 1e-12 * values.norm(dim=1), found, torch.nan)
    return found
