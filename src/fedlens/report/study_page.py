"""The page of a study, with its figures, its table and its manifest beside it."""

import csv
import io
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fedlens.files import without_nan, write_json, write_text
from fedlens.report.html import FIGURES, template
from fedlens.report.page import Drawer, Item, Section, text_only
from fedlens.report.privacy_study import privacy_sections
from fedlens.report.study_content import Advice, CellResult, Group, StudySummary
from fedlens.report.study_figures import StudyCurve, foot, study_figure
from fedlens.report.study_tables import (
    accuracy_table,
    class_table,
    cost_table,
    drift_table,
    fairness_table,
    missing_table,
    target_table,
)
from fedlens.report.style import make_folder, shown
from fedlens.report.tables import Table
from fedlens.report.wording import count, duration, listing, percent, with_spread

PAGE, TABLE, MANIFEST = "study.html", "table.csv", "manifest.json"
RULE = (
    "Computed from the figures below. Each algorithm is held against FedAvg (the first algorithm, "
    "where a study has no FedAvg) by its accuracy after the last round, on the seeds that both have. "
    "A lead counts where it is larger than the spread: the standard deviations over seeds of both "
    "together. Fewer than three seeds leave a point open at least, a single one as much as both curves "
    "vary over the last tenth of the rounds (five at least), and they are a reason to try an "
    "algorithm, not to use it. So is the lead of one that fails on a seed: that loses 20 points or "
    "more of its best round, to the end, ends no more than two points above guessing, or has no update "
    "that can be used any more; and so is one that does not fail where FedAvg does. An average over "
    "the rounds (federation.averaging) is advised where it is better than the last round on each of "
    "three seeds or more."
)


