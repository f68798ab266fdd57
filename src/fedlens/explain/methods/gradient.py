"""Gradients with respect to pixels, alone and along paths: four methods.

A pixel's value is the sum over its channels, so that a complete map stays complete.
"""

from collections.abc import Iterator
from functools import cached_property

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

PARTS_BYTES = 256 << 20
"""Memory for the parts of one path: 42,000 panels at 28x28 pixels, 668 at 224x224."""

NODES = 3  # of a panel of a path: an odd number has one in the middle, where the panel may be cut


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

    Sundararajan, Taly and Yan 2017. The path is cut into panels, each integrated by Gauss-Legendre
    quadrature with three nodes. In a network of ReLUs the gradient jumps along the path, and equal
    steps converge slowly; but how far a panel's integral is from the panel's own rise in score is
    known exactly. So, until a map sums to score(x) - score(b) within :data:`COMPLETE`, the panels
    that are furthest off are halved, up to ``most_steps`` gradients an image. Most images need some
    hundred; one whose score hardly rises, where a contrast ends near where it began, needs thousands.
    It ends early where no panel is further off than the network's own rounding, and at
    :data:`PARTS_BYTES`.

    Details: ``completeness_gap``, the map's sum minus score(x) + score(b), in logits; ``steps``, the
    gradients that were taken.
    """

    version = 2  # 1 gave up after 3,000 gradients
    complete = True

    def __init__(
        self,
        context: Context,
        *,
        baseline: str = "black",
        panels: int = 8,
        most_steps: int = 30_000,
    ) -> None:
        """Bind the method.

        Args:
            context: see :class:`Context`.
            baseline: see :func:`fedlens.explain.baselines.baseline_images`.
            panels: equal parts of the path at first, at least 1.
            most_steps: gradients an image at most, at least three a panel.

        Raises:
            ExplanationError: a parameter is out of its range.
        """
        super().__init__(context)
        check_count("panels", panels)
        check_count("most_steps", most_steps)
        check_baseline(baseline)
        if most_steps < NODES * panels:
            raise ExplanationError(
                f"most_steps is {most_steps}, expected at least {NODES} for each of {panels} panels."
            )
        self.baseline = baseline
        self.parameters = {
            "panels": panels,
            "most_steps": most_steps,
            "quadrature": f"Gauss-Legendre, {NODES} nodes a panel, halved where it misses",
            "complete_to": list(COMPLETE),
        }

    def attribute(self, images: Tensor, target: Tensor | Contrast | None) -> Attribution:
        """Return the maps; see :class:`Attributor`."""
        assert self.baseline is not None
        baselines = baseline_images(self.baseline, images, self.context)
        logits = forward_logits(self.context.model, images)
        wanted = resolved(target, logits)
        maps, gaps, steps = [], [], []
        for number in range(len(images)):
            asked = of_rows(wanted, torch.tensor([number]))
            rounding = torch.finfo(logits.dtype).eps * float(logits[number].abs().max())
            path = _Path(self.context, baselines[number], images[number], asked, rounding)
            path.integrate(self.parameters["panels"], self.parameters["most_steps"])
            maps.append(path.map())
            gaps.append(path.missed())
            steps.append(path.steps)
        details = {"completeness_gap": torch.tensor(gaps), "steps": torch.tensor(steps)}
        return Attribution(torch.stack(maps), logits, details)


class _Path:
    """The straight path of one image, cut into panels that are halved where they miss their rise.

    A path holds each panel's part of the map, as it must be taken out of the sum when the panel is
    halved; one half takes the place of the whole, the other one is added at the end.
    """

    def __init__(
        self,
        context: Context,
        start: Tensor,
        end: Tensor,
        target: Tensor | Contrast,
        rounding: float,
    ) -> None:
        self.steps = 0
        self._rounding = rounding
        self._context, self._start, self._way, self._target = context, start, end - start, target
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        self._nodes = torch.from_numpy((nodes + 1) / 2)
        self._weights = torch.from_numpy(weights / 2)

    def integrate(self, panels: int, most_steps: int) -> None:
        """Cut the path into equal panels and halve the worst until their sum is close enough."""
        edges = torch.linspace(0, 1, panels + 1, dtype=torch.float64)
        scores = torch.cat([self._at(part, gradients=False)[1] for part in edges.split(self._rows)])
        self._left, self._right = edges[:-1], edges[1:]
        self._before, self._after = scores[:-1], scores[1:]
        rise = float(scores[-1] - scores[0])
        self._parts, self._middle = self._panels(self._left, self._right)
        self._total = self._parts.sum(0)
        self._residuals = self._missed_by(self._parts, self._before, self._after)
        most = PARTS_BYTES // self._total.nbytes
        tolerance = max(COMPLETE[0] * abs(rise), COMPLETE[1])
        while abs(self.missed()) > tolerance:
            off = self._residuals.abs()
            fit = min((most_steps - self.steps) // (2 * NODES), most - len(off))
            if fit < 1 or float(off.max()) <= 2 * self._rounding:
                break
            worst = off >= off.max() / 2
            if int(worst.sum()) > fit:  # as many as the budget is left for
                worst = torch.zeros_like(worst).index_fill_(0, off.topk(fit).indices, True)
            self._halve(worst.nonzero().flatten())

    def map(self) -> Tensor:
        """Return the sum of the panels' parts, float32 (H, W)."""
        return self._total.float().cpu()

    def missed(self) -> float:
        """Return the sum of the map minus the rise of the score."""
        return float(self._residuals.sum())

    @property
    def _rows(self) -> int:
        return self._context.rows

    @staticmethod
    def _missed_by(parts: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Return (P,): each panel's part of the map, summed up, minus the rise of its score."""
        return parts.sum((1, 2)).cpu() - (after - before)

    def _halve(self, worst: Tensor) -> None:
        """Halve the panels at the positions ``worst``."""
        count, held = len(worst), len(self._left)
        left, right = self._left[worst], self._right[worst]
        before, after = self._before[worst], self._after[worst]
        centre, score = (left + right) / 2, self._middle[worst]
        parts, middle = self._panels(torch.cat((left, centre)), torch.cat((centre, right)))
        missed = self._missed_by(parts, torch.cat((before, score)), torch.cat((score, after)))
        where = worst.to(parts.device)
        self._total += parts.sum(0) - self._parts[where].sum(0)
        if held + count > len(self._parts):  # room to grow: copies would cost more than gradients
            grown = parts.new_empty((2 * held + count, *parts.shape[1:]))
            grown[:held] = self._parts[:held]
            self._parts = grown
        self._parts[where] = parts[:count]
        self._parts[held : held + count] = parts[count:]
        self._left = _replaced(self._left, worst, left, centre)
        self._right = _replaced(self._right, worst, centre, right)
        self._before = _replaced(self._before, worst, before, score)
        self._after = _replaced(self._after, worst, score, after)
        self._middle = _replaced(self._middle, worst, middle[:count], middle[count:])
        self._residuals = _replaced(self._residuals, worst, missed[:count], missed[count:])

    def _panels(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Return each panel's part of the map, float64 (P, H, W), and its middle score, (P,)."""
        width = right - left
        places = left[:, None] + self._nodes * width[:, None]
        found = [self._at(some, gradients=True) for some in places.flatten().split(self._rows)]
        gradients = torch.cat([part[0] for part in found])
        scores = torch.cat([part[1] for part in found]).reshape(-1, NODES)
        self.steps += gradients.shape[0]
        slopes = (gradients * self._way).sum(1).double()
        weights = (width[:, None] * self._weights).to(slopes.device)
        parts = torch.einsum("pn,pnhw->phw", weights, slopes.unflatten(0, (-1, NODES)))
        return parts, scores[:, NODES // 2]  # the middle node is where the panel may be cut

    def _at(self, places: Tensor, *, gradients: bool) -> tuple[Tensor, Tensor]:
        """Return the gradients (or nothing) and float64 scores at ``places`` on the path."""
        way = places.to(self._way.device, self._way.dtype)[:, None, None, None] * self._way
        images = self._start + way
        target = of_rows(self._target, torch.zeros(len(places), dtype=torch.int64))
        if gradients:
            slopes, scores = score_gradients(self._context, images, target)
        else:
            slopes = images
            scores = target_score(forward_logits(self._context.model, images), target)
        return slopes, scores.double().cpu()


def _replaced(values: Tensor, places: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return ``values`` with ``first`` at ``places``, and ``second`` at the end."""
    return torch.cat((values.index_copy(0, places, first), second))


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
        for number, place in self._draws(samples):
            reference = self._references()[number]
            way = images - reference
            gradients, _ = score_gradients(self.context, reference + place * way, wanted)
            total += way * gradients
            at_reference = self._reference_logits[number].expand(len(images), -1)
            expected += target_score(at_reference, wanted)
        values = total / samples
        gap = target_score(logits, wanted).double() - expected / samples
        details = {"completeness_gap": (values.sum((1, 2, 3)) - gap).float().cpu()}
        return Attribution(values.sum(1).float(), logits, details)

    @cached_property
    def _reference_logits(self) -> Tensor:
        """Return the logits of all references, (R, L): the same for every batch."""
        parts = self._references().split(self.context.rows)
        return torch.cat([forward_logits(self.context.model, part) for part in parts])

    def _draws(self, samples: int) -> Iterator[tuple[int, float]]:
        references = self._references()
        generator = self.context.generator()
        order: list[int] = []
        while len(order) < samples:
            order += torch.randperm(len(references), generator=generator).tolist()
        within = torch.rand(samples, generator=generator, dtype=torch.float64)
        strata = torch.randperm(samples, generator=generator)
        places = ((strata + within) / samples).tolist()
        return zip(order[:samples], places, strict=True)

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
