"""The figures of a study, gathered from the run directories of its cells."""

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from fedlens.errors import ConfigError, RunError
from fedlens.experiment.opened import Run, load_run
from fedlens.experiment.run_directory import RunDirectory
from fedlens.experiment.study.elsewhere import Elsewhere
from fedlens.experiment.study.grid import Cell, Study
from fedlens.experiment.study.recommendation import recommend
from fedlens.report.history import listed, look, number, series
from fedlens.report.runaway import first_runaway
from fedlens.report.study_content import CellResult, MissingCell, StudySummary

__all__ = ["FINISHED", "cell_state", "recommend", "summarise"]

FINISHED = "finished"


def summarise(study: Study, folder: Path, elsewhere: Elsewhere | None = None) -> StudySummary:
    """Return the figures of the cells of ``study`` that are finished; the others are named.

    Args:
        study: the grid.
        folder: directory of the study, with the run directories below ``cells/``.
        elsewhere: cells that were finished elsewhere; one that is finished here too counts as here.

    Raises:
        ConfigError: a cell was made with other settings than the study has now.
        RunError: a run directory is damaged, or belongs to another image set than the others.
    """
    elsewhere = elsewhere or Elsewhere({})
    order = {cell.name: place for place, cell in enumerate(_in_order(study))}
    finished: list[CellResult] = []
    missing: list[MissingCell] = []
    names = list(elsewhere.class_names)  # those to be shown first in front
    for cell in sorted(study.cells, key=lambda cell: order[cell.name]):
        state = cell_state(cell, folder)
        if state != FINISHED and cell.name in elsewhere.cells:
            finished.append(elsewhere.cells[cell.name])
            continue
        if state != FINISHED:
            missing.append(MissingCell(cell.partition, cell.algorithm, cell.seed, state))
            continue
        run = load_run(cell.folder(folder))
        classes = _class_order(run.class_names, study.file.front_classes)
        ordered = [run.class_names[place] for place in classes]
        names = names or ordered
        if ordered != names:
            raise RunError(
                f"{run.path} was made from another image set than other cells: its classes are "
                f"{', '.join(ordered)}, expected {', '.join(names)}."
            )
        finished.append(_result(cell, run, classes))
    configs = [cell.config for cell in study.cells]
    splits = {f"{config.dataset.measured_on} split" for config in configs}
    return StudySummary(
        name=study.name,
        title=study.file.title,
        about=" ".join(study.file.about.split()),
        partitions={name: axis.title for name, axis in study.file.partitions.items()},
        algorithms={name: axis.title for name, axis in study.file.algorithms.items()},
        class_names=tuple(names),
        cells=tuple(finished),
        missing=tuple(missing),
        published=study.file.published,
        measured_on=" or ".join(sorted(splits)),
        sampled=any(config.cohort() is not None for config in configs),
        quick=study.quick,
        kind=study.file.kind,
    )


def cell_state(cell: Cell, folder: Path) -> str:
    """Return ``finished``, how far a cell is (such as ``round 3 of 50``), or nothing.

    Raises:
        ConfigError: it was made with other settings than the study has now.
        RunError: its directory is damaged.
    """
    directory = RunDirectory(cell.folder(folder))
    if not directory.config_file.exists():
        return ""
    if not cell.is_of(directory.read_config()):
        raise ConfigError(
            f"{directory.path} was made with other settings than the study has now; choose another "
            "--out, or delete that directory to run the cell again."
        )
    if directory.read_result() is not None:
        return FINISHED
    done = len(directory.read_metrics())
    return f"round {done} of {cell.config.federation.rounds}"


def _result(cell: Cell, run: Run, classes: Sequence[int]) -> CellResult:
    last = run.history[-1]
    validation = last.get("validation")
    scores = listed(validation, "f1")
    served = [look(client, "accuracy") for client in listed(last, "clients")]
    down, up = series(run.history, "bytes_down"), series(run.history, "bytes_up")
    if run.config.mode == "central":
        down = up = np.zeros(len(run.history))
    if not len(scores):
        scores = [math.nan] * len(classes)
    if not math.isfinite(float((down + up).sum())) or len(scores) != len(classes):
        raise RunError(
            f"{run.path / 'metrics.jsonl'} is damaged, expected bytes and F1 in every line."
        )
    federation = cell.config.federation.clients or _clients_seen(run)
    return CellResult(
        partition=cell.partition,
        algorithm=cell.algorithm,
        seed=cell.seed,
        accuracy=tuple(series(run.history, "validation", "accuracy").tolist()),
        sent=tuple(accumulate(int(count) for count in down + up)),
        f1=tuple(number(scores[place]) for place in classes),
        clients=tuple(value for value in served if not math.isnan(value)),
        federation=federation,
        cosines=tuple(series(run.history, "drift", "mean_cosine").tolist()),
        seconds=float(series(run.history, "seconds").sum()),
        folder=str(cell.folder(Path())),
        config=run.config.to_dict(),
        environment=run.environment,
        privacy=(run.result or {}).get("privacy") or {},
        averaged=_averaged(run),
        runaway=first_runaway(run.history, federation),
    )


def _averaged(run: Run) -> tuple[float, ...]:
    found = series(run.history, "averaged", "accuracy")
    return () if np.isnan(found).all() else tuple(found.tolist())


def _clients_seen(run: Run) -> int:
    """Return how many clients there are at least, where the configuration does not say.

    They are numbered from 0, so that the highest of those that took part tells more than their count.
    """
    seen = [number(client) for line in run.history for client in listed(line, "cohort")]
    return max((int(client) + 1 for client in seen if not math.isnan(client)), default=0)


def _class_order(names: Sequence[str], front: Sequence[str]) -> list[int]:
    """Return the places of the classes, those of ``front`` first."""
    first = [names.index(name) for name in front if name in names]
    return first + [place for place in range(len(names)) if place not in first]


def _in_order(study: Study) -> list[Cell]:
    partitions, algorithms = list(study.file.partitions), list(study.file.algorithms)

    def rank(cell: Cell) -> tuple[int, int, int]:
        return partitions.index(cell.partition), algorithms.index(cell.algorithm), cell.seed

    return sorted(study.cells, key=rank)
