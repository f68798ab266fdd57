"""What the API takes and answers, field by field."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from fedlens.explain import Contrast
from fedlens.review.contract import LONGEST_TEXT, Case, Choice, Reason, Record, State
from fedlens.review.model import Examiner, Explained, Prediction, Subject

Share = Annotated[float, Field(ge=0, le=1)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256, hexadecimal.")]


class Answer(BaseModel):
    """Anything that the API answers."""

    model_config = ConfigDict(frozen=True)


class Refusal(Answer):
    """Why something was refused, in one sentence."""

    detail: str


class ClassProbability(Answer):
    """One class and how probable it is."""

    number: int = Field(ge=0, description="From 0, in the order of the model's classes.")
    name: str
    probability: Share = Field(description="Calibrated on the validation split.")


class Confusable(Answer):
    """The class that is most often taken for the predicted one."""

    number: int = Field(ge=0)
    name: str
    share: Share = Field(
        description="Of the test images that were called the predicted class, how many were this."
    )


class Predicted(Answer):
    """What the model says of one image."""

    case: int = Field(description="The number by which a decision refers to this image.")
    digest: Digest = Field(description="Of the pixels that the model was given. No image is kept.")
    predicted: ClassProbability
    top: list[ClassProbability] = Field(description="The three most probable, the surest first.")
    probabilities: list[Share] = Field(description="Calibrated, one a class.")
    logits: list[float]
    confusable: Confusable | None
    need: Share = Field(description="How much the case needs a person.")
    signals: dict[str, Share] = Field(
        description="What the need was made of: uncertainty, disagreement, weak-class, novelty."
    )
    model: dict[str, Any] = Field(description="Identity of the model, with its weights' digest.")


class PredictedBatch(Answer):
    """One prediction an image, in the order in which they were sent."""

    predictions: list[Predicted]


class Asked(Answer):
    """What a map is about: a class against none, or one class against another."""

    target: str | None = Field(description="Class name; null where the method looks at no class.")
    against: str | None = Field(description="Class name, for a contrast.")


class Respect(Answer):
    """One respect in which the map was tried, and how it came out."""

    name: str
    rank: str
    value: float | None
    words: str


class ExplainedAnswer(Predicted):
    """A prediction and why the model says so."""

    method: str
    asked: Asked
    map: list[list[float | None]] = Field(
        description="H rows of W values, signed as the method defines, not normalised."
    )
    map_digest: Digest
    meta: dict[str, Any] = Field(
        description="Method, version, all parameters, seed, baseline, layer, range of a pixel, and "
        "the images that were compared with (null where none were)."
    )
    details: dict[str, float | None]
    degenerate: bool = Field(description="All zero or not finite: not to be painted.")
    badges: list[Respect] = Field(description="Empty unless asked for.")


class NewDecision(BaseModel):
    """What a person decided of a case."""

    model_config = ConfigDict(extra="forbid")

    case: int = Field(ge=1, le=2**53)
    choice: Choice
    label: str | None = Field(
        None, max_length=200, description="Class name that an override settles on."
    )
    reason: Reason | None = Field(None, description="Mandatory for an override.")
    text: str = Field("", max_length=LONGEST_TEXT)
    misleading: bool = Field(False, description="The explanation is flagged as misleading.")


class RecordAnswer(Answer):
    """A line of the trail."""

    sequence: int
    time: str
    kind: str
    actor: str
    role: str
    case: int | None
    digest: Digest


class CaseAnswer(Answer):
    """A case and what happened to it."""

    number: int
    source: str | None = Field(
        description="Where the image is; a file's name may tell what is on it, so that it is hidden "
        "with the rest."
    )
    digest: Digest
    state: State
    assignee: str | None
    label: str | None = Field(description="Class that a person settled on.")
    decision: int | None = Field(description="Sequence number of the record that decided it.")
    hidden: bool = Field(
        description="What the model says is withheld until a person has labelled the case."
    )
    predicted: ClassProbability | None
    probabilities: list[Share] | None
    need: Share | None
    signals: dict[str, Share] | None
    history: list[RecordAnswer]


class PerClass(Answer):
    """How one class fares on the test split; null where there is no example."""

    name: str
    precision: Share | None
    recall: Share | None
    f1: Share | None
    examples: int


class ModelAnswer(Answer):
    """The model under review."""

    title: str
    identity: dict[str, Any]
    classes: list[PerClass]
    methods: list[str] = Field(
        description="Explanations that may be asked for, the first by default."
    )
    channels: int
    image_size: int = Field(description="Height and width in pixels that uploads are resized to.")
    test_accuracy: Share
    test_images: int
    trained: str
    privacy: dict[str, Any] | None
    signing_key: str = Field(description="Fingerprint of the key that signs the trail.")
    stopped: bool


class Health(Answer):
    """Whether the console is alive and its model in service."""

    alive: bool
    stopped: bool


def prediction_fields(
    case: int, prediction: Prediction, subject: Subject, identity: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what :class:`Predicted` says, plain JSON.

    It is not checked again: all of it is the console's own, and one answer has a thousand numbers.
    """
    names = subject.class_names
    number = prediction.confusable
    confusable = {
        "number": number,
        "name": None if number is None else names[number],
        "share": prediction.confusable_share,
    }
    return {
        "case": case,
        "digest": prediction.digest,
        "predicted": _probability(prediction.predicted, prediction.probabilities, names),
        "top": [_probability(each, prediction.probabilities, names) for each in prediction.top],
        "probabilities": prediction.probabilities,
        "logits": prediction.logits,
        "confusable": None if number is None else confusable,
        "need": prediction.need,
        "signals": dict(prediction.signals),
        "model": dict(identity),
    }


