"""Shapley values of the cells of a grid: exact, and by KernelSHAP.

The players of the game are the cells; the worth of a coalition is the score of the image in which
only its cells are seen and the baseline is seen elsewhere. A pixel's value is that of its cell over
the number of the cell's pixels, so that a map sums to the gap in score.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from fedlens.errors import ExplanationError
from fedlens.explain.baselines import baseline_images, check_baseline
from fedlens.explain.coalitions import all_coalitions, coalition_scores
from fedlens.explain.contract import Attribution, Attributor, Context
from fedlens.explain.layers import forward_logits
from fedlens.explain.methods.gradient import check_count
from fedlens.explain.segments import grid_segments, spread
from fedlens.explain.target import Contrast, resolved

MOST_PLAYERS = 16
"""Players up to which all coalitions are tried: 65,536 of them."""


def exact_shapley(values: Tensor) -> Tensor:
    """Return the Shapley values of games of M players of which every coalition's worth is known.

    phi_i = sum over the coalitions S without i of |S|! (M - |S| - 1)! / M! (v(S + i) - v(S)):
    Shapley 1953. They sum to v(all) - v(none).

    Args:
        values: float (B, 2^M), M >= 1: entry k of a row is the worth of the players whose bits are
            set in k, player 0 being the lowest bit.

    Returns:
        float64 (B, M).

    Raises:
        ExplanationError: there is not one value for each of 2^M coalitions.
    """
    length = values.shape[-1]
    players = length.bit_length() - 1
    if values.dim() != 2 or players < 1 or length != 2**players:
        raise ExplanationError(
            f"The values of the coalitions have the shape {tuple(values.shape)}, expected (B, 2^M)."
        )
    values = values.double()
    sizes = all_coalitions(players).sum(1)
    by_size = torch.tensor(
        [1 / (players * math.comb(players - 1, size)) for size in range(players)],
        dtype=torch.float64,
        device=values.device,
    )
    result = []
    for player in range(players):
        # Of the last three axes the middle one is the player's bit: absent, present.
        shape = (2 ** (players - 1 - player), 2, 2**player)
        absent, present = values.reshape(-1, *shape).unbind(2)
        weights = by_size[sizes.reshape(shape)[:, 0].to(values.device)]
        result.append(torch.einsum("bhl,hl->b", present - absent, weights))
    return torch.stack(result, dim=1)


def kernel_shap_values(
    coalitions: Tensor, scores: Tensor, empty: Tensor, full: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return the values whose sums over coalitions are nearest to the coalitions' scores.

    Lundberg and Lee 2017, theorem 2: the phi that minimise sum_z w_z (v(z) - v(none) - z . phi)^2
    subject to sum phi = v(all) - v(none). The last player is eliminated by the constraint, which
    therefore holds exactly; what is left is one least-squares problem for all images.

    Args:
        coalitions: bool (N, M), M >= 2, with neither the empty nor the full coalition.
        scores: float (B, N), v(z).
        empty, full: float (B,), v(none) and v(all).
        weights: float (N,), above 0, of each coalition; None for equal ones, which is right for
            coalitions drawn with the probabilities of the Shapley kernel.

    Returns:
        float64 (B, M) on the CPU.

    Raises:
        ExplanationError: the coalitions are too few, or too much alike, to tell the players apart.
    """
    present = coalitions.double().cpu()
    empty, gap = empty.double().cpu(), (full - empty).double().cpu()
    features = present[:, :-1] - present[:, -1:]
    wanted = scores.double().cpu() - empty[:, None] - gap[:, None] * present[:, -1]
    if weights is not None:
        roots = weights.double().cpu().sqrt()
        features, wanted = features * roots[:, None], wanted * roots
    # By singular values, not lstsq: that fails where any score is NaN, and the map is to be flagged.
    left, singular, right = torch.linalg.svd(features, full_matrices=False)
    if len(features) < features.shape[1] or float(singular[-1]) <= 1e-10 * float(singular[0]):
        raise ExplanationError(
            f"The {len(coalitions):,} coalitions cannot tell the {coalitions.shape[1]} segments "
            "apart; choose more samples, or fewer segments."
        )
    values = (wanted @ left / singular) @ right
    return torch.cat((values, gap[:, None] - values.sum(1, keepdim=True)), dim=1)


def kernel_weights(players: int) -> Tensor:
    """Return the Shapley kernel of one coalition by its size 1 to M - 1, float64 (M - 1,).

    (M - 1) / (C(M, s) s (M - s)): Lundberg and Lee 2017, theorem 2. The two sizes that are left out
    have infinite weight: they are the constraints.
    """
    kernel = [
        (players - 1) / (math.comb(players, size) * size * (players - size))
        for size in range(1, players)
    ]
    return torch.tensor(kernel, dtype=torch.float64)


def draw_coalitions(players: int, pairs: int, generator: torch.Generator) -> Tensor:
    """Return drawn coalitions and then their complements, bool (2 * pairs, M).

    Sizes are drawn with the Shapley kernel's weight of all coalitions of a size, 1 / (s (M - s)),
    then the players of a coalition uniformly, so that all draws weigh the same. A complement is as
    probable as its coalition; in the pair all effects of an even number of players cancel (Covert
    and Lee 2021, section 4.2).

    Args:
        players: M, at least 2.
        pairs: how many to draw, at least 1.
        generator: on the CPU.
    """
    sizes = torch.arange(1, players, dtype=torch.float64)
    drawn = torch.multinomial(
        1 / (sizes * (players - sizes)), pairs, replacement=True, generator=generator
    )
    ranks = torch.rand(pairs, players, generator=generator, dtype=torch.float64).argsort(1)
    present = ranks.argsort(1) <= drawn[:, None]  # drawn 0 is the size 1
    return torch.cat((present, ~present))


