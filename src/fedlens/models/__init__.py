"""Networks, and their parameters as one flat vector."""

from fedlens.models.registry import MODELS, build_model
from fedlens.models.scatter import FixedFeatureNetwork
from fedlens.models.vector import FlatParameters, get_vector, has_batch_norm, set_vector

__all__ = [
    "MODELS",
    "FixedFeatureNetwork",
    "FlatParameters",
    "build_model",
    "get_vector",
    "has_batch_norm",
    "set_vector",
]
