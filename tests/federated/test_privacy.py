"""Privacy in a federation: what is released, what is charged for it, and what stays hidden."""

import json
import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from fedlens.data import Client
from fedlens.errors import ConfigError, FedlensError, ModelError
from fedlens.federated import Checkpoint, FedAvg, Update, federate
from fedlens.federated.aggregation import CoordinateMedian
from fedlens.federated.algorithms import build_algorithm
from fedlens.federated.client_store import ClientStore
from fedlens.federated.cohort import Planner
from fedlens.federated.faults import Faults, Screening
from fedlens.federated.privacy import ClientPrivacy, ExamplePrivacy, Privacy, check_privacy
from fedlens.models import get_vector
from fedlens.privacy.adaptive_clip import AdaptiveClip
from fedlens.privacy.mechanism import Mechanism
from fedlens.privacy.releases import Release
from fedlens.privacy.schedule import NoiseSchedule
from fedlens.training import LocalTraining
from fedlens.training import private as private_steps
from problems import least_squares, line, squares

HUGE = 1e6
SIZES = [12, 20, 31, 16]
BATCH = 6
LOCAL = LocalTraining(batch_size=BATCH, lr=0.05)
FULL = LocalTraining(batch_size=None, lr=0.05)


def of_examples(
    sizes: list[int] = SIZES, batch: int = BATCH, noise: float = 1.0, rounds: int = 3, **more
) -> tuple[Mechanism, ...]:
    return tuple(
        Mechanism("example", size, batch, 1.0, noise, rounds, steps=-(-size // batch), **more)
        for size in sizes
    )


def of_clients(
    population: int, expected: int, *, noise: float = 1.0, clip: float = 1.0, **more
) -> Mechanism:
    return Mechanism("client", population, expected, clip, noise, more.pop("rounds", 3), **more)


def together(clients: list[Client], privacy: Privacy | None, **changes):
    arguments = {
        "algorithm": FedAvg(),
        "rounds": 3,
        "local": LOCAL,
        "loss": squares,
        "seed": 4,
        **changes,
    }
    return federate(line(3), clients, privacy=privacy, **arguments)


def one_sentence(error: Exception) -> None:
    text = str(error)
    assert text.endswith(".") and "\n" not in text and ". " not in text, text


def within(value: float, freedom: int) -> bool:
    """Whether a chi-square value is one that is not very unlikely."""
    return 1e-4 < stats.chi2(freedom).cdf(value) < 1 - 1e-4


# --- one example


def test_seeded_results_do_not_depend_on_the_number_of_workers() -> None:
    clients = least_squares(SIZES)
    ends = []
    for workers in (1, 2, 3):
        privacy = ExamplePrivacy(of_examples(), seeded=True)
        ends.append(get_vector(together(clients, privacy, workers=workers, cohort=3).model))
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])
    secure = [ExamplePrivacy(of_examples()) for _ in range(2)]
    runs = [get_vector(together(clients, privacy, cohort=3).model) for privacy in secure]
    assert not torch.equal(*runs)
    assert not torch.equal(runs[0], ends[0])


def test_forked_workers_do_not_share_their_noise() -> None:
    """Two clients alike in everything: with no gradients they return noise alone, each its own."""
    clients = [Client(torch.zeros(6, 3).double(), torch.zeros(6, 1).double())] * 2
    ends: list[Tensor] = []

    class Kept(FedAvg):
        def aggregate(self, state, updates, federation):
            ends.extend(update.weights.clone() for update in updates)
            return super().aggregate(state, updates, federation)

    for seeded in (True, False):
        privacy = ExamplePrivacy(of_examples([6, 6]), seeded=seeded)
        together(clients, privacy, algorithm=Kept(), rounds=2, workers=2)
    assert len({tuple(end.tolist()) for end in ends}) == len(ends) == 8


