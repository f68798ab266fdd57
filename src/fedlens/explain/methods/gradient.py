"""Gradients with respect to pixels, alone and along paths: four methods.

A pixel's value is the sum over its channels, so that a complete map stays complete.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from fedlens.errors import ExplanationError
from fedlens.explain.baselines import baseline_images, check_baseline
from fedlens.explain.contract import Attribution, Attributor, Context
from fedlens.explain.layers import forward_logits
from fedlens.explain.target import Contrast, of_rows, resolved, target_score

COMPLETE = (1e-3, 1e-4)
"""A path is fine enough when its map misses the gap in score by less than the larger of these: a
share of the gap, and logits."""


class Gradient(Attributor):
    """The gradient of the score with respect to each pixel: Simonyan et al. 2014, signed."""

    def attribute(self, images: Tensor, target: Tensor | Contrast | None) -> Attribution:
        """Return the gradients; see :class:`Attributor`."""
        images = images.detach().requires_grad_()
        with torch.enable_grad():
            logits = forward_logits(self.context.model, images)
            score = target_score(logits, target).sum()
        return Attribution(_gradient(score, images).sum(1).float(), logits.detach())


class SmoothGrad(Attributor):
    """The mean gradient over noisy copies of the image: Smilkov et al. 2017.

    The noise is normal with a deviation of ``noise`` times the range of a pixel; each image gets the
    same draws. The class, where none is asked for, is the one that is predicted without noise.
    """

    stochastic = True

    def __init__(self, context: Context, *, samples: int = 32, noise: float = 0.15) -> None:
        """Bind the method.

        Args:
            context: see :class:`Context`.
            samples: noisy copies, at least 1.
            noise: deviation of the noise over the range of a pixel, above 0.

        Raises:
            ExplanationError: a parameter is out of its range.
        """
        super().__init__(context)
        check_count("samples", samples)
        if not 0 < noise < float("inf"):
            raise ExplanationError(f"noise is {noise}, expected a number above 0.")
        self.parameters = {"samples": samples, "noise": noise}

    def attribute(self, images: Tensor, target: Tensor | Contrast | None) -> Attribution:
        """Return the mean gradients; see :class:`Attributor`."""
        logits = forward_logits(self.context.model, images)
        wanted = resolved(target, logits)
        deviation = self.parameters["noise"] * (self.context.high - self.context.low)
        generator, shape = self.context.generator(), (1, *images.shape[1:])
        total = torch.zeros_like(images)
        samples = self.parameters["samples"]
        for _ in range(samples):
            draw = torch.randn(shape, generator=generator).to(images.device, images.dtype)
            gradients, _ = score_gradients(self.context, images + deviation * draw, wanted)
            total += gradients
        return Attribution((total / samples).sum(1).float(), logits)


class IntegratedGradients(Attributor):
    """(x - b) times the mean gradient on the straight path from the baseline b to the image x.

    Sundararajan, Taly and Yan 2017. The integral is taken by Gauss-Legendre quadrature; an image
    whose map does not sum to score(x) - score(b) within :data:`COMPLETE` is done again with twice
    the steps, until it does or ``most_steps`` are reached. (Where an image lies on the border of that
    bar, rounding may decide differently in another batch; both maps are then within it.)

    Details: ``completeness_gap``, the map's sum minus score(x) + score(b), in logits; ``steps``.
    """

    complete = True

    def __init__(
        self,
        context: Context,
        *,
        baseline: str = "black",
        steps: int = 32,
        most_steps: int = 512,
    ) -> None:
        """Bind the method.

        Args:
            context: see :class:`Context`.
            baseline: see :func:`fedlens.explain.baselines.baseline_images`.
            steps: points of the path at first, at least 1.
            most_steps: points of the path at most.

        Raises:
            ExplanationError: a parameter is out of its range.
        """
        super().__init__(context)
        check_count("steps", steps)
        check_baseline(baseline)
        if most_steps < steps:
            raise ExplanationError(
                f"most_steps is {most_steps}, expected at least steps, which is {steps}."
            )
        self.baseline = baseline
        self.parameters = {
            "steps": steps,
            "most_steps": most_steps,
            "quadrature": "Gauss-Legendre",
            "complete_to": list(COMPLETE),
        }

    def attribute(self, images: Tensor, target: Tensor | Contrast | None) -> Attribution:
        """Return the maps; see :class:`Attributor`."""
        assert self.baseline is not None
        model = self.context.model
        baselines = baseline_images(self.baseline, images, self.context)
        logits = forward_logits(model, images)
        wanted = resolved(target, logits)
        before = target_score(forward_logits(model, baselines), wanted)
        gap = (target_score(logits, wanted) - before).double()
        values = torch.zeros_like(images)
        missed = torch.full_like(gap, float("inf"))
        steps = torch.zeros(len(images), dtype=torch.int64)
        count = self.parameters["steps"]
        waiting = torch.arange(len(images), device=images.device)
        while len(waiting) > 0:
            found = self._along(
                images[waiting], baselines[waiting], of_rows(wanted, waiting), count
            )
            values[waiting] = found
            missed[waiting] = found.double().sum((1, 2, 3)) - gap[waiting]
            steps[waiting.cpu()] = count
            tolerance = (COMPLETE[0] * gap[waiting].abs()).clamp_min(COMPLETE[1])
            count *= 2
            if count > self.parameters["most_steps"]:
                break
            waiting = waiting[missed[waiting].abs() > tolerance]
        details = {"completeness_gap": missed.float().cpu(), "steps": steps}
        return Attribution(values.sum(1).float(), logits, details)

    def _along(
        self, images: Tensor, baselines: Tensor, target: Tensor | Contrast, steps: int
    ) -> Tensor:
        """Return (x - b) times the integral over [0, 1] of the gradient at b + t (x - b)."""
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        way = images - baselines
        total = torch.zeros_like(images, dtype=torch.float64)
        for place, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            gradients, _ = score_gradients(self.context, baselines + place * way, target)
            total += weight * gradients
        return (way * total).to(images.dtype)


class ExpectedGradients(Attributor):
    """Integrated gradients averaged over baselines drawn from the references.

    Erion et al. 2021 (and ``GradientExplainer`` of SHAP): the mean over samples of (x - r) times the
    gradient at r + t (x - r), with a reference r and a t in [0, 1). References are drawn without
    repetition as long as there are enough; the t are stratified: one in each of ``samples`` equal
    parts of [0, 1). Each image gets the same draws. In expectation a map sums to score(x) minus the
    mean score of the references.

    Details: ``completeness_gap``, the map's sum minus score(x) + mean score of the references that
    were drawn, in logits.
    """

    complete = True  # in expectation
    stochastic = True
    needs_references = True

    def __init__(self, context: Context, *, samples: int = 200) -> None:
        """Bind the method.

        Args:
            context: see :class:`Context`; it must hold references.
            samples: pairs of a reference and a place on the path, at least 1.

        Raises:
            ExplanationError: a parameter is out of its range.
        """
        super().__init__(context)
        check_count("samples", samples)
        self.baseline = "references"
        self.parameters = {"samples": samples, "references": len(self._references())}

    def attribute(self, images: Tensor, target: Tensor | Contrast | None) -> Attribution:
        """Return the maps; see :class:`Attributor`."""
        logits = forward_logits(self.context.model, images)
        wanted = resolved(target, logits)
        total = torch.zeros_like(images, dtype=torch.float64)
        expected = torch.zeros(len(images), dtype=torch.float64, device=images.device)
        samples = self.parameters["samples"]
        for reference, place in self._draws(samples):
            way = images - reference
            gradients, _ = score_gradients(self.context, reference + place * way, wanted)
            total += way * gradients
            at_reference = forward_logits(self.context.model, reference[None])
            expected += target_score(at_reference.expand(len(images), -1), wanted)
        values = total / samples
        gap = target_score(logits, wanted).double() - expected / samples
        details = {"completeness_gap": (values.sum((1, 2, 3)) - gap).float().cpu()}
        return Attribution(values.sum(1).float(), logits, details)

    def _draws(self, samples: int) -> Iterator[tuple[Tensor, float]]:
        references = self._references()
        generator = self.context.generator()
        order: list[int] = []
        while len(order) < samples:
            order += torch.randperm(len(references), generator=generator).tolist()
        within = torch.rand(samples, generator=generator, dtype=torch.float64)
        strata = torch.randperm(samples, generator=generator)
        places = ((strata + within) / samples).tolist()
        for number, place in zip(order[:samples], places, strict=True):
            yield references[number], place

    def _references(self) -> Tensor:
        assert self.context.references is not None
        return self.context.references


def score_gradients(
    context: Context, images: Tensor, target: Tensor | Contrast
) -> tuple[Tensor, Tensor]:
    """Return the gradient of each image's score, (B, C, H, W), and the scores, (B,)."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        scores = target_score(forward_logits(context.model, images), target)
        total = scores.sum()
    return _gradient(total, images), scores.detach()


def check_count(name: str, count: int) -> None:
    """Raise ``ExplanationError`` where ``count`` is not a whole number from 1."""
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ExplanationError(f"{name} is {count!r}, expected a whole number from 1.")


def _gradient(score: Tensor, images: Tensor) -> Tensor:
    """Return the gradient of ``score``, zero where it does not depend on the images."""
    gradient = None
    if score.requires_grad:
        (gradient,) = torch.autograd.grad(score, images, allow_unused=True)
    return torch.zeros_like(images) if gradient is None else gradient
