"""Convolutions that make tokens, and attention between the tokens: 59,626 parameters."""

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedlens.errors import ModelError
from fedlens.models.attention import TransformerBlock
from fedlens.models.layers import draw_uniform, undrawn
from fedlens.models.layout import channels_last

SMALLEST_IMAGE = 14  # 14 -> 7
SMALLEST_GRID = 7
WIDTHS = (16, 32, 48)  # of the first convolution, of those between, of the last: a token
GROUPS = 8
BLOCKS = 2
HEADS = 3
HIDDEN = 96
POSITION_DEVIATION = 0.02


class Tokens(nn.Module):
    """The cells of a map as tokens in rows, each with a learned embedding of its place added."""

    def __init__(self, width: int, side: int, generator: torch.Generator) -> None:
        """Draw the embedding, normal with deviation 0.02.

        Args:
            width: maps, and so the width of a token.
            side: height and width of the maps.
            generator: CPU generator of the initial weights.
        """
        super().__init__()
        self.position = nn.Parameter(torch.empty(1, side * side, width))
        nn.init.normal_(self.position, std=POSITION_DEVIATION, generator=generator)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the tokens (N, h * w, D) of ``maps`` (N, D, h, w), row after row."""
        return maps.flatten(2).mT + self.position


class Average(nn.Module):
    """The mean over the tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (N, D) of ``tokens`` (N, T, D)."""
        return tokens.mean(1)


class Hybrid(nn.Module):
    """A stem of convolutions down to 7x7 tokens, two transformer blocks, the mean of the tokens.

    The stem has three 3x3 same convolutions of 16, 32 and 48 maps, each followed by GroupNorm (8
    groups) and ReLU; all but the last are followed by 2x2 max-pooling at once, so that the norm has a
    quarter of the work. An image of 28x28 pixels becomes 7x7 cells: 49 tokens of width 48. Each
    block has attention with three heads and an MLP of 96 units; see :class:`TransformerBlock`. The
    tokens are normalised, averaged, and a linear layer makes the logits. There is no class token,
    which was not better: with the mean, each token's share in the logits is plain. On 1x28x28
    images and 10 classes it has 59,626 trainable parameters.

    Convolutions before attention follow Xiao, Singh, Mintun, Darrell, Dollar and Girshick, "Early
    Convolutions Help Transformers See Better", 2021; the shape is our own. Nothing uses statistics
    of the batch and nothing is drawn while it runs, so that it suits differential privacy.

    Larger images go through more convolutions with pooling (of 32 maps), one for each further factor
    of two, smaller ones through fewer, so that the grid has 7 to 13 tokens a side.

    Weights are uniform on +-1 / sqrt(fan-in), norms begin as the identity.

    Attributes:
        token_grid: rows and columns of tokens; they lie over the image without gaps.
        has_class_token: False: the logits are of the mean of the tokens.
    """

    has_class_token = False

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
            ModelError: the image is too small.
        """
        super().__init__()
        if image_size < SMALLEST_IMAGE:
            raise ModelError(
                f"hybrid needs images of at least {SMALLEST_IMAGE}x{SMALLEST_IMAGE} pixels, got "
                f"{image_size}x{image_size}; import the images with a larger --size."
            )
        halvings = (image_size // SMALLEST_GRID).bit_length() - 1
        widths = [in_channels, WIDTHS[0], *[WIDTHS[1]] * (halvings - 1), WIDTHS[2]]
        self._pooled = halvings
        convolutions = []
        for number, (before, after) in enumerate(pairwise(widths), start=1):
            # GroupNorm has the bias.
            layer = undrawn(nn.Conv2d, before, after, 3, padding=1, bias=False)
            self.add_module(f"conv{number}", layer)
            self.add_module(f"norm{number}", nn.GroupNorm(GROUPS, after))
            convolutions.append(layer)
        draw_uniform(convolutions, generator)
        width, side = WIDTHS[2], image_size >> halvings
        self.token_grid = (side, side)
        self.tokens = Tokens(width, side, generator)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, HEADS, HIDDEN, generator) for _ in range(BLOCKS)
        )
        self.norm = nn.LayerNorm(width)
        self.output = undrawn(nn.Linear, width, classes)
        draw_uniform([self.output], generator)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes) of float images (N, C, H, W) in [0, 1]."""
        tokens = self._stem(images)
        for block in self.blocks:
            tokens = block(tokens)
        return self._head(tokens)

    def forward_with_attention(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits, and the attention's weights of each block, first block first.

        The weights are (N, heads, T, T) with rows that sum to 1, and part of the graph; token
        ``row * columns + column`` lies at that place of :attr:`token_grid`. The logits are those of
        ``forward`` but for rounding.
        """
        tokens = self._stem(images)
        weights = []
        for block in self.blocks:
            assert isinstance(block, TransformerBlock)
            tokens, of_block = block.with_weights(tokens)
            weights.append(of_block)
        return self._head(tokens), weights

    def explanation_view(self) -> nn.Sequential:
        """Return the same network over the same weights, step by step.

        The output of ``relu1``, ``relu2`` and so on is the activated map of ``conv1``, ``conv2``:
        after the pooling, where there is one.
        """
        steps: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, self._pooled + 2):
            steps[f"conv{number}"] = getattr(self, f"conv{number}")
            if number <= self._pooled:
                steps[f"pool{number}"] = nn.MaxPool2d(2)
            steps[f"norm{number}"] = getattr(self, f"norm{number}")
            steps[f"relu{number}"] = nn.ReLU()
        steps["tokens"] = self.tokens
        for number, block in enumerate(self.blocks, start=1):
            steps[f"block{number}"] = block
        steps["norm"] = self.norm
        steps["average"] = Average()
        steps["output"] = self.output
        view = nn.Sequential(steps)
        view.train(self.training)
        return view

    @property
    def map_layers(self) -> dict[str, str]:
        """Convolution name -> name of the view's module whose output is its activated map."""
        return {f"conv{n}": f"relu{n}" for n in range(1, self._pooled + 2)}

    def _stem(self, images: Tensor) -> Tensor:
        maps = channels_last(images)
        for number in range(1, self._pooled + 2):
            maps = getattr(self, f"conv{number}")(maps)
            if number <= self._pooled:
                maps = F.max_pool2d(maps, 2)
            maps = F.relu(getattr(self, f"norm{number}")(maps))
        tokens: Tensor = self.tokens(maps)
        return tokens

    def _head(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.output(self.norm(tokens).mean(1))
        return logits
