"""``fedlens run``, ``resume`` and ``report``."""

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.text import Text

from fedlens.cli.display import errors, out, print_json, table, watching
from fedlens.cli.options import ConfigFile, Json, Preset, RunPath, Set
from fedlens.errors import ConfigError, RunError
from fedlens.experiment.config import load_config
from fedlens.experiment.ledger import terms_of
from fedlens.experiment.opened import Run, find_dataset, find_dataset_or_embedded, load_run
from fedlens.experiment.privacy import private
from fedlens.experiment.quick import quick_values
from fedlens.experiment.reporting import report_run
from fedlens.experiment.run import resume_run, start_run
from fedlens.experiment.run_directory import RunDirectory
from fedlens.files import without_nan
from fedlens.report.privacy_words import epsilon_text, small
from fedlens.training.memory import keep_freed_memory

STOPPED = 130  # the shell's exit code for Ctrl-C
ALL = 0.99  # of a budget: noise is found to a few thousandths of it


def run(
    config: ConfigFile = None,
    *,
    preset: Preset = None,
    set_: Set = None,
    mode: Annotated[
        str | None, typer.Option(help="federated or central.", show_default=False)
    ] = None,
    out_: Annotated[
        Path | None,
        typer.Option("--out", help="Run directory to make.", show_default="runs/NAME"),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(
            help="Privacy budget: hides each example (dp-sgd) unless privacy.mechanism is set.",
            show_default=False,
        ),
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help="Of the privacy budget, e.g. 1e-5.", show_default=False)
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small version of the same, in seconds.")
    ] = False,
    or_embedded: Annotated[
        bool,
        typer.Option(
            "--or-embedded", help="Use the embedded digits where the image set cannot be had."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Train, evaluate, explain and report: one run, one directory.

    Without a configuration it trains a network on Fashion-MNIST with ten clients.

    Examples:

        fedlens run

        fedlens run --preset paper --set repeats=1

        fedlens run --set partition.scheme=classes --set federation.rounds=20 --out runs/two-classes

        fedlens run --set dataset.path=scans.npz --set partition.scheme=group

        fedlens run --preset private --epsilon 3 --delta 1e-5
    """
    overrides = list(set_ or [])
    if mode is not None:
        overrides.insert(0, f'mode="{mode}"')
    if preset is None and config is None:
        preset = "first"
    base = {} if epsilon is None else {"privacy": {"mechanism": "dp-sgd"}}
    overrides += [] if epsilon is None else [f"privacy.epsilon={epsilon!r}"]
    overrides += [] if delta is None else [f"privacy.delta={delta!r}"]
    chosen = load_config(config, preset=preset, overrides=overrides, base=base)
    if delta is not None and chosen.privacy.mechanism == "none":
        raise ConfigError("--delta was given without a budget; give --epsilon too.")
    if quick:
        chosen = quick_values(chosen)
    name = preset if config is None else config.stem
    folder = out_ or _free_folder(Path("runs") / str(name))
    notices: list[str] = []
    if or_embedded:
        chosen, dataset, notices = find_dataset_or_embedded(chosen, progress=not json)
    else:
        dataset = find_dataset(chosen, progress=not json)
    for notice in notices:
        errors.print(f"Note: {notice}", style="yellow", soft_wrap=True)
    keep_freed_memory()
    try:
        with watching(quiet=json) as watch:
            finished = start_run(chosen, folder, dataset=dataset, notices=notices, watch=watch)
    except KeyboardInterrupt:
        _stopped(folder)
    _finish(finished, json)


def resume(path: RunPath, *, json: Json = False) -> None:
    """Go on with a run that was stopped or killed.

    The result is the same, bit for bit, as if it had never been stopped; of a private run, whose noise
    cannot be drawn again, it is another draw, and a round that was cut off has been paid for.

    Example:

        fedlens resume runs/first
    """
    keep_freed_memory()
    try:
        with watching(quiet=json) as watch:
            finished = resume_run(path, watch=watch)
    except KeyboardInterrupt:
        _stopped(path)
    _finish(finished, json)


def report(path: RunPath, *, json: Json = False) -> None:
    """Write the report of a finished run again.

    Example:

        fedlens report runs/first
    """
    _finish(load_run(path), json)


def _finish(finished: Run, json: bool) -> None:
    if finished.result is None:
        raise RunError(
            f"{finished.path} is not finished; go on with `fedlens resume {finished.path}`."
        )
    page = report_run(finished)
    summary = _summary(finished, page)
    if json:
        print_json(without_nan(summary))
        return
    tests = [part.test for part in finished.parts or (finished,)]
    multilabel = tests[0].auc is not None
    per_class = np.array(
        [np.where(t.support > 0, t.f1, np.nan) if t.auc is None else t.auc for t in tests]
    )
    name = "AUC" if multilabel else "F1"
    rows = [
        [label, "" if np.isnan(value) else f"{value:.3f}"]
        for label, value in zip(finished.class_names, per_class.mean(0), strict=True)
    ]
    spent = summary.get("privacy", [])
    table(
        "Test split and privacy" if spent else "Test split",
        ["label" if multilabel else "class", name],
        rows,
        _spent_rows(spent[0]) if spent else None,
    )
    if multilabel:
        _headline("Mean AUC", [float(np.nanmean(row)) for row in per_class], 3)
        _headline("Accuracy over all yes/no answers", [100 * t.accuracy for t in tests], 2, " %")
    else:
        _headline("Test accuracy", [100 * t.accuracy for t in tests], 2, " %")
    if len(spent) > 1:
        out.print(
            f"That is what seed {summary['seeds'][0]} has spent; each of the {len(spent)} seeds is a "
            f"release of its own, and together they cost more: fedlens privacy ledger {finished.path}",
            highlight=False,
            soft_wrap=True,
        )
    out.print(f"Report: {page}", highlight=False, soft_wrap=True)


def _spent(part: Run) -> dict[str, Any]:
    """Return what a private run has spent, with all that belongs to such a number."""
    told, terms = (part.result or {})["privacy"], terms_of(part.config)
    epsilon = math.inf if told["epsilon"] is None else told["epsilon"]
    early = (part.result or {}).get("ended_early") is True
    return {
        "epsilon": epsilon,
        "delta": terms.delta,
        "unit": terms.unit,
        "relation": terms.relation,
        "budget": terms.budget,
        "used_up": None if terms.budget is None else early or epsilon >= ALL * terms.budget,
        "guarantee": terms.guarantee,
    }


def _spent_rows(spent: dict[str, Any]) -> list[list[str]]:
    budget = "none was set"
    if spent["budget"] is not None:
        early = spent["used_up"] and spent["epsilon"] < ALL * spent["budget"]
        budget = f"{spent['budget']:g}, {'' if spent['used_up'] else 'not '}used up"
        budget += ": training ended early" if early else ""
    rows = [
        ["epsilon (PLD)", epsilon_text(spent["epsilon"])],
        ["delta", small(spent["delta"])],
        ["unit", f"one {spent['unit']}"],
        ["neighbours", spent["relation"]],
        ["budget", budget],
    ]
    return rows if spent["guarantee"] else [*rows, ["guarantee", "none: seeded"]]


def _headline(name: str, values: list[float], digits: int, unit: str = "") -> None:
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    text = Text(f"{name} ").append(f"{np.mean(values):.{digits}f}{spread}{unit}", style="bold")
    out.print(text, highlight=False)


def _summary(finished: Run, page: Path) -> dict[str, Any]:
    runs = finished.parts or (finished,)
    tests = [part.test for part in runs]
    spent = {"privacy": [_spent(part) for part in runs]} if private(finished.config) else {}
    return {
        "run": str(finished.path),
        "report": str(page),
        "seeds": [part.config.seed for part in runs],
        "test_accuracy": [t.accuracy for t in tests],
        "test_loss": [t.loss for t in tests],
        "macro_f1": [t.macro_f1 for t in tests],
        "auc": [None if t.auc is None else t.auc.tolist() for t in tests],
        "results": [
            {key: value for key, value in (part.result or {}).items() if key != "test"}
            for part in runs
        ],
        "notices": finished.environment.get("notices", []),
        **spent,
    }


def _free_folder(wanted: Path) -> Path:
    """Return ``wanted``, or the first of ``wanted-2``, ``wanted-3``, ... that does not exist."""
    folder, number = wanted, 1
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


def _stopped(folder: Path) -> None:
    if RunDirectory(folder).config_file.exists():
        errors.print(f"Stopped. Go on with: fedlens resume {folder}", soft_wrap=True)
    else:
        errors.print("Stopped before the run had begun; the same command starts it.")
    raise typer.Exit(STOPPED)
