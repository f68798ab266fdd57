"""The tables of a study: algorithms down, partitions across."""

from collections.abc import Callable

import numpy as np

from fedlens.report.history import Spread
from fedlens.report.study_content import LOST, CellResult, Group, StudySummary
from fedlens.report.tables import Table
from fedlens.report.wording import NONE, count, decimal, duration, percent, size, with_spread

NEVER = "never"


def accuracy_table(summary: StudySummary) -> Table:
    """Return final accuracy, the best round's under it, and the published figures in rows below."""
    partitions = summary.begun_partitions()

    def both(group: Group) -> str:
        final = _points(group.over_seeds(lambda cell: cell.final))
        best = _points(group.over_seeds(lambda cell: cell.best))
        average = group.over_seeds(lambda cell: cell.final_average)
        lines = [final, f"best {best}"]
        if average:
            lines.append(f"average {_points(average)}{_of(average.count, group)}")
        return "\n".join(lines + _came_to_nothing(group))

    rows = _rows(summary, both)
    publishers = {who: None for key in partitions for who in summary.published.get(key, {})}
    for who in publishers:
        given = [summary.published.get(key, {}).get(who, NONE) for key in partitions]
        rows.append([who, *(text.replace(" (", "\n(", 1) for text in given)])
    averaged = (
        ", and that of the average of the rounds' models after the last"
        if any(cell.averaged for cell in summary.cells)
        else ""
    )
    published = (
        " The rows at the foot are published: what each source's best algorithm reached in its best "
        "round, to be held against the best rounds here."
        if publishers
        else ""
    )
    return _table(
        f"Accuracy on the {summary.measured_on} after the last round, in percent{_over(summary)}; "
        f"under it that of the best round, which nobody knows beforehand{averaged}.{_ends(summary)}"
        f"{published}",
        summary,
        rows,
    )


def target_table(summary: StudySummary, target: float) -> Table:
    """Return rounds, and under them bytes down and up, until ``target`` was first reached."""

    def cell(group: Group) -> str:
        rounds = [c.reached(target) for c in group.cells]
        reached = [n for n in rounds if n is not None]
        if not reached:
            return NEVER
        sent = [n for n in (c.bytes_to(target) for c in group.cells) if n is not None]
        some = _of(len(reached), group)
        mean = float(np.mean(reached))
        return (
            f"{decimal(mean, 0 if mean == round(mean) else 1)}{some}\n{size(float(np.mean(sent)))}"
        )

    return _table(
        f"Rounds until {percent(target, 0)} was first reached, and under them the bytes sent until "
        "then, down and up. With several seeds: the mean of those that reached it, with their "
        "number if not all did.",
        summary,
        _rows(summary, cell),
    )


def class_table(summary: StudySummary, partition: str) -> Table:
    """Return F1 of each class after the last round on one partition."""

    def f1(place: int) -> Callable[[CellResult], float]:
        return lambda cell: cell.f1[place]

    rows = [
        [
            summary.algorithms[group.algorithm],
            *(
                "\n± ".join(with_spread(group.over_seeds(f1(n)), _three).split("\u00a0±\u00a0"))
                for n in range(len(summary.class_names))
            ),
        ]
        for group in summary.groups(partition)
    ]
    return Table(
        f"{summary.partitions[partition]}: F1 of each class on the {summary.measured_on} after the "
        f"last round{_over(summary)}.",
        ["Algorithm", *summary.class_names],
        rows,
        stacked=True,
    )


def fairness_table(summary: StudySummary) -> Table:
    """Return the worst client's accuracy, and under it the range and deviation over clients."""

    def cell(group: Group) -> str:
        worst = group.over_seeds(lambda c: c.worst_client)
        apart = group.over_seeds(lambda c: c.client_range)
        sd = group.over_seeds(lambda c: c.client_sd)
        return (
            f"{_points(worst, 1)}\nrange {_points(_mean_only(apart), 1)}, "
            f"sd {_points(_mean_only(sd), 1)}"
        )

    return _table(
        f"Accuracy for the worst served client after the last round, in percent{_over(summary)}; "
        "under it how far apart the clients are: the highest minus the lowest, and the standard "
        "deviation over clients, in points.",
        summary,
        _rows(summary, cell),
    )


def drift_table(summary: StudySummary) -> Table:
    """Return the mean cosine between a client's update and the mean update."""

    def cell(group: Group) -> str:
        every = with_spread(group.over_seeds(lambda c: c.mean_cosine), _two)
        last = with_spread(_mean_only(group.over_seeds(lambda c: c.cosines[-1])), _two)
        under = _came_to_nothing(group) or _ran_away(group) or [f"last {last}"]
        return "\n".join([every, *under])

    return _table(
        "Cosine between a client's update and the mean update, mean over clients and rounds"
        f"{_over(summary)}; under it that of the last round, or when a cell came to nothing. 1: all "
        "pull the same way. The mean holds the client's own update: where n clients' updates are "
        "equally long and have nothing in common each has 1/√n (0.32 for ten); less means that they "
        "pull against each other. Rounds from a loss on do not count, nor, where a cell ends hardly "
        "better than guessing, those from its first update of ten times the median length on (its "
        f"runaway).{_ends(summary)}",
        summary,
        _rows(summary, cell),
    )


