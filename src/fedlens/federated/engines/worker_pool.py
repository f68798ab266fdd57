"""The parallel engine: processes that share memory with the server, one thread each.

Workers are forked, so that the data set, the clients, the model and the loss are theirs without a
copy, and need not be importable: a notebook's classes and lambdas work. States travel through
anonymous shared memory; only small tuples of numbers go through pipes.
"""

import math
import mmap
import multiprocessing
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from fedlens.errors import ConfigError, FedlensError
from fedlens.federated.client import ClientReport, ClientTask, Workbench
from fedlens.federated.engines.engine import Finished
from fedlens.training.loop import threads
from fedlens.training.memory import keep_freed_memory
from fedlens.training.prediction import chunks

MOST_ATTEMPTS = 3  # a task that kills its worker this often is taken to be the cause

Job = ClientTask | tuple[int, int]
"""A client's work, or the (start, stop) of the validation examples to predict."""


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: int | None = None  # number of the job it is at


class WorkerPoolEngine:
    """Runs the longest clients first on a fixed number of worker processes.

    A worker that dies (killed, out of memory) is replaced and its job is run again; since a job is
    a pure function of its numbers and the incoming state, the result is the same.
    """

    def __init__(
        self, bench: Workbench, largest_cohort: int, validation_examples: int, workers: int
    ) -> None:
        """Share the memory and start ``workers`` processes.

        Raises:
            ConfigError: this system cannot fork.
            FedlensError: a process could not be started, for lack of memory.
        """
        if "fork" not in multiprocessing.get_all_start_methods():
            raise ConfigError(
                f"federation.workers is {workers}, but {sys.platform} cannot fork processes; set it "
                "to 1."
            )
        self._context: Any = multiprocessing.get_context("fork")
        layout, dtype = bench.layout, bench.flat.vector.dtype
        self.incoming = shared_tensor((layout.incoming,), dtype)
        self.outgoing = shared_tensor((largest_cohort, layout.outgoing), dtype)
        self.memories = shared_tensor((largest_cohort, layout.memory), dtype)
        self._outputs: Tensor | None = None
        self._examples = validation_examples
        if validation_examples:
            with threads(1):
                shape = (validation_examples, *bench.output_shape())
            self._outputs = shared_tensor(shape, dtype)
        self._bench = bench
        self._workers: list[_Worker] = []
        try:
            for _ in range(workers):
                self._start()
        except BaseException:
            self.close()
            raise

    def train(self, tasks: Sequence[ClientTask], finished: Finished) -> list[ClientReport]:
        """Run the tasks, the longest first; reports come in slot order."""
        longest_first = sorted(tasks, key=lambda task: (-task.work, task.slot))
        reports = self._run(longest_first, finished)
        return sorted(reports, key=lambda report: report.slot)

    def predict(self) -> Tensor:
        """Return the outputs on the validation examples, chunks shared out over the workers."""
        assert self._outputs is not None
        self._run([(part.start, part.stop) for part in chunks(self._examples)], None)
        return self._outputs.clone()

    def close(self) -> None:
        """End the worker processes, whatever they are at."""
        for worker in self._workers:
            worker.pipe.close()
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.process.close()
        self._workers = []

    def _run(self, jobs: Sequence[Job], finished: Finished | None) -> list[ClientReport]:
        waiting = list(range(len(jobs)))[::-1]
        attempts = [0] * len(jobs)
        reports: list[ClientReport] = []
        done = 0
        for worker in self._workers:
            self._hand_out(worker, waiting, jobs, attempts)
        while done < len(jobs):
            pipes = {worker.pipe: worker for worker in self._workers if worker.job is not None}
            dead = []
            for ready in wait(list(pipes)):
                worker = pipes[ready]  # type: ignore[index]
                answer = _receive(worker.pipe)
                if answer is None:
                    dead.append(worker)
                    continue
                elif isinstance(answer, BaseException):
                    raise answer
                else:
                    done += 1
                    worker.job = None
                    if isinstance(answer, ClientReport):
                        reports.append(answer)
                        if finished is not None:
                            finished(answer)
                self._hand_out(worker, waiting, jobs, attempts)
            for worker in dead:
                self._hand_out(
                    self._replace(worker, jobs, attempts, waiting), waiting, jobs, attempts
                )
        return reports

    def _hand_out(
        self, worker: _Worker, waiting: list[int], jobs: Sequence[Job], attempts: list[int]
    ) -> None:
        if not waiting:
            return
        worker.job = waiting.pop()
        attempts[worker.job] += 1
        try:
            worker.pipe.send(jobs[worker.job])
        except OSError:
            # It died before it was asked: its end of the pipe reads as closed, so that the loop
            # that waits for its answer replaces it.
            return

    def _replace(
        self, dead: _Worker, jobs: Sequence[Job], attempts: list[int], waiting: list[int]
    ) -> _Worker:
        self._workers.remove(dead)
        dead.pipe.close()
        dead.process.join()
        code = dead.process.exitcode
        dead.process.close()
        job = dead.job
        assert job is not None
        if attempts[job] >= MOST_ATTEMPTS:
            task = jobs[job]
            what = f"client {task.client}" if isinstance(task, ClientTask) else "the evaluation"
            raise FedlensError(
                f"The worker process of {what} died {MOST_ATTEMPTS} times (exit code {code}; -9 is "
                "usually a lack of memory); use fewer workers or smaller batches."
            )
        waiting.append(job)
        return self._start()

    def _start(self) -> _Worker:
        """Fork one more worker; raises ``FedlensError`` where the system refuses."""
        ours, theirs = self._context.Pipe()
        others = [worker.pipe for worker in self._workers]
        process = self._context.Process(
            target=_work,
            args=(
                theirs,
                [ours, *others],
                self._bench,
                self.incoming,
                self.outgoing,
                self.memories,
                self._outputs,
            ),
            daemon=True,
        )
        worker = _Worker(process, ours)
        try:
            with interrupts_held_back():
                process.start()
                self._workers.append(worker)
        except OSError as error:
            ours.close()
            raise FedlensError(
                f"Could not start a worker process: {error.strerror or error}; use fewer workers."
            ) from error
        finally:
            theirs.close()
        return worker


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Let a Ctrl-C that falls into the block be raised at its end.

    Python drops a signal that it handles inside its own fork hooks, and a process that is started
    but not yet listed would be left behind. Signals reach the main thread only; in any other there
    is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda *event: caught.append(event))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught and callable(before):
        before(*caught[0])


