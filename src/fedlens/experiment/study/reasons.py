"""What the figures of one partition say of the algorithm that is told of, a sentence or two each."""

from fedlens.experiment.study.comparison import Comparison
from fedlens.experiment.study.failures import sound
from fedlens.experiment.study.lead import (
    AVERAGE,
    BYTES,
    FINAL,
    WORST,
    Figure,
    Lead,
    average_is_better,
)
from fedlens.report.study_content import Group
from fedlens.report.wording import count, decimal, listing, percent, points, spelled, with_spread


def reasons(comparison: Comparison) -> list[str]:
    """Return how the pick of a comparison stands beside the reference and the others."""
    found = [
        _ends(comparison),
        _told_apart(comparison),
        _average(comparison),
        _average_of_base(comparison),
        _cost(comparison),
        _worst(comparison),
        _higher_average(comparison),
        _left_aside(comparison),
    ]
    return [sentence for sentence in found if sentence]


def average_above(comparison: Comparison, group: Group) -> Lead | None:
    """Return by how much another's average is above that of ``group``; None if none is.

    Of several it is the lead that counts for most.
    """
    others = [comparison.pick, *comparison.others]
    leads = [Lead.between(other, group, AVERAGE) for other in others if other is not group]
    above = [lead for lead in leads if lead is not None and _differs(lead.size) and lead.size > 0]
    return max(above, key=lambda lead: lead.rank, default=None)


def _ends(comparison: Comparison) -> str:
    """Say where the pick ends, beside the reference, or beside another where it is the reference."""
    lead, pick = comparison.lead, comparison.pick
    said = (
        f"{comparison.title(pick)} ends at {_shown(lead.first)} {lead.over}, "
        f"{_beside(lead, comparison.title(lead.second))}."
    )
    if len(pick.seeds) > len(lead.seeds):
        said += f" Over all its {count(len(pick.seeds), 'seed')} it ends at {_shown(pick)}."
    return said


def _told_apart(comparison: Comparison) -> str:
    """Name the others that the pick is not clearly ahead of.

    One below the pick that failed on a seed that both have, where the pick failed on none of them, is
    told apart by that: the spread that it is within is made by its failure.
    """
    near: list[str] = []
    ahead: list[str] = []
    for other in comparison.others:
        lead = Lead.between(comparison.pick, other)
        if lead is None or other.algorithm == comparison.lead.second.algorithm or lead.clear:
            continue
        on = "" if lead.seeds == comparison.lead.seeds else f" {lead.over}"
        words = f"{comparison.title(other)} ({_shown(lead.second)}{on})"
        failed = sound(lead.first) and not sound(lead.second)
        if lead.behind:
            ahead.append(words)
        elif lead.size <= 0 or not failed:
            near.append(words)
    who = comparison.title(comparison.pick)
    sentences = []
    if near:
        sentences.append(f"{who} cannot be told apart from {listing(near)}.")
    if ahead:
        verb = "is" if len(ahead) == 1 else "are"
        sentences.append(f"{listing(ahead)} {verb} ahead of {who} on the same seeds.")
    return " ".join(sentences)


def _average(comparison: Comparison) -> str:
    """Say what averaging its rounds' models gives the pick, and how it then stands."""
    pick = comparison.pick
    seeds = sorted(AVERAGE.seeds(pick))
    if not seeds:
        return ""
    said = f"The average of {comparison.title(pick)}'s rounds ends at {_gain(pick.only(seeds))}"
    return _beside_base(comparison, said, AVERAGE)


def _average_of_base(comparison: Comparison) -> str:
    """Say what the reference gains by an average, where that is advised or the pick has none."""
    base = comparison.base
    told = comparison.lead.shown and AVERAGE.seeds(comparison.pick)
    if comparison.base_is_pick or told or not average_is_better(base):
        return ""
    return f"{comparison.title(base)}'s average ends at {_gain(base)}."


