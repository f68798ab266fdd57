"""The page of the study of explanations, with its figures, its table and its manifest beside it."""

from pathlib import Path
from typing import Any

from fedlens.files import without_nan, write_json, write_text
from fedlens.report.explanation_changes import (
    cheat_section,
    federation_section,
    pairs_section,
    privacy_section,
)
from fedlens.report.explanation_content import ExplanationStudy
from fedlens.report.explanation_naming import methods_named
from fedlens.report.explanation_reading import CONTROLS, answered, classless, nothing_found
from fedlens.report.explanation_record import networks, table_csv
from fedlens.report.explanation_sections import (
    gallery_section,
    judged_section,
    known_section,
    regions_section,
)
from fedlens.report.explanation_tables import measures_table, networks_table
from fedlens.report.explanation_words import answers
from fedlens.report.html import FIGURES, template
from fedlens.report.page import Drawer, Item, Section, text_only
from fedlens.report.style import make_folder
from fedlens.report.tables import Table
from fedlens.report.wording import count

PAGE, TABLE, MANIFEST = "study.html", "table.csv", "manifest.json"
INTERVALS = (
    "Figures are the mean with 95 % interval over images (percentile bootstrap); it says what "
    "other images might give, not other trainings."
)


def write_explanation_page(study: ExplanationStudy, folder: Path) -> Path:
    """Write ``study.html``, ``figures/``, ``table.csv`` and ``manifest.json``; return the page.

    The page needs no other file, no script and no network, and is written last.

    Raises:
        RunError: the folder cannot be written to.
    """
    make_folder(folder / FIGURES)
    drawer = Drawer(folder / FIGURES)
    made = [
        judged_section(study, drawer),
        regions_section(study, drawer),
        gallery_section(study, drawer),
        known_section(study, drawer),
        federation_section(study, drawer),
        privacy_section(study, drawer),
        cheat_section(study, drawer),
        pairs_section(study),
        _how(study),
    ]
    write_text(folder / TABLE, table_csv(study))
    write_json(folder / MANIFEST, without_nan(manifest(study)))
    page = template("explanations.html.j2").render(
        title=study.title,
        about=study.about,
        kicker=_kicker(study),
        answers=answers(study),
        rule=INTERVALS,
        notices=_notices(study),
        sections=[section for section in made if section is not None],
        command=" ".join(["fedlens", "study", study.name, *(["--quick"] if _quick(study) else [])]),
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def manifest(study: ExplanationStudy) -> dict[str, Any]:
    """Return all that the parts found, without the pictures, as plain JSON values."""
    return {
        "study": study.name,
        "quick": _quick(study),
        "networks": networks(study),
        "findings": {name: dict(finding.content) for name, finding in study.findings.items()},
        "missing": list(study.missing),
    }


def _how(study: ExplanationStudy) -> Section:
    """Return what the measures mean, how much was explained, and what is missing."""
    rows: list[list[Item]] = []
    judged = answered(study, "judged")
    for content in judged.values():
        rows.append([measures_table(content["measures"])])
        break
    known = networks_table(study)
    if known is not None:
        rows.append([known])
    if study.missing:
        rows.append([_missing(study)])
    return Section(
        "how",
        "How it was done",
        text_only(
            INTERVALS, _sizes(study), *_groups(study), _measured_few(), _blind(study), _again()
        ),
        rows,
    )


def _sizes(study: ExplanationStudy) -> str:
    for finding in study.findings.values():
        size = finding.content.get("size")
        if size:
            return (
                f"The main table has at most {size['images']} images of a group, drawn from the "
                f"seed where there are more; the shorter comparisons have at most {size['few']}. "
                "Right answers are as many as the mistakes of the class."
            )
    return ""


def _groups(study: ExplanationStudy) -> list[str]:
    said = []
    for model, content in answered(study, "judged").items():
        each = "; ".join(f"{g['name']}: {g['images']} of {g['found']}" for g in content["groups"])
        said.append(f"Explained of those that the test split has, {model}: {each}.")
    return said


def _measured_few() -> str:
    return (
        "Max-sensitivity, both randomisations and the agreement over seeds explain many times "
        "over and are taken on the first few images of each group. An image for which a method "
        "has no figure counts as the worst there in the ranks, so that failing is never an advantage."
    )


def _blind(study: ExplanationStudy) -> str:
    found = [key for key in classless(study) if key not in CONTROLS]
    controls = "The controls, edges and random noise, know nothing of the decision."
    if not found:
        return controls
    return (
        f"{controls} {methods_named(found)} {'looks' if len(found) == 1 else 'look'} at no class: "
        "the map is the same for either question, so it is not asked what the confusion rests on."
    )


def _again() -> str:
    return (
        "Two networks are compared on the same images with the same questions, whatever either "
        "would answer. One training each is compared: the second central seed is the only measure "
        "of what another training would change."
    )


def _missing(study: ExplanationStudy) -> Table:
    return Table(
        "Questions that are not worked out yet.",
        ("Question", "Network"),
        [list(name.partition("/")[::2]) for name in study.missing],
        words=(1,),
    )


def _notices(study: ExplanationStudy) -> list[str]:
    notices = []
    if _quick(study):
        notices.append(
            "This is the small version of the study: a few images and short trainings, to see "
            "that it runs. Its figures say nothing about the methods."
        )
    if study.missing:
        notices.append(
            f"{len(study.missing)} of {len(study.missing) + len(study.findings)} questions are not "
            "worked out and not shown; the same command goes on with them."
        )
    notices += [f"{name}: {why}" for name, why in nothing_found(study).items()]
    return notices


def _quick(study: ExplanationStudy) -> bool:
    """Return whether only some methods were judged, as the small version does."""
    return any(f.content.get("size", {}).get("rows") for f in study.findings.values())


def _kicker(study: ExplanationStudy) -> str:
    small = " · small version" if _quick(study) else ""
    done = len(study.findings)
    every = count(done + len(study.missing), "question")
    return f"Study {study.name} · {done} of {every} worked out{small}"
