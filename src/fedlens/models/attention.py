"""Attention and transformer blocks that can say what they looked at."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedlens.errors import ModelError
from fedlens.models.layers import draw_uniform, undrawn

RESIDUAL_SCALE = 0.1
"""What the initial weights of the last layer of each residual branch are multiplied by."""


class MultiHeadAttention(nn.Module):
    """Each token becomes a mixture of all tokens, in several heads: Vaswani et al. 2017, 3.2.2.

    With queries Q, keys K and values V of a head, linear functions of the tokens of width d each, the
    head's weights are A = softmax(Q K^T / sqrt(d)), rows summing to 1, and its result is A V. The
    results of all heads, side by side, go through a linear layer.

    ``forward`` leaves the weights to PyTorch, which does not keep them; :meth:`with_weights` is the
    same function with weights. It does not depend on the number or the order of the tokens.

    Attributes:
        heads: number of heads.
    """

    def __init__(self, width: int, heads: int, generator: torch.Generator) -> None:
        """Build the layer with weights drawn from ``generator``.

        Args:
            width: of a token.
            heads: a divisor of ``width``.
            generator: CPU generator of the initial weights.

        Raises:
            ModelError: ``heads`` does not divide ``width``.
        """
        super().__init__()
        if heads < 1 or width % heads:
            raise ModelError(f"Tokens of width {width} cannot be shared by {heads} heads.")
        self.heads = heads
        # Queries, keys and values in one product of matrices.
        self.project = undrawn(nn.Linear, width, 3 * width)
        self.merge = undrawn(nn.Linear, width, width)
        draw_uniform((self.project, self.merge), generator)
        _quieten(self.merge)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, T, D), the mixtures of ``tokens`` (B, T, D)."""
        return self._merged(F.scaled_dot_product_attention(*self._projected(tokens)))

    def with_weights(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return what ``forward`` returns, and the weights A (B, heads, T, T) that led to it.

        A[b, h, i, j] is how much token i takes from token j; it lies in [0, 1], each row sums to 1,
        and it is part of the graph.
        """
        queries, keys, values = self._projected(tokens)
        weights = (queries @ keys.mT * queries.shape[-1] ** -0.5).softmax(-1)
        return self._merged(weights @ values), weights

    def _projected(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (B, heads, T, d) each."""
        parts = self.project(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return parts[0], parts[1], parts[2]

    def _merged(self, heads: Tensor) -> Tensor:
        merged: Tensor = self.merge(heads.transpose(1, 2).flatten(2))
        return merged


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)), with LayerNorm and GELU.

    Normalising inside the branches (Xiong et al., "On Layer Normalization in the Transformer
    Architecture", 2020) lets the network train without a warm-up of the learning rate. The last
    layer of each branch begins at a tenth of its usual size, so that at first the block is nearly
    the identity and what comes before it learns at once.
    """

    def __init__(self, width: int, heads: int, hidden: int, generator: torch.Generator) -> None:
        """Build the block with weights drawn from ``generator``.

        Args:
            width: of a token.
            heads: of the attention, a divisor of ``width``.
            hidden: units of the MLP.
            generator: CPU generator of the initial weights.

        Raises:
            ModelError: ``heads`` does not divide ``width``.
        """
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, generator)
        self.norm2 = nn.LayerNorm(width)
        self.hidden = undrawn(nn.Linear, width, hidden)
        self.out = undrawn(nn.Linear, hidden, width)
        draw_uniform((self.hidden, self.out), generator)
        _quieten(self.out)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, T, D) of ``tokens`` (B, T, D)."""
        return self._mlp(tokens + self.attention(self.norm1(tokens)))

    def with_weights(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return what ``forward`` returns, and the attention's weights (B, heads, T, T)."""
        mixed, weights = self.attention.with_weights(self.norm1(tokens))
        return self._mlp(tokens + mixed), weights

    def _mlp(self, tokens: Tensor) -> Tensor:
        out: Tensor = tokens + self.out(F.gelu(self.hidden(self.norm2(tokens))))
        return out


def _quieten(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight.mul_(RESIDUAL_SCALE)
        layer.bias.zero_()
