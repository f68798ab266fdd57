"""What the figures of a study say, and what to use, in sentences that are computed from them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedlens.experiment.study.failures import at_chance, failures
from fedlens.experiment.study.lead import AVERAGE, FINAL, WORST, Figure, Lead
from fedlens.report.privacy_study import privacy_advice
from fedlens.report.study_content import Advice, Group, StudySummary
from fedlens.report.wording import count, decimal, listing, percent, with_spread

REFERENCE = "fedavg"  # what the others are compared with; the study's first algorithm without it


def recommend(summary: StudySummary) -> list[Advice]:
    """Return what the figures say about each partition that has a finished cell.

    Each algorithm is held against the reference (FedAvg, or the study's first algorithm) by its
    accuracy after the last round, on the seeds that both have. One of them is picked: one whose lead
    is clear on three seeds before one whose lead is clear on fewer, then the largest lead
    (:class:`~fedlens.experiment.study.lead.Lead`). It is to be used if its lead is clear on three
    seeds, and to be tried if it is clear on fewer; otherwise the reference is to be used.
    """
    if summary.kind == "privacy":
        return privacy_advice(summary)
    return [_advice(summary, key, title) for key, title in summary.begun_partitions().items()]


def _advice(summary: StudySummary, partition: str, title: str) -> Advice:
    groups = summary.groups(partition)
    wrong = failures(groups, summary.algorithms, len(summary.class_names))
    compared = _compare(summary, groups)
    if compared is None:
        said = _nothing_to_compare(summary, groups)
        return Advice(partition, title, (said, *wrong))
    reasons = [
        _ends(compared),
        _told_apart(compared),
        _average(compared),
        _cost(compared),
        _worst(compared),
        _highest_average(compared),
        *wrong,
        _left_aside(compared),
    ]
    return Advice(partition, title, tuple(filter(None, reasons)), _use(summary, compared))


@dataclass(frozen=True)
class _Compared:
    """The algorithms of a partition, held against the reference.

    Attributes:
        titles: algorithm -> its title.
        base: the reference, or the first algorithm with a finished cell where that has none.
        pick: the one that is told of.
        lead: of the pick over the reference; over the next where the pick is the reference.
        others: all but the pick that share a seed with the reference, best first.
        aside: those that share none.
    """

    titles: Mapping[str, str]
    base: Group
    pick: Group
    lead: Lead
    others: Sequence[Group]
    aside: Sequence[Group]

    def title(self, group: Group) -> str:
        return self.titles[group.algorithm]


def _compare(summary: StudySummary, groups: Sequence[Group]) -> _Compared | None:
    """Hold the algorithms against the reference; None where none shares a seed with it."""
    measured = [group for group in groups if FINAL.seeds(group)]
    if not measured:
        return None
    reference = _reference(summary)
    base = next((group for group in measured if group.algorithm == reference), measured[0])
    leads = {
        group.algorithm: lead
        for group in measured
        if group is not base and (lead := Lead.between(group, base)) is not None
    }
    if not leads:
        return None

    def strength(group: Group) -> tuple[bool, bool, float]:
        lead = leads[group.algorithm]
        return lead.shown, lead.clear, lead.size

    rivals = sorted((g for g in measured if g.algorithm in leads), key=strength, reverse=True)
    first = leads[rivals[0].algorithm]
    if first.size > 0:
        pick, lead, others = rivals[0], first, [base, *rivals[1:]]
    else:
        pick, lead, others = base, Lead(first.second, first.first, FINAL), rivals
    aside = [g for g in measured if g is not base and g.algorithm not in leads]
    return _Compared(summary.algorithms, base, pick, lead, others, aside)


def _reference(summary: StudySummary) -> str:
    return REFERENCE if REFERENCE in summary.algorithms else next(iter(summary.algorithms))


def _nothing_to_compare(summary: StudySummary, groups: Sequence[Group]) -> str:
    measured = [summary.algorithms[g.algorithm] for g in groups if FINAL.seeds(g)]
    if len(measured) > 1:
        return f"{listing(measured)} have no finished seed in common: they cannot be compared yet."
    who = f"{measured[0]} alone has" if measured else "no algorithm has"
    return f"So far {who} a finished cell here: there is nothing to compare."


def _use(summary: StudySummary, compared: _Compared) -> str:
    """Return the recommendation in one sentence."""
    lead, base = compared.lead, compared.title(compared.base)
    if summary.quick:
        return "The small version recommends nothing."
    if compared.base.algorithm != _reference(summary):
        missing = summary.algorithms[_reference(summary)]
        return (
            f"Nothing to recommend yet: {missing}, which the others are held against, is missing."
        )
    if all(at_chance(cell, len(summary.class_names)) for cell in compared.pick.cells):
        return "Use none of these: not one that was compared does better than guessing."
    pick = f"{compared.title(compared.pick)}{_with_average(compared.pick)}"
    if compared.pick is not compared.base:
        if lead.shown:
            return f"Use {pick}."
        if lead.clear:
            seeds = count(len(lead.seeds), "seed")
            return f"Worth a try: {pick}, ahead of {base}, though {seeds} cannot show it."
    use = f"{base}{_with_average(compared.base)}"
    ahead = [Lead.between(compared.base, other) for other in compared.others]
    if compared.pick is compared.base and all(found and found.shown for found in ahead):
        return f"Use {use}: it is ahead of all others that were compared."
    return f"Use {use}: no other is shown to be better{_none_cheaper(compared)}."


def _with_average(group: Group) -> str:
    """Recommend the average over the rounds where it is better on every seed that has one."""
    cells = [cell for cell in group.cells if math.isfinite(cell.final_average)]
    better = cells and all(cell.final_average > cell.final for cell in cells)
    return " with an average over the rounds" if better else ""


def _none_cheaper(compared: _Compared) -> str:
    sent = [_bytes(group) for group in compared.others if group is not compared.base]
    if compared.pick is not compared.base:
        sent.append(_bytes(compared.pick))
    ours = _bytes(compared.base)
    return ", and none sends fewer bytes" if ours and min(sent) >= 0.995 * ours else ""


def _ends(compared: _Compared) -> str:
    """Say where the pick ends, beside the reference, or beside the next where it is the reference."""
    lead, pick = compared.lead, compared.pick
    whom = f"{'the next, ' if pick is compared.base else ''}{compared.title(lead.second)}"
    said = (
        f"{compared.title(pick)} ends at {_shown(lead.first)} {lead.over}, {_beside(lead, whom)}."
    )
    if len(pick.seeds) > len(lead.seeds):
        said += f" Over all its {count(len(pick.seeds), 'seed')} it ends at {_shown(pick)}."
    return said


def _told_apart(compared: _Compared) -> str:
    """Name the others that the pick is not clearly ahead of."""
    near: list[str] = []
    ahead: list[str] = []
    for other in compared.others:
        lead = Lead.between(compared.pick, other)
        if lead is None or other.algorithm == compared.lead.second.algorithm or lead.clear:
            continue
        on = "" if lead.seeds == compared.lead.seeds else f" {lead.over}"
        words = f"{compared.title(other)} ({_shown(lead.second)}{on})"
        (ahead if lead.behind else near).append(words)
    sentences = []
    if near:
        sentences.append(f"It cannot be told apart from {listing(near)}.")
    if ahead:
        verb = "is" if len(ahead) == 1 else "are"
        sentences.append(f"{listing(ahead)} {verb} ahead of it there.")
    return " ".join(sentences)


def _average(compared: _Compared) -> str:
    """Say what averaging its rounds' models gives the pick, and how it then stands."""
    pick, base = compared.pick, compared.title(compared.base)
    seeds = sorted(AVERAGE.seeds(pick))
    if not seeds:
        return ""
    group = pick.only(seeds)
    some = f" on {len(seeds)} of its seeds" if len(seeds) < len(pick.seeds) else ""
    sentence = (
        f"The average of its rounds' models ends at {_shown(group, AVERAGE)}{some}, "
        f"{_above(AVERAGE.of(group) - FINAL.of(group))} its last round"
    )
    if pick is compared.base:
        return f"{sentence}."
    lead = Lead.between(pick, compared.base, AVERAGE)
    if lead is None:
        return f"{sentence}; {base} has none on these seeds."
    fewer = f" {lead.over}" if len(lead.seeds) < len(seeds) else ""
    whose = f"{base}'s{fewer}"
    return f"{sentence} and {_beside(lead, whose)}."


def _highest_average(compared: _Compared) -> str:
    """Name the algorithm whose average is the furthest above that of the pick, if one is."""
    leads = [Lead.between(other, compared.pick, AVERAGE) for other in compared.others]
    above = [lead for lead in leads if lead is not None and lead.size > 0]
    if not above:
        return ""
    top = max(above, key=lambda lead: (lead.shown, lead.clear, lead.size))
    return (
        f"{compared.title(top.first)}'s average ({_shown(top.first, AVERAGE)}) is "
        f"{_above(top.size)} {compared.title(compared.pick)}'s {top.over}: {top.standing()}."
    )


def _cost(compared: _Compared) -> str:
    """Say what the pick sends, in times of the reference."""
    ours, theirs = _bytes(compared.lead.first), _bytes(compared.lead.second)
    if compared.pick is compared.base or not theirs:  # trained centrally
        return ""
    who = compared.title(compared.base)
    if abs(ours / theirs - 1) < 0.005:
        return f"It sends as many bytes as {who}."
    return f"It sends {decimal(ours / theirs, 2)} times the bytes of {who}."


def _worst(compared: _Compared) -> str:
    """Say how the worst served client of the pick fares, beside that of the reference."""
    pick = compared.pick
    if not WORST.seeds(pick):
        return ""
    who = _worst_client(pick)
    lead = None if pick is compared.base else Lead.between(pick, compared.base, WORST)
    if lead is None:
        return f"{who} {_shown(pick, WORST, 1)}."
    whose = f"{compared.title(compared.base)}'s"
    return f"{who} {_shown(lead.first, WORST, 1)}, {_beside(lead, whose, 1)}."


def _worst_client(group: Group) -> str:
    """Begin a sentence about the worst served client; say so where not all are measured."""
    measured = min(len(cell.clients) for cell in group.cells)
    everyone = max(cell.federation for cell in group.cells)
    if measured >= everyone:
        return "Its worst served client gets"
    return (
        f"Of the {measured} of {everyone} clients that are measured, those whose update was used in "
        "the last round, its worst served one gets"
    )


def _left_aside(compared: _Compared) -> str:
    names = [compared.title(group) for group in compared.aside]
    if not names:
        return ""
    verb = "shares" if len(names) == 1 else "share"
    return f"{listing(names)} {verb} no seed with {compared.title(compared.base)} yet."


def _bytes(group: Group) -> float:
    return sum(cell.total_bytes for cell in group.cells) / len(group.cells)


def _beside(lead: Lead, whom: str, digits: int = 2) -> str:
    """Say how far ahead of ``whom`` it is, with the figure of that one, and whether that is clear."""
    other = _shown(lead.second, lead.figure, digits)
    return f"{_above(lead.size, digits)} {whom} ({other}): {lead.standing(digits)}"


def _above(size: float, digits: int = 2) -> str:
    text = decimal(100 * abs(size), digits)
    if not text.strip("0."):
        return "the same as"
    return f"{text} points {'above' if size > 0 else 'below'}"


def _shown(group: Group, figure: Figure = FINAL, digits: int = 2) -> str:
    return with_spread(group.over_seeds(figure.value), lambda value: percent(value, digits))
