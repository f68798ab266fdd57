"""How far a network's confidence is what it is worth, and one number that sets it right.

Temperature scaling divides all logits by one T > 0, found on images that the network was not trained
on: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017. It changes no
decision, only how sure the network says it is.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fedlens.errors import ModelError

Floats = npt.NDArray[np.float64]

BINS = 15
"""Bins of the expected calibration error: as many as in the paper."""

COLDEST, HOTTEST = 0.01, 100.0
"""Between these T is looked for. Where every answer is right the best T is 0, and where confidence is
worth nothing it is infinite: T is then the end that it runs to."""

_EXACT = 1e-10  # of log T


@dataclass(frozen=True, eq=False)
class Temperature:
    """One T for all logits of a network.

    Attributes:
        value: T > 0; above 1 the network was too sure of itself, below 1 not sure enough.
        examples: how many it was found on.
        loss_before, loss_after: mean negative log-likelihood in nats, with T = 1 and with T.
    """

    value: float
    examples: int
    loss_before: float
    loss_after: float

    def probabilities(self, logits: Tensor) -> Floats:
        """Return softmax(logits / T), float64 (N, L), rows adding up to 1."""
        return probabilities(logits, self.value)


def probabilities(logits: Tensor, temperature: float = 1.0) -> Floats:
    """Return softmax(logits / T) of logits (N, L), float64, rows adding up to 1."""
    scaled = logits.detach().double().cpu().numpy() / temperature
    shifted = np.exp(scaled - scaled.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True), dtype=np.float64)


def fit_temperature(logits: Tensor, labels: Tensor) -> Temperature:
    """Return the T that makes ``labels`` most likely.

    The loss is convex in 1/T, so that its slope, the mean over examples of (the expected logit minus
    the true class's), changes its sign once: T is found by halving, in float64, and is always the
    same.

    Args:
        logits: (N, L), N >= 1, finite, of images that the network was not trained on.
        labels: int64 (N,) class numbers.

    Raises:
        ModelError: there is nothing to fit on, or a logit is not finite, or a label is no class.
    """
    scores, truth = _checked(logits, labels)
    shifted = scores - scores.max(1, keepdims=True)
    own = shifted[np.arange(len(truth)), truth]

    def slope(log_temperature: float) -> float:
        """Return the derivative of the mean loss with respect to 1/T."""
        weights = np.exp(shifted * math.exp(-log_temperature))
        expected = (weights * shifted).sum(1) / weights.sum(1)
        return float((expected - own).mean())

    low, high = math.log(COLDEST), math.log(HOTTEST)
    if not shifted.any() or slope(low) <= 0:  # flat logits: every T is as good; or T runs to 0
        value = 1.0 if not shifted.any() else COLDEST
    elif slope(high) >= 0:
        value = HOTTEST
    else:
        while high - low > _EXACT:
            middle = (low + high) / 2
            if slope(middle) > 0:
                low = middle
            else:
                high = middle
        value = math.exp((low + high) / 2)
    return Temperature(value, len(truth), _loss(shifted, own, 1.0), _loss(shifted, own, value))


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often the network was right at each confidence: the reliability diagram, M bins.

    Attributes:
        edges: (M + 1,) rising, in [0, 1]; a bin holds what is above its lower edge, up to its upper
            one; the first holds its lower edge too.
        counts: int64 (M,) examples in each bin.
        confidence: (M,) mean confidence of each bin; NaN where it is empty.
        accuracy: (M,) share of right answers of each bin; NaN where it is empty.
        error: expected calibration error: the mean over examples of the distance between confidence
            and accuracy of their bin, in [0, 1]; lower is better.
        worst: the largest such distance.
    """

    edges: Floats
    counts: npt.NDArray[np.int64]
    confidence: Floats
    accuracy: Floats
    error: float
    worst: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON; what is not known (empty bins) is None."""

        def plain(values: Floats) -> list[float | None]:
            return [float(value) if math.isfinite(value) else None for value in values]

        return {
            "edges": plain(self.edges),
            "counts": self.counts.tolist(),
            "confidence": plain(self.confidence),
            "accuracy": plain(self.accuracy),
            "error": self.error,
            "worst": self.worst,
        }


def reliability(
    confidence: npt.ArrayLike, right: npt.ArrayLike, *, bins: int = BINS, equal_mass: bool = False
) -> Reliability:
    """Return the reliability diagram and the expected calibration error.

    Args:
        confidence: (N,) probability of the predicted class, in [0, 1].
        right: (N,) 1 or True where the prediction was right.
        bins: M, at least 1.
        equal_mass: bins that hold as many examples each (by quantiles; examples of one confidence
            stay together, so that there may be fewer bins), in place of bins of equal width. Where
            nearly all confidence is high, equal widths leave most bins nearly empty.

    Raises:
        ModelError: there is no example, or the values are not what is stated here.
    """
    sure = np.asarray(confidence, dtype=np.float64)
    hits = np.asarray(right, dtype=np.float64)
    if sure.ndim != 1 or len(sure) == 0 or sure.shape != hits.shape or bins < 1:
        raise ModelError(
            f"Got {sure.shape} confidences, {hits.shape} answers and {bins} bins, expected as many "
            "answers as confidences, and at least one bin and one example."
        )
    if not (np.isfinite(sure).all() and sure.min() >= 0 and sure.max() <= 1 + 1e-9):
        raise ModelError("A confidence is not a probability, expected numbers from 0 to 1.")
    if equal_mass:
        edges = np.unique(np.quantile(sure, np.linspace(0, 1, bins + 1), method="inverted_cdf"))
        edges = edges if len(edges) > 1 else np.array([edges[0], edges[0]])
    else:
        edges = np.linspace(0, 1, bins + 1)
    count = len(edges) - 1
    place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, count - 1)
    counts = np.bincount(place, minlength=count).astype(np.int64)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, weights=sure, minlength=count) / counts
        share = np.bincount(place, weights=hits, minlength=count) / counts
    gaps = np.abs(mean - share)[counts > 0]
    error = float((gaps * counts[counts > 0]).sum() / len(sure))
    return Reliability(edges, counts, mean, share, error, float(gaps.max()))


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a temperature did on some images.

    Attributes:
        before, after: with T = 1 and with T, over bins of equal width.
        before_mass, after_mass: the same over bins that hold as many examples each.
    """

    before: Reliability
    after: Reliability
    before_mass: Reliability
    after_mass: Reliability


def calibration_of(
    logits: Tensor, labels: Tensor, temperature: float, *, bins: int = BINS
) -> Calibration:
    """Return how far confidence is what it is worth, before and after dividing logits by T.

    Args:
        logits: (N, L), best of images that T was not found on.
        labels: int64 (N,) class numbers.
        temperature: T > 0.
        bins: see :func:`reliability`.

    Raises:
        ModelError: there is nothing to measure, or a logit is not finite, or a label is no class.
    """
    scores, truth = _checked(logits, labels)
    right = scores.argmax(1) == truth
    plain, scaled = (probabilities(logits, t).max(1) for t in (1.0, temperature))
    return Calibration(
        reliability(plain, right, bins=bins),
        reliability(scaled, right, bins=bins),
        reliability(plain, right, bins=bins, equal_mass=True),
        reliability(scaled, right, bins=bins, equal_mass=True),
    )


def _loss(shifted: Floats, own: Floats, temperature: float) -> float:
    scaled = shifted / temperature
    return float((np.log(np.exp(scaled).sum(1)) - own / temperature).mean())


def _checked(logits: Tensor, labels: Tensor) -> tuple[Floats, npt.NDArray[np.int64]]:
    if logits.dim() != 2 or labels.shape != (len(logits),) or len(logits) == 0:
        raise ModelError(
            f"Got logits {tuple(logits.shape)} and labels {tuple(labels.shape)}, expected (N, L) and "
            "(N,) of at least one example."
        )
    scores = logits.detach().double().cpu().numpy()
    truth = labels.cpu().numpy().astype(np.int64)
    if not np.isfinite(scores).all():
        raise ModelError("A logit is NaN or infinite, so that there is no confidence to set right.")
    if truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise ModelError(
            f"The labels run from {truth.min()} to {truth.max()}, expected 0 to "
            f"{scores.shape[1] - 1}."
        )
    return scores, truth
