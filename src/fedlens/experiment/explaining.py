"""Many decisions of a run explained by one method or several, and the file that keeps their maps."""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fedlens.data import Split
from fedlens.errors import ExplanationError, RunError
from fedlens.experiment.modes import Event, Watcher
from fedlens.experiment.questions import parameters_for
from fedlens.explain import (
    METHODS,
    Context,
    Contrast,
    Explanation,
    compares_with_references,
    parameters_of,
)
from fedlens.explain import explain as explain_batch
from fedlens.files import atomic_writer, without_nan
from fedlens.randomness import Purpose, generator

REFERENCES = 100
"""Training images that a method compares with, where it compares with any."""

_REFERENCE_STREAM = 1  # a round of Purpose.EXPLAIN, which knows no rounds: a stream of its own
_AT_A_TIME = 32
_AT_A_TIME_OF_MANY = 8  # of a method that tries an image many times: the bar is to move
_ONE_AT_A_TIME = ("exact-shapley",)


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked about some images.

    Attributes:
        methods: at least one, each once; the first is the main one.
        target: class number or contrast; None for the predicted class of each image. Beside a method
            that looks at a class, one that looks at none is left without.
        layer: goes to the methods that explain a layer.
        seed: root seed of the methods' draws, at least 0.
        parameters: text by name; each goes to the methods that take it.
        reference_seed: root seed that the references are chosen by: that of the run.
    """

    methods: Sequence[str]
    target: int | Contrast | None = None
    layer: str | None = None
    seed: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)
    reference_seed: int = 0


@dataclass(frozen=True, eq=False)
class Answers:
    """The explanations by method, in the order asked, and what the other methods said instead.

    Attributes:
        explanations: method -> explanation of all images. Where the method compared with training
            images the ``references`` of its ``meta`` also have their split, seed and positions.
        refused: method -> the sentence that says why it cannot explain this network.
    """

    explanations: dict[str, Explanation]
    refused: dict[str, str]


def explain_images(
    model: nn.Module,
    images: Tensor,
    question: Question,
    train: Split,
    *,
    watch: Watcher | None = None,
    strict: bool = True,
) -> Answers:
    """Explain ``images`` by every method of ``question``, some images at a time.

    Args:
        model: network that returns logits (B, L).
        images: uint8 (B, C, H, W), B >= 1.
        question: what is asked.
        train: the training split, which references are chosen from.
        watch: called as the work goes on.
        strict: raise where a method cannot explain; else its sentence is kept in ``refused``.

    Raises:
        ExplanationError: see :func:`fedlens.explain.explain`.
    """
    explanations, refused = dict[str, Explanation](), dict[str, str]()
    total = len(images) * len(question.methods)
    for number, method in enumerate(question.methods):
        before = number * len(images)
        message = f"{method}: {len(images):,} image{'s' if len(images) > 1 else ''}"
        if watch is not None and len(images) > _at_a_time(method):
            watch(Event(before, total, message))
        try:
            parts = []
            given = _arguments(method, question, train)
            for batch in images.split(given["batch_size"]):
                parts.append(explain_batch(model, batch, method, **given))
                if watch is not None:
                    before += len(batch)
                    watch(Event(before, total))
        except ExplanationError as error:
            if strict:
                raise
            refused[method] = str(error)
            continue
        joined = _joined(parts)
        if joined.meta["references"] is not None:
            joined.meta["references"] |= {
                "split": "train",
                "seed": question.reference_seed,
                "positions": reference_positions(len(train), question.reference_seed).tolist(),
            }
        explanations[method] = joined
    return Answers(explanations, refused)


def applicable(model: nn.Module, methods: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return which of ``methods`` the network has what they need for, and why not the others.

    Nothing is run. ``model`` is in evaluation mode; the sentences are by method.
    """
    able, refused = [], {}
    for method in methods:
        try:
            METHODS[method](Context(model, references=torch.zeros(1, 1, 1, 1)))
            able.append(method)
        except ExplanationError as error:
            refused[method] = str(error)
    return able, refused