def cost_table(summary: StudySummary) -> Table:
    """Return seconds per round, and under them the bytes of the whole run."""

    def cell(group: Group) -> str:
        seconds = group.over_seeds(lambda c: c.seconds / c.rounds)
        sent = group.over_seeds(lambda c: c.total_bytes)
        shown = NONE if seconds is None else duration(seconds.mean)
        return f"{shown}\n{NONE if sent is None else size(sent.mean)}"

    return _table(
        "Wall-clock time of a round, mean over rounds and seeds, and under it the bytes of a whole "
        "run, down and up. Cells ran side by side and on machines that had other work, so the times "
        "are upper bounds and tell no algorithm from another.",
        summary,
        _rows(summary, cell),
    )


def missing_table(summary: StudySummary) -> Table:
    """Return the cells that are not finished, a row a partition."""
    rows = []
    for partition, title in summary.partitions.items():
        words = []
        for algorithm, name in summary.algorithms.items():
            found = [
                f"{cell.seed} ({cell.state})" if cell.state else str(cell.seed)
                for cell in summary.missing
                if (cell.partition, cell.algorithm) == (partition, algorithm)
            ]
            words += [f"{name} {', '.join(found)}"] if found else []
        if words:
            rows.append([title, "; ".join(words)])
    return Table(
        "Seeds of each algorithm that are not finished; a round is given where one has begun.",
        ("Partition", "Algorithm and seeds"),
        rows,
        words=(1,),
    )


def _rows(summary: StudySummary, cell: Callable[[Group], str]) -> list[list[str]]:
    """Return a row an algorithm: its title, then ``cell`` of each partition."""
    rows = []
    for algorithm, title in summary.begun_algorithms().items():
        groups = [summary.group(key, algorithm) for key in summary.begun_partitions()]
        rows.append([title, *(NONE if group is None else cell(group) for group in groups)])
    return rows


def _ends(summary: StudySummary) -> str:
    """Explain the lines of :func:`_came_to_nothing`, as far as the tables have them."""
    groups = [group for key in summary.partitions for group in summary.groups(key)]
    said = ""
    if any(group.lost_in for group in groups):
        said += f" Lost: {100 * LOST:.0f} points or more below its best round, to the end."
    if any(group.stopped and not group.lost_in for group in groups):
        said += (
            " No update after a round: no client's could be used from then on, as where none is "
            "finite."
        )
    return said


def _came_to_nothing(group: Group) -> list[str]:
    """Return a line that says when a model was lost, or when its last update was used, if so."""
    if group.lost_in:
        return [f"lost in round {min(group.lost_in)}{_of(len(group.lost_in), group)}"]
    if group.stopped:
        return [f"no update after round {min(group.stopped)}{_of(len(group.stopped), group)}"]
    return []


def _ran_away(group: Group) -> list[str]:
    """Return a line that says when a client ran away where nothing was learned, if one did."""
    rounds = [cell.ran_away.round for cell in group.cells if cell.ran_away is not None]
    return [f"runaway in round {min(rounds)}{_of(len(rounds), group)}"] if rounds else []


def _of(some: int, group: Group) -> str:
    """Return on how many of a group's seeds something holds, where not on all."""
    return f" ({some} of {len(group.cells)})" if some < len(group.cells) else ""


def _table(caption: str, summary: StudySummary, rows: list[list[str]]) -> Table:
    rows_are = "Budget" if summary.kind == "privacy" else "Algorithm"
    columns = [rows_are, *summary.begun_partitions().values()]
    return Table(caption, columns, rows, stacked=True)


def _over(summary: StudySummary) -> str:
    """Return how seeds are shown, or nothing where each figure is of one seed."""
    most = max(
        (len(group.seeds) for key in summary.partitions for group in summary.groups(key)), default=0
    )
    if most < 2:
        return ", one seed"
    return f" (mean ± sd of up to {count(most, 'seed')}; one seed where no sd stands)"


def _points(value: Spread | None, digits: int = 2) -> str:
    return with_spread(value, lambda share: decimal(100 * share, digits))


def _mean_only(value: Spread | None) -> Spread | None:
    return None if value is None else Spread(value.mean, None, value.count)


def _two(value: float) -> str:
    return decimal(value, 2)


def _three(value: float) -> str:
    return decimal(value, 3)
