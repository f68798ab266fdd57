"""Attribution methods: why a network decided as it did on an image."""

from fedlens.explain.blind_area import blind_area, blind_light
from fedlens.explain.explanation import Explanation, Record
from fedlens.explain.layers import ExplainableNetwork
from fedlens.explain.methods import METHODS, explain
from fedlens.explain.target import Contrast, Target

__all__ = [
    "METHODS",
    "Contrast",
    "ExplainableNetwork",
    "Explanation",
    "Record",
    "Target",
    "blind_area",
    "blind_light",
    "explain",
]
