"""The page of the study of explanations: sentences held against figures made by hand."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from fedlens.report.explanation_maps import painted
from fedlens.report.explanation_page import write_explanation_page
from fedlens.report.explanation_parts import directions
from fedlens.report.explanation_reading import Estimate, leader
from fedlens.report.explanation_record import table_csv
from fedlens.report.explanation_tables import judged_table, lines
from findings import (
    CLEAR,
    RIGHT,
    SLEEVES,
    STUDY,
    WRONG,
    about,
    clients,
    federation,
    good,
    judged,
    known,
    only,
    said,
)


def test_the_lead_is_held_against_the_intervals_and_the_controls() -> None:
    ranks = said(STUDY, "Which methods are best")
    assert "alpha ranks best, with a mean rank of 1.5 (1.2 to 1.8) of 5." in ranks["one"]
    assert (
        "is larger than the intervals: beta (blurred) comes next with 2.5 (2.2 to 2.8)"
        in ranks["one"]
    )
    assert "1 of 3 methods does no better than the better control, edges, with 3.0" in ranks["one"]
    assert ranks["one"].endswith("(2.9 to 3.1): gamma.")
    assert (
        "is not larger than the intervals: those of beta (blurred) with 1.9 (1.7 to 3.0) and "
        "gamma with 2.0 (1.6 to 2.4) overlap its own" in ranks["two"]
    )
    assert "All 3 methods do better than the better control, edges" in ranks["two"]
    assert ranks["two"].endswith("Beta (blurred) is ahead of it by less than the intervals.")


def test_a_part_is_named_only_where_the_three_agree() -> None:
    parts = said(STUDY, "What the confusion rests on")
    one = parts[f"one, {WRONG} (20 images)"]
    assert one.startswith("the sleeves. Alpha, beta (blurred) and gamma all put more")
    assert "+20 (18 to 22), +30 (28 to 32) and +12 (10 to 14) points" in one
    right = (
        "right answers of the class T-shirt/top, asked the same, it is +5, +5 and +5 points, less"
    )
    assert right in one
    two = parts[f"two, {WRONG} (20 images)"]
    assert two == (
        "the methods do not agree: alpha names the sleeves, beta (blurred) names the body and gamma "
        "names no part surely."
    )
    (none,) = directions(judged(CLEAR, {}).content)
    assert none.tops == (None, None, None) and none.part is None and none.right == ()
    assert (
        "no part surely"
        in said(only(judged=judged(CLEAR, {})), "What the confusion rests on").popitem()[1]
    )


def test_the_part_is_no_clearer_in_mistakes_where_one_method_does_not_say_so() -> None:
    lifts = {WRONG: SLEEVES[WRONG], RIGHT: {"alpha": {"sleeves": about(0.19)}}}
    (text,) = said(only(judged=judged(CLEAR, lifts)), "What the confusion rests on").values()
    assert text.endswith("+19, 0 and 0 points, for not all of them a clear difference.")


def test_federation_is_held_against_another_seed() -> None:
    texts = said(STUDY, "Do explanations survive federation")
    assert "a mean rank correlation of 0.60 over three methods" in texts["one"]  # 0.5, 0.6, 0.7
    assert "of different seeds agree with 0.61. For no method is it lower" in texts["one"]
    assert "no cost beyond that of another seed is seen" in texts["one"]
    assert "for the 31 of 40 decisions that all these networks make, federated" in texts["one"]
    assert "for no method." in texts["one"]
    assert "federation changes explanations more than another seed does" in texts["two"]
    assert "of every central training by more than the intervals in ROAD for 3 of 3" in texts["two"]
    seeds_too = federation(0.5, 0.5, road=0.1)
    seeds_too.content["quality"]["again"] = good(0.1)
    neither = said(only(federation=seeds_too), "Do explanations survive federation")
    assert "for no method." in neither["one"]
    alone = said(only(federation=federation(0.5, None)), "Do explanations survive federation")
    assert "There is no second central training" in alone["one"]
    some = federation(0.5, 0.5)
    some.content["alike"]["federated"]["gamma"]["spearman"] = about(0.2)
    mixed = said(only(federation=some), "Do explanations survive federation")
    assert "for 1 of 3 methods: gamma." in mixed["one"]


def test_privacy_goes_by_epsilon() -> None:
    text = said(STUDY, "Do they survive privacy")["one"]
    assert "0.40 at epsilon 8 and 0.20 at epsilon 1; another training without privacy gives" in text
    assert "At epsilon 8 it is lower than that by more than the intervals for 3 of 3" in text
    assert "0.300 without privacy, 0.200 at epsilon 8 and 0.100 at epsilon 1" in text
    assert text.endswith("90.0 %, 85.0 % and 80.0 %.")


def test_the_cheat_is_held_against_the_other_clients_and_the_area() -> None:
    texts = said(STUDY, "Does a cheating client stand out")
    assert "client 2 trained one epoch with a mark on its 40 images of Sneaker" in texts["one"]
    assert (
        "takes 90 % of other images with the mark for that class, and 5 % without it."
        in texts["one"]
    )
    assert "It stands out by 1 of 1 methods (alpha), most by alpha: 30.0 %" in texts["one"]
    beside = (
        "at most 5.0 % at another client or its own without the mark, and the mark's area of 2.0"
    )
    assert beside in texts["one"]
    assert "the shortcut hardly took" in texts["two"] and "It does not stand out" in texts["two"]
    # not where the same client's model looks there without a mark too, nor within the intervals
    for finding in (clients(0.3, 0.9, twin=0.29), clients(0.06, 0.9)):
        text = said(only(clients=finding), "Does a cheating client stand out")["one"]
        assert "It does not stand out" in text
    nothing = said(only(clients=clients(None, 0.9)), "Does a cheating client stand out")
    assert "No map has positive evidence" in nothing["one"]


def test_known_evidence_is_counted() -> None:
    texts = said(STUDY, "Do they find known evidence")
    assert "1 of 2 methods puts over 80 % (the better control 55 %): alpha 90 %" in texts["one"]
    assert "are taken for its class in 97 % of cases) 1 of 2 methods puts over 50 %" in texts["one"]
    assert (
        "no method of 2 puts over 80 % (the better control 55 %); the most is 70 %" in texts["two"]
    )


def test_the_share_of_the_edges_stands_beside_what_an_edge_detector_finds() -> None:
    finding = known(0.9, 0.1)
    before = said(only(known=finding), "Do they find known evidence")["one"]
    assert "images' edges" not in before  # findings of before have none
    finding.content["shapes"]["edge_share"] = 0.52
    text = said(only(known=finding), "Do they find known evidence")["one"]
    assert "On the figure (area 15 %, with 52 % of the images' edges; the network's" in text


def test_a_network_that_does_not_use_the_mark_is_not_held_against_the_methods() -> None:
    finding = known(0.9, 0.1)
    assert (
        "hardly uses the mark"
        not in said(only(known=finding), "Do they find known evidence")["one"]
    )
    finding.content["shortcut"]["taken"] = 0.17
    finding.content["shapes"]["rows"]["alpha"]["mass"] = about(0.9, missing=10)
    text = said(only(known=finding), "Do they find known evidence")["one"]
    assert text.endswith("This network hardly uses the mark, so a map of it need not show it.")
    assert "alpha 90 % (on 30 images)." in text


def test_the_best_is_bold_only_where_its_interval_excludes_the_next() -> None:
    content = STUDY.findings["judged/one"].content
    road, deletion, seeds = content["measures"]
    assert leader(content, road) == "alpha"  # 0.48 to 0.52 against 0.40
    assert leader(content, deletion) is None  # 0.28 to 0.32 holds 0.31
    assert leader(content, seeds) is None
    table = judged_table("one", content)
    assert [row[0] for row in table.rows][:3] == ["alpha", "beta (blurred)", "gamma"]
    assert table.rows[0][1] == "<b>0.500</b>\n0.480 to 0.520"
    assert table.rows[2][1].endswith("25\u00a0% missing") and table.rows[0][3] == "–"
    assert 'class="control"' in table.rows[-1][0] and table.rows[0][-1] == "12.3"
    assert table.columns[1:3] == ("ROAD gap ↑", "Deletion ↓")
    assert lines(Estimate(0.5)) == "0.50"


def test_degenerate_maps_are_not_painted() -> None:
    assert painted(np.zeros((28, 28))) is None
    assert painted(np.full((28, 28), np.nan)) is None
    values = np.zeros((2, 2))
    values[0, 0], values[1, 1] = 2.0, -1.0
    picture = painted(values)
    assert picture is not None and picture.shape == (8, 8, 3)
    red, _, blue = picture[0, 0].astype(int)
    assert red > blue  # for the answer
    assert picture[-1, -1, 2] > picture[-1, -1, 0]  # against it
    assert tuple(picture[0, -1]) == (255, 255, 255)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_explanation_page(STUDY, tmp_path_factory.mktemp("explanations"))


def test_the_page_stands_alone_and_names_what_is_missing(page: Path) -> None:
    source = page.read_text()
    assert "<script" not in source and "http" not in re.sub(r'xmlns\S*="[^"]*"', "", source)
    assert not re.search(r'(?:src|href)="(?!#|data:)', source)
    assert "<i>held</i>" not in source and "How far &lt;b&gt;." in source
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", source))
    assert "10 of 12 questions" not in text and "11 of 12 questions worked out" in text
    assert "pairs/two: There is nothing to explain." in text
    assert "one, Dress / Coat: There is no mistake." in text
    assert "fedlens study explanations " in text and "--quick" not in text
    order = [
        "methods",
        "parts",
        "gallery",
        "known",
        "federation",
        "privacy",
        "shortcut",
        "pairs",
        "how",
    ]
    assert re.findall(r'<section id="(\w+)"', source) == order
    for figure in re.findall(r'<div class="drawing"[^>]*>', source):
        assert re.search(r'aria-label="[^"]{40,}"', figure)


def test_figures_are_beside_the_page(page: Path) -> None:
    drawn = {file.name for file in (page.parent / "figures").glob("*.png")}
    for name in ("ranks-one", "mean-maps-two", "lift-one-0", "gallery-one", "known-images"):
        assert f"{name}.png" in drawn
    for name in ("federation-two", "clients-one", "privacy-one-road", "cheat-two"):
        assert f"{name}.png" in drawn


def test_the_files_hold_every_figure(page: Path) -> None:
    with (page.parent / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "network",
        "method",
        "measure",
        "mean",
        "low",
        "high",
        "images",
        "missing",
    ]
    found = {(row["network"], row["method"], row["measure"]): row for row in rows}
    gamma = found["one", "gamma", "road"]
    assert float(gamma["mean"]) == 0.3 and (gamma["images"], gamma["missing"]) == ("30", "10")
    assert found["one", "random", "seeds"]["mean"] == ""
    assert float(found["one", "alpha", "mean-rank"]["low"]) == 1.2
    assert float(found["two", "alpha", "federation/federated/spearman"]["mean"]) == 0.3
    assert float(found["one", "alpha", "clients/2/on-the-mark"]["mean"]) == 0.3
    assert float(found["one", "alpha", "pairs/Coat / Pullover/road"]["mean"]) == 0.25
    manifest = json.loads((page.parent / "manifest.json").read_text())
    assert set(manifest["findings"]) == set(STUDY.findings)
    assert manifest["missing"] == ["privacy/two"] and manifest["quick"] is False
    assert manifest["networks"]["one"]["private-1"] == {"accuracy": 0.8, "parameters": 1000}


def test_one_finding_alone_makes_a_page(tmp_path: Path) -> None:
    for number, study in enumerate(
        (only(known=known(0.9, 0.6)), only(judged=STUDY.findings["pairs/two"]))
    ):
        page = write_explanation_page(study, tmp_path / str(number))
        assert page.exists() and table_csv(study)
