"""Runs the cells of a study, several at a time, and goes on where it was stopped."""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from fedlens.data import ImageDataset
from fedlens.errors import ConfigError, FedlensError
from fedlens.experiment.features import share_features
from fedlens.experiment.modes import Event, Watcher
from fedlens.experiment.opened import find_dataset
from fedlens.experiment.run import resume_run, start_run
from fedlens.experiment.run_directory import RunDirectory
from fedlens.experiment.study.grid import Cell
from fedlens.experiment.study.summary import FINISHED, cell_state
from fedlens.training.memory import keep_freed_memory


@dataclass(eq=False)
class _Job:
    cell: Cell
    process: BaseProcess
    pipe: Connection
    share: float = 0.0  # of the cell, done
    finished: bool = False


def run_study(
    cells: Sequence[Cell],
    folder: Path,
    *,
    jobs: int = 2,
    dataset: ImageDataset | None = None,
    watch: Watcher | None = None,
) -> None:
    """Run the cells that are not finished, each in its run directory below ``folder``.

    Every cell is a process of one thread, so that ``jobs`` of them run side by side; a cell that was
    stopped or killed is resumed from its last round.

    Args:
        cells: which; they share one image set.
        folder: directory of the study.
        jobs: cells at a time, at least 1.
        dataset: the image set, if it is loaded already.
        watch: called as the study goes on, in units of cells.

    Raises:
        ConfigError: a number of jobs that cannot be.
        RunError: a cell's directory was made from other settings.
        FedlensError: a cell could not be run; the others were finished first.
    """
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}, expected a whole number from 1.")
    say = watch or (lambda _: None)
    waiting = [cell for cell in cells if cell_state(cell, folder) != FINISHED]
    done = len(cells) - len(waiting)
    say(Event(done, len(cells), f"{done} of {len(cells)} cells were finished before"))
    if not waiting:
        return
    data = dataset if dataset is not None else find_dataset(waiting[0].config)
    kinds = {f"{cell.config.dataset} {cell.config.model}": cell.config for cell in waiting}
    for config in kinds.values():
        share_features(config, data)
    _Pool(data, folder, jobs, say, len(cells), done).run(waiting)


class _Pool:
    """The cells at work, a process each."""

    def __init__(
        self, data: ImageDataset, folder: Path, jobs: int, say: Watcher, total: int, done: int
    ) -> None:
        self._data, self._folder, self._jobs = data, folder, jobs
        self._say, self._total, self._done = say, total, done
        self._context: Any = multiprocessing.get_context("fork")
        self._running: list[_Job] = []
        self._failures: list[str] = []

    def run(self, waiting: list[Cell]) -> None:
        """Run all cells; raises ``FedlensError`` at the end if any failed."""
        queue = list(waiting)
        try:
            while queue or self._running:
                while queue and len(self._running) < self._jobs:
                    self._running.append(self._start(queue.pop(0)))
                self._listen()
        finally:
            for job in self._running:
                job.process.kill()
                job.process.join()
        if self._failures:
            raise FedlensError(
                f"{len(self._failures)} of the study's cells failed: {' '.join(self._failures)}"
            )

    def _start(self, cell: Cell) -> _Job:
        ours, theirs = self._context.Pipe(duplex=False)
        inherited = [ours, *(job.pipe for job in self._running)]
        process = self._context.Process(
            target=_work,
            args=(cell, self._folder, self._data, theirs, inherited, os.getpid()),
        )
        process.start()
        theirs.close()
        return _Job(cell, process, ours)

    def _listen(self) -> None:
        """Take in what the cells have to say, and let go of those that have ended."""
        pipes = {job.pipe: job for job in self._running}
        for ready in wait(list(pipes)):
            job = pipes[ready]  # type: ignore[index]
            try:
                said = job.pipe.recv()
            except (EOFError, OSError):
                self._end(job)
                continue
            if isinstance(said, Event):
                job.share = said.done / said.total
                self._tell(f"{job.cell.name}: {said.message}" if said.message else "")
            elif said is None:
                job.finished = True
            else:
                self._failures.append(f"{job.cell.name}: {said}")

    def _end(self, job: _Job) -> None:
        job.process.join()
        self._running.remove(job)
        job.pipe.close()
        if job.finished:
            self._done += 1
            self._tell(f"{job.cell.name}: finished, {self._done} of {self._total} cells")
        elif not any(text.startswith(f"{job.cell.name}: ") for text in self._failures):
            self._failures.append(
                f"{job.cell.name}: its process died (exit code {job.process.exitcode}); start the "
                "study again to go on."
            )

    def _tell(self, message: str) -> None:
        at_work = sum(min(job.share, 0.999) for job in self._running)
        self._say(Event(self._done + at_work, self._total, message))


def _work(
    cell: Cell,
    folder: Path,
    data: ImageDataset,
    pipe: Connection,
    inherited: list[Connection],
    parent: int,
) -> None:
    """Run one cell in a process of its own; it ends when the study's process has."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the study's to handle
    for connection in inherited:
        connection.close()
    _end_with(parent)
    torch.set_num_threads(1)
    keep_freed_memory()

    def tell(said: Event | str | None) -> None:
        try:
            pipe.send(said)
        except OSError:
            os._exit(1)  # the study was killed: the round that was just kept is the last

    directory = RunDirectory(cell.folder(folder))
    try:
        if directory.config_file.exists():
            resume_run(directory.path, watch=tell)
        else:
            start_run(cell.config, directory.path, dataset=data, watch=tell)
    except FedlensError as error:
        tell(str(error))
    except Exception:
        tell(traceback.format_exc())
    else:
        tell(None)


def _end_with(parent: int) -> None:
    """End this process soon after ``parent`` has, so that its cell can be taken up again at once."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
