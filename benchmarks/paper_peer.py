"""The figures of the study's protocol in the study's own stack as one JSON file.

for seed in 42 43 44; do
    .envs/keras/bin/python benchmarks/peers/keras_central.py --epochs 15 --seed $seed > keras-$seed.json
done
python benchmarks/paper_peer.py keras-*.json --out docs/results/paper-keras.json
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from machine import describe
from results import over_seeds, write_or_print


def figures(run: dict[str, Any]) -> dict[str, Any]:
    """Return the last epoch's figures of what one run printed, the best epoch beside them."""
    last = run["epochs"][-1]
    accuracies = [epoch["validation_accuracy"] for epoch in run["epochs"]]
    return {
        "train_accuracy": last["train_accuracy"],
        "validation_accuracy": accuracies[-1],
        "best_validation_accuracy": max(accuracies),
        "gap": round(last["train_accuracy"] - accuracies[-1], 4),
        "test_accuracy": run["test_accuracy"],
        "test_loss": run["test_loss"],
        "macro_f1": run["macro_f1"],
        "validation_accuracy_by_epoch": accuracies,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "run", type=Path, nargs="+", help="what keras_central.py printed, a seed each"
    )
    parser.add_argument("--out", type=Path, help="write the JSON to this file")
    options = parser.parse_args()
    runs = [json.loads(path.read_text().strip().splitlines()[-1]) for path in options.run]
    seeds = {str(run["settings"]["seed"]): figures(run) for run in runs}
    content = {
        "benchmark": "the study's central baseline, in the study's own stack",
        "command": " ".join(["python", *sys.argv]),
        "settings": {key: value for key, value in runs[0]["settings"].items() if key != "seed"},
        "versions": runs[0]["versions"],
        "summary": over_seeds(seeds),
        "seeds": seeds,
        "machine": describe(),
    }
    write_or_print(content, options.out)


if __name__ == "__main__":
    main()