def _higher_average(comparison: Comparison) -> str:
    """Name an algorithm whose average is above that of the pick, but for the reference, told before."""
    lead = average_above(comparison, comparison.pick)
    if lead is None or lead.first.algorithm == comparison.base.algorithm:
        return ""
    whose = f"{comparison.title(lead.first)}'s average ({_shown(lead.first, AVERAGE)})"
    beside = _beside(lead, f"{comparison.title(comparison.pick)}'s")
    return f"{lead.over.capitalize()} {whose} is {beside}."


def _cost(comparison: Comparison) -> str:
    """Say what the pick sends, in times of the reference."""
    lead, who = comparison.lead, comparison.title(comparison.base)
    ours, theirs = BYTES.of(lead.first), BYTES.of(lead.second)
    if comparison.base_is_pick or not ours or not theirs:  # trained centrally
        return ""
    if abs(ours / theirs - 1) < 0.005:
        return f"{comparison.title(comparison.pick)} sends as many bytes as {who}."
    times = decimal(ours / theirs, 2)
    return f"{comparison.title(comparison.pick)} sends {times} times the bytes of {who}."


def _worst(comparison: Comparison) -> str:
    """Say how the worst served client of the pick fares, beside that of the reference."""
    seeds = sorted(WORST.seeds(comparison.pick))
    if not seeds:
        return ""
    served = comparison.pick.only(seeds)
    said = f"{_worst_client(comparison, served)} {_shown(served, WORST, 1)}"
    return _beside_base(comparison, said, WORST, 1)


def _beside_base(comparison: Comparison, said: str, figure: Figure, digits: int = 2) -> str:
    """Go on from a figure of all seeds of the pick to how it stands beside that of the reference."""
    pick, base = comparison.pick, comparison.title(comparison.base)
    seeds = figure.seeds(pick)
    if len(seeds) < len(pick.seeds):
        said += f" on {spelled(len(seeds))} of its {count(len(pick.seeds), 'seed')}"
    if comparison.base_is_pick:
        return f"{said}."
    lead = Lead.between(pick, comparison.base, figure)
    if lead is None:
        return f"{said}; {base} has none on the same seeds."
    beside = _beside(lead, f"{base}'s", digits)
    if len(lead.seeds) == len(seeds):
        return f"{said}, {beside}."
    return f"{said}. {lead.over.capitalize()} it is {_shown(lead.first, figure, digits)}, {beside}."


def _worst_client(comparison: Comparison, group: Group) -> str:
    """Begin a sentence about the worst served client; say so where not all are measured."""
    who = comparison.title(group)
    measured = min(len(cell.clients) for cell in group.cells)
    everyone = max(cell.federation for cell in group.cells)
    if measured >= everyone:
        return f"{who}'s worst served client gets"
    return (
        f"Of the {measured} of {everyone} clients that are measured, those whose update was used in "
        f"the last round, {who}'s worst served one gets"
    )


def _left_aside(comparison: Comparison) -> str:
    names = [comparison.title(group) for group in comparison.aside]
    if not names:
        return ""
    verb = "shares" if len(names) == 1 else "share"
    return f"{listing(names)} {verb} no seed with {comparison.title(comparison.base)} yet."


def _gain(group: Group) -> str:
    """Say where an average ends, and how far that is from the last round on the same seeds."""
    size = AVERAGE.of(group) - FINAL.of(group)
    return f"{_shown(group, AVERAGE)}, {_above(size)} its last round"


def _beside(lead: Lead, whom: str, digits: int = 2) -> str:
    """Say how far ahead of ``whom`` it is, with the figure of that one, and whether that counts."""
    other = f"{_above(lead.size, digits)} {whom} ({_shown(lead.second, lead.figure, digits)})"
    return f"{other}: {lead.standing(digits)}" if _differs(lead.size, digits) else other


def _above(size: float, digits: int = 2) -> str:
    if not _differs(size, digits):
        return "the same as"
    return f"{points(abs(size), digits)} points {'above' if size > 0 else 'below'}"


def _differs(size: float, digits: int = 2) -> bool:
    """Return whether a difference is seen with so many digits."""
    return bool(points(abs(size), digits).strip("0."))


def _shown(group: Group, figure: Figure = FINAL, digits: int = 2) -> str:
    return with_spread(group.over_seeds(figure.value), lambda value: percent(value, digits))