@pytest.mark.parametrize("sampling", ["poisson", "fixed"])
def test_each_client_is_charged_for_what_it_does(sampling: str) -> None:
    charged: list[dict[int, list[Release]]] = []
    schedule = NoiseSchedule("linear", end=0.5)
    made = of_examples(noise=2.0, rounds=5, schedule=schedule, sampling=sampling)
    privacy = ExamplePrivacy(made, lambda c: charged.append(dict(c)) or True)
    local = replace(LOCAL, epochs=(1, 3))
    records = together(least_squares(SIZES), privacy, rounds=5, cohort=2, local=local).history
    assert len(charged) == len(records) == 5
    epochs_seen = set()
    for round, (charges, record) in enumerate(zip(charged, records, strict=True)):
        assert sorted(charges) == record.cohort == [c.client for c in record.clients]
        for client in record.clients:
            steps_of_epoch = -(-SIZES[client.client] // BATCH)
            epochs = client.steps // steps_of_epoch
            noise = 2.0 * (1 - 0.5 * round / 4)
            rate = BATCH / SIZES[client.client]
            one = Release(noise, rate, steps_of_epoch) if sampling == "poisson" else Release(noise)
            assert charges[client.client] == [one] * epochs
            epochs_seen.add(epochs)
    assert epochs_seen == {1, 2, 3}


def test_whoever_is_lost_has_been_charged_and_repeated_rounds_are_charged_again() -> None:
    charged: list[set[int]] = []
    privacy = ExamplePrivacy(of_examples(rounds=6), lambda c: charged.append(set(c)) or True)
    records = together(
        least_squares(SIZES),
        privacy,
        rounds=6,
        cohort=3,
        faults=Faults(dropout=0.4),
        minimum_cohort=2,
    ).history
    assert sum(record.repeats for record in records) > 0
    assert any(record.left_out for record in records)
    assert len(charged) == 6 + sum(record.repeats for record in records)
    last = -1
    for record in records:
        last += 1 + record.repeats
        assert charged[last] == set(record.cohort)
        assert {lost.client for lost in record.left_out} <= charged[last]


def test_a_straggler_does_no_more_than_it_was_charged_for() -> None:
    charged: list[dict[int, list[Release]]] = []
    privacy = ExamplePrivacy(of_examples(rounds=4), lambda c: charged.append(dict(c)) or True)
    records = together(
        least_squares(SIZES),
        privacy,
        rounds=4,
        local=replace(LOCAL, epochs=2),
        faults=Faults(stragglers=0.5, late="partial"),
    ).history
    short = 0
    for charges, record in zip(charged, records, strict=True):
        for client in record.clients:
            paid = sum(release.count for release in charges[client.client])
            assert client.steps <= paid
            short += client.steps < paid
    assert short


def test_the_charge_comes_before_the_work_and_what_is_not_affordable_is_not_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[str] = []
    original = private_steps.release

    def spy(*arguments):
        events.append("release")
        return original(*arguments)

    monkeypatch.setattr(private_steps, "release", spy)

    def afford(charges) -> bool:
        events.append("charge")
        return events.count("charge") <= 2

    result = together(
        least_squares([6, 6]), ExamplePrivacy(of_examples([6, 6], rounds=9), afford), rounds=9
    )
    assert events == ["charge", "release", "release"] * 2 + ["charge"]
    assert [record.round for record in result.history] == [1, 2]


def test_a_control_variate_is_the_mean_of_the_released_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released: list[Tensor] = []
    original = private_steps.release

    def spy(*arguments):
        released.append(original(*arguments))
        return released[-1].clone()

    monkeypatch.setattr(private_steps, "release", spy)
    kept: list[Checkpoint] = []
    store = ClientStore()
    clients = least_squares([12, 12])
    privacy = ExamplePrivacy(of_examples([12, 12]), seeded=True)
    together(
        clients,
        privacy,
        algorithm=build_algorithm("scaffold", {"control": "mean-gradient"}),
        local=replace(LOCAL, epochs=2),
        rounds=1,
        client_store=store,
        checkpoint=lambda c, _: kept.append(c),
    )
    assert len(released) == 8  # two clients, two epochs of two steps
    means = [torch.stack(released[start : start + 4]).mean(0) / BATCH for start in (0, 4)]
    for client, mean in enumerate(means):
        remembered = store.read(client)
        assert remembered is not None
        torch.testing.assert_close(remembered.view(-1), mean, rtol=0, atol=1e-12)
    control = kept[-1].state.memory["control"]
    torch.testing.assert_close(control, (means[0] + means[1]) / 2, rtol=0, atol=1e-12)


def test_what_is_made_from_unprotected_gradients_is_refused() -> None:
    privacy = ExamplePrivacy(of_examples())
    with pytest.raises(ConfigError, match="mean-gradient") as caught:
        together(
            least_squares(SIZES),
            privacy,
            algorithm=build_algorithm("scaffold", {"control": "option-1"}),
        )
    one_sentence(caught.value)
    for control in ("mean-gradient", "option-2"):
        made = build_algorithm("scaffold", {"control": control})
        together(least_squares(SIZES), privacy, algorithm=made, rounds=1)
    with pytest.raises(ConfigError, match="the clients have"):
        together(least_squares([12, 20, 31]), privacy)
    with pytest.raises(ConfigError, match="the clients have"):
        together(least_squares([12, 20, 31, 17]), privacy)


def test_a_client_record_holds_no_figure_of_private_examples() -> None:
    """Its label mix is one: from a few rounds' re-weighted accuracies it could be solved for."""
    stream = torch.Generator().manual_seed(0)
    clients = [Client(torch.randn(12, 3, generator=stream), torch.arange(12) % 3) for _ in range(2)]
    held_out = Client(torch.randn(30, 3, generator=stream), torch.arange(30) % 3)
    settings = {
        "algorithm": FedAvg(),
        "rounds": 2,
        "local": LocalTraining(batch_size=6),
        "validation": held_out,
    }
    plain = federate(nn.Linear(3, 3), clients, **settings)
    assert plain.history[0].clients[0].accuracy is not None
    private = federate(
        nn.Linear(3, 3), clients, privacy=ExamplePrivacy(of_examples([12, 12])), **settings
    )
    for record in private.history:
        assert record.validation is not None and record.train_accuracy is None
        assert record.train_loss is None or math.isnan(record.train_loss)
        for client in record.clients:
            assert math.isnan(client.train_loss) and client.train_accuracy is None
            assert client.loss is None and client.accuracy is None


# --- one client


@pytest.mark.parametrize(
    "algorithm",
    [
        FedAvg(),
        FedAvg(server_lr=0.7),
        build_algorithm("fedprox", {"mu": 0.1}),
        build_algorithm("fedavgm", {"server_lr": 0.5}),
        build_algorithm("fedadam", {"server_lr": 0.1}),
    ],
    ids=lambda a: f"{a.name}-{getattr(a, 'server_lr', 1)}",
)
def test_without_noise_and_clipping_it_is_the_plain_algorithm(algorithm) -> None:
    clients = least_squares([15] * 4)
    privacy = ClientPrivacy(of_clients(4, 4, noise=0.0, clip=HUGE))
    private = get_vector(together(clients, privacy, algorithm=algorithm).model)
    plain = get_vector(together(clients, None, algorithm=algorithm).model)
    torch.testing.assert_close(private, plain, rtol=0, atol=1e-6)
    assert not torch.allclose(plain, torch.zeros(3).double())


def update(client: int, *weights: float) -> Update:
    return Update(client, 7 + client, 3, torch.tensor(weights, dtype=torch.float64), planned=3)


def test_a_round_by_hand() -> None:
    """x = (1, 1), C = 2, q N = 4: (0.6, -0.8) as it is, (6, 8) cut to (1.2, 1.6); sum (1.8, 0.8).

    How many examples a client has, and how many clients came, make no difference.
    """
    privacy = ClientPrivacy(of_clients(8, 4, noise=0.0, clip=2.0))
    start = torch.tensor([1.0, 1.0], dtype=torch.float64)
    updates, clip = privacy.combine(1, start, [update(2, 1.6, 0.2), update(5, 7.0, 9.0)], None)
    assert len(updates) == 1 and clip == 2.0
    expected = torch.tensor([1 + 1.8 / 4, 1 + 0.8 / 4], dtype=torch.float64)
    torch.testing.assert_close(updates[0].weights, expected, rtol=0, atol=1e-12)


def test_one_client_moves_the_sum_by_at_most_the_clip_norm() -> None:
    privacy = ClientPrivacy(of_clients(8, 4, noise=0.0, clip=0.5))
    stream = torch.Generator().manual_seed(1)
    start = torch.randn(30, generator=stream, dtype=torch.float64)
    updates = [
        Update(k, 5, 1, start + 10.0 ** (k - 4) * torch.randn(30, generator=stream).double())
        for k in range(8)
    ]
    # a length that is too much for a float, and one that is none
    updates.append(Update(8, 5, 1, torch.full((30,), 1e308, dtype=torch.float64)))
    updates.append(Update(9, 5, 1, torch.full((30,), math.nan, dtype=torch.float64)))

    def total(some: list[Update]) -> Tensor:
        return (privacy.combine(1, start, some, None)[0][0].weights - start) * 4

    whole = total(updates)
    assert bool(whole.isfinite().all())
    moved = [float((whole - total([u for u in updates if u is not v])).norm()) for v in updates]
    assert 0.5 * (1 - 1e-9) < max(moved) <= 0.5 * (1 + 1e-9)


@pytest.mark.parametrize("count", [0, 5])
def test_the_servers_noise_has_the_deviation_that_is_charged(count: int) -> None:
    schedule = NoiseSchedule("exponential", end=0.25)
    made = of_clients(20, 8, noise=1.5, clip=0.4, rounds=3, schedule=schedule)
    privacy = ClientPrivacy(made, seed=3)
    start = torch.zeros(500, dtype=torch.float64)
    idle = [Update(k, 1, 1, start.clone()) for k in range(count)]
    seen = []
    for round in (1, 2, 3):
        combined, _ = privacy.combine(round, start, idle, None)
        std = 1.5 * 0.5 ** (round - 1) * 0.4 / 8
        assert privacy.mechanism.charges(round - 1) == [Release(1.5 * 0.5 ** (round - 1), 0.4, 1)]
        assert within(float(combined[0].weights.square().sum()) / std**2, 500)
        seen.append(combined[0].weights / std)
    assert abs(float(torch.corrcoef(torch.stack(seen))[0, 1])) < 0.2


def test_local_noise_is_added_by_each_client_in_full() -> None:
    made = of_clients(20, 8, noise=1.5, clip=0.4, sampling="fixed", placement="local")
    privacy = ClientPrivacy(made, seed=3)
    start = torch.zeros(500, dtype=torch.float64)
    for count in (1, 6):
        idle = [Update(k, 1, 1, start.clone()) for k in range(count)]
        combined, _ = privacy.combine(1, start, idle, None)
        value = float(combined[0].weights.square().sum()) / (count * (1.5 * 0.4 / 8) ** 2)
        assert within(value, 500)
    # two clients' noises are not the same: they would add up to 4 times the variance
    assert made.charges(0) == [Release(0.75)]


def test_only_those_who_send_are_charged_with_local_noise() -> None:
    charged: list[dict[int, list[Release]]] = []
    made = of_clients(4, 2, noise=1.5, sampling="fixed", placement="local")
    privacy = ClientPrivacy(made, charge=lambda c: charged.append(dict(c)) or True)
    records = together(least_squares(SIZES), privacy, cohort=2).history
    assert [sorted(charges) for charges in charged] == [record.cohort for record in records]
    assert all(charges[k] == [Release(0.75)] for charges in charged for k in charges)
    assert all(record.clients == [] for record in records)


def empty_round(privacy: ClientPrivacy) -> int:
    return next(r for r in range(1, 200) if privacy.sample(r) == [])


def test_an_empty_sample_is_a_round_like_any_other() -> None:
    charged = []
    made = of_clients(4, 1, noise=1.0, rounds=200)
    privacy = ClientPrivacy(made, charge=lambda c: charged.append(dict(c)) or True, seed=4)
    last = empty_round(privacy)
    kept: list[Checkpoint] = []
    result = together(
        least_squares(SIZES),
        privacy,
        rounds=last,
        checkpoint=lambda c, _: kept.append(c),
        workers=2,
    )
    before = kept[-2].state.parameters if last > 1 else torch.zeros(3).double()
    after = kept[-1].state.parameters
    assert not torch.equal(before, after)
    noise = ClientPrivacy(made, seed=4).combine(last, before, [], 1.0)[0][0].weights
    torch.testing.assert_close(after, noise, rtol=0, atol=1e-12)
    assert charged == [{k: [Release(1.0, 0.25, 1)] for k in range(4)}] * last
    assert len(result.history) == last


def test_poisson_and_fixed_samples() -> None:
    poisson = ClientPrivacy(of_clients(40, 10, rounds=300), seed=1)
    samples = [poisson.sample(round) for round in range(1, 301)]
    sizes = [len(sample) for sample in samples]
    # binomial(40, 1/4): mean 10, variance 7.5
    assert abs(sum(sizes) / 300 - 10) < 4 * math.sqrt(7.5 / 300)
    assert len(set(sizes)) > 5 and len(set(map(tuple, samples))) == 300
    assert all(sample == sorted(set(sample)) for sample in samples)
    assert poisson.sample(7) == samples[6]
    secure = ClientPrivacy(of_clients(40, 10))
    assert secure.sample(1) != secure.sample(1)

    fixed = ClientPrivacy(of_clients(4, 2, sampling="fixed"), seed=1)
    assert fixed.sample(1) is None
    assert fixed.mechanism.charges(0) == [Release(1.0)]
    # the sum is divided by 2 and two come, whoever they are
    clients = least_squares([15] * 4)
    free = ClientPrivacy(of_clients(4, 2, sampling="fixed", noise=0.0, clip=HUGE))
    private, plain = (together(clients, p, cohort=2).model for p in (free, None))
    torch.testing.assert_close(get_vector(private), get_vector(plain), rtol=0, atol=1e-6)


def test_the_sample_is_not_drawn_from_the_noise() -> None:
    """Seeded as it may be: who was sampled says nothing of the noise."""
    made = of_clients(64, 32, noise=1.0, rounds=2)
    privacy = ClientPrivacy(made, seed=5)
    start = torch.zeros(64, dtype=torch.float64)
    noise = privacy.combine(1, start, [], None)[0][0].weights
    for other in (privacy.combine(2, start, [], None)[0][0].weights,):
        assert not torch.equal(noise, other)
    words = privacy._source(1, 0).uniform64(16)
    assert not (words == privacy._source(1, 1).uniform64(16)).any()
    assert not (words == privacy._source(1, 2).uniform64(16)).any()
    assert not (words == privacy._source(2, 0).uniform64(16)).any()


# --- the clip norm that follows a quantile


def test_the_clip_norm_follows_the_lengths_of_the_updates() -> None:
    """Lengths 1, 2, ..., 8 and next to no noise: C goes to where half of them are short enough."""
    rule = AdaptiveClip(quantile=0.5, rate=0.3, count_noise=1e-3)
    start = torch.zeros(2, dtype=torch.float64)
    updates = [update(k, 0.6 * (k + 1), 0.8 * (k + 1)) for k in range(8)]
    for first in (0.05, 300.0):
        made = of_clients(8, 8, noise=0.0, clip=first, rounds=400)
        privacy = ClientPrivacy(made, rule, seed=2)
        clip = privacy.first_clip_norm()
        assert clip == first
        walk = []
        for round in range(1, 401):
            _, clip = privacy.combine(round, start, updates, clip)
            walk.append(clip)
        assert 3.7 < clip < 5.3
        # one step by hand: everyone is too long (or short enough), share 0 (or 1)
        share = 0.0 if first < 1 else 1.0
        assert walk[0] == pytest.approx(first * math.exp(-0.3 * (share - 0.5)), rel=1e-3)


def test_the_noise_is_that_of_the_clip_norm_of_the_round() -> None:
    """And it pays for the count: z_sum = (z^-2 - (2 sigma_b)^-2)^(-1/2)."""
    privacy = ClientPrivacy(
        of_clients(20, 8, noise=1.0, clip=5.0), AdaptiveClip(count_noise=0.8), seed=9
    )
    start = torch.zeros(2000, dtype=torch.float64)
    combined, _ = privacy.combine(1, start, [], 0.25)
    std = 0.25 / math.sqrt(1 - 1 / 1.6**2) / 8
    assert within(float(combined[0].weights.square().sum()) / std**2, 2000)


def test_the_noisy_count_is_released_on_a_grid() -> None:
    """The low-order bits of a float that has float noise added give away what was added to."""
    from fedlens.privacy.noise import grid_spacing

    counts: list[float] = []

    class Watched(AdaptiveClip):
        def next_clip(self, clip_norm, noisy_count, expected):
            counts.append(noisy_count)
            return super().next_clip(clip_norm, noisy_count, expected)

    start = torch.zeros(1, dtype=torch.float64)
    privacy = ClientPrivacy(of_clients(9, 4, noise=0.0), Watched(count_noise=3.7), seed=9)
    for number in (1, 2, 3):
        privacy.combine(number, start, [update(0, 0.1), update(1, 9.0), update(2, 0.2)], 1.0)
    steps = [count / grid_spacing(3.7) for count in counts]
    assert len(set(counts)) == 3 and all(step == round(step) for step in steps)


def test_the_clip_norm_stays_a_number() -> None:
    for rate, count in ((1e6, 1e6), (1e6, -1e6), (1e300, 1.0)):
        clip = AdaptiveClip(rate=rate).next_clip(1.0, count, 1)
        assert math.isfinite(clip) and clip > 0
    clip = 1.0
    for _ in range(5000):
        clip = AdaptiveClip(rate=10.0).next_clip(clip, 1e9, 1)
    assert clip > 0
    for _ in range(5000):
        clip = AdaptiveClip(rate=10.0).next_clip(clip, -1e9, 1)
    assert math.isfinite(clip)


def test_the_clip_norm_survives_a_stop() -> None:
    clients = least_squares(SIZES)
    made = of_clients(4, 2, noise=1.0, clip=0.3, rounds=6)
    privacy = ClientPrivacy(made, AdaptiveClip(quantile=0.7, count_noise=0.8), seed=11)
    kept: list[Checkpoint] = []
    whole = together(clients, privacy, rounds=6, checkpoint=lambda c, _: kept.append(c))
    norms = [checkpoint.clip_norm for checkpoint in kept]
    assert len(set(norms)) == 6 and 0.3 not in norms
    for number, checkpoint in enumerate(kept[:-1]):
        again: list[Checkpoint] = []
        rest = together(
            clients,
            privacy,
            rounds=6,
            resume_from=checkpoint,
            checkpoint=lambda c, _, again=again: again.append(c),
        )
        assert [c.clip_norm for c in again] == norms[number + 1 :]
        assert torch.equal(get_vector(rest.model), get_vector(whole.model))


# --- what is refused


@pytest.mark.parametrize(
    ("made", "changes", "words"),
    [
        ({}, {"algorithm": build_algorithm("fednova", {})}, "fednova"),
        ({}, {"algorithm": build_algorithm("scaffold", {})}, "scaffold"),
        ({}, {"algorithm": build_algorithm("feddyn", {})}, "feddyn"),
        ({}, {"algorithm": FedAvg(aggregation=CoordinateMedian())}, "aggregation"),
        ({}, {"minimum_cohort": 1, "cohort": 2}, "minimum_cohort"),
        ({}, {"screening": Screening("clip")}, "far_off"),
        ({}, {"screening": Screening("reject")}, "far_off"),
        ({"placement": "distributed", "least": 1}, {}, "distributed"),
        ({"population": 5}, {}, "5 clients"),
    ],
    ids=lambda value: None,
)
def test_what_is_not_sound_is_refused_in_one_sentence(made, changes, words: str) -> None:
    values = {"population": 4, "expected": 2, **made}
    privacy = ClientPrivacy(of_clients(values.pop("population"), values.pop("expected"), **values))
    with pytest.raises(ConfigError, match=words) as caught:
        together(least_squares(SIZES), privacy, **changes)
    one_sentence(caught.value)


@pytest.mark.parametrize(
    ("made", "rule", "words"),
    [
        ({"placement": "local", "sampling": "fixed"}, AdaptiveClip(), "clip_quantile"),
        ({"noise": 9.0}, AdaptiveClip(count_noise=2.0), "count_noise"),
    ],
)
def test_a_clip_norm_that_cannot_follow_is_refused(made, rule, words: str) -> None:
    privacy = ClientPrivacy(of_clients(4, 2, **made), rule)
    with pytest.raises(ConfigError, match=words) as caught:
        check_privacy(privacy, FedAvg(), SIZES, Screening(), 0)
    one_sentence(caught.value)


@pytest.mark.parametrize("unit", ["example", "client"])
def test_statistics_of_the_examples_in_buffers_are_refused(unit: str) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).double()
    privacy = (
        ExamplePrivacy(of_examples()) if unit == "example" else ClientPrivacy(of_clients(4, 2))
    )
    with (
        pytest.warns(UserWarning, match="BatchNorm"),
        pytest.raises(ModelError, match="GroupNorm") as caught,
    ):
        federate(
            model,
            least_squares(SIZES),
            algorithm=FedAvg(),
            rounds=1,
            local=LOCAL,
            loss=squares,
            privacy=privacy,
        )
    one_sentence(caught.value)


