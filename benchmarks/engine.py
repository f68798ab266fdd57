"""What the engine costs: over the bare step loop, over one worker, and in memory.

- ``overhead``: seconds of ``federate`` with one worker over those of the bare step loop on the same
  clients, less 1;
- ``two_workers``: speed of two workers over one;
- ``memory``: peak memory of a federation of 10,000 clients of 6 images, 100 a round, over that of
  100 clients, each in a process of its own (the server's and its workers' peaks added up).

    python benchmarks/engine.py [--rounds 5] [--json] [--out docs/results/engine.json]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from results import report, start_on_one_thread

from fedlens import Client, FedAvg, LocalTraining, build_model, federate
from fedlens.models import FlatParameters, get_vector
from fedlens.training import default_loss
from fedlens.training.loop import Draws, LocalRun

LOCAL = LocalTraining(batch_size=32, optimizer="adam", lr=1e-3)


def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return pixels, torch.randint(0, 10, (count,), generator=generator)


def split(count: int, clients: int) -> list[Client]:
    pixels, labels = images(count)
    return [Client(pixels, labels, rows) for rows in torch.arange(count).chunk(clients)]


def bare(clients: list[Client]) -> float:
    """Return the seconds of the step loop alone, client after client, on one thread."""
    flat = FlatParameters(network())
    start = get_vector(flat.model)
    started = time.perf_counter()
    for number, client in enumerate(clients):
        flat.vector.copy_(start)
        LocalRun(flat, client, LOCAL, default_loss, Draws(0, 1, number)).epoch(1)
    return time.perf_counter() - started


def together(clients: list[Client], workers: int) -> float:
    """Return the seconds of the second round of a federation: in the first the workers warm up."""
    result = federate(
        network(), clients, algorithm=FedAvg(), rounds=2, local=LOCAL, workers=workers
    )
    return result.history[1].seconds


def network() -> torch.nn.Module:
    return build_model("paper-cnn", in_channels=1, classes=10, image_size=28)


def peak_memory(clients: int, cohort: int) -> int:
    """Return the peak resident bytes of a fresh process that runs three rounds (and its workers)."""
    done = subprocess.run(
        [sys.executable, __file__, "--memory-of", str(clients), str(cohort)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(json.loads(done.stdout.splitlines()[-1]))


def measure_memory(clients: int, cohort: int) -> None:
    federate(
        network(),
        split(6 * clients, clients),
        algorithm=FedAvg(),
        rounds=3,
        local=LOCAL,
        cohort=cohort,
        workers=2,
    )
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps(1024 * (own + 2 * workers)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each contestant")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--out", type=Path, help="write the result as JSON to this file")
    parser.add_argument("--memory-of", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        measure_memory(*options.memory_of)
        return
    start_on_one_thread()
    clients = split(6400, 10)
    seconds: dict[str, list[float]] = {"bare": [], "one worker": [], "two workers": []}
    for number in range(options.rounds + 1):
        for name, figure in (
            ("bare", lambda: bare(clients)),
            ("one worker", lambda: together(clients, 1)),
            ("two workers", lambda: together(clients, 2)),
        ):
            value = figure()
            if number:  # the first one warms up
                seconds[name].append(value)

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))

    many, few = peak_memory(10_000, 100), peak_memory(100, 100)
    result = {
        "seconds": {name: round(statistics.median(times), 3) for name, times in seconds.items()},
        "overhead": round(ratio("one worker", "bare") - 1, 4),
        "two_workers": round(ratio("one worker", "two workers"), 3),
        "memory_mib": {"10,000 clients": many >> 20, "100 clients": few >> 20},
        "memory": round(many / few, 3),
    }
    targets = {"overhead": "at most 0.05", "two_workers": "at least 1.8", "memory": "at most 1.2"}
    report("engine", result, targets, options.json, options.out)


if __name__ == "__main__":
    main()
