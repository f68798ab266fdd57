"""The answers of the study of explanations, in words that follow from its findings."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedlens.report.explanation_change_words import (
    cheat_words,
    federation_words,
    known_words,
    privacy_words,
)
from fedlens.report.explanation_content import ExplanationStudy
from fedlens.report.explanation_naming import (
    capital,
    images_text,
    lifted,
    method_name,
    methods_named,
    ranged,
    some_of,
)
from fedlens.report.explanation_reading import (
    Content,
    Direction,
    Place,
    answered,
    directions,
    seed_spread,
    standing,
)
from fedlens.report.wording import listing, signed


@dataclass(frozen=True)
class Answer:
    """What the figures say to one question: a paragraph or more for each network."""

    title: str
    paragraphs: Sequence["Said"]


@dataclass(frozen=True)
class Said:
    """A paragraph, and the network (and direction) that it speaks of."""

    who: str
    text: str


def answers(study: ExplanationStudy) -> list[Answer]:
    """Return the answers to the questions that were worked out."""
    judged, known = answered(study, "judged"), answered(study, "known")
    found = [(model, d) for model, content in judged.items() for d in directions(content)]
    federation, privacy = answered(study, "federation"), answered(study, "privacy")
    clients = answered(study, "clients")
    made = [
        Answer("Which methods are best", [Said(m, _best(c)) for m, c in judged.items()]),
        Answer(
            "What the confusion rests on",
            [Said(f"{m}, {d.group} ({images_text(d.images)})", _direction(d)) for m, d in found],
        ),
        Answer(
            "Do explanations survive federation",
            [Said(m, federation_words(c)) for m, c in federation.items()],
        ),
        Answer(
            "Do they survive privacy",
            [Said(m, privacy_words(c, seed_spread(study, m))) for m, c in privacy.items()],
        ),
        Answer(
            "Does a cheating client stand out",
            [Said(m, cheat_words(c["shortcut"])) for m, c in clients.items()],
        ),
        Answer("Do they find known evidence", [Said(m, known_words(c)) for m, c in known.items()]),
    ]
    return [answer for answer in made if answer.paragraphs]


def _best(content: Content) -> str:
    places = standing(content)
    methods = [place for place in places if not place.control]
    if not methods:
        return "there are controls only."
    best, others = methods[0], methods[1:]
    said = (
        f"{method_name(best.key)} ranks best, with a mean rank of {ranged(best.rank, 1)} of "
        f"{len(places)}."
    )
    near = [place for place in others if not place.rank.over(best.rank.high)]
    if near:
        said += (
            f" Its lead is not larger than the intervals: {'those' if len(near) > 1 else 'that'} "
            f"of {_with_ranks(near[:3])}{_and_more(near, 3)} "
            f"{'overlap' if len(near) > 1 else 'overlaps'} its own."
        )
    elif others:
        said += (
            f" Its lead is larger than the intervals: {method_name(others[0].key)} comes next with "
            f"{ranged(others[0].rank, 1)}."
        )
    return f"{said} {_against_controls(places, methods)}".strip()


def _against_controls(places: Sequence[Place], methods: Sequence[Place]) -> str:
    controls = [place for place in places if place.control]
    if not controls:
        return ""
    control = controls[0]
    named = f"the better control, {method_name(control.key)}, with {ranged(control.rank, 1)}"
    behind = [place for place in methods if not place.rank.mean < control.rank.mean]
    unsure = [p for p in methods if p not in behind and not p.rank.under(control.rank.low)]
    if behind:
        said = (
            f"{some_of(len(behind), len(methods))} {'does' if len(behind) == 1 else 'do'} no better "
            f"than {named}: {methods_named([place.key for place in behind])}."
        )
    else:
        said = f"All {len(methods)} methods do better than {named}."
    if unsure:
        said += (
            f" {capital(methods_named([place.key for place in unsure]))} "
            f"{'is' if len(unsure) == 1 else 'are'} ahead of it by less than the intervals."
        )
    return said


def _with_ranks(places: Sequence[Place]) -> str:
    return listing([f"{method_name(place.key)} with {ranged(place.rank, 1)}" for place in places])


def _and_more(places: Sequence[Place], shown: int) -> str:
    return f" and {len(places) - shown} more" if len(places) > shown else ""


def _direction(found: Direction) -> str:
    if not found.methods:
        return "no method that looks at the class was judged."
    who = methods_named(found.methods)
    if found.part is None:
        if not any(found.tops):
            return f"no part surely has more of the evidence than its area by {who}."
        each = listing(
            [
                f"{method_name(key)} {'names no part surely' if top is None else f'names the {top}'}"
                for key, top in zip(found.methods, found.tops, strict=True)
            ]
        )
        return f"the methods do not agree: {each}."
    put = ("puts", "both put")[len(found.methods) - 1] if len(found.methods) < 3 else "all put"
    said = (
        f"the {found.part}. {capital(who)} {put} more of their positive evidence there than its "
        f"area: {listing([lifted(lift) for lift in found.lifts])} points."
    )
    if not found.right:
        return f"{said} There are no right answers of the class {found.predicted} to compare with."
    in_right = listing([signed(100 * lift.mean, 0) for lift in found.right])
    pairs = list(zip(found.lifts, found.right, strict=True))
    less = sum(wrong.over(right.high) for wrong, right in pairs)
    more = sum(wrong.under(right.low) for wrong, right in pairs)
    if less == len(pairs):
        verdict = "less by more than the intervals: the mistakes lean on it more"
    elif more == len(pairs):
        verdict = "more by more than the intervals: the mistakes lean on it less"
    else:
        verdict = "for not all of them a clear difference"
    return (
        f"{said} In right answers of the class {found.predicted}, asked the same, it is {in_right} "
        f"points, {verdict}."
    )