# --- what is hidden


def test_a_round_record_says_nothing_of_single_clients() -> None:
    privacy = ClientPrivacy(of_clients(4, 2, rounds=12), seed=4)
    assert len({len(privacy.sample(round) or []) for round in range(1, 13)}) > 1
    held_out = least_squares([10])[0]
    result = together(
        least_squares(SIZES), privacy, rounds=12, faults=Faults(dropout=0.3, stragglers=0.2)
    )
    assert held_out is not None
    for record in result.history:
        content = record.to_json()
        json.dumps(content)
        assert content["cohort"] == content["clients"] == content["left_out"] == []
        assert content["train_loss"] is None and content["train_accuracy"] is None
        assert content["drift"] == {"mean_update_norm": None, "mean_cosine": None}
        assert content["repeats"] == 0 and content["figures"] == {}
    # traffic is that of the expected two clients, however many there were: 3 doubles each way
    assert {(r.bytes_down, r.bytes_up) for r in result.history} == {(2 * 24, 2 * 24)}


@pytest.mark.parametrize("placement", ["server", "local"])
def test_an_update_that_is_not_finite_counts_as_zero(placement: str) -> None:
    """With local noise too: a client that adds none would be seen to have had a bad update."""
    good = least_squares([15] * 3)
    broken = Client(torch.full((15, 3), math.nan).double(), torch.zeros(15, 1).double())
    idle = Client(torch.zeros(15, 3).double(), torch.zeros(15, 1).double())
    sampling = "fixed" if placement == "local" else "poisson"
    made = of_clients(4, 4, noise=1.0, clip=0.2, sampling=sampling, placement=placement)
    ends = []
    for last in (broken, idle):
        privacy = ClientPrivacy(made, seed=6)
        ends.append(get_vector(together([*good, last], privacy).model))
    assert bool(ends[0].isfinite().all())
    assert torch.equal(*ends)


