"""Works out the parts of the study, several at a time."""

import multiprocessing
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Empty
from typing import Any

import torch

from fedlens.errors import FedlensError
from fedlens.experiment.modes import Event, Watcher
from fedlens.experiment.study.explanations.parts import Part, Size
from fedlens.training.memory import keep_freed_memory


def explain_study(
    parts: Sequence[Part], folder: Path, size: Size, *, jobs: int, watch: Watcher
) -> None:
    """Work out the parts that are not done, a process of one thread each.

    A part that was stopped begins again; those that were finished stay.

    Args:
        parts: what there is to find out, in order.
        folder: directory of the study; the runs that the parts need are finished.
        size: how much is explained.
        jobs: parts at a time, at least 1.
        watch: called as the work goes on, in units of parts.

    Raises:
        FedlensError: a part could not be worked out; the others were finished first.
    """
    waiting = [part for part in parts if not part.done(folder, size)]
    done, total = len(parts) - len(waiting), len(parts)
    context: Any = multiprocessing.get_context("fork")
    said = context.Queue()
    shares: dict[str, float] = {}
    running: dict[str, Any] = {}
    failures: dict[str, str] = {}
    watch(Event(done, total, f"{done} of {total} parts were explained before"))
    queue = list(waiting)
    try:
        while queue or running:
            while queue and len(running) < jobs:
                part = queue.pop(0)
                running[part.name] = context.Process(
                    target=_work, args=(part, folder, size, said), daemon=True
                )
                running[part.name].start()
            time.sleep(0.2)
            ended = [name for name, process in running.items() if not process.is_alive()]
            message = ""
            for name, share, text in _heard(said):
                shares[name] = max(share, 0.0)
                message = f"{name}: {text}" if text else message
                if share < 0:
                    failures[name] = text
            for name in ended:
                process = running.pop(name)
                process.join()
                shares.pop(name, None)
                done += 1
                if process.exitcode and name not in failures:
                    failures[name] = f"its process died (exit code {process.exitcode})."
                message = f"{name}: {'failed' if name in failures else 'explained'}"
            watch(Event(min(done + sum(shares.values()), total), total, message))
    finally:
        for process in running.values():
            process.kill()
            process.join()
    if failures:
        each = " ".join(f"{name}: {text}" for name, text in failures.items())
        raise FedlensError(f"{len(failures)} parts could not be explained: {each}")


def _heard(said: Any) -> Iterator[tuple[str, float, str]]:
    """Yield what the parts have said since; a part that has ended has said all it will."""
    while True:
        try:
            yield said.get_nowait()
        except Empty:
            return


def _work(part: Part, folder: Path, size: Size, said: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the study's to handle
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        part.carry_out(folder, size, lambda share, text: said.put((part.name, share, text)))
    except FedlensError as error:
        said.put((part.name, -1.0, str(error)))
        sys.exit(1)
    except Exception:
        said.put((part.name, -1.0, traceback.format_exc()))
        sys.exit(1)
