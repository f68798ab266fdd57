"""The sections on what becomes of explanations: federation, privacy, a cheating client, other pairs."""

import math

from fedlens.report.explanation_change_words import cheat_shares
from fedlens.report.explanation_content import ExplanationStudy
from fedlens.report.explanation_figures import Dots, budgets_figure, clients_figure, dots_figure
from fedlens.report.explanation_naming import method_name, ranged
from fedlens.report.explanation_reading import (
    NOTHING,
    Content,
    Estimate,
    alike,
    answered,
    budgets,
    estimate,
    number,
    ordered,
    proper,
    quality,
    seed_spread,
)
from fedlens.report.explanation_sections import in_pairs
from fedlens.report.explanation_tables import (
    cheat_table,
    federation_table,
    pair_table,
    privacy_table,
)
from fedlens.report.page import Chart, Drawer, Item, Section
from fedlens.report.tables import Table
from fedlens.report.wording import count, decimal, percent

MEASURES = {
    "deletion": "Deletion (lower is better)",
    "insertion": "Insertion (higher is better)",
    "road": "ROAD gap (higher is better)",
}


def federation_section(study: ExplanationStudy, drawer: Drawer) -> Section | None:
    """Return central against federated maps, and each client's own model against the global one."""
    found, own = answered(study, "federation"), answered(study, "clients")
    if not found and not own:
        return None
    rows: list[list[Item]] = []
    for model in dict.fromkeys([*found, *own]):
        charts: list[Chart] = []
        if model in found:
            charts.append(_agreement(study, model, found[model], drawer))
        if model in own:
            charts.append(_clients(study, model, own[model], drawer))
        rows += in_pairs(charts)
    tables: list[list[Item]] = [[federation_table(study, m, c)] for m, c in found.items()]
    return Section("federation", "Central against federated", (), [*rows, *tables])


def _agreement(study: ExplanationStudy, model: str, content: Content, drawer: Drawer) -> Chart:
    names = {"federated": "central and federated", "again": "central and central, another seed"}
    series = [Dots(names[role], alike(content, role)) for role in names if role in content["alike"]]
    keys = proper(ordered(study, model, list(series[0].figures)))
    said = "; ".join(
        f"{method_name(key)} " + ", ".join(ranged(dots.figures[key]) for dots in series)
        for key in keys
    )
    images = sum(group["images"] for group in content["groups"])
    return drawer.chart(
        f"federation-{model}",
        dots_figure(keys, series, axis="rank correlation of the maps"),
        f"{model}: how alike the maps of two networks are, on {count(images, 'image')}, with the "
        "95 % interval. The controls are left out: their maps do not depend on the network.",
        f"{model}: rank correlation by method ({', then '.join(d.label for d in series)}). {said}.",
    )


def _clients(study: ExplanationStudy, model: str, content: Content, drawer: Drawer) -> Chart:
    keys = proper(ordered(study, model, list(content["clients"][0]["rows"])))
    values = {
        key: [estimate(entry["rows"][key]["spearman"]).mean for entry in content["clients"]]
        for key in keys
    }
    said = "; ".join(f"{method_name(key)} {_spread(values[key])}" for key in keys)
    return drawer.chart(
        f"clients-{model}",
        clients_figure(values, axis="rank correlation of the maps"),
        f"{model}: each client's own model (one more epoch on its images) against the global one; "
        f"a dot for each of {count(len(content['clients']), 'client')}.",
        f"{model}: lowest to highest rank correlation over the clients. {said}.",
    )


def _spread(values: list[float]) -> str:
    known = [value for value in values if math.isfinite(value)]
    return f"{decimal(min(known), 2)} to {decimal(max(known), 2)}" if known else "unknown"


def privacy_section(study: ExplanationStudy, drawer: Drawer) -> Section | None:
    """Return agreement and quality over epsilon."""
    found = answered(study, "privacy")
    if not found:
        return None
    rows: list[list[Item]] = []
    for model, content in found.items():
        rows += in_pairs(_curves(study, model, content, drawer))
        rows.append([privacy_table(study, model, content, budgets(content))])
    return Section(
        "privacy",
        "Explanations under differential privacy",
        (
            "Deletion and insertion are mean probabilities of one of two classes: a less certain "
            "network has both nearer to one half, whatever its maps. The ROAD gap compares two orders "
            "on the same network.",
        ),
        rows,
    )


