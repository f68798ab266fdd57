"""The small network of the reference federated benchmarks: LeNet-5's shape, 44,426 parameters."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedlens.errors import ModelError
from fedlens.models.layers import draw_uniform, undrawn
from fedlens.models.layout import channels_last

SMALLEST_IMAGE = 16  # 16 -> 12 -> 6 -> 2 -> 1


class LeNet(nn.Module):
    """Two blocks of 5x5 valid convolution, ReLU and 2x2 max-pooling, then 120 and 84 hidden units.

    On 1x28x28 images and 10 classes it has 44,426 trainable parameters: the network of NIID-Bench
    (Li, Diao, Chen and He, 2022) for Fashion-MNIST. Weights and biases are uniform on
    +-1 / sqrt(fan-in), as PyTorch draws them.

    ``forward`` pools before the ReLU, which changes no output and no gradient; see
    :meth:`explanation_view` for maps after the ReLU.
    """

    def __init__(
        self, in_channels: int, classes: int, image_size: int, generator: torch.Generator
    ) -> None:
        """Build the network with weights drawn from ``generator``.

        Args:
            in_channels: colour channels of the images.
            classes: number of outputs (logits).
            image_size: height and width of the images in pixels, at least 16.
            generator: CPU generator of the initial weights.

        Raises:
            ModelError: the image is too small for two valid convolutions with pooling.
        """
        super().__init__()
        if image_size < SMALLEST_IMAGE:
            raise ModelError(
                f"lenet needs images of at least {SMALLEST_IMAGE}x{SMALLEST_IMAGE} pixels, got "
                f"{image_size}x{image_size}; import the images with a larger --size."
            )
        side = image_size
        for _ in range(2):
            side = (side - 4) // 2
        self.conv1 = undrawn(nn.Conv2d, in_channels, 6, 5)
        self.conv2 = undrawn(nn.Conv2d, 6, 16, 5)
        self.dense1 = undrawn(nn.Linear, 16 * side * side, 120)
        self.dense2 = undrawn(nn.Linear, 120, 84)
        self.output = undrawn(nn.Linear, 84, classes)
        layers = (self.conv1, self.conv2, self.dense1, self.dense2, self.output)
        draw_uniform(layers, generator)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes) of float images (N, C, H, W) in [0, 1]."""
        maps = channels_last(images)
        for layer in (self.conv1, self.conv2):
            maps = F.relu(F.max_pool2d(layer(maps), 2))
        hidden = F.relu(self.dense1(maps.flatten(1)))
        logits: Tensor = self.output(F.relu(self.dense2(hidden)))
        return logits

    def explanation_view(self) -> nn.Sequential:
        """Return the same network over the same weights as conv, ReLU, pool, one module a step."""
        steps: OrderedDict[str, nn.Module] = OrderedDict()
        for number, layer in enumerate((self.conv1, self.conv2), start=1):
            steps[f"conv{number}"] = layer
            steps[f"relu{number}"] = nn.ReLU()
            steps[f"pool{number}"] = nn.MaxPool2d(2)
        steps["flatten"] = nn.Flatten()
        steps["dense1"] = self.dense1
        steps["relu3"] = nn.ReLU()
        steps["dense2"] = self.dense2
        steps["relu4"] = nn.ReLU()
        steps["output"] = self.output
        view = nn.Sequential(steps)
        view.train(self.training)
        return view

    @property
    def map_layers(self) -> dict[str, str]:
        """Convolution name -> name of the view's module whose output is its activated map."""
        return {"conv1": "relu1", "conv2": "relu2"}
