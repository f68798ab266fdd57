"""The model card of a finished run: what the model is for, how good it is, and where it is not.

The headings are those of Mitchell et al., "Model Cards for Model Reporting", 2019; every sentence and
figure comes from the run.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedlens.report import privacy_words
from fedlens.report.content import ReportContent
from fedlens.report.history import steps
from fedlens.report.tables import Table, class_table, confusions_table, split_table
from fedlens.report.withheld import hides_clients, training_counts
from fedlens.report.wording import NONE, count, decimal, listing, percent, whole
from fedlens.report.words import (
    blindness,
    federated,
    hidden_light,
    looks_at_no_class,
    model_name,
    overfitting,
    sharing,
    statement,
    unit,
)
from fedlens.training.calibration import Calibration, Temperature
from fedlens.training.evaluation import Evaluation

FEW = 30
"""Test images of a class or group below which its figures are called uncertain."""

ABOUT_RIGHT = 0.02
"""Distance of a temperature from 1 below which confidence was right from the start."""

_ESCAPED = re.compile(r"([\\`*_{}\[\]<>#|])")


@dataclass(frozen=True)
class CardSection:
    """One part of a card.

    Attributes:
        heading: its title.
        sentences: plain text, one paragraph each.
        tables: see :class:`fedlens.report.tables.Table`.
    """

    heading: str
    sentences: Sequence[str]
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class ModelCard:
    """A model card, ready to be set.

    Attributes:
        title: one line.
        sections: in the order of the paper.
    """

    title: str
    sections: Sequence[CardSection]

    def markdown(self) -> str:
        """Return the card as one Markdown document (tables as in GitHub's)."""
        parts = [f"# Model card: {_escaped(self.title)}"]
        for section in self.sections:
            parts.append(f"## {_escaped(section.heading)}")
            parts += [_escaped(sentence) for sentence in section.sentences]
            for table in section.tables:
                parts += [_escaped(table.caption), _markdown_table(table)]
        return "\n\n".join(parts) + "\n"


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of the model beside its run; what is None is said not to have been.

    Attributes:
        weights: SHA-256 of the weights; empty where not known.
        temperature: what its confidence is set right by, found on validation images.
        calibration: what that does on test images.
        groups: institution (or patient group) -> figures on its test images.
        methods: explanation methods that are offered.
        no_class: those of them that look at no class.
        oversight: how people oversee it, plain sentences; the card says that it is not known where
            there are none.
    """

    weights: str = ""
    temperature: Temperature | None = None
    calibration: Calibration | None = None
    groups: Mapping[str, Evaluation] | None = None
    methods: Sequence[str] = ()
    no_class: Sequence[str] = ()
    oversight: Sequence[str] = ()


def model_card(content: ReportContent, measured: Measured | None = None) -> ModelCard:
    """Return the card of a run.

    Args:
        content: what its report is made from.
        measured: what else is known of the model.
    """
    known = measured or Measured()
    sections = [
        CardSection("Model details", _details(content, known)),
        CardSection("Intended use", _use(content)),
        CardSection("Out of scope", _out_of_scope(content)),
        CardSection("Factors", _factors(content, known)),
        CardSection("Metrics", _metrics(content)),
        CardSection("Evaluation data", _evaluation_data(content), [split_table(content)]),
        CardSection("Training data", _training_data(content)),
        CardSection("Quantitative analyses", _analyses(content, known), _tables(content, known)),
        CardSection("Confidence", _confidence(known)),
        CardSection("Privacy", _privacy(content)),
        CardSection("Explanations and their limits", _explanations(content, known)),
        CardSection("Human oversight", _oversight(known)),
        CardSection("Ethical considerations", _ethics(content, known)),
        CardSection("Caveats and recommendations", _caveats(content, known)),
    ]
    return ModelCard(content.title, sections)


def _details(content: ReportContent, known: Measured) -> list[str]:
    found = [" ".join(statement(content))]
    where = content.environment
    versions = where.get("packages", {})
    made = [
        f"trained from {where['started'][:10]}" if isinstance(where.get("started"), str) else "",
        f"with fedlens {versions['fedlens']}"
        if isinstance(versions, Mapping) and "fedlens" in versions
        else "",
        f"seed {content.seeds[0].seed}",
    ]
    last = max(steps(content.seeds[0].history), default=0)
    version = f"Version: {unit(content)} {last:,}, {', '.join(part for part in made if part)}."
    if known.weights:
        version += f" SHA-256 of the weights: {known.weights}."
    return [*found, version]


def _use(content: ReportContent) -> list[str]:
    shape = content.input_shape
    kind = f" of {shape[1]} x {shape[2]} pixels and {count(shape[0], 'channel')}" if shape else ""
    every = "any number of labels" if content.task == "multilabel" else "one class"
    names = listing([str(name) for name in content.class_names])
    return [
        f"To give each image{kind} that is like those of {content.dataset_name} {every} of "
        f"{names}, as a suggestion to a person who decides.",
        "For people who know the field and can judge an image without the model.",
    ]


def _out_of_scope(content: ReportContent) -> list[str]:
    found = [
        f"Images of anything else than {content.dataset_name} holds: whatever it is shown, the model "
        f"answers with one of its {len(content.class_names)} classes.",
        "Decisions without a person, and uses for which the figures below were not measured: other "
        "devices, institutions or populations.",
    ]
    if content.blind_area is not None:
        found.append("Questions about parts of an image that the network cannot see (see below).")
    return found


def _factors(content: ReportContent, known: Measured) -> list[str]:
    found = [f"Figures are given for each class ({len(content.class_names)})"]
    groups = known.groups or {}
    found[0] += f" and each group ({len(groups)})." if groups else "."
    if not groups:
        found.append(
            "No groups are known in the test images: how the figures differ between institutions, "
            "devices or people was not measured."
        )
    return found


def _metrics(content: ReportContent) -> list[str]:
    if content.task == "multilabel":
        return [
            "Each label is judged by the area under its ROC curve, and by precision, recall and F1 at "
            "probability 0.5."
        ]
    return [
        "Accuracy is the share of right answers. Precision is how often the model is right when it "
        "names a class, recall how many images of a class it finds, F1 their harmonic mean; macro F1 "
        "is the mean over classes, each counting the same.",
        "A class is decided by the largest logit; there is no threshold.",
    ]


def _evaluation_data(content: ReportContent) -> list[str]:
    number = whole(int(content.seeds[0].test.examples))
    found = [f"All test figures are of {number} images of {content.dataset_name}{_which(content)}."]
    held_out = content.configuration.get("dataset", {}).get("hold_out") is not False
    found.append(
        "Training made no use of them."
        if held_out
        else "There is no held-out validation split: what was chosen by it was chosen by these images."
    )
    return found


def _training_data(content: ReportContent) -> list[str]:
    total = whole(int(content.split_counts[0].sum()))
    what = "images" if content.task == "multiclass" else "labels on images"
    if not federated(content):
        return [f"{total} {what} of {content.dataset_name}, pooled in one place."]
    clients = count(len(content.client_names), "client")
    if hides_clients(content):
        found = [f"Images of {content.dataset_name}, held by {clients}. {training_counts(content)}"]
    else:
        found = [f"{total} {what} of {content.dataset_name}, held by {clients}."]
    return [*found, sharing(content)] if sharing(content) else found


def _analyses(content: ReportContent, known: Measured) -> list[str]:
    test = content.seeds[0].test
    low, high = _interval(test)
    between = f" (95 % interval {percent(low, 1)} to {percent(high, 1)})" if low <= high else ""
    found = [
        f"Test accuracy is {percent(test.accuracy)}{between}, macro F1 {decimal(test.macro_f1, 3)}, "
        f"mean loss {decimal(test.loss)}."
    ]
    gap = overfitting(content)
    if gap:
        found.append(gap)
    figures = {name: figure.accuracy for name, figure in (known.groups or {}).items()}
    if len(figures) > 1:
        worst, best = min(figures, key=figures.__getitem__), max(figures, key=figures.__getitem__)
        found.append(
            f"Of the groups it serves {best} best ({percent(figures[best], 1)}) and {worst} worst "
            f"({percent(figures[worst], 1)})."
        )
    return found


def _tables(content: ReportContent, known: Measured) -> list[Table]:
    found = [class_table(content)]
    confusions = confusions_table(content)
    if confusions is not None:
        found.append(confusions)
    if known.groups:
        found.append(_group_table(known.groups))
    return found


def _group_table(groups: Mapping[str, Evaluation]) -> Table:
    rows = []
    for name, figures in groups.items():
        low, high = _interval(figures)
        between = f"{percent(low, 1)} to {percent(high, 1)}" if low <= high else NONE
        accuracy = percent(figures.accuracy, 1)
        macro = decimal(figures.macro_f1, 3)
        rows.append([name, accuracy, between, macro, whole(figures.examples)])
    return Table(
        "Each group on its own test images.",
        ("Group", "Accuracy", "95 % interval", "Macro F1", "Test images"),
        rows,
    )


def _confidence(known: Measured) -> list[str]:
    if known.temperature is None:
        return ["Whether the model's confidence is worth what it says was not measured."]
    value = known.temperature.value
    how = "too sure of itself" if value > 1 else "not sure enough"
    if abs(value - 1) < ABOUT_RIGHT:
        how = "about as sure as it may be"
    found = [
        f"Confidence is set right by one number (temperature {decimal(value, 3)}, found on "
        f"{whole(known.temperature.examples)} validation images); without it the model is {how}. No "
        "decision changes by it."
    ]
    if known.calibration is not None:
        before, after = known.calibration.before, known.calibration.after
        number = whole(int(after.counts.sum()))
        found.append(
            f"On {number} test images confidence misses the share of right answers by "
            f"{percent(before.error, 1)} on average before and by {percent(after.error, 1)} after "
            f"(expected calibration error, {len(after.counts)} bins of equal width)."
        )
    found.append(
        "It speaks for images like these alone: of an image unlike them confidence says nothing."
    )
    return found


def _privacy(content: ReportContent) -> list[str]:
    if content.privacy is None:
        return [
            "Training was not differentially private: what the weights tell of a single training "
            "image has no bound."
        ]
    return [*privacy_words.promise(content), *privacy_words.notices(content)]


def _explanations(content: ReportContent, known: Measured) -> list[str]:
    methods = list(known.methods) or [content.explain_method] * bool(content.explain_method)
    if not methods:
        return ["No method explains this model's decisions."]
    found = [
        f"Decisions are shown with maps of {listing(methods)}.",
        "A map shows where evidence for a class lies in the image, as far as the method can tell. It "
        "does not show that the decision is right, nor is it a reason in a person's sense: a wrong "
        "answer can have a convincing map.",
        looks_at_no_class(known.no_class),
    ]
    if content.blind_area is not None:
        found += [blindness(content.blind_area), hidden_light(content)]
    else:
        found.append("The network sees the whole image.")
    return [sentence for sentence in found if sentence]


def _oversight(known: Measured) -> list[str]:
    return list(known.oversight) or [
        "How people oversee the model is not known here; say so where it is put to use."
    ]


def _ethics(content: ReportContent, known: Measured) -> list[str]:
    found = [
        "People tend to follow a suggestion even where it is wrong. Whoever decides should look at "
        "the image before the answer, and be able to overrule it."
    ]
    if not known.groups:
        found.append(
            "Whether the model serves some people worse than others cannot be told from its test "
            "images."
        )
    if content.privacy is None:
        found.append("Do not give the weights to anybody who may not have the training images.")
    return found


def _caveats(content: ReportContent, known: Measured) -> list[str]:
    test, names = content.seeds[0].test, content.class_names
    recall = np.where(test.support > 0, test.recall, np.nan)
    found = list(content.notices)
    if not np.isnan(recall).all():
        place = int(np.nanargmin(recall))
        found.append(
            f"It misses {names[place]} most often: of {whole(int(test.support[place]))} test images "
            f"it finds {percent(float(recall[place]), 1)}."
        )
    few = [str(name) for name, number in zip(names, test.support, strict=True) if number < FEW]
    few += [name for name, figures in (known.groups or {}).items() if figures.examples < FEW]
    if few:
        found.append(
            f"There are fewer than {FEW} test images of {listing(few)}: those figures are uncertain."
        )
    if len(content.seeds) == 1:
        found.append(
            f"One seed was run: how much of a figure is chance of {model_name(content)}'s training "
            "is not known."
        )
    if content.simulated and federated(content):
        found.append("The federation was simulated on one machine.")
    found.append("Measure again before use in another place, and whenever the images change.")
    return found


def _which(content: ReportContent) -> str:
    """Return which image set of that name it is; where it lay on somebody's disk is no one's matter."""
    dataset = content.environment.get("dataset")
    checksum = dataset.get("checksum") if isinstance(dataset, dict) else None
    return f" (checksum {checksum[:16]})" if isinstance(checksum, str) and checksum else ""


def _interval(figures: Evaluation) -> tuple[float, float]:
    """Return Wilson's 95 % interval of an accuracy; NaN where answers are not one an image."""
    number, share = figures.examples, figures.accuracy
    if number < 1 or figures.task != "multiclass":
        return float("nan"), float("nan")
    z = 1.959963984540054
    middle = (share + z * z / (2 * number)) / (1 + z * z / number)
    reach = z * np.sqrt(share * (1 - share) / number + z * z / (4 * number**2))
    reach /= 1 + z * z / number
    return float(max(0.0, middle - reach)), float(min(1.0, middle + reach))


def _escaped(text: str) -> str:
    """Return plain text so that Markdown shows it as it is, on one line."""
    return _ESCAPED.sub(r"\\\1", " ".join(text.split()))


def _markdown_table(table: Table) -> str:
    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"

    left = {0, *table.words}
    rule = [("---" if place in left else "---:") for place in range(len(table.columns))]
    return "\n".join(
        [row(table.columns), "| " + " | ".join(rule) + " |", *(row(cells) for cells in table.rows)]
    )
