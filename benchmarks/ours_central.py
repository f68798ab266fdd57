"""fedlens' side of the central benchmark: paper-cnn, Adam, batch 32, two threads.

The last line is the JSON that benchmarks/README.md describes.

    python benchmarks/ours_central.py [--epochs 3] [--threads 2] [--precision float32]
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from fedlens import LocalTraining, build_model, load_dataset
from fedlens.training import evaluate_logits, predict
from fedlens.training.central import train_centrally
from fedlens.training.memory import keep_freed_memory


def main() -> None:
    started = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="that work on each batch")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--data", type=Path, help="folder of the Fashion-MNIST files")
    options = parser.parse_args()
    keep_freed_memory()
    data = load_dataset("fashion-mnist", path=options.data, download=False)
    prepared = time.perf_counter() - started
    model = build_model("paper-cnn", in_channels=1, classes=10, image_size=28, seed=42)
    local = LocalTraining(
        epochs=options.epochs,
        batch_size=32,
        optimizer="adam",
        lr=1e-3,
        precision=options.precision,
        threads=options.threads,
    )
    result = train_centrally(model, data.train, local=local, seed=42, validation=data.validation)
    test = evaluate_logits(predict(result.model, data.test.images), data.test.labels)
    epochs = [
        {
            "seconds": record.seconds,
            "train_seconds": record.seconds - record.evaluation_seconds,
            "train_accuracy": record.train_accuracy,
            "validation_accuracy": record.validation.accuracy if record.validation else None,
        }
        for record in result.history
    ]
    warm = epochs[1:] or epochs
    print(
        json.dumps(
            {
                "benchmark": "central",
                "side": "fedlens",
                "settings": vars(options) | {"data": None},
                "test_accuracy": test.accuracy,
                "train_images_per_second": len(data.train)
                / statistics.median(e["train_seconds"] for e in warm),
                "images_per_second_with_validation": len(data.train)
                / statistics.median(e["seconds"] for e in warm),
                "epochs": epochs,
                "first_epoch_seconds": epochs[0]["seconds"],
                "warm_epoch_seconds": statistics.median(e["seconds"] for e in warm),
                "prepare_seconds": prepared,
                "total_seconds": time.perf_counter() - started,
            }
        )
    )


if __name__ == "__main__":
    main()
