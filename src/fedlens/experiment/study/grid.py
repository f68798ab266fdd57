"""The grid of a study: one TOML file that names partitions, algorithms and seeds."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from fedlens.data.catalogue import DATASETS
from fedlens.errors import ConfigError, RunError
from fedlens.experiment.config import Config, merged, parse_config
from fedlens.experiment.quick import quick_values
from fedlens.experiment.run import located
from fedlens.experiment.wording import did_you_mean
from fedlens.files import read_bytes

LARGEST_FILE = 1 << 20


class Axis(BaseModel):
    """One value of an axis: what it is called, and what it sets in the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    set: dict[str, Any]


class Partition(Axis):
    """A value of the first axis, which may set more where it meets a value of the second."""

    where: dict[str, dict[str, Any]] = Field(
        {}, description="pattern of algorithms -> what is set for them, after all else"
    )


class StudyFile(BaseModel):
    """The content of a study's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    about: str = Field("", description="what is compared and with what, in a few sentences")
    seeds: list[StrictInt] = Field(min_length=1)
    front_classes: list[str] = Field([], description="classes that the tables show first")
    first: list[str] = Field([], description="patterns of the cells that tell most, in order")
    leave_out: list[str] = Field([], description="patterns of cells that the grid does not have")
    base: dict[str, Any]
    partitions: dict[str, Partition] = Field(min_length=1)
    algorithms: dict[str, Axis] = Field(min_length=1)
    kind: Literal["algorithms", "privacy", "explanations"] = Field(
        "algorithms", description="what the page shows"
    )
    published: dict[str, dict[str, str]] = Field(
        {}, description="partition -> who published it -> the figure, to stand beside ours"
    )


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        partition, algorithm: names of the values on the two axes.
        seed: root seed of the run.
        config: the whole configuration.
    """

    partition: str
    algorithm: str
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """Return ``partition/algorithm/seed``, which patterns are matched against."""
        return f"{self.partition}/{self.algorithm}/{self.seed}"

    def folder(self, study_folder: Path) -> Path:
        """Return the cell's run directory."""
        return study_folder / "cells" / self.partition / self.algorithm / f"seed-{self.seed}"

    def is_of(self, config: Config) -> bool:
        """Tell whether a run of ``config`` is a run of this cell.

        An average over the rounds changes nothing of the rounds, so that one made without it is.
        """
        found, expected = config.to_dict(), located(self.config).to_dict()
        if "averaging" not in found["federation"]:
            expected["federation"].pop("averaging", None)
        return found == expected


@dataclass(frozen=True)
class Study:
    """A grid of cells, the most telling first.

    Attributes:
        name: of the file.
        file: its content.
        cells: all cells of the grid.
        quick: whether it is the small version.
    """

    name: str
    file: StudyFile
    cells: list[Cell]
    quick: bool = False

    def choose(self, only: Sequence[str], *, first: bool = False) -> list[Cell]:
        """Return the cells that match a pattern, such as ``iid/*/0``; all without a pattern.

        Args:
            only: shell-style patterns of ``partition/algorithm/seed``.
            first: leave out the cells that the study's file does not list as most telling.

        Raises:
            ConfigError: a pattern that matches no cell.
        """
        for pattern in only:
            if not any(fnmatchcase(cell.name, pattern) for cell in self.cells):
                raise ConfigError(
                    f"--only {pattern!r} matches no cell of the study '{self.name}'; cells are "
                    f"partition/algorithm/seed, with {', '.join(self.file.partitions)} / "
                    f"{', '.join(self.file.algorithms)} / {', '.join(map(str, self.file.seeds))}."
                )
        patterns = [list(only)] if only else []
        if first:
            patterns.append(self.file.first)
        return [
            cell
            for cell in self.cells
            if all(any(fnmatchcase(cell.name, p) for p in some) for some in patterns)
        ]


