"""The parts of a garment on drawings whose parts are plain to see."""

import pytest
import torch

from fedlens.errors import ExplanationError
from fedlens.explain.regions import REGIONS, garment_regions, region_areas, region_shares


def shirt() -> torch.Tensor:
    """A T-shirt on 28x28: trunk of columns 8 to 19, rows 4 to 23, sleeves to 2 and 25 above row 12."""
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, 4:24, 8:20] = 200
    image[0, 0, 4:12, 2:26] = 200
    return image


def part(regions: torch.Tensor, name: str) -> set[tuple[int, int]]:
    return {tuple(place) for place in (regions[0] == REGIONS.index(name)).nonzero().tolist()}


def box(rows: range, columns: range) -> set[tuple[int, int]]:
    return {(row, column) for row in rows for column in columns}


def test_a_t_shirt_by_hand():
    regions = garment_regions(shirt())
    # The lower third is 12 wide, below 62 % of the 24 of the box: the trunk is columns 8 to 19.
    assert part(regions, "sleeves") == box(range(4, 12), range(2, 8)) | box(
        range(4, 12), range(20, 26)
    )
    # 20 rows high: 4 of them are the collar's, 12 % or 2.4, so 2 rows, the hem's.
    assert part(regions, "collar") == box(range(4, 8), range(11, 17))
    assert part(regions, "hem") == box(range(22, 24), range(8, 20))
    body = box(range(4, 22), range(8, 20)) - part(regions, "collar")
    assert part(regions, "body") == body
    assert (regions == 0).sum() == 28 * 28 - (12 * 20 + 8 * 12)


def test_arms_that_hang_to_the_hem_are_still_sleeves():
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, 2:26, 4:24] = 180  # 24 high, 20 wide: arms that touch the trunk all the way
    regions = garment_regions(image)
    trunk = (regions[0, 12] == REGIONS.index("body")).nonzero().flatten().tolist()
    assert trunk == list(range(8, 20))  # within 6.2 of the middle at 14
    assert regions[0, 12, 4] == regions[0, 12, 23] == REGIONS.index("sleeves")


def test_a_slim_dress_has_no_sleeves_and_a_dark_print_is_no_hole():
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, :, 9:19] = 90
    image[0, 0, 10:14, 12:15] = 0
    regions = garment_regions(image)
    assert not (regions == REGIONS.index("sleeves")).any()
    assert regions[0, 12, 13] == REGIONS.index("body")


def test_specks_and_black_images_are_background():
    image = shirt()
    image[0, 0, 0, 0] = 255
    assert garment_regions(image)[0, 0, 0] == 0
    assert not garment_regions(torch.zeros(2, 1, 28, 28, dtype=torch.uint8)).any()
    assert garment_regions(torch.zeros(0, 1, 28, 28, dtype=torch.uint8)).shape == (0, 28, 28)


def test_colour_and_batches():
    colour = torch.zeros(1, 3, 28, 28, dtype=torch.uint8)
    colour[:, 2] = shirt()[:, 0]
    both = torch.cat([colour, torch.zeros_like(colour)])
    assert torch.equal(garment_regions(both)[0], garment_regions(shirt())[0])


def test_shares_sum_to_one_and_leave_out_what_speaks_against():
    regions = garment_regions(shirt())
    maps = torch.zeros(2, 28, 28)
    maps[0, 5, 13] = 3.0  # collar
    maps[0, 23, 10] = 1.0  # hem
    maps[0, 15, 13] = -9.0  # body
    shares = region_shares(maps, regions.expand(2, -1, -1))
    assert shares[0].tolist() == [0, 0.75, 0, 0, 0.25]
    assert shares[1].isnan().all()
    areas = region_areas(regions)
    assert areas.sum().item() == pytest.approx(1)
    assert areas[0, REGIONS.index("collar")].item() == pytest.approx(24 / 784)


@pytest.mark.parametrize("images", [torch.rand(1, 1, 28, 28), torch.zeros(28, 28).byte()])
def test_what_is_not_images_is_refused(images):
    with pytest.raises(ExplanationError, match=r"expected uint8 \(B, C, H, W\)"):
        garment_regions(images)
