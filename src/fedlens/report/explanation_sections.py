"""The sections of one network's judged explanations: measures, ranks, parts and pictures."""

from collections.abc import Iterator, Sequence
from typing import Any

from fedlens.report.explanation_agreement import (
    agreement,
    agreement_words,
    concordance_words,
)
from fedlens.report.explanation_blind import HATCHED, Blind, blind_of, blind_words
from fedlens.report.explanation_content import ExplanationStudy, Finding
from fedlens.report.explanation_figures import Dots, bars_figure, dots_figure, matrix_figure
from fedlens.report.explanation_maps import PictureRow, Pixels, grey, painted, pictures_figure
from fedlens.report.explanation_naming import capital, lowered, method_name, methods_named, ranged
from fedlens.report.explanation_part_words import difference_words
from fedlens.report.explanation_parts import asked, differences, selects
from fedlens.report.explanation_reading import (
    CONTROLS,
    Content,
    answered,
    classless,
    estimate,
    ordered,
    standing,
)
from fedlens.report.explanation_tables import difference_table, judged_table, region_table
from fedlens.report.page import Chart, Drawer, Item, Section
from fedlens.report.wording import count, listing, percent, whole

MOST_MAPS = 5  # methods in the figure of the average maps
FEW_RIGHT = 1  # right answers of each class in the gallery


def judged_section(study: ExplanationStudy, drawer: Drawer) -> Section | None:
    """Return the table of every method by every measure, and the mean ranks."""
    found = answered(study, "judged")
    if not found:
        return None
    tables: list[list[Item]] = [[judged_table(model, content)] for model, content in found.items()]
    charts = [_ranks(model, content, drawer) for model, content in found.items()]
    matrices = [_matrix(model, content, drawer) for model, content in found.items()]
    return Section(
        "methods",
        "Every method by every measure",
        [f"{model}: {lowered(_agreeing(content))}" for model, content in found.items()],
        [*tables, *in_pairs(charts), *([chart] for chart in matrices if chart is not None)],
    )


def _agreeing(content: Content) -> str:
    """Return how far the measures agree on the order, and the methods on their maps."""
    found = agreement(content)
    return " ".join([concordance_words(content), *([agreement_words(found)] if found else [])])


def _matrix(model: str, content: Content, drawer: Drawer) -> Chart | None:
    found = agreement(content)
    if found is None:
        return None
    return drawer.chart(
        f"agreement-{model}",
        matrix_figure(found.methods, found.values),
        f"{model}: how alike the maps of each two methods are, the mean rank correlation over the "
        "images on the pixels that the network sees; the darker the more alike. The best-ranked "
        "method first, the controls last.",
        f"{model}: mean rank correlation of the maps of {count(len(found.methods), 'method')}, "
        f"each two. {agreement_words(found)} All figures are in table.csv.",
        least=110 + 34 * len(found.methods),
    )


def _ranks(model: str, content: Content, drawer: Drawer) -> Chart:
    places = standing(content)
    said = "; ".join(
        f"{method_name(p.key)} {ranged(p.rank, 1)}, kept {percent(p.kept, 0)}" for p in places
    )
    return drawer.chart(
        f"ranks-{model}",
        dots_figure(
            [p.key for p in places],
            [Dots("mean rank", {p.key: p.rank for p in places})],
            axis="mean rank (1 is the best)",
            notes=[percent(p.kept, 0) for p in places],
            head="kept",
        ),
        f"{model}: mean rank over the measures, with the 95 % interval over resampled images. "
        "Kept: the share of the resamples in which the method keeps its place. Controls are hollow, "
        f"in italics. {concordance_words(content)}",
        f"{model}: mean ranks. {said}.",
    )


def regions_section(study: ExplanationStudy, drawer: Drawer) -> Section | None:
    """Return which parts of a garment the evidence lies on, with the average maps."""
    rows: list[list[Item]] = []
    said = []
    for model, finding in _judged(study):
        content = finding.content
        if not content.get("regions"):
            continue
        blind, apart = blind_of(content), differences(content)
        said += [blind_words(model, blind)] if blind else []
        said += [f"{model}: {difference_words(apart)}"] if apart else []
        rows.append([_mean_maps(model, finding, drawer)])
        wrong = [group for group in content["groups"] if not group["right"]]
        rows += in_pairs([_lifts(model, content, group, drawer) for group in wrong])
        rows += [[region_table(model, content, group)] for group in wrong]
        rows += [[difference_table(model, apart)]] if any(p.values for p in apart) else []
    if not rows:
        return None
    return Section(
        "parts",
        "Which part of the garment",
        (
            "The question is always why the answer and not the other class of the pair: for a "
            "mistake, why the predicted class and not the true one.",
            *said,
        ),
        rows,
    )


