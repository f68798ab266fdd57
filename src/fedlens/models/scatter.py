"""Networks on fixed scattering features: little is left to learn, so little noise is needed.

Florian Tramer and Dan Boneh, "Differentially Private Learning Needs Better Features (or Much More
Data)", 2021. The features depend on no data but the image itself, so that a trainer may compute
them once for a whole image set and train the head alone, at the same privacy.
"""

from collections import OrderedDict
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fedlens.models.layers import draw_uniform, undrawn
from fedlens.models.layout import channels_last
from fedlens.models.scattering import Scattering2d

GROUPS = 27  # of 3 neighbouring channels, for each of the 81 that a colour channel gives


@runtime_checkable
class FixedFeatureNetwork(Protocol):
    """A network that begins with a part without parameters, which may be computed once.

    ``forward(images)`` equals ``head(fixed_features(images))``. All trainable parameters are those
    of ``head``, in the same order.
    """

    head: nn.Module
    """Maps features, of any floating dtype, to logits (N, classes)."""

    def fixed_features(self, images: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Return the features of float images (N, C, H, W) in [0, 1], one row (N, ...) an image.

        The features of an image depend on no other image, so that an image set may be computed in
        pieces of any size.
        """
        ...


class ScatterNetwork(nn.Module):
    """Scattering, GroupNorm without parameters, and a head that is trained.

    Attributes:
        scattering: the fixed transform.
        norm: GroupNorm in groups of 3 channels, so 27 for each colour channel, without parameters.
        head: maps features (N, 81 C, h, h) to logits (N, classes).
    """

    head: nn.Module

    def __init__(self, in_channels: int, image_size: int) -> None:
        """Build the fixed part; a subclass adds the head.

        Args:
            in_channels: colour channels C of the images.
            image_size: height and width of the images in pixels, at least 8.

        Raises:
            ModelError: the image is too small for the scattering transform.
        """
        super().__init__()
        self.scattering = Scattering2d(in_channels, image_size)
        self.norm = nn.GroupNorm(GROUPS * in_channels, self.scattering.channels, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes) of float images (N, C, H, W) in [0, 1].

        Raises:
            ModelError: the images have another size than the network was built for.
        """
        logits: Tensor = self.head(self.fixed_features(images))
        return logits

    def fixed_features(self, images: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Return the features (N, 81 C, h, h) of float images (N, C, H, W), h = H // 4.

        Every group of 3 channels has mean 0 and variance 1 in each image (less where it is nearly
        constant), so no value exceeds sqrt(3 h h), 12.1 for 28x28 images. There are 3,969 for a
        1x28x28 image: 60,000 images take 952 MB in float32.

        Args:
            images: float images in [0, 1].
            dtype: of the result; None for that of the scattering filters, float32. In float16 they
                take half the room, and each is rounded by at most 2^-11 of itself (and 2^-25).

        Raises:
            ModelError: the images have another size than the network was built for.
        """
        features: Tensor = self.norm(self.scattering(images))
        return features if dtype is None else features.to(dtype)


class ScatterLinear(ScatterNetwork):
    """Scattering, GroupNorm and one linear layer: 39,700 parameters on 1x28x28 and 10 classes.

    It has no convolution of its own: methods that explain by one refuse it.
    """

    def __init__(
        self, in_channels: int, classes: int, image_size: int, generator: torch.Generator
    ) -> None:
        """Build the network with weights drawn from ``generator``, uniform on +-1 / sqrt(fan-in).

        Args:
            in_channels: colour channels of the images.
            classes: number of outputs (logits).
            image_size: height and width of the images in pixels, at least 8.
            generator: CPU generator of the initial weights.

        Raises:
            ModelError: the image is too small for the scattering transform.
        """
        super().__init__(in_channels, image_size)
        features = self.scattering.channels * self.scattering.side**2
        self.head = LinearHead(features, classes, generator)


class ScatterCNN(ScatterNetwork):
    """Scattering, GroupNorm and a small CNN: 33,066 parameters on 1x28x28 and 10 classes.

    The head is the one that Tramer and Boneh use for MNIST and Fashion-MNIST: two 3x3 convolutions
    with padding 1 to 16 maps (stride 2) and 32, without pooling, 32 hidden units, all with tanh.
    """

    head: "ConvolutionalHead"

    def __init__(
        self, in_channels: int, classes: int, image_size: int, generator: torch.Generator
    ) -> None:
        """Build the network with weights drawn from ``generator``, uniform on +-1 / sqrt(fan-in).

        Args:
            in_channels: colour channels of the images.
            classes: number of outputs (logits).
            image_size: height and width of the images in pixels, at least 8.
            generator: CPU generator of the initial weights.

        Raises:
            ModelError: the image is too small for the scattering transform.
        """
        super().__init__(in_channels, image_size)
        scattering = self.scattering
        self.head = ConvolutionalHead(scattering.channels, scattering.side, classes, generator)

    def explanation_view(self) -> nn.Sequential:
        """Return the same network over the same weights, one module a step.

        The convolutions lie on the scattering features: their maps have one cell for about 8x8
        pixels.
        """
        head = self.head
        view = nn.Sequential(
            OrderedDict[str, nn.Module](
                scattering=self.scattering,
                norm=self.norm,
                conv1=head.conv1,
                tanh1=nn.Tanh(),
                conv2=head.conv2,
                tanh2=nn.Tanh(),
                flatten=nn.Flatten(),
                dense=head.dense,
                tanh3=nn.Tanh(),
                output=head.output,
            )
        )
        view.train(self.training)
        return view

    @property
    def map_layers(self) -> dict[str, str]:
        """Convolution name -> name of the view's module whose output is its activated map."""
        return {"conv1": "tanh1", "conv2": "tanh2"}


class LinearHead(nn.Module):
    """One linear layer on flattened features of any floating dtype."""

    def __init__(self, features: int, classes: int, generator: torch.Generator) -> None:
        """Build it for so many features an image, with weights drawn from ``generator``."""
        super().__init__()
        self.output = undrawn(nn.Linear, features, classes)
        draw_uniform([self.output], generator)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (N, classes) of features (N, ...), in the dtype of the weights."""
        logits: Tensor = self.output(features.flatten(1).to(self.output.weight.dtype))
        return logits


class ConvolutionalHead(nn.Module):
    """Two convolutions and a hidden layer on feature maps of any floating dtype."""

    def __init__(self, channels: int, side: int, classes: int, generator: torch.Generator) -> None:
        """Build it for maps (channels, side, side), with weights drawn from ``generator``."""
        super().__init__()
        self.conv1 = undrawn(nn.Conv2d, channels, 16, 3, stride=2, padding=1)
        self.conv2 = undrawn(nn.Conv2d, 16, 32, 3, padding=1)
        self.dense = undrawn(nn.Linear, 32 * ((side + 1) // 2) ** 2, 32)
        self.output = undrawn(nn.Linear, 32, classes)
        draw_uniform((self.conv1, self.conv2, self.dense, self.output), generator)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (N, classes) of features (N, K, h, h), in the dtype of the weights."""
        maps = channels_last(features.to(self.conv1.weight.dtype))
        for layer in (self.conv1, self.conv2):
            maps = torch.tanh(layer(maps))
        logits: Tensor = self.output(torch.tanh(self.dense(maps.flatten(1))))
        return logits
