"""Who is asked about the parts of a garment, what is not seen, and who agrees: made by hand."""

import csv
import dataclasses
import html
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedlens.report.explanation_agreement import agreement, agreement_words, concordance_words
from fedlens.report.explanation_blind import blind_of, blind_words
from fedlens.report.explanation_content import ExplanationStudy, Finding
from fedlens.report.explanation_maps import grey, painted
from fedlens.report.explanation_page import write_explanation_page
from fedlens.report.explanation_part_words import difference_words, left_out_words
from fedlens.report.explanation_parts import asked, differences, directions, left_out
from fedlens.report.explanation_record import table_csv
from fedlens.report.explanation_tables import difference_table, judged_table, region_table
from findings import CLEAR, METHODS, PARTS, RIGHT, SLEEVES, WRONG, about, judged, only, said

NOTHING = [about(0.0)] * 5
ROWS = {  # key -> method, parameters, whether it may be asked; the best-ranked first
    "grad-cam": ("grad-cam", {}, False),
    "lime": ("lime", {}, False),
    "occlusion": ("occlusion", {}, False),
    "occlusion, blurred": ("occlusion", {"baseline": "blurred"}, True),
    "exact-shapley, 9 patches": ("exact-shapley", {"across": 3, "baseline": "blurred"}, False),
    "expected-gradients": ("expected-gradients", {"samples": 100}, True),
    "gradient": ("gradient", {}, False),
    "attention-relevance": ("attention-relevance", {}, True),
    "kernel-shap": ("kernel-shap", {}, False),
    "kernel-shap, blurred": ("kernel-shap", {"baseline": "blurred"}, True),
    "my-own": ("my-own", {}, False),
    "attention-rollout": ("attention-rollout", {}, False),
    "edges": ("edges", {}, False),
}


def many(*, old: bool = False) -> dict[str, Any]:
    """Return the content of a network that many methods explained, the worst-ranked row first."""
    keys = list(ROWS)[::-1]
    rows = []
    for key in keys:
        method, parameters, may = ROWS[key]
        about_a_class = key not in ("edges", "attention-rollout")
        row = {"key": key, "method": method, "parameters": parameters, "control": key == "edges"}
        rows.append(row | {"class_specific": about_a_class} | ({} if old else {"names_parts": may}))
    ranks = [float(len(keys) - place) for place in range(len(keys))]
    lift = dict.fromkeys(keys, NOTHING)
    return {
        "groups": [{"name": WRONG, "true": "Shirt", "predicted": "T-shirt/top", "right": False,
                    "images": 4}],
        "rows": rows,
        "ranking": {"mean_rank": ranks, "low": ranks, "high": ranks, "kept": ranks,
                    "measures": ["road"] * 7, "concordance": 0.2},
        "regions": {"names": list(PARTS), "tables": [{"group": WRONG, "lift": lift}]},
    }  # fmt: skip


def newer(*, may: tuple[str, ...] = ("alpha", "gamma")) -> Finding:
    """Return a judged network of 28 x 28 pixels that sees 22 x 20 of them, with all that is new."""
    finding = judged(CLEAR, SLEEVES)
    content = {**finding.content}
    content["rows"] = [row | {"names_parts": row["key"] in may} for row in content["rows"]]
    content["seen"] = {
        "box": [0, 3, 22, 23], "height": 28, "width": 28, "blind": 1 - 22 * 20 / 784,
        "light": [0.125, 0.0625],
    }  # fmt: skip
    content["agreement"] = {
        "rows": list(METHODS),
        "matrix": [
            [1.0, 0.6, -0.2, 0.1, None],
            [0.6, 1.0, 0.3, 0.1, 0.0],
            [-0.2, 0.3, 1.0, 0.95, 0.0],
            [0.1, 0.1, 0.95, 1.0, 0.0],
            [None, 0.0, 0.0, 0.0, 1.0],
        ],
    }
    more, less, none = about(0.08), about(-0.05), about(None)
    content["regions"] = content["regions"] | {
        "unseen": [[0.5, 0.0, 0.25, 0.125, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]],
        "differences": [
            {
                "first": WRONG,
                "second": RIGHT,
                "values": {
                    "alpha": [more, less, more, about(0.02), none],
                    "beta, blurred": [less, more, less, less, less],  # is not asked
                    "gamma": [more, less, less, about(0.09), more],
                },
            },
            {"first": RIGHT, "second": WRONG, "values": dict.fromkeys(METHODS, NOTHING)},
        ],
    }
    complete = {"key": "complete", "title": "Complete", "unit": "share", "higher_is_better": True,
                "ranked": False, "about": "The sum is right."}  # fmt: skip
    content["measures"] = [*content["measures"], complete]
    for row in content["rows"]:
        if row["key"] == "gamma":
            row["figures"] = row["figures"] | {"complete": about(0.75)}
    return Finding(content, finding.arrays)


