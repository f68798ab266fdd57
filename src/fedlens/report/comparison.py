"""The study's figures beside ours, and the figures of ours that are means over seeds."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedlens.report.content import ReportContent, SeedResult
from fedlens.report.history import Spread, final, look, number, series, spread
from fedlens.report.wording import (
    decimal,
    percent,
    points,
    signed,
    signed_points,
    whole,
    with_spread,
)

NOT_GIVEN = "not given"
LATE = 5  # last epochs (or rounds) over which the late spread is taken
SHIRT, T_SHIRT = "Shirt", "T-shirt/top"  # the pair that the study counts the mutual errors of

METRICS = (
    ("training loss", ("train_loss",)),
    ("training accuracy", ("train_accuracy",)),
    ("validation loss", ("validation", "loss")),
    ("validation accuracy", ("validation", "accuracy")),
)


@dataclass(frozen=True)
class Kind:
    """How a figure of the study, one of ours, and their difference are written."""

    given: Callable[[float], str]
    show: Callable[[float], str]
    difference: Callable[[float], str]


SHARE = Kind(percent, percent, signed_points)
GAP = Kind(points, points, signed_points)
LOSS = Kind(decimal, decimal, lambda value: signed(value, 4))
SCORE = Kind(
    lambda value: decimal(value, 2), lambda value: decimal(value, 3), lambda value: signed(value, 3)
)
COUNT = Kind(whole, whole, lambda value: signed(value, 1))


@dataclass(frozen=True)
class Figure:
    """One row of the comparison: a name, the study's figure (NaN if not given), and ours."""

    name: str
    theirs: float
    ours: Spread | None
    kind: Kind

    def cells(self) -> list[str]:
        """Return name, theirs, ours and the difference as text."""
        known = math.isfinite(self.theirs)
        apart = self.ours.mean - self.theirs if known and self.ours else math.nan
        return [
            self.name,
            self.kind.given(self.theirs) if known else NOT_GIVEN,
            with_spread(self.ours, self.kind.show),
            self.kind.difference(apart),
        ]


def over_seeds(content: ReportContent, figure: Callable[[SeedResult], float]) -> Spread | None:
    """Return mean and sample standard deviation of one figure over the seeds."""
    return spread([figure(seed) for seed in content.seeds])


def last_value(seed: SeedResult, *path: str) -> float:
    """Return the last figure of a seed's history at ``path``, NaN if it was never measured."""
    point = final(seed.history, *path)
    return math.nan if point is None else point.value


def gap(seed: SeedResult) -> float:
    """Return training minus validation accuracy at the end, as a share."""
    return last_value(seed, "train_accuracy") - last_value(seed, "validation", "accuracy")


def late_spread(seed: SeedResult, *path: str) -> float:
    """Return the sample standard deviation of a figure over the last five epochs (or rounds).

    NaN where it was measured fewer than twice among them.
    """
    values = series(seed.history, *path)[-LATE:]
    values = values[~np.isnan(values)]
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def errors(seed: SeedResult) -> float:
    """Return how many test images were misclassified, NaN for a multi-label task."""
    confusion = seed.test.confusion
    return math.nan if confusion is None else float(confusion.sum() - np.trace(confusion))


def mistaken(seed: SeedResult, true: int, predicted: int) -> float:
    """Return how many test images of class ``true`` were taken for class ``predicted``."""
    confusion = seed.test.confusion
    return math.nan if confusion is None else float(confusion[true, predicted])


def mutual_share(seed: SeedResult, first: int, second: int) -> float:
    """Return the share of all errors that mistake one of two classes for the other."""
    every = errors(seed)
    both = mistaken(seed, first, second) + mistaken(seed, second, first)
    return both / every if every else math.nan


def comparison(content: ReportContent) -> list[Figure]:
    """Return the rows of the comparison; empty where the run is not comparable with the study."""
    study = content.study
    if not study:
        return []

    def row(name: str, theirs: float, ours: Callable[[SeedResult], float], kind: Kind) -> Figure:
        return Figure(name, theirs, over_seeds(content, ours), kind)

    def at_end(*path: str) -> Callable[[SeedResult], float]:
        return lambda seed: last_value(seed, *path)

    def f1(place: int) -> Callable[[SeedResult], float]:
        return lambda seed: float(seed.test.f1[place])

    theirs = {key: number(value) for key, value in study.items()}
    given = theirs.get
    nan = math.nan
    rows = [
        row("Training accuracy", given("train_accuracy", nan), at_end("train_accuracy"), SHARE),
        row(
            "Validation accuracy",
            given("validation_accuracy", nan),
            at_end("validation", "accuracy"),
            SHARE,
        ),
        row("Overfitting gap (points)", given("gap", nan), gap, GAP),
        row("Test accuracy", given("test_accuracy", nan), lambda seed: seed.test.accuracy, SHARE),
        row("Test loss", given("test_loss", nan), lambda seed: seed.test.loss, LOSS),
        row("Macro F1", given("macro_f1", nan), lambda seed: seed.test.macro_f1, SCORE),
    ]
    f1_given = study_f1(study)
    for place, name in enumerate(content.class_names):
        rows.append(row(f"F1, {name}", f1_given.get(name, nan), f1(place), SCORE))
    return rows + _mutual(content, theirs)


def study_f1(study: Mapping[str, Any]) -> dict[str, float]:
    """Return the study's F1 by class name, only of the classes for which it gives one."""
    given = study.get("f1")
    table = (
        {name: number(value) for name, value in given.items()} if isinstance(given, dict) else {}
    )
    return {name: value for name, value in table.items() if math.isfinite(value)}


def stability(content: ReportContent) -> list[list[str]]:
    """Return rows (metric, late spread, and where the study gives a bound: bound, verdict)."""
    bound = look(content.study, "stability")
    rows = []
    for name, path in METRICS:
        ours = over_seeds(content, lambda seed, at=path: late_spread(seed, *at))  # type: ignore[misc]
        if ours is None:
            continue
        cells = [name.capitalize(), with_spread(ours, decimal)]
        if math.isfinite(bound):
            verdict = "below it" if ours.mean < bound else "not below it"
            cells += [f"below {bound:g}", verdict]
        rows.append(cells)
    return rows


def _mutual(content: ReportContent, theirs: Mapping[str, float]) -> list[Figure]:
    """Return the rows on shirts taken for T-shirts and the reverse, where both classes exist."""
    names = content.class_names
    if SHIRT not in names or T_SHIRT not in names or content.task != "multiclass":
        return []
    shirt, t_shirt = names.index(SHIRT), names.index(T_SHIRT)
    there = theirs.get("shirt_to_tshirt", math.nan)
    back = theirs.get("tshirt_to_shirt", math.nan)
    # The study tests on the same images: its errors follow from its accuracy.
    examples = content.seeds[0].test.examples
    accuracy = theirs.get("test_accuracy", math.nan)
    every = round((1 - accuracy) * examples) if math.isfinite(accuracy) else 0
    share = (there + back) / every if every else math.nan
    return [
        Figure(
            f"{SHIRT} taken for {T_SHIRT}",
            there,
            over_seeds(content, lambda seed: mistaken(seed, shirt, t_shirt)),
            COUNT,
        ),
        Figure(
            f"{T_SHIRT} taken for {SHIRT}",
            back,
            over_seeds(content, lambda seed: mistaken(seed, t_shirt, shirt)),
            COUNT,
        ),
        Figure(
            "These two as a share of all errors",
            share,
            over_seeds(content, lambda seed: mutual_share(seed, shirt, t_shirt)),
            SHARE,
        ),
    ]
