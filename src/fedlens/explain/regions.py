"""Parts of a garment, found from its silhouette, so that attributions can be summed by part.

The parts are a convention for upper garments laid flat and upright, as in Fashion-MNIST: shirts,
T-shirts, pullovers, coats and dresses. They mean nothing for shoes or bags.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedlens.errors import ExplanationError

REGIONS = ("background", "collar", "sleeves", "body", "hem")
"""The parts by number."""

LIT = 20  # of 255: the darkest value that belongs to a garment; its border fades out
COLLAR = 0.2  # of the garment's height, from the top
COLLAR_WIDTH = 0.5  # of the trunk's width, about its middle
HEM = 0.12  # of the garment's height, from the bottom
TRUNK = 0.62  # of the garment's width: the trunk's at most, where arms spread to the sides
SLIM = 0.62  # of its height: a narrower garment has no spread arms

Mask = npt.NDArray[np.bool_]


def garment_regions(images: Tensor) -> Tensor:
    """Return int64 (B, H, W): the number in :data:`REGIONS` of each pixel.

    The silhouette is all that is brighter than 20 of 255, holes filled, its largest connected part.
    Within its bounding box the trunk is the span about the middle, as wide as the silhouette is in
    its lower third, but at most 62 % of the box where the box is wider than 62 % of its height (arms
    may hang down to the hem). The sleeves are what lies outside the trunk; the hem is the lowest
    12 % of the trunk's height; the collar is the middle half of the trunk in the highest 20 %; the
    body is the rest. All else is background, the neck opening too where it is dark and open above.

    Args:
        images: uint8 (B, C, H, W), one garment in each on black; B may be 0.

    Raises:
        ExplanationError: the images are not of that type and shape.
    """
    if images.dtype != torch.uint8 or images.dim() != 4:
        raise ExplanationError(
            f"The images are {images.dtype} {tuple(images.shape)}, expected uint8 (B, C, H, W)."
        )
    bright = images.amax(1).numpy() > LIT
    found = [torch.from_numpy(_regions(mask)) for mask in bright]
    return torch.stack(found) if found else torch.zeros(0, *images.shape[2:], dtype=torch.int64)


def region_shares(maps: Tensor, regions: Tensor) -> Tensor:
    """Return float64 (B, R): the share of each map's positive attribution in each region, in [0, 1].

    A row sums to 1; it is NaN for a map without positive attribution.

    Args:
        maps: float (B, H, W).
        regions: int64 (B, H, W), numbers in :data:`REGIONS`.
    """
    positive = maps.double().clamp_min(0).flatten(1)
    membership = torch.nn.functional.one_hot(regions.flatten(1), len(REGIONS)).double()
    mass = torch.einsum("bp,bpr->br", positive, membership)
    return mass / mass.sum(1, keepdim=True)


def region_areas(regions: Tensor) -> Tensor:
    """Return float64 (B, R): the share of each image's pixels that lies in each region."""
    return region_shares(torch.ones(regions.shape), regions)


def _regions(bright: Mask) -> npt.NDArray[np.int64]:
    regions = np.zeros(bright.shape, dtype=np.int64)
    silhouette = _silhouette(bright)
    rows, columns = np.flatnonzero(silhouette.any(1)), np.flatnonzero(silhouette.any(0))
    if len(rows) == 0:
        return regions
    top, height = int(rows[0]), int(rows[-1] - rows[0] + 1)
    left, width = int(columns[0]), int(columns[-1] - columns[0] + 1)
    middle = left + width / 2
    half = _trunk(silhouette, rows, middle)
    if width > SLIM * height:
        half = min(half, TRUNK * width / 2)
    row, column = np.mgrid[: bright.shape[0], : bright.shape[1]]
    aside = np.abs(column + 0.5 - middle)
    trunk = aside <= half
    regions[silhouette] = REGIONS.index("sleeves")
    regions[silhouette & trunk] = REGIONS.index("body")
    upper = row < top + COLLAR * height
    regions[silhouette & upper & (aside <= COLLAR_WIDTH * half)] = REGIONS.index("collar")
    lower = row >= top + (1 - HEM) * height
    regions[silhouette & trunk & lower] = REGIONS.index("hem")
    return regions


def _silhouette(bright: Mask) -> Mask:
    """Return the largest connected part of ``bright``, its holes filled."""
    from scipy import ndimage  # a third of a second of start-up, rarely needed

    labels, count = ndimage.label(bright)
    if count == 0:
        return bright
    sizes = np.bincount(labels.ravel())[1:]
    filled: Mask = ndimage.binary_fill_holes(labels == 1 + sizes.argmax())
    return filled


def _trunk(silhouette: Mask, rows: npt.NDArray[np.int64], middle: float) -> float:
    """Return half the median width, in pixels, of the run about the middle in the lower third."""
    widths = []
    for row in rows[-max(1, len(rows) // 3) :]:
        lit = silhouette[row]
        centre = min(int(middle), len(lit) - 1)
        if not lit[centre]:
            continue
        dark = np.flatnonzero(~lit)
        before = dark[dark < centre].max(initial=-1)
        after = dark[dark > centre].min(initial=len(lit))
        widths.append(after - before - 1)
    return float(np.median(widths)) / 2 if widths else silhouette.any(0).sum() / 2
