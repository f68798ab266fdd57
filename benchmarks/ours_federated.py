"""fedlens' side of the two federations that Flower's simulation runs.

The last line is the JSON that benchmarks/README.md describes.

    python benchmarks/ours_federated.py --setting ten-clients [--rounds 3] [--precision float32]
    python benchmarks/ours_federated.py --setting thousand-clients
"""

import argparse
import json
import statistics
import time
from pathlib import Path

STARTED = time.perf_counter()  # before the imports, which are part of a run

from fedlens import FedAvg, LocalTraining, build_model, federate, load_dataset, partition  # noqa: E402

SETTINGS = {"ten-clients": (10, None), "thousand-clients": (1000, 100)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=SETTINGS, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--data", type=Path, help="folder of the Fashion-MNIST files")
    options = parser.parse_args()
    count, cohort = SETTINGS[options.setting]
    data = load_dataset("fashion-mnist", path=options.data, download=False)
    clients = partition(data.train, "iid", clients=count, seed=0)
    model = build_model("paper-cnn", in_channels=1, classes=10, image_size=28, seed=42)
    result = federate(
        model,
        clients,
        algorithm=FedAvg(),
        rounds=options.rounds,
        local=LocalTraining(
            epochs=1, batch_size=32, optimizer="adam", lr=1e-3, precision=options.precision
        ),
        cohort=cohort,
        workers=options.workers,
        seed=0,
        validation=data.test,
    )
    rounds = [
        {
            "seconds": record.seconds,
            "train_seconds": record.seconds - record.evaluation_seconds,
            "evaluate_seconds": record.evaluation_seconds,
            "mean_client_seconds": statistics.mean(c.seconds for c in record.clients),
            "test_accuracy": record.validation.accuracy if record.validation else None,
        }
        for record in result.history
    ]
    print(
        json.dumps(
            {
                "benchmark": options.setting,
                "side": "fedlens",
                "settings": vars(options) | {"data": None},
                "test_accuracy": rounds[-1]["test_accuracy"],
                "first_round_seconds": rounds[0]["seconds"],
                "warm_round_seconds": statistics.median(r["seconds"] for r in rounds[1:] or rounds),
                "rounds": rounds,
                "total_seconds": time.perf_counter() - STARTED,
            }
        )
    )


if __name__ == "__main__":
    main()
