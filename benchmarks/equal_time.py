"""`hybrid` against `paper-cnn` at equal training time on Fashion-MNIST, on the validation split.

    FEDLENS_DATA=... python benchmarks/equal_time.py [--seeds 42 43 44] [--epochs 2 3 5] [--out FILE]

Time is processor time of training on one thread, so that other work on the machine counts little.
`paper-cnn` is trained by the study's protocol (Adam 1e-3, batch 32, constant rate, so that it may be
stopped after any epoch); `hybrid` by AdamW with a cosine schedule over its epochs. A run of `hybrid`
is compared with `paper-cnn` after the first of its epochs that ends later than `hybrid` did. The
batches and rates of `hybrid` were chosen with seed 42 on the same split.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from results import report, start_on_one_thread

from fedlens import LocalTraining, build_model, load_dataset
from fedlens.models import FlatParameters
from fedlens.training.central import CentralCheckpoint, train_centrally
from fedlens.training.evaluation import evaluate_logits
from fedlens.training.prediction import predict

PAPER = LocalTraining(epochs=15, batch_size=32, optimizer="adam", lr=1e-3)
HYBRID = {2: (64, 0.003), 3: (64, 0.004)}  # batch and rate by epochs
HYBRID_FROM_FOUR = (32, 0.003)


def hybrid_training(epochs: int) -> LocalTraining:
    """Return how `hybrid` is trained for so many epochs."""
    batch_size, rate = HYBRID.get(epochs, HYBRID_FROM_FOUR)
    return LocalTraining(
        epochs=epochs,
        batch_size=batch_size,
        optimizer="adamw",
        lr=rate,
        schedule="cosine",
        weight_decay=0.05,
    )


def curve(name: str, local: LocalTraining, seed: int, data: Any) -> list[tuple[float, float]]:
    """Return (processor seconds of training, validation accuracy in percent) after each epoch."""
    model, measured = (
        build_model(name, in_channels=1, classes=10, image_size=28, seed=seed) for _ in range(2)
    )
    flat = FlatParameters(measured)
    points: list[tuple[float, float]] = []
    begun, evaluating = time.process_time(), 0.0

    def keep(checkpoint: CentralCheckpoint, _: Any) -> None:
        nonlocal evaluating
        before = time.process_time()
        flat.load_state(checkpoint.state)
        logits = predict(measured, data.validation.images)
        accuracy = evaluate_logits(logits, data.validation.labels).accuracy
        points.append((before - begun - evaluating, 100 * accuracy))
        evaluating += time.process_time() - before
        print(f"{name}, seed {seed}: {points[-1][0]:.0f} s, {points[-1][1]:.2f} %", flush=True)

    train_centrally(model, data.train, local=local, seed=seed, checkpoint=keep)
    return points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--epochs", type=int, nargs="+", default=[2, 3, 5], help="of hybrid")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    start_on_one_thread()
    data = load_dataset("fashion-mnist", download=False)
    leads: dict[int, list[float]] = {epochs: [] for epochs in options.epochs}
    rows = []
    for seed in options.seeds:
        paper = curve("paper-cnn", PAPER, seed, data)
        for epochs in options.epochs:
            ours, accuracy = curve("hybrid", hybrid_training(epochs), seed, data)[-1]
            later = [point for point in paper if point[0] >= ours]
            theirs, other = later[0] if later else paper[-1]
            leads[epochs].append(accuracy - other)
            rows.append(
                {
                    "seed": seed,
                    "hybrid_epochs": epochs,
                    "hybrid_seconds": round(ours, 1),
                    "hybrid_accuracy": round(accuracy, 2),
                    "paper_cnn_seconds": round(theirs, 1),
                    "paper_cnn_accuracy": round(other, 2),
                }
            )
    result: dict[str, Any] = {
        f"lead_after_{epochs}_epochs": round(statistics.mean(values), 2)
        for epochs, values in leads.items()
    }
    targets = dict.fromkeys(result, "at least -0.5 points")
    result["rows"] = rows
    report(
        "hybrid against paper-cnn at equal training time",
        result,
        targets,
        options.json,
        options.out,
    )


if __name__ == "__main__":
    main()