def test_the_best_three_that_may_be_asked_are_asked() -> None:
    assert asked(many()) == ["occlusion, blurred", "expected-gradients", "attention-relevance"]
    assert asked(many(old=True)) == ["grad-cam", "lime", "occlusion"]
    assert left_out(many(old=True)) == {} and left_out_words(many(old=True)) == ""
    (found,) = directions(many())
    assert found.methods == ("occlusion, blurred", "expected-gradients", "attention-relevance")


def test_who_is_left_out_is_named_with_the_reason() -> None:
    assert left_out_words(many()) == (
        "not asked, although they look at the class: my-own (too coarse, or a baseline against which "
        "a dark part can never get evidence); kernel-shap and occlusion (a black baseline, against "
        "which a dark part can never get evidence); gradient (a slope, which says what a small "
        "change would do and not what a part is worth); exact-shapley (9 patches) and grad-cam (too "
        "coarse to tell the parts apart); lime (a cell's own mean as the baseline, against which an "
        "evenly dark cell can get none)."
    )


def test_networks_of_which_the_same_is_to_be_said_are_named_together() -> None:
    old = Finding(many(old=True), {})
    findings = {"judged/a": Finding(many(), {}), "judged/b": old, "judged/c": Finding(many(), {})}
    parts = said(ExplanationStudy("x", "X", "", findings), "What the confusion rests on")
    assert list(parts) == [*(f"{model}, {WRONG} (4 images)" for model in "abc"), "a, c"]
    assert parts["a, c"].startswith("not asked, although")


def test_the_answer_is_that_of_those_asked() -> None:
    parts = said(only(judged=newer()), "What the confusion rests on")
    text = parts[f"one, {WRONG} (20 images)"]
    assert text.startswith("the sleeves. Alpha and gamma both put more of their positive evidence")
    assert "+20 (18 to 22) and +12 (10 to 14) points" in text
    assert parts["one"].startswith("not asked, although they look at the class: beta (blurred) (")


def test_where_none_may_be_asked_a_page_is_made_all_the_same(tmp_path: Path) -> None:
    study = only(judged=newer(may=()))
    text = said(study, "What the confusion rests on")[f"one, {WRONG} (20 images)"]
    assert text == "no method that may be asked about parts was judged."
    assert f"{WRONG} against {RIGHT}: no method that may be asked was compared." in plain(
        write_explanation_page(study, tmp_path)
    )


def test_groups_differ_where_all_that_are_asked_say_so_surely() -> None:
    found = differences(newer().content)
    assert [list(pair.values) for pair in found] == [["alpha", "gamma"]] * 2
    # the sleeves differ in sign, on the body one touches 0, of the hem one knows nothing
    assert found[0].agreed(1) == ["background"] and found[0].agreed(-1) == ["collar"]
    assert difference_words(found) == (
        f"{WRONG} against {RIGHT}: both methods asked put more on the background and less on the "
        f"collar in the first, by more than the intervals. {RIGHT} against {WRONG}: there is no part "
        "on which the two methods asked surely differ the same way."
    )
    alone = differences(newer(may=("alpha",)).content)
    assert difference_words(alone) == (
        f"{WRONG} against {RIGHT}: alpha puts more on the background and sleeves and less on the "
        f"collar in the first, by more than the intervals. {RIGHT} against {WRONG}: alpha differs "
        "surely on no part."
    )
    assert differences(judged(CLEAR, SLEEVES).content) == []


def test_what_an_edge_detector_shows_too_is_of_the_images() -> None:
    content = newer().content
    first = content["regions"]["differences"][0]
    # the same sign on the background, the other one on the collar
    first["values"]["edges"] = [about(0.3), about(0.2), *[about(None)] * 3]
    (pair, _) = differences(content)
    assert pair.agreed(1) == [] and pair.agreed(-1) == ["collar"]
    assert pair.of_the_images() == ["background"]
    assert difference_words([pair]) == (
        f"{WRONG} against {RIGHT}: both methods asked put less on the collar in the first, by more "
        "than the intervals. (On the background an edge detector differs the same way: that is of "
        "the images, not of the network.)"
    )


