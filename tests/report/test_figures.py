"""The figures: what they show, that they can be read in grey, and that they leave no trace."""

import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import fedlens.report
from fedlens.models.summary import LayerSummary
from fedlens.report import partition_figure, save_figure
from fedlens.report.blind import blind_area_figure, blind_light_figure, ranges
from fedlens.report.clients import served_figure
from fedlens.report.confusion import class_figure, confusion_figure
from fedlens.report.content import ReportContent
from fedlens.report.curves import Curve, curves_figure
from fedlens.report.drawings import federation_figure, network_figure
from fedlens.report.history import Point
from fedlens.report.inline import inline_svg
from fedlens.report.style import COUNTS, EVIDENCE, shown, svg_text, text_on

NASTY = ["<script>x</script>", "\"q\" & 's'", "$\\frac{$", "\x00\x1bcontrol]]>", "a" * 80]


def texts(figure: Figure) -> list[str]:
    """Return the pieces of text of a figure, as its SVG holds them."""
    return re.findall(r"<text[^>]*>(.*?)</text>", svg_text(figure), re.DOTALL)


def lightness(colors: np.ndarray) -> np.ndarray:
    """Return CIELAB L* of sRGB colours (N, 3) in [0, 1]."""
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27)


def test_the_colour_maps_can_be_read_in_grey() -> None:
    steps = np.linspace(0, 1, 65)
    counts = np.diff(lightness(COUNTS(steps)[:, :3]))
    assert (counts < 0).all() and counts.min() / counts.max() < 1.6
    evidence = np.diff(lightness(EVIDENCE(steps)[:, :3]))
    assert (evidence > 0).all()
    red, green, blue, _ = EVIDENCE(0.5)
    assert max(red, green, blue) - min(red, green, blue) < 0.05  # neutral: zero of a signed map


def test_numbers_on_coloured_cells_have_enough_contrast() -> None:
    def value(rgb: np.ndarray) -> float:
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for color in COUNTS(np.linspace(0, 1, 256)):
        ink = text_on(tuple(color))
        parts = np.array([int(ink[place : place + 2], 16) / 255 for place in (1, 3, 5)])
        low, high = sorted([value(color[:3]), value(parts)])
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_drawing_neither_reads_nor_changes_the_settings_of_matplotlib(tmp_path: Path) -> None:
    counts = np.array([[3, 0], [1, 5]])
    plain = svg_text(partition_figure(counts, ["a", "b"], ["x", "y"]))
    with matplotlib.rc_context(
        {"font.size": 31, "svg.fonttype": "path", "axes.facecolor": "red", "savefig.dpi": 10}
    ):
        before = dict(matplotlib.rcParams)
        figure = partition_figure(counts, ["a", "b"], ["x", "y"])
        save_figure(figure, tmp_path, "partition")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "partition.svg").read_text() == plain


def test_the_windowing_half_of_matplotlib_is_not_used() -> None:
    for path in Path(fedlens.report.__file__).parent.rglob("*.py"):
        assert "import pyplot" not in path.read_text()
        assert "matplotlib.pyplot" not in path.read_text()


def test_a_figure_is_saved_twice_with_the_same_bytes(tmp_path: Path) -> None:
    figure = blind_light_figure(np.array([0.2, np.nan]), ["a", "b"])
    first = [path.read_bytes() for path in save_figure(figure, tmp_path / "new" / "one", "light")]
    again = [path.read_bytes() for path in save_figure(figure, tmp_path / "two", "light")]
    assert first == again
    assert first[0][:4] == b"\x89PNG" and b"<svg" in first[1]
    assert b"Date" not in first[0] and b"Software" not in first[0] and b"<dc:" not in first[1]


def test_the_partition_shows_counts_and_sizes() -> None:
    counts = np.array([[12, 0, 3], [0, 1234, 5]])
    found = texts(partition_figure(counts, ["a", "b", "c"], ["north", "south"]))
    for expected in ("north", "south", "12", "3", "1,234", "5", "15", "1,239", "a", "b", "c"):
        assert expected in found
    assert "0" not in found  # an empty cell stays empty
    several_labels = partition_figure(counts, ["a", "b", "c"], ["n", "s"], np.array([14, 1000]))
    assert {"14", "1,000"} <= set(texts(several_labels))


@pytest.mark.parametrize("shape", [(1, 2), (45, 3), (300, 60)])
def test_a_partition_of_any_size_can_be_drawn(shape: tuple[int, int]) -> None:
    clients, classes = shape
    counts = np.zeros(shape, dtype=np.int64)
    names = [f"c{number}" for number in range(clients)]
    document = svg_text(partition_figure(counts, [f"l{n}" for n in range(classes)], names))
    assert len(document) < 400_000
    assert ("c0" in document) is (clients <= 40)


def test_names_in_figures_are_escaped_and_kept_short() -> None:
    figure = confusion_figure(np.arange(25).reshape(5, 5), NASTY)
    document = svg_text(figure)
    assert "<script" not in document and "&lt;script&gt;" in document
    assert "a" * 20 not in document
    assert "$\\frac{$" in document
    assert shown("\x00 \n") == "(no name)"
    assert shown("two\nlines") == "two lines"
    assert len(shown("a" * 80)) == 24


