"""Parameters with which a method is cheap: for tests that do not depend on the number of samples."""

from typing import Any

FEW: dict[str, dict[str, Any]] = {
    "smoothgrad": {"samples": 4},
    "integrated-gradients": {"panels": 4, "most_steps": 12},
    "expected-gradients": {"samples": 4},
    "exact-shapley": {"across": 2},
    "kernel-shap": {"across": 3, "samples": 40},
    "lime": {"across": 3, "samples": 40},
    "occlusion": {"size": 8, "stride": 6},
}
