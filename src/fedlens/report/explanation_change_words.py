"""What becomes of explanations, in words: federation, privacy, a cheat, and known evidence."""

from collections.abc import Mapping, Sequence

from fedlens.report.explanation_naming import images_text, method_name, methods_named, some_of
from fedlens.report.explanation_reading import (
    CONTROLS,
    Content,
    Estimate,
    alike,
    average,
    budgets,
    estimate,
    number,
    proper,
    quality,
)
from fedlens.report.wording import count, decimal, listing, percent

ON_FIGURE, ON_MARK = 0.8, 0.5  # shares of a map from which it shows the known evidence
USED = 0.5  # share of marked images taken for the class from which a network uses the mark
WORKED = 0.2  # how much more often marked images are taken for the class where a shortcut took


def federation_words(content: Content) -> str:
    """Return whether maps survive federation."""
    ours, chance = alike(content, "federated"), alike(content, "again")
    methods = [key for key in proper(list(ours)) if ours[key].known]
    if not methods:
        return "no maps can be compared."
    said = (
        "maps of the federated network agree with those of the central one with a mean rank "
        f"correlation of {decimal(average(ours), 2)} over {count(len(methods), 'method')}"
    )
    if chance:
        said += (
            f"; two central trainings of different seeds agree with {decimal(average(chance), 2)}."
            f"{_against_chance(ours, chance, methods)}"
        )
    else:
        said += ". There is no second central training to hold this against."
    worse = _worse(content, "federated", methods)
    if not worse:
        return (
            f"{said} By deletion, insertion and ROAD, each on its own network and for "
            f"{_shared(content)}, federated maps are worse by more than the intervals for no method."
        )
    return (
        f"{said} Each held against its own network, for {_shared(content)}, federated maps are worse "
        f"than those of every central training by more than the intervals in {worse}."
    )


def _against_chance(
    ours: Mapping[str, Estimate], chance: Mapping[str, Estimate], methods: Sequence[str]
) -> str:
    lower = [key for key in methods if ours[key].under(chance[key].low)]
    if not lower:
        return (
            " For no method is it lower by more than the intervals: no cost beyond that of another "
            "seed is seen (the federated network began from the first one's initial weights, the "
            "other seed did not)."
        )
    if len(lower) == len(methods):
        return (
            " It is lower by more than the intervals for every method: federation changes "
            "explanations more than another seed does."
        )
    return (
        f" It is lower by more than the intervals for {some_of(len(lower), len(methods))}: "
        f"{methods_named(lower)}."
    )


def _shared(content: Content) -> str:
    shared = content["shared"]
    return f"the {shared['alike']} of {shared['images']} decisions that all these networks make"


def _worse(content: Content, role: str, methods: Sequence[str]) -> str:
    """Return by which measures, and for how many methods, maps are worse than all central ones."""
    found = []
    for measure, title in (("deletion", "deletion"), ("insertion", "insertion"), ("road", "ROAD")):
        ours = quality(content, role, measure)
        others = [quality(content, "central", measure)]
        if "again" in content["quality"]:
            others.append(quality(content, "again", measure))
        worse = [
            key
            for key in methods
            if all(
                ours[key].over(other[key].high)
                if measure == "deletion"
                else ours[key].under(other[key].low)
                for other in others
            )
        ]
        if worse:
            found.append(f"{title} for {some_of(len(worse), len(methods))}")
    return listing(found)


def privacy_words(content: Content, chance: Mapping[str, Estimate]) -> str:
    """Return what privacy does to maps."""
    steps = budgets(content)
    said = [
        f"{decimal(average(alike(content, role)), 2)} at epsilon {epsilon:g}"
        for role, epsilon in steps.items()
    ]
    text = f"agreement with the maps of the network without privacy is {listing(said)}"
    if chance:
        text += f"; another training without privacy gives {decimal(average(chance), 2)}"
    text += " (mean rank correlation over the methods)."
    if chance:
        widest, *_, tightest = [*steps, *steps]
        for role in dict.fromkeys([widest, tightest]):
            ours = alike(content, role)
            methods = [key for key in proper(list(ours)) if ours[key].known and key in chance]
            lower = [key for key in methods if ours[key].under(chance[key].low)]
            text += (
                f" At epsilon {steps[role]:g} it is lower than that by more than the intervals for "
                f"{some_of(len(lower), len(methods))}."
            )
    roads = [
        f"{decimal(average(quality(content, role, 'road')), 3)} {where}"
        for role, where in (
            ("central", "without privacy"),
            *((role, f"at epsilon {epsilon:g}") for role, epsilon in steps.items()),
        )
    ]
    accuracy = content.get("accuracy", {})
    shares = [percent(number(accuracy.get(role)), 1) for role in ("central", *steps)]
    return (
        f"{text} The ROAD gap for {_shared(content)}, averaged over the methods, is "
        f"{listing(roads)}; the accuracy, in the same order, {listing(shares)}."
    )


