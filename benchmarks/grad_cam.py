"""Grad-CAM over the Fashion-MNIST test images against the passes that it cannot do without.

    FEDLENS_DATA=... python benchmarks/grad_cam.py [--json]

Four things are timed in turn, one thread, the same images, network, memory layout and batch size:

- ``explain``: logits, predicted class, Grad-CAM on the last convolution, maps at image size;
- ``forward``: the forward pass of the explanation view, without a graph;
- ``forward_backward``: that pass with a graph, and the gradient of the sum of the predicted
  classes' logits with respect to the images (no weight gradients);
- ``captum``: LayerGradCam with ReLU on the same layer for the same classes, then its bilinear
  interpolation. It is given the predicted classes, which cost it a forward pass that is timed too.

The ratios are medians over the repeats of the ratio within one repeat.
"""

import argparse
import gzip
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam
from results import report
from torch import Tensor

from fedlens.explain import explain
from fedlens.models.paper_cnn import PaperCNN, channels_last


def test_images(count: int) -> Tensor:
    """Return the first ``count`` test images as float32 (N, 1, 28, 28) in [0, 1]."""
    folder = os.environ.get("FEDLENS_DATA")
    if folder is None:
        sys.exit("Set FEDLENS_DATA to the folder that holds fashion-mnist/.")
    path = Path(folder) / "fashion-mnist" / "t10k-images-idx3-ubyte.gz"
    with gzip.open(path) as file:
        content = file.read(16 + count * 28 * 28)
    pixels = np.frombuffer(content, dtype=np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return torch.from_numpy(pixels.copy()).float() / 255


def contestants(model: PaperCNN, images: Tensor, batch: int) -> dict[str, Callable[[], None]]:
    view = model.explanation_view()
    cam = LayerGradCam(view, view.relu3)

    def run_explain() -> None:
        explain(model, images, batch_size=batch)

    def run_forward() -> None:
        with torch.no_grad():
            for part in images.split(batch):
                view(channels_last(part))

    def run_forward_backward() -> None:
        for part in images.split(batch):
            inputs = channels_last(part).detach().requires_grad_()
            score = view(inputs).amax(1).sum()
            torch.autograd.grad(score, inputs)

    def run_captum() -> None:
        for part in images.split(batch):
            inputs = channels_last(part)
            with torch.no_grad():
                predicted = view(inputs).argmax(1)
            small = cam.attribute(inputs, target=predicted, relu_attributions=True)
            LayerAttribution.interpolate(small, (28, 28), "bilinear")

    return {
        "explain": run_explain,
        "forward": run_forward,
        "forward_backward": run_forward_backward,
        "captum": run_captum,
    }


def measure(runs: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each repeat; the order turns round from one repeat to the next."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        names = list(runs) if repeat % 2 == 0 else list(reversed(runs))
        for name in names:
            start = time.perf_counter()
            runs[name]()
            if repeat > 0:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Time Grad-CAM against the bare passes.")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--out", type=Path, help="write the result as JSON to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    images = test_images(arguments.images)
    model = PaperCNN(1, 10, 28, torch.Generator().manual_seed(42)).eval()
    seconds = measure(contestants(model, images, arguments.batch), arguments.repeats)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(seconds["explain"], times, strict=True))
        for name, times in seconds.items()
        if name != "explain"
    }
    result = {
        "images": len(images),
        "batch": arguments.batch,
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "explain_over": {name: round(value, 3) for name, value in ratios.items()},
    }
    targets = {"explain_over": "forward_backward at most 2"}
    report("Grad-CAM", result, targets, arguments.json, arguments.out)


if __name__ == "__main__":
    main()
