"""Clipped per-example gradients of paper-cnn, batch 256, one thread, over what they cost unclipped.

The contestants, timed in turn within one process, each over the same 256 images of 1x28x28:

- ``private``: ``PerExampleClipper.clipped_sum``, all 256 in one chunk as it comes;
- ``private-32``: the same in chunks of 32;
- ``plain`` and ``plain-32``: a forward and backward pass of 256, and passes of 32 examples without
  clipping, the same network;
- ``private-step``: ``private``, noise of the operating system's generator as it is released, and a step
  of fused Adam: a whole step of DP-SGD;
- ``noise``: that noise alone;
- ``plain-step``: ``plain`` and a step of fused Adam;
- ``step-loop``: an epoch of the step loop of ``fedlens.training``, batches of 32, Adam: eight steps;
- where Opacus is installed, forward, backward, and clipping and summing by its own ``DPOptimizer``:
  ``opacus-hooks``, ``opacus-functorch`` and ``opacus-ew`` (expanded weights), each with 256 and, as
  ``-32``, with 32 examples a pass. It is given the network of ``plain``, which sees only what it
  needs and pools first; those called ``-written-down`` are given paper-cnn as one writes it down.

Times are of the processor, not of the clock, so that they hold while something else runs.

    python benchmarks/per_example.py [--rounds 15] [--json] [--out docs/results/per-example.json]

Opacus wants another torch; to use that of this environment, install it in one that sees it:
``pip install --no-deps opacus opt_einsum``.
"""

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from results import report, start_on_one_thread
from torch import Tensor, nn
from training_step import PlainNetwork

from fedlens.data import Client
from fedlens.models import FlatParameters, build_model
from fedlens.privacy.noise import release
from fedlens.privacy.per_example import PerExampleClipper
from fedlens.privacy.sources import SecureSource
from fedlens.training import LocalTraining, default_loss
from fedlens.training.loop import Draws, LocalRun

BATCH = 256
CHUNK, SMALL_CHUNK = 256, 32
CLIP_NORM = 1.0


def network() -> nn.Module:
    model: nn.Module = build_model("paper-cnn", in_channels=1, classes=10, image_size=28)
    return model


def private(images: Tensor, labels: Tensor, **options: int) -> Callable[[], None]:
    """Return a call that sums the clipped gradients of all images."""
    flat = FlatParameters(network())
    clipper = PerExampleClipper(flat.model, default_loss, clip_norm=CLIP_NORM, **options)

    def run() -> None:
        flat.gradient.zero_()
        clipper.clipped_sum(images, labels, flat.gradient)

    return run


def private_step(images: Tensor, labels: Tensor) -> Callable[[], None]:
    """Return a step of DP-SGD with Adam."""
    flat = FlatParameters(network())
    clipper = PerExampleClipper(flat.model, default_loss, clip_norm=CLIP_NORM)
    optimizer, source = adam(flat), SecureSource()

    def run() -> None:
        flat.gradient.zero_()
        clipper.clipped_sum(images, labels, flat.gradient)
        flat.gradient.copy_(release(flat.gradient, CLIP_NORM, source)).div_(len(images))
        optimizer.step()

    return run


def noise() -> Callable[[], None]:
    """Return a call that releases a vector of paper-cnn's length with noise."""
    vector, source = torch.zeros_like(FlatParameters(network()).vector), SecureSource()

    def run() -> None:
        release(vector, CLIP_NORM, source)

    return run


def adam(flat: FlatParameters) -> torch.optim.Optimizer:
    """Return fused Adam on the whole vector."""
    vector = nn.Parameter(flat.vector)
    vector.grad = flat.gradient
    return torch.optim.Adam([vector], lr=1e-3, fused=True)


def plain(
    images: Tensor, labels: Tensor, *, chunk: int = CHUNK, step: bool = False
) -> Callable[[], None]:
    """Return a call that sums the gradients of all images, a chunk at a time, and may take a step."""
    flat = FlatParameters(network())
    optimizer = adam(flat)

    def run() -> None:
        flat.gradient.zero_()
        for rows, targets in zip(images.split(chunk), labels.split(chunk), strict=True):
            default_loss(flat.model(rows), targets).sum().backward()
        if step:
            flat.gradient.div_(len(images))
            optimizer.step()

    return run


def step_loop(images: Tensor, labels: Tensor) -> Callable[[], None]:
    """Return an epoch of our step loop over all images."""
    settings = LocalTraining(batch_size=SMALL_CHUNK, optimizer="adam", lr=1e-3)
    client = Client((images * 255).to(torch.uint8), labels)
    run = LocalRun(FlatParameters(network()), client, settings, default_loss, Draws(0, 1, 0))

    def epoch() -> None:
        run.epoch(1)

    return epoch


