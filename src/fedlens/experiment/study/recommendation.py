"""What the figures of a study say, in sentences that are computed from them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedlens.report.privacy_study import privacy_advice
from fedlens.report.runaway import remedy
from fedlens.report.study_content import Advice, CellResult, Group, StudySummary
from fedlens.report.wording import count, decimal, listing, percent, points, with_spread

REFERENCE = "fedavg"  # what the others are compared with; the study's first algorithm without it
ONE_SEED = 0.01  # the lead that a single seed may show by chance: about a point


@dataclass(frozen=True)
class _Lead:
    """One algorithm ahead of another on the same seeds."""

    first: Group
    second: Group

    @property
    def size(self) -> float:
        return _mean(self.first) - _mean(self.second)

    @property
    def spread(self) -> float:
        """What the lead has to exceed: the sum of both standard deviations over seeds."""
        spreads = [group.over_seeds(_final) for group in (self.first, self.second)]
        known = [s.sd for s in spreads if s is not None and s.sd is not None]
        return sum(known) if len(known) == len(spreads) else ONE_SEED

    @property
    def clear(self) -> bool:
        return self.size > self.spread

    @property
    def on_each_seed(self) -> bool:
        pairs = zip(self.first.cells, self.second.cells, strict=True)
        return all(one.final > two.final for one, two in pairs)


def recommend(summary: StudySummary) -> list[Advice]:
    """Return what the figures say about each partition that has a finished cell.

    Algorithms are compared on the same seeds: the reference's (FedAvg's, or those of the study's
    first algorithm) where another has them all, otherwise those that all have. One is called ahead
    only where its lead is larger than the sum of the two standard deviations over seeds, so that
    the ranges mean ± sd do not meet, or than a point where there is one seed.
    """
    if summary.kind == "privacy":
        return privacy_advice(summary)
    return [
        Advice(key, title, " ".join(_sentences(summary, key)))
        for key, title in summary.begun_partitions().items()
    ]


def _sentences(summary: StudySummary, partition: str) -> list[str]:
    titles = summary.algorithms
    groups = [g for g in summary.groups(partition) if g.over_seeds(_final) is not None]
    if len(groups) < 2:
        who = f"{titles[groups[0].algorithm]} alone has" if groups else "no algorithm has"
        return [f"So far {who} a finished cell here: there is nothing to compare."]
    reference = REFERENCE if REFERENCE in titles else next(iter(titles))
    seeds = _common_seeds(groups, reference)
    if not seeds:
        return ["No seed is finished for all algorithms here: they cannot be compared yet."]
    compared = [group.only(seeds) for group in groups if set(seeds) <= set(group.seeds)]
    compared.sort(key=lambda group: -_mean(group))
    best, rest = compared[0], compared[1:]
    base = next((group for group in compared if group.algorithm == reference), None)
    against = rest[0] if base is None or base is best else base
    lead = _Lead(best, against)
    over = f"over {count(len(seeds), 'seed')}" if len(seeds) > 1 else f"on one seed ({seeds[0]})"
    rank = "" if against is base else "the next, "
    sentences = [
        f"{titles[best.algorithm]} has the highest mean final accuracy, {_accuracy(best)} {over}: "
        f"{points(lead.size)} points above {rank}{titles[against.algorithm]} ({_accuracy(against)}).",
        _verdict(lead),
        _not_told_apart(best, [g for g in rest if g is not against], titles, either=not lead.clear),
    ]
    if base is None:
        sentences.append(f"{titles[reference]} has not finished on the same seeds.")
    elif base is best:
        sentences.append(_worst_of(best))
    else:
        sentences += [_cost(best, base, titles), _worst_beside(best, base, titles)]
    # what went wrong is told of all, also of those with too few seeds to be compared
    sentences += [
        _averages(compared, titles),
        _stopped(groups, titles),
        _ran_away(groups, titles),
        _left_aside(groups, compared, titles),
    ]
    return [sentence for sentence in sentences if sentence]


def _common_seeds(groups: Sequence[Group], reference: str) -> list[int]:
    """Return the reference's seeds if another algorithm has them all, else those of all."""
    for group in groups:
        others = [set(other.seeds) for other in groups if other is not group]
        if group.algorithm == reference and any(set(group.seeds) <= seeds for seeds in others):
            return list(group.seeds)
    return sorted(set.intersection(*(set(group.seeds) for group in groups)))


def _verdict(lead: _Lead) -> str:
    seeds = len(lead.first.cells)
    if seeds == 1:
        if lead.clear:
            return (
                "That is more than the point or so that one seed cannot tell apart, but other seeds "
                "have yet to show it."
            )
        return "One seed cannot tell less than about a point apart, so neither can be called ahead."
    if lead.clear:
        return (
            f"The lead is larger than the spread over seeds ({points(lead.spread)} points, both "
            "standard deviations together)."
        )
    always = f", though it led on each of the {count(seeds, 'seed')}" if lead.on_each_seed else ""
    return (
        f"That is within the spread over seeds ({points(lead.spread)} points, both standard "
        f"deviations together){always}, so neither can be called ahead."
    )


