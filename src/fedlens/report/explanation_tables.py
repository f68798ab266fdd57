"""Tables of the study of explanations: methods down, measures or parts across."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from fedlens.report.explanation_blind import unseen_cells
from fedlens.report.explanation_content import ExplanationStudy
from fedlens.report.explanation_naming import method_name
from fedlens.report.explanation_parts import Difference, asked
from fedlens.report.explanation_reading import (
    CONTROLS,
    Content,
    Estimate,
    alike,
    estimate,
    figure_of,
    leader,
    number,
    ordered,
    quality,
    standing,
)
from fedlens.report.explanation_record import networks
from fedlens.report.tables import Table
from fedlens.report.wording import NONE, decimal, percent, signed, whole

ARROWS = {True: "↑", False: "↓", None: ""}
QUALITY = {"deletion": "Deletion ↓", "insertion": "Insertion ↑", "road": "ROAD gap ↑"}


def row_name(key: str) -> str:
    """Return the name of a row; a control's is marked, for the page's style to set it apart."""
    name = method_name(key)
    return Markup('<span class="control">{}</span>').format(name) if key in CONTROLS else name


def lines(figure: Estimate, *, digits: int = 2, expected: int | None = None) -> str:
    """Return the mean, the interval below it, and what share has no figure.

    Args:
        figure: to be shown.
        digits: decimals.
        expected: images that could have had a figure; all of them without it.
    """
    if not figure.known:
        return NONE
    said = [decimal(figure.mean, digits)]
    if figure.low <= figure.high:
        said.append(f"{decimal(figure.low, digits)} to {decimal(figure.high, digits)}")
    every = figure.images + figure.missing if expected is None else expected
    if every > figure.images:
        said.append(f"{percent(1 - figure.images / every, 0)} missing")
    return "\n".join(said)


def judged_table(model: str, content: Content) -> Table:
    """Return every method by every measure, the best-ranked first and the controls last."""
    rows = {row["key"]: row for row in content["rows"]}
    order = [p.key for p in standing(content) if p.key not in CONTROLS]
    order += [p.key for p in standing(content) if p.key in CONTROLS]
    measures = content["measures"]
    expected = {
        measure["key"]: max(figure_of(row, measure["key"]).images for row in rows.values())
        for measure in measures
    }
    best = {measure["key"]: leader(content, measure) for measure in measures}

    def cell(key: str, measure: Content) -> str:
        name = measure["key"]
        text = lines(
            figure_of(rows[key], name), digits=_digits(name), expected=expected[name] or None
        )
        if best[name] != key:
            return text
        first, *rest = text.split("\n")
        return Markup("\n").join([Markup("<b>{}</b>").format(first), *map(escape, rest)])

    body = [
        [
            row_name(key),
            *(cell(key, measure) for measure in measures),
            decimal(1000 * number(rows[key]["seconds_per_image"]), 1),
        ]
        for key in order
    ]
    heads = [f"{m['title']} {ARROWS[m['higher_is_better']]}".strip() for m in measures]
    return Table(
        f"{model}: each method by each measure, best mean rank first, the controls last; under "
        "each mean its 95 % interval. ↑ the higher the better, ↓ the lower. Bold: the best of the "
        "methods, where its interval excludes the next best's mean. Dashes: the measure does not "
        "apply. Time is of one map, in milliseconds.",
        ("Method", *heads, "ms ↓"),
        body,
        stacked=True,
    )


def _digits(measure: str) -> int:
    return 3 if measure in ("road", "sensitivity") else 2


def region_table(model: str, content: Content, group: Content) -> Table:
    """Return the share of positive evidence and the lift of each part, for one group's mistakes."""
    regions = content["regions"]
    tables = {table["group"]: table for table in regions["tables"]}
    mine = tables[group["name"]]
    keys = [p.key for p in standing(content)]
    keys.sort(key=lambda key: key in CONTROLS)
    body: list[list[str]] = [["area of the part", *(percent(a, 1) for a in mine["areas"])]]
    unseen = unseen_cells(content, content["groups"].index(group))
    if unseen is not None:
        body.append(["not seen", *unseen])
    body += [[row_name(key), *_parts(mine, key)] for key in keys]
    right = next((g for g in content["groups"] if g["right"] and g["true"] == group["true"]), None)
    if right is not None:
        body += [
            [f"{method_name(key)}, right answers", *_parts(tables[right["name"]], key)]
            for key in asked(content)
        ]
    return Table(
        f"{model}, {group['name']} ({whole(group['images'])} images): mean share of positive "
        "evidence on each part; under it the lift, which is the share less the part's area, in "
        "points with its 95 % interval. The last rows: the same for right answers of the class."
        + ("" if unseen is None else " Not seen: share of the part that the network does not see."),
        ("Method", *regions["names"]),
        body,
        stacked=True,
    )


def _parts(table: Content, key: str) -> list[str]:
    cells = []
    for share, raw in zip(table["shares"][key], table["lift"][key], strict=True):
        lift = estimate(raw)
        if not lift.known:
            cells.append(NONE)
            continue
        ends = f" ({_points(lift.low)} to {_points(lift.high)})" if lift.low <= lift.high else ""
        cells.append(f"{percent(estimate(share).mean, 1)}\n{signed(100 * lift.mean, 1)}{ends}")
    return cells


def _points(value: float) -> str:
    return decimal(100 * value, 1)


