"""Private steps against plain training, hand-worked steps and the laws of the noise."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from fedlens.data.client import Client
from fedlens.errors import ConfigError, ModelError
from fedlens.federated import FedAvg, federate
from fedlens.federated.privacy import ExamplePrivacy
from fedlens.models import FlatParameters, get_vector
from fedlens.privacy.mechanism import Mechanism
from fedlens.privacy.schedule import NoiseSchedule
from fedlens.privacy.sources import RandomSource, SecureSource, SeededSource
from fedlens.training import LocalTraining, default_loss
from fedlens.training.central import CentralCheckpoint, EpochRecord, train_centrally
from fedlens.training.loop import Correction, Draws, LocalRun
from fedlens.training.private import PrivateRun, PrivateSteps

HUGE = 1e6


def mechanism(units: int, expected: int, *, noise: float = 0.0, clip: float = HUGE, **more):
    values = {"periods": 9, "steps": -(-units // expected), **more}
    return Mechanism("example", units, expected, clip, noise, **values)


def cluster(count: int = 24, seed: int = 0, dtype: torch.dtype = torch.float32) -> Client:
    stream = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 5, generator=stream, dtype=dtype)
    return Client(inputs, torch.randint(0, 3, (count,), generator=stream))


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs - targets).square().sum(1)


def point(weights: int = 1) -> nn.Module:
    """Weights of zero in double precision; with inputs of zero every gradient is zero."""
    model = nn.Linear(weights, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    return model


def still(units: int, weights: int) -> Client:
    return Client(torch.zeros(units, weights).double(), torch.zeros(units, 1).double())


@dataclass(frozen=True, eq=False)
class Scripted(PrivateSteps):
    """Private steps whose samples are given, one after another; the noise is seeded."""

    samples: tuple[list[int], ...] = ()

    def source(self, *_) -> RandomSource:
        stream, left = SeededSource(1), list(self.samples)
        stream.poisson_sample = lambda *_: np.array(left.pop(0), dtype=np.int64)
        return stream


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """What Poisson sampling returned, in order."""
    kept: list[tuple[int, ...]] = []
    original = RandomSource.poisson_sample

    def spy(self, population, rate):
        chosen = original(self, population, rate)
        kept.append(tuple(chosen.tolist()))
        return chosen

    monkeypatch.setattr(RandomSource, "poisson_sample", spy)
    return kept


# --- without noise and clipping it is plain training


@pytest.mark.parametrize(
    "settings",
    [
        LocalTraining(batch_size=None, lr=0.3),
        LocalTraining(batch_size=None, lr=0.2, momentum=0.9, weight_decay=0.01),
        LocalTraining(batch_size=None, lr=0.4, schedule="cosine", momentum=0.5),
        LocalTraining(batch_size=None, lr=0.01, optimizer="adam", schedule="linear"),
    ],
    ids=["sgd", "momentum", "cosine", "adam"],
)
@pytest.mark.parametrize("corrected", [False, True])
def test_without_noise_and_clipping_it_is_plain_full_batch_training(settings, corrected) -> None:
    client = cluster()
    ends, sums = [], []
    for private in (False, True):
        flat = FlatParameters(network())
        tilt = torch.linspace(-0.1, 0.2, len(flat))
        total = torch.zeros(len(flat))
        more = {
            "correction": Correction(tilt, pull=0.3) if corrected else None,
            "epochs": 4,
            "gradient_sum": total,
        }
        draws = Draws(0, 1, 0)
        if private:
            steps = PrivateSteps(mechanism(24, 24))
            run = PrivateRun(flat, client, settings, default_loss, draws, steps, **more)
        else:
            run = LocalRun(flat, client, settings, default_loss, draws, **more)
        for number in range(1, 5):
            assert run.epoch(number).steps == 1
        ends.append(flat.vector.clone())
        sums.append(total)
    torch.testing.assert_close(*ends, rtol=0, atol=1e-5)
    torch.testing.assert_close(*sums, rtol=0, atol=1e-5)


# --- by hand


def test_the_denominator_is_the_expected_size_and_not_the_sampled_one() -> None:
    """w = 0, loss (w - t)^2 / 2: each gradient is -t, so w' = lr (sum of the sampled t) / q n."""
    targets = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]).double().unsqueeze(1)
    client = Client(torch.ones(6, 1).double(), targets)
    settings = LocalTraining(batch_size=2, lr=1.0)
    for sample, total in (([0, 1, 3], 11.0), ([5], 32.0), (list(range(6)), 63.0)):
        flat = FlatParameters(point())
        steps = Scripted(mechanism(6, 2), samples=(sample,) * 3)
        PrivateRun(flat, client, settings, squares, Draws(0, 1, 0), steps, most_steps=1).epoch(1)
        assert float(flat.vector) == total / 2
    # clipped to 3 each: 1 + 2 + 3, over 2
    flat = FlatParameters(point())
    steps = Scripted(mechanism(6, 2, clip=3.0), samples=([0, 1, 3],) * 3)
    PrivateRun(flat, client, settings, squares, Draws(0, 1, 0), steps, most_steps=1).epoch(1)
    assert float(flat.vector) == pytest.approx(3.0)


