"""The tables of the report: rows of text, ready to be set."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlens.report.comparison import Figure, errors
from fedlens.report.content import ReportContent
from fedlens.report.history import Line, client_series, latest, listed, look, series
from fedlens.report.privacy_words import cohort_text
from fedlens.report.withheld import (
    exact_counts,
    hides_clients,
    hides_names,
    times,
    training_counts,
)
from fedlens.report.wording import NONE, count, decimal, duration, percent, size, whole

MOST_CLIENTS = 30  # rows of the table of clients
MOST_PAIRS = 8  # rows of the table of confusions
LONGEST_VALUE = 600  # characters of one value of the configuration or environment


@dataclass(frozen=True)
class Table:
    """Rows of text under column names; the first cell of a row names it.

    Attributes:
        caption: what the table shows.
        columns: column names.
        rows: as many cells as there are columns.
        words: places of the columns (beside the first) that hold words and not numbers.
        stacked: a cell may have several lines, of which those after the first are set small.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = ()
    stacked: bool = False


def comparison_table(figures: Sequence[Figure], seeds: int) -> Table:
    """Return the study's figures beside ours."""
    ours = f"This run, mean ± sd of {count(seeds, 'seed')}" if seeds > 1 else "This run, one seed"
    return Table(
        "The study's figures and ours. The difference is ours minus the study's; of accuracies and "
        "shares it is in percentage points.",
        ("Figure", "The study", ours, "Difference"),
        [figure.cells() for figure in figures],
    )


def class_table(content: ReportContent) -> Table:
    """Return precision, recall, F1 and support of every class (and AUC of every label)."""
    test = content.seeds[0].test
    multilabel = test.auc is not None
    columns = ["Label" if multilabel else "Class"]
    columns += ["AUC"] if multilabel else []
    columns += ["Precision", "Recall", "F1", "Test images"]
    rows = []
    for place, name in enumerate(content.class_names):
        present = test.support[place] > 0
        shares = [test.auc[place]] if test.auc is not None else []
        shares += [
            figure[place] if present else math.nan
            for figure in (test.precision, test.recall, test.f1)
        ]
        rows.append(
            [name, *(decimal(float(share), 3) for share in shares), whole(int(test.support[place]))]
        )
    what = "Each label at probability 0.5" if multilabel else "Each class"
    return Table(
        f"{what} on the test images{first_seed(content)}. F1 is the harmonic mean of precision "
        "and recall; a dash stands where no test image "
        + ("has the label or all have it." if multilabel else "is of the class."),
        columns,
        rows,
    )


