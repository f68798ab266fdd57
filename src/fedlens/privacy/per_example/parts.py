"""Parts of the per-example gradients of a chunk: what clipping asks of each.

The gradient of an example is spread over parts, each of one parameter or of a layer's weight and
bias. Its norm is the norm of the parts' norms; the sum of the clipped gradients is each part's sum over
the examples, weighted by their clip factors.
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

CANCELLED = 1e-2  # share of the squared norm without cancelling, below which it is worked out anew


class Part(Protocol):
    """The gradients of n examples with respect to one parameter or a few."""

    def norms(self) -> Tensor:
        """Return (n,), the 2-norm of each example's gradient in this part, or a little more."""
        ...

    def drop(self, examples: Tensor) -> None:
        """Set the gradients of ``examples``, bool (n,), to zero; they may not be finite."""
        ...

    def weighted_sum(self, weights: Tensor) -> list[Tensor]:
        """Return the sum over the examples of ``weights`` (n,) times the gradient, (*shape) each."""
        ...

    def gradients(self) -> list[Tensor]:
        """Return the gradients, (n, *shape of the parameter) each."""
        ...


class Written:
    """Gradients of one parameter, written out."""

    def __init__(self, gradients: Tensor) -> None:
        """Hold ``gradients`` (n, *shape)."""
        self._gradients = gradients

    def norms(self) -> Tensor:
        """See :class:`Part`."""
        return _norms(self._gradients)

    def drop(self, examples: Tensor) -> None:
        """See :class:`Part`."""
        self._gradients = _without(self._gradients, examples)

    def weighted_sum(self, weights: Tensor) -> list[Tensor]:
        """See :class:`Part`."""
        total = weights @ self._gradients.flatten(1)
        return [total.view(self._gradients.shape[1:])]

    def gradients(self) -> list[Tensor]:
        """See :class:`Part`."""
        return [self._gradients]


class WrittenProduct:
    """Gradients of a product's weight, Σ_t inputs_t ⊗ deltas_t, and bias, Σ_t deltas_t, written out."""

    def __init__(
        self, inputs: Tensor, deltas: Tensor, patch: tuple[int, ...], has_bias: bool
    ) -> None:
        """Compute the gradients; see :class:`FactoredProduct` for the arguments."""
        examples, _, width = inputs.shape
        self._patch = patch
        self._width = width
        # Inputs before outputs: a thin matrix (the 9 taps of an image's first convolution) times a
        # wide one is several times faster than the other way round. The bias is one more row.
        self._rows = deltas.new_empty(examples, width + has_bias, deltas.shape[2])
        torch.bmm(inputs.mT, deltas, out=self._rows[:, :width])
        if has_bias:
            torch.sum(deltas, 1, out=self._rows[:, width])

    def norms(self) -> Tensor:
        """See :class:`Part`."""
        return _norms(self._rows)

    def drop(self, examples: Tensor) -> None:
        """See :class:`Part`."""
        self._rows = _without(self._rows, examples)

    def weighted_sum(self, weights: Tensor) -> list[Tensor]:
        """See :class:`Part`."""
        total = (weights @ self._rows.flatten(1)).view(self._rows.shape[1:])
        return [_as_weight(total[: self._width].t(), self._patch), *total[self._width :]]

    def gradients(self) -> list[Tensor]:
        """See :class:`Part`."""
        weight = _as_weight(self._rows[:, : self._width].mT, self._patch)
        return [weight, *self._rows[:, self._width :].unbind(1)]