class Chosen(ClientPrivacy):
    """Client-level privacy of which the sample is given."""

    def sample(self, round: int) -> list[int] | None:
        return self.chosen


def test_who_fails_does_not_depend_on_who_was_sampled() -> None:
    """Or adding one client to the sample would change the work of others, by more than C."""
    faults = Faults(dropout=0.3, stragglers=0.4, late="partial")
    tasks = []
    everyone = list(range(20))
    for chosen in (everyone, [k for k in everyone if k != 3], [3, 7, 19], [7]):
        privacy = Chosen(of_clients(20, 10))
        object.__setattr__(privacy, "chosen", chosen)
        local = LocalTraining(batch_size=2, epochs=(1, 4))
        planner = Planner([16] * 20, 10, local, 5, faults, frozenset(), privacy)
        done: dict[tuple[int, int], int] = {}
        for round in range(1, 6):
            plan = planner.plan(round, 0)
            assert plan.cohort == chosen
            for lost in plan.lost:
                done[round, lost.client] = -1
            for task in plan.tasks:
                done[round, task.client] = task.steps
        tasks.append(done)
    whole = tasks[0]
    assert any(steps == -1 for steps in whole.values()) and len(set(whole.values())) > 4
    for some in tasks[1:]:
        assert all(whole[key] == steps for key, steps in some.items())


def test_a_model_that_is_not_finite_is_one_sentence() -> None:
    with pytest.raises(FedlensError, match="server_lr"):
        together(
            least_squares(SIZES),
            ClientPrivacy(of_clients(4, 4, clip=1e300, noise=1.0)),
            algorithm=FedAvg(server_lr=1e300),
        )
