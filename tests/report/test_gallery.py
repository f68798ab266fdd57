"""Explained decisions as pictures."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from fedlens.report import explanation_figure, write_report
from fedlens.report.content import Case, FurtherMap, GalleryGroup, ReportContent
from fedlens.report.gallery import case_pictures, confidence, is_degenerate, reduced
from fedlens.report.inline import png_uri
from fedlens.report.style import svg_text

GREY = np.array([0.2126, 0.7152, 0.0722])


def case(heatmap: np.ndarray, image: np.ndarray | None = None, **changes: object) -> Case:
    picture = np.full(heatmap.shape, 128, dtype=np.uint8) if image is None else image
    made = Case(5, picture, heatmap.astype(np.float32), "Shirt", "Coat", 0.731, "conv3")
    return dataclasses.replace(made, **changes)


def ramp(side: int = 28) -> np.ndarray:
    return np.linspace(0, 5, side * side).reshape(side, side)


def test_images_are_enlarged_without_smoothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    picture = case_pictures(case(ramp(), image)).image
    assert picture.shape == (168, 168, 3)
    for channel in range(3):
        np.testing.assert_array_equal(picture[..., channel], image.repeat(6, 0).repeat(6, 1))
    colour = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    np.testing.assert_array_equal(case_pictures(case(ramp(200), colour)).image, colour)


def test_stronger_evidence_is_lighter_in_grey() -> None:
    pictures = case_pictures(case(ramp()))
    assert pictures.map is not None and pictures.overlay is not None
    grey = (pictures.map / 255.0) @ GREY
    rows = grey[3::6, 3]
    assert (np.diff(rows) > 0).all()
    # On the overlay a white line surrounds the stronger half: rows 14 to 27 of an even ramp.
    white = (pictures.overlay == 255).all(2)
    lines = np.flatnonzero(white.all(1))
    assert lines.tolist() == [84, 85]
    overlay = (pictures.overlay / 255.0) @ GREY
    assert overlay[-3].mean() > overlay[2].mean() + 0.1


def test_a_map_is_scaled_to_its_own_strongest_pixel() -> None:
    one, ten = (case_pictures(case(factor * ramp())).map for factor in (1, 10))
    np.testing.assert_array_equal(one, ten)


def test_signed_maps_are_centred_on_neutral_grey() -> None:
    heatmap = np.zeros((28, 28))
    heatmap[0, 0], heatmap[27, 27] = -2.0, 1.0
    pictures = case_pictures(case(heatmap))
    assert pictures.signed and pictures.map is not None
    against, neutral, favour = (pictures.map[place, place].astype(int) for place in (2, 80, 165))
    assert neutral.max() - neutral.min() < 15
    assert against @ GREY < neutral @ GREY < favour @ GREY
    assert not case_pictures(case(ramp())).signed


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_degenerate_maps_are_not_painted(value: float) -> None:
    empty = case(np.full((28, 28), value))
    assert is_degenerate(empty)
    pictures = case_pictures(empty)
    assert pictures.map is None and pictures.overlay is None
    assert is_degenerate(case(ramp(), degenerate=True))
    assert not is_degenerate(case(ramp()))


def test_what_the_network_cannot_see_is_hatched_and_outlined() -> None:
    blind = np.zeros((28, 28), dtype=bool)
    blind[22:] = True
    with_blind, without = case_pictures(case(ramp()), blind), case_pictures(case(ramp()))
    assert with_blind.map is not None and without.map is not None
    np.testing.assert_array_equal(with_blind.map[: 22 * 6], without.map[: 22 * 6])
    below = with_blind.map[22 * 6 + 3 :].astype(int)
    lines = (below == 158).all(2)
    assert 0.1 < lines.mean() < 0.3
    rest = below[~lines]
    assert (rest.max(1) - rest.min(1)).mean() < 0.4 * 255
    edge = with_blind.image[22 * 6]
    assert (edge == 158).all() and (with_blind.image[-1] == 128).all()
    other_size = case_pictures(case(ramp()), np.ones((8, 8), dtype=bool))
    np.testing.assert_array_equal(other_size.image, without.image)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.973, "97.3 %"), (1.0, "100.0 %"), (0.99951, "over 99.9 %"), (0.9994, "99.9 %")],
)
def test_a_confidence_is_never_rounded_up_to_certainty(value: float, expected: str) -> None:
    assert confidence(value).replace("\u00a0", " ") == expected


def test_the_figure_names_truth_prediction_and_confidence(federated: ReportContent) -> None:
    cases = [case(ramp()), case(np.zeros((28, 28)), degenerate=True)]
    document = svg_text(explanation_figure(cases, federated.blind_area))
    assert document.count("<image ") == 3 + 1
    texts = [t.replace("\u00a0", " ") for t in re.findall(r"<text[^>]*>(.*?)</text>", document)]
    assert texts.count("true: Shirt") == 2
    assert texts.count("predicted: Coat, 73.1 %") == 2
    assert {"image", "map", "overlay", "no evidence found", "for this class"} <= set(texts)


def test_large_pictures_are_made_small_for_the_page() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 300, 3), dtype=np.uint8)
    small = reduced(noise)
    assert small.shape == (224, 112, 3)
    assert abs(float(small.mean()) - float(noise.mean())) < 1
    assert len(png_uri(reduced(np.tile(noise, (1, 2, 1))))) < 75_000
    np.testing.assert_array_equal(reduced(noise[:100, :100]), noise[:100, :100])


def with_further(**changes: object) -> Case:
    signed = (ramp() - 1).astype(np.float32)
    further = [
        FurtherMap("integrated-gradients", signed, signed=True),
        FurtherMap("attention-rollout", ramp().astype(np.float32), explained="no class"),
        FurtherMap("<occlusion>", np.zeros((28, 28), dtype=np.float32), degenerate=True),
    ]
    return case(ramp(), method="grad-cam", further=further, **changes)


def test_a_signed_method_is_centred_even_where_a_map_has_one_sign() -> None:
    plain, signed = (case_pictures(case(ramp(), signed=flag)) for flag in (False, True))
    assert signed.signed and not plain.signed
    assert signed.map is not None and plain.map is not None
    assert signed.map[0, 0] @ GREY > plain.map[0, 0] @ GREY + 50  # zero is grey, not dark


def test_the_figure_shows_further_methods_under_their_names() -> None:
    document = svg_text(explanation_figure([with_further(), with_further()]))
    assert document.count("<image ") == 2 * (3 + 2), "a degenerate map is not painted"
    texts = re.findall(r"<text[^>]*>(.*?)</text>", document)
    for name in ("grad-cam", "integrated-gradients", "attention-rollout", "(no class)"):
        assert texts.count(name) == 1
    assert "map" not in texts
    assert texts.count("no evidence found") == 2


def test_a_map_about_no_class_says_so_in_the_figure() -> None:
    about = case(ramp(), explained="no class")
    assert ">map: where, not why for this class</text>" in svg_text(explanation_figure([about]))
    long = case(ramp(), explained="Shirt against T-shirt/top")
    document = svg_text(explanation_figure([long]))
    assert ">map: evidence for Shirt against T-shirt/top</text>" in document


def page_with(content: ReportContent, folder: Path, *cases: Case) -> str:
    group = GalleryGroup("Some", "A few.", list(cases))
    changed = dataclasses.replace(content, gallery=[group], explain_method=cases[0].method)
    return write_report(changed, folder).read_text()


def test_the_page_shows_further_methods_under_each_case(
    federated: ReportContent, tmp_path: Path
) -> None:
    page = page_with(federated, tmp_path, with_further(), with_further())
    assert page.count('<div class="further">') == 2
    assert page.count('alt="map by integrated-gradients of test image 5"') == 2
    assert page.count("<small>attention-rollout<br>(no class)</small>") == 2
    assert page.count("nothing found") == 2 and "<occlusion>" not in page
    assert "the maps of integrated-gradients, attention-rollout and &lt;occlusion&gt;" in page
    assert "attention-rollout looks at no class: its map shows where, not why" in page
    legend = re.findall(r"<span>([^<]*) <img src=[^>]*> ([^<]*)</span>", page)[:3]
    assert legend == [
        ("grad-cam, &lt;occlusion&gt;: no evidence", "strongest evidence"),
        ("integrated-gradients: against the class", "for the class"),
        ("attention-rollout: nothing", "most"),
    ]


def test_a_page_of_maps_about_no_class_does_not_call_them_evidence(
    federated: ReportContent, tmp_path: Path
) -> None:
    page = page_with(federated, tmp_path, case(ramp(), method="edges", explained="no class"))
    assert "These maps are about no class" in page
    assert "A map shows where this network found evidence" not in page
    assert "edges looks at no class" in page and '<div class="further">' not in page
