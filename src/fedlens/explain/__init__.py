"""Attribution methods: why a network decided as it did on an image."""

from fedlens.explain.blind_area import blind_area, blind_light
from fedlens.explain.contract import Attribution, Attributor, Context
from fedlens.explain.explaining import compares_with_references, explain, parameters_of
from fedlens.explain.explanation import Explanation, Record
from fedlens.explain.layers import ExplainableNetwork
from fedlens.explain.methods import METHODS
from fedlens.explain.target import Contrast, Target

__all__ = [
    "METHODS",
    "Attribution",
    "Attributor",
    "Context",
    "Contrast",
    "ExplainableNetwork",
    "Explanation",
    "Record",
    "Target",
    "blind_area",
    "blind_light",
    "compares_with_references",
    "explain",
    "parameters_of",
]
