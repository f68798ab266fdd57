"""Layers and initial weights that several networks share."""

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

LayerT = TypeVar("LayerT", bound=nn.Module)


class WeightStandardizedConv2d(nn.Conv2d):
    """A convolution whose kernels have mean 0 and variance 1 / fan-in, whatever its weights are.

    With fan-in n = (in_channels / groups) x height x width, the kernel W of each output channel is
    used as (W - mean(W)) / sqrt(n var(W) + eps), with eps = 1e-5 and the variance without Bessel's
    correction: Qiao, Wang, Liu, Shen and Yuille, "Micro-Batch Training with Batch-Channel
    Normalization and Weight Standardization", 2019, with the scale of Brock, De and Smith,
    "Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets", 2021,
    at which outputs are about as large as inputs. It needs no statistics of a batch and therefore
    suits differential privacy (De, Berrada, Hayes, Smith and Balle, 2022).

    The trainable parameters are W and the bias. The gradient of W is *not* the correlation of the
    layer's inputs with the gradients of its outputs, which is that of :meth:`kernel`: code that
    builds gradients so (per-example clipping) must take it through the standardisation.
    """

    eps = 1e-5

    def kernel(self) -> Tensor:
        """Return the standardised kernels, of the shape and dtype of ``weight``."""
        dims = (1, 2, 3)
        centred = self.weight - self.weight.mean(dims, keepdim=True)
        # fan-in times the variance is the sum of squares.
        kernel: Tensor = centred * (centred.square().sum(dims, keepdim=True) + self.eps).rsqrt()
        return kernel

    def forward(self, input: Tensor) -> Tensor:
        """Return the maps (N, K, h, w) of ``input`` (N, C, H, W)."""
        maps: Tensor = self._conv_forward(input, self.kernel(), self.bias)
        return maps


def undrawn(kind: Callable[..., LayerT], *arguments: object, **options: object) -> LayerT:
    """Return a new layer whose weights are yet to be drawn; PyTorch's global generator is left alone.

    ``torch.nn.utils.skip_init`` does it too, but imports a computer algebra system for it: 0.4 s of
    every start.

    Args:
        kind: class of the layer.
        *arguments: its arguments.
        **options: its named arguments.
    """
    with torch.random.fork_rng(devices=()):
        return kind(*arguments, **options)


def draw_uniform(layers: Iterable[nn.Conv2d | nn.Linear], generator: torch.Generator) -> None:
    """Draw weights and biases uniformly within +-1 / sqrt(fan-in), as PyTorch does by default.

    Args:
        layers: in the order in which they are drawn; a bias may be missing.
        generator: CPU generator of the values.
    """
    for layer in layers:
        bound = 1 / math.sqrt(layer.weight[0].numel())
        for values in (layer.weight, layer.bias):
            if values is not None:
                nn.init.uniform_(values, -bound, bound, generator=generator)
