"""The end-to-end network of the private-training literature for MNIST-like images: 26,010."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedlens.errors import ModelError
from fedlens.models.layers import draw_uniform, undrawn
from fedlens.models.layout import channels_last

SMALLEST_IMAGE = 14  # 14 -> 7 -> 6 -> 2 -> 1


class TanhCNN(nn.Module):
    """Two wide convolutions with stride 2, tanh and overlapping max-pooling, then 32 hidden units.

    An 8x8 convolution to 16 maps (stride 2, padding 3), a 4x4 convolution to 32 maps (stride 2),
    2x2 max-pooling with stride 1 after each. On 1x28x28 images and 10 classes it has 26,010
    trainable parameters: the network of Papernot, Thakurta, Song, Chien and Erlingsson
    (2021), and the end-to-end baseline of Tramer and Boneh (2021). Weights and biases are uniform
    on +-1 / sqrt(fan-in). It sees all of a 28x28 image.

    ``forward`` pools before the tanh, which changes no output: the maximum commutes with a
    monotonic function. See :meth:`explanation_view` for maps after the tanh.
    """

    def __init__(
        self, in_channels: int, classes: int, image_size: int, generator: torch.Generator
    ) -> None:
        """Build the network with weights drawn from ``generator``.

        Args:
            in_channels: colour channels of the images.
            classes: number of outputs (logits).
            image_size: height and width of the images in pixels, at least 14.
            generator: CPU generator of the initial weights.

        Raises:
            ModelError: the image is too small for two convolutions with stride 2.
        """
        super().__init__()
        if image_size < SMALLEST_IMAGE:
            raise ModelError(
                f"tanh-cnn needs images of at least {SMALLEST_IMAGE}x{SMALLEST_IMAGE} pixels, got "
                f"{image_size}x{image_size}; import the images with a larger --size."
            )
        side = image_size // 2 - 1  # convolution: (size + 2 * 3 - 8) // 2 + 1, then pooling: - 1
        side = (side - 4) // 2
        self.conv1 = undrawn(nn.Conv2d, in_channels, 16, 8, stride=2, padding=3)
        self.conv2 = undrawn(nn.Conv2d, 16, 32, 4, stride=2)
        self.dense = undrawn(nn.Linear, 32 * side * side, 32)
        self.output = undrawn(nn.Linear, 32, classes)
        draw_uniform((self.conv1, self.conv2, self.dense, self.output), generator)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes) of float images (N, C, H, W) in [0, 1]."""
        maps = channels_last(images)
        for layer in (self.conv1, self.conv2):
            maps = torch.tanh(F.max_pool2d(layer(maps), 2, 1))
        hidden = torch.tanh(self.dense(maps.flatten(1)))
        logits: Tensor = self.output(hidden)
        return logits

    def explanation_view(self) -> nn.Sequential:
        """Return the same network over the same weights as conv, tanh, pool, one module a step."""
        steps: OrderedDict[str, nn.Module] = OrderedDict()
        for number, layer in enumerate((self.conv1, self.conv2), start=1):
            steps[f"conv{number}"] = layer
            steps[f"tanh{number}"] = nn.Tanh()
            steps[f"pool{number}"] = nn.MaxPool2d(2, 1)
        steps["flatten"] = nn.Flatten()
        steps["dense"] = self.dense
        steps["tanh3"] = nn.Tanh()
        steps["output"] = self.output
        view = nn.Sequential(steps)
        view.train(self.training)
        return view

    @property
    def map_layers(self) -> dict[str, str]:
        """Convolution name -> name of the view's module whose output is its activated map."""
        return {"conv1": "tanh1", "conv2": "tanh2"}
