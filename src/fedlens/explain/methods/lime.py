"""LIME: a linear model of the score in which segments of the image are present or absent."""

import torch
from torch import Tensor

from fedlens.errors import ExplanationError
from fedlens.explain.baselines import BASELINES, baseline_images
from fedlens.explain.coalitions import coalition_scores
from fedlens.explain.contract import Attribution, Attributor, Context
from fedlens.explain.layers import forward_logits
from fedlens.explain.methods.gradient import check_count
from fedlens.explain.segments import (
    GREY_COMPACTNESS,
    RGB_COMPACTNESS,
    grid_segments,
    segment_means,
    slic_segments,
    spread,
)
from fedlens.explain.target import Contrast, of_rows, resolved

SEGMENTS = ("grid", "slic")
"""The ways to cut an image that :class:`Lime` knows."""

SEGMENT_MEAN = "segment-mean"
"""The filling of an absent segment with its own mean colour."""


def lime_regression(
    coalitions: Tensor, scores: Tensor, *, kernel_width: float = 0.25, alpha: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the linear models nearest to the scores around the whole image.

    Ribeiro, Singh and Guestrin 2016, section 3.4, with ridge regression: the beta and intercept
    that minimise sum_z w_z (v(z) - intercept - z . beta)^2 + alpha |beta|^2. The weight is
    exp(-d^2 / (2 kernel_width^2)), where d is the cosine distance of z to the vector of ones,
    1 - sqrt(|z| / M), which is 1 for the empty coalition. The intercept is not penalised.

    Args:
        coalitions: bool (N, M), True where a segment is present.
        scores: float (B, N).
        kernel_width: above 0.
        alpha: penalty, above 0.

    Returns:
        Coefficients float64 (B, M), intercepts float64 (B,), and weighted R^2 float64 (B,), at most
        1: the share of the weighted variance of the scores that the model explains; 1 where the
        scores are all equal. All on the CPU.
    """
    present = coalitions.double().cpu()
    players = present.shape[1]
    distance = 1 - (present.sum(1) / players).sqrt()
    weights = torch.exp(-distance.square() / (2 * kernel_width**2))
    shares = weights / weights.sum()
    # From the first score on, so that scores that are all equal are exactly zero.
    start = scores[:, :1].double().cpu()
    rises = scores.double().cpu() - start
    mean_rise, mean_present = rises @ shares, shares @ present
    outcome = rises - mean_rise[:, None]
    features = present - mean_present
    weighted = features * weights[:, None]
    normal = features.T @ weighted + alpha * torch.eye(players, dtype=torch.float64)
    coefficients = torch.linalg.solve(normal, weighted.T @ outcome.T).T
    intercepts = start[:, 0] + mean_rise - coefficients @ mean_present
    left = (outcome - coefficients @ features.T).square() @ shares
    spread_of_scores = outcome.square() @ shares
    equal = spread_of_scores == 0
    fits = torch.where(equal, 1.0, 1 - left / torch.where(equal, 1.0, spread_of_scores))
    return coefficients, intercepts, fits


class Lime(Attributor):
    """The coefficients of a local linear model: LIME for images, with its library's choices.

    Ribeiro, Singh and Guestrin 2016. Of each sample every segment is present with probability 1/2;
    the first sample is the whole image. See :func:`lime_regression`. What is explained is a logit,
    or a difference of two. Each pixel has the whole coefficient of its segment, not a share of it:
    what the score gains when the segment is seen.

    The draws depend on the seed and the number of segments alone.

    Details: ``weighted_r2``, how well the linear model fits; a map with a low one says little.
    """

    stochastic = True

    def __init__(
        self,
        context: Context,
        *,
        segments: str = "grid",
        across: int = 7,
        count: int = 50,
        samples: int = 1000,
        kernel_width: float = 0.25,
        alpha: float = 1.0,
        fill: str = SEGMENT_MEAN,
    ) -> None:
        """Bind the method.

        Args:
            context: see :class:`Context`.
            segments: ``grid``, or ``slic`` for superpixels of each image.
            across: cells along each side of the grid, at least 1.
            count: superpixels to aim at, at least 1; see :func:`slic_segments`.
            samples: coalitions, the whole image included, at least 2.
            kernel_width: of the weights, above 0; see :func:`lime_regression`.
            alpha: penalty of the ridge regression, above 0.
            fill: what is seen of an absent segment: ``segment-mean``, its own mean colour, or a
                name of :func:`fedlens.explain.baselines.baseline_images`.

        Raises:
            ExplanationError: a parameter is out of its range.
        """
        super().__init__(context)
        if segments not in SEGMENTS:
            raise ExplanationError(
                f"There are no segments '{segments}'; choose one of {', '.join(SEGMENTS)}."
            )
        if fill != SEGMENT_MEAN and fill not in BASELINES:
            raise ExplanationError(
                f"There is no fill '{fill}'; choose one of {', '.join((SEGMENT_MEAN, *BASELINES))}."
            )
        for name, number in (("across", across), ("count", count), ("samples", samples)):
            check_count(name, number)
        if samples < 2:
            raise ExplanationError(f"samples is {samples}, expected at least 2.")
        for name, value in (("kernel_width", kernel_width), ("alpha", alpha)):
            if not 0 < value < float("inf"):
                raise ExplanationError(f"{name} is {value}, expected a number above 0.")
        self.baseline = fill
        self._regression = {"kernel_width": kernel_width, "alpha": alpha}
        cut: dict[str, object] = {"across": across}
        if segments == "slic":
            compactness = {"three channels": RGB_COMPACTNESS, "others": GREY_COMPACTNESS}
            cut = {"count": count, "compactness": compactness}
        self.parameters = {"segments": segments, **cut, "samples": samples, **self._regression}

    def attribute(self, images: Tensor, target: Tensor | Contrast | None) -> Attribution:
        """Return the maps; see :class:`Attributor`.

        Raises:
            ExplanationError: the images have fewer pixels on a side than the grid has cells, or
                scikit-image is not installed and the segments are ``slic``.
        """
        logits = forward_logits(self.context.model, images)
        wanted = resolved(target, logits)
        if self.parameters["segments"] == "grid":
            height, width = images.shape[2:]
            segments = grid_segments(height, width, self.parameters["across"])
            maps, fits = self._maps(images, segments, wanted)
            return Attribution(maps, logits, {"weighted_r2": fits})
        # Superpixels are each image's own, and so are the coalitions of as many players.
        parts = [
            self._maps(images[[number]], cut, of_rows(wanted, torch.tensor([number])))
            for number, cut in enumerate(slic_segments(images, self.parameters["count"]))
        ]
        maps, fits = (torch.cat(results) for results in zip(*parts, strict=True))
        return Attribution(maps, logits, {"weighted_r2": fits})

    def _maps(
        self, images: Tensor, segments: Tensor, target: Tensor | Contrast
    ) -> tuple[Tensor, Tensor]:
        """Return the maps (B, H, W) and the weighted R^2 (B,) of images with the same segments."""
        assert self.baseline is not None
        if self.baseline == SEGMENT_MEAN:
            fill = segment_means(images, segments)
        else:
            fill = baseline_images(self.baseline, images, self.context)
        coalitions = self._draw(int(segments.max()) + 1)
        scores = coalition_scores(self.context, images, fill, segments, coalitions, target)
        coefficients, _, fits = lime_regression(coalitions, scores, **self._regression)
        return spread(coefficients, segments, shared=False), fits.float()

    def _draw(self, players: int) -> Tensor:
        """Return which segments are present in each sample, bool (N, M)."""
        shape = (self.parameters["samples"], players)
        present = torch.rand(shape, generator=self.context.generator()) < 0.5
        present[0] = True
        return present
