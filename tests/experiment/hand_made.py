"""Studies whose figures are written by hand, for what is said of them."""

import dataclasses
from collections.abc import Callable
from typing import Any

from fedlens.report.study_content import CellResult, StudySummary

TITLES = {"fedavg": "FedAvg", "scaffold": "SCAFFOLD", "fedprox": "FedProx", "mean": "Mean"}


def hand_made(
    finals: dict[str, list[float]], seeds: dict[str, list[int]] | None = None, **sent: int
) -> StudySummary:
    """Return a study of one partition, ``p``, with the final accuracies of each algorithm's seeds.

    Six rounds: 10 % after the first, the final accuracy after each other, so that no curve swings.
    """
    cells = [
        CellResult(
            "p", name, seed, (0.1, *[value] * 5), (50, *[sent.get(name, 100)] * 5), (0.5,) * 10,
            (value - 0.1, value), 2, (0.5, *[0.4] * 5), 4.0,
        )
        for name, values in finals.items()
        for seed, value in zip((seeds or {}).get(name, range(9)), values, strict=False)
    ]  # fmt: skip
    algorithms = {name: TITLES[name] for name in finals}
    return StudySummary(
        "s", "S", "", {"p": "Skewed"}, algorithms, tuple("abcdefghij"), tuple(cells)
    )


def changed(summary: StudySummary, change: Callable[[CellResult], dict[str, Any]]) -> StudySummary:
    """Return the study with the attributes of its cells that ``change`` gives."""
    cells = tuple(dataclasses.replace(cell, **change(cell)) for cell in summary.cells)
    return dataclasses.replace(summary, cells=cells)