def cheat_shares(shortcut: Content) -> dict[str, tuple[Estimate, Estimate]]:
    """Return method -> share on the mark of the cheating client, and the largest of the others.

    The others are the other clients, and the same client trained without the mark.
    """
    cheat = shortcut["client"]
    mine = next(entry for entry in shortcut["clients"] if entry["client"] == cheat)
    found = {}
    for key in proper(list(mine["shares"])):
        others = [
            estimate(entry["shares"][key])
            for entry in [*shortcut["clients"], shortcut["twin"]]
            if entry is not mine and key in entry["shares"]
        ]
        others = [share for share in others if share.known]
        own = estimate(mine["shares"][key])
        if own.known and others:
            found[key] = (own, max(others, key=lambda share: share.mean))
    return found


def cheat_words(shortcut: Content) -> str:
    """Return whether the client with the planted shortcut stands out."""
    area = number(shortcut["area"])
    mine = next(e for e in shortcut["clients"] if e["client"] == shortcut["client"])
    taken, plain = number(mine["taken"]), number(mine["plain"])
    said = (
        f"client {shortcut['client'] + 1} trained one epoch with a mark on its "
        f"{images_text(mine['marked'])} of {shortcut['class']}. Its model takes {percent(taken, 0)} "
        f"of other images with the mark for that class, and {percent(plain, 0)} without it"
    )
    said += "." if taken - plain >= WORKED else ": the shortcut hardly took."
    shares = cheat_shares(shortcut)
    if not shares:
        return f"{said} No map has positive evidence to hold against the other clients'."
    out = [key for key, (own, most) in shares.items() if own.over(most.high) and own.over(area)]
    if not out:
        return (
            f"{said} It does not stand out: by no method is its share on the mark both over the "
            f"mark's area ({percent(area, 1)}) and larger, by more than the intervals, than every "
            "other client's and its own without the mark."
        )
    clearest = max(out, key=lambda key: shares[key][0].mean - shares[key][1].mean)
    own, most = shares[clearest]
    return (
        f"{said} It stands out by {some_of(len(out), len(shares))} ({methods_named(out)}), most by "
        f"{method_name(clearest)}: {percent(own.mean, 1)} of the positive evidence on the mark, "
        f"against at most {percent(most.mean, 1)} at another client or its own without the mark, and "
        f"the mark's area of {percent(area, 1)}."
    )


def known_words(content: Content) -> str:
    """Return which methods find the known evidence."""
    said = []
    shapes, shortcut = content.get("shapes"), content.get("shortcut")
    if shapes:
        said.append(
            f"On the figure (area {percent(shapes['area'], 0)}{_edges(shapes)}; the network's "
            f"accuracy is {percent(shapes['accuracy'], 1)}) {_over(shapes, ON_FIGURE)}."
        )
    if shortcut:
        taken = number(shortcut["taken"])
        said.append(
            f"On the mark of the shortcut (area {percent(shortcut['area'], 1)}{_edges(shortcut)}; "
            "marked images of "
            f"other figures are taken for its class in {percent(taken, 0)} of "
            f"cases) {_over(shortcut, ON_MARK)}."
        )
        if taken < USED:
            said.append("This network hardly uses the mark, so a map of it need not show it.")
    return " ".join(said)


def _edges(content: Content) -> str:
    """Return the evidence's share of the images' edges, near which a detector of edges must be."""
    if "edge_share" not in content:
        return ""
    return f", with {percent(content['edge_share'], 0)} of the images' edges"


def _over(content: Content, least: float) -> str:
    masses = {key: estimate(row["mass"]) for key, row in content["rows"].items()}
    found = [key for key in proper(list(masses)) if masses[key].mean > least]
    found.sort(key=lambda key: -masses[key].mean)
    best = max(
        (masses[key].mean for key in CONTROLS if key in masses and masses[key].known), default=None
    )
    beside = "" if best is None else f" (the better control {percent(best, 0)})"
    number_of = len(proper(list(masses)))
    if not found:
        top = max(
            (m.mean for k, m in masses.items() if k not in CONTROLS and m.known), default=None
        )
        most = "" if top is None else f"; the most is {percent(top, 0)}"
        return f"no method of {number_of} puts over {percent(least, 0)}{beside}{most}"
    each = listing(
        [
            f"{method_name(key)} {percent(masses[key].mean, 0)}"
            + (f" (on {masses[key].images} images)" if masses[key].missing else "")
            for key in found
        ]
    )
    verb = "puts" if len(found) == 1 else "put"
    return f"{some_of(len(found), number_of)} {verb} over {percent(least, 0)}{beside}: {each}"
