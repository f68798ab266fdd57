"""Occlusion: what the score loses when a window of the image is hidden."""

import torch
from torch import Tensor

from fedlens.errors import ExplanationError
from fedlens.explain.baselines import baseline_images, check_baseline
from fedlens.explain.coalitions import masked_scores
from fedlens.explain.contract import Attribution, Attributor, Context
from fedlens.explain.layers import forward_logits
from fedlens.explain.methods.gradient import check_count
from fedlens.explain.target import Contrast, resolved


def window_masks(height: int, width: int, size: int, stride: int) -> Tensor:
    """Return the windows of an image, bool (N, H, W), True inside; in reading order.

    They begin every ``stride`` pixels; where the last of a side would leave pixels out, one more
    lies flush with the border. Every pixel is in a window.

    Args:
        height, width: of the images, in pixels.
        size: side of a window in pixels, from 1 to the smaller side.
        stride: pixels between the starts of two windows, from 1 to ``size``.

    Raises:
        ExplanationError: the window is larger than the image.
    """
    if size > min(height, width):
        raise ExplanationError(
            f"size is {size}, expected at most {min(height, width)}, the smaller side of images of "
            f"{height}x{width} pixels."
        )
    down, right = (_intervals(side, size, stride) for side in (height, width))
    return (down[:, None, :, None] & right[None, :, None, :]).reshape(-1, height, width)


def _intervals(side: int, size: int, stride: int) -> Tensor:
    """Return the intervals of one side, bool (n, side)."""
    starts = list(range(0, side - size + 1, stride))
    if starts[-1] < side - size:
        starts.append(side - size)
    begin = torch.tensor(starts)[:, None]
    place = torch.arange(side)
    return (place >= begin) & (place < begin + size)


class Occlusion(Attributor):
    """The loss in score when a window is hidden, averaged over the windows that cover a pixel.

    Zeiler and Fergus 2014, section 4.2, with a difference in score in place of the score.
    """

    def __init__(
        self, context: Context, *, size: int = 4, stride: int = 2, baseline: str = "black"
    ) -> None:
        """Bind the method.

        Args:
            context: see :class:`Context`.
            size: side of a window in pixels, at least 1.
            stride: pixels between the starts of two windows, from 1 to ``size``.
            baseline: what is seen in the window; see
                :func:`fedlens.explain.baselines.baseline_images`.

        Raises:
            ExplanationError: a parameter is out of its range.
        """
        super().__init__(context)
        check_count("size", size)
        check_count("stride", stride)
        check_baseline(baseline)
        if stride > size:
            raise ExplanationError(
                f"stride is {stride}, expected at most size, which is {size}: else some pixels are "
                "in no window."
            )
        self.baseline = baseline
        self.parameters = {"size": size, "stride": stride}

    def attribute(self, images: Tensor, target: Tensor | Contrast | None) -> Attribution:
        """Return the maps; see :class:`Attributor`.

        Raises:
            ExplanationError: the window is larger than the images.
        """
        assert self.baseline is not None
        height, width = images.shape[2:]
        hidden = window_masks(height, width, **self.parameters)
        logits = forward_logits(self.context.model, images)
        wanted = resolved(target, logits)
        baselines = baseline_images(self.baseline, images, self.context)
        # The first mask hides nothing: the score that the others are held against.
        seen = torch.cat((torch.ones(1, height, width, dtype=torch.bool), ~hidden))
        masks = seen.split(self.context.rows)
        scores = masked_scores(self.context, images, baselines, masks, len(seen), wanted)
        losses = scores[:, :1] - scores[:, 1:]
        covering = hidden.flatten(1).double()
        maps = (losses @ covering) / covering.sum(0)
        return Attribution(maps.reshape(-1, height, width).float(), logits)
