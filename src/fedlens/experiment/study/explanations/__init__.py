"""The study of explanations: what is worked out from the networks that its grid has trained."""

from fedlens.experiment.study.explanations.parts import QUICK, Size, parts_of
from fedlens.experiment.study.explanations.pool import explain_study
from fedlens.experiment.study.explanations.results import gather

__all__ = ["QUICK", "Size", "explain_study", "gather", "parts_of"]
