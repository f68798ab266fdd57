"""The examples run and say what they promise."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_own_problem() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "own_problem.py"], capture_output=True, text=True, check=True
    )
    equal, unequal = done.stdout.splitlines()
    assert "local epochs 1: found 2.000" in equal
    # closed form: pulls 3(1-q)(1) and (1-q^10)(5) with q = 0.9, weights 3 and 1
    pull = [3 * (1 - 0.9), 1 - 0.9**10]
    assert f"found {(pull[0] * 1 + pull[1] * 5) / sum(pull):.3f}" in unequal


def test_own_algorithm() -> None:
    """It trains where FedAvg does, is named in a configuration, and is as short as promised."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / "own_algorithm.py"], capture_output=True, text=True, check=True
    )
    average, own, configured = done.stdout.splitlines()
    assert average.startswith("fedavg: ")
    assert float(own.removeprefix("agreement: ").removesuffix(" %")) > 50  # chance is 10
    assert configured.startswith("Agreement(power=1.0")
    source = (EXAMPLES / "own_algorithm.py").read_text()
    body = source[source.index("@dataclass") : source.index("def main")].strip().splitlines()
    assert len(body) < 40
