"""The local step loop, recipes and evaluation metrics."""

from fedlens.training.evaluation import Evaluation, evaluate_logits
from fedlens.training.local import LocalTraining
from fedlens.training.losses import Loss, default_loss
from fedlens.training.prediction import predict

__all__ = ["Evaluation", "LocalTraining", "Loss", "default_loss", "evaluate_logits", "predict"]
