"""What the three parts of the console (store, model, pages) say to each other: plain frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fedlens.errors import FedlensError

SOURCE_API = "api"
"""Source of a case whose image came through the API and was not kept."""


class ReviewError(FedlensError):
    """Something that was asked of the console and cannot be; its text is one sentence.

    Attributes:
        status: the HTTP status that says the same.
    """

    status = 400


class NotFoundError(ReviewError):
    """A case, record or person that is not there."""

    status = 404


class NotAllowedError(ReviewError):
    """Something that this person's role, or the state of things, does not allow."""

    status = 403


class ConflictError(ReviewError):
    """Something that another person, or another record, has overtaken."""

    status = 409


class StoppedError(ReviewError):
    """The model was taken out of service."""

    status = 503


class Role(StrEnum):
    """What a person may do.

    A reviewer works cases and may stop the model. A lead also assigns cases, puts the model back into
    service, sees insight and keeps people. An auditor reads everything (trail, insight, model) and
    changes nothing.
    """

    REVIEWER = "reviewer"
    LEAD = "lead"
    AUDITOR = "auditor"


class State(StrEnum):
    """Where a case stands in the queue."""

    OPEN = "open"
    ASSIGNED = "assigned"
    DEFERRED = "deferred"
    DECIDED = "decided"


class Choice(StrEnum):
    """What a person decided of a case."""

    ACCEPT = "accept"
    OVERRIDE = "override"
    DEFER = "defer"


class Reason(StrEnum):
    """Why a person overrode: a code, mandatory, beside which free text may stand."""

    WRONG_CLASS = "wrong-class"
    CONFUSABLE = "confusable-classes"
    IMAGE_QUALITY = "image-quality"
    NOT_OF_ANY_CLASS = "not-of-any-class"
    OUTSIDE_KNOWLEDGE = "outside-knowledge"
    EVIDENCE = "evidence-in-the-wrong-place"
    OTHER = "other"


REASONS_IN_WORDS: Mapping[Reason, str] = {
    Reason.WRONG_CLASS: "It is plainly another class",
    Reason.CONFUSABLE: "The two classes are easily confused, and it is the other one",
    Reason.IMAGE_QUALITY: "The image is too poor for the model's answer",
    Reason.NOT_OF_ANY_CLASS: "It is of none of the classes",
    Reason.OUTSIDE_KNOWLEDGE: "I know something that the image does not show",
    Reason.EVIDENCE: "The model looked in the wrong place",
    Reason.OTHER: "Another reason, in my words",
}


@dataclass(frozen=True)
class Actor:
    """Who does something; ``name`` is at most 64 characters.

    Attributes:
        name: of the person, or of what acts for one (``command line``, an API token's name).
        role: what they may do.
    """

    name: str
    role: Role


@dataclass(frozen=True)
class NewCase:
    """A case before it is in the store.

    Attributes:
        digest: SHA-256 (64 hexadecimal digits) of the pixels as the network is given them.
        source: where the image is found again: ``test/17`` (split and position), ``folder/a.png``,
            or :data:`SOURCE_API`. No image is kept in the store.
        predicted: class number.
        probabilities: calibrated, one a class, adding up to 1.
        need: how much the case needs a person, in [0, 1]; the queue is in its order.
        signals: what ``need`` was made of, name -> value in [0, 1]: ``uncertainty``,
            ``disagreement`` (of explanation methods), ``weak-class``, ``novelty``.
        queued: False for what came through the API: it may be decided, but is shown to nobody.
        logits: that the probabilities were made from, one a class, or None where they are not known.
    """

    digest: str
    source: str
    predicted: int
    probabilities: tuple[float, ...]
    need: float
    signals: Mapping[str, float] = field(default_factory=dict)
    queued: bool = True
    logits: tuple[float, ...] | None = None

    @property
    def confidence(self) -> float:
        """Return the calibrated probability of the predicted class."""
        return self.probabilities[self.predicted]