def reference_positions(images: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the positions of the references among ``images`` training images, int64, in order.

    There are :data:`REFERENCES`, or all images where there are no more. They depend on the root seed
    of the run and the number of images alone.
    """
    draws = generator(seed, Purpose.EXPLAIN, round=_REFERENCE_STREAM)
    return np.sort(draws.choice(images, min(REFERENCES, images), replace=False))


def any_uses_layer(methods: Sequence[str]) -> bool:
    """Tell whether a layer that is chosen concerns any of ``methods``."""
    return any(METHODS[name].uses_layer for name in methods)


def save_maps(
    path: Path,
    explanation: Explanation,
    positions: Sequence[int],
    labels: Tensor,
    about: Mapping[str, Any],
) -> None:
    """Write the maps of B images as a compressed npz without pickled objects, atomically.

    ==================  ================================================================
    key                 content
    ==================  ================================================================
    ``maps``            float32 (B, H, W), signed as the method defines, not normalised
    ``logits``          (B, L) in the precision of the network
    ``indices``         int64 (B,), position of each image in its split
    ``labels``          int64 (B,), or uint8 (B, L) of independent labels; -1 where unknown
    ``predicted``       int64 (B,), class with the largest logit
    ``target``          int64 (B,) the explained class; of a contrast the two numbers (2,); of
                        a method that looks at no class nothing (0,)
    ``degenerate``      bool (B,), the map is all zero or not finite
    ``detail_NAME``     (B,), what the method knows of each map
    ``meta``            text of JSON, 0-d: the explanation's ``meta``, ``about``, and
                        ``explained``: "class", "contrast" or "no class"
    ==================  ================================================================

    Args:
        path: file to write.
        explanation: of B images.
        positions: B of them.
        labels: of these images.
        about: plain JSON values that are to be known of the file.

    Raises:
        RunError: the file cannot be written.
    """
    target = explanation.target
    if target is None:
        explained, wanted = "no class", np.empty(0, dtype=np.int64)
    elif isinstance(target, Contrast):
        explained = "contrast"
        wanted = np.array([target.for_class, target.against_class], dtype=np.int64)
    else:
        explained, wanted = "class", target.numpy()
    meta = without_nan({**explanation.meta, **about, "explained": explained})
    arrays = {
        "maps": explanation.values.numpy(),
        "logits": explanation.logits.numpy(),
        "indices": np.array(positions, dtype=np.int64),
        "labels": labels.numpy(),
        "predicted": explanation.predicted().numpy(),
        "target": wanted,
        "degenerate": explanation.degenerate.numpy(),
        "meta": np.array(json.dumps(meta, allow_nan=False)),
        **{f"detail_{name}": value.numpy() for name, value in explanation.details.items()},
    }
    with atomic_writer(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def check_writable(path: Path) -> None:
    """Raise ``RunError`` where the folder of ``path`` is not there, before hours of work are lost."""
    if not path.parent.is_dir():
        raise RunError(
            f"There is no folder {path.parent} to write {path.name} into; make it first."
        )


def methods_in_words() -> list[tuple[str, str, bool]]:
    """Return of each method its name, one sentence, and whether it looks at a class."""
    rows = []
    for name, kind in METHODS.items():
        first = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
        sentence = re.sub(r"[;:,]? see :func:`[^`]*`", "", first)
        rows.append((name, sentence, kind.class_specific))
    return rows


def _arguments(method: str, question: Question, train: Split) -> dict[str, Any]:
    """Return what ``explain`` is given: of a question to several methods, what concerns this one."""
    kind = METHODS[method]
    any_looks = any(METHODS[name].class_specific for name in question.methods)
    any_layered = any_uses_layer(question.methods)
    # Where a setting concerns no method at all it is passed on, for the method to refuse it.
    parameters = parameters_for(method, question.parameters, question.methods)
    references = None
    if compares_with_references(method, parameters):
        chosen = reference_positions(len(train), question.reference_seed)
        references = train.images[torch.from_numpy(chosen)]
    return {
        "target": question.target if kind.class_specific or not any_looks else None,
        "layer": question.layer if kind.uses_layer or not any_layered else None,
        "seed": question.seed,
        "references": references,
        "batch_size": _at_a_time(method),
        **parameters,
    }


def _at_a_time(method: str) -> int:
    if method in _ONE_AT_A_TIME:
        return 1
    return _AT_A_TIME_OF_MANY if parameters_of(method) else _AT_A_TIME


def _joined(parts: list[Explanation]) -> Explanation:
    first = parts[0]
    targets = [part.target for part in parts if isinstance(part.target, Tensor)]
    return replace(
        first,
        values=torch.cat([part.values for part in parts]),
        logits=torch.cat([part.logits for part in parts]),
        target=torch.cat(targets) if targets else first.target,
        degenerate=torch.cat([part.degenerate for part in parts]),
        images=torch.cat([part.images for part in parts]),
        details={name: torch.cat([part.details[name] for part in parts]) for name in first.details},
    )