def _not_told_apart(
    best: Group, others: list[Group], titles: Mapping[str, str], *, either: bool
) -> str:
    near = [
        f"{titles[group.algorithm]} ({_accuracy(group)})"
        for group in others
        if not _Lead(best, group).clear
    ]
    if not near:
        return ""
    if either:
        return f"It cannot be told apart from {listing(near)} either."
    return f"But it cannot be told apart from {listing(near)}."


def _cost(best: Group, base: Group, titles: Mapping[str, str]) -> str:
    ours, theirs = (_average(group, lambda c: c.total_bytes) for group in (best, base))
    if not theirs:  # trained centrally
        return ""
    ratio, who = ours / theirs, titles[base.algorithm]
    if abs(ratio - 1) < 0.005:
        return f"It sends as many bytes as {who}."
    return f"It sends {decimal(ratio, 2)} times the bytes of {who}."


def _worst_beside(best: Group, base: Group, titles: Mapping[str, str]) -> str:
    ours, theirs = (_average(group, lambda c: c.worst_client) for group in (best, base))
    if not (math.isfinite(ours) and math.isfinite(theirs)):
        return ""
    who = titles[base.algorithm]
    if abs(ours - theirs) < 0.0005:
        change = f"the same as with {who}"
    else:
        word = "above" if ours > theirs else "below"
        change = f"{points(abs(ours - theirs))} points {word} {who}'s {percent(theirs, 1)}"
    return f"{_worst_client(best)} {percent(ours, 1)}, {change}."


def _worst_of(best: Group) -> str:
    ours = _average(best, lambda cell: cell.worst_client)
    return f"{_worst_client(best)} {percent(ours, 1)}." if math.isfinite(ours) else ""


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


def _stopped(groups: Sequence[Group], titles: Mapping[str, str]) -> str:
    """Name the algorithms whose rounds came to nothing before the end, as after a divergence."""
    words = []
    for group in (group for group in groups if group.stopped):
        seeds = len(group.cells)
        some = f" on {len(group.stopped)} of {seeds} seeds" if seeds > 1 else ""
        words.append(f"{titles[group.algorithm]} after round {min(group.stopped)}{some}")
    return f"No client's update could be used for {listing(words)}." if words else ""


def _ran_away(groups: Sequence[Group], titles: Mapping[str, str]) -> str:
    """Name the client whose update was far ahead, for algorithms that lost what they had learned."""
    words, remedies = [], []
    for group in groups:
        far = [(c.runaway, c) for c in group.cells if c.lost and c.runaway is not None]
        if far:
            found, cell = min(far, key=lambda pair: pair[0].round)
            words.append(
                f"{titles[group.algorithm]} (round {found.round}, client {found.client}: "
                f"{found.times_in_words} times)"
            )
            remedies.append(remedy(cell.config.get("federation", {})))
    if not words:
        return ""
    return (
        "Where accuracy was lost a single client's update had moved the model many times as far as the "
        f"median update of its round: {listing(words)}. {' '.join(dict.fromkeys(remedies))}"
    )


def _averages(compared: Sequence[Group], titles: Mapping[str, str]) -> str:
    """Say what averaging the rounds' models gives, on the seeds that were averaged for all."""
    averaged = [g for g in compared if any(math.isfinite(c.final_average) for c in g.cells)]
    seeds = _averaged_seeds(averaged)
    if not seeds:
        return ""
    groups = [group.only(seeds) for group in averaged]
    top = max(groups, key=lambda group: _average(group, _final_average))
    gain = _average(top, lambda cell: cell.final_average - cell.final)
    shown = with_spread(top.over_seeds(_final_average), percent)
    if abs(gain) < 0.00005:
        change = "as much as"
    else:
        change = f"{points(abs(gain))} points {'above' if gain > 0 else 'below'}"
    on = ""
    if len(seeds) < len(compared[0].cells):
        which = "seed" if len(seeds) == 1 else "seeds"
        on = f" ({which} {listing([str(seed) for seed in seeds])}, where all of these have one)"
    return (
        f"Of the averages over the rounds{on} {titles[top.algorithm]}'s has the highest mean final "
        f"accuracy: {shown}, {change} the model of its own last round."
    )


def _averaged_seeds(groups: Sequence[Group]) -> list[int]:
    """Return the seeds on which each of the groups has an average over the rounds."""
    known = [
        {cell.seed for cell in group.cells if math.isfinite(cell.final_average)} for group in groups
    ]
    return sorted(set.intersection(*known)) if known else []


def _left_aside(
    groups: Sequence[Group], compared: Sequence[Group], titles: Mapping[str, str]
) -> str:
    names = {group.algorithm for group in compared}
    aside = [titles[group.algorithm] for group in groups if group.algorithm not in names]
    if not aside:
        return ""
    verb = "has" if len(aside) == 1 else "have"
    return f"{listing(aside)} {verb} fewer seeds than these and {verb} been left out of the comparison."


def _accuracy(group: Group) -> str:
    return with_spread(group.over_seeds(_final), percent)


def _mean(group: Group) -> float:
    return _average(group, _final)


def _average(group: Group, figure: Callable[[CellResult], float]) -> float:
    found = group.over_seeds(figure)
    return math.nan if found is None else found.mean


def _final(cell: CellResult) -> float:
    return cell.final


def _final_average(cell: CellResult) -> float:
    return cell.final_average