@dataclass(frozen=True)
class Case(NewCase):
    """A case in the store.

    Attributes:
        number: its key, from 1.
        state: see :class:`State`.
        assignee: who has it, or who decided it.
        lease_until: seconds since 1970 (UTC) until which it is theirs, while assigned.
        label: class number that a person settled on, once decided; None for "of no class".
        decision: sequence number of the record that decided it, or None.
        added: seconds since 1970 (UTC).
    """

    number: int = 0
    state: State = State.OPEN
    assignee: str | None = None
    lease_until: float | None = None
    label: int | None = None
    decision: int | None = None
    added: float = 0.0


@dataclass(frozen=True)
class Filters:
    """Which cases are asked for; what is None does not matter.

    Attributes:
        states: any of these.
        predicted: class number.
        assignee: name of a person.
        least_need: in [0, 1].
        signal: name of a signal that is at least 0.5.
    """

    states: tuple[State, ...] = ()
    predicted: int | None = None
    assignee: str | None = None
    least_need: float | None = None
    signal: str | None = None


@dataclass(frozen=True)
class Progress:
    """How many queued cases there are, and where they stand."""

    total: int
    open: int
    assigned: int
    deferred: int
    decided: int


@dataclass(frozen=True)
class Decision:
    """What a person decides of a case; see :func:`check_decision` for what is refused.

    Attributes:
        case: its number.
        choice: see :class:`Choice`.
        label: class number that an override settles on; None for "of none of the classes".
        reason: mandatory for an override.
        text: free text, at most 2,000 characters.
        misleading: the explanation is flagged as misleading.
        displayed: what the person had before them: plain JSON, such as ``{"method": ..., "opacity":
            ..., "map": digest, "contrast": ..., "revealed": true}``.
        evidence: what the model said, plain JSON (see ``Examiner.evidence``):
            identity of the model, preprocessing, logits, probabilities, explanation with all its
            parameters and the digest of its map, badges.
    """

    case: int
    choice: Choice
    label: int | None = None
    reason: Reason | None = None
    text: str = ""
    misleading: bool = False
    displayed: Mapping[str, Any] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One line of the trail; ``digest`` chains it to all that came before.

    Attributes:
        sequence: from 1, without a gap.
        time: ``2026-11-25T22:01:25.123456Z``.
        kind: see :mod:`fedlens.review.store.trail`.
        actor, role: who did it, and as what.
        case: number of the case it is about, or None.
        content: plain JSON.
        previous: digest of the record before, 64 zeros for the first.
        digest: SHA-256 over all of the above.
    """

    sequence: int
    time: str
    kind: str
    actor: str
    role: str
    case: int | None
    content: Mapping[str, Any]
    previous: str
    digest: str


@dataclass(frozen=True)
class Person:
    """Who may use the console."""

    name: str
    role: Role
    active: bool = True
    added: float = 0.0

    @property
    def actor(self) -> Actor:
        """Return this person as the one who acts."""
        return Actor(self.name, self.role)


LONGEST_TEXT = 2000


def check_decision(decision: Decision, predicted: int, classes: int) -> None:
    """Check that a decision hangs together.

    Args:
        decision: what was decided.
        predicted: class number that the model predicted.
        classes: number of classes.

    Raises:
        ReviewError: an override without a reason or to the predicted class, a label that is no
            class, a label or reason where nothing is overridden, "of none of the classes" with a
            label, another reason without text, or text that is too long.
    """
    if len(decision.text) > LONGEST_TEXT:
        raise ReviewError(
            f"The text has {len(decision.text):,} characters, expected at most {LONGEST_TEXT:,}."
        )
    if decision.choice is not Choice.OVERRIDE:
        if decision.label is not None or decision.reason is not None:
            raise ReviewError(
                f"A label and a reason belong to an override; this decision is '{decision.choice}'."
            )
        return
    if decision.reason is None:
        raise ReviewError("An override needs a reason; choose the one that fits best.")
    if decision.reason is Reason.NOT_OF_ANY_CLASS:
        if decision.label is not None:
            raise ReviewError("What is of none of the classes has no label; leave it empty.")
        return
    if decision.label is None or not 0 <= decision.label < classes:
        raise ReviewError(
            f"An override needs the class that it is instead, a number from 0 to {classes - 1}."
        )
    if decision.label == predicted:
        raise ReviewError(
            "The class chosen is the one that the model predicted: accept it, or choose another."
        )
    if decision.reason is Reason.OTHER and not decision.text.strip():
        raise ReviewError("Another reason needs a few words of text.")
