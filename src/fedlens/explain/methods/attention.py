"""What the attention of a network passed on from where: rollout, and relevance for a class.

A token is a cell of a grid over the image, and where convolutions made the tokens it is of a whole
neighbourhood: such a map is as coarse as the grid. It is enlarged as the CAMs are, see
:func:`fedlens.explain.methods.cam.upsample`.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from fedlens.errors import ExplanationError
from fedlens.explain.contract import Attribution, Attributor, Context
from fedlens.explain.layers import AttentionNetwork, forward_attention
from fedlens.explain.methods.cam import upsample
from fedlens.explain.target import Contrast, target_score


def attention_rollout(weights: list[Tensor]) -> Tensor:
    """Return R = A'_n ... A'_1 with A' = (mean over heads of A + I), each row over its sum.

    Abnar and Zuidema 2020, section 3: how much of each token of the input is in each token of the
    output, if a block passes on half of a token as it is and half as its attention mixes it. What
    the values and the MLPs do is left out.

    Args:
        weights: attention A of each block, the first one first, float (B, heads, T, T), at least 0.

    Returns:
        float (B, T, T), at least 0; each row sums to 1.
    """
    rolled = _identity(weights[0])
    for of_block in weights:
        mixed = of_block.mean(1) + _identity(of_block)
        rolled = mixed / mixed.sum(-1, keepdim=True) @ rolled
    return rolled


def attention_relevance(weights: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Return R - I after R <- R + A' R for each block, from R = I.

    A' = mean over heads of (dy/dA A)^+: Chefer, Gur and Wolf, "Generic Attention-model Explainability
    for Interpreting Bi-Modal and Encoder-Decoder Transformers", 2021, equations 5 and 6, for
    self-attention; R is not normalised. I, what a token holds of itself from the start, is the same
    for every class, and beside it small relevances would drown in rounding.

    Args:
        weights: attention A of each block, the first one first, float (B, heads, T, T).
        gradients: dy/dA of each.

    Returns:
        float (B, T, T), at least 0.
    """
    gained = torch.zeros_like(weights[0][:, 0])
    for of_block, gradient in zip(weights, gradients, strict=True):
        passed = (gradient * of_block).relu().mean(1)
        gained = gained + passed + passed @ gained  # A' R = A' + A' (R - I)
    return gained


class _AttentionMap(Attributor):
    """A map of a matrix R (B, T, T): what the tokens that are read out took from each place.

    With a class token that is its row of R without itself; where the tokens are averaged, the mean
    of all rows.
    """

    signed = False
    needs_attention = True

    def __init__(self, context: Context) -> None:
        """Look at what the network offers.

        Raises:
            ExplanationError: the network does not offer its attention.
        """
        super().__init__(context)
        if not isinstance(context.model, AttentionNetwork):
            raise ExplanationError(
                f"{type(context.model).__name__} does not offer its attention, which this method "
                "explains; choose another method, or give the network forward_with_attention, "
                "token_grid and has_class_token (see fedlens.explain.layers.AttentionNetwork)."
            )
        self._network = context.model
        rows, columns = self._network.token_grid
        self.parameters = {
            "grid": [rows, columns],
            "read": "class token" if self._network.has_class_token else "mean over the tokens",
            "upsampling": "bilinear",
            "align_corners": False,
        }

    def attribute(self, images: Tensor, target: Tensor | Contrast | None) -> Attribution:
        """Return the maps, at least 0, enlarged to the images; see :class:`Attributor`."""
        logits, matrix = self.matrix(images, target)
        read = matrix[:, 0, 1:] if self._network.has_class_token else matrix.mean(1)
        small = read.unflatten(1, self._network.token_grid).float()
        return Attribution(upsample(small, *images.shape[2:]), logits)

    @abstractmethod
    def matrix(self, images: Tensor, target: Tensor | Contrast | None) -> tuple[Tensor, Tensor]:
        """Return the logits (B, L) and R (B, T, T), both without a graph."""


class AttentionRollout(_AttentionMap):
    """Where the network looked, whatever it decided; see :func:`attention_rollout`.

    It cannot say why this class rather than another: the map is the same for all of them.
    """

    class_specific = False

    def __init__(self, context: Context) -> None:
        """Look at what the network offers.

        Raises:
            ExplanationError: the network does not offer its attention.
        """
        super().__init__(context)
        self.parameters["form"] = "product of (mean over heads + identity) / 2"

    def matrix(self, images: Tensor, target: Tensor | Contrast | None) -> tuple[Tensor, Tensor]:
        """See the base class."""
        with torch.no_grad():
            logits, weights = forward_attention(self._network, images)
            return logits, attention_rollout(weights)


class AttentionRelevance(_AttentionMap):
    """What speaks for the class in the attention; see :func:`attention_relevance`.

    In a contrast y is a difference of logits, and so dy/dA of their gradients; the map is not a
    difference of maps.
    """

    def __init__(self, context: Context) -> None:
        """Look at what the network offers.

        Raises:
            ExplanationError: the network does not offer its attention.
        """
        super().__init__(context)
        self.parameters["form"] = "R + A'R - I, A' = mean over heads of (gradient * attention)+"

    def matrix(self, images: Tensor, target: Tensor | Contrast | None) -> tuple[Tensor, Tensor]:
        """See the base class.

        Raises:
            ExplanationError: the logits do not depend on the attention, or the target names a class
                that is not there.
        """
        # A gradient of the images is not asked for, but makes a graph of frozen weights too.
        images = images.detach().requires_grad_()
        with torch.enable_grad():
            logits, weights = forward_attention(self._network, images)
            score = target_score(logits, target).sum()
        if not all(one.requires_grad for one in (score, *weights)):
            raise self._unused()
        gradients = torch.autograd.grad(score, weights, allow_unused=True)
        used = [gradient for gradient in gradients if gradient is not None]
        if len(used) < len(weights):
            raise self._unused()
        with torch.no_grad():
            return logits.detach(), attention_relevance(weights, used)

    def _unused(self) -> ExplanationError:
        return ExplanationError(
            f"The logits of {type(self.context.model).__name__} do not depend on the attention that "
            "it returns; forward_with_attention must compute the logits with those very weights."
        )


def _identity(like: Tensor) -> Tensor:
    """Return I (T, T) for matrices (..., T, T)."""
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)