class FactoredProduct:
    """The same gradients, not written out.

    The norm comes from the factors: for one position it is the product of theirs (Goodfellow 2015,
    arXiv:1510.01799), for more it is Σ_st <inputs_s, inputs_t> <deltas_s, deltas_t> (Li et al. 2022,
    arXiv:2110.05679, section 4); a bias counts as one more input, which is 1. The weighted sum is
    one product of matrices.

    Where positions cancel, that sum is a small difference of large numbers, and its rounding could
    hide a norm that is not small. What rounding takes as a rule is added to it, and the gradients of
    examples whose positions nearly all cancel are written out, to be measured and added so.
    """

    def __init__(
        self, inputs: Tensor, deltas: Tensor, patch: tuple[int, ...], has_bias: bool
    ) -> None:
        """Hold the factors.

        Args:
            inputs: (n, T, I), what the weight was multiplied with at each of T positions.
            deltas: (n, T, O), the gradient with respect to the products.
            patch: what I is made of: (I,) for a weight (O, I), (kh, kw, C) for one (O, C, kh, kw).
            has_bias: whether the bias gets a gradient too.
        """
        self._inputs = F.pad(inputs, (0, 1), value=1.0) if has_bias else inputs
        self._deltas = deltas
        self._patch = patch
        self._width = inputs.shape[2]
        self._apart: tuple[Tensor, Tensor] | None = None  # those that cancel, and their gradients

    def norms(self) -> Tensor:
        """See :class:`Part`."""
        if self._inputs.shape[1] == 1:
            return _norms(self._inputs).mul_(_norms(self._deltas))
        grams = torch.bmm(self._inputs, self._inputs.mT)
        grams *= torch.bmm(self._deltas, self._deltas.mT)
        squares = grams.sum((1, 2)).clamp_(min=0)
        most = self._most()
        cancelled = squares < CANCELLED * most
        # off by the square root of the terms, as a rule (Higham and Mary 2019, theorem 2.4)
        terms = self._inputs.shape[2] + self._deltas.shape[2] + self._inputs.shape[1]
        unit = torch.finfo(squares.dtype).eps / 2
        norms = squares.add_(most, alpha=unit * math.sqrt(terms)).sqrt_()
        if bool(cancelled.any()):
            written = torch.bmm(self._deltas[cancelled].mT, self._inputs[cancelled])
            norms[cancelled] = _norms(written)
            self._apart = cancelled, written
        return norms

    def _most(self) -> Tensor:
        """Return (n,), the squared norm if all positions pulled the same way."""
        rows: Tensor = torch.linalg.vector_norm(self._inputs, dim=2)
        rows = rows * torch.linalg.vector_norm(self._deltas, dim=2)
        return rows.sum(1).square_()

    def drop(self, examples: Tensor) -> None:
        """See :class:`Part`."""
        self._inputs = _without(self._inputs, examples)
        self._deltas = _without(self._deltas, examples)
        if self._apart is not None:
            cancelled, written = self._apart
            self._apart = cancelled, _without(written, examples[cancelled])

    def weighted_sum(self, weights: Tensor) -> list[Tensor]:
        """See :class:`Part`."""
        if self._apart is None:
            return self._split(self._product(weights))
        # what is added has the rounding of what was measured, or it could be longer
        cancelled, written = self._apart
        total = self._product(weights.masked_fill(cancelled, 0))
        apart = weights[cancelled] @ written.flatten(1)
        return self._split(total + apart.view(written.shape[1:]))

    def _product(self, weights: Tensor) -> Tensor:
        deltas = (self._deltas * weights.view(-1, 1, 1)).flatten(0, 1)
        product: Tensor = deltas.t() @ self._inputs.flatten(0, 1)
        return product

    def gradients(self) -> list[Tensor]:
        """See :class:`Part`."""
        return self._split(torch.bmm(self._deltas.mT, self._inputs))

    def _split(self, matrix: Tensor) -> list[Tensor]:
        weight = _as_weight(matrix[..., : self._width], self._patch)
        return [weight, *matrix[..., self._width :].unbind(-1)]


def product_part(
    inputs: Tensor, deltas: Tensor, patch: tuple[int, ...], has_bias: bool
) -> WrittenProduct | FactoredProduct:
    """Return the gradients of a product in the cheaper form; see :class:`FactoredProduct`.

    The one multiplies T^2 (I + O) times an example, the other writes and twice reads I O numbers, each
    of which costs about as much as ten multiplications (Bu et al. 2022, arXiv:2205.10683, mix the
    forms by a like rule).
    """
    _, positions, width = inputs.shape
    height = deltas.shape[2]
    cheap = positions == 1 or positions**2 * (width + height) < 30 * width * height
    return (FactoredProduct if cheap else WrittenProduct)(inputs, deltas, patch, has_bias)


def _norms(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows.flatten(1), dim=1)
    return norms


def _without(rows: Tensor, examples: Tensor) -> Tensor:
    return rows.masked_fill(examples.view(-1, *[1] * (rows.dim() - 1)), 0)


def _as_weight(matrix: Tensor, patch: tuple[int, ...]) -> Tensor:
    """Return ``matrix`` (..., O, I) in the shape of the weight, (..., O, C, kh, kw) or as it is."""
    if len(patch) == 1:
        return matrix
    shaped: Tensor = matrix.unflatten(-1, patch)
    return shaped.permute(*range(matrix.dim() - 1), -1, -3, -2)
