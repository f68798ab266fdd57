"""What a network of the study of explanations does not see: the mask, and the words for it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedlens.report.blind import ranges
from fedlens.report.explanation_reading import Content, number
from fedlens.report.gallery import blind_marked
from fedlens.report.wording import listing, percent

Pixels = npt.NDArray[np.uint8]

HATCHED = (
    " Hatched (on the images outlined): what the network does not see; what a map paints there is no "
    "evidence."
)


@dataclass(frozen=True, eq=False)
class Blind:
    """The part of the images that a network does not see.

    Attributes:
        mask: bool (H, W), True there.
        share: share of the pixels.
        light: group -> mean share of an image's light that lies there; NaN where unknown.
    """

    mask: npt.NDArray[np.bool_]
    share: float
    light: dict[str, float]

    def on_image(self, pixels: Pixels) -> Pixels:
        """Return a picture of an image with the part outlined."""
        return blind_marked(pixels, self.mask, hatched=False)

    def on_map(self, pixels: Pixels | None) -> Pixels | None:
        """Return a picture of a map with the part hatched; None where there is no picture."""
        return None if pixels is None else blind_marked(pixels, self.mask)


def blind_of(content: Content) -> Blind | None:
    """Return what the network does not see; None where it sees all, or nobody looked."""
    seen = content.get("seen")
    if not seen:
        return None
    top, left, bottom, right = seen["box"]
    mask = np.ones((seen["height"], seen["width"]), dtype=bool)
    mask[top:bottom, left:right] = False
    if not mask.any():
        return None
    names = [group["name"] for group in content["groups"]]
    light = {name: number(share) for name, share in zip(names, seen["light"], strict=True)}
    return Blind(mask, number(seen["blind"]), light)


def blind_words(model: str, blind: Blind) -> str:
    """Return what the network does not see, and how much of the images lies there."""
    height, width = blind.mask.shape
    rows, columns = ranges(np.all(blind.mask, axis=1)), ranges(np.all(blind.mask, axis=0))
    parts = [f"rows {rows}"] if rows else []
    parts += [f"columns {columns}"] if columns else []
    each = [f"{percent(share, 1)} ({name})" for name, share in blind.light.items()]
    return (
        f"{model} does not see {listing(parts)} of the {height} × {width} pixels (counted from 0): "
        f"{percent(blind.share, 1)} of the pixels, and of the images' light {listing(each)}. "
        "Evidence there can only be zero: what a coarse map or a control paints there all the same is "
        "none."
    )


def unseen_cells(content: Content, place: int) -> list[str] | None:
    """Return each part's share that is not seen in the group at ``place``; None where all is seen."""
    unseen = content["regions"].get("unseen")
    if not unseen:
        return None
    shares = [number(share) for share in unseen[place]]
    if not any(share > 0 for share in shares):
        return None
    return [percent(share, 1) for share in shares]
