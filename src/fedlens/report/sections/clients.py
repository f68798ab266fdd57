"""The clients: what each holds, how well it is served, how far apart they pull, what it cost."""

import numpy as np

from fedlens.report import words
from fedlens.report.clients import partition_figure, served_figure, served_from
from fedlens.report.content import ReportContent
from fedlens.report.curves import Curve, clients_figure, curves_figure
from fedlens.report.history import aligned, client_series, final, latest, series, steps
from fedlens.report.page import Chart, Drawer, Item, Section, text_only
from fedlens.report.runaway import first_runaway, remedy
from fedlens.report.tables import (
    client_sizes,
    clients_table,
    cost_table,
    first_seed,
    left_out,
)
from fedlens.report.withheld import exact_counts, hides_clients, what_clients_hold
from fedlens.report.wording import count, decimal, duration, percent, size


def clients_section(content: ReportContent, drawer: Drawer) -> Section | None:
    """Return what is known of the clients, or None in a run that has none."""
    if not words.federated(content) or not content.client_names:
        return None
    rows: list[list[Item]] = []
    if content.client_label_counts is not None and not hides_clients(content):
        rows.append([_partition(content, drawer)])
    rows.append(_service(content, drawer))
    table = clients_table(content)
    if table is not None:
        rows.append([table])
    rows.append(_drift(content, drawer))
    rows.append(_cost(content, drawer))
    history = content.seeds[0].history
    reasons = "; ".join(
        f"{reason} ({count(times, 'time')})" for reason, times in left_out(history).items()
    )
    paragraphs = text_only(
        words.sharing(content),
        what_clients_hold(content) or exact_counts(content),
        _served(content),
        f"Updates that were left out of their round: {reasons}." if reasons else "",
        _ran_away(content),
    )
    return Section("clients", "The clients", paragraphs, [row for row in rows if row])


def _served(content: ReportContent) -> str:
    worst = words.worst_client(content)
    if worst is None:
        return ""
    accuracy = latest(
        client_series(content.seeds[0].history, len(content.client_names), "accuracy")
    )
    best = int(np.nanargmax(accuracy))
    whose = "last round's own model" if words.is_averaged(content) else "shared model"
    return (
        f"The client that the {whose} serves worst is {worst[0]}, at {percent(worst[1], 1)}; "
        f"best served is {content.client_names[best]}, at {percent(float(accuracy[best]), 1)}"
        f"{first_seed(content)}."
    )


def _ran_away(content: ReportContent) -> str:
    """Name the first client whose update was far longer than the others'; empty if none was."""
    names = content.client_names
    found = None if hides_clients(content) else first_runaway(content.seeds[0].history, len(names))
    if found is None:
        return ""
    seed = f"{first_seed(content)}," if first_seed(content) else ""
    advice = remedy(content.configuration.get("federation", {}))
    return (
        f"In round {found.round}{seed} the update of {names[found.client]} moved the "
        f"model {found.times_in_words} times as far as the median update of that round. Its "
        "training may have run away, its images may be very unlike the others', or what it sent may "
        f"be wrong; a mean hands that on to all clients. {advice}"
    )


def _partition(content: ReportContent, drawer: Drawer) -> Chart:
    counts = np.asarray(content.client_label_counts)
    what = "images" if content.task == "multiclass" else "positive labels"
    return drawer.chart(
        "partition",
        partition_figure(counts, content.class_names, content.client_names, client_sizes(content)),
        f"Who holds what: training {what} of each class at each client, the darker the more "
        f"(the darkest is {int(counts.max()):,}). The bars are the sizes of the clients.",
        f"Heatmap of {count(len(content.client_names), 'client')} by "
        f"{len(content.class_names)} classes; the largest cell holds {int(counts.max()):,}.",
        least=680,
    )


def _service(content: ReportContent, drawer: Drawer) -> list[Item]:
    history, names = content.seeds[0].history, content.client_names
    table = client_series(history, len(names), "accuracy")
    if np.isnan(table).all():
        return []
    overall = final(history, "validation", "accuracy")
    ends = latest(table)
    low = int(np.nanargmin(ends))
    end = f"lowest at the end is {names[low]} at {percent(float(ends[low]), 1)}"
    return [
        drawer.chart(
            "client-accuracy",
            clients_figure(
                steps(history), table, names, axis="Accuracy (%)", unit="Round", percent=True
            ),
            "Accuracy of the shared model by round, each thin line a client: on the validation set "
            f"weighted to the client's own mix of classes{first_seed(content)}.",
            f"Line chart of accuracy by round for each client; {end}.",
        ),
        drawer.chart(
            "client-accuracy-end",
            served_figure(ends, names, overall=None if overall is None else overall.value),
            "The same at the end, worst served first; a triangle marks the lowest."
            + (" The axis does not start at zero." if served_from(ends) > 0 else ""),
            f"Dot plot of accuracy by client; {end}.",
        ),
    ]


def _drift(content: ReportContent, drawer: Drawer) -> list[Item]:
    histories = [seed.history for seed in content.seeds]
    charts: list[Item] = []
    for name, key, axis, caption in (
        (
            "update-norm",
            "mean_update_norm",
            "Mean length of an update",
            "How far the clients move the model in a round: mean Euclidean norm of their updates.",
        ),
        (
            "update-cosine",
            "mean_cosine",
            "Mean cosine to the mean update",
            "How far the clients agree: mean cosine between a client's update and the mean update; "
            "1 is full agreement, 0 is none.",
        ),
    ):
        rounds, values = aligned(histories, "drift", key)
        known = values[~np.isnan(values)]
        if not len(known):
            continue
        charts.append(
            drawer.chart(
                name,
                curves_figure(rounds, [Curve(axis, values)], axis=axis, unit="Round", zero=True),
                caption,
                f"Line chart by round, from {decimal(float(known[0]), 3)} to "
                f"{decimal(float(known[-1]), 3)}.",
            )
        )
    return charts


def _cost(content: ReportContent, drawer: Drawer) -> list[Item]:
    history = content.seeds[0].history
    table = cost_table(content, unit="round")
    if not table.rows:
        return []
    row: list[Item] = [table]
    rounds, seconds = aligned([history], "seconds")
    if not (np.isnan(seconds).all() or hides_clients(content)):
        row.append(
            drawer.chart(
                "seconds",
                curves_figure(
                    rounds, [Curve("seconds", seconds)], axis="Seconds", unit="Round", zero=True
                ),
                f"Wall-clock time of each round{first_seed(content)}.",
                f"Line chart of seconds by round; in all {duration(float(np.nansum(seconds)))}.",
            )
        )
    return row


def traffic(content: ReportContent) -> str:
    """Return all bytes that travelled in the first seed's run as text, empty if not recorded."""
    history = content.seeds[0].history
    both = np.concatenate([series(history, "bytes_down"), series(history, "bytes_up")])
    return "" if np.isnan(both).all() else size(float(np.nansum(both)))