class _Shapley(Attributor):
    """What the two methods have in common: the grid, the baseline, the coalitions and the maps."""

    complete = True

    def __init__(self, context: Context, across: int, baseline: str) -> None:
        super().__init__(context)
        check_count("across", across)
        check_baseline(baseline)
        self.baseline = baseline
        self.players = across * across
        self.parameters = {"across": across}

    def attribute(self, images: Tensor, target: Tensor | Contrast | None) -> Attribution:
        """Return the maps; see :class:`Attributor`.

        Raises:
            ExplanationError: the images have fewer pixels on a side than the grid has cells.
        """
        assert self.baseline is not None
        height, width = images.shape[2:]
        segments = grid_segments(height, width, self.parameters["across"])
        logits = forward_logits(self.context.model, images)
        wanted = resolved(target, logits)
        baselines = baseline_images(self.baseline, images, self.context)
        scores = coalition_scores(
            self.context, images, baselines, segments, self._coalitions(), wanted
        )
        values, gap = self._values(scores)
        maps = spread(values, segments, shared=True)
        details = {"completeness_gap": (maps.double().sum((1, 2)) - gap).float()}
        return Attribution(maps, logits, details)

    @abstractmethod
    def _coalitions(self) -> Tensor:
        """Return the coalitions whose scores are wanted, bool (N, M)."""

    @abstractmethod
    def _values(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return the players' values (B, M), and the gap (B,) from nothing to the whole image."""


class ExactShapley(_Shapley):
    """The Shapley values of the cells of a small grid, from all 2^M coalitions.

    See :func:`exact_shapley`. 4 x 4 cells take 65,536 forward passes an image.

    Details: ``completeness_gap``, the map's sum minus score(x) + score(baseline), in logits.
    """

    def __init__(self, context: Context, *, across: int = 4, baseline: str = "black") -> None:
        """Bind the method.

        Args:
            context: see :class:`Context`.
            across: cells along each side of the grid, from 1 to 4.
            baseline: see :func:`fedlens.explain.baselines.baseline_images`.

        Raises:
            ExplanationError: a parameter is out of its range.
        """
        super().__init__(context, across, baseline)
        if self.players > MOST_PLAYERS:
            raise ExplanationError(
                f"across is {across}, expected at most {math.isqrt(MOST_PLAYERS)}: {self.players} "
                f"cells have 2^{self.players} coalitions; choose 'kernel-shap' for so many."
            )

    def _coalitions(self) -> Tensor:
        return all_coalitions(self.players)

    def _values(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        return exact_shapley(scores), scores[:, -1] - scores[:, 0]


class KernelShap(_Shapley):
    """Shapley values of the cells of a grid, estimated from drawn coalitions.

    See :func:`draw_coalitions` and :func:`kernel_shap_values`. All images get the same coalitions.
    One that is drawn several times is run once and weighs as often. Where there are no more
    coalitions than samples all of them are taken, and the values are exact.

    Details: ``completeness_gap``, the map's sum minus score(x) + score(baseline), in logits. It is
    zero but for rounding whatever the values are worth: it says nothing of the error of sampling.
    """

    stochastic = True

    def __init__(
        self, context: Context, *, across: int = 7, samples: int = 1000, baseline: str = "black"
    ) -> None:
        """Bind the method, and draw the coalitions.

        Args:
            context: see :class:`Context`.
            across: cells along each side of the grid, at least 2.
            samples: coalitions; an odd one is left out, since they come in pairs.
            baseline: see :func:`fedlens.explain.baselines.baseline_images`.

        Raises:
            ExplanationError: a parameter is out of its range, or the samples are too few to tell
                the cells apart.
        """
        super().__init__(context, across, baseline)
        check_count("samples", samples)
        if across < 2:
            raise ExplanationError(
                f"across is {across}, expected at least 2: one cell has no share."
            )
        self.parameters |= {"samples": samples, "paired": True}
        players = self.players
        if samples >= 2**players - 2:
            self._drawn = all_coalitions(players)[1:-1]
            self._weights = kernel_weights(players)[self._drawn.sum(1) - 1]
        else:
            if samples < 2 * (players - 1):
                raise ExplanationError(
                    f"samples is {samples}, expected at least {2 * (players - 1):,} for {players} "
                    "cells; 20 a cell are a fair number."
                )
            drawn = draw_coalitions(players, samples // 2, context.generator())
            self._drawn, times = torch.unique(drawn, dim=0, return_counts=True)
            self._weights = times.double()
        zero = torch.zeros(1, dtype=torch.float64)
        kernel_shap_values(self._drawn, zero.expand(1, len(self._drawn)), zero, zero, self._weights)

    def _coalitions(self) -> Tensor:
        ends = torch.tensor([[False], [True]]).expand(2, self.players)
        return torch.cat((ends, self._drawn))

    def _values(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        empty, full = scores[:, 0], scores[:, 1]
        values = kernel_shap_values(self._drawn, scores[:, 2:], empty, full, self._weights)
        return values, full - empty