def test_an_inline_figure_takes_the_colours_of_the_page() -> None:
    figure = curves_figure([1, 2], [Curve("a", np.array([[1.0, 2.0]]))], axis="y", unit="Round")
    document = svg_text(figure)
    svg = str(inline_svg(document, "one"))
    assert svg.startswith("<svg") and svg.endswith("</svg>")
    assert "http" not in svg and "<style" not in svg and "metadata" not in svg
    assert "var(--ink)" in svg and "#1c2126" not in svg
    ids = re.findall(r' id="([^"]+)"', svg)
    assert ids and len(ids) == len(set(ids)) and all(name.startswith("one-") for name in ids)
    for target in re.findall(r'(?:url\(#|href="#)([^")]+)', svg):
        assert target in ids
    assert not set(ids) & set(re.findall(r' id="([^"]+)"', str(inline_svg(document, "two"))))


def test_curves_survive_gaps_single_points_and_name_the_best() -> None:
    values = np.array([[0.5, np.nan, 0.7], [0.6, 0.8, np.nan]])
    figure = curves_figure(
        [1, 2, 3], [Curve("a", values), Curve("b", values, dashed=True)], axis="Accuracy (%)",
        unit="Round", percent=True, mark=Point(2, 0.8),
    )  # fmt: skip
    found = texts(figure)
    assert {"Round", "Accuracy (%)", "best: round 2", "a", "b"} <= set(found)
    single = curves_figure([7], [Curve("a", np.array([[0.5]]))], axis="y", unit="Epoch", zero=True)
    assert "7" in texts(single)
    flat = curves_figure([1, 2], [Curve("a", np.zeros((1, 2)))], axis="y", unit="Epoch", zero=True)
    assert "0" in texts(flat)


def test_the_study_has_no_mark_where_it_gives_no_figure() -> None:
    values = np.array([[0.7, 0.8, 0.9], [0.72, 0.79, np.nan]])
    figure = class_figure(values, ["a", "b", "c"], axis="F1", study={"a": 0.71, "c": 0.9})
    (axes,) = figure.axes
    diamonds = next(line for line in axes.lines if line.get_label() == "the study")
    np.testing.assert_array_equal(diamonds.get_xdata(), [0.71, 0.9])
    np.testing.assert_array_equal(diamonds.get_ydata(), [0, 2])


def test_clients_are_ordered_by_how_well_they_are_served() -> None:
    found = texts(served_figure(np.array([0.9, np.nan, 0.8]), ["a", "b", "c"], overall=0.85))
    assert "b" not in found
    assert [name for name in found if name in "ac"] == ["c", "a"]
    assert {"90.0", "80.0", "whole validation set 85.0"} <= set(found)
    many = texts(served_figure(np.linspace(0.5, 0.9, 50), [f"c{k}" for k in range(50)],
                               overall=None))  # fmt: skip
    assert "c9" in many and "c10" not in many and "c40" in many
    assert any("30 more in between" in piece for piece in many)


def test_the_network_is_drawn_from_its_layers(federated: ReportContent) -> None:
    found = texts(network_figure(federated.layers, (1, 28, 28)))
    for name in ("image", "conv1", "pool1", "conv2", "pool2", "conv3", "pool3", "dense", "output"):
        assert name in found
    assert "relu1" not in found and "flatten" not in found  # named with the step they follow
    assert "Conv2d, 3x3, 32 filters, ReLU" in found
    for shape in ("1 × 28 × 28", "32 × 26 × 26", "64 × 3 × 3", "64 × 1 × 1", "128", "10"):
        assert shape in found
    assert {"320 parameters", "36,928 parameters", "1,290 parameters"} <= set(found)


def test_a_deep_network_and_no_network_can_be_drawn() -> None:
    layers = [LayerSummary(f"b{n}", "Conv2d", "3x3", (8, 7, 7), 100) for n in range(60)]
    assert "b59" in texts(network_figure(layers))
    assert "(no layers given)" in texts(network_figure([]))


@pytest.mark.parametrize(("clients", "drawn"), [(1, 1), (10, 10), (12, 12), (13, 11), (500, 11)])
def test_the_federation_draws_twelve_clients_at_most(clients: int, drawn: int) -> None:
    counts = np.full((clients, 3), 7)
    figure = federation_figure(
        [f"client {k}" for k in range(clients)], counts, counts.sum(1), server="FedAvg",
        down="the model", up="weights", cohort="All take part",
    )  # fmt: skip
    found = texts(figure)
    assert sum(piece.startswith("client ") for piece in found) == drawn
    assert (f"and {clients - drawn:,} more" in found) is (clients > drawn)
    assert found.count("21") == drawn
    assert {"Server", "FedAvg", "the model", "weights", "All take part"} <= set(found)


def test_the_blind_area_is_drawn_whatever_its_shape() -> None:
    corner = np.zeros((28, 28), dtype=bool)
    corner[22:, 22:] = True
    assert {"seen", "not seen"} <= set(texts(blind_area_figure(corner)))
    assert "seen" not in texts(blind_area_figure(np.ones((8, 8), dtype=bool)))


@pytest.mark.parametrize(
    ("flags", "expected"), [("0000", ""), ("0110", "1–2"), ("1011", "0, 2–3"), ("1111", "0–3")]
)
def test_places_are_written_as_ranges(flags: str, expected: str) -> None:
    assert ranges(np.array([flag == "1" for flag in flags])) == expected