def difference_table(model: str, found: Sequence[Difference]) -> Table:
    """Return how groups differ by part, a row for each pair of groups and method that is asked."""
    return Table(
        f"{model}: share of the positive evidence on each part in the first group less that in the "
        "second, in points; under it the 95 % interval, both groups resampled. Bold: the interval "
        "excludes 0. By the methods that are asked which part decides.",
        ("First less second", "Method", *found[0].parts),
        [
            [
                f"{pair.first} less {pair.second}",
                method_name(key),
                *(_difference(values[part]) for part in pair.parts),
            ]
            for pair in found
            for key, values in pair.values.items()
        ],
        words=(1,),
        stacked=True,
    )


def _difference(figure: Estimate) -> str:
    if not figure.known:
        return NONE
    mean = signed(100 * figure.mean, 1)
    if not figure.low <= figure.high:
        return mean
    ends = f"{_points(figure.low)} to {_points(figure.high)}"
    sure = figure.over(0) or figure.under(0)
    return Markup("<b>{}</b>\n{}").format(mean, ends) if sure else f"{mean}\n{ends}"


def federation_table(study: ExplanationStudy, model: str, content: Content) -> Table:
    """Return agreement with the central network, and the quality of either's maps."""
    names = {"federated": "federated", "again": "other seed"}
    roles = [role for role in names if role in content["alike"]]
    keys = ordered(study, model, list(content["alike"][roles[0]]))
    columns = ["Method"]
    columns += [f"Agreement, {names[role]}" for role in roles]
    columns += [f"Top tenth, {names[role]}" for role in roles]
    for title in QUALITY.values():
        name, arrow = title.rsplit(" ", 1)
        columns += [f"{name}, {who} {arrow}" for who in ("central", "federated")]
    body = []
    for key in keys:
        cells = [lines(alike(content, role)[key]) for role in roles]
        cells += [lines(alike(content, role, "top")[key]) for role in roles]
        cells += [
            lines(quality(content, role, measure)[key])
            for measure in QUALITY
            for role in ("central", "federated")
        ]
        body.append([row_name(key), *cells])
    return Table(
        f"{model}: agreement is the mean rank correlation with the central network's maps; top "
        "tenth is the share that the strongest tenths of the pixels have in common (intersection "
        "over union). Deletion, insertion and ROAD judge each network's maps on that network.",
        columns,
        body,
        stacked=True,
    )


def privacy_table(
    study: ExplanationStudy, model: str, content: Content, steps: Mapping[str, float]
) -> Table:
    """Return agreement and ROAD gap of each method at each budget, and the accuracy."""
    roles = {"central": "∞", **{role: f"{epsilon:g}" for role, epsilon in steps.items()}}
    keys = ordered(study, model, list(content["quality"]["central"]))
    accuracy = content.get("accuracy", {})
    first = [percent(number(accuracy.get(role)), 1) for role in roles]
    body: list[list[str]] = [["accuracy", *([NONE] * len(steps)), *first]]
    for key in keys:
        body.append(
            [
                row_name(key),
                *(lines(alike(content, role)[key]) for role in steps),
                *(lines(quality(content, role, "road")[key], digits=3) for role in roles),
            ]
        )
    return Table(
        f"{model}: agreement with the maps of the network without privacy, and the ROAD gap of "
        "each network's own maps (in the row of accuracy: the accuracy of that network).",
        (
            "Method",
            *(f"Agreement, ε\u00a0{roles[role]}" for role in steps),
            *(f"ROAD gap ↑, ε\u00a0{name}" for name in roles.values()),
        ),
        body,
        stacked=True,
    )


def cheat_table(model: str, shortcut: Content) -> Table:
    """Return of each client how often its model takes marked images for the class."""
    body = [
        [
            f"client {entry['client'] + 1}"
            + (", without the mark" if entry is shortcut["twin"] else "")
            + (", the mark" if entry["marked"] else ""),
            whole(entry["examples"]),
            whole(entry["marked"]) if entry["marked"] else NONE,
            percent(number(entry["taken"]), 0),
            percent(number(entry["plain"]), 0),
        ]
        for entry in [*shortcut["clients"], shortcut["twin"]]
    ]
    return Table(
        f"{model}: how often each client's model takes {whole(shortcut['images'])} test images of "
        f"other classes for {shortcut['class']}, with the mark and without it.",
        ("Client", "Images", "Marked", "Taken with it", "Taken without"),
        body,
    )


def pair_table(study: ExplanationStudy, model: str, pair: str, found: Content) -> Table:
    """Return deletion, insertion and ROAD of another pair of classes."""
    groups = "; ".join(f"{group['name']}: {group['images']}" for group in found["groups"])
    keys = ordered(study, model, list(found["rows"]))
    return Table(
        f"{model}, {pair}. Images: {groups}.",
        ("Method", *QUALITY.values()),
        [
            [row_name(key), *(lines(estimate(found["rows"][key][m])) for m in QUALITY)]
            for key in keys
        ],
        stacked=True,
    )


def measures_table(measures: Sequence[Content]) -> Table:
    """Return what each measure means."""
    better = {True: "higher", False: "lower", None: "neither"}
    return Table(
        "The measures.",
        ("Measure", "Unit", "Better", "Ranked", "What it is"),
        [
            [
                m["title"],
                m["unit"],
                better[m["higher_is_better"]],
                "yes" if m["ranked"] else "no",
                m["about"],
            ]
            for m in measures
        ],
        words=(1, 2, 3, 4),
    )


def networks_table(study: ExplanationStudy) -> Table | None:
    """Return the accuracy and size of every network that was explained."""
    body = []
    for model, roles in networks(study).items():
        body += [
            [model, role, percent(number(entry["accuracy"]), 2), whole(number(entry["parameters"]))]
            for role, entry in roles.items()
        ]
    if not body:
        return None
    return Table(
        "The networks that were explained; accuracy is that on their own test images.",
        ("Network", "Training", "Accuracy", "Parameters"),
        body,
        words=(1,),
    )
