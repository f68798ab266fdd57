"""What was learnt: the curves, and how well each class is found."""

import numpy as np

from fedlens.report import words
from fedlens.report.confusion import MOST_COUNTED, class_figure, confusion_figure, lowest_shown
from fedlens.report.content import ReportContent
from fedlens.report.curves import Curve, curves_figure
from fedlens.report.history import Floats, aligned, mean_of
from fedlens.report.page import Drawer, Item, Section, text_only
from fedlens.report.sections.study import spread_table
from fedlens.report.tables import (
    class_table,
    confusions_table,
    cost_table,
)
from fedlens.report.wording import decimal, percent


def training_section(content: ReportContent, drawer: Drawer) -> Section:
    """Return loss, accuracy and gap by round or epoch, and how much they spread at the end."""
    name = words.unit(content)
    histories = [seed.history for seed in content.seeds]
    steps, train_loss = aligned(histories, "train_loss")
    loss = aligned(histories, "validation", "loss")[1]
    train_accuracy = aligned(histories, "train_accuracy")[1]
    accuracy = aligned(histories, "validation", "accuracy")[1]
    several = len(histories) > 1
    lines = " Thin lines are the seeds, thick ones their mean." if several else ""
    best = None if several else words.best_step(content)
    ring = f" The ring marks the best {name}." if best is not None else ""
    multilabel = content.task == "multilabel"
    charts: list[Item] = []
    for key, title, train, valid, percents, marked in (
        ("accuracy", "Accuracy (%)", train_accuracy, accuracy, True, not multilabel),
        ("loss", "Loss (nats)", train_loss, loss, False, multilabel),
    ):
        curves = [
            Curve(label, values, dashed=label == "training")
            for label, values in (("training", train), ("validation", valid))
            if not np.isnan(values).all()
        ]
        if not curves:
            continue
        figure = curves_figure(
            steps,
            curves,
            axis=title,
            unit=name.capitalize(),
            percent=percents,
            mark=best if marked else None,
            lowest=multilabel,
        )
        ends = ", ".join(f"{curve.label} {_end(curve.values, percents)}" for curve in curves)
        charts.append(
            drawer.chart(
                key,
                figure,
                f"{key.capitalize()} by {name}{_which(curves)}.{lines}{ring if marked else ''}",
                f"Line chart of {key} by {name}. At the end: {ends}.",
            )
        )
    averaged = aligned(histories, "averaged", "accuracy")[1]
    if not np.isnan(averaged).all():
        figure = curves_figure(
            steps,
            [Curve(f"{name}'s model", accuracy, dashed=True), Curve("average", averaged)],
            axis="Accuracy (%)",
            unit=name.capitalize(),
            percent=True,
        )
        charts.append(
            drawer.chart(
                "averaged",
                figure,
                f"Validation accuracy of each {name}'s model, dashed, and of the average of all up "
                f"to it, which is the model of the run.{lines}",
                f"Line chart of accuracy by {name}. At the end: {name}'s model "
                f"{_end(accuracy, True)}, average {_end(averaged, True)}.",
            )
        )
    gaps = train_accuracy - accuracy
    if not np.isnan(gaps).all():
        charts.append(
            drawer.chart(
                "gap",
                curves_figure(
                    steps,
                    [Curve("gap", 100 * gaps)],
                    axis="Overfitting gap (points)",
                    unit=name.capitalize(),
                    zero=True,
                ),
                f"Training minus validation accuracy by {name}, in percentage points.{lines}",
                f"Line chart of the overfitting gap by {name}; at the end "
                f"{_end(gaps, True)} of accuracy.",
            )
        )
    if not content.study:
        charts += spread_table(content)
    if not words.federated(content):
        charts += [table for table in [cost_table(content, unit=name)] if table.rows]
    rows = [charts[start : start + 2] for start in range(0, len(charts), 2)]
    paragraphs = text_only(" ".join(words.ending(content)), words.overfitting(content))
    return Section("training", f"{name.capitalize()} by {name}", paragraphs, rows)


def _which(curves: list[Curve]) -> str:
    if len(curves) > 1:
        return ": training dashed, validation solid"
    return f" on the {curves[0].label} images"


def _end(values: Floats, share: bool) -> str:
    """Return the last mean over seeds that is known, as text."""
    known = mean_of(values)
    known = known[~np.isnan(known)]
    return percent(float(known[-1])) if share else decimal(float(known[-1]))


def classes_section(content: ReportContent, drawer: Drawer) -> Section:
    """Return who is taken for whom and the figures of every class."""
    test = content.seeds[0].test
    rows: list[list[Item]] = []
    if test.confusion is not None:
        classes = len(content.class_names)
        seed = content.seeds[0].seed
        shown = f" Shown is seed {seed}." if len(content.seeds) > 1 else ""
        counts = " The number is the count of test images." if classes <= MOST_COUNTED else ""
        row: list[Item] = [
            drawer.chart(
                "confusion",
                confusion_figure(test.confusion, content.class_names),
                "Confusion matrix: each row is a true class, each column what the network said; "
                f"the darker, the larger the share of the true class.{counts}"
                f"{shown}",
                f"Confusion matrix of {classes} classes. {percent(test.accuracy)} of the "
                f"{test.examples:,} test images lie on the diagonal.",
                least=min(40 * classes + 120, 640),
            )
        ]
        pairs = confusions_table(content)
        rows.append([*row, pairs] if pairs is not None else row)
    table = class_table(content)
    scores = test.auc if test.auc is not None else test.f1
    name = "AUC" if test.auc is not None else "F1"
    values = np.stack(
        [seed.test.auc if seed.test.auc is not None else seed.test.f1 for seed in content.seeds]
    )
    place = int(np.nanargmin(scores)) if not np.isnan(scores).all() else 0
    chart = drawer.chart(
        "classes",
        class_figure(values, content.class_names, axis=f"{name} on the test images"),
        f"{name} of each {'label' if test.auc is not None else 'class'}"
        + ("; each dot is a seed." if len(content.seeds) > 1 else ".")
        + (" The axis does not start at zero." if lowest_shown(values) > 0 else ""),
        f"Dot plot of {name} by class; the lowest is {content.class_names[place]} at "
        f"{decimal(float(scores[place]), 3)}.",
    )
    rows.append([table, chart])
    title = "Label by label" if test.auc is not None else "Class by class"
    return Section("classes", title, _class_paragraphs(content), rows)


def _class_paragraphs(content: ReportContent) -> list[str]:
    if content.task == "multilabel":
        return [
            "An image may carry several labels, so there is no confusion matrix. AUC is the "
            "probability that an image with the label is given a higher score than one without: "
            "0.5 is chance. Accuracy counts every yes and no, and is high where labels are rare."
        ]
    return []
