"""The study beside the run: its figures, and the spread that it calls stability."""

import numpy as np

from fedlens.report import words
from fedlens.report.comparison import LATE, comparison, stability, study_f1
from fedlens.report.confusion import class_figure, lowest_shown
from fedlens.report.content import ReportContent
from fedlens.report.page import Chart, Drawer, Item, Section, Stack
from fedlens.report.tables import Table, comparison_table


def study_section(content: ReportContent, drawer: Drawer) -> Section | None:
    """Return the study's figures beside ours, or None where the run is not comparable."""
    figures = comparison(content)
    if not figures:
        return None
    source = str(content.study.get("source") or "the published study")
    given = study_f1(content.study)
    missing = [name for name in content.class_names if name not in given]
    table = comparison_table(figures, len(content.seeds))
    beside: list[Chart | Table] = list(spread_table(content))
    if content.task == "multiclass" and given:
        values = np.stack([seed.test.f1 for seed in content.seeds])
        beside.insert(
            0,
            drawer.chart(
                "f1-study",
                class_figure(
                    values, content.class_names, axis="F1 on the test images", study=given
                ),
                "F1 of each class: the study's figure as an open diamond, each seed of this run "
                "as a dot."
                + (" The axis does not start at zero." if lowest_shown(values) > 0 else ""),
                "Dot plot of F1 by class for this run and for the study; the numbers are in the "
                "table beside it.",
            ),
        )
    row: list[Item] = [table, Stack(beside)] if beside else [table]
    gone = f" It gives no figure for {', '.join(missing)}." if missing else ""
    return Section("study", "Beside the study", [f"The study is {source}.{gone}"], [row])


def spread_table(content: ReportContent) -> list[Table]:
    """Return how much each metric moves at the end, as no table or one."""
    rows = stability(content)
    if not rows:
        return []
    name = words.unit(content)
    late = min(LATE, len(content.seeds[0].history))
    definition = (
        f"Late spread: the sample standard deviation of a metric over the last {late} {name}s; "
        "accuracies count as shares, so 0.01 is one point."
    )
    columns = ["Metric", "Late spread"]
    if len(rows[0]) > 2:
        columns += ["The study", "Ours is"]
        definition += (
            " The study calls training stable below its bound on a standard deviation per epoch, "
            "but does not say over what it is taken: this definition is ours."
        )
    return [Table(definition, columns, rows)]