def test_a_difference_is_bold_where_its_interval_excludes_0() -> None:
    table = difference_table("one", differences(newer().content))
    assert table.columns == ("First less second", "Method", *PARTS)
    assert len(table.rows) == 4
    first = [str(cell) for cell in table.rows[0]]
    assert first == [
        f"{WRONG} less {RIGHT}", "alpha", "<b>+8.0</b>\n6.0 to 10.0", "<b>−5.0</b>\n−7.0 to −3.0",
        "<b>+8.0</b>\n6.0 to 10.0", "+2.0\n0.0 to 4.0", "–",
    ]  # fmt: skip


def test_the_words_on_agreement_leave_the_controls_aside() -> None:
    found = agreement(newer().content)
    assert found is not None and found.methods == METHODS
    # alpha 0.6 and -0.2, beta 0.6 and 0.3, gamma -0.2 and 0.3; gamma and edges do not count
    assert agreement_words(found) == (
        "The maps of alpha and beta (blurred) agree most, with a mean rank correlation of 0.60; those "
        "of gamma agree least with the other methods', with 0.05 on average."
    )
    assert len(found.pairs()) == 9 and ("alpha", "random") not in found.pairs()
    two = dataclasses.replace(found, methods=("alpha", "beta, blurred", "edges"))
    assert agreement_words(two).endswith("agree most, with a mean rank correlation of 0.60.")
    none = dataclasses.replace(found, methods=("alpha", "random"))
    assert agreement_words(none) == "The maps of no two methods can be compared."
    assert agreement(many()) is None  # not worked out


@pytest.mark.parametrize(
    ("measures", "agree", "end"),
    [
        # the mean rank correlation of two measures: (2 x 0.8 - 1) / 1, (7 x 0.2 - 1) / 6, ...
        (2, 0.8, "W of 0.80 (1: one order; about 0.50: nothing in common): they agree in part, "),
        (7, 0.2, "W of 0.20 (1: one order; about 0.14: nothing in common): they hardly agree, so "),
        (7, 0.1, "they hardly agree, so who is ahead depends on which measures are taken."),
        (4, 0.9, "W of 0.90 (1: one order; about 0.25: nothing in common): they largely agree."),
        (7, None, "The order of the methods cannot be compared over the measures."),
        (1, 1.0, "One measure alone makes this order."),
    ],
)
def test_what_the_concordance_means(measures: int, agree: float | None, end: str) -> None:
    content = {"ranking": {"measures": ["m"] * measures, "concordance": agree}}
    assert end in concordance_words(content)


def test_the_concordance_stands_beside_the_ranking() -> None:
    text = said(only(judged=judged(CLEAR, SLEEVES)), "Which methods are best")["one"]
    assert (
        "of 5. The two ranked measures agree on the order with a Kendall's W of 0.80 (1: one order; "
        "about 0.50: nothing in common): they agree in part, so other measures might give another "
        "order. Its lead"
    ) in text


def test_what_is_not_seen_is_hatched_on_maps_and_outlined_on_images() -> None:
    blind = blind_of(newer().content)
    assert blind is not None and blind.mask.sum() == 784 - 22 * 20
    assert not blind.mask[0:22, 3:23].any()
    seen = (~blind.mask).repeat(4, 0).repeat(4, 1)
    values = np.zeros((28, 28))
    values[5, 5] = 1.0
    picture = painted(values)
    marked = blind.on_map(picture)
    assert picture is not None and marked is not None
    assert (marked[seen] == picture[seen]).all()
    assert (marked[~seen] < 200).all() and len(np.unique(marked[~seen])) >= 2  # ground and lines
    image = grey(np.full((28, 28), 10))
    outlined = blind.on_image(image)
    changed = (outlined != image).any(-1)
    assert not changed[seen].any() and 0 < changed.sum() < 0.2 * (~seen).sum()
    assert blind.on_map(None) is None


def test_what_is_not_seen_in_words() -> None:
    content = newer().content
    blind = blind_of(content)
    assert blind is not None
    assert blind_words("one", blind).replace("\u00a0", " ") == (
        "one does not see rows 22–27 and columns 0–2, 23–27 of the 28 × 28 pixels (counted from 0): "
        f"43.9 % of the pixels, and of the images' light 12.5 % ({WRONG}) and 6.2 % ({RIGHT}). "
        "Evidence there can only be zero: what a coarse map or a control paints there all the same is "
        "none."
    )
    every = {"box": [0, 0, 28, 28], "height": 28, "width": 28, "blind": 0.0, "light": [0.0, 0.0]}
    assert blind_of({**content, "seen": every}) is None
    assert blind_of(judged(CLEAR, SLEEVES).content) is None


