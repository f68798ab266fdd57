"""By how much one algorithm is ahead of another, and whether that could be chance."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fedlens.report.study_content import CellResult, Group
from fedlens.report.wording import count, points

POINT = 0.01  # what fewer than three seeds leave open at least
SEEN = 1e-4  # a hundredth of a point: less is not seen in print, and is no lead
ENOUGH = 3  # seeds from which the spread over them is worth something
_LAST = 10  # the last tenth of the rounds shows how much a curve swings, five of them at least


@dataclass(frozen=True)
class Figure:
    """What algorithms are compared by.

    Attributes:
        value: of a cell; NaN where it has none.
        curve: of a cell, the same after each round; None where only the last is known.
    """

    value: Callable[[CellResult], float]
    curve: Callable[[CellResult], Sequence[float]] | None = None

    def of(self, group: Group) -> float:
        """Return the mean over the seeds of a group that have one, NaN if none has."""
        found = group.over_seeds(self.value)
        return math.nan if found is None else found.mean

    def seeds(self, group: Group) -> set[int]:
        """Return the seeds of a group that have one."""
        return {cell.seed for cell in group.cells if math.isfinite(self.value(cell))}


FINAL = Figure(lambda cell: cell.final, lambda cell: cell.accuracy)
AVERAGE = Figure(lambda cell: cell.final_average, lambda cell: cell.averaged)
WORST = Figure(lambda cell: cell.worst_client)
BYTES = Figure(lambda cell: cell.total_bytes)


def average_is_better(group: Group) -> bool:
    """Return whether its rounds' average ends above its last round on each of three seeds or more."""
    gains = [cell.final_average - cell.final for cell in group.cells]  # NaN where there is none
    return len(gains) >= ENOUGH and all(gain > SEEN for gain in gains)


def measured(groups: Sequence[Group]) -> list[Group]:
    """Return the groups with those of their seeds whose last round was measured."""
    return [group.only(sorted(seeds)) for group in groups if (seeds := FINAL.seeds(group))]


@dataclass(frozen=True)
class Lead:
    """One algorithm beside another by one figure, on the seeds that both have it for.

    Attributes:
        first, second: with the same seeds, at least one.
        figure: what they are compared by.
    """

    first: Group
    second: Group
    figure: Figure

    @classmethod
    def between(cls, first: Group, second: Group, figure: Figure = FINAL) -> "Lead | None":
        """Return the lead of ``first`` on the seeds they share, None if they share none."""
        shared = sorted(figure.seeds(first) & figure.seeds(second))
        return cls(first.only(shared), second.only(shared), figure) if shared else None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that both have."""
        return self.first.seeds

    @property
    def size(self) -> float:
        """Mean of the first minus mean of the second."""
        return self.figure.of(self.first) - self.figure.of(self.second)

    @property
    def margin(self) -> float:
        """How large a lead these seeds leave open, whoever is better.

        Both standard deviations over seeds together, so that beyond it the ranges mean ± sd do not
        meet. Fewer than three seeds leave at least a point open, and a single one as much as both
        curves vary over their last rounds (infinity where there is no curve).
        """
        both = (self.first, self.second)
        if len(self.seeds) > 1:
            spreads = [group.over_seeds(self.figure.value) for group in both]
            apart = sum(s.sd for s in spreads if s is not None and s.sd is not None)
        elif self.figure.curve is None:
            return math.inf
        else:
            apart = sum(_swing(self.figure.curve(group.cells[0])) for group in both)
        return max(SEEN if len(self.seeds) >= ENOUGH else POINT, apart)

    @property
    def clear(self) -> bool:
        """Whether it is larger than what the seeds leave open."""
        return self.size > self.margin

    @property
    def behind(self) -> bool:
        """Whether the second is ahead by more than what the seeds leave open."""
        return -self.size > self.margin

    @property
    def shown(self) -> bool:
        """Whether it is clear on three seeds or more."""
        return self.clear and len(self.seeds) >= ENOUGH

    @property
    def rank(self) -> tuple[bool, bool, int, float]:
        """What it counts for beside others: shown, then clear, then seeds up to three, then size."""
        return self.shown, self.clear, min(len(self.seeds), ENOUGH), self.size

    @property
    def on_each_seed(self) -> bool:
        """Whether the first is ahead on every seed."""
        value = self.figure.value
        pairs = zip(self.first.cells, self.second.cells, strict=True)
        return all(value(one) > value(two) for one, two in pairs)

    def standing(self, digits: int = 2) -> str:
        """Say whether it is larger than what the seeds leave open, such as ``within ...``."""
        if math.isinf(self.margin):
            return "one seed cannot show that"
        several = len(self.seeds) > 1
        limit = f"({points(self.margin, digits)} points)"
        seeds = count(len(self.seeds), "seed")
        if len(self.seeds) >= ENOUGH:
            what = f"the spread over seeds {limit}"
        else:
            what = f"what {seeds} {'leave' if several else 'leaves'} open {limit}"
        if self.clear or self.behind:
            return f"more than {what}"
        always = f", though on each of the {seeds}" if several and self.on_each_seed else ""
        return f"within {what}{always}"

    @property
    def over(self) -> str:
        """Say on how many seeds they are compared."""
        if len(self.seeds) == 1:
            return f"on one seed ({self.seeds[0]})"
        return f"over {count(len(self.seeds), 'seed')}"


def _swing(curve: Sequence[float]) -> float:
    """Return the sample standard deviation over the last tenth of the rounds, five at least.

    A curve that still rises varies too. It is zero where fewer than two of them were measured.
    """
    known = [value for value in curve[-max(5, len(curve) // _LAST) :] if math.isfinite(value)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