def test_one_example_moves_the_sum_by_at_most_the_clip_norm() -> None:
    clip = 0.7
    whole = cluster(12, seed=5)
    wild = Client(whole.inputs * torch.logspace(-4, 4, 12).unsqueeze(1), whole.targets)

    def gradient_sum(rows: list[int]) -> Tensor:
        flat = FlatParameters(network())
        total = torch.zeros(len(flat))
        some = Client(*wild.take(torch.tensor(rows)))
        run = PrivateRun(
            flat,
            some,
            LocalTraining(batch_size=None),
            default_loss,
            Draws(0, 1, 0),
            PrivateSteps(mechanism(len(rows), len(rows), clip=clip)),
            gradient_sum=total,
        )
        run.epoch(1)
        return total * len(rows)

    everyone = list(range(12))
    moved = [
        float((gradient_sum(everyone) - gradient_sum([k for k in everyone if k != j])).norm())
        for j in everyone
    ]
    assert max(moved) <= clip * (1 + 1e-5)
    assert max(moved) > 0.99 * clip  # who is clipped meets the bound


# --- noise


def test_the_noise_has_the_deviation_that_is_charged_in_every_period() -> None:
    """Where all gradients are zero a step moves each weight by N(0, (s_t C / expected)^2)."""
    weights, units, expected = 60, 20, 5
    falling = NoiseSchedule("linear", end=0.5)
    made = mechanism(units, expected, noise=1.7, clip=0.3, periods=6, schedule=falling)
    flat = FlatParameters(point(weights))
    run = PrivateRun(
        flat,
        still(units, weights),
        LocalTraining(batch_size=expected, lr=1.0),
        squares,
        Draws(4, 1, 0),
        PrivateSteps(made, seeded=True),
        epochs=6,
    )
    total = 0.0
    for period in range(6):
        before = flat.vector.clone()
        assert run.epoch(period + 1).steps == 4
        std = 1.7 * (1 - 0.1 * period) * 0.3 / expected
        total_of_period = float((flat.vector - before).square().sum()) / (4 * std**2)
        assert 1e-4 < stats.chi2(weights).cdf(total_of_period) < 1 - 1e-4
        total += total_of_period
    assert 1e-4 < stats.chi2(6 * weights).cdf(total) < 1 - 1e-4


def test_in_a_round_all_epochs_have_the_noise_of_the_round() -> None:
    made = mechanism(6, 6, noise=2.0, clip=1.0, periods=4, schedule=NoiseSchedule("linear", 0.25))
    flat = FlatParameters(point(400))
    run = PrivateRun(
        flat,
        still(6, 400),
        LocalTraining(batch_size=None, lr=1.0),
        squares,
        Draws(4, 4, 0),
        PrivateSteps(made, period=3, seeded=True),
        epochs=2,
    )
    for epoch in (1, 2):
        before = flat.vector.clone()
        run.epoch(epoch)
        std = 2.0 * 0.25 / 6
        value = float((flat.vector - before).square().sum()) / std**2
        assert 1e-4 < stats.chi2(400).cdf(value) < 1 - 1e-4


def test_an_empty_sample_is_a_step_with_noise_like_any_other() -> None:
    flat = FlatParameters(point(50))
    total = torch.zeros(50).double()
    run = PrivateRun(
        flat,
        Client(torch.ones(9, 50).double(), torch.ones(9, 1).double()),
        LocalTraining(batch_size=3, lr=1.0),
        squares,
        Draws(0, 1, 0),
        Scripted(mechanism(9, 3, noise=1.0, clip=2.0), samples=([], [], [])),
        gradient_sum=total,
    )
    assert run.epoch(1).steps == 3
    assert torch.equal(flat.vector, -total)
    # nobody was sampled, so that it is noise alone
    value = float(total.square().sum()) / (3 * (2.0 / 3) ** 2)
    assert 1e-4 < stats.chi2(50).cdf(value) < 1 - 1e-4


