"""The flat optimisers against the classes of torch.optim, and what a start must not import."""

import subprocess
import sys

import pytest
import torch

from fedlens.training import LocalTraining
from fedlens.training.optimizers import FlatOptimizer

CASES = {
    "sgd": (LocalTraining(lr=0.1), torch.optim.SGD, {}),
    "sgd-decay": (
        LocalTraining(lr=0.1, weight_decay=0.01),
        torch.optim.SGD,
        {"weight_decay": 0.01},
    ),
    "momentum": (
        LocalTraining(lr=0.1, momentum=0.9, weight_decay=0.01),
        torch.optim.SGD,
        {"momentum": 0.9, "weight_decay": 0.01},
    ),
    "adam": (LocalTraining(optimizer="adam", lr=0.1), torch.optim.Adam, {"eps": 1e-7}),
    "adam-decay": (
        LocalTraining(optimizer="adam", lr=0.1, weight_decay=0.01),
        torch.optim.Adam,
        {"eps": 1e-7, "weight_decay": 0.01},
    ),
    "adamw": (
        LocalTraining(optimizer="adamw", lr=0.1, weight_decay=0.01),
        torch.optim.AdamW,
        {"eps": 1e-7, "weight_decay": 0.01},
    ),
}
cases = pytest.mark.parametrize(("settings", "kind", "options"), CASES.values(), ids=CASES)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def gradients(count: int, dtype: torch.dtype) -> list[torch.Tensor]:
    stream = torch.Generator().manual_seed(3)
    return [torch.randn(1_001, generator=stream, dtype=dtype) for _ in range(count)]


@cases
@dtypes
def test_each_step_has_the_bits_of_torch_optim(settings, kind, options, dtype) -> None:
    vector = torch.linspace(-1, 1, 1_001, dtype=dtype)
    theirs = torch.nn.Parameter(vector.clone())
    reference = kind([theirs], lr=0.1, fused=True, **options)
    gradient = torch.zeros_like(vector)
    optimizer = FlatOptimizer(vector, gradient, settings)
    for number, drawn in enumerate(gradients(5, dtype)):
        optimizer.lr = reference.param_groups[0]["lr"] = 0.1 / (1 + number)
        gradient.copy_(drawn)
        theirs.grad = drawn.clone()
        optimizer.step()
        reference.step()
        assert torch.equal(vector, theirs.detach())
        assert torch.equal(gradient, drawn)


@cases
def test_it_goes_on_from_its_state_with_the_same_bits(settings, kind, options) -> None:
    steps = gradients(6, torch.float32)

    def train(optimizer, drawn) -> None:
        for values in drawn:
            gradient.copy_(values)
            optimizer.step()

    whole, gradient = torch.ones(1_001), torch.zeros(1_001)
    train(FlatOptimizer(whole, gradient, settings), steps)

    vector = torch.ones(1_001)
    first = FlatOptimizer(vector, gradient, settings)
    train(first, steps[:3])
    kept = first.state()
    place = vector.clone()
    train(first, steps[3:])  # what goes on does not change what was kept
    vector.copy_(place)
    second = FlatOptimizer(vector, gradient, settings)
    second.restore(kept)
    train(second, steps[3:])
    assert torch.equal(vector, whole)


def test_the_state_before_the_first_step_is_none_and_restores_to_a_fresh_start() -> None:
    vector, gradient = torch.ones(4), torch.ones(4)
    optimizer = FlatOptimizer(vector, gradient, LocalTraining(optimizer="adam", lr=0.1))
    assert optimizer.state() == {}
    optimizer.restore({})
    optimizer.step()
    torch.testing.assert_close(vector, torch.full((4,), 0.9), rtol=0, atol=1e-6)  # by lr sign(g)


FROM_IMAGES_TO_MAPS = """
import sys
import fedlens
data = fedlens.load_dataset("digits")
clients = fedlens.partition(data.train, "iid", clients=2, seed=1)
for name in ("paper-cnn", "hybrid", "lenet"):
    model = fedlens.build_model(name, in_channels=1, classes=10, image_size=28, seed=1)
for optimizer in ("adam", "sgd"):
    local = fedlens.LocalTraining(batch_size=500, optimizer=optimizer, lr=1e-3)
    fedlens.federate(model, clients, algorithm=fedlens.FedAvg(), rounds=1, local=local, seed=1)
fedlens.explain(model, data.test.images[:1].float() / 255, method="grad-cam")
print(*sorted({"sympy", "torch._dynamo", "torch._inductor"} & set(sys.modules)))
"""


def test_no_run_imports_the_compiler_or_computer_algebra() -> None:
    """They take 1.4 s of a start, and nothing here needs them."""
    done = subprocess.run(
        [sys.executable, "-c", FROM_IMAGES_TO_MAPS], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
