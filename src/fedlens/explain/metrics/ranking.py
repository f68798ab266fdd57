"""Which method is best over several metrics, and how sure that is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedlens.errors import ExplanationError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranking:
    """M methods over K metrics; place 1 is the best, ties share the mean of their places.

    Attributes:
        metrics: names of the K metrics.
        means: (M, K), mean of each metric over the images, gaps filled as for the ranks.
        ranks: (M, K), places by ``means``, in [1, M]; lower is better.
        mean_rank: (M,), mean of ``ranks`` over the metrics.
        low, high: (M,), percentile interval of ``mean_rank`` over resamples of the images. It tells
            what other images might say, and nothing about other networks or metrics.
        kept: (M,), share of the resamples in which the method keeps its place by mean rank, in
            [0, 1].
        concordance: Kendall's W of the metrics' places, in [0, 1]: 1 where all metrics agree; NaN
            where there is a single method, or each metric ties all of them.
        missing: (M, K), share of the images for which the method has no figure, in [0, 1].
    """

    metrics: tuple[str, ...]
    means: Floats
    ranks: Floats
    mean_rank: Floats
    low: Floats
    high: Floats
    kept: Floats
    concordance: float
    missing: Floats


def rank_methods(
    figures: Mapping[str, Floats],
    higher_is_better: Mapping[str, bool],
    *,
    generator: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> Ranking:
    """Rank methods by each metric, and by their mean rank.

    An image for which a method has no figure (NaN) counts as the worst that any method has there, so
    that failing is never an advantage; an image for which none has one is left out of that metric. A
    method without any figure is last. Images are resampled with repetition, the same ones for all
    metrics and methods, so that what they have in common cancels.

    Args:
        figures: metric name -> (M, B), a row for each method, in one order; or (M, 1) where the
            metric is one figure for all images. B is the same for all metrics.
        higher_is_better: metric name -> its direction.
        generator: of the resamples.
        resamples: at least 1.
        level: of the interval, between 0 and 1.

    Raises:
        ExplanationError: a metric has no direction, or the tables do not go together.
    """
    if resamples < 1 or not 0 < level < 1:
        raise ExplanationError(
            f"There are {resamples} resamples and a level of {level}, expected at least 1 and a "
            "level between 0 and 1."
        )
    tables = _tables(figures, higher_is_better)
    images = max(table.shape[1] for table in tables)
    means = np.stack([_means(table, np.ones(table.shape[1])) for table in tables], axis=1)
    ranks = places(means)
    mean_rank = ranks.mean(1)
    place = places(-mean_rank[:, None])[:, 0]
    drawn = np.empty((resamples, len(mean_rank)))
    kept = np.zeros(len(mean_rank))
    for number in range(resamples):
        counts = _draw(images, generator)
        again = [
            _means(table, counts if table.shape[1] == images else np.ones(1)) for table in tables
        ]
        drawn[number] = places(np.stack(again, axis=1)).mean(1)
        kept += places(-drawn[number][:, None])[:, 0] == place
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    signs = np.array([1.0 if higher_is_better[name] else -1.0 for name in figures])
    return Ranking(
        metrics=tuple(figures),
        means=means * signs,
        ranks=ranks,
        mean_rank=mean_rank,
        low=low,
        high=high,
        kept=kept / resamples,
        concordance=concordance(ranks),
        missing=np.stack([np.isnan(np.asarray(t)).mean(1) for t in figures.values()], axis=1),
    )


def places(scores: Floats) -> Floats:
    """Return the place of each row in each column of ``scores`` (M, K), from 1 for the largest.

    Ties share the mean of their places; NaN comes last.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    above = (scores[None] > scores[:, None]).sum(1)
    tied = (scores[None] == scores[:, None]).sum(1)
    found: Floats = above + (tied + 1) / 2
    return found


def concordance(ranks: Floats) -> float:
    """Return Kendall's W of the places (M, K) that K metrics give to M methods, corrected for ties.

    In [0, 1]: 1 where all metrics agree, 1 / K on average where they have nothing in common. NaN
    where there is a single method, or each metric ties all of them.
    """
    methods, metrics = ranks.shape
    totals = ranks.sum(1)
    spread = float(np.square(totals - totals.mean()).sum())
    # Each metric's own spread is (M^3 - M) / 12 less its ties; the totals' is at most K^2 of it.
    own = float(np.square(ranks - (methods + 1) / 2).sum())
    return spread / (metrics * own) if own > 0 else float("nan")


def _tables(figures: Mapping[str, Floats], higher_is_better: Mapping[str, bool]) -> list[Floats]:
    """Return the tables with the larger figure as the better one and no gaps but common ones."""
    if not figures:
        raise ExplanationError("There are no metrics to rank by, expected one or more.")
    first, tables = "", list[Floats]()
    images = 1
    for name, given in figures.items():
        if name not in higher_is_better:
            raise ExplanationError(f"The metric '{name}' has no direction in higher_is_better.")
        table = np.array(given, dtype=np.float64)
        if table.ndim != 2 or 0 in table.shape or np.isinf(table).any():
            raise ExplanationError(
                f"The figures of '{name}' have the shape {table.shape}, expected (M, B) with at "
                "least one method and one image, none of them infinite."
            )
        if tables and len(table) != len(tables[0]):
            raise ExplanationError(
                f"'{name}' has figures of {len(table)} methods and '{first}' of {len(tables[0])}, "
                "expected as many."
            )
        if table.shape[1] > 1 and images not in (1, table.shape[1]):
            raise ExplanationError(
                f"'{name}' has figures of {table.shape[1]} images and others of {images}, expected "
                "as many, or one figure for all."
            )
        images = max(images, table.shape[1])
        first = first or name
        tables.append(_without_gaps(table if higher_is_better[name] else -table))
    return tables


def _without_gaps(table: Floats) -> Floats:
    """Return ``table`` (M, B) with the smallest figure of an image where a method has none there."""
    gap = np.isnan(table)
    worst = np.where(gap, np.inf, table).min(0)
    filled = np.where(gap, np.where(np.isinf(worst), np.nan, worst), table)
    filled[gap.all(1)] = np.nan
    return filled


def _means(table: Floats, counts: Floats) -> Floats:
    """Return the mean of each row of ``table`` (M, B) over the images that have figures.

    Args:
        table: without gaps but for whole images and whole methods.
        counts: (B,), how often each image is drawn.
    """
    known = ~np.isnan(table)
    weights = known * counts
    total = weights.sum(1)
    sums = (np.where(known, table, 0.0) * weights).sum(1)
    found: Floats = np.divide(sums, total, out=np.full(len(table), np.nan), where=total > 0)
    return found


def _draw(images: int, generator: np.random.Generator) -> Floats:
    """Return (B,), how often each image is in one resample of as many."""
    drawn = generator.integers(images, size=images)
    return np.bincount(drawn, minlength=images).astype(np.float64)
