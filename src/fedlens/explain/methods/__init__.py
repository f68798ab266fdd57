"""The methods by name."""

from fedlens.explain.contract import Attributor
from fedlens.explain.methods.cam import GradCam, GradCamPlusPlus, HiResCam, LayerCam
from fedlens.explain.methods.controls import EdgeDetector, RandomMap
from fedlens.explain.methods.gradient import (
    ExpectedGradients,
    Gradient,
    IntegratedGradients,
    SmoothGrad,
)

METHODS: dict[str, type[Attributor]] = {
    "grad-cam": GradCam,
    "grad-cam++": GradCamPlusPlus,
    "hires-cam": HiResCam,
    "layer-cam": LayerCam,
    "gradient": Gradient,
    "smoothgrad": SmoothGrad,
    "integrated-gradients": IntegratedGradients,
    "expected-gradients": ExpectedGradients,
    "random": RandomMap,
    "edges": EdgeDetector,
}
"""Method name -> what binds it to a network; the last two are controls that look at no class."""

__all__ = ["METHODS"]
