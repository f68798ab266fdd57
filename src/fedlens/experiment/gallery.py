"""Which decisions of a trained model are worth explaining, and their explanations."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fedlens.data import ImageDataset, Split
from fedlens.explain import explain
from fedlens.report.content import Case, GalleryGroup
from fedlens.training.prediction import predict

Chosen = npt.NDArray[np.int64]
PAIR = ("Shirt", "T-shirt/top")  # the study's critical pair


def build_gallery(
    model: nn.Module, dataset: ImageDataset, *, method: str, layer: str | None, cases: int
) -> list[GalleryGroup]:
    """Return typical hits, the most confident mistakes, and a pair's mutual errors, explained.

    The pair is Shirt and T-shirt/top where the image set has them, else the two classes that are
    most often taken for each other. All cases come from the test split.

    Args:
        model: a trained classifier.
        dataset: the image set it was trained on.
        method: name of the attribution method.
        layer: layer to explain, or None for the method's default.
        cases: most cases in a group.
    """
    test = dataset.test
    logits = predict(model, test.images)

    def group(title: str, sentence: str, chosen: Chosen) -> GalleryGroup:
        rows = explain_cases(model, dataset, test, chosen, method=method, layer=layer)
        return GalleryGroup(title, sentence, rows)

    if dataset.task == "multilabel":
        return _multilabel_groups(logits, test.labels, cases, group)
    confidence = logits.softmax(1).amax(1).numpy()
    predicted = logits.argmax(1).numpy()
    truth = test.labels.numpy()
    groups = [
        group(
            "Typical hits",
            "Right answers of middling confidence for their class.",
            _typical(confidence, predicted, truth, cases),
        ),
        group(
            "The most confident mistakes",
            "Wrong answers that the model was surest of.",
            _surest(confidence, np.flatnonzero(predicted != truth), cases),
        ),
    ]
    first, second = _pair(predicted, truth, dataset)
    for true, taken in ((first, second), (second, first)):
        wrong = np.flatnonzero((truth == true) & (predicted == taken))
        names = dataset.class_names
        groups.append(
            group(
                f"{names[true]} taken for {names[taken]}",
                f"{len(wrong)} of {int((truth == true).sum()):,} test images of {names[true]}; the "
                "surest first.",
                _surest(confidence, wrong, cases),
            )
        )
    return [g for g in groups if g.cases]


def explain_cases(
    model: nn.Module,
    dataset: ImageDataset,
    split: Split,
    chosen: Chosen,
    *,
    method: str,
    layer: str | None,
    target: int | None = None,
) -> list[Case]:
    """Explain the images at the positions ``chosen`` of ``split``, for their predicted class.

    Args:
        target: class to explain in place of the predicted one.

    Raises:
        ExplanationError: see :func:`fedlens.explain`.
    """
    if len(chosen) == 0:
        return []
    images = split.images[torch.from_numpy(chosen)]
    explanation = explain(model, images, method, target=target, layer=layer)
    multilabel = dataset.task == "multilabel"
    cases = []
    for row, index in enumerate(chosen.tolist()):
        record = explanation.record(row, dataset.class_names, multilabel=multilabel)
        label = split.labels[index]
        cases.append(
            Case(
                index=index,
                image=plain_image(images[row]),
                heatmap=record.heatmap.numpy(),
                true_class=_truth(label, dataset),
                predicted_class=record.predicted_class,
                confidence=record.confidence,
                layer=str(explanation.meta.get("layer")),
                degenerate=record.degenerate,
                explained="" if target is None else record.explained,
            )
        )
    return cases


def plain_image(image: Tensor) -> npt.NDArray[np.uint8]:
    """Return uint8 (C, H, W) as (H, W) for one channel or (H, W, 3) for three."""
    pixels: npt.NDArray[np.uint8] = image.permute(1, 2, 0).numpy()
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def _typical(confidence: npt.NDArray[Any], predicted: Chosen, truth: Chosen, cases: int) -> Chosen:
    hit = np.unique(truth[predicted == truth])
    spread = np.linspace(0, len(hit) - 1, min(cases, len(hit))).round().astype(int)
    chosen = []
    for label in hit[spread]:
        hits = np.flatnonzero((truth == label) & (predicted == label))
        chosen.append(hits[np.argsort(confidence[hits], kind="stable")[len(hits) // 2]])
    return np.array(chosen, dtype=np.int64)


def _surest(confidence: npt.NDArray[Any], candidates: Chosen, cases: int) -> Chosen:
    return candidates[np.argsort(-confidence[candidates], kind="stable")[:cases]]


def _pair(predicted: Chosen, truth: Chosen, dataset: ImageDataset) -> tuple[int, int]:
    names = dataset.class_names
    if all(name in names for name in PAIR):
        return names.index(PAIR[0]), names.index(PAIR[1])
    errors = np.zeros((dataset.classes, dataset.classes), dtype=np.int64)
    np.add.at(errors, (truth, predicted), 1)
    mutual = np.triu(errors + errors.T, k=1)
    first, second = np.unravel_index(int(mutual.argmax()), mutual.shape)
    return int(first), int(second)


def _multilabel_groups(
    logits: Tensor, labels: Tensor, cases: int, group: Callable[[str, str, Chosen], GalleryGroup]
) -> list[GalleryGroup]:
    top = logits.argmax(1)
    confidence = logits.amax(1).sigmoid().numpy()
    right = labels.gather(1, top[:, None])[:, 0].numpy() == 1
    groups = [
        group(
            "Highest-ranked label present",
            "The label that the model gives the highest probability is among the true ones.",
            _surest(confidence, np.flatnonzero(right), cases),
        ),
        group(
            "Highest-ranked label absent",
            "The label that the model gives the highest probability is not among the true ones. "
            "Below 50 % the model does not claim it.",
            _surest(confidence, np.flatnonzero(~right), cases),
        ),
    ]
    return [g for g in groups if g.cases]


def _truth(label: Tensor, dataset: ImageDataset) -> str:
    if label.dim() == 0:
        return dataset.class_names[int(label)] if label >= 0 else "unknown"
    present = [name for name, on in zip(dataset.class_names, label.tolist(), strict=True) if on]
    return ", ".join(present) or "none"
