"""The answers of the study of explanations, in words that follow from its findings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedlens.report.explanation_agreement import concordance_words
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
    method_name,
    methods_named,
    ranged,
    some_of,
)
from fedlens.report.explanation_part_words import direction_words, left_out_words
from fedlens.report.explanation_parts import directions
from fedlens.report.explanation_reading import (
    Content,
    Place,
    answered,
    seed_spread,
    standing,
)
from fedlens.report.wording import listing


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
            [
                *(
                    Said(f"{m}, {d.group} ({images_text(d.images)})", direction_words(d))
                    for m, d in found
                ),
                *_left_out(judged),
            ],
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
        f"{len(places)}. {concordance_words(content)}"
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


def _left_out(judged: Mapping[str, Content]) -> list[Said]:
    """Return who was not asked about parts; networks of which the same is to be said together."""
    same: dict[str, list[str]] = {}
    for model, content in judged.items():
        if content.get("regions") and (text := left_out_words(content)):
            same.setdefault(text, []).append(model)
    return [Said(", ".join(models), text) for text, models in same.items()]


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