def test_the_table_of_parts_says_what_is_not_seen() -> None:
    content = newer().content
    table = region_table("one", content, content["groups"][0])
    assert [row[0] for row in table.rows[:3]] == ["area of the part", "not seen", "alpha"]
    assert [cell.replace("\u00a0", " ") for cell in table.rows[1][1:]] == [
        *("50.0 %", "0.0 %", "25.0 %", "12.5 %", "100.0 %")
    ]
    assert "Not seen: " in table.caption
    all_seen = region_table("one", content, content["groups"][1])
    older = judged(CLEAR, SLEEVES).content
    for other in (all_seen, region_table("one", older, older["groups"][0])):
        assert other.rows[1][0] == "alpha" and "ot seen" not in other.caption


def test_completeness_is_shown_of_those_that_promise_it() -> None:
    table = judged_table("one", newer().content)
    place = table.columns.index("Complete ↑")
    cells = {row[0]: row[place] for row in table.rows}
    assert cells["gamma"] == "0.75\n0.73 to 0.77" and cells["alpha"] == "–"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = only(judged=newer())
    study.findings["judged/two"] = judged(CLEAR, SLEEVES)  # type: ignore[index]
    return write_explanation_page(study, tmp_path_factory.mktemp("newer"))


def plain(page: Path) -> str:
    """Return the text of a page."""
    text = html.unescape(re.sub(r"<[^>]+>", " ", page.read_text()))
    return re.sub(r"\s+", " ", text)


def test_a_page_of_new_and_old_content(page: Path) -> None:
    text = plain(page)
    assert "one does not see rows 22–27" in text and "two does not see" not in text
    assert text.count("Hatched (on the images outlined): ") == 2  # mean maps and gallery
    assert text.count("by the best-ranked methods that may be asked about parts.") == 1
    assert text.count("by the best-ranked methods that look at the class.") == 1
    assert f"one: {WRONG} against {RIGHT}: both methods asked put more" in text
    assert "one: the two ranked measures agree on the order" in text
    assert "The maps of alpha and beta (blurred) agree most" in text
    figures = page.parent / "figures"
    assert (figures / "agreement-one.png").exists() and (figures / "agreement-two.png").exists()
    drawn = (figures / "agreement-one.svg").read_text()
    assert drawn.count("−0.20") == 2 and drawn.count("0.95") == 2 and "nan" not in drawn
    # the same arrays with and without a blind area
    for name in ("mean-maps", "gallery"):
        one, two = ((figures / f"{name}-{model}.png").read_bytes() for model in ("one", "two"))
        assert one != two


def test_without_parts_the_gallery_says_what_is_not_seen(tmp_path: Path) -> None:
    finding = newer()
    finding = Finding({**finding.content, "regions": None}, finding.arrays)
    text = plain(write_explanation_page(only(judged=finding), tmp_path))
    assert text.index("The methods side by side") < text.index("one does not see rows 22–27")


def test_the_file_has_what_is_new() -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv(only(judged=newer())))))
    found = {(row["method"], row["measure"]): row["mean"] for row in rows}
    assert len(found) == len(rows)
    assert float(found["alpha", "agreement/beta, blurred"]) == 0.6
    assert ("beta, blurred", "agreement/alpha") not in found  # each pair once
    assert ("alpha", "agreement/random") not in found
    pair = f"difference/{WRONG} less {RIGHT}"
    assert float(found["gamma", f"{pair}/collar"]) == -0.05
    assert found["alpha", f"{pair}/hem"] == ""
    assert float(found["gamma", "complete"]) == 0.75
    assert float(found["", "concordance"]) == 0.8
    assert float(found["", "unseen"]) == pytest.approx(1 - 440 / 784)
    assert float(found["", f"unseen/{WRONG}/light"]) == 0.125
    assert float(found["", f"unseen/{WRONG}/sleeves"]) == 0.25
    old = list(csv.DictReader(io.StringIO(table_csv(only(judged=judged(CLEAR, SLEEVES))))))
    assert not any(row["measure"].startswith(("unseen", "difference")) for row in old)