def test_small_rates_give_empty_samples_and_every_step_is_taken(drawn) -> None:
    run = PrivateRun(
        FlatParameters(point(2)),
        still(30, 2),
        LocalTraining(batch_size=1),
        squares,
        Draws(0, 1, 0),
        PrivateSteps(mechanism(30, 1, noise=1.0), seeded=True),
    )
    assert run.epoch(1).steps == 30
    # (1 - 1/30)^30 = 0.36 of them are empty, each size is binomial
    assert sum(not rows for rows in drawn) in range(3, 20)
    assert max(len(rows) for rows in drawn) > 1


# --- what is drawn


def private_run(seed: int = 7, round: int = 1, client: int = 0, seeded: bool = True) -> PrivateRun:
    return PrivateRun(
        FlatParameters(network()),
        cluster(),
        LocalTraining(batch_size=6, lr=0.1),
        default_loss,
        Draws(seed, round, client),
        PrivateSteps(mechanism(24, 6, noise=1.0, clip=1.0), seeded=seeded),
        epochs=3,
    )


def test_samples_and_noise_differ_from_epoch_to_epoch_round_to_round_client_to_client(
    drawn,
) -> None:
    seen = set()
    for round in (1, 2):
        for client in (0, 1):
            run = private_run(round=round, client=client)
            for epoch in (1, 2):
                run.epoch(epoch)
            rest = private_run(round=round, client=client)
            drawn_before = len(drawn)
            rest.epoch(2)  # a run that was stopped goes on here
            assert drawn[drawn_before:] == drawn[drawn_before - 4 : drawn_before]
    for start in range(0, len(drawn), 4):
        seen.add(tuple(drawn[start : start + 4]))
    assert len(seen) == 2 * 2 * 2  # (round, client, epoch); the repeated epochs are the same


def test_the_operating_system_draws_unless_a_seed_is_asked_for() -> None:
    vectors = {}
    for seeded in (False, True):
        for attempt in range(2):
            run = private_run(seeded=seeded)
            run.epoch(1)
            vectors[seeded, attempt] = run.average.clone()
    assert not torch.equal(vectors[False, 0], vectors[False, 1])
    assert torch.equal(vectors[True, 0], vectors[True, 1])
    assert not PrivateSteps(mechanism(24, 6)).seeded


def test_a_secure_run_asks_no_seeded_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_):
        raise AssertionError("a seeded source under a guarantee")

    monkeypatch.setattr(SeededSource, "__init__", refuse)
    made: list[SecureSource] = []
    original = SecureSource.__init__
    monkeypatch.setattr(
        SecureSource, "__init__", lambda self: (made.append(self), original(self))[1]
    )
    private_run(seeded=False).epoch(1)
    assert made and all(source.guarantee for source in made)


def test_fixed_sampling_covers_the_examples_once_an_epoch() -> None:
    taken: list[list[int]] = []

    class Watched(Client):
        def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
            taken.append(positions.tolist())
            return super().take(positions)

    plain = cluster(23)
    run = PrivateRun(
        FlatParameters(network()),
        Watched(plain.inputs, plain.targets),
        LocalTraining(batch_size=5),
        default_loss,
        Draws(0, 1, 0),
        PrivateSteps(mechanism(23, 5, noise=1.0, sampling="fixed")),
    )
    for epoch in (1, 2):
        taken.clear()
        assert run.epoch(epoch).steps == 5
        assert [len(rows) for rows in taken] == [5, 5, 5, 5, 3]
        assert sorted(k for rows in taken for k in rows) == list(range(23))


def test_it_stops_in_the_middle_of_an_epoch() -> None:
    run = private_run()
    run._steps_left = 6
    assert [run.epoch(n).steps for n in (1, 2, 3)] == [4, 2, 0]


# --- what cannot be clipped


