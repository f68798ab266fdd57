"""Parts of the per-example gradients of a chunk, one a parameter: what clipping asks of each.

The norm of an example's gradient is the norm of its parts' norms; the sum of the clipped gradients is
each part's sum over the examples, weighted by their clip factors.

Most parts know both at once, for all examples. Those of large convolutions would have to write a large
gradient for each example and read it twice: a :class:`StreamedProduct` writes those of a few examples
at a time, to be measured, weighted and forgotten while the processor has them at hand.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlens.privacy.per_example.convolution import Windows

CANCELLED = 1e-2  # share of the squared norm without cancelling, below which it is worked out anew


class Rows:
    """What went into ``linear``, as :class:`Windows` has it of a convolution."""

    def __init__(self, inputs: Tensor) -> None:
        """Hold ``inputs`` (n, T, I)."""
        self._inputs = inputs

    def whole(self, examples: slice = slice(None)) -> Tensor:
        """Return (m, T, I)."""
        return self._inputs[examples]

    def pieces(self, examples: slice) -> list[Tensor]:
        """Return the same, cut along I: in one piece."""
        return [self._inputs[examples]]


@dataclass(frozen=True, eq=False)
class Factors:
    """What the gradients of a product's weight are made of: Σ_t inputs_t ⊗ deltas_t over T positions.

    Attributes:
        inputs: what the weight was multiplied with, (n, T, I).
        deltas: (n, T, O), the gradient with respect to what came out; T is over views too.
        patch: what I is made of: (I,) for a weight (O, I), (C, kh, kw) for one (O, C, kh, kw).
    """

    inputs: Rows | Windows
    deltas: Tensor
    patch: tuple[int, ...]

    @property
    def width(self) -> int:
        """I."""
        return math.prod(self.patch)

    def as_weight(self, matrices: Tensor) -> Tensor:
        """Return ``matrices`` (..., O, I) in the shape of the weight."""
        if len(self.patch) == 1:
            return matrices
        channels, kh, kw = self.patch
        shaped: Tensor = matrices.unflatten(-1, (kh, kw, channels))
        return shaped.permute(*range(matrices.dim() - 1), -1, -3, -2)


class Written:
    """Gradients that are written out."""

    def __init__(self, gradients: Tensor) -> None:
        """Hold ``gradients`` (n, *shape of the parameter)."""
        self._gradients = gradients

    def norms(self) -> Tensor:
        """Return (n,), the 2-norm of each example's gradient, or a little more."""
        return norms(self._gradients)

    def drop(self, examples: Tensor) -> None:
        """Set the gradients of ``examples``, bool (n,), to zero; they may not be finite."""
        self._gradients = without(self._gradients, examples)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Return the sum over the examples of ``weights`` (n,) times the gradient, (*shape)."""
        return (weights @ self._gradients.flatten(1)).view(self._gradients.shape[1:])

    def gradients(self) -> Tensor:
        """Return the gradients, (n, *shape)."""
        return self._gradients


class FactoredProduct:
    """Gradients of a product's weight that are never written out.

    The norm comes from the factors: for one position it is the product of theirs (Goodfellow 2015,
    arXiv:1510.01799), for more it is Σ_st <inputs_s, inputs_t> <deltas_s, deltas_t> (Li et al. 2022,
    arXiv:2110.05679, section 4). The weighted sum is one product of matrices.

    Where positions cancel, that sum is a small difference of large numbers, and its rounding could
    hide a norm that is not small. What rounding takes as a rule is added to it, and the gradients of
    examples whose positions nearly all cancel are written out, to be measured and added so.
    """

    def __init__(self, factors: Factors) -> None:
        """Hold the factors."""
        self._factors = factors
        self._inputs, self._deltas = factors.inputs.whole(), factors.deltas
        self._apart: tuple[Tensor, Tensor] | None = None  # those that cancel, and their gradients

    def norms(self) -> Tensor:
        """See :class:`Written`."""
        if self._inputs.shape[1] == 1:
            return norms(self._inputs).mul_(norms(self._deltas))
        grams = torch.bmm(self._inputs, self._inputs.mT)
        grams *= torch.bmm(self._deltas, self._deltas.mT)
        squares = grams.sum((1, 2)).clamp_(min=0)
        # their squared norm if all positions pulled the same way
        most = grams.diagonal(0, 1, 2).sqrt().sum(1).square_()
        cancelled = squares < CANCELLED * most
        # off by the square root of the terms, as a rule (Higham and Mary 2019, theorem 2.4)
        terms = self._inputs.shape[2] + self._deltas.shape[2] + self._inputs.shape[1]
        unit = torch.finfo(squares.dtype).eps / 2
        found = squares.add_(most, alpha=unit * math.sqrt(terms)).sqrt_()
        if bool(cancelled.any()):
            written = torch.bmm(self._deltas[cancelled].mT, self._inputs[cancelled])
            found[cancelled] = norms(written)
            self._apart = cancelled, written
        return found

    def drop(self, examples: Tensor) -> None:
        """See :class:`Written`."""
        self._inputs = without(self._inputs, examples)
        self._deltas = without(self._deltas, examples)
        if self._apart is not None:
            cancelled, written = self._apart
            self._apart = cancelled, without(written, examples[cancelled])

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """See :class:`Written`."""
        if self._apart is None:
            return self._factors.as_weight(self._product(weights))
        # what is added has the rounding of what was measured, or it could be longer
        cancelled, written = self._apart
        total = self._product(weights.masked_fill(cancelled, 0))
        apart = weights[cancelled] @ written.flatten(1)
        return self._factors.as_weight(total + apart.view(written.shape[1:]))

    def _product(self, weights: Tensor) -> Tensor:
        deltas = (self._deltas * weights.view(-1, 1, 1)).flatten(0, 1)
        product: Tensor = deltas.t() @ self._inputs.flatten(0, 1)
        return product

    def gradients(self) -> Tensor:
        """See :class:`Written`."""
        return self._factors.as_weight(torch.bmm(self._deltas.mT, self._inputs))


class StreamedProduct:
    """The same gradients, written out for a few examples at a time."""

    def __init__(self, factors: Factors) -> None:
        """Hold the factors."""
        self._factors = factors

    @property
    def memory(self) -> int:
        """Bytes that an example takes at most while its gradient is written."""
        deltas = self._factors.deltas
        return self._factors.width * (deltas.shape[1] + deltas.shape[2]) * deltas.element_size()

    def rows(self, examples: slice) -> Iterator[Tensor]:
        """Write the gradients of m examples in pieces, (m, I_k O) each."""
        deltas = self._factors.deltas[examples]
        # Inputs before outputs: a thin matrix (the 9 taps of an image's first convolution) times a
        # wide one is several times faster than the other way round.
        for inputs in self._factors.inputs.pieces(examples):
            yield torch.bmm(inputs.mT, deltas).flatten(1)

    def shaped(self, rows: list[Tensor]) -> Tensor:
        """Return rows (..., I_k O), or a sum of them, in the shape of the parameter."""
        matrices = [piece.unflatten(-1, (-1, self._factors.deltas.shape[2])) for piece in rows]
        return self._factors.as_weight(torch.cat(matrices, -2).mT)

    def gradients(self) -> Tensor:
        """See :class:`Written`."""
        return self.shaped(list(self.rows(slice(None))))


WholePart = Written | FactoredProduct
Part = WholePart | StreamedProduct


def product_part(factors: Factors) -> FactoredProduct | StreamedProduct:
    """Return the gradients of a product's weight in the cheaper form.

    The one multiplies T^2 (I + O) times an example, the other writes and twice reads I O numbers, each
    of which costs about as much as ten multiplications (Bu et al. 2022, arXiv:2205.10683, mix the
    forms by a like rule).
    """
    width, (_, positions, height) = factors.width, factors.deltas.shape
    cheap = positions == 1 or positions**2 * (width + height) < 30 * width * height
    return FactoredProduct(factors) if cheap else StreamedProduct(factors)


def norms(gradients: Tensor) -> Tensor:
    """Return the 2-norm (n,) of each of ``gradients`` (n, ...)."""
    found: Tensor = torch.linalg.vector_norm(gradients.flatten(1), dim=1)
    return found


def without(gradients: Tensor, examples: Tensor) -> Tensor:
    """Return ``gradients`` (n, ...) with zeros for ``examples``, bool (n,)."""
    return gradients.masked_fill(examples.view(-1, *[1] * (gradients.dim() - 1)), 0)
