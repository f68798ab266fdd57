"""A run directory opened for reading, and the image set that belongs to it."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedlens.data import ImageDataset, load_dataset
from fedlens.data.dataset import concatenated
from fedlens.data.splitting import strata
from fedlens.errors import ConfigError, DataError, DataNotFoundError, RunError
from fedlens.experiment.config import Config, parse_config
from fedlens.experiment.run_directory import RunDirectory, read_tensors
from fedlens.models import build_model
from fedlens.training.evaluation import Evaluation

EMBEDDED = "digits"


@dataclass(frozen=True, eq=False)
class Run:
    """A run directory, opened for reading.

    Attributes:
        path: the directory.
        config: its resolved configuration.
        history: the lines of ``metrics.jsonl``.
        environment: the content of ``environment.json``.
        result: the content of ``result.json``, or None while the run is not finished.
        parts: the runs of a repeated experiment, one a seed; empty for a single run.
    """

    path: Path
    config: Config
    history: list[dict[str, Any]]
    environment: dict[str, Any]
    result: dict[str, Any] | None
    parts: "tuple[Run, ...]" = ()

    @cached_property
    def dataset(self) -> ImageDataset:
        """What the run was trained and tested on; raises ``DataError`` as :attr:`image_set`."""
        return as_configured(self.image_set, self.config)

    @cached_property
    def image_set(self) -> ImageDataset:
        """The whole image set, loaded again; raises ``DataError`` if it is gone or has changed."""
        dataset = find_dataset(self.config)
        recorded = self.environment.get("dataset", {}).get("checksum")
        if recorded != dataset.checksum:
            raise DataError(
                f"The image set at {dataset.source} is not the one that {self.path} was made with: "
                f"its checksum is {dataset.checksum[:12]}, expected {str(recorded)[:12]}."
            )
        return dataset

    @cached_property
    def model(self) -> nn.Module:
        """The trained model; raises ``RunError`` where the run is not finished or damaged."""
        directory = RunDirectory(self.path)
        if self.parts:
            return self.parts[0].model
        if not directory.model_file.exists():
            raise RunError(
                f"{self.path} has no model yet; go on with `fedlens resume {self.path}`."
            )
        tensors, metadata = read_tensors(directory.model_file)
        try:
            model = build_model(
                metadata["name"],
                in_channels=int(metadata["in_channels"]),
                classes=int(metadata["classes"]),
                image_size=int(metadata["image_size"]),
            )
            model.load_state_dict(tensors)
        except (KeyError, ValueError, RuntimeError) as error:
            raise RunError(
                f"{directory.model_file} does not hold the weights of the network that it names."
            ) from error
        return model.eval()

    def __post_init__(self) -> None:
        dataset = self.environment.get("dataset")
        names = dataset.get("class_names") if isinstance(dataset, dict) else None
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise RunError(
                f"{self.path / 'environment.json'} is damaged: it does not describe the image set."
            )
        planned = self.config.federation.rounds
        if self.config.mode == "central" and isinstance(self.config.local.epochs, int):
            planned = self.config.local.epochs
        early = self.result is not None and self.result.get("ended_early") is True
        if self.result is not None and len(self.history) != planned and not early:
            raise RunError(
                f"{self.path / 'metrics.jsonl'} has {len(self.history)} lines, expected {planned} "
                "for this finished run."
            )

    @property
    def class_names(self) -> list[str]:
        """Names of the classes or labels."""
        return list(self.environment["dataset"]["class_names"])

    @property
    def test(self) -> Evaluation:
        """The figures on the test split (of the first seed, if there are several).

        Raises:
            RunError: the run is not finished, or its result is damaged.
        """
        if self.parts:
            return self.parts[0].test
        if self.result is None:
            raise RunError(f"{self.path} is not finished; go on with `fedlens resume {self.path}`.")
        try:
            return Evaluation.from_json(self.result["test"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"{self.path / 'result.json'} is damaged: it does not hold the test figures."
            ) from error


def load_run(path: str | Path) -> Run:
    """Open a run directory: ``.model``, ``.dataset``, ``.config``, ``.history``.

    Raises:
        RunError: not a run directory, of another version, or damaged.
    """
    directory = RunDirectory(Path(path))
    config = directory.read_config()
    parts = tuple(load_run(folder) for folder in part_folders(directory.path, config))
    result = directory.read_result()
    if result is not None and config.repeats > 1 and len(parts) != config.repeats:
        raise RunError(
            f"{directory.path} has {len(parts)} of the {config.repeats} seeds that it was finished "
            "with; put the missing seed folders back."
        )
    return Run(
        path=directory.path,
        config=config,
        history=directory.read_metrics() if not parts else parts[0].history,
        environment=directory.read_environment(),
        result=result,
        parts=parts,
    )


def find_dataset(config: Config, *, download: bool = True, progress: bool = False) -> ImageDataset:
    """Load the image set that ``config`` names; see :func:`fedlens.load_dataset`."""
    section = config.dataset
    return load_dataset(section.name, path=section.path, download=download, progress=progress)


def find_dataset_or_embedded(
    config: Config, *, progress: bool = False
) -> tuple[Config, ImageDataset, list[str]]:
    """Load the image set, or the embedded one where it is nowhere to be had.

    Returns:
        The configuration that names what was loaded, the image set, and a notice for the report.
    """
    try:
        return config, find_dataset(config, progress=progress), []
    except DataNotFoundError as error:
        content = config.to_dict()
        content["dataset"] = {"name": EMBEDDED}
        notice = (
            f"{config.dataset.name} could not be found or downloaded, so this run used the embedded "
            f"set '{EMBEDDED}' of small hand-written digits instead. ({error})"
        )
        replaced = parse_config(content)
        return replaced, find_dataset(replaced), [notice]


def as_configured(dataset: ImageDataset, config: Config) -> ImageDataset:
    """Return the image set as `dataset.hold_out` and `dataset.limit` have it.

    Without a held-out split the validation images are training images, and the validation split is
    the test split.

    Raises:
        ConfigError: the limit cannot be met.
    """
    if not config.dataset.hold_out:
        train = concatenated(dataset.train, dataset.validation)
        dataset = replace(dataset, train=train, validation=dataset.test)
    return _limited(dataset, config)


def _limited(dataset: ImageDataset, config: Config) -> ImageDataset:
    limit = config.dataset.limit
    if limit is None or limit >= len(dataset.train):
        return dataset
    from sklearn.model_selection import train_test_split  # a second of start-up, rarely needed

    labels = dataset.train.labels
    if limit < dataset.classes:
        raise ConfigError(
            f"dataset.limit is {limit}, expected at least one image for each of the "
            f"{dataset.classes} classes."
        )
    kept, _ = train_test_split(
        torch.arange(len(dataset.train)).numpy(),
        train_size=limit,
        random_state=config.seed % 2**32,
        stratify=strata(labels, limit),
    )
    return replace(dataset, train=dataset.train.subset(torch.from_numpy(kept).sort().values))


def part_folders(path: Path, config: Config, *, existing_only: bool = True) -> list[Path]:
    """Return the sub-directories of a repeated run, one a seed; none for a single run."""
    if config.repeats == 1:
        return []
    folders = [path / f"seed-{config.seed + n}" for n in range(config.repeats)]
    if existing_only:
        return [folder for folder in folders if (folder / "config.toml").exists()]
    return folders
