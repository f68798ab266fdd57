"""What the page of a case shows, as plain values: the template makes no decision of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import torch
from torch import Tensor

from fedlens.report.wording import decimal, percent
from fedlens.review.contract import REASONS_IN_WORDS, SOURCE_API, Case
from fedlens.review.model.badges import TOP_SHARE, agreement
from fedlens.review.web.pages import words
from fedlens.review.web.pages.asked import Asked, map_address

if TYPE_CHECKING:  # it loads the model side, and a page is drawn without
    from fedlens.review.model.findings import Badge, Explained, Prediction
    from fedlens.review.model.neighbours import Neighbour
    from fedlens.review.model.subject import Subject

KEYS = "1234567890"
RANK_KINDS = {"good": "good", "poor": "warn", "degenerate": "bad"}


@dataclass(frozen=True)
class ClassOption:
    """A class to choose, and the digit that chooses it (empty beyond ten classes)."""

    number: int
    name: str
    key: str


@dataclass(frozen=True)
class Question:
    """What a map may be asked; ``value`` is empty, or the class that is weighed against."""

    value: str
    words: str


@dataclass(frozen=True)
class TopClass:
    """One of the most probable classes."""

    name: str
    share: float
    share_words: str
    note: str


@dataclass(frozen=True)
class MapView:
    """One map over the image.

    Attributes:
        method, question: what it is and what it was asked.
        address: of its picture, or None where there is nothing to paint.
        alt: for who does not see it.
        legend, low, high: address of the colour scale, and what its ends mean.
        strength: how far up the scale the strongest pixel is, where the map is a faint one.
        nothing: said in place of the map.
    """

    method: str
    question: str
    address: str | None
    alt: str
    legend: str
    low: str
    high: str
    strength: str = ""
    nothing: str = ""


@dataclass(frozen=True)
class BadgeView:
    """How good a map is in one respect; ``kind`` colours what ``rank`` says."""

    title: str
    rank: str
    words: str
    kind: str


@dataclass(frozen=True)
class Shows:
    """What is shown now: the state of the form, and what is sent along with the decision."""

    method: str
    second: str
    against: str
    opacity: int
    sent: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class HistoryLine:
    """One thing that happened to the case."""

    time: str
    words: str
    address: str = ""
    undo: int | None = None


@dataclass(frozen=True)
class NeighbourView:
    """A training image that the model finds like this one."""

    address: str
    name: str
    words: str


@dataclass(frozen=True)
class CaseView:
    """All that the page shows of a case."""

    number: int
    standing: str
    source: str
    mine: bool
    takeable: bool
    revealed: bool
    size: int
    image: str
    native: str
    image_alt: str
    image_gone: str
    classes: Sequence[ClassOption]
    reasons: Sequence[tuple[str, str]]
    predicted: str
    predicted_number: int
    confidence: str
    top: Sequence[TopClass]
    known: str
    own_label: str
    warnings: Sequence[str]
    methods: Sequence[str]
    questions: Sequence[Question]
    history: Sequence[HistoryLine]
    shows: Shows | None = None
    maps: Sequence[MapView] = ()
    agreement: str = ""
    blind_area: str = ""
    no_maps: str = ""
    badges: Sequence[BadgeView] = ()
    neighbours: Sequence[NeighbourView] = ()
    ask_neighbours: str = ""
    evidence_words: str = ""


@dataclass(frozen=True, eq=False)
class Seen:
    """What there is to be seen of a case beside the case itself.

    Attributes:
        mine, takeable, revealed: may the person decide it, take it, and see the model's answer.
        prediction: what the model says; None while it is stopped, when only what the case holds is
            shown.
        asked: what is looked at.
        explained: the maps of ``asked``; empty where there are none.
        scales: for each of them, the value at the end of its colours.
        blind_label: own label before the reveal, with whether there was one.
        image_gone: why there is no image, or empty.
        no_maps: why there are no maps, or empty.
        history: of the case, the oldest first.
        neighbours: training images that are like it, where they were asked for.
        may_ask_neighbours: policy allows to ask for them.
    """

    mine: bool
    takeable: bool
    revealed: bool
    asked: Asked
    prediction: "Prediction | None" = None
    explained: Sequence["Explained"] = ()
    scales: Sequence[float] = ()
    blind_label: tuple[bool, int | None] = (False, None)
    image_gone: str = ""
    no_maps: str = ""
    history: Sequence[HistoryLine] = ()
    neighbours: Sequence[NeighbourView] = ()
    may_ask_neighbours: bool = False


def case_view(
    case: Case, subject: "Subject", methods: Sequence[str], seen: Seen, me: str
) -> CaseView:
    """Return what the page of ``case`` shows to the person named ``me``, who may ask ``methods``."""
    names = subject.class_names
    probabilities = case.probabilities
    address = f"/cases/{case.number}"
    confusable = None if seen.prediction is None else seen.prediction.confusable
    novelty = words.percentile_of(case.signals.get("novelty", 0.0))
    if seen.prediction is not None:
        probabilities, novelty = seen.prediction.probabilities, seen.prediction.novelty
    confusion = subject.test.confusion
    assert confusion is not None  # a Subject is multiclass
    maps = [
        _map_view(one, scale, seen.asked, case, subject)
        for one, scale in zip(seen.explained, seen.scales, strict=True)
    ]
    return CaseView(
        number=case.number,
        standing=words.standing(case, me),
        # The name of a file, or of the folder that it is in, may tell what is to be seen.
        source=case.source if seen.revealed and case.source != SOURCE_API else "",
        mine=seen.mine,
        takeable=seen.takeable,
        revealed=seen.revealed,
        size=subject.image_size,
        image=f"{address}/image.png",
        native=f"{address}/native.png",
        image_alt="The image of the case, enlarged",
        image_gone=seen.image_gone,
        classes=[
            ClassOption(number, name, KEYS[number] if number < len(KEYS) else "")
            for number, name in enumerate(names)
        ],
        reasons=[(str(reason), text) for reason, text in REASONS_IN_WORDS.items()],
        predicted=names[case.predicted],
        predicted_number=case.predicted,
        confidence=words.sureness(probabilities[case.predicted]),
        top=_top(probabilities, case.predicted, confusable, names),
        known=words.known_errors(case.predicted, confusion.tolist(), names),
        own_label=_own_label(seen.blind_label, case.predicted, names),
        warnings=[text for text in (words.novelty_words(novelty),) if text],
        methods=methods,
        questions=_questions(probabilities, case.predicted, confusable, names),
        history=seen.history,
        shows=_shows(seen) if maps else None,
        maps=maps,
        agreement=_agreement(seen.explained, subject.blind_area),
        blind_area=_blind_area(subject.blind_area) if maps else "",
        no_maps=seen.no_maps,
        badges=[_badge(badge) for badge in seen.explained[0].badges] if maps else [],
        neighbours=seen.neighbours,
        ask_neighbours=_ask_neighbours(case, seen) if maps else "",
        evidence_words=f"{', '.join(one.method for one in maps)} shown.",
    )


def neighbour_view(one: "Neighbour", names: Sequence[str]) -> NeighbourView:
    """Return a training image with its class, and how near it is."""
    return NeighbourView(
        f"/train/{one.position}.png", names[one.label], f"distance {decimal(one.distance, 2)}"
    )


def _ask_neighbours(case: Case, seen: Seen) -> str:
    """Return the address of this page with similar training images; empty where there is none."""
    if not seen.may_ask_neighbours or seen.neighbours:
        return ""
    asked = seen.asked
    query = {"method": asked.method, "second": asked.second, "neighbours": "yes"}
    if asked.against is not None:
        query["against"] = str(asked.against)
    return f"/cases/{case.number}?{urlencode(query)}#neighbours-head"


def _top(
    probabilities: Sequence[float], predicted: int, confusable: int | None, names: Sequence[str]
) -> list[TopClass]:
    """The predicted class, the two next, and the confusable one where it is not among them."""
    order = sorted(range(len(names)), key=lambda label: (label != predicted, -probabilities[label]))
    shown = order[:3]
    if confusable is not None and confusable not in shown:
        shown.append(confusable)
    return [
        TopClass(
            names[label],
            probabilities[label],
            words.chance(probabilities[label]),
            f"most often confused with {names[predicted]}" if label == confusable else "",
        )
        for label in shown
    ]


def _questions(
    probabilities: Sequence[float], predicted: int, confusable: int | None, names: Sequence[str]
) -> list[Question]:
    order = sorted(
        range(len(names)), key=lambda label: (label != confusable, -probabilities[label])
    )
    name = names[predicted]
    return [Question("", f"Why {name}?")] + [
        Question(str(label), f"Why {name} and not {names[label]}?")
        for label in order
        if label != predicted
    ]


def _own_label(blind_label: tuple[bool, int | None], predicted: int, names: Sequence[str]) -> str:
    given, label = blind_label
    if not given:
        return ""
    if label == predicted:
        return f"Your own label was {words.class_name(label, names)} too."
    return f"Your own label was {words.class_name(label, names)}."


def _shows(seen: Seen) -> Shows:
    asked = seen.asked
    against = "" if asked.against is None else str(asked.against)
    sent = [
        ("method", asked.method),
        ("second", asked.second),
        ("against", against),
        ("opacity", str(asked.opacity)),
    ]
    return Shows(asked.method, asked.second, against, asked.opacity, sent)


def _map_view(
    explained: "Explained", scale: float, asked: Asked, case: Case, subject: "Subject"
) -> MapView:
    names = subject.class_names
    name = names[case.predicted]
    if not explained.meta["class_specific"]:
        question, low, high = "about the image, not a class", "least", "most"
    elif asked.against is None:
        question = f"why {name}"
        low = f"against {name}" if explained.signed else "no evidence"
        high = f"for {name}"
    else:
        other = names[asked.against]
        question = f"why {name} and not {other}"
        low, high = f"for {other}" if explained.signed else "no evidence", f"for {name}"
    nothing = ""
    if explained.degenerate:
        nothing = (
            f"{explained.method} found nothing to show: its map is zero everywhere, or broken. "
            "This says nothing of whether the answer is right."
        )
    return MapView(
        method=explained.method,
        question=question,
        address=None if nothing else map_address(case.number, explained.method, asked.against),
        alt=f"Map of {explained.method}: {question}",
        legend=f"/scale/{'signed' if explained.signed else 'unsigned'}.png",
        low=low,
        high=high,
        strength="" if nothing else _strength(explained.values, scale, subject.blind_area),
        nothing=nothing,
    )


def _strength(values: Tensor, scale: float, blind_area: Tensor | None) -> str:
    seen = _seen_pixels(values, blind_area)
    seen = seen[torch.isfinite(seen)].abs()
    return words.faint_words(float(seen.max()) / scale if len(seen) else 0.0)


def _agreement(explained: Sequence["Explained"], blind_area: Tensor | None) -> str:
    if len(explained) < 2:
        return ""
    # as the badge has it, which stands on the same page
    overlap = agreement(explained[0].values, explained[1].values, blind_area)
    return words.agreement_words(overlap, TOP_SHARE)


def _seen_pixels(values: Tensor, blind_area: Tensor | None) -> Tensor:
    """Return the pixels of a map (H, W) that the network can see, as a map (1, 1, n)."""
    kept = torch.ones_like(values, dtype=torch.bool) if blind_area is None else ~blind_area
    return values[kept][None, None]


def _blind_area(blind_area: Tensor | None) -> str:
    if blind_area is None or not bool(blind_area.any()):
        return ""
    share = percent(float(blind_area.double().mean()), 0)
    return (
        f"The hatched part, {share} of the image, is outside of what this network can see: whatever "
        "is there, the answer is the same."
    )


def _badge(badge: "Badge") -> BadgeView:
    rank = str(badge.rank)
    return BadgeView(badge.title, rank, badge.words, RANK_KINDS.get(rank, ""))
