"""The step loop: the one hot path that central and federated training share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlens.data.client import Client
from fedlens.errors import ConfigError
from fedlens.models.vector import FlatParameters
from fedlens.randomness import Purpose, generator, local_torch_seed, torch_seed
from fedlens.training.local import LocalTraining
from fedlens.training.losses import Loss
from fedlens.training.optimizers import FlatOptimizer


@dataclass(frozen=True)
class Draws:
    """Names the random streams of one client's work in one round; see :mod:`fedlens.randomness`."""

    seed: int
    round: int
    client: int


@dataclass(frozen=True)
class EpochFigures:
    """What one local epoch saw, averaged over its examples while the weights moved.

    Attributes:
        steps: optimiser steps.
        loss: mean loss per example.
        accuracy: share of right answers, or None where the targets are not class numbers.
        not_finite: examples whose gradient was not finite and counted as zero; only looked for
            where each example is clipped.
    """

    steps: int
    loss: float
    accuracy: float | None
    not_finite: int = 0


@dataclass(frozen=True, eq=False)
class Correction:
    """What is added to every gradient before the optimiser sees it: tilt + pull (w - x).

    It is the gradient of the local objective's extra terms <tilt, w> + (pull / 2) ||w - x||^2,
    where w are the client's weights and x those that it began with.

    Attributes:
        tilt: (P,) constant part, or None for zero.
        pull: strength of the proximal term, at least 0.
    """

    tilt: Tensor | None = None
    pull: float = 0.0


