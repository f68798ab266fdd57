"""Which methods explain a network here, and how each is asked."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fedlens.errors import ExplanationError
from fedlens.explain import METHODS, Context, compares_with_references
from fedlens.explain.layers import evaluation_mode
from fedlens.randomness import Purpose, generator
from fedlens.review.contract import ReviewError
from fedlens.review.model.subject import Subject

REFERENCES = 100
"""Validation images that a method compares with, where it compares with any."""

_REFERENCE_STREAM = 2  # a round of Purpose.EXPLAIN, which knows no rounds: a stream of its own
_FAMILIES: Mapping[str, str] = {
    "grad-cam": "activation maps",
    "grad-cam++": "activation maps",
    "hires-cam": "activation maps",
    "layer-cam": "activation maps",
    "gradient": "gradients",
    "smoothgrad": "gradients",
    "integrated-gradients": "gradients",
    "expected-gradients": "gradients",
    "exact-shapley": "perturbation",
    "kernel-shap": "perturbation",
    "lime": "perturbation",
    "occlusion": "perturbation",
    "attention-rollout": "attention",
    "attention-relevance": "attention",
}
"""Method -> what it works by. Two of one family agree since they share what they do not see."""

# the first that is of another family than a method is held against its map
_QUICK = ("integrated-gradients", "gradient", "hires-cam", "grad-cam", "occlusion")


class Asking:
    """The arguments of every method for one network.

    Attributes:
        methods: those of the subject's methods that can explain the network, in order.
        refused: method -> the sentence that says why it cannot.
        layer: the convolution that was asked for, where any method of these explains one.
    """

    def __init__(self, subject: Subject) -> None:
        """Try what each method needs of the network; nothing is run.

        Raises:
            ReviewError: there is no such method.
        """
        self._subject = subject
        self.refused: dict[str, str] = {}
        names = tuple(dict.fromkeys(subject.methods))
        for name in names:
            if name not in METHODS:
                raise ReviewError(
                    f"There is no explanation method '{name}'; choose of {', '.join(METHODS)}."
                )
        layered = any(METHODS[name].uses_layer for name in names)
        self.layer = subject.layer if layered else None
        self.methods = tuple(name for name in names if self._able(name, self.refused))
        self._compare = {name for name in names if compares_with_references(name)}
        positions = generator(subject.seed, Purpose.EXPLAIN, round=_REFERENCE_STREAM).choice(
            len(subject.validation), min(REFERENCES, len(subject.validation)), replace=False
        )
        self._positions = np.sort(positions)
        self._references = subject.validation.images[torch.from_numpy(self._positions)]

    def arguments(self, method: str) -> dict[str, Any]:
        """Return what :func:`fedlens.explain.explain` is given beside network, images and target."""
        return {
            "layer": self.layer if METHODS[method].uses_layer else None,
            "seed": self._subject.seed,
            "references": self._references if method in self._compare else None,
        }

    def on_record(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``meta`` of an explanation with where its references are, plain JSON."""
        references = meta["references"]
        if references is not None:
            positions, seed = self._positions.tolist(), self._subject.seed
            where = {"split": "validation", "seed": seed, "positions": positions}
            references = {**references, **where}
        return {**meta, "references": references}

    def second(self, method: str) -> str | None:
        """Return the method whose map is compared with that of ``method``: a quick one.

        It is of another family, and one of those offered if there is such a one.
        """
        offered = [name for name in _QUICK if name in self.methods]
        for name in dict.fromkeys([*offered, *_QUICK]):
            if _FAMILIES[name] != _FAMILIES.get(method) and self._able(name, {}):
                return name
        return None

    def _able(self, method: str, refused: dict[str, str]) -> bool:
        kind, model = METHODS[method], self._subject.model
        layer = self._subject.layer if kind.uses_layer else None
        try:
            with evaluation_mode(model):
                kind(Context(model, layer, references=torch.zeros(1, 1, 1, 1)))
        except ExplanationError as error:
            refused[method] = str(error)
            return False
        return True
