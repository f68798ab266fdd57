"""The curves of a study: what of them is drawn, and that lines can be told apart."""

import numpy as np
import pytest

from fedlens.report.study_figures import StudyCurve, foot, series_style, study_figure


def curve(*values: float, place: int = 0) -> StudyCurve:
    return StudyCurve("a", np.array([values]), place)


CLIMB = [0.2, 0.6, *[0.86, 0.87] * 4]  # ten rounds, of which the first two are the climb
LATER = [0.3, 0.7, *[0.81, 0.86] * 4]


def test_the_climb_is_cut_off_below_what_the_later_rounds_hold() -> None:
    # 0.06 of 0.87 - 0.81 below 0.81 is 0.8064, and the whole percent below that 0.80
    assert foot([curve(*CLIMB), curve(*LATER)]) == pytest.approx(0.80)
    (axes,) = study_figure([curve(*CLIMB), curve(*LATER, place=1)], axis="a").axes
    low, high = axes.get_ylim()
    assert low == pytest.approx(0.80)
    assert 0.87 < high < 0.89
    assert [len(line.get_ydata()) for line in axes.lines] == [10, 10]


@pytest.mark.parametrize(
    "curves",
    [
        [curve(*CLIMB), curve(0.1, *[0.5] * 8, 0.1)],  # one that collapses is seen to
        [curve(*CLIMB), curve(0.2, 0.4)],  # one that stopped early would be out of sight
        [curve(*CLIMB), curve(0.2, *[np.nan] * 9)],
        [curve(*CLIMB[:9])],  # too short to have a climb
        [curve(0.72, 0.78, *[0.8, 0.9] * 4)],  # little would be gained
    ],
)
def test_all_is_drawn_where_a_cut_would_hide_something_or_gain_little(
    curves: list[StudyCurve],
) -> None:
    assert foot(curves) is None
    (axes,) = study_figure(curves, axis="a").axes
    assert axes.get_ylim()[0] <= min(float(np.nanmin(one.values)) for one in curves)


def test_no_two_of_the_first_lines_look_alike() -> None:
    looks = [(style["color"], str(style["ls"])) for style in map(series_style, range(35))]
    assert len(set(looks)) == 35
    assert len({color for color, _ in looks[:7]}) == 7


def test_a_cut_leaves_a_height_in_which_noise_is_small() -> None:
    assert foot([curve(0.2, 0.8, *[0.895, 0.9] * 4)]) == pytest.approx(0.87)


def test_the_legend_says_how_many_seeds_a_line_has_where_they_differ() -> None:
    one = StudyCurve("One", np.array([[0.1, 0.4]]), 0)
    three = StudyCurve("Three", np.array([[0.1, 0.5], [0.2, 0.6], [0.3, 0.7]]), 1)

    def legend(*curves: StudyCurve) -> list[str]:
        (found,) = study_figure(curves, axis="accuracy").legends
        return [text.get_text() for text in found.get_texts()]

    assert legend(one, three) == ["Three  60.0, three seeds", "One  40.0, one seed"]
    assert legend(three, StudyCurve("More", three.values + 0.1, 2)) == ["More  70.0", "Three  60.0"]
