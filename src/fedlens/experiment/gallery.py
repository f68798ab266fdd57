"""Which decisions of a trained model are worth explaining, and their explanations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fedlens.data import ImageDataset, Split
from fedlens.experiment.explaining import Question, any_uses_layer, explain_images
from fedlens.explain import Explanation
from fedlens.report.content import NO_CLASS, Case, FurtherMap, GalleryGroup
from fedlens.training.prediction import predict

Chosen = npt.NDArray[np.int64]
PAIR = ("Shirt", "T-shirt/top")  # the study's critical pair


@dataclass(frozen=True, eq=False)
class Gallery:
    """Explained decisions, group by group.

    Attributes:
        groups: those that have a case.
        methods: that made the maps, the main one first; none where there is no group.
        references: methods that compared the images with training images.
        refused: method -> the sentence that says why it cannot explain this network.
    """

    groups: list[GalleryGroup]
    methods: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Choice:
    """A group before it is explained."""

    title: str
    sentence: str
    chosen: Chosen


def build_gallery(
    model: nn.Module,
    dataset: ImageDataset,
    *,
    methods: Sequence[str],
    layer: str | None,
    cases: int,
    seed: int = 0,
) -> Gallery:
    """Return typical hits, the most confident mistakes, and a pair's mutual errors, explained.

    The pair is Shirt and T-shirt/top where the image set has them, else the two classes that are
    most often taken for each other. All cases come from the test split.

    Args:
        model: a trained classifier.
        dataset: the image set it was trained on.
        methods: names of attribution methods, the main one first; one that cannot explain the
            network is left out, and the next becomes the main one.
        layer: layer to explain by the methods that explain one, or None for the last convolution.
        cases: most cases in a group.
        seed: root seed of the methods' draws and of the choice of training images that some
            compare with.
    """
    choices = _choices(predict(model, dataset.test.images), dataset, cases)
    every = np.unique(np.concatenate([choice.chosen for choice in choices]))
    if len(every) == 0:
        return Gallery([])
    layer = layer if any_uses_layer(methods) else None
    question = Question(methods, layer=layer, seed=seed, reference_seed=seed)
    images = dataset.test.images[torch.from_numpy(every)]
    answers = explain_images(model, images, question, dataset.train, strict=False)
    explanations = answers.explanations
    if not explanations:
        return Gallery([], refused=answers.refused)
    made = dict(
        zip(every.tolist(), build_cases(explanations, dataset, dataset.test, every), strict=True)
    )
    groups = [
        GalleryGroup(
            choice.title, choice.sentence, [made[index] for index in choice.chosen.tolist()]
        )
        for choice in choices
        if len(choice.chosen) > 0
    ]
    compared = [name for name, one in explanations.items() if one.meta["references"]]
    return Gallery(groups, list(explanations), compared, answers.refused)


def _choices(logits: Tensor, dataset: ImageDataset, cases: int) -> list[_Choice]:
    test = dataset.test
    if dataset.task == "multilabel":
        return _multilabel_choices(logits, test.labels, cases)
    confidence = logits.softmax(1).amax(1).numpy()
    predicted = logits.argmax(1).numpy()
    truth = test.labels.numpy()
    choices = [
        _Choice(
            "Typical hits",
            "Right answers of middling confidence for their class.",
            _typical(confidence, predicted, truth, cases),
        ),
        _Choice(
            "The most confident mistakes",
            "Wrong answers that the model was surest of.",
            _surest(confidence, np.flatnonzero(predicted != truth), cases),
        ),
    ]
    pair = _pair(predicted, truth, dataset)
    for true, taken in () if pair is None else (pair, pair[::-1]):
        wrong = np.flatnonzero((truth == true) & (predicted == taken))
        names = dataset.class_names
        choices.append(
            _Choice(
                f"{names[true]} taken for {names[taken]}",
                f"{len(wrong)} of {int((truth == true).sum()):,} test images of {names[true]}; the "
                "surest first.",
                _surest(confidence, wrong, cases),
            )
        )
    return choices


def build_cases(
    explanations: Mapping[str, Explanation],
    dataset: ImageDataset,
    split: Split,
    chosen: Chosen,
    *,
    asked: bool = False,
) -> list[Case]:
    """Return one case for each image; the first method makes the main map.

    Args:
        explanations: at least one, method -> explanation of the images at ``chosen``, in order.
        dataset: names the classes.
        split: of these images.
        chosen: their positions.
        asked: a class or contrast was asked for, which the cases then name.
    """
    main, *others = explanations
    multilabel = dataset.task == "multilabel"
    cases = []
    for row, index in enumerate(chosen.tolist()):
        explanation = explanations[main]
        record = explanation.record(row, dataset.class_names, multilabel=multilabel)
        cases.append(
            Case(
                index=index,
                image=plain_image(record.image),
                heatmap=record.heatmap.numpy(),
                true_class=_truth(split.labels[index], dataset),
                predicted_class=record.predicted_class,
                confidence=record.confidence,
                layer=record.layer or "",
                degenerate=record.degenerate,
                explained=_explained(explanation, row, dataset, asked),
                method=main,
                signed=explanation.meta["signed"],
                further=[
                    FurtherMap(
                        method=name,
                        heatmap=explanations[name].values[row].numpy(),
                        layer=explanations[name].meta["layer"] or "",
                        explained=_explained(explanations[name], row, dataset, asked),
                        degenerate=bool(explanations[name].degenerate[row]),
                        signed=explanations[name].meta["signed"],
                    )
                    for name in others
                ],
            )
        )
    return cases


def _explained(explanation: Explanation, row: int, dataset: ImageDataset, asked: bool) -> str:
    if explanation.target is None:
        return NO_CLASS
    return explanation.record(row, dataset.class_names).explained if asked else ""


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


def _pair(predicted: Chosen, truth: Chosen, dataset: ImageDataset) -> tuple[int, int] | None:
    """Return the two classes that are taken for each other most; None where none is."""
    names = dataset.class_names
    if all(name in names for name in PAIR):
        return names.index(PAIR[0]), names.index(PAIR[1])
    errors = np.zeros((dataset.classes, dataset.classes), dtype=np.int64)
    np.add.at(errors, (truth, predicted), 1)
    mutual = np.triu(errors + errors.T, k=1)
    if not mutual.any():
        return None
    first, second = np.unravel_index(int(mutual.argmax()), mutual.shape)
    return int(first), int(second)


def _multilabel_choices(logits: Tensor, labels: Tensor, cases: int) -> list[_Choice]:
    top = logits.argmax(1)
    confidence = logits.amax(1).sigmoid().numpy()
    right = labels.gather(1, top[:, None])[:, 0].numpy() == 1
    return [
        _Choice(
            "Highest-ranked label present",
            "The label that the model gives the highest probability is among the true ones.",
            _surest(confidence, np.flatnonzero(right), cases),
        ),
        _Choice(
            "Highest-ranked label absent",
            "The label that the model gives the highest probability is not among the true ones. "
            "Below 50 % the model does not claim it.",
            _surest(confidence, np.flatnonzero(~right), cases),
        ),
    ]


def _truth(label: Tensor, dataset: ImageDataset) -> str:
    if label.dim() == 0:
        return dataset.class_names[int(label)] if label >= 0 else "unknown"
    present = [name for name, on in zip(dataset.class_names, label.tolist(), strict=True) if on]
    return ", ".join(present) or "none"
