"""The model under review: what it is, how often it is wrong, and what its confidence is worth."""

import math
from collections.abc import Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from fedlens.explain import METHODS
from fedlens.report.confusion import confusion_figure
from fedlens.report.tables import Table
from fedlens.report.wording import decimal, percent
from fedlens.review.contract import NotFoundError
from fedlens.review.model import Subject
from fedlens.review.model.measuring import calibration_on_test
from fedlens.review.web.console import Console, ConsoleOf
from fedlens.review.web.pages.charts import reliability_figure, svg_response
from fedlens.review.web.rendering import page
from fedlens.review.web.security import Signed

router = APIRouter()


@router.get("/model")
def show(request: Request, console: ConsoleOf, person: Signed) -> Response:
    """Show the model under review."""
    subject = console.subject
    return page(
        request,
        "model.html.j2",
        facts=facts(console),
        figures=[
            (percent(subject.test.accuracy, 1), f"right, of {subject.test.examples:,} test images"),
            (decimal(subject.test.macro_f1, 3), "F1, mean over classes"),
            (decimal(console.examiner.temperature.value, 2), temperature_words(console)),
        ],
        privacy=privacy_words(subject),
        classes=class_table(subject),
        calibration=calibration_words(console),
        blind=blind_words(subject),
        methods=[(name, method_words(name)) for name in console.examiner.methods],
        card=console.card,
        refused=sorted(console.examiner.refused.items()),
    )


@router.get("/model/confusion.svg")
def confusion(console: ConsoleOf, person: Signed) -> Response:
    """Draw which class was taken for which on the test images."""
    matrix = console.subject.test.confusion
    assert matrix is not None  # a Subject is multiclass
    return svg_response(confusion_figure(matrix, console.subject.class_names))


@router.get("/model/reliability.svg")
def reliability_chart(console: ConsoleOf, person: Signed) -> Response:
    """Draw how often the model was right at each confidence."""
    found = calibration_on_test(console.examiner)
    if found is None:
        raise NotFoundError("There are no test images to measure confidence on.")
    bins = found.after_mass
    return svg_response(reliability_figure(bins.confidence, bins.accuracy, bins.counts))


@router.get("/model/card.md")
def card_as_markdown(console: ConsoleOf, person: Signed) -> Response:
    """Send the model card as Markdown."""
    card = console.card
    if card is None:
        raise NotFoundError("There is no model card here.")
    name = 'attachment; filename="model-card.md"'
    return Response(
        card.markdown(), media_type="text/markdown", headers={"Content-Disposition": name}
    )


def facts(console: Console) -> list[tuple[str, str]]:
    """Return what the model is, name and value."""
    subject = console.subject
    known = [
        ("Network", subject.network),
        ("Weights (SHA-256)", subject.digest),
        ("Trained", subject.trained),
        ("Last round", "" if subject.round is None else f"{subject.round:,}"),
        ("Image set", subject.dataset_name),
        ("Its checksum", subject.dataset_checksum),
        ("Classes", ", ".join(subject.class_names)),
        ("Images", f"{subject.channels} × {subject.image_size} × {subject.image_size} pixels"),
        ("Before the network", str(console.examiner.identity["preprocessing"])),
    ]
    return [(name, value) for name, value in known if value]


def privacy_words(subject: Subject) -> str:
    """Return what was promised to those whose images it learnt from."""
    spent = subject.privacy
    if spent is None:
        return (
            "It was trained without differential privacy: nothing limits what the weights, or an "
            "explanation, may tell of a single training image."
        )
    # Rounded up: never less than what was spent.
    epsilon = math.ceil(1000 * float(spent["epsilon"]) - 1e-9) / 1000
    return (
        f"Epsilon {epsilon:g} at delta {spent.get('delta')}; the unit is one "
        f"{spent.get('unit')}, neighbouring sets differ by {spent.get('relation')}."
    )


def temperature_words(console: Console) -> str:
    """Return what the temperature of the confidence says."""
    value = console.examiner.temperature.value
    if value > 1.02:
        return "temperature: it was too sure of itself, and is set right by this"
    if value < 0.98:
        return "temperature: it was not sure enough, and is set right by this"
    return "temperature: its confidence was about right"


def calibration_words(console: Console) -> str:
    """Return how far confidence is what it is worth, before and after it was set right."""
    found = calibration_on_test(console.examiner)
    if found is None:
        return ""
    number = int(found.after_mass.counts.sum())
    line = "On the dashed line, an answer given with 80 % is right 8 times in 10."
    if console.card is not None:  # which has the numbers, of bins of equal width
        return f"{number:,} test images in groups of equal size, a dot each. {line}"
    return (
        f"On {number:,} test images, confidence was off by {percent(found.before_mass.error, 1)} on "
        f"average before it was set right, and by {percent(found.after_mass.error, 1)} after "
        f"(expected calibration error, bins of equal numbers). {line}"
    )


def class_table(subject: Subject) -> Table:
    """Return how well each class is found, and what it is taken for."""
    test, names = subject.test, subject.class_names
    assert test.confusion is not None  # a Subject is multiclass
    return Table(
        "On the test images. Precision: of the answers, the share that is right. Recall: of the "
        "class, the share that is found.",
        ("Class", "Precision", "Recall", "F1", "Images", "Most often taken for"),
        [
            (
                name,
                decimal(test.precision[place], 3),
                decimal(test.recall[place], 3),
                decimal(test.f1[place], 3),
                f"{test.support[place]:,}",
                _taken_for(test.confusion[place].tolist(), place, names),
            )
            for place, name in enumerate(names)
        ],
        words=(5,),
    )


def blind_words(subject: Subject) -> str:
    """Return how much of an image the network cannot see."""
    if subject.blind_area is None or not bool(subject.blind_area.any()):
        return "It sees the whole image."
    share = percent(float(subject.blind_area.double().mean()), 1)
    return (
        f"{share} of the image is outside of what it can see: whatever is there, the answer is the "
        "same. The maps hatch that part."
    )


def method_words(name: str) -> str:
    """Return what a method's maps are."""
    method = METHODS[name]
    said = [
        "evidence for and against" if method.signed else "evidence for",
        *(["sums to the change in score"] if method.complete else []),
        *(["drawn at random, with the run's seed"] if method.stochastic else []),
        *([] if method.class_specific else ["about the image, not a class"]),
    ]
    return "; ".join(said)


def _taken_for(row: Sequence[int], own: int, names: Sequence[str]) -> str:
    most = max((label for label in range(len(row)) if label != own), key=row.__getitem__)
    return f"{names[most]} ({row[most]:,})" if row[most] else "–"
