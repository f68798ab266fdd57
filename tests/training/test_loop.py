"""The step loop against hand-written training and closed forms."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedlens.data import Client
from fedlens.errors import ConfigError
from fedlens.models import FlatParameters, build_model, get_vector, set_vector
from fedlens.randomness import Purpose, generator
from fedlens.training import LocalTraining, default_loss
from fedlens.training.central import CentralCheckpoint, train_centrally
from fedlens.training.loop import Draws, LocalRun, threads


def digits_like(count: int = 50, seed: int = 0) -> Client:
    stream = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 28, 28), generator=stream).to(torch.uint8)
    return Client(images, torch.randint(0, 10, (count,), generator=stream))


def paper_cnn() -> nn.Module:
    return build_model("paper-cnn", in_channels=1, classes=10, image_size=28, seed=1)


def quadratic(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return 0.5 * (outputs - targets).square().sum(1)


def point(start: float) -> nn.Module:
    """A model whose only parameter is its output: w, for the loss (w - target)^2 / 2."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, start)
    return model


@pytest.mark.parametrize(
    ("settings", "make"),
    [
        (
            LocalTraining(epochs=2, batch_size=16, optimizer="adam", lr=1e-3),
            lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-7),
        ),
        (
            LocalTraining(epochs=2, batch_size=16, lr=0.1, momentum=0.9, weight_decay=1e-3),
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
        ),
        (
            LocalTraining(epochs=2, batch_size=16, optimizer="adamw", lr=1e-3, weight_decay=0.1),
            lambda p: torch.optim.AdamW(p, lr=1e-3, eps=1e-7, weight_decay=0.1),
        ),
    ],
    ids=["adam", "sgd", "adamw"],
)
def test_it_does_what_the_plain_pytorch_loop_does(settings, make) -> None:
    """A textbook loop in double precision over the same batches gives the same weights."""
    client = digits_like()
    model = paper_cnn().double()
    plain = build_model("paper-cnn", in_channels=1, classes=10, image_size=28).double()
    plain.load_state_dict(model.state_dict())
    optimizer = make(plain.parameters())
    for epoch in (1, 2):
        stream = generator(9, Purpose.LOCAL_TRAINING, round=4, client=3, epoch=epoch)
        order = stream.permutation(50)
        for start in range(0, 50, 16):
            rows = torch.from_numpy(order[start : start + 16])
            loss = F.cross_entropy(plain(client.inputs[rows].double() / 255), client.targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    flat = FlatParameters(model)
    run = LocalRun(flat, client, settings, default_loss, Draws(9, 4, 3))
    steps = [run.epoch(1).steps, run.epoch(2).steps]
    assert steps == [4, 4]  # 16 + 16 + 16 + 2
    torch.testing.assert_close(flat.vector, get_vector(plain), rtol=0, atol=1e-9)


def test_full_batch_gradient_descent_on_a_parabola_has_its_closed_form() -> None:
    """w_t = m + (1 - lr)^t (w_0 - m), with m the mean of the targets."""
    client = Client(torch.ones(4, 1).double(), torch.tensor([[1.0], [2.0], [3.0], [6.0]]).double())
    model = point(7.0)
    flat = FlatParameters(model)
    settings = LocalTraining(epochs=5, batch_size=None, lr=0.1)
    run = LocalRun(flat, client, settings, quadratic, Draws(0, 1, 0))
    losses = [run.epoch(n).loss for n in range(1, 6)]
    assert math.isclose(float(flat.vector), 3.0 + 0.9**5 * 4.0, rel_tol=1e-12)
    # mean loss before the first step: ((6)^2 + 5^2 + 4^2 + 1^2) / 8
    assert math.isclose(losses[0], 78 / 8, rel_tol=1e-12)


def test_accuracy_counts_right_answers_over_the_epoch() -> None:
    model = nn.Linear(1, 2).double()
    nn.init.zeros_(model.weight)
    with torch.no_grad():
        model.bias.copy_(torch.tensor([1.0, 0.0]))
    client = Client(torch.zeros(8, 1).double(), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1]))
    settings = LocalTraining(batch_size=4, lr=1e-9)
    run = LocalRun(FlatParameters(model), client, settings, default_loss, Draws(0, 1, 0))
    assert run.epoch(1).accuracy == 0.75


def test_clients_that_share_tensors_train_on_their_own_rows() -> None:
    whole = digits_like(40)
    rows = torch.tensor([3, 5, 8, 13, 21, 34])
    results = []
    for client in (
        Client(whole.inputs, whole.targets, rows),
        Client(whole.inputs[rows].clone(), whole.targets[rows].clone()),
    ):
        flat = FlatParameters(paper_cnn())
        LocalRun(flat, client, LocalTraining(batch_size=4), default_loss, Draws(1, 1, 0)).epoch(1)
        results.append(flat.vector.clone())
    assert torch.equal(*results)


@pytest.mark.parametrize("count", [2, 3])
def test_more_threads_train_the_same_network(count: int) -> None:
    client = digits_like(37)
    results = [
        train_centrally(
            paper_cnn().double(),
            client,
            local=LocalTraining(epochs=2, batch_size=8, lr=0.1, threads=number),
            seed=2,
        )
        for number in (1, count)
    ]
    one, more = (get_vector(result.model) for result in results)
    torch.testing.assert_close(one, more, rtol=0, atol=1e-10)
    one_figures, more_figures = ([r.train_accuracy for r in x.history] for x in results)
    assert one_figures == more_figures