def _curves(study: ExplanationStudy, model: str, content: Content, drawer: Drawer) -> list[Chart]:
    steps = dict(reversed(list(budgets(content).items())))  # the tightest at the left
    accuracy = content.get("accuracy", {})
    roles = [*steps, "central"]
    ticks = [
        f"{'∞' if role == 'central' else f'{steps[role]:g}'}\n{percent(number(accuracy.get(role)), 1)}"
        for role in roles
    ]
    keys = ordered(study, model, list(content["quality"]["central"]))
    looks = {key: place for place, key in enumerate(keys)}
    chance = seed_spread(study, model)
    agreement = {
        key: [*(alike(content, role)[key] for role in steps), chance.get(key, NOTHING)]
        for key in proper(keys)
    }
    at_infinity = (
        "At ∞: two trainings without privacy, of different seeds."
        if chance
        else "At ∞ there is nothing to hold it against."
    )
    charts = [
        drawer.chart(
            f"privacy-{model}-agreement",
            budgets_figure(ticks, agreement, axis="Agreement (rank correlation)", looks=looks),
            f"{model}: agreement of the maps with those of the network without privacy, by "
            f"epsilon, with each network's accuracy under it. {at_infinity}",
            f"{model}: agreement by epsilon. {_said(agreement, ticks)}.",
        )
    ]
    for measure, title in MEASURES.items():
        lines = {key: [quality(content, role, measure)[key] for role in roles] for key in keys}
        charts.append(
            drawer.chart(
                f"privacy-{model}-{measure}",
                budgets_figure(ticks, lines, axis=title, looks=looks),
                f"{model}: {title.split(' (')[0]} of each network's maps on that network, by "
                "epsilon, with its accuracy.",
                f"{model}: {title} by epsilon. {_said(lines, ticks)}.",
            )
        )
    return charts


def _said(lines: dict[str, list[Estimate]], ticks: list[str]) -> str:
    budgets_ = [tick.split("\n")[0] for tick in ticks]
    return "; ".join(
        f"{method_name(key)} "
        + ", ".join(
            f"{decimal(figure.mean, 2)} at {budget}"
            for figure, budget in zip(figures, budgets_, strict=True)
            if figure.known
        )
        for key, figures in lines.items()
    )


def cheat_section(study: ExplanationStudy, drawer: Drawer) -> Section | None:
    """Return the share on a planted mark for each client and method."""
    found = answered(study, "clients")
    if not found:
        return None
    rows: list[list[Item]] = []
    for model, content in found.items():
        shortcut = content["shortcut"]
        keys = ordered(study, model, list(shortcut["clients"][0]["shares"]))
        cheat = [entry["client"] for entry in shortcut["clients"]].index(shortcut["client"])
        values = {
            key: [number(e["shares"][key]["mean"]) for e in shortcut["clients"]] for key in keys
        }
        said = "; ".join(
            f"{method_name(key)} {percent(own.mean, 1)} against at most {percent(most.mean, 1)}"
            for key, (own, most) in cheat_shares(shortcut).items()
        )
        chart = drawer.chart(
            f"cheat-{model}",
            clients_figure(
                values,
                axis="positive evidence on the mark (%)",
                marked=cheat,
                line=number(shortcut["area"]),
                scale=100,
            ),
            f"{model}: mean share of the positive evidence that lies on the mark, under each "
            f"client's own model, for the class {shortcut['class']}; {shortcut['images']} marked "
            "test images of other classes. Client "
            f"{shortcut['client'] + 1} had the mark in training.",
            f"{model}: share on the mark of the client that had it against the largest of the "
            f"others. {said}.",
        )
        rows.append([chart, cheat_table(model, shortcut)])
    return Section("shortcut", "A planted shortcut", (), rows)


def pairs_section(study: ExplanationStudy) -> Section | None:
    """Return the shorter tables of the other pairs."""
    tables: list[Table] = []
    nothing = []
    for model, content in answered(study, "pairs").items():
        for pair, found in content["pairs"].items():
            if "nothing" in found:
                nothing.append(f"{model}, {pair}: {found['nothing']}")
            else:
                tables.append(pair_table(study, model, pair, found))
    if not tables and not nothing:
        return None
    return Section("pairs", "The other pairs", nothing, in_pairs(tables))