def _mean_maps(model: str, finding: Finding, drawer: Drawer) -> Chart:
    content, arrays = finding.content, finding.arrays
    blind = blind_of(content)
    keys = [p.key for p in standing(content) if not p.control][:MOST_MAPS]
    rows = []
    for group in content["groups"]:
        name = group["name"]
        image = arrays[f"mean-image/{name}"]
        maps = [painted(arrays[f"mean-map/{name}/{key}"]) for key in keys]
        rows.append(PictureRow(_label(group), _marked(blind, grey(image), maps)))
    return drawer.chart(
        f"mean-maps-{model}",
        pictures_figure(["image", *map(method_name, keys)], rows),
        f"{model}: the mean image and the mean map of each group, by the "
        f"{count(len(keys), 'best-ranked method')}. Each map is scaled to its own strongest pixel "
        "before the mean, and the mean again; vermilion speaks for the answer, blue against it."
        + (HATCHED if blind else ""),
        f"{model}: mean maps of {listing([group['name'] for group in content['groups']])} by "
        f"{methods_named(keys)}. The tables below give the same by part.",
        least=460,
    )


def _marked(
    blind: Blind | None, image: Pixels, maps: Sequence[Pixels | None]
) -> list[Pixels | None]:
    """Return an image and its maps in a row, with what the network does not see marked on each."""
    if blind is None:
        return [image, *maps]
    return [blind.on_image(image), *map(blind.on_map, maps)]


def _label(group: Content) -> list[str]:
    images = f"{whole(group['images'])} images"
    if group["right"]:
        return [group["true"], "right", images]
    return [group["true"], f"as {group['predicted']}", images]


def _lifts(model: str, content: Content, group: Content, drawer: Drawer) -> Chart:
    regions = content["regions"]
    table = next(t for t in regions["tables"] if t["group"] == group["name"])
    keys = asked(content)
    who = "may be asked about parts" if selects(content) else "look at the class"
    series = [
        Dots(
            method_name(key),
            dict(zip(regions["names"], map(estimate, table["lift"][key]), strict=True)),
        )
        for key in keys
    ]
    said = "; ".join(
        f"{dots.label}: "
        + ", ".join(f"{part} {ranged(value.times(100), 0)}" for part, value in dots.figures.items())
        for dots in series
    )
    return drawer.chart(
        f"lift-{model}-{content['groups'].index(group)}",
        dots_figure(regions["names"], series, axis="share less area (points)", line=0.0, scale=100),
        f"{model}, {group['name']}: how much more of the positive evidence lies on each part than "
        f"its area, with the 95 % interval, by the best-ranked methods that {who}.",
        f"{model}, {group['name']}: lift by part in points. {said}.",
    )


def gallery_section(study: ExplanationStudy, drawer: Drawer) -> Section | None:
    """Return the maps of all methods on a few images of each direction."""
    rows: list[list[Item]] = []
    note = []
    for model, finding in _judged(study):
        content, arrays = finding.content, finding.arrays
        blind = blind_of(content)
        if blind and not content.get("regions"):  # else it stands with the parts
            note.append(blind_words(model, blind))
        keys = ordered(study, model, [row["key"] for row in content["rows"]])
        pictures = []
        for group in content["groups"]:
            images = arrays[f"images/{group['name']}"]
            some = images[:FEW_RIGHT] if group["right"] else images
            for place, image in enumerate(some):
                maps = [
                    painted(arrays[f"maps/{group['name']}/{key}"][place], image) for key in keys
                ]
                label = _label(group)[:2] if place == 0 else []
                pictures.append(PictureRow(label, _marked(blind, grey(image), maps)))
        columns = ["image", *map(method_name, keys)]
        rows.append(
            [
                drawer.chart(
                    f"gallery-{model}",
                    pictures_figure(columns, pictures),
                    f"{model}: the first images of each group by all methods, the best-ranked "
                    "first and the controls last. Each map is scaled to its own strongest pixel; "
                    "vermilion speaks for the answer, blue against it; the grey line is the "
                    "garment's outline. 'No map': it is zero everywhere or not finite."
                    + (HATCHED if blind else ""),
                    f"{model}: maps of {listing([g['name'] for g in content['groups']])} by "
                    f"{methods_named(keys)}.",
                    least=110 + 46 * len(columns),
                )
            ]
        )
    if not rows:
        return None
    about_none = [key for key in classless(study) if key not in CONTROLS]
    if about_none:
        note.append(
            f"{capital(methods_named(about_none))} and the controls look at no class: their maps "
            "are the same whichever class is asked about."
        )
    return Section("gallery", "The methods side by side", note, rows)


