"""The rows of the tables: each method with the parameters that the study gives it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain import (
    METHODS,
    Explanation,
    Target,
    compares_with_references,
    explain,
    parameters_of,
)

CONTROLS = ("edges", "random")


@dataclass(frozen=True)
class Row:
    """A method as the study uses it.

    Attributes:
        key: what the row is called in tables.
        method: name in :data:`fedlens.explain.METHODS`.
        parameters: those that differ from the method's own.
    """

    key: str
    method: str
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def control(self) -> bool:
        """Return whether the row is a control, which knows nothing of the decision."""
        return self.method in CONTROLS

    @property
    def class_specific(self) -> bool:
        """Return whether the method looks at a class."""
        return METHODS[self.method].class_specific

    @property
    def complete_from(self) -> str | None:
        """Return the baseline whose gap in score its maps sum to; None if it promises none."""
        if not METHODS[self.method].complete:
            return None
        if compares_with_references(self.method, self.parameters):
            return None  # the sum holds only in expectation, or against what the measure lacks
        default: str = parameters_of(self.method)["baseline"]
        baseline: str = self.parameters.get("baseline", default)
        return baseline

    @property
    def names_parts(self) -> bool:
        """Return whether it may be asked which part of a garment decides.

        Its maps must be of what a pixel is worth for one answer against another, at least as fine as
        a collar is wide, and give a dark part its due: against black a sleeve that is missing is
        worth nothing by construction.
        """
        return self.key in NAMES_PARTS

    @property
    def stochastic(self) -> bool:
        """Return whether the maps depend on the seed."""
        return METHODS[self.method].stochastic

    def explain(
        self,
        model: nn.Module,
        images: Tensor,
        target: Target,
        references: Tensor,
        *,
        seed: int = 0,
    ) -> Explanation:
        """Return the row's maps; a method that looks at no class is not asked about one."""
        return explain(
            model,
            images,
            self.method,
            target=target if self.class_specific else None,
            references=references,
            seed=seed,
            **self.parameters,
        )


NAMES_PARTS = (
    "integrated-gradients, blurred", "expected-gradients", "kernel-shap, blurred",
    "occlusion, blurred", "attention-relevance",
)  # fmt: skip

ROWS = (
    Row("grad-cam", "grad-cam"),
    Row("grad-cam++", "grad-cam++"),
    Row("hires-cam", "hires-cam"),
    Row("layer-cam", "layer-cam"),
    Row("gradient", "gradient"),
    Row("smoothgrad", "smoothgrad"),
    Row("integrated-gradients", "integrated-gradients"),
    Row("integrated-gradients, blurred", "integrated-gradients", {"baseline": "blurred"}),
    Row("expected-gradients", "expected-gradients", {"samples": 100}),
    Row("exact-shapley, 9 patches", "exact-shapley", {"across": 3}),
    Row("kernel-shap", "kernel-shap"),
    Row("kernel-shap, blurred", "kernel-shap", {"baseline": "blurred"}),
    Row("lime", "lime"),
    Row("occlusion", "occlusion"),
    Row("occlusion, blurred", "occlusion", {"baseline": "blurred"}),
    Row("attention-rollout", "attention-rollout"),
    Row("attention-relevance", "attention-relevance"),
    Row("edges", "edges"),
    Row("random", "random"),
)
"""All methods, at the budgets that the study gives them; the controls last."""

SHORT = (
    "grad-cam", "layer-cam", "gradient", "smoothgrad", "integrated-gradients", "expected-gradients",
    "occlusion", "kernel-shap", "attention-rollout", "attention-relevance", "edges", "random",
)  # fmt: skip
"""The rows of the shorter comparisons."""


def rows_for(
    model: nn.Module, image: Tensor, references: Tensor, keys: Sequence[str] = ()
) -> list[Row]:
    """Return the rows that can explain ``model``: those whose methods do not refuse it.

    Args:
        model: the network.
        image: uint8 (1, C, H, W), to try them on.
        references: other images.
        keys: only these; all without any.
    """
    usable = []
    for row in ROWS:
        if keys and row.key not in keys:
            continue
        kind = METHODS[row.method]
        if kind.needs_attention or kind.uses_layer:  # the others take any network
            try:
                row.explain(model, image, None, references)
            except ExplanationError:
                continue
        usable.append(row)
    return usable
