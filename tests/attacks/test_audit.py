"""The white-box canary audit of the privacy that trainings and federations really run.

A canary has a Dirac gradient (or update): far longer than the clip norm, along a coordinate of its own.
The adversary sees that coordinate of every release. 500 releases with the canary in the sample and 500
without it make the 1,000 observations; the threshold lies halfway, fixed beforehand.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Tensor, nn

from fedlens.attacks.empirical_epsilon import (
    Counts,
    audited_epsilon,
    clopper_pearson,
    count_guesses,
    p_value,
)
from fedlens.data.client import Client
from fedlens.federated import Update
from fedlens.federated.privacy import ClientPrivacy
from fedlens.models import FlatParameters
from fedlens.privacy.accounting import epsilon_of
from fedlens.privacy.mechanism import Mechanism
from fedlens.privacy.sources import RandomSource, SeededSource
from fedlens.training import LocalTraining
from fedlens.training.loop import Draws
from fedlens.training.private import PrivateRun, PrivateSteps

DELTA, CONFIDENCE, EACH = 1e-5, 0.95, 500
UNITS, EXPECTED, CLIP, NOISE = 10, 2, 0.7, 0.97  # five releases at rate 0.2: epsilon about 4
CANARY = 3  # its number among the units
SEED = 20


@dataclass(frozen=True)
class Seen:
    """What an adversary saw of the canary's coordinate, over the clip norm.

    Attributes:
        scores: one a release.
        sampled: whether the canary was in its sample.
    """

    scores: np.ndarray
    sampled: np.ndarray

    @property
    def taken(self) -> np.ndarray:
        """The first 500 scores of releases that the canary was sampled in."""
        return self.scores[self.sampled][:EACH]


def of_examples(noise: float = NOISE) -> Mechanism:
    return Mechanism("example", UNITS, EXPECTED, CLIP, noise, periods=1, steps=UNITS // EXPECTED)


def of_clients(noise: float = NOISE) -> Mechanism:
    return Mechanism("client", UNITS, EXPECTED, CLIP, noise, periods=5)


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs - targets).square().sum(1)


def examples(canary: bool) -> Client:
    """Ordinary examples; only the canary has a light in the last pixel, and its target is far."""
    stream = torch.Generator().manual_seed(1)
    inputs = torch.randn(UNITS, 4, generator=stream)
    inputs[:, -1] = 0
    targets = torch.randn(UNITS, 1, generator=stream)
    inputs[CANARY] = 0
    targets[CANARY] = 0
    if canary:
        inputs[CANARY, -1] = 1
        targets[CANARY] = -1e6
    return Client(inputs, targets)


class Recorder:
    """In the place of ``gradient_sum``: is handed the released gradient of every step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def add_(self, gradient: Tensor) -> None:
        self.seen.append(float(gradient[-1]))


def watch_samples(patch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that fills with whether the canary was sampled, draw after draw."""
    drawn: list[bool] = []
    original = RandomSource.poisson_sample

    def spy(self, population, rate):
        chosen = original(self, population, rate)
        drawn.append(CANARY in chosen)
        return chosen

    patch.setattr(RandomSource, "poisson_sample", spy)
    return drawn


def audit_examples(mechanism: Mechanism, canary: bool, releases: Callable[[Seen], bool]) -> Seen:
    """Run DP-SGD, epoch after epoch, until enough was seen."""
    recorder = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        drawn = watch_samples(patch)
        run = PrivateRun(
            FlatParameters(nn.Linear(4, 1, bias=False)),
            examples(canary),
            LocalTraining(batch_size=EXPECTED, lr=1e-3),
            squares,
            Draws(SEED + canary, 1, 0),
            PrivateSteps(mechanism, period=0, seeded=True),
            gradient_sum=recorder,
        )
        epoch, seen = 0, Seen(np.empty(0), np.empty(0, dtype=bool))
        while not releases(seen):
            for _ in range(25):
                epoch += 1
                run.epoch(epoch)
            scores = np.array(recorder.seen) * EXPECTED / CLIP
            seen = Seen(scores, np.array(drawn) if canary else np.zeros(len(scores), dtype=bool))
    return seen


def audit_clients(
    mechanism: Mechanism, canary: bool, releases: Callable[[Seen], bool], seed: int = SEED
) -> Seen:
    """Combine round after round of DP-FedAvg; the canary's update is 100 C along one coordinate."""
    privacy = ClientPrivacy(mechanism, seed=2 * seed + canary)
    start = torch.linspace(-1, 1, 4)
    ordinary = 0.3 * torch.randn(UNITS, 4, generator=torch.Generator().manual_seed(2))
    ordinary[:, -1] = 0
    ordinary[CANARY] = 0
    if canary:
        ordinary[CANARY, -1] = 100 * CLIP
    scores: list[float] = []
    sampled: list[bool] = []
    seen = Seen(np.empty(0), np.empty(0, dtype=bool))
    while not releases(seen):
        for _ in range(250):
            round = len(scores) + 1
            cohort = privacy.sample(round)
            updates = [Update(k, 1, 1, start + ordinary[k]) for k in cohort]
            # the noise of a period is constant here: every round stands for one of the five
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Mechanism, "multiplier", lambda self, _: self.noise_multiplier)
                combined, _ = privacy.combine(round, start, updates, None)
            moved = combined[0].weights[-1] - start[-1].double()
            scores.append(float(moved) * EXPECTED / CLIP)
            sampled.append(canary and CANARY in cohort)
        seen = Seen(np.array(scores), np.array(sampled))
    return seen


LEVELS = {"example": (audit_examples, of_examples), "client": (audit_clients, of_clients)}


