"""The two modes of a run, between the run directory and the training: what is kept, and when."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedlens.errors import RunError
from fedlens.experiment.config import Config
from fedlens.experiment.features import Trainable
from fedlens.experiment.privacy import Account, Book, augmentation_of, federated_privacy
from fedlens.experiment.run_directory import RunDirectory
from fedlens.federated import Checkpoint, Progress, RoundRecord, ServerState, federate
from fedlens.federated.client_store import ClientStore, rounds_as_tensor, rounds_from_tensor
from fedlens.federated.faults import Faults, Screening
from fedlens.training.central import CentralCheckpoint, EpochRecord, train_centrally
from fedlens.training.private import PrivateSteps


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


@dataclass(frozen=True, eq=False)
class Job:
    """What a run is to do.

    Attributes:
        directory: where it keeps what it has done.
        config: its settings.
        part: what is trained on what.
        accounts: of the privacy ledger; none without privacy.
        book: the ledger; None without privacy.
        saved: number and tensors of the last checkpoint, or None.
    """

    directory: RunDirectory
    config: Config
    part: Trainable
    accounts: Sequence[Account]
    book: Book | None
    saved: tuple[int, dict[str, Tensor]] | None


def run_central(job: Job, watch: Watcher) -> nn.Module:
    """Train on the pooled images, keeping every epoch; return the trained part of the network."""
    directory, config, part, book, saved = (
        job.directory, job.config, job.part, job.book, job.saved,
    )  # fmt: skip
    total = units(config)
    resume_from = None
    if saved is not None:
        number, tensors = saved
        memory = _with_prefix(tensors, "optimizer.")
        with _reading(directory):
            resume_from = CentralCheckpoint(number, tensors["state"], memory)
    watch(Event(0 if saved is None else saved[0], total, "training"))

    def keep(checkpoint: CentralCheckpoint, record: EpochRecord) -> None:
        directory.append_metrics({**record.to_json(), **_spent(book)})
        memory = {f"optimizer.{name}": value for name, value in checkpoint.optimizer.items()}
        tensors = {"state": checkpoint.state, **memory}
        directory.write_checkpoint(checkpoint.epoch, tensors, config)
        watch(Event(record.epoch, total, _line("epoch", record.epoch, record, config)))

    steps = afford = None
    if book is not None:
        mechanism = job.accounts[0].mechanism
        steps = PrivateSteps(
            mechanism,
            seeded=config.privacy.seeded,
            views=config.privacy.views,
            augmentation=augmentation_of(config),
        )

        def afford(epoch: int) -> bool:
            return book.afford({job.accounts[0].name: mechanism.charges(epoch - 1)})

    return train_centrally(
        part.model,
        part.train,
        local=config.local_training(),
        seed=config.seed,
        validation=part.validation,
        privacy=steps,
        afford=afford,
        resume_from=resume_from,
        checkpoint=keep,
    ).model


def run_federated(job: Job, watch: Watcher) -> nn.Module:
    """Train over the clients, keeping every round; return the trained part of the network."""
    directory, config, part, book, saved = (
        job.directory, job.config, job.part, job.book, job.saved,
    )  # fmt: skip
    clients = part.clients
    assert clients is not None
    total = units(config)
    resume_from = None
    if saved is not None:
        with _reading(directory):
            resume_from = _checkpoint(*saved)
    watch(Event(0 if saved is None else saved[0], total, f"{len(clients)} clients, training"))

    store = ClientStore(directory.clients)
    before: dict[int, int] = {} if resume_from is None else resume_from.client_rounds

    def keep(checkpoint: Checkpoint, record: RoundRecord) -> None:
        nonlocal before
        directory.append_metrics({**record.to_json(), **_spent(book)})
        clip = checkpoint.clip_norm
        norms = {} if clip is None else {"clip_norm": torch.tensor(clip, dtype=torch.float64)}
        memory = {f"memory.{name}": value for name, value in checkpoint.state.memory.items()}
        directory.write_checkpoint(
            checkpoint.round,
            {
                "parameters": checkpoint.state.parameters,
                "buffers": checkpoint.buffers,
                "client_rounds": rounds_as_tensor(checkpoint.client_rounds, len(clients)),
                **memory,
                **norms,
                **({} if checkpoint.average is None else {"average": checkpoint.average}),
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
            line = _line("round", progress.round, progress.record, config)
            watch(Event(progress.round, total, line))

    return federate(
        part.model,
        clients,
        algorithm=config.algorithm(),
        rounds=config.federation.rounds,
        local=config.local_training(),
        cohort=config.cohort(),
        workers=config.federation.workers,
        seed=config.seed,
        validation=part.validation,
        faults=Faults(**config.faults.model_dump()),
        screening=Screening(config.federation.far_off, config.federation.far_off_factor),
        minimum_cohort=config.federation.minimum_cohort,
        averaging=config.federation.averaging or 0.0,
        privacy=None if book is None else federated_privacy(config, job.accounts, book),
        client_store=store,
        resume_from=resume_from,
        checkpoint=keep,
        progress=show,
    ).model


def units(config: Config) -> int:
    """Return how many rounds (or epochs) a run has."""
    if config.mode == "federated":
        return config.federation.rounds
    assert isinstance(config.local.epochs, int)
    return config.local.epochs


def _spent(book: Book | None) -> dict[str, Any]:
    """Return what a line of the metrics says of privacy."""
    return {} if book is None else {"privacy": book.summary()}


def _checkpoint(number: int, tensors: Mapping[str, Tensor]) -> Checkpoint:
    clip = float(tensors["clip_norm"]) if "clip_norm" in tensors else None
    state = ServerState(tensors["parameters"], _with_prefix(tensors, "memory."))
    rounds = rounds_from_tensor(tensors["client_rounds"])
    return Checkpoint(number, state, tensors["buffers"], rounds, clip, tensors.get("average"))


@contextmanager
def _reading(directory: RunDirectory) -> Iterator[None]:
    """Raise ``RunError`` where the last checkpoint lacks what is looked up in it."""
    try:
        yield
    except KeyError as error:
        raise RunError(
            f"The checkpoint {directory.checkpoint_files()[-1]} is damaged: it has no {error}; delete "
            "that file and resume again."
        ) from error


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _line(unit: str, number: int, record: RoundRecord | EpochRecord, config: Config) -> str:
    accuracy = "" if record.validation is None else f"{100 * record.validation.accuracy:.2f} %"
    average = getattr(record, "averaged", None)
    beside = "" if average is None else f" (average {100 * average.accuracy:.2f} %)"
    return (
        f"{unit} {number}/{units(config)}: {config.dataset.measured_on} accuracy {accuracy}{beside} "
        f"in {record.seconds:.1f} s"
    )