def confusions_table(content: ReportContent) -> Table | None:
    """Return the pairs of classes that are most often mistaken for each other, or None."""
    confusion = content.seeds[0].test.confusion
    every = errors(content.seeds[0])
    if confusion is None or not every:
        return None
    mutual = confusion + confusion.T
    pairs = [
        (int(mutual[a, b]), a, b)
        for a in range(len(mutual))
        for b in range(a + 1, len(mutual))
        if mutual[a, b]
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    names = content.class_names
    rows = [
        [
            f"{names[a]} and {names[b]}",
            whole(int(confusion[a, b])),
            whole(int(confusion[b, a])),
            percent(both / every, 1),
        ]
        for both, a, b in pairs[:MOST_PAIRS]
    ]
    return Table(
        f"Classes most often mistaken for each other{first_seed(content)}, of "
        f"{whole(every)} errors in all.",
        ("Pair", "First taken for second", "Second for first", "Share of errors"),
        rows,
    )


def clients_table(content: ReportContent) -> Table | None:
    """Return what each client holds and how it fared, the worst served first beyond 30 clients.

    None where nothing is known of them but their names, or may be shown.
    """
    names = content.client_names
    if not names or hides_names(content):
        return None
    history, sizes = content.seeds[0].history, client_sizes(content)
    accuracy = latest(client_series(history, len(names), "accuracy"))
    norms = latest(client_series(history, len(names), "update_norm"))
    cosines = latest(client_series(history, len(names), "cosine_to_mean"))
    seconds = np.nansum(client_series(history, len(names), "seconds"), axis=1)
    joined = _took_part(history, len(names))
    skew = None if hides_clients(content) else total_variation(content.client_label_counts)
    order = list(range(len(names)))
    caption = "The clients."
    if len(names) > MOST_CLIENTS:
        order.sort(key=lambda k: (math.isnan(accuracy[k]), accuracy[k], k))
        order = order[:MOST_CLIENTS]
        caption = (
            f"The first {MOST_CLIENTS} clients of {len(names):,}."
            if np.isnan(accuracy).all()
            else f"The {MOST_CLIENTS} clients of {len(names):,} that are served worst."
        )
    columns = {
        "Client": [names[k] for k in order],
        "Images": [whole(int(sizes[k])) if sizes is not None else NONE for k in order],
        "Label skew": [decimal(skew[k], 2) if skew is not None else NONE for k in order],
        "Accuracy": [percent(accuracy[k], 1) for k in order],
        "Rounds": [whole(joined[k]) if joined.any() else NONE for k in order],
        "Update norm": [decimal(norms[k], 3) for k in order],
        "Cosine to mean": [decimal(cosines[k], 2) for k in order],
        "Time": [duration(float(seconds[k])) if joined[k] else NONE for k in order],
    }
    notes = {
        "Label skew": "Label skew is the total-variation distance between the client's label mix "
        "and that of all training images (0: the same, 1: nothing in common).",
        "Accuracy": "Accuracy is the shared model's on the validation set, weighted to the "
        "client's own label mix.",
        "Update norm": "Norm and cosine are those of the client's last update.",
    }
    known = [name for name, cells in columns.items() if set(cells) != {NONE}]
    if known == ["Client"]:
        return None
    return Table(
        " ".join([caption, *(note for name, note in notes.items() if name in known)]),
        known,
        [list(row) for row in zip(*(columns[name] for name in known), strict=True)],
    )


def cost_table(content: ReportContent, *, unit: str) -> Table:
    """Return what the rounds (or epochs) cost: bytes each way and seconds, each and in all."""
    rows = []
    figures: list[tuple[str, str, Callable[[float], str]]] = [
        ("Sent to the clients", "bytes_down", size),
        ("Sent back to the server", "bytes_up", size),
    ]
    if not hides_clients(content):
        figures.append(("Wall-clock time", "seconds", duration))
    for name, key, show in figures:
        values = series(content.seeds[0].history, key)
        known = values[~np.isnan(values)]
        if len(known):
            rows.append(
                [name, show(float(np.median(known))), show(float(known.max())), show(known.sum())]
            )
    secret = ""
    if any(not listed(line, "cohort") for line in content.seeds[0].history) and rows:
        secret = cohort_text(content) and (
            " Who took part is secret: the traffic is that of a cohort of the expected size."
        )
    hidden = f" {times(content)}".rstrip()
    return Table(
        f"What the {unit}s cost{first_seed(content)}.{secret}{hidden}",
        ("", f"Median {unit}", f"Largest {unit}", "In all"),
        rows,
    )


def split_table(content: ReportContent) -> Table:
    """Return how many images (or positive labels) each split holds of each class."""
    splits = ["Training", "Validation", "Test"]
    counts = content.split_counts
    if hides_clients(content):
        splits, counts = splits[1:], counts[1:]
    rows = [
        [name, *(whole(int(number)) for number in counts[:, place])]
        for place, name in enumerate(content.class_names)
    ]
    if content.task == "multiclass":
        rows.append(["All", *(whole(int(total)) for total in counts.sum(1))])
    what = "Images of each class" if content.task == "multiclass" else "Images with each label"
    first = "Class" if content.task == "multiclass" else "Label"
    note = training_counts(content) or exact_counts(content)
    caption = f"{what} in the {'three splits' if len(splits) == 3 else 'other two splits'}. {note}"
    return Table(caption.rstrip(), (first, *splits), rows)


def settings_table(caption: str, settings: Mapping[str, Any]) -> Table:
    """Return nested settings as rows of dotted keys and values, in their own order."""
    return Table(caption, ("Key", "Value"), [list(row) for row in _flat(settings)], words=(1,))


def left_out(history: Sequence[Line]) -> dict[str, int]:
    """Return how often an update was left out, by reason."""
    reasons: dict[str, int] = {}
    for line in history:
        for entry in listed(line, "left_out"):
            reason = (
                str(entry.get("reason") or "no reason given") if isinstance(entry, dict) else ""
            )
            if reason:
                reasons[reason] = reasons.get(reason, 0) + 1
    return reasons


def total_variation(
    label_counts: npt.NDArray[np.int64] | None,
) -> npt.NDArray[np.float64] | None:
    """Return (K,) half the L1 distance from each client's label mix to that of all, in [0, 1]."""
    if label_counts is None or not np.asarray(label_counts).sum():
        return None
    label_counts = np.asarray(label_counts)
    whole_mix = label_counts.sum(0) / label_counts.sum()
    totals = label_counts.sum(1, keepdims=True)
    mixes = label_counts / np.maximum(totals, 1)
    distance: npt.NDArray[np.float64] = 0.5 * np.abs(mixes - whole_mix).sum(1)
    return np.where(totals[:, 0] > 0, distance, np.nan)


def client_sizes(content: ReportContent) -> npt.NDArray[np.int64] | None:
    """Return (K,) training images of each client, or None where that is not known, or hidden.

    Label counts give them for a multiclass task; otherwise the rounds' own records do.
    """
    if hides_clients(content):
        return None
    if content.client_sizes is not None:
        return np.asarray(content.client_sizes)
    if content.client_label_counts is not None and content.task == "multiclass":
        sizes: npt.NDArray[np.int64] = np.asarray(content.client_label_counts).sum(1)
        return sizes
    recorded = latest(
        client_series(content.seeds[0].history, len(content.client_names), "examples")
    )
    if not len(recorded) or np.isnan(recorded).any():
        return None
    return recorded.astype(np.int64)


def first_seed(content: ReportContent) -> str:
    """Return ``, seed 42`` where the run has several seeds and one is shown; else nothing."""
    return f", seed {content.seeds[0].seed}" if len(content.seeds) > 1 else ""


def _took_part(history: Sequence[Line], clients: int) -> npt.NDArray[np.int64]:
    joined = np.zeros(clients, dtype=np.int64)
    for line in history:
        present = {look(entry, "client") for entry in listed(line, "clients")}
        for client in present:
            if not math.isnan(client) and 0 <= client < clients:
                joined[int(client)] += 1
    return joined


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
            continue
        yield name, _plain(value)


def _plain(value: Any) -> str:
    if value is None or value == {} or value == []:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
