"""One training step of paper-cnn, one thread, batch 32, Adam: ours against plain PyTorch and a floor.

The contestants, timed in turn within one run, each in a process of its own:

- ``plain``: eager NCHW network with ReLU before the pooling, ``DataLoader``, ``torch.optim.Adam``,
  float32 images converted beforehand: what most code does; ``plain-kept-memory`` is the same with
  the allocator set as the worker processes of fedlens set it;
- ``ours``: the step loop of ``fedlens.training`` (uint8 images, flat parameters, fused Adam, channels
  last, only what the network sees, pooling before ReLU);
- ``ours-bfloat16``: the same with ``precision="bfloat16"``;
- ``convolutions``: only the three convolutions of a step, forward and backward, channels last, on
  the part of the maps that the network sees and that our step computes: the floor for float32 on one
  core;
- ``whole-convolutions``: the same on the whole maps, which is what a plain network computes.

    python benchmarks/training_step.py [--rounds 9] [--json] [--out docs/results/training-step.json]
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from results import report
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from fedlens.data import Client
from fedlens.models import FlatParameters, build_model
from fedlens.training import LocalTraining, default_loss
from fedlens.training.loop import Draws, LocalRun
from fedlens.training.memory import keep_freed_memory

BATCH = 32
STEPS = 100  # a measurement: about a second
WHOLE = [(28, 26), (13, 11), (5, 3)]  # sides of each convolution's input and output maps
SEEN = [(22, 20), (10, 8), (4, 2)]


class PlainNetwork(nn.Sequential):
    """paper-cnn as one writes it down."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip


def plain(images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """Return one epoch over STEPS batches of the plain loop."""
    model = PlainNetwork()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(images.float() / 255, labels), batch_size=BATCH, shuffle=True)

    def epoch() -> None:
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    return epoch


def ours(images: torch.Tensor, labels: torch.Tensor, precision: str) -> Callable[[], None]:
    """Return one epoch over STEPS batches of the step loop."""
    model = build_model("paper-cnn", in_channels=1, classes=10, image_size=28)
    settings = LocalTraining(batch_size=BATCH, optimizer="adam", lr=1e-3, precision=precision)
    client = Client(images, labels)
    run = LocalRun(FlatParameters(model), client, settings, default_loss, Draws(0, 1, 0))

    def epoch() -> None:
        run.epoch(1)

    return epoch


def convolutions(sides: Sequence[tuple[int, int]]) -> Callable[[], None]:
    """Return STEPS forward and backward passes of the three convolutions alone.

    ``sides`` are the height and width of each one's input and output maps.
    """

    def laid(*shape: int) -> torch.Tensor:
        n, c, h, w = shape
        return torch.rand(n, h, w, c).permute(0, 3, 1, 2)

    layers = [nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.Conv2d(64, 64, 3)]
    inputs = [
        laid(BATCH, layer.in_channels, side, side)
        for layer, (side, _) in zip(layers, sides, strict=True)
    ]
    gradients = [
        laid(BATCH, layer.out_channels, side, side)
        for layer, (_, side) in zip(layers, sides, strict=True)
    ]
    for layer in layers:
        layer.to(memory_format=torch.channels_last)
    for maps in inputs[1:]:
        maps.requires_grad_()

    def epoch() -> None:
        for _ in range(STEPS):
            for layer, maps, gradient in zip(layers, inputs, gradients, strict=True):
                layer(maps).backward(gradient)
                layer.weight.grad = layer.bias.grad = maps.grad = None

    return epoch


def contestant(name: str, pipe: Connection) -> None:
    """Serve one contestant in a process of its own: an epoch for every message, timed."""
    torch.set_num_threads(1)
    if name != "plain":
        keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (BATCH * STEPS, 1, 28, 28), generator=generator, dtype=torch.uint8
    )
    labels = torch.randint(0, 10, (BATCH * STEPS,), generator=generator)
    epoch = {
        "plain": lambda: plain(images, labels),
        "plain-kept-memory": lambda: plain(images, labels),
        "ours": lambda: ours(images, labels, "float32"),
        "ours-bfloat16": lambda: ours(images, labels, "bfloat16"),
        "convolutions": lambda: convolutions(SEEN),
        "whole-convolutions": lambda: convolutions(WHOLE),
    }[name]()
    while pipe.recv():
        started = time.perf_counter()
        epoch()
        pipe.send(time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each contestant")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--out", type=Path, help="write the result as JSON to this file")
    options = parser.parse_args()
    loops = ("plain", "plain-kept-memory", "ours", "ours-bfloat16")
    names = (*loops, "convolutions", "whole-convolutions")
    pipes: dict[str, Connection] = {}
    for name in names:
        pipes[name], theirs = multiprocessing.Pipe()
        multiprocessing.Process(target=contestant, args=(name, theirs), daemon=True).start()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(options.rounds + 1):  # the first one warms up
        for name, pipe in pipes.items():
            pipe.send(True)
            elapsed = pipe.recv()
            if number:
                seconds[name].append(elapsed)
    for pipe in pipes.values():
        pipe.send(False)

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))

    result = {
        "images_per_second": {
            name: round(BATCH * STEPS / statistics.median(times)) for name, times in seconds.items()
        },
        "milliseconds_a_step": {
            name: round(1000 * statistics.median(times) / STEPS, 2)
            for name, times in seconds.items()
        },
        "speed_over_plain": round(ratio("plain", "ours"), 3),
        "speed_over_plain_kept_memory": round(ratio("plain-kept-memory", "ours"), 3),
        "speed_over_plain_bfloat16": round(ratio("plain", "ours-bfloat16"), 3),
        "time_over_convolutions": round(ratio("ours", "convolutions"), 3),
        "time_over_whole_convolutions": round(ratio("ours", "whole-convolutions"), 3),
    }
    targets = {
        "speed_over_plain": "at least 1.45",
        "speed_over_plain_bfloat16": "at least 2",
        "time_over_convolutions": "at most 1.4 (aim 1.3)",
    }
    report("training step", result, targets, options.json, options.out)


if __name__ == "__main__":
    sys.exit(main())
