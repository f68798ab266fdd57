"""The step loop of DP-SGD: Poisson-sampled batches, clipped examples, noise on their sum.

Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1, with the batch's *expected*
size as the denominator. What a step samples, clips and adds is what the client's mechanism says.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedlens.data.client import Client
from fedlens.errors import ConfigError
from fedlens.models.vector import FlatParameters
from fedlens.privacy.mechanism import Mechanism
from fedlens.privacy.noise import release
from fedlens.privacy.per_example import PerExampleClipper
from fedlens.privacy.releases import Release
from fedlens.privacy.sources import RandomSource, SecureSource, SeededSource
from fedlens.privacy.spending import Spending
from fedlens.randomness import Purpose, local_torch_seed, torch_seed
from fedlens.training.local import LocalTraining
from fedlens.training.loop import (
    Correction,
    Draws,
    EpochFigures,
    LocalRun,
    as_inputs,
)
from fedlens.training.losses import Loss

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""(N, C, H, W) float images and a generator -> as many images, changed at random, each by itself.

One that mixes them (mixup) would let an example change the gradients of others.
"""


@dataclass(frozen=True, eq=False)
class PrivateSteps:
    """How the steps of one client's work are made private.

    Attributes:
        mechanism: of this client; its population is the client's number of examples.
        period: the period of the mechanism that all of the work lies in (a round of a federation);
            None where each epoch is a period of its own.
        seeded: draw samples and noise from the run's seed: repeatable, and so without guarantee.
        views: randomly changed copies of each example whose mean gradient is clipped.
        augmentation: makes them; needed where ``views`` is more than 1.

    Raises:
        ConfigError: no mechanism, no views, or several without an augmentation.
    """

    mechanism: Mechanism
    period: int | None = None
    seeded: bool = False
    views: int = 1
    augmentation: Augmentation | None = None
    _spending: Spending = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.mechanism, Mechanism):
            raise ConfigError(
                f"The mechanism of private steps is a {type(self.mechanism).__name__}, expected a "
                "Mechanism."
            )
        if self.views < 1 or (self.views > 1 and self.augmentation is None):
            raise ConfigError(
                f"{self.views} views of each example were asked for, expected at least 1, and with "
                "more than 1 an augmentation that makes them."
            )
        mechanism = self.mechanism
        spending = Spending(lambda _: mechanism, None, lambda _: "an example")
        object.__setattr__(self, "_spending", spending)

    def begin(self, epochs: int, done: int, *, charged: bool) -> None:
        """Refuse more epochs than the mechanism has a noise for, or pays for.

        Args:
            epochs: that a central training is going to make in all.
            done: how many of them lie before the checkpoint that it goes on from.
            charged: somebody else keeps account; a budget holds all the same.

        Raises:
            ConfigError: see above.
        """
        mechanism = self.mechanism
        if self.period is None and epochs > mechanism.periods:
            raise ConfigError(
                f"A training of {epochs:,} epochs was asked for, but its privacy mechanism is for "
                f"{mechanism.periods:,}; make one with as many periods."
            )
        if not charged or mechanism.budget is not None:
            made: list[list[Release]] = [[], []]
            for epoch in range(epochs):
                made[epoch >= done] += self._charges(epoch + 1)
            before, coming = ({0: releases} for releases in made)
            self._spending.begin(before, coming, done=done, forget=self.seeded)

    def pay(self, epoch: int) -> None:
        """Charge epoch ``epoch``, from 1, of the training that :meth:`begin` let pass."""
        self._spending.charge({0: self._charges(epoch)}, round=epoch)

    def _charges(self, epoch: int) -> list[Release]:
        return self.mechanism.charges(epoch - 1 if self.period is None else self.period)

    def source(self, draws: Draws, epoch: int) -> RandomSource:
        """Return where this client's samples and noise of one epoch come from.

        Each epoch has a source of its own, so that a seeded training that is stopped goes on with
        what it would have drawn, and never adds one epoch's noise to another's gradients.
        """
        if self.seeded:
            return SeededSource(draws.seed, int(Purpose.PRIVACY), draws.round, draws.client, epoch)
        return SecureSource()

    def seed(self, draws: Draws, purpose: Purpose, epoch: int) -> int:
        """Return a seed of what is drawn for the places in an epoch's batches.

        It comes from where the noise comes from. With masks or views that are known beforehand, one
        example more would give all after it in a batch other ones, and what is paid for is one clip
        norm. PyTorch's generator takes 32 bits of it: whoever could try them all would know the
        masks, though not the noise.
        """
        if self.seeded:
            names = {"round": draws.round, "client": draws.client, "epoch": epoch}
            return torch_seed(draws.seed, purpose, **names)
        return int(SecureSource().uniform64(1)[0]) >> 1


