"""The figures of `fedlens run --preset paper` as one JSON file, beside the targets.

fedlens run --preset paper --out runs/paper
python benchmarks/paper_figures.py runs/paper --out docs/results/paper.json
"""

import argparse
from pathlib import Path
from typing import Any

from results import over_seeds, write_or_print

from fedlens import load_run
from fedlens.experiment import Run

SHIRT, T_SHIRT = 6, 0
TARGETS = {
    "test_accuracy": "0.8957 +- 0.006",
    "macro_f1": "0.89 to 0.91",
    "gap": "0.047 +- 0.01",
}


def figures(run: Run) -> dict[str, Any]:
    """Return the last epoch's figures of one seed, the best epoch beside them."""
    last, test = run.history[-1], run.test
    accuracies = [line["validation"]["accuracy"] for line in run.history]
    assert test.confusion is not None
    return {
        "train_accuracy": last["train_accuracy"],
        "validation_accuracy": accuracies[-1],
        "best_validation_accuracy": max(accuracies),
        "best_epoch": accuracies.index(max(accuracies)) + 1,
        "gap": last["train_accuracy"] - accuracies[-1],
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "macro_f1": test.macro_f1,
        "f1": dict(zip(run.class_names, test.f1.tolist(), strict=True)),
        "shirt_to_tshirt": int(test.confusion[SHIRT, T_SHIRT]),
        "tshirt_to_shirt": int(test.confusion[T_SHIRT, SHIRT]),
        "validation_accuracy_by_epoch": accuracies,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="+", help="run directories of the preset")
    parser.add_argument("--out", type=Path, help="write the JSON to this file")
    options = parser.parse_args()
    opened = [load_run(path) for path in options.run]
    parts = [part for run in opened for part in run.parts or (run,) if part.result is not None]
    seeds = {str(part.config.seed): figures(part) for part in parts}
    content = {
        "benchmark": "the study's central baseline",
        "local": parts[0].config.to_dict()["local"],
        "targets": TARGETS,
        "summary": over_seeds(seeds),
        "seeds": seeds,
        "environment": parts[0].environment,
    }
    write_or_print(content, options.out)


if __name__ == "__main__":
    main()
