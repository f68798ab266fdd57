"""The examples run and say what they promise."""

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

from commands import elsewhere

EXAMPLES = Path(__file__).parents[1] / "examples"


def said(script: str) -> str:
    """Return what an example prints that runs in a process of its own."""

    def run() -> str:
        with contextlib.redirect_stdout(io.StringIO()) as output:
            runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        return output.getvalue()

    return elsewhere(run)


def test_own_problem() -> None:
    equal, unequal = said("own_problem.py").splitlines()
    assert "local epochs 1: found 2.000" in equal
    # closed form: pulls 3(1-q)(1) and (1-q^10)(5) with q = 0.9, weights 3 and 1
    pull = [3 * (1 - 0.9), 1 - 0.9**10]
    assert f"found {(pull[0] * 1 + pull[1] * 5) / sum(pull):.3f}" in unequal


def test_own_algorithm() -> None:
    """It trains where FedAvg does, is named in a configuration, and is as short as promised."""
    average, own, configured = said("own_algorithm.py").splitlines()
    assert average.startswith("fedavg: ")
    assert float(own.removeprefix("agreement: ").removesuffix(" %")) > 50  # chance is 10
    assert configured.startswith("Agreement(power=1.0")
    source = (EXAMPLES / "own_algorithm.py").read_text()
    body = source[source.index("@dataclass") : source.index("def main")].strip().splitlines()
    assert len(body) < 40


NOTEBOOK = EXAMPLES / "explain_your_own_model.ipynb"
CELLS = """
import json, sys
cells = json.load(open(sys.argv[1]))["cells"]
names = {"__name__": "__main__"}
for cell in cells:
    if cell["cell_type"] == "code":
        exec("".join(cell["source"]), names)
areas = names["areas"]
worst = max(value for name, value in areas.items() if name != "random")
assert names["accuracy"] > 0.85, names["accuracy"]
assert worst < areas["random"] - 0.2, areas
assert not any(found.degenerate.any() for found in names["question"].values())
"""


def test_explain_your_own_model() -> None:
    """Its cells run in order, and each of its methods beats noise at deletion by far."""
    done = subprocess.run(
        [sys.executable, "-c", CELLS, NOTEBOOK],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "deletion area" in done.stdout and "test accuracy" in done.stdout


def test_the_notebook_keeps_small_pictures_and_nothing_else() -> None:
    content = json.loads(NOTEBOOK.read_text())
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    kinds = {output["output_type"] for cell in code for output in cell["outputs"]}
    assert kinds == {"display_data"}
    assert all(cell["execution_count"] is None for cell in code)
    assert NOTEBOOK.stat().st_size < 200_000
