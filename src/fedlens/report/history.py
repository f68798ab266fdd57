"""Reading the lines of ``metrics.jsonl``, of which any figure may be null or missing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Line = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One figure and the round or epoch it belongs to."""

    step: int
    value: float


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, with the sample standard deviation (n - 1) where there are two or more."""

    mean: float
    sd: float | None
    count: int


def number(value: Any) -> float:
    """Return ``value`` as a finite float, or NaN where it is anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return math.nan
    try:
        found = float(value)
    except OverflowError:  # an integer past 1e308, from a damaged record
        return math.nan
    return found if math.isfinite(found) else math.nan


def look(line: Any, *path: str) -> float:
    """Return the number at ``path`` in nested dictionaries, or NaN."""
    for key in path:
        if not isinstance(line, dict):
            return math.nan
        line = line.get(key)
    return number(line)


def steps(history: Sequence[Line]) -> list[int]:
    """Return the round (or epoch) number of each line; its place where it has none."""
    found = []
    for place, line in enumerate(history, start=1):
        step = look(line, "round")
        step = look(line, "epoch") if math.isnan(step) else step
        found.append(place if math.isnan(step) else int(step))
    return found


def series(history: Sequence[Line], *path: str) -> Floats:
    """Return (T,) the figure at ``path`` of each line, NaN where it is missing."""
    return np.array([look(line, *path) for line in history], dtype=np.float64)


def aligned(histories: Sequence[Sequence[Line]], *path: str) -> tuple[list[int], Floats]:
    """Return all steps of ``histories`` (T) and the figure at each (S, T), NaN where missing."""
    every = sorted({step for history in histories for step in steps(history)})
    place = {step: position for position, step in enumerate(every)}
    table = np.full((len(histories), len(every)), np.nan)
    for row, history in enumerate(histories):
        for step, value in zip(steps(history), series(history, *path), strict=True):
            table[row, place[step]] = value
    return every, table


def final(history: Sequence[Line], *path: str) -> Point | None:
    """Return the latest figure at ``path`` that was measured, with its step."""
    for step, value in zip(reversed(steps(history)), series(history, *path)[::-1], strict=True):
        if not math.isnan(value):
            return Point(step, float(value))
    return None


def best(history: Sequence[Line], *path: str, lowest: bool = False) -> Point | None:
    """Return the highest (or lowest) figure at ``path`` and its step; the first of equals."""
    values = series(history, *path)
    if not len(values) or np.isnan(values).all():
        return None
    place = int(np.nanargmin(values) if lowest else np.nanargmax(values))
    return Point(steps(history)[place], float(values[place]))


def client_series(history: Sequence[Line], clients: int, key: str) -> Floats:
    """Return (clients, T) one figure of each client at each step, NaN where it took no part."""
    table = np.full((clients, len(history)), np.nan)
    for column, line in enumerate(history):
        for entry in listed(line, "clients"):
            client = look(entry, "client")
            if not math.isnan(client) and 0 <= client < clients:
                table[int(client), column] = look(entry, key)
    return table


def latest(table: Floats) -> Floats:
    """Return (K,) the last figure of each row that is not NaN; NaN for a row without one."""
    values = np.full(len(table), np.nan)
    for row, figures in enumerate(table):
        known = figures[~np.isnan(figures)]
        if len(known):
            values[row] = known[-1]
    return values


def listed(line: Any, key: str) -> list[Any]:
    """Return the list at ``key`` of a line, empty where there is none."""
    value = line.get(key) if isinstance(line, dict) else None
    return value if isinstance(value, list) else []


def spread(values: Sequence[float]) -> Spread | None:
    """Return mean and sample standard deviation of the values that are finite; None if none is."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return Spread(float(np.mean(known)), sd, len(known))


def mean_of(table: Floats) -> Floats:
    """Return the mean over the first axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(table)
    count = known.sum(0)
    total = np.where(known, table, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
