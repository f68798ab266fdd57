"""Cells that were finished on another machine or on another day, read from a study's manifest."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedlens.errors import ConfigError, RunError
from fedlens.experiment.config import parse_config
from fedlens.experiment.study.grid import Cell, Study
from fedlens.files import read_bytes
from fedlens.report.runaway import Runaway
from fedlens.report.study_content import CellResult
from fedlens.report.study_page import MANIFEST

LARGEST_MANIFEST = 64 << 20
Share = Annotated[float, Field(ge=0, le=1)]


class _Spent(BaseModel):
    """What a cell has spent of privacy."""

    model_config = ConfigDict(extra="forbid")

    epsilon: Annotated[float, Field(ge=0)]
    delta: Annotated[float, Field(gt=0, lt=1)]
    unit: str
    account: str
    releases: Annotated[int, Field(ge=0)]


class _Runaway(BaseModel):
    """An update that was far longer than the others of its round."""

    model_config = ConfigDict(extra="forbid")

    round: Annotated[int, Field(ge=1)]
    client: Annotated[int, Field(ge=0)]
    length: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    median: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Figures(BaseModel):
    """The figures of a cell; None stands for one that was not measured."""

    model_config = ConfigDict(extra="forbid")

    accuracy: list[Share | None] = Field(min_length=1)
    sent: list[Annotated[int, Field(ge=0)]]
    f1: list[Share | None]
    clients: list[Share]
    federation: int = Field(ge=1)
    cosines: list[Annotated[float, Field(ge=-1.001, le=1.001)] | None]
    privacy: _Spent | None = None
    averaged: list[Share | None] = []
    runaway: _Runaway | None = None


class _Entry(BaseModel):
    """One cell of a manifest, as far as it is read."""

    cell: str
    folder: str = ""
    seconds: Annotated[float, Field(ge=0)] | None
    commit: str | None = None
    machine: dict[str, Any] = {}
    config: dict[str, Any]
    figures: _Figures


class _Manifest(BaseModel):
    study: str
    quick: bool
    class_names: list[str]
    cells: list[_Entry]


@dataclass(frozen=True)
class Elsewhere:
    """What is known of cells whose run directories are not here.

    Attributes:
        cells: name of a cell -> its figures.
        class_names: in the order of the figures of each class; empty where there are no cells.
    """

    cells: dict[str, CellResult]
    class_names: tuple[str, ...] = ()


def read_elsewhere(study: Study, places: Sequence[Path]) -> Elsewhere:
    """Return the finished cells that the manifests at ``places`` hold, the first of equals.

    Args:
        study: the grid they must belong to.
        places: manifests, or folders that hold one.

    Raises:
        ConfigError: a cell was made with other settings than the study has now.
        RunError: a manifest cannot be read, is damaged, or is of another study or image set.
    """
    cells = {cell.name: cell for cell in study.cells}
    found: dict[str, CellResult] = {}
    names: list[str] = []
    for place in places:
        path = place / MANIFEST if place.is_dir() else place
        content = _read(path)
        if (content.study, content.quick) != (study.name, study.quick):
            raise RunError(
                f"{path} is of the study '{content.study}'{' (quick)' if content.quick else ''}, "
                f"expected '{study.name}'{' (quick)' if study.quick else ''}."
            )
        names = names or content.class_names
        if content.class_names != names:
            raise RunError(
                f"{path} has the classes {', '.join(content.class_names)}, expected "
                f"{', '.join(names)} as in the manifests before it."
            )
        for entry in content.cells:
            if entry.cell not in cells:
                raise RunError(
                    f"{path} holds the cell {entry.cell}, which the study does not have."
                )
            result = _result(cells[entry.cell], entry, len(names), path)
            found.setdefault(entry.cell, result)
    return Elsewhere(found, tuple(names))


def _read(path: Path) -> _Manifest:
    try:
        return _Manifest.model_validate(json.loads(read_bytes(path, LARGEST_MANIFEST)))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the whole"
        raise RunError(
            f"{path} is not the manifest of a study: {where}: {problem['msg']}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is not the manifest of a study: it is not JSON.") from error


def _result(cell: Cell, entry: _Entry, classes: int, path: Path) -> CellResult:
    if not cell.is_of(parse_config(entry.config)):
        raise ConfigError(
            f"{path}: the cell {entry.cell} was made with other settings than the study has now."
        )
    figures = entry.figures
    rounds = len(figures.accuracy)
    same = len(figures.sent) == len(figures.cosines) == rounds
    if not same or len(figures.averaged) not in (0, rounds) or len(figures.f1) != classes:
        raise RunError(
            f"{path} is damaged: the cell {entry.cell} has {rounds} accuracies, {len(figures.sent)} "
            f"counts of bytes, {len(figures.cosines)} cosines, {len(figures.averaged)} accuracies of "
            f"averages and {len(figures.f1)} F1 of {classes} classes."
        )
    return CellResult(
        partition=cell.partition,
        algorithm=cell.algorithm,
        seed=cell.seed,
        accuracy=_known(figures.accuracy),
        sent=tuple(figures.sent),
        f1=_known(figures.f1),
        clients=tuple(figures.clients),
        federation=figures.federation,
        cosines=_known(figures.cosines),
        seconds=math.nan if entry.seconds is None else entry.seconds,
        folder=entry.folder,
        config=entry.config,
        environment={"commit": entry.commit, **entry.machine},
        privacy={} if figures.privacy is None else figures.privacy.model_dump(),
        averaged=_known(figures.averaged),
        runaway=None if figures.runaway is None else Runaway(**figures.runaway.model_dump()),
    )


def _known(values: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(math.nan if value is None else value for value in values)
