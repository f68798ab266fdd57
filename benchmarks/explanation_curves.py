"""Deletion curves over Fashion-MNIST test images against one forward call per step and image.

    FEDLENS_DATA=... python benchmarks/explanation_curves.py [--json]

Both contestants give the same curves: the probability of the predicted class at 50 points while the
pixels turn black, in the order of a random map. One thread, the same images, maps and network:

- ``curves``: ``perturbation_curve`` over batches of 64 images;
- ``one_by_one``: for each image and each step the next pixels are set to black in place, and the one
  image goes through the network.

``imputed`` is ``perturbation_curve`` with ROAD's imputation at 10 mask sizes, the first 64 images.
The ratio is the median over the repeats of the ratio within one repeat.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from grad_cam import measure, test_images
from results import report, start_on_one_thread
from torch import Tensor

from fedlens.explain.metrics import perturbation_curve
from fedlens.models.paper_cnn import PaperCNN

STEPS = 49
MASK_SIZES = 10


def batched(model: PaperCNN, images: Tensor, maps: Tensor, batch: int) -> Tensor:
    parts = zip(images.split(batch), maps.split(batch), strict=True)
    curves = [
        perturbation_curve(model, part, order, generator=torch.Generator(), steps=STEPS)
        for part, order in parts
    ]
    return torch.cat([curve.scores for curve in curves])


def one_by_one(model: PaperCNN, images: Tensor, maps: Tensor) -> Tensor:
    count = maps[0].numel()
    until = (torch.arange(STEPS + 1) * count / STEPS).round().long().tolist()
    scores = torch.empty(len(images), STEPS + 1)
    with torch.no_grad():
        orders = maps.flatten(1).argsort(1, descending=True)
        for number, image in enumerate(images):
            changed = image[None].clone()
            pixels = changed.view(-1)
            probabilities = model(changed).softmax(1)[0]
            target = int(probabilities.argmax())
            scores[number, 0] = probabilities[target]
            for step in range(1, STEPS + 1):
                pixels[orders[number, until[step - 1] : until[step]]] = 0
                scores[number, step] = model(changed).softmax(1)[0, target]
    return scores


def contestants(
    model: PaperCNN, images: Tensor, maps: Tensor, batch: int
) -> dict[str, Callable[[], object]]:
    return {
        "curves": lambda: batched(model, images, maps, batch),
        "one_by_one": lambda: one_by_one(model, images, maps),
        "imputed": lambda: perturbation_curve(
            model,
            images[:64],
            maps[:64],
            generator=torch.Generator(),
            fill="imputed",
            steps=MASK_SIZES,
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time deletion curves against single passes.")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--out", type=Path, help="write the result as JSON to this file")
    arguments = parser.parse_args()
    start_on_one_thread()

    images = test_images(arguments.images)
    maps = torch.rand(len(images), 28, 28, generator=torch.Generator().manual_seed(1))
    model = PaperCNN(1, 10, 28, torch.Generator().manual_seed(42)).eval()
    gap = (batched(model, images, maps, arguments.batch) - one_by_one(model, images, maps)).abs()
    seconds = measure(contestants(model, images, maps, arguments.batch), arguments.repeats)
    ratio = statistics.median(
        slow / fast for slow, fast in zip(seconds["one_by_one"], seconds["curves"], strict=True)
    )
    result = {
        "images": len(images),
        "batch": arguments.batch,
        "points": STEPS + 1,
        "largest_difference": float(gap.max()),
        "milliseconds_per_image": {
            name: round(1000 * statistics.median(seconds[name]) / len(images), 3)
            for name in ("curves", "one_by_one")
        },
        "times_faster": round(ratio, 2),
        "imputed_seconds": round(statistics.median(seconds["imputed"]), 3),
    }
    targets = {"times_faster": "at least 3", "imputed_seconds": "a few, 64 images x 10 mask sizes"}
    report("Explanation curves", result, targets, arguments.json, arguments.out)


if __name__ == "__main__":
    main()