@cache
def observed(level: str, noise: float) -> tuple[Seen, Seen]:
    """Return what is seen with the canary among the units, and without it."""
    audit, made = LEVELS[level]
    there = audit(made(noise), True, lambda seen: int(seen.sampled.sum()) >= EACH)
    gone = audit(made(noise), False, lambda seen: len(seen.scores) >= EACH)
    return there, gone


def guesses(level: str, noise: float) -> Counts:
    there, gone = observed(level, noise)
    return count_guesses(there.taken, gone.scores[:EACH], 0.5)


@cache
def found(level: str, noise: float) -> tuple[float, float]:
    """Return what the mechanism's plan costs and what the audit finds of a run with ``noise``."""
    claimed = LEVELS[level][1]()
    counts = guesses(level, noise)
    assert counts.positives == counts.negatives == EACH
    return epsilon_of(claimed.plan(), DELTA), audited_epsilon(
        counts, lambda noise: claimed.with_noise(noise).plan(), DELTA, CONFIDENCE
    )


@pytest.mark.parametrize("level", LEVELS)
def test_the_audit_finds_at_least_half_of_epsilon_and_never_more(level: str) -> None:
    claimed, audited = found(level, NOISE)
    assert 3.5 < claimed < 4.5
    assert claimed / 2 <= audited <= claimed


@pytest.mark.parametrize("level", LEVELS)
def test_half_the_noise_is_caught(level: str) -> None:
    claimed, audited = found(level, NOISE / 2)
    assert audited > 1.5 * claimed


@pytest.mark.parametrize("level", LEVELS)
def test_the_canary_is_sampled_as_often_as_is_charged(level: str) -> None:
    there, _ = observed(level, NOISE)
    low, high = clopper_pearson(int(there.sampled.sum()), len(there.sampled), 0.999)
    assert low <= LEVELS[level][1]().rate <= high


def test_the_bound_on_the_noise_fails_no_more_often_than_it_says() -> None:
    """Over many audits, by an adversary who sees the sample and by one who does not."""
    made, audits = of_clients(NOISE / 2), 12
    failures = {"seeing": 0, "blind": 0}
    for seed in range(audits):
        there = audit_clients(made, True, lambda seen: len(seen.scores) >= EACH, seed)
        gone = audit_clients(made, False, lambda seen: len(seen.scores) >= EACH, seed)
        seeing = count_guesses(there.scores[there.sampled], gone.scores, 0.5)
        blind = count_guesses(there.scores, gone.scores, 0.8)
        failures["seeing"] += p_value(seeing, 2 / NOISE) <= 0.05
        failures["blind"] += p_value(blind, 2 / NOISE, inserted=made.rate) <= 0.05
    assert max(failures.values()) <= binom(audits, 0.05).ppf(0.999)


@pytest.mark.parametrize("level", LEVELS)
def test_the_canary_moves_its_coordinate_by_exactly_the_clip_norm(level: str) -> None:
    there, _ = observed(level, NOISE)
    rest = there.scores[~there.sampled]
    spread = NOISE / np.sqrt(EACH)
    assert abs(there.taken.mean() - 1) < 4 * spread
    assert abs(rest.mean()) < 4 * NOISE / np.sqrt(len(rest))
    assert abs(there.taken.std() / NOISE - 1) < 0.12
    assert abs(rest.std() / NOISE - 1) < 0.06


@dataclass(frozen=True, eq=False)
class Fixed(PrivateSteps):
    """Private steps of which every sample is the same; the noise is seeded."""

    chosen: tuple[int, ...] = ()

    def source(self, *_) -> RandomSource:
        stream = SeededSource(1)
        stream.poisson_sample = lambda *_: np.array(self.chosen, dtype=np.int64)
        return stream


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_neighbouring_samples_of_examples_differ_by_at_most_the_clip_norm(scale: float) -> None:
    data = examples(True)
    data = Client(data.inputs * scale, data.targets)

    def released(chosen: tuple[int, ...]) -> Tensor:
        torch.manual_seed(5)
        total = torch.zeros(4)
        PrivateRun(
            FlatParameters(nn.Linear(4, 1, bias=False)),
            data,
            LocalTraining(batch_size=EXPECTED),
            squares,
            Draws(0, 1, 0),
            Fixed(of_examples(0.0), period=0, chosen=chosen),
            gradient_sum=total,
            most_steps=1,
        ).epoch(1)
        return total * EXPECTED

    whole = (0, CANARY, 5, 6, 7, 9)
    moves = [
        float((released(whole) - released(tuple(k for k in whole if k != one))).norm())
        for one in whole
    ]
    assert max(moves) <= CLIP * (1 + 1e-5)
    assert moves[1] == pytest.approx(CLIP, rel=1e-5)


def test_neighbouring_cohorts_differ_by_at_most_the_clip_norm() -> None:
    privacy = ClientPrivacy(replace(of_clients(), noise_multiplier=0.0), seed=1)
    start = torch.randn(6, generator=torch.Generator().manual_seed(3))
    ways = torch.randn(5, 6, generator=torch.Generator().manual_seed(4))
    sizes = torch.logspace(-3, 6, 5).unsqueeze(1)
    updates = [Update(k, 1, 1, start + row) for k, row in enumerate(ways * sizes)]

    def released(some: list[Update]) -> Tensor:
        combined, _ = privacy.combine(1, start, some, None)
        return combined[0].weights * EXPECTED

    moves = [
        float((released(updates) - released([u for u in updates if u is not one])).norm())
        for one in updates
    ]
    assert max(moves) <= CLIP * (1 + 1e-9)
    assert max(moves) == pytest.approx(CLIP)
