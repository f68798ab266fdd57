"""One experiment: a configuration in, a run directory out; or a stopped one taken up again."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fedlens.data import ImageDataset, Partition, partition
from fedlens.errors import ConfigError, RunError
from fedlens.experiment.config import Config, parse_config
from fedlens.experiment.environment import describe_environment
from fedlens.experiment.features import trainable, whole
from fedlens.experiment.modes import Event, Job, Watcher, run_central, run_federated, units
from fedlens.experiment.opened import Run, as_configured, find_dataset, load_run, part_folders
from fedlens.experiment.privacy import (
    Account,
    Book,
    accounts_of,
    check_first,
    delta_notice,
    federated_privacy,
    private,
)
from fedlens.experiment.run_directory import RunDirectory
from fedlens.explain.layers import find_layer, has_map
from fedlens.federated.algorithm import Federation
from fedlens.federated.cohort import check_minimum_cohort, cohort_size
from fedlens.federated.faults import Screening
from fedlens.federated.privacy import check_network, check_privacy
from fedlens.models import FixedFeatureNetwork, FlatParameters, build_model
from fedlens.training.evaluation import Evaluation, evaluate_logits
from fedlens.training.prediction import predict


def start_run(
    config: Config,
    out: Path,
    *,
    dataset: ImageDataset | None = None,
    notices: list[str] | None = None,
    watch: Watcher | None = None,
) -> Run:
    """Run an experiment into the new directory ``out``.

    Everything that can be wrong with the configuration or the data is found before ``out`` is made.

    Args:
        config: what to run; with ``repeats`` above 1, one sub-directory ``seed-N`` a seed.
        out: directory to make.
        dataset: the image set, if it is loaded already.
        notices: sentences for the report.
        watch: called as the run goes on.

    Raises:
        FedlensError: see the sentences of each room.
    """
    config = located(config)
    dataset = dataset if dataset is not None else find_dataset(config)
    watch = watch or _silent
    _tell_of_noise(config, watch)
    for number in range(config.repeats):
        single = _single_config(config, config.seed + number)
        made = _prepare(single, as_configured(dataset, single))
        notice = delta_notice(made.accounts, config.privacy.delta)
        if notice is not None and number == 0:
            watch(Event(0, units(config), f"Note: {notice}"))
    environment = {
        **describe_environment(),
        "seed": config.seed,
        "notices": list(notices or []),
        "dataset": {
            "name": dataset.name,
            "source": dataset.source,
            "task": dataset.task,
            "checksum": dataset.checksum,
            "class_names": list(dataset.class_names),
            "image_shape": [dataset.channels, dataset.image_size, dataset.image_size],
        },
    }
    directory = RunDirectory(out)
    directory.check_free()
    with directory.lock():
        directory.create(config, environment)
        _carry_out(directory, config, dataset, environment, watch)
    return load_run(out)


def resume_run(path: Path, *, watch: Watcher | None = None) -> Run:
    """Go on with a run that was stopped; the result is bit for bit that of an unbroken run.

    Of a private run, whose noise cannot be drawn again, it is another draw; what was charged for a
    round that was cut off stays charged. A finished run is returned as it is.

    Raises:
        RunError: not a run directory, damaged, at work in another process, or its data changed.
    """
    directory = RunDirectory(path)
    config = directory.read_config()
    if directory.read_result() is None:
        with directory.lock():
            run = load_run(path)
            watch = watch or _silent
            _tell_of_noise(config, watch)
            _carry_out(directory, config, run.image_set, run.environment, watch)
    return load_run(path)


def partition_of(config: Config, dataset: ImageDataset) -> Partition:
    """Return the partition of the training split that ``config`` describes; raises ``DataError``."""
    section = config.partition
    lists = None
    if section.class_lists is not None:
        lists = {
            name: [_class_number(entry, dataset) for entry in entries]
            for name, entries in section.class_lists.items()
        }
    return partition(
        dataset.train,
        section.scheme,
        clients=config.federation.clients,
        seed=config.seed,
        classes=dataset.classes,
        alpha=section.alpha,
        classes_per_client=section.classes_per_client,
        class_lists=lists,
        minimum=section.minimum,
        drop=section.drop,
        group_names=dataset.group_names,
    )


def located(config: Config) -> Config:
    """Return ``config`` with an absolute image path, so that the run can be opened from anywhere."""
    if config.dataset.path is None:
        return config
    content = config.to_dict()
    content["dataset"]["path"] = str(Path(config.dataset.path).expanduser().resolve())
    return parse_config(content)


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a run is made of.

    Attributes:
        model: the network, untrained.
        clients: the partition; None in mode ``central``.
        accounts: of the privacy ledger; none without privacy.
    """

    model: nn.Module
    clients: Partition | None
    accounts: list[Account]