def studies() -> list[str]:
    """Return the names of the studies that come with fedlens."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


def load_study(name: str, *, quick: bool = False) -> Study:
    """Return the study called ``name``, or that of a TOML file.

    Args:
        name: of a study that comes with fedlens, or the path of a file.
        quick: make every cell small: minutes for the whole, to see that it runs.

    Raises:
        ConfigError: there is no such study, or its file or one of its cells cannot be.
    """
    path = Path(name) if name.endswith(".toml") else _folder() / f"{name}.toml"
    if not name.endswith(".toml") and name not in studies():
        raise ConfigError(
            f"There is no study '{name}'; the studies are {', '.join(studies())}, or name a TOML "
            f"file.{did_you_mean(name, studies())}"
        )
    try:
        content = tomllib.loads(read_bytes(path, LARGEST_FILE).decode())
    except RunError as error:
        raise ConfigError(str(error)) from error
    except (ValueError, RecursionError) as error:  # not TOML, not text, or nested without end
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error
    try:
        file = StudyFile.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"{path}, {where}: {problem['msg']}.") from error
    for kind, names in (("partitions", file.partitions), ("algorithms", file.algorithms)):
        for label in names:
            if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,63}", label):
                raise ConfigError(
                    f"{path}, {kind}.{label}: a name is made of small letters, digits, dots and "
                    "dashes, begins with a letter or digit and has at most 64."
                )
    if len(set(file.seeds)) < len(file.seeds):
        raise ConfigError(f"{path}, seeds: {file.seeds} names a seed twice.")
    _check_settings(file, path)
    places = {
        f"{partition}/{algorithm}/{seed}": (partition, algorithm, seed)
        for seed in file.seeds
        for partition in file.partitions
        for algorithm in file.algorithms
    }
    for pattern in file.leave_out:
        if not any(fnmatchcase(name, pattern) for name in places):
            raise ConfigError(f"{path}, leave_out: {pattern!r} matches no cell.")
    cells = [
        _cell(file, *place, quick, path)
        for name, place in places.items()
        if not _matches(name, file.leave_out)
    ]
    if not cells:
        raise ConfigError(f"{path}, leave_out: every cell is left out.")
    for where in file.published:
        if where not in file.partitions:
            raise ConfigError(
                f"{path}, published.{where}: there is no such partition; they are "
                f"{', '.join(file.partitions)}."
            )
    for label, place in file.partitions.items():
        for pattern in place.where:
            if not any(fnmatchcase(algorithm, pattern) for algorithm in file.algorithms):
                raise ConfigError(
                    f"{path}, partitions.{label}.where: {pattern!r} matches no algorithm."
                )
    for pattern in file.first:
        if not any(fnmatchcase(cell.name, pattern) for cell in cells):
            raise ConfigError(f"{path}, first: {pattern!r} matches no cell.")
    sets = {(c.config.dataset.name, c.config.dataset.path) for c in cells}
    if len(sets) > 1 and file.kind != "explanations":
        raise ConfigError(
            f"{path}: the cells of a study share one image set, but this one names "
            f"{', '.join(sorted(str(name or place) for name, place in sets))}."
        )
    _check_front(file, cells, path)
    return Study(path.stem, file, sorted(cells, key=lambda cell: _rank(cell, file.first)), quick)


def _check_settings(file: StudyFile, path: Path) -> None:
    """Refuse settings that would be overwritten without a word."""
    sources = {"base": file.base}
    for kind, axis in (("partitions", file.partitions), ("algorithms", file.algorithms)):
        for label, value in axis.items():
            sources[f"{kind}.{label}.set"] = value.set
    for label, place in file.partitions.items():
        for pattern, more in place.where.items():
            sources[f"partitions.{label}.where.{pattern}"] = more
    for where, settings in sources.items():
        for key, value in settings.items():
            if key in ("seed", "repeats"):
                raise ConfigError(f"{path}, {where}.{key}: which seeds are run is said by `seeds`.")
            field = Config.model_fields.get(key)
            section: object = None if field is None else field.annotation
            is_table = isinstance(section, type) and issubclass(section, BaseModel)
            if is_table and not isinstance(value, dict):
                raise ConfigError(
                    f"{path}, {where}.{key} is {value!r}, expected a table of settings."
                )


def _check_front(file: StudyFile, cells: Sequence[Cell], path: Path) -> None:
    """Refuse classes to be shown first that a known image set does not have."""
    names = {cell.config.dataset.name for cell in cells}
    known = [images for images in DATASETS.values() if images.name in names]
    for place, name in enumerate(file.front_classes):
        if name in file.front_classes[:place]:
            raise ConfigError(f"{path}, front_classes: {name!r} is named twice.")
        for images in known:
            if name not in images.class_names:
                raise ConfigError(
                    f"{path}, front_classes: there is no class {name!r} in {images.name}; they are "
                    f"{', '.join(images.class_names)}.{did_you_mean(name, images.class_names)}"
                )


def _cell(
    file: StudyFile, partition: str, algorithm: str, seed: int, quick: bool, path: Path
) -> Cell:
    place = file.partitions[partition]
    special = [value for pattern, value in place.where.items() if fnmatchcase(algorithm, pattern)]
    values = merged(file.base, place.set, file.algorithms[algorithm].set, *special)
    try:
        config = parse_config({**values, "seed": seed, "repeats": 1})
    except ConfigError as error:
        raise ConfigError(f"{path}, cell {partition}/{algorithm}/{seed}: {error}") from error
    return Cell(partition, algorithm, seed, quick_values(config) if quick else config)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _rank(cell: Cell, first: Sequence[str]) -> int:
    """Return the place of the first pattern that the cell matches."""
    matching = (n for n, pattern in enumerate(first) if fnmatchcase(cell.name, pattern))
    return next(matching, len(first))


def _folder() -> Path:
    return Path(__file__).parent / "studies"
