"""Curves of a score while pixels are removed, or put back, in the order of a map."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.metrics.checks import (
    check_choice,
    check_count,
    check_maps,
    nan_where_not_finite,
)
from fedlens.explain.metrics.fills import FILLS, fill_images, imputation_noise, impute
from fedlens.explain.metrics.ordering import removal_places
from fedlens.explain.metrics.scoring import (
    ROWS,
    SCORES,
    grid_scores,
    known_target,
    network_images,
    undisturbed,
)
from fedlens.explain.target import Target

ORDERS = ("most-first", "least-first")
DIRECTIONS = ("delete", "insert")


@dataclass(frozen=True, eq=False)
class Curve:
    """The scores of B images after S equal steps; NaN throughout where a map is not finite.

    Attributes:
        fractions: float64 (S + 1,), the share of pixels that are removed, or put back; from 0 to 1.
        scores: float64 (B, S + 1).
    """

    fractions: Tensor
    scores: Tensor

    def area(self) -> Tensor:
        """Return the area under each curve by the trapezoid rule, float64 (B,).

        In the unit of the score, because the fractions go from 0 to 1: the mean height of the curve.
        Deletion with the most important pixels first: lower is better; least important first: higher
        is better. Insertion: the reverse.
        """
        return torch.trapezoid(self.scores, self.fractions, dim=1)

    def mean_drop(self) -> Tensor:
        """Return the mean of score(0) - score(k) over all steps k from 0 to S, float64 (B,).

        The AOPC of Samek et al. 2017, in the unit of the score. Deletion with the most important
        pixels first: higher is better.
        """
        return (self.scores[:, :1] - self.scores).mean(1)


def order_gap(most_first: Curve, least_first: Curve) -> Tensor:
    """Return the area of ``least_first`` minus that of ``most_first``, float64 (B,).

    For two deletion curves of the same images and map. Higher is better; for a probability in
    [-1, 1], and 0 is what an order at random gets on average. It asks both that the score falls where
    the map is high and that it stays where the map is low (LeRF - MoRF: Tomsett et al. 2020; with
    the fill "imputed" ROAD's combination, Rong et al. 2022, there with half of the difference).

    Raises:
        ExplanationError: the two are not over the same steps and as many images.
    """
    same = most_first.scores.shape == least_first.scores.shape
    if not same or not torch.equal(most_first.fractions, least_first.fractions):
        raise ExplanationError("The two curves differ in their images or steps, expected the same.")
    return least_first.area() - most_first.area()


def perturbation_curve(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    target: Target = None,
    *,
    generator: torch.Generator,
    order: str = "most-first",
    direction: str = "delete",
    fill: str | Tensor = "black",
    steps: int = 49,
    score: str = "probability",
    rows: int = ROWS,
) -> Curve:
    """Return the scores of ``images`` while their pixels are removed, or put back, by their map.

    Named metrics, and how they are asked for:

    - deletion area (Petsiuk et al. 2018, RISE): the defaults, ``.area()``; lower is better;
    - insertion area (RISE): ``direction="insert", fill="blurred"``, ``.area()``; higher is better;
    - pixel flipping (Bach et al. 2015): ``steps=H * W``; AOPC: ``.mean_drop()``, higher is better;
    - ROAD (Rong et al. 2022): ``fill="imputed"``, both orders, :func:`order_gap`, higher is better;
      with ``score="decision"`` the mean of the curves over images is the accuracy that it reports.

    RISE blurs with a deviation of 5 of 224 pixels, which at 28 pixels removes next to nothing; here
    "blurred" has 1/7 of the height. For a linear network, deletion with x_i - b_i times w_i as the
    map has the lowest curve of all orders, at each point.

    Args:
        model: network that returns logits (B, L); it is left as it was.
        images: uint8 or float (B, C, H, W), as the network takes them; B may be 0.
        maps: float (B, H, W), signed: large values are removed first, whatever their sign.
        target: see :func:`fedlens.explain.explain`; None is the class predicted on the whole image.
        generator: CPU generator of the order of tied pixels, then of the noise of "imputed". Both
            are drawn once, and are the same for every image and step.
        order: "most-first" or "least-first".
        direction: "delete" from the image to the fill, or "insert" from the fill to the image.
        fill: a name in :data:`fedlens.explain.metrics.FILLS`, or the images that pixels are taken
            from; see :func:`fedlens.explain.metrics.fills.fill_images`.
        steps: S, from 1 to H * W; at step k the first round(k H W / S) pixels have changed.
        score: one of ``SCORES``; see :func:`fedlens.explain.metrics.scoring.score_of`, also for a
            contrast.
        rows: images that go through the network at a time; it does not change the curve.

    Raises:
        ExplanationError: an argument is not what is stated here.
    """
    check_choice("order", order, ORDERS)
    check_choice("direction", direction, DIRECTIONS)
    check_choice("score", score, SCORES)
    if isinstance(fill, str):
        check_choice("fill", fill, FILLS)
    images = network_images(model, images)
    check_maps(maps, images)
    batch, _, height, width = images.shape
    check_count("steps", steps, 1, height * width)
    changed = (torch.arange(steps + 1) * height * width / steps).round().long()
    fractions = changed.double() / (height * width)
    places = removal_places(maps, order, generator).reshape(batch, height, width)

    with undisturbed(model):
        imputing = isinstance(fill, str) and fill == "imputed"
        filled = images if imputing else fill_images(fill, images, model)
        noise = imputation_noise(images, generator) if imputing else None
        wanted = known_target(model, images, target, rows)

        def copies(image: Tensor, step: Tensor) -> Tensor:
            first = places[image] < changed[step][:, None, None]
            removed = first if direction == "delete" else ~first
            here = removed[:, None].to(images.device)
            if noise is None:
                return torch.where(here, filled[image], images[image])
            return torch.where(here, impute(images[image], removed) + noise, images[image])

        scores = grid_scores(model, wanted, score, (batch, steps + 1), copies, rows)
    return Curve(fractions, nan_where_not_finite(scores, maps.cpu()))