def shared_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a zero tensor in anonymous memory that forked processes share.

    Unlike a tensor in ``/dev/shm`` it is not bound by that file system's size, which containers
    often set to 64 MB, and leaves nothing behind when the processes are killed.
    """
    count = math.prod(shape)
    size = max(1, count) * torch.empty((), dtype=dtype).element_size()
    return torch.frombuffer(mmap.mmap(-1, size), dtype=dtype)[:count].view(shape)


def _receive(pipe: Connection) -> ClientReport | BaseException | int | None:
    """Return the worker's answer, or None if it died."""
    try:
        answer: ClientReport | BaseException | int = pipe.recv()
    except (EOFError, OSError):
        return None
    return answer


def _work(
    pipe: Connection,
    others: list[Connection],
    bench: Workbench,
    incoming: Tensor,
    outgoing: Tensor,
    memories: Tensor,
    outputs: Tensor | None,
) -> None:
    """Serve jobs until the server closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    for inherited in others:  # or the pipes of a dead server would never read as closed
        inherited.close()
    torch.set_num_threads(1)
    keep_freed_memory()
    while True:
        try:
            job: Job = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer: ClientReport | BaseException | int
            if isinstance(job, ClientTask):
                answer = bench.train(job, incoming, outgoing[job.slot], memories[job.slot])
            else:
                assert outputs is not None
                bench.predict(slice(*job), incoming, outputs)
                answer = job[0]
        except FedlensError as error:
            answer = error
        except Exception:
            answer = RuntimeError(f"In a worker process, at {job}:\n{traceback.format_exc()}")
        try:
            pipe.send(answer)
        except OSError:
            return