def known_section(study: ExplanationStudy, drawer: Drawer) -> Section | None:
    """Return how much of the maps lies on the evidence where it is known."""
    found = answered(study, "known")
    if not found:
        return None
    rows: list[list[Item]] = []
    sample = _sample(study, drawer)
    if sample is not None:
        rows.append([sample])
    for model, content in found.items():
        charts = [
            _known_bars(study, model, content[role], role, drawer)
            for role in ("shapes", "shortcut")
            if content.get(role)
        ]
        rows += in_pairs(charts)
    return Section(
        "known",
        "Where the evidence is known",
        (
            "Generated images of grey figures. In one set the figure is all that the class can be "
            "read from; in the other a small mark went with one class in training, and test "
            "images of other figures that carry it are explained for that class.",
        ),
        rows,
    )


def _sample(study: ExplanationStudy, drawer: Drawer) -> Chart | None:
    names = {"shapes": "figures", "shortcut": "with the mark"}
    for finding in study.of("known").values():
        rows = [
            PictureRow([title], [grey(image) for image in finding.arrays[f"images/{role}"]])
            for role, title in names.items()
            if f"images/{role}" in finding.arrays
        ]
        if rows:
            return drawer.chart(
                "known-images",
                pictures_figure((), rows),
                "Test images of the two sets.",
                "Six test images of each of two generated sets: grey figures on a noisy ground, "
                "without and with a small mark.",
            )
    return None


def _known_bars(
    study: ExplanationStudy, model: str, content: Content, role: str, drawer: Drawer
) -> Chart:
    what = "figure" if role == "shapes" else "mark"
    keys = ordered(study, model, list(content["rows"]))
    masses = {key: estimate(content["rows"][key]["mass"]) for key in keys}
    pointing = {key: estimate(content["rows"][key]["pointing"]) for key in keys}
    gone = [key for key in keys if masses[key].missing]
    missing = (
        " Without positive evidence: "
        + listing([f"{method_name(k)} on {masses[k].missing} of {content['images']}" for k in gone])
        + "."
        if gone
        else ""
    )
    said = "; ".join(
        f"{method_name(key)} {percent(masses[key].mean, 0)}, strongest pixel on it "
        f"{percent(pointing[key].mean, 0)}"
        for key in keys
    )
    taken = (
        f"; {percent(content['taken'], 0)} of the marked images are taken for its class"
        if content.get("taken") is not None
        else ""
    )
    return drawer.chart(
        f"known-{role}-{model}",
        bars_figure(
            masses,
            axis=f"positive evidence on the {what} (%)",
            line=content["area"],
            words=f"area of the {what}",
        ),
        f"{model}: share of the positive evidence that lies on the {what}, mean of "
        f"{count(content['images'], 'image')} with the 95 % interval. The network's accuracy is "
        f"{percent(content['accuracy'], 1)}{taken}.{missing}",
        f"{model}: share on the {what}, of which the area is {percent(content['area'], 1)}. {said}.",
    )


def _judged(study: ExplanationStudy) -> Iterator[tuple[str, Finding]]:
    answers = answered(study, "judged")
    for model, finding in study.of("judged").items():
        if model in answers:
            yield model, finding


def in_pairs(charts: Sequence[Any]) -> list[list[Item]]:
    """Return rows of two."""
    return [list(charts[place : place + 2]) for place in range(0, len(charts), 2)]
