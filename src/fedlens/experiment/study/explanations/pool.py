"""Works out the parts of the study, several at a time."""

import multiprocessing
import signal
import traceback
from collections.abc import Sequence
from pathlib import Path
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
    waiting = [part for part in parts if not part.done(folder)]
    done, total = len(parts) - len(waiting), len(parts)
    context: Any = multiprocessing.get_context("fork")
    said = context.Queue()
    shares: dict[str, float] = {}
    running: dict[str, Any] = {}
    failures: list[str] = []
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
            message = ""
            try:
                name, share, text = said.get(timeout=0.5)
                shares[name] = share
                message = f"{name}: {text}" if text else ""
                if share < 0:
                    failures.append(message)
                    shares[name] = 0.0
            except Exception as nothing:  # queue.Empty: nobody has said anything
                if type(nothing).__name__ != "Empty":
                    raise
            for name in [name for name, process in running.items() if not process.is_alive()]:
                process = running.pop(name)
                process.join()
                shares.pop(name, None)
                done += 1
                message = f"{name}: explained"
                if process.exitcode and not any(name in text for text in failures):
                    failures.append(f"{name}: its process died (exit code {process.exitcode}).")
            watch(Event(min(done + sum(shares.values()), total), total, message))
    finally:
        for process in running.values():
            process.kill()
            process.join()
    if failures:
        raise FedlensError(f"{len(failures)} parts could not be explained: {' '.join(failures)}")


def _work(part: Part, folder: Path, size: Size, said: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the study's to handle
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        part.carry_out(folder, size, lambda share, text: said.put((part.name, share, text)))
    except FedlensError as error:
        said.put((part.name, -1.0, str(error)))
    except Exception:
        said.put((part.name, -1.0, traceback.format_exc()))
