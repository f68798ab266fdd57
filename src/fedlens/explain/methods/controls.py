"""Two maps that know nothing of the decision: what every table of methods is to be held against."""

import hashlib

import torch
from torch import Tensor
from torch.nn import functional as F

from fedlens.explain.contract import Attribution, Attributor, Context
from fedlens.explain.layers import forward_logits
from fedlens.explain.target import Contrast


class RandomMap(Attributor):
    """Independent uniform noise in [-1, 1) for every pixel.

    It depends on the seed and on the image's own pixels, so that two images have two maps and an
    image has the same one in every batch.
    """

    stochastic = True
    class_specific = False

    def attribute(self, images: Tensor, target: Tensor | Contrast | None) -> Attribution:
        """Return noise; see :class:`Attributor`."""
        maps = []
        for image in images:
            digest = hashlib.sha256(image.float().cpu().contiguous().numpy().tobytes()).digest()
            generator = self.context.generator(int.from_bytes(digest[:8], "big"))
            maps.append(2 * torch.rand(image.shape[1:], generator=generator) - 1)
        return Attribution(torch.stack(maps), forward_logits(self.context.model, images))


class EdgeDetector(Attributor):
    """The length of the brightness's gradient by Sobel's operator, the border repeated outward.

    Brightness is the mean over the channels. At least 0.
    """

    signed = False
    class_specific = False

    def __init__(self, context: Context) -> None:
        """Bind the control; it has no parameters."""
        super().__init__(context)
        self.parameters = {"operator": "Sobel 3x3", "border": "repeated"}

    def attribute(self, images: Tensor, target: Tensor | Contrast | None) -> Attribution:
        """Return the edges; see :class:`Attributor`."""
        grey = F.pad(images.float().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=images.device) / 8
        kernels = torch.stack((across, across.T))[:, None]
        maps = F.conv2d(grey, kernels).square().sum(1).sqrt()
        return Attribution(maps, forward_logits(self.context.model, images))
