"""How good a model is on a split: loss, accuracy, F1 and who is taken for whom."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fedlens.files import without_nan
from fedlens.training.losses import default_loss

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The figures of one model on one split; L is the number of classes or labels.

    Attributes:
        task: ``multiclass`` or ``multilabel``.
        examples: number of examples N.
        loss: mean loss per example, in nats.
        accuracy: share of right answers in [0, 1]; for a multi-label task the mean over labels of
            the share of right yes/no answers at probability 0.5.
        macro_f1: unweighted mean of ``f1`` over the classes that have at least one example.
        precision, recall, f1: (L,) in [0, 1]; 0 where undefined.
        class_loss: (L,) mean loss of the examples of each class; NaN where there are none.
        support: (L,) number of examples of each class.
        confusion: int64 (L, L), rows true, columns predicted; None for a multi-label task.
        auc: (L,) area under the ROC curve of each label (NaN where a label is constant or the
            logits are not finite); None for a multiclass task.
    """

    task: str
    examples: int
    loss: float
    accuracy: float
    macro_f1: float
    precision: Floats
    recall: Floats
    f1: Floats
    class_loss: Floats
    support: npt.NDArray[np.int64]
    confusion: npt.NDArray[np.int64] | None
    auc: Floats | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON values; NaN becomes None."""
        return {
            key: without_nan(value.tolist() if isinstance(value, np.ndarray) else value)
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Evaluation":
        """Rebuild what :meth:`to_json` wrote; None becomes NaN.

        Raises:
            KeyError, TypeError, ValueError: a figure is missing, unknown, or of another kind.
        """
        fields = dict(content)
        for key in ("loss", "accuracy", "macro_f1"):
            fields[key] = np.nan if fields[key] is None else float(fields[key])
        for key in ("precision", "recall", "f1", "class_loss", "auc"):
            if fields[key] is not None:
                fields[key] = np.array(
                    [np.nan if value is None else value for value in fields[key]], dtype=np.float64
                )
        for key in ("support", "confusion"):
            if fields[key] is not None:
                fields[key] = np.array(fields[key], dtype=np.int64)
        found = cls(**fields)
        classes = len(found.f1)
        rows = (found.precision, found.recall, found.f1, found.class_loss, found.support)
        square = found.confusion is None or found.confusion.shape == (classes, classes)
        wide = found.auc is None or found.auc.shape == (classes,)
        counted = type(found.examples) is int and (found.support >= 0).all()
        if not (square and wide and counted and all(row.shape == (classes,) for row in rows)):
            raise ValueError("the figures of the classes do not fit each other")
        return found


def evaluate_logits(logits: Tensor, targets: Tensor, *, losses: Tensor | None = None) -> Evaluation:
    """Return the figures of ``logits`` (N, L) against ``targets``.

    Args:
        logits: float (N, L), before softmax (multiclass) or sigmoid (multi-label).
        targets: int64 (N,) class numbers, or uint8 (N, L) labels of 0 and 1.
        losses: float (N,) loss of each example; cross-entropy (or the mean over labels of the
            binary cross-entropy) where not given.
    """
    if losses is None:
        losses = default_loss(logits, targets)
    per_example = losses.double().numpy()
    truth = targets.numpy()
    if targets.dim() == 1:
        return _multiclass(logits, truth, per_example)
    return _multilabel(logits, truth, per_example)


def _multiclass(logits: Tensor, truth: npt.NDArray[Any], losses: Floats) -> Evaluation:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    classes = int(logits.shape[1])
    predicted = logits.argmax(1).numpy()
    labels = np.arange(classes)
    confusion = confusion_matrix(truth, predicted, labels=labels).astype(np.int64)
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, labels=labels, zero_division=0.0
    )
    sums = np.bincount(truth, weights=losses, minlength=classes)
    with np.errstate(invalid="ignore"):
        class_loss = sums / support
    return Evaluation(
        task="multiclass",
        examples=len(truth),
        loss=float(losses.mean()),
        accuracy=float((predicted == truth).mean()),
        macro_f1=float(f1[support > 0].mean()),
        precision=precision,
        recall=recall,
        f1=f1,
        class_loss=class_loss,
        support=support.astype(np.int64),
        confusion=confusion,
        auc=None,
    )


def _multilabel(logits: Tensor, truth: npt.NDArray[Any], losses: Floats) -> Evaluation:
    from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

    scores = logits.numpy()
    predicted = (scores > 0).astype(np.uint8)
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, average=None, zero_division=0.0
    )
    undefined = (truth.min(0) == truth.max(0)) | ~np.isfinite(scores).all(0)
    auc = [
        float("nan") if flat else float(roc_auc_score(truth[:, label], scores[:, label]))
        for label, flat in enumerate(undefined.tolist())
    ]
    with np.errstate(invalid="ignore"):
        class_loss = (truth * losses[:, None]).sum(0) / truth.sum(0)
    return Evaluation(
        task="multilabel",
        examples=len(truth),
        loss=float(losses.mean()),
        accuracy=float((predicted == truth).mean()),
        macro_f1=float(f1[support > 0].mean()) if (support > 0).any() else 0.0,
        precision=precision,
        recall=recall,
        f1=f1,
        class_loss=class_loss,
        support=support.astype(np.int64),
        confusion=None,
        auc=np.array(auc),
    )
