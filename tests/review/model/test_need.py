"""The need of a case, worked by hand."""

import pytest

from fedlens.review.model.need import WEIGHTS, need_of


def test_need_is_four_parts_uncertainty_and_one_part_novelty() -> None:
    assert need_of({"uncertainty": 0.5, "novelty": 0.25}) == pytest.approx(0.45)
    assert need_of({"uncertainty": 0.0, "novelty": 1.0}) == pytest.approx(0.2)
    assert need_of({"novelty": 0.3}) == pytest.approx(0.3)


@pytest.mark.parametrize("name", ["disagreement", "weak-class"])
def test_a_signal_that_counts_nothing_changes_nothing(name: str) -> None:
    signals = {"uncertainty": 0.5, "novelty": 0.25}
    assert WEIGHTS[name] == 0
    assert need_of({**signals, name: 1.0}) == need_of(signals)
    assert need_of({name: 1.0}) == 0
