"""How a client (or the one pooled trainer) trains: the settings, checked once."""

import math
from dataclasses import dataclass
from typing import Literal

from fedlens.errors import ConfigError

Optimizer = Literal["sgd", "adam", "adamw"]
Precision = Literal["float32", "bfloat16"]
Schedule = Literal["constant", "linear", "cosine"]
OPTIMIZERS = ("sgd", "adam", "adamw")
PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("constant", "linear", "cosine")
MOST_THREADS = 256


@dataclass(frozen=True)
class LocalTraining:
    """Settings of local training.

    Attributes:
        epochs: passes over the client's examples in a round: a number, a (low, high) range of which
            each client draws one in each round (both ends included), or a list of one number per
            client. A two-element *tuple* is a range, a *list* is one number per client.
        batch_size: examples a step; None takes all of a client's examples as one batch.
        optimizer: ``sgd``, ``adam`` or ``adamw``; made anew in every round.
        lr: learning rate, above 0.
        momentum: of ``sgd``, in [0, 1).
        weight_decay: L2 penalty added to the gradient (decoupled for ``adamw``), at least 0.
        schedule: of the learning rate over the steps of a client's work in a round (or of a central
            training): ``constant``, or falling to zero as ``linear`` or ``cosine``.
        precision: ``float32``, or ``bfloat16`` autocast (faster, other bits).
        threads: threads that work on each batch together, 1 to 256; more than one only in central
            training (a federation has its workers). The number changes the last bits of the
            result, the number of processors does not.
        averaging: decay of an exponential average of the weights over the steps, in [0, 1): what is
            measured and returned is the average; 0 for the weights themselves. Only in central
            training. Under privacy it costs nothing, and smooths the noise out.

    Raises:
        ConfigError: a value that it cannot have; the sentence names the key and what is allowed.
    """

    epochs: int | tuple[int, int] | list[int] = 1
    batch_size: int | None = 32
    optimizer: Optimizer = "sgd"
    lr: float = 0.05
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    precision: Precision = "float32"
    threads: int = 1
    averaging: float = 0.0

    def __post_init__(self) -> None:
        counts = self.epochs if isinstance(self.epochs, list | tuple) else [self.epochs]
        if not counts or not all(type(n) is int and n >= 1 for n in counts):
            raise ConfigError(f"local.epochs is {self.epochs!r}, expected whole numbers from 1.")
        if isinstance(self.epochs, tuple) and (
            len(self.epochs) != 2 or self.epochs[0] > self.epochs[1]
        ):
            raise ConfigError(
                f"local.epochs is {self.epochs!r}, expected a range (low, high) with low <= high."
            )
        if self.batch_size is not None and not _whole(self.batch_size):
            raise ConfigError(
                f"local.batch_size is {self.batch_size}, expected a whole number from 1, or none "
                "for the full batch."
            )
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(
                f"local.optimizer is '{self.optimizer}', expected one of {', '.join(OPTIMIZERS)}."
            )
        if not (_number(self.lr) and self.lr > 0):
            raise ConfigError(f"local.lr is {self.lr}, expected a number above 0.")
        if not (_number(self.momentum) and 0 <= self.momentum < 1):
            raise ConfigError(f"local.momentum is {self.momentum}, expected a number in [0, 1).")
        if self.momentum and self.optimizer != "sgd":
            raise ConfigError(
                f"local.momentum is {self.momentum}, but only the optimizer 'sgd' takes a momentum; "
                f"'{self.optimizer}' has its own."
            )
        if not (_number(self.weight_decay) and self.weight_decay >= 0):
            raise ConfigError(
                f"local.weight_decay is {self.weight_decay}, expected a number from 0."
            )
        if self.schedule not in SCHEDULES:
            raise ConfigError(
                f"local.schedule is '{self.schedule}', expected one of {', '.join(SCHEDULES)}."
            )
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"local.precision is '{self.precision}', expected one of {', '.join(PRECISIONS)}."
            )
        if not (_whole(self.threads) and self.threads <= MOST_THREADS):
            raise ConfigError(
                f"local.threads is {self.threads}, expected a whole number from 1 to "
                f"{MOST_THREADS}."
            )

        if not (_number(self.averaging) and 0 <= self.averaging < 1):
            raise ConfigError(f"local.averaging is {self.averaging}, expected a number in [0, 1).")

    def steps_per_epoch(self, examples: int) -> int:
        """Return the optimiser steps of one pass over ``examples`` examples."""
        return -(-examples // (self.batch_size or examples))

    def rate(self, step: int, planned: int) -> float:
        """Return the learning rate of step number ``step``, from 0, of ``planned`` steps."""
        if self.schedule == "linear":
            return self.lr * (1 - step / planned)
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * step / planned))
        return self.lr


def _whole(value: object) -> bool:
    return type(value) is int and 1 <= value < 2**31


def _number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