def opacus(
    mode: str, chunk: int, model: nn.Module, images: Tensor, labels: Tensor
) -> Callable[[], None]:
    """Return a call that sums the clipped gradients of all images as Opacus does."""
    from opacus.grad_sample import GradSampleModule, GradSampleModuleExpandedWeights
    from opacus.optimizers import DPOptimizer

    options: dict[str, Any] = {"loss_reduction": "sum"}
    if mode == "functorch":
        options["force_functorch"] = True
    wrap = GradSampleModuleExpandedWeights if mode == "ew" else GradSampleModule
    wrapped = wrap(model, **options)
    optimizer = DPOptimizer(
        torch.optim.SGD(wrapped.parameters(), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=CLIP_NORM,
        expected_batch_size=len(images),
        loss_reduction="sum",
    )

    def run() -> None:
        optimizer.zero_grad()
        for parameter in wrapped.parameters():
            parameter.summed_grad = None
        for rows, targets in zip(images.split(chunk), labels.split(chunk), strict=True):
            default_loss(wrapped(rows), targets).sum().backward()
            optimizer.clip_and_accumulate()
            for parameter in wrapped.parameters():
                parameter.grad_sample = None

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each contestant")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--out", type=Path, help="write the result as JSON to this file")
    options = parser.parse_args()
    start_on_one_thread()
    warnings.simplefilter("ignore")  # Opacus warns of hooks on inputs without a gradient
    generator = torch.Generator().manual_seed(0)
    batch = (
        torch.rand(BATCH, 1, 28, 28, generator=generator),
        torch.randint(0, 10, (BATCH,), generator=generator),
    )
    contestants = {
        "private": private(*batch),
        "private-32": private(*batch, chunk=SMALL_CHUNK),
        "plain": plain(*batch),
        "plain-32": plain(*batch, chunk=SMALL_CHUNK),
        "private-step": private_step(*batch),
        "noise": noise(),
        "plain-step": plain(*batch, step=True),
        "step-loop": step_loop(*batch),
    }
    if find_spec("opacus") is not None:
        for mode in ("hooks", "functorch", "ew"):
            contestants[f"opacus-{mode}"] = opacus(mode, BATCH, network(), *batch)
            contestants[f"opacus-{mode}-32"] = opacus(mode, SMALL_CHUNK, network(), *batch)
        for mode in ("hooks", "functorch", "ew"):
            written_down = opacus(mode, BATCH, PlainNetwork(), *batch)
            contestants[f"opacus-{mode}-written-down"] = written_down
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(options.rounds + 2):  # the first two warm up
        for name, run in contestants.items():
            started = time.process_time()
            run()
            if number > 1:
                seconds[name].append(time.process_time() - started)

    def ratio(one: str, other: str) -> float:
        return round(
            statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True)), 3
        )

    result: dict[str, Any] = {
        "milliseconds": {
            name: round(1000 * statistics.median(times), 1) for name, times in seconds.items()
        },
        "images_per_second": {
            name: round(BATCH / statistics.median(times))
            for name, times in seconds.items()
            if name != "noise"
        },
        "step_over_plain_step_same_chunks": ratio("private-step", "plain-step"),
        "step_over_step_loop": ratio("private-step", "step-loop"),
        "clipping_over_plain_same_chunks": ratio("private", "plain"),
        "clipping_over_plain_chunks_of_32": ratio("private", "plain-32"),
        "clipping_in_chunks_of_32_over_plain": ratio("private-32", "plain-32"),
    }
    peers = [name for name in contestants if name.startswith("opacus")]
    if peers:

        def fastest(names: list[str]) -> str:
            return min(names, key=lambda name: statistics.median(seconds[name]))

        written = fastest([name for name in peers if name.endswith("written-down")])
        best = fastest([name for name in peers if not name.endswith("written-down")])
        result["best_of_opacus_written_down"] = written
        result["speed_over_best_of_opacus_written_down"] = ratio(written, "private")
        result["speed_over_opacus_hooks"] = ratio("opacus-hooks", "private")
        result["speed_over_opacus_hooks_written_down"] = ratio(
            "opacus-hooks-written-down", "private"
        )
        result["best_of_opacus"] = best
        result["speed_over_best_of_opacus"] = ratio(best, "private")
    targets = {
        "step_over_plain_step_same_chunks": "at most 1.25",
        "clipping_over_plain_same_chunks": "at most 1.25, noise and optimiser left out",
        "speed_over_opacus_hooks": "at least 2.2",
        "speed_over_opacus_hooks_written_down": "at least 2.2",
        "speed_over_best_of_opacus": "at least 1.7",
        "speed_over_best_of_opacus_written_down": "at least 1.7",
    }
    report("per-example clipping", result, targets, options.json, options.out)


if __name__ == "__main__":
    sys.exit(main())
