"""The study's network: three small convolutions and a hidden layer, 65,354 parameters."""

from collections import OrderedDict
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedlens.errors import ModelError
from fedlens.models.layers import undrawn
from fedlens.models.layout import channels_last


class PaperCNN(nn.Module):
    """Three blocks of 3x3 valid convolution, ReLU and 2x2 max-pooling, then 128 hidden units.

    On 1x28x28 images and 10 classes it has exactly 65,354 trainable parameters (section 3 of the
    study). Weights are Glorot-uniform and biases zero, as Keras draws them.

    ``forward`` does the same function with less work, in two ways that change no output and no
    gradient:

    - It computes only on the top left ``visible`` x ``visible`` pixels. Each stage's pooling drops
      an odd last row, so that pixels further right and down reach no output (22 of 28 are seen; the
      convolutions then do 52 % of the multiplications).
    - It pools *before* the ReLU: the maximum commutes with a monotonic function, and a quarter of
      the values are left.

    Maps for explanations need all of the image and the ReLU before the pooling: see
    :meth:`explanation_view`.

    Attributes:
        visible: height and width in pixels of what the network sees, at the top left.
        name: the network's name in the registry.
        activation: module of its activation, which is monotonic.
        padding: rows and columns of zeros around the maps of each convolution: 0 (valid) or 1 (same).
        keeps_ends: whether pooling takes an odd last row for itself or drops it.
        smallest: height and width in pixels of the smallest images.
    """

    name: ClassVar[str] = "paper-cnn"
    activation: ClassVar[type[nn.Module]] = nn.ReLU
    padding: ClassVar[int] = 0
    keeps_ends: ClassVar[bool] = False
    # 22 -> 20 -> 10 -> 8 -> 4 -> 2 -> 1: below that a stage would be empty
    smallest: ClassVar[int] = 22

    def __init__(
        self, in_channels: int, classes: int, image_size: int, generator: torch.Generator
    ) -> None:
        """Build the network with weights drawn from ``generator``.

        Args:
            in_channels: colour channels of the images.
            classes: number of outputs (logits).
            image_size: height and width of the images in pixels, at least :attr:`smallest`.
            generator: CPU generator of the initial weights.

        Raises:
            ModelError: the image is too small for three convolutions with pooling.
        """
        super().__init__()
        smallest = self.smallest
        if image_size < smallest:
            raise ModelError(
                f"{self.name} needs images of at least {smallest}x{smallest} pixels, "
                f"got {image_size}x{image_size}; import the images with a larger --size."
            )
        side, self.visible = self._sides(image_size)
        self.conv1 = undrawn(nn.Conv2d, in_channels, 32, 3, padding=self.padding)
        self.conv2 = undrawn(nn.Conv2d, 32, 64, 3, padding=self.padding)
        self.conv3 = undrawn(nn.Conv2d, 64, 64, 3, padding=self.padding)
        self.dense = undrawn(nn.Linear, 64 * side * side, 128)
        self.output = undrawn(nn.Linear, 128, classes)
        for layer in (self.conv1, self.conv2, self.conv3, self.dense, self.output):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes) of float images (N, C, H, W) in [0, 1]."""
        maps = channels_last(images[:, :, : self.visible, : self.visible])
        for layer in (self.conv1, self.conv2, self.conv3):
            maps = self.activate(F.max_pool2d(layer(maps), 2, ceil_mode=self.keeps_ends))
        hidden = self.activate(self.dense(maps.flatten(1)))
        logits: Tensor = self.output(hidden)
        return logits

    def activate(self, values: Tensor) -> Tensor:
        """Return :attr:`activation` of each value."""
        return F.relu(values)

    def explanation_view(self) -> nn.Sequential:
        """Return the same network over the same weights as conv, ReLU, pool, one module a step.

        The result shares its parameters with this network. The output of ``relu1``, ``relu2`` or
        ``relu3`` is the activated map of ``conv1``, ``conv2`` or ``conv3``: see :attr:`map_layers`.
        Steps are named after their module: with another activation, ``tanh1`` and so on.
        """
        step = self.activation.__name__.lower()
        steps: OrderedDict[str, nn.Module] = OrderedDict()
        for number, layer in enumerate((self.conv1, self.conv2, self.conv3), start=1):
            steps[f"conv{number}"] = layer
            steps[f"{step}{number}"] = self.activation()
            steps[f"pool{number}"] = nn.MaxPool2d(2, ceil_mode=self.keeps_ends)
        steps["flatten"] = nn.Flatten()
        steps["dense"] = self.dense
        steps[f"{step}4"] = self.activation()
        steps["output"] = self.output
        view = nn.Sequential(steps)
        view.train(self.training)
        return view

    @property
    def map_layers(self) -> dict[str, str]:
        """Convolution name -> name of the view's module whose output is its activated map."""
        step = self.activation.__name__.lower()
        return {f"conv{number}": f"{step}{number}" for number in (1, 2, 3)}

    def _sides(self, image_size: int) -> tuple[int, int]:
        """Return the height of the last pooled map, and how many rows of the image it sees."""
        side = image_size
        for _ in range(3):
            side = (side - 2) // 2
        visible = side
        for _ in range(3):
            visible = 2 * visible + 2
        return side, visible


class PaperCNNTanh(PaperCNN):
    """:class:`PaperCNN` with tanh in the place of ReLU: the same 65,354 parameters and weights.

    Under differential privacy a bounded activation keeps gradients, and so what clipping cuts off,
    small (Papernot, Thakurta, Song, Chien and Erlingsson, "Tempered Sigmoid Activations for Deep
    Learning with Differential Privacy", 2021).
    """

    name = "paper-cnn-tanh"
    activation = nn.Tanh

    def activate(self, values: Tensor) -> Tensor:
        """Return tanh of each value."""
        return torch.tanh(values)


class PaperCNNSame(PaperCNN):
    """:class:`PaperCNN` with same padding, so that it sees the whole image: 188,234 parameters.

    Each convolution keeps the size of its input and each pooling takes an odd last row for itself
    instead of dropping it: 28 -> 14 -> 7 -> 4. Every pixel, and every cell of the last map (7x7,
    where :class:`PaperCNN` has 3x3), counts. The convolutions are the same; the hidden layer has
    1,024 inputs instead of 64, hence the parameters. Weights are drawn alike.
    """

    name = "paper-cnn-same"
    padding = 1
    keeps_ends = True
    smallest = 8  # 8 -> 4 -> 2 -> 1

    def _sides(self, image_size: int) -> tuple[int, int]:
        side = image_size
        for _ in range(3):
            side = (side + 1) // 2
        return side, image_size
