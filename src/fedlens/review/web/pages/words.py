"""What the pages say: shares, states and signals as a person would put them."""

from collections.abc import Mapping, Sequence

from fedlens.report.wording import count, percent
from fedlens.review.contract import Case, Choice, Reason, State
from fedlens.review.model.badges import AGREE, PARTLY
from fedlens.review.model.need import USUAL

NONE_OF_THEM = "none of the classes"
NOVEL = 0.95
"""A novelty from which a page says that the image is unlike those that the model was checked with."""
FAINT = 0.35
"""Share of the colour scale below which a map is said to be faint, so that it is not overlooked."""
TELLING = 0.5
"""A signal from which it is named among the reasons why a case needs a person."""

SIGNALS: Mapping[str, tuple[str, str]] = {
    "uncertainty": ("Unsure", "the model is unsure"),
    "disagreement": ("Maps differ", "its explanations disagree"),
    "weak-class": ("Weak class", "it is worse at this class than at others"),
    "novelty": ("Unfamiliar", "the image is unlike those that it knows"),
}
"""Signal -> the head of its column, and the same inside a sentence."""

STATES: Mapping[State, str] = {
    State.OPEN: "open",
    State.ASSIGNED: "in work",
    State.DEFERRED: "deferred",
    State.DECIDED: "decided",
}


def class_name(label: int | None, class_names: Sequence[str]) -> str:
    """Return the name of a class number; None and numbers that are no class are none of them."""
    if label is None or not 0 <= label < len(class_names):
        return NONE_OF_THEM
    return class_names[label]


def chance(share: float) -> str:
    """Return a probability in percent; what is nearly nothing or all is not said to be."""
    if share < 0.001:
        return f"under {percent(0.001, 1)}"
    if share >= 0.995:
        return f"over {percent(0.99, 0)}"
    return percent(share, 0 if share >= 0.01 else 1)


def sureness(confidence: float) -> str:
    """Return a calibrated confidence in [0, 1] in words: a frequency first, never a verdict."""
    if confidence >= 0.95:
        word = "very sure"
    elif confidence >= 0.8:
        word = "fairly sure"
    elif confidence >= 0.5:
        word = "unsure"
    else:
        word = "very unsure"
    right = min(99, max(1, round(100 * confidence)))
    said = chance(confidence)
    return (
        f"{said[0].upper()}{said[1:]}, {word}. Of 100 answers as sure as this one, about {right} are "
        f"right and {100 - right} wrong."
    )


def why_needy(signals: Mapping[str, float]) -> str:
    """Return what makes a case need a person, the strongest first; a dash where nothing does."""
    telling = sorted(
        (name for name, value in signals.items() if value >= TELLING and name in SIGNALS),
        key=lambda name: -signals[name],
    )
    return "; ".join(SIGNALS[name][1] for name in telling) or "–"


def known_errors(
    predicted: int, confusion: Sequence[Sequence[int]], class_names: Sequence[str]
) -> str:
    """Return how often the model was wrong on the test images about this class.

    Args:
        predicted: class number.
        confusion: (L, L) counts, rows true and columns predicted.
        class_names: L names.
    """
    name = class_names[predicted]
    called = [row[predicted] for row in confusion]
    total, wrong = sum(called), sum(called) - called[predicted]
    are = sum(confusion[predicted])
    missed = are - confusion[predicted][predicted]
    if total == 0:
        first = f"On the test images it never said {name}, so that nothing is known of this answer."
    elif wrong == 0:
        first = f"On the test images it said {name} {count(total, 'time')} and was never wrong."
    else:
        often = max(
            (label for label in range(len(called)) if label != predicted), key=called.__getitem__
        )
        first = (
            f"On the test images, {percent(wrong / total, 0)} of its {total:,} answers {name} were "
            f"wrong; most often it was {class_names[often]} ({called[often]:,})."
        )
    if are == 0:
        return first
    return f"{first} It missed {percent(missed / are, 0)} of the {are:,} that are {name}."


def agreement_words(overlap: float, share: float) -> str:
    """Return how far two maps agree.

    Args:
        overlap: intersection over union of the two maps' top pixels, in [0, 1].
        share: of the pixels that are the top.
    """
    if overlap != overlap:
        return "The two maps cannot be compared: one of them shows nothing."
    word = "agree" if overlap >= AGREE else "agree in part" if overlap >= PARTLY else "disagree"
    chance = share / (2 - share)
    return (
        f"The two methods {word}: of the pixels that either counts among its top "
        f"{percent(share, 0)}, {percent(overlap, 0)} are in both (by chance {percent(chance, 0)})."
    )


def faint_words(share: float) -> str:
    """Return that a map is faint, or nothing where it is not.

    Args:
        share: of the colour scale that its strongest pixel reaches.
    """
    if share >= FAINT:
        return ""
    return f"A faint map: its strongest pixel reaches {chance(share)} of the scale."


def percentile_of(signal: float) -> float:
    """Return the novelty that a signal of novelty stands for: the least one, where it is 0."""
    return USUAL + (1 - USUAL) * signal


def novelty_words(novelty: float) -> str:
    """Return that an image is unfamiliar, or nothing where it is not."""
    if novelty < NOVEL:
        return ""
    return (
        f"Unfamiliar image: {percent(min(novelty, 0.999), 0 if novelty < 0.99 else 1)} of the "
        "validation images look more usual to the model. What it says of its confidence may not "
        "hold here."
    )


def standing(case: Case, me: str) -> str:
    """Return where a case stands, for the person named ``me``."""
    if case.state is State.ASSIGNED:
        return "in your hands" if case.assignee == me else f"with {case.assignee}"
    if case.state is State.DECIDED:
        return f"decided by {'you' if case.assignee == me else case.assignee or 'somebody'}"
    if case.state is State.DEFERRED:
        return f"deferred by {'you' if case.assignee == me else case.assignee or 'somebody'}"
    return "open"


def decision_words(
    choice: Choice, predicted: int, label: int | None, reason: Reason | None, names: Sequence[str]
) -> str:
    """Return a decision in a few words, such as ``overridden: Shirt, not Coat``."""
    if choice is Choice.ACCEPT:
        return f"accepted as {class_name(predicted, names)}"
    if choice is Choice.DEFER:
        return "deferred to somebody else"
    settled = NONE_OF_THEM if reason is Reason.NOT_OF_ANY_CLASS else class_name(label, names)
    return f"overridden: {settled}, not {class_name(predicted, names)}"
