"""The page of a study of privacy: every figure worked out by hand."""

import re
from pathlib import Path

import pytest

from fedlens.report.privacy_study import lines_of, privacy_advice
from fedlens.report.study_content import CellResult, StudySummary
from fedlens.report.study_page import write_study_page


def cell(
    algorithm: str, seed: int, final: float, f1: tuple[float, float], epsilon: float | None,
    schedule: str = "constant", model: str = "scatter-linear",
) -> CellResult:  # fmt: skip
    privacy = {"mechanism": "none"}
    spent = {}
    if epsilon is not None:
        privacy = {"mechanism": "dp-sgd", "epsilon": epsilon, "schedule": schedule}
        spent = {
            "epsilon": epsilon - 0.01, "delta": 1e-5, "unit": "example", "account": "all <images>",
            "releases": 420,
        }  # fmt: skip
    return CellResult(
        "central", algorithm, seed, (0.1, final), (0, 0), f1, (), 10, (0.0, 0.0), 4.0,
        config={"privacy": privacy, "model": {"name": model}}, privacy=spent,
    )  # fmt: skip


SEEDS = range(6)
CELLS = (
    *(cell("one", seed, 0.85 + 0.001 * seed, (0.60, 0.90), 1) for seed in SEEDS),
    *(cell("ten", seed, 0.90, (0.78, 0.96), 10) for seed in SEEDS),
    *(cell("falling", seed, 0.8501 + 0.0011 * seed, (0.60, 0.90), 1, "linear") for seed in SEEDS),
    *(cell("open", seed, 0.91, (0.80, 0.96), None) for seed in SEEDS),
)
SUMMARY = StudySummary(
    name="privacy",
    title="Privacy",
    about="Budgets.",
    partitions={"central": "Central"},
    algorithms={"one": "ε 1", "ten": "ε 10", "falling": "ε 1, falling", "open": "ε ∞"},
    class_names=("Shirt <b>", "Bag"),
    cells=CELLS,
    kind="privacy",
)


def test_lines_are_budgets_of_one_model_in_one_setting() -> None:
    constant, falling = lines_of(SUMMARY)
    assert list(constant.groups) == [1, 10, float("inf")]
    # without noise there is no schedule: both lines end in the same cells
    assert list(falling.groups) == [1, float("inf")] and falling.open == constant.open
    assert constant.accuracy(1).mean == pytest.approx(0.8525)
    assert constant.accuracy(3) is None


def test_the_two_claims_are_answered_in_points() -> None:
    (advice,) = privacy_advice(SUMMARY)
    text = advice.text.replace("\u00a0", " ")
    assert (
        "Epsilon 10 costs 1.00 points: the claim that about 10 keeps the accuracy holds here, to "
        "within a point."
    ) in text
    # 91 - 85.25
    assert "Epsilon 1 costs 5.75 points: claimed are 3 to 8, and it does here." in text
    assert "85.2 % at epsilon 1, 90.0 % at epsilon 10 and 91.0 % at epsilon ∞" in text


def test_the_page_has_it_all_and_escapes_names(tmp_path: Path) -> None:
    page = write_study_page(SUMMARY, privacy_advice(SUMMARY), tmp_path)
    source = page.read_text()
    assert "<b>" not in source.replace("&lt;b&gt;", "")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", source)).replace("&#39;", "'")
    # who pays: Shirt loses 20 and 2 points, Bag 6 and 0
    assert "20.00 6.00 13.00" in text and "2.00 0.00 1.00" in text
    assert "at epsilon 1 Shirt &lt;b&gt; pays most, 20.00 points of F1 against 13.00" in text
    # six pairs, falling always ahead: the two-sided signed-rank test's least p is 2 / 2^6
    assert "0.031" in text
    assert "0.990" in text and "420" in text and "one example" in text
    assert (tmp_path / "figures" / "accuracy-epsilon.png").exists()
    for absent in ("How it serves the clients", "Drift", "Time and bytes"):
        assert absent not in text
