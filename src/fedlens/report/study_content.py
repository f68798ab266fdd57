"""What the page of a study is made from: the figures of its cells, as plain values."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedlens.report.history import Spread, spread
from fedlens.report.runaway import Runaway

TARGETS = (0.80, 0.85, 0.88)  # accuracies that the rounds and bytes are counted to
LOST = 0.2  # below the best round: more than rounds swing by where training goes on
NEAR_CHANCE = 0.02  # above guessing: hardly better


@dataclass(frozen=True)
class CellResult:
    """One finished cell.

    Attributes:
        partition, algorithm, seed: its place in the grid.
        accuracy: (R,) of the global model after each round, in [0, 1]; NaN where not measured.
        sent: (R,) bytes down and up from the first round to the end of each.
        f1: (L,) of each class after the last round, in the order of the summary's class names.
        clients: accuracy of the global model for each client of the last round's cohort.
        federation: clients in the whole federation.
        cosines: (R,) mean cosine between an update and the mean update; NaN where there is none.
        seconds: wall-clock time of all rounds.
        folder: the run directory.
        config: its whole configuration.
        environment: what it was made with.
        privacy: what it spent at its end (``epsilon``, ``delta``, ``unit``, ``account``,
            ``releases``); empty without privacy.
        averaged: (R,) accuracy of the average of the rounds' models; empty where they were not
            averaged.
        runaway: the first update that was far longer than the others of its round; None if none
            was, or if lengths are not known.
    """

    partition: str
    algorithm: str
    seed: int
    accuracy: tuple[float, ...]
    sent: tuple[int, ...]
    f1: tuple[float, ...]
    clients: tuple[float, ...]
    federation: int
    cosines: tuple[float, ...]
    seconds: float
    folder: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    privacy: Mapping[str, Any] = field(default_factory=dict)
    averaged: tuple[float, ...] = ()
    runaway: Runaway | None = None

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return len(self.accuracy)

    @property
    def final(self) -> float:
        """Accuracy after the last round."""
        return self.accuracy[-1]

    @property
    def best_round(self) -> int | None:
        """Round with the highest accuracy, from 1, the first of equals; None if none is known."""
        known = [value for value in self.accuracy if not math.isnan(value)]
        return self.accuracy.index(max(known)) + 1 if known else None

    @property
    def best(self) -> float:
        """Accuracy of the best round."""
        place = self.best_round
        return math.nan if place is None else self.accuracy[place - 1]

    @property
    def final_average(self) -> float:
        """Accuracy of the average of the rounds' models after the last; NaN without one."""
        return self.averaged[-1] if self.averaged else math.nan

    @property
    def total_bytes(self) -> int:
        """Bytes down and up over all rounds."""
        return self.sent[-1]

    @property
    def worst_client(self) -> float:
        """Lowest accuracy over the clients of the last round."""
        return min(self.clients, default=math.nan)

    @property
    def client_range(self) -> float:
        """Highest minus lowest accuracy over the clients of the last round."""
        return max(self.clients, default=math.nan) - self.worst_client

    @property
    def client_sd(self) -> float:
        """Sample standard deviation (n - 1) over those clients; NaN for fewer than two."""
        return float(np.std(self.clients, ddof=1)) if len(self.clients) > 1 else math.nan

    @property
    def mean_cosine(self) -> float:
        """Mean cosine over the rounds that have one, before the model was lost.

        Updates to a model that is lost may all point the same way, which is no agreement. Where
        nothing was learned they count until one ran away.
        """
        end = self.lost_in if self.ran_away is None else self.ran_away.round
        rounds = self.cosines if end is None else self.cosines[: end - 1]
        known = [value for value in rounds if not math.isnan(value)]
        return float(np.mean(known)) if known else math.nan

    @property
    def at_chance(self) -> bool:
        """Whether it ends hardly better than guessing one of equally frequent classes."""
        return len(self.f1) > 1 and self.final <= 1 / len(self.f1) + NEAR_CHANCE

    @property
    def ran_away(self) -> Runaway | None:
        """The runaway update, where nothing was learned and there is so no loss to date."""
        return self.runaway if self.at_chance and self.lost_in is None else None

    @property
    def stopped(self) -> int | None:
        """Last round in which a client's update could be used, where none could after it."""
        last = max((n for n, c in enumerate(self.cosines, start=1) if not math.isnan(c)), default=0)
        return last if 0 < last < self.rounds else None

    @property
    def lost_in(self) -> int | None:
        """First round from which it stayed 20 points or more below its best; None if it did not."""
        limit = self.best - LOST + 1e-9  # 0.7 to 0.5 is a loss, whatever floating point makes of it
        if not self.final <= limit:
            return None
        return 1 + max(n for n, value in enumerate(self.accuracy, start=1) if value > limit)

    def reached(self, target: float) -> int | None:
        """Return the first round with at least ``target`` accuracy, or None."""
        return next((n for n, a in enumerate(self.accuracy, start=1) if a >= target), None)

    def bytes_to(self, target: float) -> int | None:
        """Return the bytes down and up until ``target`` was first reached, or None."""
        place = self.reached(target)
        return None if place is None else self.sent[place - 1]


