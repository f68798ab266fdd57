"""The algorithms of one partition held against one of them, and which of them is told of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedlens.experiment.study.failures import sound
from fedlens.experiment.study.lead import FINAL, Lead, measured
from fedlens.report.study_content import Group, StudySummary

REFERENCE = "fedavg"  # what the others are held against; the study's first algorithm without it


@dataclass(frozen=True)
class Comparison:
    """The algorithms of a partition, held against the reference by their last rounds.

    Attributes:
        titles: algorithm -> its title.
        base: the reference, or the first measured algorithm where the reference has no figure.
        pick: the one that is told of.
        lead: of the pick over the base; over the first of the others where the pick is the base.
        others: all but the pick that share a seed with the base, and the base if it is not the pick.
        aside: those that share none.

    Groups hold the seeds whose last round was measured.
    """

    titles: Mapping[str, str]
    base: Group
    pick: Group
    lead: Lead
    others: Sequence[Group]
    aside: Sequence[Group]

    @property
    def base_is_pick(self) -> bool:
        """Whether the one that is told of is what the others are held against."""
        return self.pick.algorithm == self.base.algorithm

    def title(self, group: Group) -> str:
        """Return the title of a group's algorithm."""
        return self.titles[group.algorithm]


def reference(summary: StudySummary) -> str:
    """Return the algorithm that the others of a study are held against."""
    return REFERENCE if REFERENCE in summary.algorithms else next(iter(summary.algorithms))


def held_against(summary: StudySummary, groups: Sequence[Group]) -> Group:
    """Return the group of the reference, or the first where the reference is not among them."""
    name = reference(summary)
    return next((group for group in groups if group.algorithm == name), groups[0])


def compare(summary: StudySummary, partition: str) -> Comparison | None:
    """Hold the algorithms of a partition against the reference.

    Told of is the algorithm whose lead over the reference counts for most (:attr:`Lead.rank`), one
    that fails on no seed and whose lead is clear before all others; but one that is shown to be ahead
    of that goes before it. Where the lead of the one so found is none, it is the reference.

    Returns:
        None where no algorithm shares a seed with the reference.
    """
    groups = measured(summary.groups(partition))
    if not groups:
        return None
    base = held_against(summary, groups)
    leads = {
        group.algorithm: lead
        for group in groups
        if group is not base and (lead := Lead.between(group, base)) is not None
    }
    if not leads:
        return None
    rivals = [group for group in groups if group.algorithm in leads]

    def strength(group: Group) -> tuple[bool, tuple[bool, bool, int, float]]:
        lead = leads[group.algorithm]
        return lead.clear and sound(group), lead.rank

    rivals.sort(key=strength, reverse=True)
    pick = rivals[0]
    for rival in rivals[1:]:  # on the seeds that the two share, another may be ahead
        ahead = Lead.between(rival, pick)
        fit = leads[rival.algorithm].shown and sound(rival)
        if fit and ahead is not None and ahead.shown:
            pick = rival
    lead = leads[pick.algorithm]
    others = [base, *(rival for rival in rivals if rival is not pick)]
    if lead.size <= 0:
        pick, lead, others = base, Lead(lead.second, lead.first, FINAL), rivals
    aside = [g for g in groups if g is not base and g.algorithm not in leads]
    return Comparison(summary.algorithms, base, pick, lead, others, aside)
