r"""Run fedlens and a peer in turn on this machine, and print how they compare.

    python benchmarks/side_by_side.py ten-clients --repeats 3 \
        --ours "python benchmarks/ours_federated.py --setting ten-clients"

A side is a program whose last line on standard output is one JSON object with the keys that
benchmarks/README.md lists. The sides alternate, so that a slow minute of the machine meets both;
medians are compared. Only the standard library is imported here.
"""

import argparse
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import REPOSITORY, describe

PEERS = REPOSITORY / "benchmarks" / "peers"
# Benchmark -> (environment of the peer, its program and arguments).
COMMANDS = {
    "central": ("keras", ["keras_central.py"]),
    "ten-clients": ("flower", ["flower_simulation.py", "--setting", "ten-clients"]),
    "thousand-clients": ("flower", ["flower_simulation.py", "--setting", "thousand-clients"]),
}
QUIET = 0.05
TAIL = 3_000


def peer_command(benchmark: str, data: Path, extra: Sequence[str] = ()) -> list[str]:
    """Return the command line of the peer of ``benchmark``.

    The peer's Python is ``.envs/NAME/bin/python`` in the checkout, or what the variable
    ``FEDLENS_PEER_KERAS`` or ``FEDLENS_PEER_FLOWER`` names.
    """
    name, program = COMMANDS[benchmark]
    variable = f"FEDLENS_PEER_{name.upper()}"
    python = Path(os.environ.get(variable) or REPOSITORY / ".envs" / name / "bin" / "python")
    if not python.exists():
        raise SystemExit(
            f"{python} does not exist: make the peer's environment as benchmarks/README.md says, "
            f"or set {variable} to its Python."
        )
    return [str(python), str(PEERS / program[0]), *program[1:], "--data", str(data), *extra]


def run_json(
    command: Sequence[str], *, timeout: float, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run one side and return its JSON object.

    Added to it: ``wall_seconds`` (from before the process started until it ended) and
    ``busy_before`` (the share of the cores that was busy in the two seconds before; None where the
    system does not tell).

    Raises:
        SystemExit: the program failed, took longer than ``timeout`` seconds, or printed no JSON.
    """
    busy = busy_share()
    if busy is not None and busy > QUIET:
        print(f"Not a quiet machine: {busy:.0%} busy before {command[1:]}.", file=sys.stderr)
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=timeout)
    except BaseException as error:
        # The whole group: Ray's servers outlive the program that started them.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            message = f"{shlex.join(command)} was stopped after {timeout:.0f} s."
            raise SystemExit(message) from None
        raise
    wall = time.perf_counter() - started
    if process.returncode != 0:
        tail = errors[-TAIL:]
        raise SystemExit(f"{shlex.join(command)} failed ({process.returncode}):\n{tail}")
    try:
        result: dict[str, Any] = dict(json.loads(output.strip().splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        raise SystemExit(
            f"The last line that {shlex.join(command)} printed is not a JSON object:\n"
            f"{output[-TAIL:]}"
        ) from None
    result["wall_seconds"] = round(wall, 3)
    result["busy_before"] = None if busy is None else round(busy, 3)
    return result


def busy_share(seconds: float = 2.0) -> float | None:
    """Return which share of the cores' time is used, over ``seconds``; None where unknown."""
    before = _jiffies()
    if before is None:
        return None
    time.sleep(seconds)
    after = _jiffies()
    assert after is not None
    total, idle = after[0] - before[0], after[1] - before[1]
    return 1 - idle / total if total else 0.0


def _jiffies() -> tuple[int, int] | None:
    """Return (all, idle) ticks of all cores since the machine started."""
    counters = Path("/proc/stat")
    if not counters.exists():
        return None
    # user nice system idle iowait irq softirq steal; the guest columns are within user already.
    values = [int(value) for value in counters.read_text().splitlines()[0].split()[1:9]]
    return sum(values), values[3] + values[4]


def compare(
    benchmark: str, ours: list[dict[str, Any]], peer: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the medians of both sides, and ratios that are above 1 where fedlens is faster."""

    def medians(runs: list[dict[str, Any]]) -> dict[str, float]:
        values = {
            "start_to_finish_seconds": [
                run["wall_seconds"] - run.get("prepare_seconds", 0.0) for run in runs
            ],
            "test_accuracy": [run["test_accuracy"] for run in runs],
        }
        own = (
            ("train_images_per_second", "images_per_second_with_validation")
            if benchmark == "central"
            else ("warm_round_seconds",)
        )
        values |= {key: [run[key] for run in runs] for key in own}
        return {key: round(statistics.median(found), 4) for key, found in values.items()}

    mine, theirs = medians(ours), medians(peer)
    ratios: dict[str, float] = {}
    for key, value in mine.items():
        if key.endswith("_per_second") or key.endswith("_with_validation"):
            ratios[key] = round(value / theirs[key], 3)
        elif key.endswith("_seconds"):
            ratios[key] = round(theirs[key] / value, 3)
    difference = round(100 * (mine["test_accuracy"] - theirs["test_accuracy"]), 2)
    return {
        "ours": mine,
        "peer": theirs,
        "times_faster": ratios,
        "accuracy_difference_points": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", choices=COMMANDS)
    parser.add_argument("--ours", help="fedlens' command line; without it only the peer is run")
    parser.add_argument("--peer-arguments", default="", help='e.g. "--epochs 2" or "--rounds 3"')
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one run")
    parser.add_argument("--data", type=Path, default=os.environ.get("FEDLENS_DATA"))
    parser.add_argument("--out", type=Path, help="write the result there as well (JSON)")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give --data or set FEDLENS_DATA")

    data = arguments.data.resolve()
    machine = describe()
    peer = peer_command(arguments.benchmark, data, shlex.split(arguments.peer_arguments))
    commands = {"peer": peer}
    if arguments.ours:
        commands["ours"] = shlex.split(arguments.ours)
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in commands}
    for _ in range(arguments.repeats):
        for side, command in commands.items():
            environment = {"FEDLENS_DATA": str(data)}
            result = run_json(command, timeout=arguments.timeout, environment=environment)
            print(json.dumps({"side": side, **result}), file=sys.stderr)
            runs[side].append(result)

    document: dict[str, Any] = {
        "benchmark": arguments.benchmark,
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine,
    }
    if "ours" in runs:
        document["summary"] = compare(arguments.benchmark, runs["ours"], runs["peer"])
    document["runs"] = runs
    content = json.dumps(document, indent=2)
    print(content)
    if arguments.out:
        arguments.out.write_text(content + "\n")


if __name__ == "__main__":
    main()