def check_fit(mechanism: Mechanism, settings: LocalTraining, examples: int) -> None:
    """Refuse a training that would release something else than its mechanism charges for.

    Args:
        mechanism: of the client.
        settings: of its training.
        examples: that it holds.

    Raises:
        ConfigError: another unit or number of examples, other batches, or bfloat16.
    """
    if mechanism.unit != "example" or mechanism.population != examples:
        raise ConfigError(
            f"A mechanism for {mechanism.population:,} {mechanism.unit}s was given to a client of "
            f"{examples:,} examples."
        )
    size, steps = settings.batch_size or examples, settings.steps_per_epoch(examples)
    if (mechanism.expected, mechanism.steps) != (size, steps):
        raise ConfigError(
            f"A mechanism for {mechanism.steps} steps an epoch in batches of {mechanism.expected:,} "
            f"was given to a training of {steps} in batches of {size:,}: more could be released than "
            "is charged."
        )
    if settings.precision != "float32":
        raise ConfigError(
            f"local.precision is '{settings.precision}', but under privacy the gradient of each "
            "example is worked out in float32; choose float32."
        )


class PrivateRun(LocalRun):
    """A client's work in which each step is a release of its mechanism.

    Its figures of loss and accuracy are NaN and None: they would be measured on the private examples,
    and nothing protects them.
    """

    def __init__(
        self,
        flat: FlatParameters,
        client: Client,
        settings: LocalTraining,
        loss: Loss,
        draws: Draws,
        privacy: PrivateSteps,
        *,
        correction: Correction | None = None,
        epochs: int = 1,
        gradient_sum: Tensor | None = None,
        most_steps: int | None = None,
    ) -> None:
        """Prepare; see :class:`LocalRun`. ``gradient_sum`` adds up the *noisy* gradients.

        Raises:
            ModelError: a network with batch statistics.
            ConfigError: see :func:`check_fit`.
        """
        super().__init__(
            flat,
            client,
            settings,
            loss,
            draws,
            correction=correction,
            epochs=epochs,
            gradient_sum=gradient_sum,
            most_steps=most_steps,
        )
        mechanism = privacy.mechanism
        check_fit(mechanism, settings, len(client))
        self._privacy = privacy
        self._clipper = PerExampleClipper(
            flat.model, loss, clip_norm=mechanism.clip_norm, multiplicity=privacy.views
        )
        self._sum = torch.zeros_like(flat.vector, dtype=torch.float64)

    def epoch(self, number: int) -> EpochFigures:
        """Take the steps of local epoch ``number``, from 1; see :meth:`LocalRun.epoch`."""
        mechanism, flat = self._privacy.mechanism, self._flat
        period = number - 1 if self._privacy.period is None else self._privacy.period
        std = mechanism.noise_std(period)
        source = self._privacy.source(self._draws, number)
        draws = {"round": self._draws.round, "client": self._draws.client, "epoch": number}
        seed = self._privacy.seed(self._draws, Purpose.DROPOUT, number)
        changes = torch.Generator().manual_seed(
            self._privacy.seed(self._draws, Purpose.AUGMENTATION, number)
        )
        taken = bad = 0
        flat.model.train()
        with local_torch_seed(seed):
            for rows in self._samples(draws, source)[: self._steps_left]:
                self._set_rate((number - 1) * self._per_epoch + taken)
                inputs, targets = self._client.take(rows)
                seen = self._clipper.clipped_sum(
                    self._views(inputs, changes), targets, self._sum.zero_()
                )
                flat.gradient.copy_(release(self._sum, std, source))
                flat.gradient.div_(mechanism.expected)
                self._correct()
                self._optimizer.step()
                self._average.update()
                bad += seen.not_finite
                taken += 1
        if self._steps_left is not None:
            self._steps_left -= taken
        return EpochFigures(taken, math.nan, None, bad)

    def _samples(self, draws: dict[str, int], source: RandomSource) -> list[Tensor]:
        """Return the positions of each step's sample."""
        mechanism, count = self._privacy.mechanism, len(self._client)
        if mechanism.sampling == "poisson":
            return [
                torch.from_numpy(source.poisson_sample(count, mechanism.rate))
                for _ in range(mechanism.steps)
            ]
        return list(self._positions(draws).split(mechanism.expected))

    def _views(self, inputs: Tensor, changes: torch.Generator) -> Tensor:
        inputs = as_inputs(inputs, self._flat.vector.dtype)
        if self._privacy.augmentation is None:
            return inputs
        views = self._privacy.views
        changed: Tensor = self._privacy.augmentation(inputs.repeat_interleave(views, 0), changes)
        return changed if views == 1 else changed.unflatten(0, (len(inputs), views))


def local_run(
    flat: FlatParameters,
    client: Client,
    settings: LocalTraining,
    loss: Loss,
    draws: Draws,
    privacy: PrivateSteps | None,
    *,
    correction: Correction | None = None,
    epochs: int = 1,
    gradient_sum: Tensor | None = None,
    most_steps: int | None = None,
) -> LocalRun:
    """Return the client's work, private or not; see :class:`LocalRun` and :class:`PrivateRun`."""
    if privacy is None:
        return LocalRun(
            flat, client, settings, loss, draws,
            correction=correction, epochs=epochs, gradient_sum=gradient_sum, most_steps=most_steps,
        )  # fmt: skip
    return PrivateRun(
        flat, client, settings, loss, draws, privacy,
        correction=correction, epochs=epochs, gradient_sum=gradient_sum, most_steps=most_steps,
    )  # fmt: skip
