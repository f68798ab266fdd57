"""The figures of the study of explanations as files: rows of CSV, and what networks there are."""

import csv
import io
from typing import Any

from fedlens.files import without_nan
from fedlens.report.explanation_agreement import agreement
from fedlens.report.explanation_content import ExplanationStudy
from fedlens.report.explanation_reading import Content, answered, standing


def networks(study: ExplanationStudy) -> dict[str, dict[str, dict[str, Any]]]:
    """Return network -> training -> its accuracy and number of parameters."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, finding in study.findings.items():
        model = name.partition("/")[2]
        sizes = finding.content.get("parameters", {})
        for role, accuracy in finding.content.get("accuracy", {}).items():
            training = "central, another seed" if role == "again" else role
            found.setdefault(model, {}).setdefault(
                training, {"accuracy": accuracy, "parameters": sizes.get(role)}
            )
    return found


def table_csv(study: ExplanationStudy) -> str:
    """Return the figures as CSV, a row each; what is not known is left empty.

    Figures of the other questions have the question in front of the measure.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["network", "method", "measure", "mean", "low", "high", "images", "missing"])
    for values in _figures(study):
        writer.writerow("" if value is None else value for value in without_nan(values))
    return text.getvalue()


def _of_the_network(content: Content) -> list[tuple[str, Any]]:
    """Return what is to be said of a judged network and not of a method: measure and figure."""
    found = [("concordance", content["ranking"]["concordance"])]
    groups = [group["name"] for group in content["groups"]]
    seen, regions = content.get("seen"), content.get("regions") or {}
    if seen:
        found.append(("unseen", seen["blind"]))
        found += [(f"unseen/{g}/light", s) for g, s in zip(groups, seen["light"], strict=True)]
    for group, shares in zip(groups, regions.get("unseen") or (), strict=False):
        found += [(f"unseen/{group}/{p}", s) for p, s in zip(regions["names"], shares, strict=True)]
    return found


def _figures(study: ExplanationStudy) -> list[list[Any]]:
    rows: list[list[Any]] = []

    def add(model: str, method: str, measure: str, raw: Content | None) -> None:
        raw = raw or {}
        keys = ("mean", "low", "high", "images", "missing")
        rows.append([model, method, measure, *(raw.get(key) for key in keys)])

    for model, content in answered(study, "judged").items():
        for row in content["rows"]:
            for measure, raw in row["figures"].items():
                add(model, row["key"], measure, raw)
            add(model, row["key"], "seconds-per-image", {"mean": row["seconds_per_image"]})
        for place in standing(content):
            add(model, place.key, "mean-rank", vars(place.rank) | {"images": None, "missing": None})
        regions = content.get("regions") or {"names": [], "tables": []}
        for table in regions["tables"]:
            for key, values in table["lift"].items():
                for part, raw in zip(regions["names"], values, strict=True):
                    add(model, key, f"lift/{table['group']}/{part}", raw)
        for entry in regions.get("differences") or []:
            pair = f"{entry['first']} less {entry['second']}"
            for key, values in entry["values"].items():
                for part, raw in zip(regions["names"], values, strict=True):
                    add(model, key, f"difference/{pair}/{part}", raw)
        maps = agreement(content)
        for (key, other), value in maps.pairs().items() if maps else ():
            add(model, key, f"agreement/{other}", {"mean": value})
        for what, figure in _of_the_network(content):
            add(model, "", what, {"mean": figure})
    for model, content in answered(study, "known").items():
        for role in ("shapes", "shortcut"):
            for key, row in content.get(role, {}).get("rows", {}).items():
                for what, raw in row.items():
                    add(model, key, f"known/{role}/{what}", raw)
    for question in ("federation", "privacy"):
        for model, content in answered(study, question).items():
            for what in ("alike", "quality"):
                for role, methods in content[what].items():
                    for key, row in methods.items():
                        for measure, raw in row.items():
                            add(model, key, f"{question}/{role}/{measure}", raw)
    for model, content in answered(study, "clients").items():
        for entry in content["clients"]:
            for key, row in entry["rows"].items():
                for measure, raw in row.items():
                    add(model, key, f"clients/{entry['client'] + 1}/{measure}", raw)
        shortcut = content["shortcut"]
        for entry in [*shortcut["clients"], shortcut["twin"]]:
            who = "without-the-mark" if entry is shortcut["twin"] else entry["client"] + 1
            for key, share in entry["shares"].items():
                add(model, key, f"clients/{who}/on-the-mark", share)
    for model, content in answered(study, "pairs").items():
        for pair, found in content["pairs"].items():
            for key, row in found.get("rows", {}).items():
                for measure, raw in row.items():
                    add(model, key, f"pairs/{pair}/{measure}", raw)
    return rows