def _prepare(config: Config, dataset: ImageDataset) -> Prepared:
    """Build network, partition and mechanisms, so that what is wrong with them shows early."""
    model = build_model(
        config.model.name,
        in_channels=dataset.channels,
        classes=dataset.classes,
        image_size=dataset.image_size,
        seed=config.seed,
    )
    if config.explain.layer is not None or has_map(model):
        find_layer(model, config.explain.layer)
    parts = None
    if config.mode == "federated":
        parts = partition_of(config, dataset)
        size = cohort_size(config.cohort(), len(parts))
        check_minimum_cohort(config.federation.minimum_cohort, size)
        sizes = tuple(len(client) for client in parts)
        config.algorithm().check(Federation(sizes, config.local_training()))
    if config.privacy.views > 1 and isinstance(model, FixedFeatureNetwork):
        raise ConfigError(
            f"privacy.views is {config.privacy.views}, but {config.model.name} trains on features that "
            "are computed once, so that there are no other views; leave it 1."
        )
    accounts = accounts_of(config, dataset, parts) if private(config) else []
    if accounts:
        check_network(FlatParameters(copy.deepcopy(model)))
        check_first(config, accounts, 0 if parts is None else len(parts))
    if accounts and parts is not None:
        check_privacy(
            federated_privacy(config, accounts),
            config.algorithm(),
            [len(client) for client in parts],
            Screening(config.federation.far_off),
            config.federation.minimum_cohort,
        )
    return Prepared(model, parts, accounts)


def _carry_out(
    directory: RunDirectory,
    config: Config,
    dataset: ImageDataset,
    environment: Mapping[str, Any],
    watch: Watcher,
) -> None:
    """Do whatever of the run is not done yet."""
    if config.repeats == 1:
        _single(directory, config, dataset, watch)
        return
    directory.sweep()
    folders = part_folders(directory.path, config, existing_only=False)
    each = units(config)
    for number, folder in enumerate(folders):
        part = RunDirectory(folder)
        single = _single_config(config, config.seed + number)

        def shifted(event: Event, before: int = number * each, seed: int = single.seed) -> None:
            message = f"seed {seed}: {event.message}" if event.message else ""
            watch(Event(before + event.done, each * len(folders), message))

        with part.lock():
            if not part.config_file.exists():
                part.create(single, {**environment, "seed": single.seed})
            if part.read_result() is None:
                _single(part, single, dataset, shifted)
    accuracies = [load_run(folder).test.accuracy for folder in folders]
    directory.write_result({"seeds": len(folders), "test_accuracy": accuracies})


def _single(directory: RunDirectory, config: Config, dataset: ImageDataset, watch: Watcher) -> None:
    dataset = as_configured(dataset, config)
    made = _prepare(config, dataset)
    directory.sweep()
    saved = directory.read_checkpoint(config)
    book = Book(directory, config, made.accounts) if made.accounts else None
    directory.keep_metrics(0 if saved is None else saved[0])
    part = trainable(made.model, dataset, made.clients)
    train = run_central if part.clients is None else run_federated
    job = Job(directory, config, part, made.accounts, book, saved)
    trained = whole(made.model, train(job, watch))
    history = directory.read_metrics()
    if not history:
        raise RunError(
            f"{directory.path} has spent its privacy budget before the first "
            f"{'round' if part.clients else 'epoch'} was finished; start a new run."
        )
    outputs = predict(trained, dataset.test.images)
    test = evaluate_logits(outputs, dataset.test.labels)
    directory.write_model(
        trained.state_dict(),
        {
            "name": config.model.name,
            "in_channels": str(dataset.channels),
            "classes": str(dataset.classes),
            "image_size": str(dataset.image_size),
            "class_names": json.dumps(dataset.class_names),
        },
    )
    figures = _final_figures(history, test)
    if book is not None:
        figures["privacy"] = book.summary()
        figures["ended_early"] = len(history) < units(config)
    directory.write_result(figures)


def _final_figures(history: list[dict[str, Any]], test: Evaluation) -> dict[str, Any]:
    unit = "round" if "round" in history[-1] else "epoch"
    # of the model that is kept, or would have been
    kept = [line.get("averaged") or line["validation"] for line in history]
    best = max(range(len(kept)), key=lambda place: kept[place]["accuracy"] or 0)
    return {
        "test": test.to_json(),
        f"{unit}s": len(history),
        "final_validation_accuracy": kept[-1]["accuracy"],
        f"best_{unit}": history[best][unit],
        "best_validation_accuracy": kept[best]["accuracy"],
        "seconds": sum(line["seconds"] for line in history),
        "bytes_down": sum(line.get("bytes_down", 0) for line in history),
        "bytes_up": sum(line.get("bytes_up", 0) for line in history),
        "updates_left_out": sum(len(line.get("left_out", [])) for line in history),
    }


def _class_number(entry: str | int, dataset: ImageDataset) -> int:
    if isinstance(entry, int):
        return entry
    if entry not in dataset.class_names:
        raise ConfigError(
            f"partition.class_lists names the class '{entry}', expected one of "
            f"{', '.join(dataset.class_names)}."
        )
    return dataset.class_names.index(entry)


def _single_config(config: Config, seed: int) -> Config:
    return parse_config({**config.to_dict(), "seed": seed, "repeats": 1})


def _tell_of_noise(config: Config, watch: Watcher) -> None:
    """Say that noise is going to be found for a budget, which may take long."""
    if private(config) and config.privacy.noise_multiplier is None:
        message = f"finding the noise that meets epsilon {config.privacy.epsilon:g}"
        watch(Event(0, units(config) * config.repeats, message))


def _silent(_: Event) -> None:
    return
