"""The report: one self-contained page, and its figures as PNG and SVG files beside it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fedlens.files import write_text
from fedlens.report import privacy_words, words
from fedlens.report.comparison import gap, over_seeds
from fedlens.report.content import NO_CLASS, Case, PrivacySpending, ReportContent
from fedlens.report.gallery import (
    NO_EVIDENCE,
    as_case,
    case_pictures,
    evidence_scale,
    hatching,
)
from fedlens.report.inline import png_uri
from fedlens.report.page import Chart, Drawer, Section, Stack
from fedlens.report.sections import (
    blind_section,
    classes_section,
    clients_section,
    decisions_section,
    privacy_section,
    setup_section,
    study_section,
    training_section,
)
from fedlens.report.sections.clients import traffic
from fedlens.report.style import make_folder
from fedlens.report.tables import settings_table
from fedlens.report.wording import count, decimal, percent, points, with_spread

REPORT = "report.html"
FIGURES = "figures"

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class KeyFigure:
    """A number at the head of the page, what it is, and a word on it."""

    value: str
    name: str
    note: str = ""


def write_report(content: ReportContent, folder: Path) -> Path:
    """Write ``folder/report.html`` and ``folder/figures/*.png`` and ``*.svg``; return the page.

    The page needs no other file, no script and no network. The same content gives the same bytes.
    The page is written last, so that where it exists its figures do too.

    Raises:
        RunError: the folder cannot be written to.
    """
    drawer = Drawer(folder / FIGURES)
    make_folder(folder / FIGURES)
    made = [
        study_section(content, drawer),
        privacy_section(content, drawer),
        training_section(content, drawer),
        classes_section(content, drawer),
        clients_section(content, drawer),
        decisions_section(content, drawer),
        blind_section(content, drawer),
        setup_section(content, drawer),
    ]
    page = render(content, [section for section in made if section is not None])
    report = folder / REPORT
    write_text(report, page)
    return report


def render(content: ReportContent, sections: list[Section]) -> str:
    """Return the page as HTML; every value is escaped."""
    return template("report.html.j2").render(
        title=content.title,
        kicker=_kicker(content),
        statement=words.statement(content),
        protection=words.protection(content),
        unprotected=words.is_unguarded(content),
        private=content.privacy is not None,
        repeatable=words.repeatable(content),
        key_figures=key_figures(content),
        notices=[*privacy_words.notices(content), *content.notices],
        sections=sections,
        legend=_legend(content),
        no_evidence=NO_EVIDENCE,
        configuration=settings_table("The whole configuration.", content.configuration),
        environment=settings_table("What it was run with.", _environment(content)),
        seeds=", ".join(str(seed.seed) for seed in content.seeds),
        several=len(content.seeds) > 1,
    )


def template(name: str) -> jinja2.Template:
    """Return a template of the report's pages; whatever is set into it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fedlens.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["chart"] = lambda item: isinstance(item, Chart)
    environment.tests["stack"] = lambda item: isinstance(item, Stack)
    return environment.get_template(name)


def key_figures(content: ReportContent) -> list[KeyFigure]:
    """Return the numbers at the head of the page."""
    test = content.seeds[0].test
    over = f"mean ± sd, {count(len(content.seeds), 'seed')}" if len(content.seeds) > 1 else ""
    accuracy = with_spread(over_seeds(content, lambda s: s.test.accuracy), percent)
    f1 = with_spread(over_seeds(content, lambda s: s.test.macro_f1), lambda v: decimal(v, 3))
    figures = []
    if test.auc is not None:
        figures.append(KeyFigure(words.mean_auc(content), "mean test AUC", over))
        figures.append(KeyFigure(f1, "macro F1", over))
        figures.append(KeyFigure(accuracy, "test accuracy", "over all yes and no answers"))
    else:
        figures.append(KeyFigure(accuracy, "test accuracy", over))
        figures.append(KeyFigure(f1, "macro F1", over))
    if content.privacy is not None:
        figures.append(_epsilon(content.privacy))
    apart = over_seeds(content, gap)
    if apart is not None and not words.federated(content):
        figures.append(KeyFigure(with_spread(apart, points), "overfitting gap", "points"))
    worst = words.worst_client(content)
    if worst is not None:
        figures.append(KeyFigure(percent(worst[1], 1), "worst served client", worst[0]))
    if words.federated(content):
        sent = traffic(content)
        if sent:
            figures.append(KeyFigure(sent, "sent in all", "both ways"))
    figures.append(
        KeyFigure(f"{content.total_parameters:,}", "parameters", words.model_name(content))
    )
    return figures


def _epsilon(spending: PrivacySpending) -> KeyFigure:
    terms = spending.terms
    notes = [
        f"unit: one {terms.unit}",
        terms.relation,
        *([] if terms.guarantee else ["seeded: no guarantee"]),
        *([] if spending.verified else ["not verified"]),
    ]
    return KeyFigure(
        privacy_words.epsilon_text(spending.worst.epsilon),
        f"epsilon at delta {privacy_words.small(terms.delta)}",
        "; ".join(notes),
    )


@dataclass(frozen=True)
class Legend:
    """How the colours of the maps are to be read; pictures are ``data:`` addresses.

    Attributes:
        scale: the colours from dark to light.
        ends: what they mean, for each kind of map on the page: (methods, darkest, lightest);
            ``methods`` is empty where all maps are of one kind.
        hatching: a sample of it, or None where the network sees everything.
    """

    scale: str
    ends: list[tuple[str, str, str]]
    hatching: str | None


def _printable(value: Any) -> Any:
    """Return a value to be set into the page, text without characters that no page may hold."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _UNPRINTABLE.sub("\ufffd", value)
    return value


def _legend(content: ReportContent) -> Legend:
    cases = [case for group in content.gallery for case in group.cases]
    kinds: dict[tuple[str, str], dict[str, None]] = {}
    for method, ends in _kinds_of_maps(cases, content.explain_method):
        kinds.setdefault(ends, {})[method] = None
    several = len(kinds) > 1
    return Legend(
        scale=png_uri(evidence_scale()),
        ends=[(", ".join(names) if several else "", *ends) for ends, names in kinds.items()],
        hatching=None if content.blind_area is None else png_uri(hatching()),
    )


def _kinds_of_maps(cases: list[Case], main: str) -> list[tuple[str, tuple[str, str]]]:
    """Return of each method its name and what its darkest and lightest colour mean."""
    by_method: dict[str, list[Case]] = {}
    for case in cases:
        by_method.setdefault(main, []).append(case)
        for further in case.further:
            by_method.setdefault(further.method, []).append(as_case(case, further))
    kinds = []
    for method, drawn in by_method.items():
        is_signed = any(case_pictures(case).signed for case in drawn)
        if drawn[0].explained == NO_CLASS:
            ends = ("lowest value", "highest value") if is_signed else ("nothing", "most")
        else:
            ends = ("against the class", "for the class")
            ends = ends if is_signed else ("no evidence", "strongest evidence")
        kinds.append((method, ends))
    return kinds


def _kicker(content: ReportContent) -> str:
    how = "Federated training" if words.federated(content) else "Central training"
    seeds = f" · {count(len(content.seeds), 'seed')}" if len(content.seeds) > 1 else ""
    return f"{how} · {content.dataset_name}{seeds}"


def _environment(content: ReportContent) -> dict[str, Any]:
    source = {"image set found at": content.dataset_source} if content.dataset_source else {}
    known = {key: value for key, value in content.environment.items() if key != "notices"}
    return {**known, **source}
