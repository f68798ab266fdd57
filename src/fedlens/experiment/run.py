"""One experiment: a configuration in, a run directory out; or a stopped one taken up again."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fedlens.data import ImageDataset, Partition, partition
from fedlens.errors import ConfigError
from fedlens.experiment.config import Config, parse_config
from fedlens.experiment.environment import describe_environment
from fedlens.experiment.opened import Run, as_configured, find_dataset, load_run, part_folders
from fedlens.experiment.run_directory import RunDirectory
from fedlens.explain.layers import find_layer
from fedlens.federated import Checkpoint, Progress, RoundRecord, ServerState, federate
from fedlens.federated.client_store import ClientStore, rounds_as_tensor, rounds_from_tensor
from fedlens.federated.cohort import check_minimum_cohort, cohort_size
from fedlens.federated.faults import Faults, Screening
from fedlens.files import without_nan, write_json
from fedlens.models import build_model
from fedlens.training.central import CentralCheckpoint, EpochRecord, train_centrally
from fedlens.training.evaluation import Evaluation, evaluate_logits
from fedlens.training.prediction import predict


@dataclass(frozen=True)
class Event:
    """Something that a progress display may show.

    Attributes:
        done, total: finished and planned units (rounds or epochs; fractions of a round count).
        message: one short line, or empty when only ``done`` moved on.
    """

    done: float
    total: float
    message: str = ""


Watcher = Callable[[Event], None]


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
    for number in range(config.repeats):
        single = _single_config(config, config.seed + number)
        _prepare(single, as_configured(dataset, single))
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
        _carry_out(directory, config, dataset, environment, watch or _silent)
    return load_run(out)


def resume_run(path: Path, *, watch: Watcher | None = None) -> Run:
    """Go on with a run that was stopped; the result is bit for bit that of an unbroken run.

    A finished run is returned as it is.

    Raises:
        RunError: not a run directory, damaged, at work in another process, or its data changed.
    """
    directory = RunDirectory(path)
    config = directory.read_config()
    if directory.read_result() is None:
        with directory.lock():
            run = load_run(path)
            _carry_out(directory, config, run.image_set, run.environment, watch or _silent)
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


def _prepare(config: Config, dataset: ImageDataset) -> tuple[nn.Module, Partition | None]:
    """Build the network and the partition, so that what is wrong with them shows early."""
    model = build_model(
        config.model.name,
        in_channels=dataset.channels,
        classes=dataset.classes,
        image_size=dataset.image_size,
        seed=config.seed,
    )
    find_layer(model, config.explain.layer)
    if config.mode == "central":
        return model, None
    parts = partition_of(config, dataset)
    size = cohort_size(config.cohort(), len(parts))
    check_minimum_cohort(config.federation.minimum_cohort, size)
    return model, parts


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
    folders = part_folders(directory.path, config, existing_only=False)
    units = _units(config)
    for number, folder in enumerate(folders):
        part = RunDirectory(folder)
        single = _single_config(config, config.seed + number)

        def shifted(event: Event, before: int = number * units, seed: int = single.seed) -> None:
            message = f"seed {seed}: {event.message}" if event.message else ""
            watch(Event(before + event.done, units * len(folders), message))

        with part.lock():
            if not part.config_file.exists():
                part.create(single, {**environment, "seed": single.seed})
            if part.read_result() is None:
                _single(part, single, dataset, shifted)
    accuracies = [load_run(folder).test.accuracy for folder in folders]
    _write_result(directory, {"seeds": len(folders), "test_accuracy": accuracies})


def _single(directory: RunDirectory, config: Config, dataset: ImageDataset, watch: Watcher) -> None:
    dataset = as_configured(dataset, config)
    model, parts = _prepare(config, dataset)
    directory.sweep()
    saved = directory.read_checkpoint(config)
    directory.keep_metrics(0 if saved is None else saved[0])
    if parts is None:
        trained = _central(directory, config, dataset, model, saved, watch)
    else:
        trained = _federated(directory, config, dataset, model, parts, saved, watch)
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
    _write_result(directory, _final_figures(directory.read_metrics(), test))


def _central(
    directory: RunDirectory,
    config: Config,
    dataset: ImageDataset,
    model: nn.Module,
    saved: tuple[int, dict[str, Tensor]] | None,
    watch: Watcher,
) -> nn.Module:
    total = _units(config)
    resume_from = None
    if saved is not None:
        number, tensors = saved
        memory = _with_prefix(tensors, "optimizer.")
        resume_from = CentralCheckpoint(number, tensors["state"], memory)
    watch(Event(0 if saved is None else saved[0], total, "training"))

    def keep(checkpoint: CentralCheckpoint, record: EpochRecord) -> None:
        directory.append_metrics(record.to_json())
        memory = {f"optimizer.{name}": value for name, value in checkpoint.optimizer.items()}
        tensors = {"state": checkpoint.state, **memory}
        directory.write_checkpoint(checkpoint.epoch, tensors, config)
        watch(Event(record.epoch, total, _line("epoch", record.epoch, total, record)))

    return train_centrally(
        model,
        dataset.train,
        local=config.local_training(),
        seed=config.seed,
        validation=dataset.validation,
        resume_from=resume_from,
        checkpoint=keep,
    ).model


def _federated(
    directory: RunDirectory,
    config: Config,
    dataset: ImageDataset,
    model: nn.Module,
    clients: Partition,
    saved: tuple[int, dict[str, Tensor]] | None,
    watch: Watcher,
) -> nn.Module:
    total = _units(config)
    resume_from = None
    if saved is not None:
        number, tensors = saved
        state = ServerState(tensors["parameters"], _with_prefix(tensors, "memory."))
        rounds = rounds_from_tensor(tensors["client_rounds"])
        resume_from = Checkpoint(number, state, tensors["buffers"], rounds)
    watch(Event(0 if saved is None else saved[0], total, f"{len(clients)} clients, training"))

    store = ClientStore(directory.clients)
    before: dict[int, int] = {} if resume_from is None else resume_from.client_rounds

    def keep(checkpoint: Checkpoint, record: RoundRecord) -> None:
        nonlocal before
        directory.append_metrics(record.to_json())
        memory = {f"memory.{name}": value for name, value in checkpoint.state.memory.items()}
        directory.write_checkpoint(
            checkpoint.round,
            {
                "parameters": checkpoint.state.parameters,
                "buffers": checkpoint.buffers,
                "client_rounds": rounds_as_tensor(checkpoint.client_rounds, len(clients)),
                **memory,
            },
            config,
        )
        store.prune(before, checkpoint.client_rounds)  # as many as there are checkpoints
        before = checkpoint.client_rounds

    def show(progress: Progress) -> None:
        if progress.record is None:
            done = progress.round - 1 + progress.clients_done / progress.clients
            watch(Event(min(done, progress.round - 0.01), total))
        else:
            line = _line("round", progress.round, total, progress.record)
            watch(Event(progress.round, total, line))

    return federate(
        model,
        clients,
        algorithm=config.algorithm(),
        rounds=config.federation.rounds,
        local=config.local_training(),
        cohort=config.cohort(),
        workers=config.federation.workers,
        seed=config.seed,
        validation=dataset.validation,
        faults=Faults(**config.faults.model_dump()),
        screening=Screening(config.federation.far_off, config.federation.far_off_factor),
        minimum_cohort=config.federation.minimum_cohort,
        client_store=store,
        resume_from=resume_from,
        checkpoint=keep,
        progress=show,
    ).model


def _final_figures(history: list[dict[str, Any]], test: Evaluation) -> dict[str, Any]:
    unit = "round" if "round" in history[-1] else "epoch"
    best = max(history, key=lambda line: line["validation"]["accuracy"] or 0)
    return {
        "test": test.to_json(),
        f"{unit}s": len(history),
        "final_validation_accuracy": history[-1]["validation"]["accuracy"],
        f"best_{unit}": best[unit],
        "best_validation_accuracy": best["validation"]["accuracy"],
        "seconds": sum(line["seconds"] for line in history),
        "bytes_down": sum(line.get("bytes_down", 0) for line in history),
        "bytes_up": sum(line.get("bytes_up", 0) for line in history),
        "updates_left_out": sum(len(line.get("left_out", [])) for line in history),
    }


def _write_result(directory: RunDirectory, content: dict[str, Any]) -> None:
    write_json(directory.result_file, without_nan(content))


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


def _units(config: Config) -> int:
    if config.mode == "federated":
        return config.federation.rounds
    assert isinstance(config.local.epochs, int)
    return config.local.epochs


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _line(unit: str, number: int, total: int, record: RoundRecord | EpochRecord) -> str:
    accuracy = "" if record.validation is None else f"{100 * record.validation.accuracy:.2f} %"
    return f"{unit} {number}/{total}: validation accuracy {accuracy} in {record.seconds:.1f} s"


def _silent(_: Event) -> None:
    return
