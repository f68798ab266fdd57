"""The methods by name."""

from fedlens.explain.contract import Attributor
from fedlens.explain.methods.attention import AttentionRelevance, AttentionRollout
from fedlens.explain.methods.cam import GradCam, GradCamPlusPlus, HiResCam, LayerCam
from fedlens.explain.methods.controls import EdgeDetector, RandomMap
from fedlens.explain.methods.gradient import (
    ExpectedGradients,
    Gradient,
    IntegratedGradients,
    SmoothGrad,
)
from fedlens.explain.methods.lime import Lime
from fedlens.explain.methods.occlusion import Occlusion
from fedlens.explain.methods.shapley import ExactShapley, KernelShap

METHODS: dict[str, type[Attributor]] = {
    "grad-cam": GradCam,
    "grad-cam++": GradCamPlusPlus,
    "hires-cam": HiResCam,
    "layer-cam": LayerCam,
    "gradient": Gradient,
    "smoothgrad": SmoothGrad,
    "integrated-gradients": IntegratedGradients,
    "expected-gradients": ExpectedGradients,
    "exact-shapley": ExactShapley,
    "kernel-shap": KernelShap,
    "lime": Lime,
    "occlusion": Occlusion,
    "attention-rollout": AttentionRollout,
    "attention-relevance": AttentionRelevance,
    "random": RandomMap,
    "edges": EdgeDetector,
}
"""Method name -> what binds it to a network; the last two are controls that look at no class."""

__all__ = ["METHODS"]
