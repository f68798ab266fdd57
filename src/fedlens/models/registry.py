"""Networks by name."""

from collections.abc import Callable

import torch
from torch import nn

from fedlens.errors import ModelError
from fedlens.models.hybrid import Hybrid
from fedlens.models.lenet import LeNet
from fedlens.models.paper_cnn import PaperCNN, PaperCNNSame, PaperCNNTanh
from fedlens.models.scatter import ScatterCNN, ScatterLinear
from fedlens.models.tanh_cnn import TanhCNN
from fedlens.models.wide_gn import WideGN
from fedlens.randomness import Purpose, torch_seed

Builder = Callable[[int, int, int, torch.Generator], nn.Module]
"""``builder(in_channels, classes, image_size, generator)`` returns a network."""

MODELS: dict[str, Builder] = {
    "paper-cnn": PaperCNN,
    "paper-cnn-same": PaperCNNSame,
    "hybrid": Hybrid,
    "lenet": LeNet,
    "paper-cnn-tanh": PaperCNNTanh,
    "tanh-cnn": TanhCNN,
    "scatter-linear": ScatterLinear,
    "scatter-cnn": ScatterCNN,
    "wide-gn": WideGN,
}


def build_model(
    name: str, *, in_channels: int, classes: int, image_size: int, seed: int = 0
) -> nn.Module:
    """Return a new network whose ``forward`` maps float (N, C, H, W) in [0, 1] to logits (N, L).

    Args:
        name: a name in :data:`MODELS`. ``paper-cnn-tanh``, ``tanh-cnn``, ``scatter-linear``,
            ``scatter-cnn`` and ``wide-gn`` are made for training under differential privacy;
            ``paper-cnn-same`` is the study's network without its blind area; ``hybrid`` has
            attention.
        in_channels: colour channels C of the images, at least 1.
        classes: number of classes or labels L, at least 2.
        image_size: height and width of the images in pixels.
        seed: root seed from which the initial weights are drawn, at least 0.

    Raises:
        ModelError: there is no such network, or it cannot be built for such images.
    """
    if name not in MODELS:
        raise ModelError(f"There is no network '{name}'; the networks are {', '.join(MODELS)}.")
    if in_channels < 1 or classes < 2:
        raise ModelError(
            f"A network was asked for {in_channels} channels and {classes} classes, expected at "
            "least 1 channel and 2 classes."
        )
    generator = torch.Generator().manual_seed(torch_seed(seed, Purpose.MODEL))
    return MODELS[name](in_channels, classes, image_size, generator)
