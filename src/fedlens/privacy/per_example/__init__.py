"""Per-example clipped gradients for DP-SGD, fast on a CPU."""

from fedlens.privacy.per_example.clipper import ClippedSum, PerExampleClipper

__all__ = ["ClippedSum", "PerExampleClipper"]