@dataclass(frozen=True)
class Group:
    """The finished seeds of one algorithm on one partition, at least one, ascending."""

    partition: str
    algorithm: str
    cells: tuple[CellResult, ...]

    def over_seeds(self, figure: Callable[[CellResult], float]) -> Spread | None:
        """Return mean and sample standard deviation (n - 1) of a figure over the seeds."""
        return spread([figure(cell) for cell in self.cells])

    @property
    def seeds(self) -> tuple[int, ...]:
        """Root seeds of the cells."""
        return tuple(cell.seed for cell in self.cells)

    @property
    def stopped(self) -> list[int]:
        """Of the seeds that ended without a usable update, the last round that had one."""
        return [cell.stopped for cell in self.cells if cell.stopped is not None]

    @property
    def lost_in(self) -> list[int]:
        """Of the seeds that lost what they had learned, the round in which they did."""
        return [cell.lost_in for cell in self.cells if cell.lost_in is not None]

    def only(self, seeds: Sequence[int]) -> "Group":
        """Return the group with the cells of ``seeds``."""
        kept = tuple(cell for cell in self.cells if cell.seed in seeds)
        return Group(self.partition, self.algorithm, kept)


@dataclass(frozen=True)
class MissingCell:
    """A cell that is not finished, and how far it is, in words (empty if not begun)."""

    partition: str
    algorithm: str
    seed: int
    state: str = ""

    @property
    def name(self) -> str:
        """``partition/algorithm/seed``, as ``--only`` takes it."""
        return f"{self.partition}/{self.algorithm}/{self.seed}"


@dataclass(frozen=True)
class StudySummary:
    """The figures of a study.

    Attributes:
        name: of the study.
        title, about: what was compared, in words.
        partitions, algorithms: name -> title, in the study's order.
        class_names: L names, those to be shown first in front.
        cells: the finished cells, by partition, algorithm and seed.
        missing: the others.
        published: partition -> who -> the figure, as printed by its authors.
        measured_on: the split that each round is measured on, in words.
        sampled: each round has a cohort that was drawn, not all clients.
        targets: accuracies that rounds and bytes are counted to.
        quick: this is the small version of the study.
        called: what the command line calls it: its name, or the path of its file.
        kind: what its page shows: ``algorithms`` (whose rows are algorithms on partitions), or
            ``privacy`` (whose rows are budgets and networks, in settings).
    """

    name: str
    title: str
    about: str
    partitions: Mapping[str, str]
    algorithms: Mapping[str, str]
    class_names: tuple[str, ...]
    cells: tuple[CellResult, ...]
    missing: tuple[MissingCell, ...] = ()
    published: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    measured_on: str = "test split"
    sampled: bool = False
    targets: tuple[float, ...] = TARGETS
    quick: bool = False
    called: str = ""
    kind: str = "algorithms"

    @property
    def total(self) -> int:
        """Number of cells of the whole grid."""
        return len(self.cells) + len(self.missing)

    def group(self, partition: str, algorithm: str) -> Group | None:
        """Return the finished seeds of an algorithm on a partition; None if there is none."""
        cells = [c for c in self.cells if (c.partition, c.algorithm) == (partition, algorithm)]
        cells.sort(key=lambda cell: cell.seed)
        return Group(partition, algorithm, tuple(cells)) if cells else None

    def groups(self, partition: str) -> list[Group]:
        """Return the groups of a partition that have a finished cell, in the study's order."""
        found = (self.group(partition, algorithm) for algorithm in self.algorithms)
        return [group for group in found if group is not None]

    def begun_partitions(self) -> dict[str, str]:
        """Return name -> title of the partitions that have a finished cell."""
        return {key: title for key, title in self.partitions.items() if self.groups(key)}

    def begun_algorithms(self) -> dict[str, str]:
        """Return name -> title of the algorithms that have a finished cell."""
        begun = {cell.algorithm for cell in self.cells}
        return {key: title for key, title in self.algorithms.items() if key in begun}


@dataclass(frozen=True)
class Advice:
    """What the figures say about one partition.

    Attributes:
        partition, title: its name, and in words.
        reasons: what the figures say, a sentence or two each.
        use: what is to be used there, or why nothing is recommended, in a sentence; empty where there
            is nothing to compare.
    """

    partition: str
    title: str
    reasons: tuple[str, ...]
    use: str = ""

    @property
    def text(self) -> str:
        """The recommendation and what it rests on, as one paragraph."""
        return " ".join(filter(None, [self.use, *self.reasons]))
