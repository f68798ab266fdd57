"""Say on what machine a measurement was taken.

``python benchmarks/machine.py`` prints the description as JSON; every benchmark stores it beside
its figures with :func:`describe`. Only the standard library is imported, so that a description
costs no time and can be made in any environment. No host name, user name or address is recorded.
"""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("fedlens", "torch", "numpy", "scikit-learn")
# Instruction sets that decide how fast float32 and bfloat16 convolutions can be.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")


def describe() -> dict[str, Any]:
    """Return the machine and the software of this process, ready for ``json.dumps``.

    Keys: ``taken`` (UTC, to the second), ``cpu`` (model name), ``architecture``, ``instructions``
    (those of :data:`INSTRUCTIONS` that it has), ``cores`` (those this process may use),
    ``memory_gib``, ``gpus`` (names), ``system``, ``python``, ``packages`` (name -> version, None
    where it is not installed), ``commit`` (None outside a checkout), ``uncommitted_changes``, and
    ``load`` (the one-minute load average: much above 0 before a benchmark starts means that
    something else was running).
    """
    cpu = _cpu_facts()
    return {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu.get("model name") or platform.processor() or "unknown",
        "architecture": platform.machine(),
        "instructions": [
            name
            for name in INSTRUCTIONS
            if name in (cpu.get("flags") or cpu.get("Features", "")).split()
        ],
        "cores": _usable_cores(),
        "memory_gib": _memory_gib(),
        "gpus": _gpus(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _output("git", "-C", str(REPOSITORY), "rev-parse", "HEAD"),
        "uncommitted_changes": bool(_output("git", "-C", str(REPOSITORY), "status", "--porcelain")),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _cpu_facts() -> dict[str, str]:
    """Return the key-value pairs of the first processor; empty where the system lists none."""
    listing = Path("/proc/cpuinfo")
    if not listing.exists():
        name = _output("sysctl", "-n", "machdep.cpu.brand_string")
        return {"model name": name} if name else {}
    facts: dict[str, str] = {}
    for line in listing.read_text(errors="replace").split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        facts[key.strip()] = value.strip()
    return facts


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float | None:
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _gpus() -> list[str]:
    listing = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return listing.splitlines() if listing else []


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    """Return what ``command`` prints, or None where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


if __name__ == "__main__":
    print(json.dumps(describe(), indent=2))