def explanation_fields(explained: Explained, subject: Subject) -> dict[str, Any]:
    """Return what :class:`ExplainedAnswer` says beside what a prediction does, plain JSON."""
    names = subject.class_names
    about, against = explained.explained, None
    if isinstance(explained.target, Contrast):
        about, against = explained.target.for_class, explained.target.against_class
    return {
        "method": explained.method,
        "asked": {
            "target": None if about is None else names[about],
            "against": None if against is None else names[against],
        },
        "map": _rows(explained),
        "map_digest": explained.digest,
        "meta": dict(explained.meta),
        "details": {name: finite(value) for name, value in explained.details.items()},
        "degenerate": explained.degenerate,
        "badges": [badge.to_json() for badge in explained.badges],
    }


def _rows(explained: Explained) -> list[list[float | None]]:
    rows: list[list[float | None]] = explained.values.tolist()
    if explained.degenerate:  # the only ones that may hold what is no number
        return [[None if value is None else finite(value) for value in row] for row in rows]
    return rows


def case_answer(
    case: Case, history: list[Record], names: tuple[str, ...], hidden: bool
) -> CaseAnswer:
    """Return a case as it may be shown."""
    return CaseAnswer(
        number=case.number,
        source=None if hidden else case.source,
        digest=case.digest,
        state=case.state,
        assignee=case.assignee,
        label=None if case.label is None else names[case.label],
        decision=case.decision,
        hidden=hidden,
        predicted=None if hidden else probability_of(case.predicted, case.probabilities, names),
        probabilities=None if hidden else list(case.probabilities),
        need=None if hidden else case.need,
        signals=None if hidden else dict(case.signals),
        history=[record_answer(record) for record in history],
    )


def record_answer(record: Record) -> RecordAnswer:
    """Return a record without its content."""
    return RecordAnswer(
        sequence=record.sequence,
        time=record.time,
        kind=record.kind,
        actor=record.actor,
        role=record.role,
        case=record.case,
        digest=record.digest,
    )


def model_answer(examiner: Examiner, fingerprint: str, stopped: bool) -> ModelAnswer:
    """Return what is known of the model under review."""
    subject = examiner.subject
    test = subject.test
    classes = [
        PerClass(
            name=name,
            precision=finite(float(test.precision[number])),
            recall=finite(float(test.recall[number])),
            f1=finite(float(test.f1[number])),
            examples=int(test.support[number]),
        )
        for number, name in enumerate(subject.class_names)
    ]
    return ModelAnswer(
        title=subject.title,
        identity=examiner.identity,
        classes=classes,
        methods=list(examiner.methods),
        channels=subject.channels,
        image_size=subject.image_size,
        test_accuracy=test.accuracy,
        test_images=test.examples,
        trained=subject.trained,
        privacy=None if subject.privacy is None else dict(subject.privacy),
        signing_key=fingerprint,
        stopped=stopped,
    )


def probability_of(
    number: int, probabilities: tuple[float, ...], names: tuple[str, ...]
) -> ClassProbability:
    """Return one class with its probability."""
    return ClassProbability(**_probability(number, probabilities, names))


def _probability(
    number: int, probabilities: tuple[float, ...], names: tuple[str, ...]
) -> dict[str, Any]:
    probability = min(max(probabilities[number], 0.0), 1.0)
    return {"number": number, "name": names[number], "probability": probability}


def finite(value: float) -> float | None:
    """Return ``value``, or None where it is no number that JSON can hold."""
    return value if math.isfinite(value) else None