def test_two_threads_are_repeatable_to_the_last_bit() -> None:
    results = [
        train_centrally(
            paper_cnn(),
            digits_like(200),
            local=LocalTraining(epochs=2, batch_size=32, lr=0.1, threads=2),
            seed=2,
        )
        for _ in range(3)
    ]
    first, *others = (get_vector(result.model) for result in results)
    assert all(torch.equal(first, other) for other in others)


def test_bfloat16_stays_close_to_float32() -> None:
    client = digits_like(64)
    vectors = {}
    for precision in ("float32", "bfloat16"):
        flat = FlatParameters(paper_cnn())
        start = flat.vector.clone()
        settings = LocalTraining(batch_size=32, lr=0.05, precision=precision)
        LocalRun(flat, client, settings, default_loss, Draws(0, 1, 0)).epoch(1)
        vectors[precision] = flat.vector - start
    # bfloat16 has 8 significant bits, so that the two updates must be alike but not equal
    one, other = vectors["float32"], vectors["bfloat16"]
    assert not torch.equal(one, other)
    assert float((one - other).norm() / one.norm()) < 0.1


def test_dropout_repeats_and_the_global_generator_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 2))
    client = Client(torch.ones(20, 4), torch.zeros(20, dtype=torch.int64))
    before = torch.random.get_rng_state()
    results = []
    for seed in (1, 1, 2):
        fresh = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 2))
        fresh.load_state_dict(model.state_dict())
        torch.random.set_rng_state(before)
        flat = FlatParameters(fresh)
        LocalRun(flat, client, LocalTraining(batch_size=5), default_loss, Draws(seed, 1, 0)).epoch(
            1
        )
        results.append(flat.vector.clone())
        assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_central_training_goes_on_from_any_epoch_bit_for_bit(optimizer: str) -> None:
    client = digits_like(48)
    momentum = 0.9 if optimizer == "sgd" else 0.0
    settings = LocalTraining(
        epochs=3, batch_size=16, optimizer=optimizer, lr=1e-3, momentum=momentum
    )
    kept: list[CentralCheckpoint] = []
    whole = train_centrally(
        paper_cnn(), client, local=settings, seed=5, checkpoint=lambda c, _: kept.append(c)
    )
    for checkpoint in kept:
        rest = train_centrally(paper_cnn(), client, local=settings, seed=5, resume_from=checkpoint)
        assert torch.equal(get_vector(whole.model), get_vector(rest.model))
        assert [r.epoch for r in rest.history] == list(range(checkpoint.epoch + 1, 4))


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with threads(1):
            assert torch.get_num_threads() == 1
            with threads(2):
                assert torch.get_num_threads() == 2
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_model_can_be_set_back_and_trained_again() -> None:
    flat = FlatParameters(paper_cnn())
    start = flat.vector.clone()
    client = digits_like(20)
    results = []
    for _ in range(2):
        set_vector(flat.model, start)
        LocalRun(flat, client, LocalTraining(batch_size=5), default_loss, Draws(3, 1, 0)).epoch(1)
        results.append(flat.vector.clone())
    assert torch.equal(*results)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_kept_memory_is_not_faulted_in_again() -> None:
    """Freed blocks of megabytes come back without new page faults once they are kept."""
    script = (
        "import resource, torch\n"
        "from fedlens.training.memory import keep_freed_memory\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(50):\n"
        "        a, b = torch.zeros(1 << 20), torch.zeros(1 << 20)\n"
        "        del a, b\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "faults(); loose = faults(); assert keep_freed_memory(); faults(); print(loose, faults())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},  # glibc as it is at first
    )
    loose, kept = map(int, done.stdout.split())
    assert kept < loose / 10


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"epochs": 0}, "local.epochs"),
        ({"epochs": True}, "local.epochs"),
        ({"epochs": 1.5}, "local.epochs"),
        ({"batch_size": 2.5}, "local.batch_size"),
        ({"lr": "a"}, "local.lr"),
        ({"threads": 1.5}, "local.threads"),
        ({"epochs": (3, 2)}, "local.epochs"),
        ({"epochs": []}, "local.epochs"),
        ({"batch_size": 0}, "local.batch_size"),
        ({"optimizer": "lion"}, "local.optimizer"),
        ({"lr": 0.0}, "local.lr"),
        ({"lr": float("nan")}, "local.lr"),
        ({"momentum": 1.0}, "local.momentum"),
        ({"optimizer": "adam", "momentum": 0.5}, "local.momentum"),
        ({"weight_decay": -1.0}, "local.weight_decay"),
        ({"precision": "float16"}, "local.precision"),
        ({"threads": 0}, "local.threads"),
    ],
)
def test_impossible_settings_are_named(values, key) -> None:
    with pytest.raises(ConfigError, match=key):
        LocalTraining(**values)


def test_the_order_of_an_epoch_is_a_permutation_and_differs_between_epochs() -> None:
    seen = []

    def spy(outputs, targets):
        seen.append(targets.clone())
        return outputs.sum(1) * 0

    client = Client(torch.zeros(30, 1), torch.arange(30, dtype=torch.float32).unsqueeze(1))
    flat = FlatParameters(nn.Linear(1, 1))
    run = LocalRun(flat, client, LocalTraining(batch_size=7), spy, Draws(0, 1, 0))
    run.epoch(1)
    first = torch.cat(seen)[:, 0]
    seen.clear()
    run.epoch(2)
    second = torch.cat(seen)[:, 0]
    assert np.array_equal(np.sort(first.numpy()), np.arange(30))
    assert not torch.equal(first, second)
