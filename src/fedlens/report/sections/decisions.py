"""Why the network decided as it did, and what it could not see when it did."""

import numpy as np

from fedlens.report import words
from fedlens.report.blind import blind_area_figure, blind_light_figure
from fedlens.report.content import NO_CLASS, Case, ReportContent
from fedlens.report.gallery import (
    as_case,
    case_pictures,
    confidence,
    explanation_figure,
    reduced,
)
from fedlens.report.inline import png_uri
from fedlens.report.page import (
    CaseView,
    Drawer,
    FurtherView,
    GroupView,
    Item,
    Section,
    text_only,
)
from fedlens.report.tables import first_seed
from fedlens.report.wording import percent

NOT_A_HEATMAP = (
    "A map shows where this network found evidence for the class it named. It does not show that "
    "the answer is right, that the network reasons as a person would, or what would change its "
    "mind; a wrong answer can come with a convincing map."
)
ABOUT_NO_CLASS = (
    "These maps are about no class. They do not show why the network gave its answer, that the answer "
    "is right, or what would change its mind."
)
HOW_TO_READ = (
    "Each map is scaled to its own strongest pixel, so brightness is not comparable between two "
    "maps. On the overlay a white line surrounds what is at least half as strong as that pixel."
)


def decisions_section(content: ReportContent, drawer: Drawer) -> Section | None:
    """Return the gallery of explained decisions, or None where there is none."""
    groups = [group for group in content.gallery if group.cases]
    if not groups:
        return None
    views = []
    for number, group in enumerate(groups, start=1):
        drawer.file(f"gallery-{number}", explanation_figure(group.cases, content.blind_area))
        cases = [_view(case, content) for case in group.cases]
        views.append(GroupView(group.title, group.sentence, cases))
    method = content.explain_method or "the chosen method"
    made = f"The maps are made with {method} on test images{first_seed(content)}."
    unseen = "What the network cannot see is hatched." if content.blind_area is not None else ""
    about_a_class = groups[0].cases[0].explained != NO_CLASS
    paragraphs = text_only(
        NOT_A_HEATMAP if about_a_class else ABOUT_NO_CLASS,
        " ".join(text_only(made, HOW_TO_READ, words.map_size(content, groups[0].cases), unseen)),
        " ".join(text_only(words.beside(groups[0].cases), words.without_class(content))),
    )
    return Section("decisions", "Why it decided so", paragraphs, groups=views)


def blind_section(content: ReportContent, drawer: Drawer) -> Section | None:
    """Return what the network cannot see, or None where it sees everything."""
    blind = content.blind_area
    if blind is None or not blind.any():
        return None
    row: list[Item] = [
        drawer.chart(
            "blind-area",
            blind_area_figure(blind),
            "What the network sees of an image, and what it does not (hatched). A map may paint "
            "the hatched part all the same, because it is stretched over the whole image.",
            words.blindness(blind),
        )
    ]
    light = content.blind_light
    if light is not None and np.isfinite(light).any():
        row.append(
            drawer.chart(
                "blind-light",
                blind_light_figure(light, content.class_names),
                "How much of each class's light (the sum of its pixel values, test images) lies "
                "in the part that is not seen.",
                "Bar chart by class: "
                + ", ".join(
                    f"{name} {percent(float(share), 0)}"
                    for name, share in zip(content.class_names, light, strict=True)
                )
                + ".",
            )
        )
    paragraphs = text_only(f"{words.blindness(blind)} {words.hidden_light(content)}".strip())
    return Section("blind", "What it cannot see", paragraphs, [row])


def _view(case: Case, content: ReportContent) -> CaseView:
    pictures = case_pictures(case, content.blind_area)
    verdict = ""
    if content.task == "multiclass":
        verdict = "right" if case.true_class == case.predicted_class else "wrong"
    return CaseView(
        number=case.index,
        true_class=case.true_class,
        predicted_class=case.predicted_class,
        confidence=confidence(case.confidence),
        verdict=verdict,
        image=png_uri(reduced(pictures.image)),
        map=None if pictures.map is None else png_uri(reduced(pictures.map)),
        overlay=None if pictures.overlay is None else png_uri(reduced(pictures.overlay)),
        further=[_further(as_case(case, further), content) for further in case.further],
    )


def _further(case: Case, content: ReportContent) -> FurtherView:
    """Return the view of a further map, given as a case of its own."""
    painted = case_pictures(case, content.blind_area).map
    return FurtherView(
        method=case.method,
        note=NO_CLASS if case.explained == NO_CLASS else "",
        map=None if painted is None else png_uri(reduced(painted)),
    )
