"""Pictures read back with Pillow: sizes, squares, colours, and what is see-through."""

import io

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from fedlens.review.contract import ReviewError
from fedlens.review.model.pictures import image_png, legend, legend_png, map_png


def opened(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


def cividis(share: float) -> list[int]:
    return [round(255 * part) for part in matplotlib.colormaps["cividis"](round(255 * share))[:3]]


def test_an_image_comes_back_as_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    grey = torch.randint(0, 256, (1, 5, 7), dtype=torch.uint8, generator=generator)
    assert (opened(image_png(grey)) == grey[0].numpy()).all()
    colour = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8, generator=generator)
    assert (opened(image_png(colour)) == colour.permute(1, 2, 0).numpy()).all()


def test_enlarged_pixels_are_squares() -> None:
    image = torch.tensor([[[1, 2], [3, 4]]], dtype=torch.uint8)
    large = opened(image_png(image, enlarge=3))
    assert (large == np.kron([[1, 2], [3, 4]], np.ones((3, 3)))).all()


def test_colours_of_an_unsigned_map_run_from_nothing_to_the_scale_and_stay_there() -> None:
    values = torch.tensor([[0.0, 1.0, 2.0, 9.0, -1.0]])
    found = opened(map_png(values, scale=2.0, signed=False))
    assert found.shape == (1, 5, 4)
    expected = [cividis(share) for share in (0, 0.5, 1, 1, 0)]
    assert found[0, :, :3].tolist() == expected
    half = 180  # 255 times the root of a half: weak evidence is weak, and there to be seen
    assert found[0, :, 3].tolist() == [0, half, 255, 255, 0]


def test_zero_is_in_the_middle_of_a_signed_map() -> None:
    values = torch.tensor([[-3.0, -1.0, 0.0, 1.0, 2.0]])
    found = opened(map_png(values, scale=2.0, signed=True))
    shares = (0, 0.25, 0.5, 0.75, 1)
    assert found[0, :, :3].tolist() == [cividis(share) for share in shares]
    assert found[0, :, 3].tolist() == [255, 180, 0, 180, 255]


def test_two_maps_of_one_scale_can_be_compared() -> None:
    weak, strong = (
        opened(map_png(factor * torch.ones(2, 2), scale=1.0, signed=False, see_through=False))
        for factor in (0.2, 0.8)
    )
    assert weak[0, 0, :3].tolist() == cividis(0.2) and strong[0, 0, :3].tolist() == cividis(0.8)
    assert (weak[..., 3] == 255).all()


def test_what_is_not_a_number_is_not_painted() -> None:
    values = torch.tensor([[float("nan"), float("inf"), 1.0]])
    found = opened(map_png(values, scale=1.0, signed=True, see_through=False))
    assert found[0, :, 3].tolist() == [0, 0, 255]


def test_the_blind_area_is_hatched_and_has_no_colour() -> None:
    blind = torch.zeros(4, 4, dtype=torch.bool)
    blind[2:] = True
    found = opened(map_png(torch.ones(4, 4), scale=1.0, signed=False, enlarge=8, blind_area=blind))
    assert found.shape == (32, 32, 4)
    assert (found[:16, :, :3] == cividis(1)).all()
    lines = found[16:, :, 3] == 255
    assert 0.05 < lines.mean() < 0.5  # lines and gaps
    assert len(np.unique(found[16:].reshape(-1, 4), axis=0)) == 2


def test_the_legend_has_the_colours_of_the_map() -> None:
    found = opened(legend_png(signed=False, width=3, height=2))
    assert found.tolist() == [[cividis(0), cividis(0.5), cividis(1)]] * 2
    assert legend(0.5, signed=True) == [(0.0, "≤ −0.5"), (0.5, "0"), (1.0, "≥ 0.5")]
    assert legend(0.5, signed=False) == [(0.0, "0"), (0.5, "0.25"), (1.0, "≥ 0.5")]


@pytest.mark.parametrize("enlarge", [0, -1, 65])
def test_an_enlargement_out_of_range_is_refused(enlarge: int) -> None:
    with pytest.raises(ReviewError, match="enlargement"):
        image_png(torch.zeros(1, 2, 2, dtype=torch.uint8), enlarge=enlarge)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(ReviewError, match="scale"):
        map_png(torch.zeros(2, 2), scale=scale, signed=False)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ReviewError, match="blind area"):
        map_png(
            torch.zeros(2, 2),
            scale=1.0,
            signed=False,
            blind_area=torch.zeros(3, 2, dtype=torch.bool),
        )
    with pytest.raises(ReviewError, match="expected"):
        image_png(torch.zeros(2, 2, 2, dtype=torch.uint8))
