"""Whether a map stays as it is when what should not matter changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.metrics.agreement import spearman
from fedlens.explain.metrics.checks import check_count, check_maps, nan_where_not_finite
from fedlens.explain.metrics.scoring import ROWS, all_logits, network_images, undisturbed


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """The largest change of each map over the draws.

    Attributes:
        values: float64 (B,), at least 0, as a share of the map's norm; lower is better. NaN where
            the map is zero or not finite, a changed map is not finite, or no draw is left.
        flipped: int64 (B,), draws that changed the predicted class and were left out.
    """

    values: Tensor
    flipped: Tensor


@dataclass(frozen=True, eq=False)
class SeedStability:
    """How alike the maps of one image are over seeds.

    Attributes:
        spearman: float64 (B,), mean Spearman correlation over all pairs of seeds, in [-1, 1]; higher
            is better. NaN where a map is flat or not finite.
        deviation: float64 (B,), mean over the pixels of the standard deviation over the seeds, over
            the root mean square of all maps of the image; in [0, 1]; lower is better. Maps without
            a mean that differ altogether approach 1. NaN where all maps are zero or one is not
            finite.
    """

    spearman: Tensor
    deviation: Tensor


def max_sensitivity(
    model: nn.Module,
    images: Tensor,
    explain_fn: Callable[[Tensor], Tensor],
    *,
    generator: torch.Generator,
    radius: float = 0.02,
    draws: int = 10,
    value_range: tuple[float, float] = (0.0, 1.0),
    rows: int = ROWS,
) -> Sensitivity:
    """Return the largest of |map(x + d) - map(x)| / |map(x)| over small random changes d.

    Yeh et al. 2019, with Euclidean norms. Each d is uniform in [-radius, radius] for every value of
    the image, and is the same for all images; x + d is cut to the range of a pixel. A draw that
    changes the predicted class is left out and counted: there another map is right.

    Args:
        model: network that returns logits; it is left as it was.
        images: uint8 or float (B, C, H, W); B may be 0.
        explain_fn: returns the maps (B, H, W) of float images (B, C, H, W). It is always given all B
            images in their order, so that it can hold the class that was predicted on the images as
            they are: it must explain that one. It turns gradients on where it needs them.
        generator: CPU generator of the changes.
        radius: above 0, in the unit of a pixel.
        draws: at least 1.
        value_range: smallest and largest value of a pixel.
        rows: images that go through the network at a time, where predictions are asked for.

    Raises:
        ExplanationError: an argument is not what is stated here.
    """
    check_count("draws", draws)
    if not 0 < radius < float("inf"):
        raise ExplanationError(f"radius is {radius!r}, expected a number above 0.")
    images = network_images(model, images)
    batch = len(images)
    largest = torch.full((batch,), -1.0, dtype=torch.float64)
    flipped = torch.zeros(batch, dtype=torch.int64)
    if batch == 0:
        return Sensitivity(largest, flipped)
    predicted = _predicted(model, images, rows)
    maps = _explained(explain_fn(images), images)
    norms = maps.flatten(1).norm(dim=1)
    broken = torch.zeros(batch, dtype=torch.bool)
    for _ in range(draws):
        draw = 2 * torch.rand(images.shape[1:], generator=generator) - 1
        changed = (images + radius * draw.to(images.device, images.dtype)).clamp(*value_range)
        kept = _predicted(model, changed, rows) == predicted
        flipped += ~kept
        change = (_explained(explain_fn(changed), images) - maps).flatten(1).norm(dim=1) / norms
        broken |= kept & ~torch.isfinite(change)  # a maximum may pass over a NaN
        largest = torch.where(kept & (change > largest), change, largest)
    unknown = broken | (largest < 0)
    return Sensitivity(torch.where(unknown, torch.nan, largest), flipped)


def seed_stability(explain_fn: Callable[[int], Tensor], seeds: Sequence[int]) -> SeedStability:
    """Return how alike the maps of a method with random draws are over ``seeds``.

    Args:
        explain_fn: returns the maps (B, H, W) of a seed, of the same images in the same order.
        seeds: two or more different numbers.

    Raises:
        ExplanationError: there are fewer than two seeds, or the maps differ in shape.
    """
    if len(set(seeds)) < 2 or len(set(seeds)) != len(seeds):
        raise ExplanationError(f"The seeds are {list(seeds)}, expected two or more different ones.")
    found = [explain_fn(seed) for seed in seeds]
    for maps in found:
        check_maps(maps)
        if maps.shape != found[0].shape:
            raise ExplanationError(
                f"The maps of seed {seeds[0]} are {tuple(found[0].shape)} and others "
                f"{tuple(maps.shape)}, expected one shape."
            )
    stacked = torch.stack([maps.detach().double().cpu() for maps in found], 1)
    pairs = [spearman(a, b) for a, b in combinations(stacked.unbind(1), 2)]
    spread = (stacked - stacked.mean(1, keepdim=True)).square().mean(1).sqrt()
    scale = stacked.square().mean((1, 2, 3)).sqrt()
    return SeedStability(
        torch.stack(pairs).mean(0), nan_where_not_finite(spread.mean((1, 2)) / scale, stacked)
    )


def _predicted(model: nn.Module, images: Tensor, rows: int) -> Tensor:
    with undisturbed(model):
        return all_logits(model, images, rows).argmax(1).cpu()


def _explained(maps: Tensor, images: Tensor) -> Tensor:
    check_maps(maps, images, "maps that explain_fn returned")
    return maps.detach().double().cpu()