def write_study_page(summary: StudySummary, advice: Sequence[Advice], folder: Path) -> Path:
    """Write ``study.html``, ``figures/``, ``table.csv`` and ``manifest.json``; return the page.

    The page needs no other file, no script and no network, and is written last.

    Raises:
        RunError: the folder cannot be written to.
    """
    make_folder(folder / FIGURES)
    drawer = Drawer(folder / FIGURES)
    sections = [_about(summary), _accuracy(summary)]
    if summary.kind == "privacy":
        sections += privacy_sections(summary, drawer)
    else:
        sections += [
            _curves(summary, drawer),
            _targets(summary),
            _classes(summary),
            _fairness(summary),
            Section("drift", "Drift", (), [[drift_table(summary)]]),
            Section("cost", "Time and bytes", (), [[cost_table(summary)]]),
        ]
    if summary.missing:
        sections.append(_missing(summary))
    write_text(folder / TABLE, table_csv(summary))
    write_json(folder / MANIFEST, without_nan(manifest(summary)))
    page = template("study.html.j2").render(
        title=summary.title,
        kicker=_kicker(summary),
        advice=advice,
        rule="" if summary.kind == "privacy" else RULE,
        notices=_notices(summary),
        sections=sections,
        command=_command(summary),
        made=_made_with(summary),
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def table_csv(summary: StudySummary) -> str:
    """Return the cells as CSV, a row each; what is not known is left empty."""
    header = [
        "partition", "algorithm", "seed", "state", "rounds", "final_accuracy", "best_accuracy",
        "best_round", "lost_in_round", "worst_client", "client_range", "client_sd",
        "clients_measured", "mean_cosine", "last_cosine", "total_bytes", "seconds", "averaged_accuracy",
    ]  # fmt: skip
    goals = [f"{100 * target:g}" for target in summary.targets]
    header += [f"rounds_to_{goal}" for goal in goals] + [f"bytes_to_{goal}" for goal in goals]
    header += [f"f1_{name}" for name in summary.class_names]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for cell in summary.cells:
        values: list[Any] = [
            cell.partition, cell.algorithm, cell.seed, "finished", cell.rounds, cell.final, cell.best,
            cell.best_round, cell.lost_in, cell.worst_client, cell.client_range, cell.client_sd,
            len(cell.clients), cell.mean_cosine, cell.cosines[-1], cell.total_bytes, cell.seconds,
            cell.final_average, *(cell.reached(target) for target in summary.targets),
            *(cell.bytes_to(target) for target in summary.targets),
            *cell.f1,
        ]  # fmt: skip
        writer.writerow("" if value is None else value for value in without_nan(values))
    for gone in summary.missing:
        values = [gone.partition, gone.algorithm, gone.seed, gone.state or "not begun"]
        writer.writerow(values + [""] * (len(header) - len(values)))
    return text.getvalue()


def manifest(summary: StudySummary) -> dict[str, Any]:
    """Return what each cell was made from and gave, as plain JSON values (NaN may be among them).

    It holds every figure of the page, so that the study can be gone on with from it elsewhere.
    """
    return {
        "study": summary.name,
        "quick": summary.quick,
        "measured_on": summary.measured_on,
        "class_names": list(summary.class_names),
        "cells": [
            {
                "cell": f"{cell.partition}/{cell.algorithm}/{cell.seed}",
                "folder": cell.folder,
                "seed": cell.seed,
                "final_accuracy": cell.final,
                "best_accuracy": cell.best,
                "best_round": cell.best_round,
                "seconds": cell.seconds,
                "commit": cell.environment.get("commit"),
                "machine": {
                    key: cell.environment.get(key)
                    for key in ("system", "processor", "cores", "memory_gib", "python", "packages")
                },
                "config": dict(cell.config),
                "figures": {
                    "accuracy": cell.accuracy,
                    "sent": cell.sent,
                    "f1": cell.f1,
                    "clients": cell.clients,
                    "federation": cell.federation,
                    "cosines": cell.cosines,
                    "privacy": dict(cell.privacy) or None,
                    "averaged": cell.averaged,
                    "runaway": None if cell.runaway is None else asdict(cell.runaway),
                },
            }
            for cell in summary.cells
        ],
        "missing": [gone.name for gone in summary.missing],
    }


def _about(summary: StudySummary) -> Section:
    if summary.kind == "privacy":
        return Section("about", "What was compared, and how", text_only(summary.about))
    names = list(summary.algorithms.values())
    grid = (
        f"The grid: {count(len(summary.partitions), 'partition')} of the training images "
        f"({listing(list(summary.partitions.values()))}), each with "
        f"{count(len(names), 'algorithm')} ({listing(names)})."
    )
    if summary.missing:
        grid += (
            f" Finished are {len(summary.cells)} of its {summary.total} cells, those shown here."
        )
    if any(cell.averaged for cell in summary.cells):
        grid += (
            " A run that averages its rounds' models keeps the average; what is not called an average "
            "below is of the last round's own model."
        )
    return Section("about", "What was compared, and how", text_only(summary.about, grid))


def _accuracy(summary: StudySummary) -> Section:
    return Section("accuracy", "Accuracy", (), [[accuracy_table(summary)]])


def _curves(summary: StudySummary, drawer: Drawer) -> Section:
    begun = {cell.algorithm for cell in summary.cells}
    places = {name: place for place, name in enumerate(n for n in summary.algorithms if n in begun)}
    charts: list[Item] = []
    for partition, title in summary.begun_partitions().items():
        groups = summary.groups(partition)
        curves = [
            StudyCurve(
                summary.algorithms[group.algorithm], _table_of(group), places[group.algorithm]
            )
            for group in groups
        ]
        seeds = {len(group.seeds) for group in groups}
        mean = "" if seeds == {1} else " Lines are means over the finished seeds."
        low = foot(curves)
        cut = "" if low is None else f" What lies below {percent(low, 0)} is not drawn."
        ends = "; ".join(
            f"{summary.algorithms[group.algorithm]} "
            f"{with_spread(group.over_seeds(lambda cell: cell.final), percent)}"
            for group in groups
        )
        chart = drawer.chart(
            f"accuracy-{partition}",
            study_figure(curves, axis=f"{shown(title)}: accuracy (%)"),
            f"{title}: accuracy on the {summary.measured_on} after each round; beside each name, the "
            f"last value.{mean} The axis does not start at zero.{cut}",
            f"{title}: accuracy by round. At the end: {ends}.",
        )
        charts.append(chart)
    rows = [charts[n : n + 2] for n in range(0, len(charts), 2)]
    return Section("curves", "Round by round", (), rows)


def _table_of(group: Group) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return (S, R) the accuracies of a group, NaN after the end of a shorter run."""
    longest = max(cell.rounds for cell in group.cells)
    table = np.full((len(group.cells), longest), np.nan)
    for row, cell in zip(table, group.cells, strict=True):
        row[: cell.rounds] = cell.accuracy
    return table


def _targets(summary: StudySummary) -> Section:
    never = [
        percent(target, 0)
        for target in summary.targets
        if all(cell.reached(target) is None for cell in summary.cells)
    ]
    tables = [
        target_table(summary, target)
        for target in summary.targets
        if percent(target, 0) not in never
    ]
    said = f"No cell reached {' or '.join(never)}." if never else ""
    return Section(
        "targets", "Rounds and bytes to a target", text_only(said), [[t] for t in tables]
    )


def _classes(summary: StudySummary) -> Section:
    tables = [class_table(summary, partition) for partition in summary.begun_partitions()]
    return Section("classes", "Class by class", (), [[table] for table in tables])


def _fairness(summary: StudySummary) -> Section:
    few = sum(len(cell.clients) < cell.federation for cell in summary.cells)
    note = (
        "A client's accuracy is the global model's on the "
        f"{summary.measured_on}, weighted to that client's own mix of classes."
    )
    if summary.sampled:
        gone = (
            "Only the cohort that was drawn for the last round is measured, not all clients, and of it "
            "those whose update was used."
        )
    elif few:
        gone = (
            f"In {count(few, 'cell')} not all clients are measured: those whose last update was not "
            "used are not there."
        )
    else:
        gone = ""
    return Section(
        "fairness", "How it serves the clients", text_only(note, gone), [[fairness_table(summary)]]
    )


def _missing(summary: StudySummary) -> Section:
    sentence = (
        f"{len(summary.missing)} of the {summary.total} cells are not finished; the same command "
        "goes on with them."
    )
    return Section("missing", "Cells that are missing", (sentence,), [[missing_table(summary)]])


def _kicker(summary: StudySummary) -> str:
    small = " · small version" if summary.quick else ""
    return f"Study {summary.name} · {len(summary.cells)} of {summary.total} cells finished{small}"


def _notices(summary: StudySummary) -> list[str]:
    notices = []
    if summary.quick:
        notices.append(
            "This is the small version of the study: few images and rounds, to see that it runs. Its "
            "figures say nothing about the algorithms."
        )
    if "test split" in summary.measured_on:
        notices.append(
            "Each round is measured on the test split, as published tables are. No round and no "
            "parameter may be chosen by it: best rounds are shown for comparison only. Which algorithm "
            "comes out ahead is a finding about this split."
        )
    if summary.missing:
        notices.append(
            f"{len(summary.missing)} of {summary.total} cells are not finished and not counted here."
        )
    return notices


def _command(summary: StudySummary) -> str:
    first = summary.cells[0]
    name = f"{first.partition}/{first.algorithm}/{first.seed}"
    quick = ["--quick"] if summary.quick else []
    return shlex.join(
        [
            "fedlens",
            "study",
            summary.called or summary.name,
            "--only",
            name,
            *quick,
            "--out",
            "studies/again",
        ]
    )


def _made_with(summary: StudySummary) -> Table:
    """Return the commits, machines and packages of the cells, and the time they took."""

    def every(key: str) -> str:
        return ", ".join(sorted({str(cell.environment.get(key) or "–") for cell in summary.cells}))

    packages = {
        f"{name} {version}"
        for cell in summary.cells
        for name, version in dict(cell.environment.get("packages") or {}).items()
    }
    rows = [
        ["commit", every("commit")],
        ["processor", every("processor")],
        ["system", every("system")],
        ["python", every("python")],
        ["packages", ", ".join(sorted(packages)) or "–"],
        ["time of all cells", duration(_total_seconds(summary.cells))],
    ]
    return Table("What the cells were run with.", ("Key", "Value"), rows, words=(1,))


def _total_seconds(cells: Sequence[CellResult]) -> float:
    return sum(cell.seconds for cell in cells)
