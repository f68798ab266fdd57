"""An end-to-end network for larger privacy budgets: it sees the whole image, 98,506 parameters."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedlens.errors import ModelError
from fedlens.models.layers import WeightStandardizedConv2d, draw_uniform, undrawn
from fedlens.models.layout import channels_last

SMALLEST_IMAGE = 8  # 8 -> 4 -> 2
WIDTHS = (32, 48, 64, 96)
POOLED = 2  # the first so many blocks end in 2x2 max-pooling
GROUPS = 8


class WideGN(nn.Module):
    """Four blocks of 3x3 same convolution, GroupNorm and tanh, then the average of each map.

    The blocks have 32, 48, 64 and 96 maps; the first two end in 2x2 max-pooling. On 1x28x28 images
    and 10 classes it has 98,506 trainable parameters. Wide rather than deep, weight standardisation
    and GroupNorm (8 groups) instead of statistics of the batch follow De, Berrada, Hayes, Smith and
    Balle, "Unlocking High-Accuracy Differentially Private Image Classification through Scale",
    2022; tanh follows Papernot et al., 2021. The shape is our own.

    The first convolution is a plain one: kernels of mean zero cannot see how bright an even area
    is. Weights are uniform on +-1 / sqrt(fan-in), GroupNorm begins as the identity.

    ``forward`` pools before the tanh, which changes no output; see :meth:`explanation_view` for
    maps after the tanh.
    """

    def __init__(
        self, in_channels: int, classes: int, image_size: int, generator: torch.Generator
    ) -> None:
        """Build the network with weights drawn from ``generator``.

        Args:
            in_channels: colour channels of the images.
            classes: number of outputs (logits).
            image_size: height and width of the images in pixels, at least 8.
            generator: CPU generator of the initial weights.

        Raises:
            ModelError: the image is too small.
        """
        super().__init__()
        if image_size < SMALLEST_IMAGE:
            raise ModelError(
                f"wide-gn needs images of at least {SMALLEST_IMAGE}x{SMALLEST_IMAGE} pixels, got "
                f"{image_size}x{image_size}; import the images with a larger --size."
            )
        channels = (in_channels, *WIDTHS)
        for number, (before, after) in enumerate(zip(channels, WIDTHS, strict=False), start=1):
            kind = nn.Conv2d if number == 1 else WeightStandardizedConv2d
            # GroupNorm has the bias.
            layer = undrawn(kind, before, after, 3, padding=1, bias=False)
            self.add_module(f"conv{number}", layer)
            self.add_module(f"norm{number}", nn.GroupNorm(GROUPS, after))
        self.output = undrawn(nn.Linear, WIDTHS[-1], classes)
        draw_uniform([*(layer for layer, _ in self._blocks()), self.output], generator)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes) of float images (N, C, H, W) in [0, 1]."""
        maps = channels_last(images)
        for number, (layer, norm) in enumerate(self._blocks(), start=1):
            maps = norm(layer(maps))
            if number <= POOLED:
                maps = F.max_pool2d(maps, 2)
            maps = torch.tanh(maps)
        logits: Tensor = self.output(maps.mean((2, 3)))
        return logits

    def explanation_view(self) -> nn.Sequential:
        """Return the same network over the same weights as conv, norm, tanh, pool, step by step."""
        steps: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (layer, norm) in enumerate(self._blocks(), start=1):
            steps[f"conv{number}"] = layer
            steps[f"norm{number}"] = norm
            steps[f"tanh{number}"] = nn.Tanh()
            if number <= POOLED:
                steps[f"pool{number}"] = nn.MaxPool2d(2)
        steps["average"] = nn.AdaptiveAvgPool2d(1)
        steps["flatten"] = nn.Flatten()
        steps["output"] = self.output
        view = nn.Sequential(steps)
        view.train(self.training)
        return view

    @property
    def map_layers(self) -> dict[str, str]:
        """Convolution name -> name of the view's module whose output is its activated map."""
        return {f"conv{number}": f"tanh{number}" for number in range(1, len(WIDTHS) + 1)}

    def _blocks(self) -> list[tuple[nn.Conv2d, nn.GroupNorm]]:
        """Return the convolution and the normalisation of each block."""
        return [
            (getattr(self, f"conv{number}"), getattr(self, f"norm{number}"))
            for number in range(1, len(WIDTHS) + 1)
        ]
