"""What all benchmarks share: one thread, the allocator, and how results are printed and kept."""

import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from machine import describe

from fedlens.training.memory import keep_freed_memory


def start_on_one_thread() -> None:
    """Do as a worker process of fedlens does; it holds for every contestant of the process."""
    torch.set_num_threads(1)
    keep_freed_memory()


def over_seeds(seeds: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return mean and sample standard deviation of each figure that is one number."""
    first = next(iter(seeds.values()))
    return {
        key: {
            "mean": statistics.mean(seed[key] for seed in seeds.values()),
            "sd": statistics.stdev(seed[key] for seed in seeds.values())
            if len(seeds) > 1
            else None,
        }
        for key, value in first.items()
        if not hasattr(value, "__len__")
    }


def write_or_print(content: Mapping[str, Any], out: Path | None) -> None:
    """Write ``content`` as JSON to the file ``out``, or print it."""
    text = json.dumps(content, indent=2)
    if out is None:
        print(text)
    else:
        out.write_text(text + "\n")


def report(
    title: str, result: dict[str, Any], targets: dict[str, str], as_json: bool, out: Path | None
) -> None:
    """Print ``result`` with its targets, and write it with the machine's description to ``out``."""
    content = {
        "benchmark": title,
        "command": " ".join(["python", *sys.argv]),
        "result": result,
        "targets": targets,
        "machine": describe(),
    }
    if out is not None:
        out.write_text(json.dumps(content, indent=2) + "\n")
    if as_json:
        print(json.dumps(content, indent=2))
        return
    print(title)
    for key, value in result.items():
        target = f"  (target: {targets[key]})" if key in targets else ""
        print(f"  {key}: {value}{target}")
