"""What went wrong in the cells of a study, in sentences: models lost, never learned, not measured."""

import math
from collections.abc import Callable, Mapping, Sequence

from fedlens.experiment.study.lead import measured
from fedlens.report.runaway import remedy
from fedlens.report.study_content import CellResult, Group
from fedlens.report.wording import count, listing, percent, spelled


def failures(groups: Sequence[Group], titles: Mapping[str, str], classes: int) -> list[str]:
    """Return a sentence for each kind of failure that cells of these algorithms show.

    Args:
        groups: the algorithms of one partition, with all their finished seeds.
        titles: algorithm -> its title.
        classes: number of them, which says what guessing gives.
    """
    known = measured(groups)
    found = [
        _lost(known, titles),
        _at_chance(known, titles, classes),
        _stopped(known, titles),
        _unmeasured(groups, titles),
    ]
    return [sentence for sentence in found if sentence]


def failed(group: Group) -> list[CellResult]:
    """Return the cells of a group that lost what they learned, learned nothing, or came to a stop."""
    return [
        cell
        for cell in group.cells
        if cell.lost_in is not None or cell.stopped is not None or cell.at_chance
    ]


def sound(group: Group) -> bool:
    """Return whether no cell of a group failed."""
    return not failed(group)


def on_seeds(cells: Sequence[CellResult], group: Group) -> str:
    """Say on how many of a group's seeds something happened, where not on all."""
    if len(cells) == len(group.cells):
        return ""
    return f" on {spelled(len(cells))} of {count(len(group.cells), 'seed')}"


def _lost(groups: Sequence[Group], titles: Mapping[str, str]) -> str:
    """Name who lost what had been learned, and the client that went far ahead of the others by then."""
    words, remedies = [], []
    for group, cells in _where(groups, lambda cell: cell.lost_in is not None):
        first = min(cells, key=lambda cell: cell.lost_in or 0)
        told = f"{percent(first.best, 1)} at best, {percent(first.final, 1)} at the end"
        far = first.runaway
        if far is not None and far.round <= (first.lost_in or 0):
            told += f"; client {far.client} in round {far.round}: {far.times_in_words} times"
            remedies.append(remedy(first.config.get("federation", {})))
        when = _when("in", first.lost_in, cells, group)
        words.append(f"{titles[group.algorithm]} {when} ({told})")
    if not words:
        return ""
    how = (
        ". Where a client is named its update was the first to be ten or more times as long as the "
        "median of its round. "
        if remedies
        else "."
    )
    return f"Lost what had been learned: {listing(words)}{how}{' '.join(dict.fromkeys(remedies))}"


def _at_chance(groups: Sequence[Group], titles: Mapping[str, str], classes: int) -> str:
    """Name who learned nothing, and the client that went far ahead of the others."""
    words = []
    for group, cells in _where(groups, lambda cell: cell.lost_in is None and cell.at_chance):
        away = [cell.ran_away for cell in cells if cell.ran_away is not None]
        first = min(away, key=lambda far: far.round, default=None)
        told = (
            ""
            if first is None
            else f" (client {first.client}'s update in round {first.round} was "
            f"{first.times_in_words} times as long as the median)"
        )
        words.append(f"{titles[group.algorithm]}{on_seeds(cells, group)}{told}")
    if not words:
        return ""
    verb = "ends" if len(words) == 1 else "end"
    return f"{listing(words)} {verb} hardly better than guessing ({percent(1 / classes, 1)})."


def _stopped(groups: Sequence[Group], titles: Mapping[str, str]) -> str:
    """Name the algorithms whose rounds came to nothing before the end, though nothing was lost."""
    words = []
    for group, cells in _where(groups, lambda c: c.lost_in is None and c.stopped is not None):
        first = min(cell.stopped or 0 for cell in cells)
        words.append(f"{titles[group.algorithm]} {_when('after', first, cells, group)}")
    return f"No client's update could be used any more: {listing(words)}." if words else ""


def _unmeasured(groups: Sequence[Group], titles: Mapping[str, str]) -> str:
    words = [
        f"{titles[group.algorithm]}{on_seeds(cells, group)}"
        for group, cells in _where(groups, lambda cell: not math.isfinite(cell.final))
    ]
    return f"There is no accuracy of the last round for {listing(words)}." if words else ""


def _where(
    groups: Sequence[Group], holds: Callable[[CellResult], bool]
) -> list[tuple[Group, list[CellResult]]]:
    """Return the groups with a cell for which something holds, and those cells of each."""
    found = [(group, [cell for cell in group.cells if holds(cell)]) for group in groups]
    return [(group, cells) for group, cells in found if cells]


def _when(word: str, first: int | None, cells: Sequence[CellResult], group: Group) -> str:
    """Say in which round something happened, the first one where it happened on several seeds."""
    earliest = "first " if len(cells) > 1 else ""
    return f"{earliest}{word} round {first}{on_seeds(cells, group)}"
