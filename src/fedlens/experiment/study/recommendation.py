"""What to use for a federation like those of a study, computed from its figures."""

from collections.abc import Sequence

from fedlens.experiment.study.comparison import (
    REFERENCE,
    Comparison,
    compare,
    held_against,
    reference,
)
from fedlens.experiment.study.failures import failed, failures, on_seeds, sound
from fedlens.experiment.study.lead import BYTES, Lead, average_is_better, measured
from fedlens.experiment.study.reasons import average_above, reasons
from fedlens.report.privacy_study import privacy_advice
from fedlens.report.study_content import Advice, Group, StudySummary
from fedlens.report.wording import count, listing

__all__ = ["recommend"]


def recommend(summary: StudySummary) -> list[Advice]:
    """Return what the figures say about each partition that has a finished cell, and what to use.

    Each algorithm is held against FedAvg by its accuracy after the last round, on the seeds that both
    have (:func:`~fedlens.experiment.study.comparison.compare`). The one that is told of is to be used
    if its lead counts on three seeds and it failed on none; to be tried if its lead counts at all, or
    if FedAvg failed on those seeds and it did not. Else FedAvg is to be used, unless it failed. An
    average over the rounds is advised with either where it is better than the last round on each of
    three seeds or more.

    A small version, or one where FedAvg has no figure, recommends nothing; a study without FedAvg
    holds the others against its first algorithm, which it recommends only if that is ahead of all.
    """
    if summary.kind == "privacy":
        return privacy_advice(summary)
    return [_advice(summary, key, title) for key, title in summary.begun_partitions().items()]


def _advice(summary: StudySummary, partition: str, title: str) -> Advice:
    groups = summary.groups(partition)
    wrong = failures(groups, summary.algorithms, len(summary.class_names))
    comparison = compare(summary, partition)
    if comparison is None:
        return Advice(partition, title, (_nothing_to_compare(summary, groups), *wrong))
    return Advice(partition, title, (*reasons(comparison), *wrong), _use(summary, comparison))


def _nothing_to_compare(summary: StudySummary, groups: Sequence[Group]) -> str:
    known = measured(groups)
    base = summary.algorithms[held_against(summary, known).algorithm] if known else ""
    if len(known) > 1:
        return f"No finished seed is shared with {base}: nothing can be compared yet."
    who = f"{base} alone has" if known else "no algorithm has"
    return f"So far {who} a figure here: there is nothing to compare."


def _use(summary: StudySummary, comparison: Comparison) -> str:
    """Return the recommendation, or why there is none, in a sentence."""
    name = reference(summary)
    everyone = [comparison.pick, *comparison.others, *comparison.aside]
    if summary.quick:
        return "The small version recommends nothing."
    if comparison.base.algorithm != name:
        missing = summary.algorithms[name]
        return f"Nothing to recommend yet: {missing}, which others are held against, has no figure."
    if not any(_learned(group) for group in everyone):
        return "Use none of these: all end hardly better than guessing."
    return _use_pick(comparison) or _use_base(comparison, known=name == REFERENCE)


def _use_pick(comparison: Comparison) -> str:
    """Recommend the pick, or to try it, if its lead over the reference says so; else nothing."""
    lead, pick = comparison.lead, comparison.pick
    who, base = comparison.title(pick), comparison.title(comparison.base)
    if comparison.base_is_pick:
        return ""
    if lead.shown and sound(pick):
        return f"Use {who}{_averaged(comparison, pick)}."
    if lead.clear and _learned(pick):
        doubts = [] if lead.shown else [f"{count(len(lead.seeds), 'seed')} cannot show it"]
        doubts += [] if sound(pick) else [f"it fails{_on_seeds(pick)}"]
        return f"Worth a try: {who}, ahead of {base}, though {listing(doubts)}."
    if sound(pick) and not sound(lead.second):
        return f"Worth a try: {who}, which does not fail as {base} does{_on_seeds(lead.second)}."
    return ""


def _use_base(comparison: Comparison, *, known: bool) -> str:
    """Recommend the reference, if it is ``known`` to be what one begins with and did not fail."""
    base = comparison.base
    who = comparison.title(base)
    if not sound(base):
        fails = f"{who} fails{_on_seeds(base)}"
        return f"Nothing to recommend: {fails}, and no other is shown to be better."
    leads = [Lead.between(base, other) for other in (*comparison.others, *comparison.aside)]
    ahead = comparison.base_is_pick and all(lead is not None and lead.shown for lead in leads)
    if not known and not ahead:
        return f"None is shown to be better than {who}."
    why = "it is ahead of all others here" if ahead else "no other is shown to be better"
    cheap = "" if ahead else _none_cheaper(comparison)
    return f"Use {who}{_averaged(comparison, base)}: {why}{cheap}."


def _averaged(comparison: Comparison, group: Group) -> str:
    """Add the average over the rounds to a recommendation, or who is ahead by it."""
    lead = average_above(comparison, group)
    if lead is not None and lead.shown:
        return f" (by averages over the rounds {comparison.title(lead.first)} is ahead)"
    return " with an average over the rounds" if average_is_better(group) else ""


def _none_cheaper(comparison: Comparison) -> str:
    """Say that no other sends fewer bytes than the reference on the same seeds, where that is so."""
    if not BYTES.of(comparison.base):  # trained centrally
        return ""
    others = [comparison.pick, *comparison.others, *comparison.aside]
    leads = [Lead.between(group, comparison.base, BYTES) for group in others]
    fewest = all(lead is not None and lead.size >= 0 for lead in leads)
    return ", and none sends fewer bytes" if fewest else ""


def _learned(group: Group) -> bool:
    return not all(cell.at_chance for cell in group.cells)


def _on_seeds(group: Group) -> str:
    return on_seeds(failed(group), group)
