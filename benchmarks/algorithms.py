"""What each algorithm's round costs over FedAvg's, and what SCAFFOLD keeps in memory.

- ``over_fedavg``: seconds of a round over those of FedAvg on the same work, in turn within one run;
- ``scaffold_memory_mib``: peak memory of three rounds of 100 clients out of 10,000 in SCAFFOLD, the
  server's and both workers' added up, in a process of its own.

    python benchmarks/algorithms.py [--repeats 5] [--json] [--out docs/results/algorithms.json]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from engine import LOCAL, network, split
from results import report, start_on_one_thread

from fedlens import ClientStore, Scaffold, federate
from fedlens.federated import ALGORITHMS, build_algorithm


def seconds_a_round(name: str) -> float:
    """Return the seconds of the second of two rounds of ten clients of 640 images."""
    with tempfile.TemporaryDirectory() as folder:  # memories are written, as in a run directory
        result = federate(
            network(),
            split(6400, 10),
            algorithm=build_algorithm(name, {}),
            rounds=2,
            local=LOCAL,
            client_store=ClientStore(Path(folder)),
        )
    return result.history[1].seconds


def measure_memory() -> None:
    federate(
        network(), split(60_000, 10_000), algorithm=Scaffold(), rounds=3, local=LOCAL, cohort=100,
        workers=2,
    )  # fmt: skip
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps({"server": own >> 10, "worker": workers >> 10}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each algorithm")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--out", type=Path, help="write the result as JSON to this file")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        measure_memory()
        return
    start_on_one_thread()
    seconds: dict[str, list[float]] = {name: [] for name in ALGORITHMS}
    for number in range(options.repeats + 1):
        for name, values in seconds.items():
            value = seconds_a_round(name)
            if number:  # the first one warms up
                values.append(value)
    done = subprocess.run(
        [sys.executable, __file__, "--memory"], capture_output=True, text=True, check=True
    )
    over = {
        name: round(
            statistics.median(a / b for a, b in zip(values, seconds["fedavg"], strict=True)), 3
        )
        for name, values in seconds.items()
    }
    result = {
        "seconds": {name: round(statistics.median(values), 3) for name, values in seconds.items()},
        "over_fedavg": over,
        "largest": max(over.values()),
        "scaffold_memory_mib": json.loads(done.stdout.splitlines()[-1]),
    }
    targets = {"largest": "at most 1.15", "scaffold_memory_mib": "server below 1,024"}
    report("algorithms", result, targets, options.json, options.out)


if __name__ == "__main__":
    main()