def test_examples_that_are_not_finite_count_as_zero_and_are_counted() -> None:
    plain = cluster(8)
    broken = plain.inputs.clone()
    broken[1, 2], broken[4, 0], broken[6] = math.nan, math.inf, 1e38
    settings = LocalTraining(batch_size=None, lr=0.5)
    flat = FlatParameters(network())
    total = torch.zeros(len(flat))
    steps = PrivateSteps(mechanism(8, 8, clip=0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = PrivateRun(
            flat,
            Client(broken, plain.targets),
            settings,
            default_loss,
            Draws(0, 1, 0),
            steps,
            gradient_sum=total,
        )
        figures = run.epoch(1)
    assert figures.not_finite in (2, 3)  # 1e38 saturates tanh: its gradient may be finite
    assert bool(flat.vector.isfinite().all())
    assert math.isnan(figures.loss) and figures.accuracy is None
    # the same as by the others alone, still over 8
    good = [k for k in range(8) if k not in (1, 4)]
    if figures.not_finite == 3:
        good.remove(6)
    other = FlatParameters(network())
    alone = torch.zeros(len(flat))
    PrivateRun(
        other,
        Client(broken[good], plain.targets[good]),
        settings,
        default_loss,
        Draws(0, 1, 0),
        PrivateSteps(mechanism(len(good), len(good), clip=0.5)),
        gradient_sum=alone,
    ).epoch(1)
    torch.testing.assert_close(total * 8, alone * len(good), rtol=0, atol=1e-5)


def test_nothing_but_broken_examples_is_noise_alone() -> None:
    client = Client(torch.full((4, 5), math.nan), torch.zeros(4, dtype=torch.int64))
    flat = FlatParameters(network())
    start = flat.vector.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = PrivateRun(
            flat,
            client,
            LocalTraining(batch_size=None),
            default_loss,
            Draws(0, 1, 0),
            PrivateSteps(mechanism(4, 4, noise=1.0, clip=1.0), seeded=True),
        )
        assert run.epoch(1).not_finite == 4
    assert bool(flat.vector.isfinite().all()) and not torch.equal(flat.vector, start)


# --- views


def test_views_that_do_not_differ_change_nothing() -> None:
    ends = []
    for views, augmentation in ((1, None), (1, lambda x, _: x), (3, lambda x, _: x)):
        flat = FlatParameters(network())
        steps = Scripted(
            mechanism(24, 6, noise=1.0, clip=0.4),
            views=views,
            augmentation=augmentation,
            samples=([0, 3, 9], [], list(range(24)), [5]),
        )
        run = PrivateRun(
            flat,
            cluster(),
            LocalTraining(batch_size=6, lr=0.5),
            default_loss,
            Draws(0, 1, 0),
            steps,
        )
        assert run.epoch(1).steps == 4
        ends.append(flat.vector.clone())
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-6)
    torch.testing.assert_close(ends[0], ends[2], rtol=0, atol=1e-5)


def test_the_mean_over_the_views_is_clipped_once() -> None:
    """w = 0, views x and 3x of one example with target 1: gradients -1 and -3, mean -2."""
    client = Client(torch.ones(2, 1).double(), torch.ones(2, 1).double())

    def twice(inputs: Tensor, _: torch.Generator) -> Tensor:
        return inputs * torch.tensor([1.0, 3.0]).double().repeat(len(inputs) // 2).unsqueeze(1)

    for clip, moved in ((HUGE, 2.0), (1.5, 1.5)):
        flat = FlatParameters(point())
        steps = PrivateSteps(mechanism(2, 2, clip=clip), views=2, augmentation=twice)
        settings = LocalTraining(batch_size=None, lr=1.0)
        PrivateRun(flat, client, settings, squares, Draws(0, 1, 0), steps).epoch(1)
        assert float(flat.vector) == pytest.approx(moved)


def test_views_need_something_that_makes_them() -> None:
    for values in ({"views": 2}, {"views": 0}):
        with pytest.raises(ConfigError, match="views"):
            PrivateSteps(mechanism(24, 6), **values)


# --- what is refused


def test_batch_statistics_are_refused() -> None:
    for layer in (nn.BatchNorm1d(7), nn.BatchNorm1d(7, track_running_stats=False)):
        model = nn.Sequential(nn.Linear(5, 7), layer, nn.Linear(7, 3))
        with pytest.raises(ModelError, match="GroupNorm"):
            train_centrally(
                model,
                cluster(),
                local=LocalTraining(batch_size=6),
                privacy=PrivateSteps(mechanism(24, 6)),
            )


@pytest.mark.parametrize(
    ("made", "settings", "words"),
    [
        (mechanism(23, 6), LocalTraining(batch_size=6), "23 examples .* 24 examples"),
        (Mechanism("client", 24, 6, 1.0, 1.0, 1), LocalTraining(batch_size=6), "clients"),
        # 4 steps of 6 are charged, but 24 of 1 (or 2 of 12) would be taken
        (mechanism(24, 6), LocalTraining(batch_size=1), "batch"),
        (mechanism(24, 6), LocalTraining(batch_size=12), "batch"),
        (mechanism(24, 6), LocalTraining(batch_size=None), "batch"),
        (mechanism(24, 6, steps=2), LocalTraining(batch_size=6), "steps"),
        (mechanism(24, 6), LocalTraining(batch_size=6, precision="bfloat16"), "precision"),
    ],
)
def test_what_would_not_be_as_it_is_charged_is_refused(made, settings, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        PrivateRun(
            FlatParameters(network()),
            cluster(),
            settings,
            default_loss,
            Draws(0, 1, 0),
            PrivateSteps(made),
        )
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_federation_takes_no_more_steps_than_are_charged() -> None:
    """The same through the public door: batches of 1 where a mechanism was made for 6."""
    charged = []
    privacy = ExamplePrivacy((mechanism(24, 6),), lambda c: charged.append(c) or True)
    with pytest.raises(ConfigError, match="batch"):
        federate(
            network(),
            [cluster()],
            algorithm=FedAvg(),
            rounds=1,
            local=LocalTraining(batch_size=1),
            privacy=privacy,
        )


def test_periods_that_were_not_planned_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 epochs"):
        train_centrally(
            network(),
            cluster(),
            local=LocalTraining(epochs=2, batch_size=6),
            privacy=PrivateSteps(mechanism(24, 6, periods=1)),
        )


# --- central training


def test_nothing_is_measured_on_the_private_examples() -> None:
    held_out = cluster(9, seed=4)
    result = train_centrally(
        network(),
        cluster(),
        local=LocalTraining(epochs=2, batch_size=6),
        validation=held_out,
        privacy=PrivateSteps(mechanism(24, 6, noise=1.0)),
    )
    for record in result.history:
        assert math.isnan(record.train_loss) and record.train_accuracy is None
        assert record.validation is not None


def test_it_is_asked_before_each_epoch_and_ends_where_it_is_told() -> None:
    events: list[str] = []
    weights: list[Tensor] = []

    def afford(epoch: int) -> bool:
        events.append(f"asked {epoch}")
        return epoch < 4

    def keep(checkpoint: CentralCheckpoint, record: EpochRecord) -> None:
        events.append(f"done {record.epoch}")
        weights.append(checkpoint.state)

    result = train_centrally(
        network(),
        cluster(),
        local=LocalTraining(epochs=9, batch_size=6),
        privacy=PrivateSteps(mechanism(24, 6, noise=1.0)),
        afford=afford,
        checkpoint=keep,
    )
    assert events == ["asked 1", "done 1", "asked 2", "done 2", "asked 3", "done 3", "asked 4"]
    assert [record.epoch for record in result.history] == [1, 2, 3]
    assert torch.equal(get_vector(result.model), weights[-1])


@pytest.mark.parametrize("sampling", ["poisson", "fixed"])
@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_a_seeded_training_goes_on_from_any_epoch_bit_for_bit(sampling, averaging) -> None:
    local = LocalTraining(epochs=4, batch_size=6, lr=0.2, momentum=0.9, averaging=averaging)
    steps = PrivateSteps(mechanism(24, 6, noise=1.0, clip=1.0, sampling=sampling), seeded=True)
    kept: list[CentralCheckpoint] = []
    whole = train_centrally(
        network(),
        cluster(),
        local=local,
        seed=5,
        privacy=steps,
        checkpoint=lambda c, _: kept.append(c),
    )
    for checkpoint in kept:
        rest = train_centrally(
            network(), cluster(), local=local, seed=5, privacy=steps, resume_from=checkpoint
        )
        assert torch.equal(get_vector(rest.model), get_vector(whole.model))


def test_central_training_is_one_round_of_one_client_bit_for_bit() -> None:
    made = mechanism(24, 6, noise=1.0, clip=1.0)
    local = LocalTraining(epochs=3, batch_size=6, lr=0.2)
    central = train_centrally(
        network(), cluster(), local=local, seed=5, privacy=PrivateSteps(made, seeded=True)
    )
    together = federate(
        network(),
        [cluster()],
        algorithm=FedAvg(),
        rounds=1,
        local=local,
        seed=5,
        privacy=ExamplePrivacy((made,), seeded=True),
    )
    assert torch.equal(get_vector(central.model), get_vector(together.model))