class LocalRun:
    """One optimiser's life: the epochs of one client in one round, or of a central training.

    Every epoch draws its own order from (seed, round, client, epoch), so that a run can be stopped
    after any epoch and taken up again from :meth:`state` with the same bits.
    """

    def __init__(
        self,
        flat: FlatParameters,
        client: Client,
        settings: LocalTraining,
        loss: Loss,
        draws: Draws,
        *,
        correction: Correction | None = None,
        epochs: int = 1,
        gradient_sum: Tensor | None = None,
        most_steps: int | None = None,
    ) -> None:
        """Prepare to train ``flat`` in place on ``client``; nothing is drawn or changed yet.

        Args:
            flat: the network; its present weights are the x of the correction.
            client: whose examples.
            settings: how to train.
            loss: one value per example.
            draws: names the random streams.
            correction: added to every gradient.
            epochs: passes that are planned, for the schedule of the learning rate.
            gradient_sum: (P,) to which every raw gradient is added, before the correction.
            most_steps: stop after so many steps in all, be it in the middle of an epoch.
        """
        self._flat = flat
        self._client = client
        self._settings = settings
        self._draws = draws
        self._loss = loss
        self._optimizer = FlatOptimizer(flat.vector, flat.gradient, settings)
        self._correction = correction
        self._start = flat.vector.clone() if correction is not None and correction.pull else None
        self._per_epoch = settings.steps_per_epoch(len(client))
        self._planned = epochs * self._per_epoch
        self._gradient_sum = gradient_sum
        self._steps_left = most_steps
        self._average = WeightAverage(flat.vector, settings.averaging)

    def state(self) -> dict[str, Tensor]:
        """Return the optimiser's memory; the parameters are in the flat vector."""
        return {**self._optimizer.state(), **self._average.state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up the optimiser's memory that :meth:`state` returned."""
        self._optimizer.restore(self._average.restore(state))

    @property
    def average(self) -> Tensor:
        """The averaged weights (P,) where the settings ask for them, else the weights."""
        return self._average.vector

    def epoch(self, number: int) -> EpochFigures:
        """Train for one pass over the client's examples; ``number`` counts from 1.

        The pass ends early after the last step that the run may take; the figures are then over the
        examples that were seen.
        """
        flat, client = self._flat, self._client
        draws = {"round": self._draws.round, "client": self._draws.client, "epoch": number}
        order = self._order(draws)
        size = self._settings.batch_size or len(order)
        steps, seen, total_loss, hits = 0, 0, 0.0, 0
        counts_hits = client.targets.dim() == 1 and not client.targets.is_floating_point()
        flat.model.train()
        with local_torch_seed(torch_seed(self._draws.seed, Purpose.DROPOUT, **draws)):
            for rows in order.split(size)[: self._steps_left]:
                self._set_rate((number - 1) * self._per_epoch + steps)
                inputs = as_inputs(client.inputs.index_select(0, rows), flat.vector.dtype)
                targets = client.targets.index_select(0, rows)
                flat.gradient.zero_()
                outputs, losses = forward(flat.model, inputs, targets, self._settings, self._loss)
                losses.sum().div(len(rows)).backward()
                self._correct()
                self._optimizer.step()
                self._average.update()
                steps += 1
                seen += len(rows)
                total_loss += float(losses.detach().sum())
                counts_hits = counts_hits and outputs.dim() == 2 and outputs.shape[1] > 1
                if counts_hits:
                    hits += int((outputs.argmax(1) == targets).sum())
        if self._steps_left is not None:
            self._steps_left -= steps
        accuracy = hits / seen if counts_hits else None
        return EpochFigures(steps, total_loss / seen, accuracy)

    def _set_rate(self, step: int) -> None:
        if self._settings.schedule != "constant":
            self._optimizer.lr = self._settings.rate(step, self._planned)

    def _correct(self) -> None:
        gradient, correction = self._flat.gradient, self._correction
        if self._gradient_sum is not None:
            self._gradient_sum.add_(gradient)
        if correction is None:
            return
        if self._start is not None:
            gradient.add_(self._flat.vector - self._start, alpha=correction.pull)
        if correction.tilt is not None:
            gradient.add_(correction.tilt)

    def _order(self, draws: dict[str, int]) -> Tensor:
        positions = self._positions(draws)
        return positions if self._client.indices is None else self._client.indices[positions]

    def _positions(self, draws: dict[str, int]) -> Tensor:
        """Return the client's examples in the order of an epoch."""
        count = len(self._client)
        if self._settings.batch_size is None:
            return torch.arange(count)
        stream = generator(self._draws.seed, Purpose.LOCAL_TRAINING, **draws)
        return torch.from_numpy(stream.permutation(count))


def share_kept(decay: float, step: int) -> float:
    """Return min(decay, (1 + t) / (10 + t)): what an average keeps of itself after step t, from 0.

    It begins low, so that the first weights are soon forgotten.
    """
    return min(decay, (1 + step) / (10 + step))


class WeightAverage:
    """An exponential average of weights over the steps: Polyak and Juditsky 1992, with forgetting.

    After step t, from 0, with d of :func:`share_kept`: average <- d average + (1 - d) weights.
    """

    def __init__(self, weights: Tensor, decay: float) -> None:
        """Average ``weights`` (P,), which change in place; decay 0 gives the weights themselves."""
        self._weights = weights
        self._decay = decay
        self._steps = 0
        self.vector = weights.clone() if decay else weights

    def update(self) -> None:
        """Take the present weights in."""
        if self._decay:
            self.vector.lerp_(self._weights, 1 - share_kept(self._decay, self._steps))
            self._steps += 1

    def state(self) -> dict[str, Tensor]:
        """Return what a later run needs to go on; nothing without a decay."""
        if not self._decay:
            return {}
        return {"average": self.vector.clone(), "averaged_steps": torch.tensor(self._steps)}

    def restore(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take up what :meth:`state` returned, and return the rest of ``state``."""
        if self._decay:
            self.vector.copy_(state["average"])
            self._steps = int(state["averaged_steps"])
        return {
            name: value
            for name, value in state.items()
            if name not in ("average", "averaged_steps")
        }


def forward(
    model: nn.Module, inputs: Tensor, targets: Tensor, settings: LocalTraining, loss: Loss
) -> tuple[Tensor, Tensor]:
    """Return the outputs and the loss of each example, in the precision that is set.

    Raises:
        ConfigError: the loss does not return one value per example, or a single example is all that
            a layer has to take statistics of.
    """
    try:
        if settings.precision == "bfloat16":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                outputs = model(inputs)
            outputs = outputs.to(torch.float32)
        else:
            outputs = model(inputs)
    except ValueError as error:  # PyTorch's own sentence does not say what to do about it
        if len(inputs) != 1 or "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            "A layer of the network, such as BatchNorm, takes statistics of its batch, and one batch "
            f"has a single example: local.batch_size is {settings.batch_size or 'full'}; choose one "
            "that leaves no remainder of one at any client, or use GroupNorm."
        ) from error
    losses = loss(outputs, targets)
    if losses.shape != (len(inputs),):
        raise ConfigError(
            f"The loss returned a tensor of shape {tuple(losses.shape)} for {len(inputs)} examples, "
            'expected one value per example (for PyTorch\'s own losses: reduction="none").'
        )
    return outputs, losses


def as_inputs(batch: Tensor, dtype: torch.dtype) -> Tensor:
    """Return uint8 pixels as ``dtype`` in [0, 1]; anything else as it is."""
    return batch.to(dtype).div_(255) if batch.dtype == torch.uint8 else batch


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run PyTorch's operations on ``count`` threads inside the block.

    A sum over more threads rounds differently, so that the number shows in the last bits of a
    result: every client step and every evaluation runs on one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def start_gradient(
    flat: FlatParameters, client: Client, settings: LocalTraining, loss: Loss
) -> Tensor:
    """Return the gradient (P,) of the client's mean loss at the network's present weights.

    All examples are used, a batch of the settings at a time; the network is in training mode and
    its buffers are put back.
    """
    kept = [buffer.clone() for buffer in flat.model.buffers()]
    positions = torch.arange(len(client))
    flat.model.train()
    flat.gradient.zero_()
    for rows in positions.split(settings.batch_size or len(client)):
        inputs, targets = client.take(rows)
        _, losses = forward(
            flat.model, as_inputs(inputs, flat.vector.dtype), targets, settings, loss
        )
        losses.sum().div(len(client)).backward()
    for buffer, before in zip(flat.model.buffers(), kept, strict=True):
        buffer.copy_(before)
    return flat.gradient.clone()
