"""What is recorded of a round, and how it is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from fedlens.training.evaluation import Evaluation


@dataclass(frozen=True)
class ClientRecord:
    """One client in one round.

    Attributes:
        client: client number.
        examples: its training examples.
        steps: optimiser steps.
        seconds: wall-clock time of its work.
        train_loss, train_accuracy: over its last local epoch, while its weights moved.
        loss, accuracy: of the *new global model* on the validation set, re-weighted to this
            client's own label mix; None where there is no such measure, and under privacy, which
            does not cover label mixes.
        update_norm: Euclidean norm of its update, ||y_k - x||.
        cosine_to_mean: cosine between its update and the mean update, in [-1, 1]; None where one of
            them is zero.
        not_finite: its examples whose gradient was not finite and counted as zero, under privacy.
    """

    client: int
    examples: int
    steps: int
    seconds: float
    train_loss: float
    train_accuracy: float | None
    loss: float | None
    accuracy: float | None
    update_norm: float
    cosine_to_mean: float | None
    not_finite: int = 0


@dataclass(frozen=True)
class LeftOut:
    """A client whose update was not used, and why, in words."""

    client: int
    reason: str


@dataclass(frozen=True, eq=False)
class RoundRecord:
    """One round of a federation: one line of ``metrics.jsonl``.

    Attributes:
        round: from 1.
        seconds: wall-clock time of the round, evaluation included.
        evaluation_seconds: of it, spent on the validation set.
        cohort: client numbers, ascending; empty where client-level privacy keeps it secret, and
            with it every figure of a client.
        bytes_down, bytes_up: what the server sent and received, as raw floats.
        train_loss, train_accuracy: mean over the examples of the clients whose update was used.
        validation: figures of the new global model, or None without a validation set.
        averaged: figures of the average of the global models, where rounds are averaged.
        clients: one record for each client whose update was used.
        left_out: the others.
        repeats: attempts at the round that returned too few updates, before this one.
        figures: what the algorithm says of its step, by name.
        mean_update_norm, mean_cosine: over the clients; None if no update was used (or, for the
            cosine, if one of them is zero).
    """

    round: int
    seconds: float
    evaluation_seconds: float
    cohort: list[int]
    bytes_down: int
    bytes_up: int
    train_loss: float | None
    train_accuracy: float | None
    validation: Evaluation | None
    clients: list[ClientRecord]
    left_out: list[LeftOut]
    mean_update_norm: float | None
    mean_cosine: float | None
    repeats: int = 0
    averaged: Evaluation | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return {
            "round": self.round,
            "seconds": self.seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "cohort": self.cohort,
            "bytes_down": self.bytes_down,
            "bytes_up": self.bytes_up,
            "train_loss": self.train_loss,
            "train_accuracy": self.train_accuracy,
            "validation": None if self.validation is None else self.validation.to_json(),
            "averaged": None if self.averaged is None else self.averaged.to_json(),
            "clients": [asdict(client) for client in self.clients],
            "left_out": [asdict(client) for client in self.left_out],
            "repeats": self.repeats,
            "figures": dict(self.figures),
            "drift": {"mean_update_norm": self.mean_update_norm, "mean_cosine": self.mean_cosine},
        }


def divergence(old: Tensor, weights: Sequence[Tensor]) -> list[tuple[float, float | None]]:
    """Return each update's norm and its cosine to the unweighted mean update.

    Args:
        old: (P,) parameters that all clients started from.
        weights: each client's parameters (P,) afterwards.
    """
    start = old.to(torch.float64)
    mean = torch.zeros_like(start)
    for vector in weights:
        mean.add_(vector.to(torch.float64) - start, alpha=1 / len(weights))
    mean_norm = float(mean.norm())
    result: list[tuple[float, float | None]] = []
    for vector in weights:
        update = vector.to(torch.float64) - start
        norm = float(update.norm())
        product = norm * mean_norm
        result.append((norm, float(update @ mean) / product if product > 0 else None))
    return result


def mix_weighted(evaluation: Evaluation, label_mix: Tensor) -> tuple[float | None, float | None]:
    """Return (loss, accuracy) of an evaluation re-weighted to another label mix.

    sum_c q_c loss_c and sum_c q_c recall_c, with q the client's share of each class, over the
    classes that the evaluation has examples of. For a multi-label task, where an example has no one
    class, the loss is weighted by positives and there is no accuracy.

    Args:
        evaluation: of the global model on the common validation set.
        label_mix: (L,) the client's number of examples of each class.
    """
    present = torch.from_numpy(evaluation.support > 0)
    counts = label_mix.to(torch.float64) * present
    if float(counts.sum()) == 0:
        return None, None
    held = counts > 0
    mix = counts[held] / counts.sum()
    loss = float(mix @ torch.from_numpy(evaluation.class_loss)[held])
    if evaluation.task == "multilabel":
        return loss, None
    return loss, float(mix @ torch.from_numpy(evaluation.recall)[held])
