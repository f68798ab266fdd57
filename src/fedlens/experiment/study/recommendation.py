"""What to use for a federation like those of a study, computed from its figures."""

from collections.abc import Sequence

from fedlens.experiment.study.comparison import (
    REFERENCE,
    Comparison,
    compare,
    measured,
    reference,
)
from fedlens.experiment.study.failures import at_chance, failed, failures, on_seeds
from fedlens.experiment.study.lead import BYTES, Lead, average_is_better
from fedlens.experiment.study.reasons import average_above, reasons
from fedlens.report.privacy_study import privacy_advice
from fedlens.report.study_content import Advice, Group, StudySummary
from fedlens.report.wording import count

__all__ = ["recommend"]


def recommend(summary: StudySummary) -> list[Advice]:
    """Return what the figures say about each partition that has a finished cell, and what to use.

    Each algorithm is held against FedAvg by its accuracy after the last round, on the seeds that both
    have (:func:`~fedlens.experiment.study.comparison.compare`). The one that is told of is to be used
    if its lead counts on three seeds and it failed on none, and to be tried if its lead counts at all;
    else FedAvg is to be used, unless it failed. An average over the rounds is advised with either
    where it is better than the last round on each of three seeds or more.

    A small version, or one where FedAvg has no figure, recommends nothing; a study without FedAvg
    holds the others against its first algorithm, which it does not recommend.
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
    names = [summary.algorithms[group.algorithm] for group in measured(groups)]
    if len(names) > 1:
        return f"No finished seed is shared with {names[0]}: nothing can be compared yet."
    who = f"{names[0]} alone has" if names else "no algorithm has"
    return f"So far {who} a figure here: there is nothing to compare."


def _use(summary: StudySummary, comparison: Comparison) -> str:
    """Return the recommendation, in a sentence or two."""
    name = reference(summary)
    everyone = [comparison.pick, *comparison.others]
    if summary.quick:
        return "The small version recommends nothing."
    if comparison.base.algorithm != name:
        missing = summary.algorithms[name]
        return f"Nothing to recommend yet: {missing}, which others are held against, has no figure."
    if all(at_chance(cell, comparison.classes) for group in everyone for cell in group.cells):
        return "Use none of these: all end hardly better than guessing."
    return _use_pick(comparison) or _use_base(comparison, known=name == REFERENCE)


def _use_pick(comparison: Comparison) -> str:
    """Recommend the pick, or to try it, if its lead over the reference says so; else nothing."""
    lead, pick = comparison.lead, comparison.pick
    who, base = comparison.title(pick), comparison.title(comparison.base)
    if comparison.base_is_pick:
        return ""
    sound = comparison.sound(pick)
    if lead.shown and sound:
        return f"Use {who}{_averaged(pick)}.{_other_by_average(comparison, pick)}"
    if lead.clear and not all(at_chance(cell, comparison.classes) for cell in pick.cells):
        doubt = (
            f"{count(len(lead.seeds), 'seed')} cannot show it"
            if sound
            else f"it fails{_on_seeds(comparison, pick)}"
        )
        return f"Worth a try: {who}, ahead of {base}, though {doubt}."
    if sound and not comparison.sound(comparison.base):
        return (
            f"Worth a try: {who}, which does not fail as {base} does"
            f"{_on_seeds(comparison, comparison.base)}."
        )
    return ""


def _use_base(comparison: Comparison, *, known: bool) -> str:
    """Recommend the reference, if it is ``known`` to be what one begins with and did not fail."""
    base = comparison.base
    who = comparison.title(base)
    if not comparison.sound(base):
        fails = f"{who} fails{_on_seeds(comparison, base)}"
        return f"Nothing to recommend: {fails}, and no other is shown to be better."
    leads = [Lead.between(base, other) for other in comparison.others]
    ahead = comparison.base_is_pick and all(lead is not None and lead.shown for lead in leads)
    if not known and not ahead:
        return f"None is shown to be better than {who}."
    why = "it is ahead of all others here" if ahead else "no other is shown to be better"
    cheap = "" if ahead else _none_cheaper(comparison)
    return f"Use {who}{_averaged(base)}: {why}{cheap}.{_other_by_average(comparison, base)}"


def _averaged(group: Group) -> str:
    return " with an average over the rounds" if average_is_better(group) else ""


def _other_by_average(comparison: Comparison, group: Group) -> str:
    """Name the algorithm whose average is shown to be above that of the one recommended."""
    lead = average_above(comparison, group)
    if lead is None or not lead.shown:
        return ""
    return f" By an average over the rounds {comparison.title(lead.first)} is ahead."


def _none_cheaper(comparison: Comparison) -> str:
    """Say that no other sends fewer bytes than the reference, where that is so."""
    ours = BYTES.of(comparison.base)
    others = (comparison.pick, *comparison.others, *comparison.aside)
    return ", and none sends fewer bytes" if 0 < ours <= min(map(BYTES.of, others)) else ""


def _on_seeds(comparison: Comparison, group: Group) -> str:
    return on_seeds(failed(group, comparison.classes), group)
