"""Whether a map depends on what the network has learned: Adebayo et al. 2018.

A method that returns the same map for a network with random weights shows the image, not the
decision. What is randomised is a copy; the network is left as it was.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.metrics.agreement import spearman
from fedlens.explain.metrics.checks import check_choice, check_maps
from fedlens.explain.metrics.complexity import histogram_entropy

WEIGHTS = ("normal", "permuted")
"""The names of ways to draw new weights: see :func:`randomise`."""

SPREAD = 0.1
"""Deviation that replaces the one of a constant tensor, over its value or 1, whichever is larger."""


@dataclass(frozen=True, eq=False)
class Randomisation:
    """How alike the maps stay while the network is randomised from its outputs down.

    Attributes:
        groups: names of the G modules in the order in which their parameters were randomised, each
            on top of those before it; "" is the network itself.
        similarity: float64 (G, B), Spearman correlation of the magnitudes of the map after each step
            with those of the map before any; in [-1, 1]; lower is better. NaN where one of the two
            is flat or not finite.
    """

    groups: tuple[str, ...]
    similarity: Tensor

    def mean(self) -> Tensor:
        """Return the mean over the steps that have a figure, float64 (B,); lower is better.

        NaN where no step has one. Read it next to :meth:`unknown`: a method that goes blank on a
        random network has few figures.
        """
        return self.similarity.nanmean(0)

    def unknown(self) -> Tensor:
        """Return the number of steps without a figure, int64 (B,)."""
        return self.similarity.isnan().sum(0)


def parameter_randomisation(
    model: nn.Module,
    explain_fn: Callable[[nn.Module], Tensor],
    *,
    generator: torch.Generator,
    weights: str = "normal",
) -> Randomisation:
    """Return how alike the maps stay under cascading randomisation (MPRT), lower is better.

    The parameters of one module after the other get new values, the last registered first. Buffers,
    such as running means, stay.

    Args:
        model: the network; the modules must be registered in the order of its forward pass.
        explain_fn: returns the maps (B, H, W) of a network like ``model``, of the same images each
            time, and of the class that ``model`` itself predicts: it must hold that. It should cut
            off pixels that the network cannot see; see :mod:`fedlens.explain.metrics.agreement`.
        generator: CPU generator of the new weights.
        weights: see :func:`randomise`.

    Raises:
        ExplanationError: the network has no parameters, or one that cannot be drawn anew.
    """
    changed, groups = _copy_and_groups(model)
    before = _magnitudes(explain_fn(changed))
    similarity = []
    for names in groups.values():
        randomise(changed, names, generator=generator, weights=weights)
        similarity.append(spearman(before, _magnitudes(explain_fn(changed))).cpu())
    return Randomisation(tuple(groups), torch.stack(similarity))


def efficient_randomisation(
    model: nn.Module,
    explain_fn: Callable[[nn.Module], Tensor],
    *,
    generator: torch.Generator,
    weights: str = "normal",
    bins: int = 100,
) -> Tensor:
    """Return how much the entropy of the maps rises in a random network (eMPRT), float64 (B,).

    Hedstroem et al. 2024: (H(random) - H(original)) / H(original), without a unit, at least -1;
    higher is better. H is the entropy of a histogram of the signed map; see
    :func:`fedlens.explain.metrics.histogram_entropy`. NaN where the original map is flat or one of
    the two is not finite.

    Args:
        model, explain_fn, generator, weights: see :func:`parameter_randomisation`.
        bins: of the histogram, at least 2.

    Raises:
        ExplanationError: as for :func:`parameter_randomisation`.
    """
    changed, groups = _copy_and_groups(model)
    before = histogram_entropy(explain_fn(changed), bins)
    for names in groups.values():
        randomise(changed, names, generator=generator, weights=weights)
    after = histogram_entropy(explain_fn(changed), bins)
    if after.shape != before.shape:
        raise ExplanationError(
            f"explain_fn returned {len(before)} maps and then {len(after)}, expected as many."
        )
    return torch.where(before > 0, (after - before) / before, torch.nan)


def randomise(
    model: nn.Module, names: list[str], *, generator: torch.Generator, weights: str = "normal"
) -> None:
    """Give the named parameters of ``model`` new values, in place.

    "normal" draws from a normal distribution with the mean and deviation of the tensor; "permuted"
    shuffles its values. A tensor of equal values (biases of 0, weights of 1 of a norm) gets normal
    draws around its value, with a deviation of :data:`SPREAD` of it or of 1.

    Parameters are taken one by one, and not by way of ``reset_parameters``, which leaves out
    whatever a module keeps beside its layers (the weights within attention, position embeddings) and
    sets norms to what they may already be.

    Args:
        model: it is changed.
        names: of its parameters.
        generator: CPU generator.
        weights: "normal" or "permuted".

    Raises:
        ExplanationError: a parameter is not finite, or did not change.
    """
    check_choice("weights", weights, WEIGHTS)
    parameters = dict(model.named_parameters())
    for name in names:
        parameter = parameters[name]
        old = parameter.detach().double().cpu()
        if not bool(torch.isfinite(old).all()):
            raise ExplanationError(f"The weights '{name}' of the network hold NaN or infinity.")
        mean = float(old.mean())
        spread = float(old.std(correction=0))
        constant = bool((old == old.flatten()[0]).all())
        if weights == "permuted" and not constant:
            order = torch.randperm(old.numel(), generator=generator)
            while torch.equal(old.flatten()[order], old.flatten()):
                order = torch.randperm(old.numel(), generator=generator)
            new = old.flatten()[order].reshape(old.shape)
        else:
            deviation = SPREAD * max(1.0, abs(mean)) if constant else spread
            draw = torch.randn(old.shape, generator=generator, dtype=torch.float64)
            new = mean + deviation * draw
        with torch.no_grad():
            parameter.copy_(new)
        if torch.equal(parameter.detach().double().cpu(), old):
            raise ExplanationError(f"The weights '{name}' of the network could not be randomised.")


def _copy_and_groups(model: nn.Module) -> tuple[nn.Module, dict[str, list[str]]]:
    """Return a copy of ``model``, and module name -> its own parameters, the last module first."""
    groups: dict[str, list[str]] = {}
    for name, parameter in model.named_parameters():
        if parameter.numel() > 0:
            groups.setdefault(name.rpartition(".")[0], []).append(name)
    if not groups:
        raise ExplanationError("The network has no parameters to randomise.")
    changed = copy.deepcopy(model)
    return changed, dict(reversed(groups.items()))


def _magnitudes(maps: Tensor) -> Tensor:
    check_maps(maps, what="maps that explain_fn returned")
    return maps.detach().abs()
