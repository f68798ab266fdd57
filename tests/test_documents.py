"""What the documents show can be run as it stands there, and what they count is there."""

import csv
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import fedlens
from fedlens.experiment.study.grid import load_study
from fedlens.explain import METHODS
from fedlens.models import get_vector

metrics = import_module("fedlens.explain.metrics")  # `fedlens.explain` is also a function
DOCS = Path(__file__).parent.parent / "docs"


def test_the_private_federation_of_the_privacy_page_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "privacy.md").read_text(), re.S)
    small = (("fashion-mnist", "digits"), ("512", "100"), ("=20", "=2"), ("epsilon=3", "epsilon=1"))
    for old, new in small:
        assert old in code
        code = code.replace(old, new)
    names: dict[str, object] = {}
    exec(compile(code, "docs/privacy.md", "exec"), names)
    assert len(names["result"].history) == 2
    assert 0.997 < names["privacy"].epsilon(1e-5) <= 1


def test_the_algorithm_of_ones_own_on_the_page_of_algorithms_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "algorithms.md").read_text(), re.S)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, "docs/algorithms.md", "exec"), names)
    shown = names["Agreement"](power=0.0)  # then it is FedAvg
    clients = fedlens.partition(fedlens.load_dataset("digits").train, "iid", clients=2, seed=1)
    model = fedlens.build_model("lenet", in_channels=1, classes=10, image_size=28, seed=1)
    local = fedlens.LocalTraining(batch_size=200)
    vectors = [
        get_vector(
            fedlens.federate(
                model, clients, algorithm=algorithm, rounds=1, local=local, seed=1
            ).model
        )
        for algorithm in (shown, fedlens.FedAvg())
    ]
    torch.testing.assert_close(*vectors, rtol=0, atol=1e-6)


def test_the_method_of_ones_own_on_the_page_of_explanations_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "explanations.md").read_text(), re.S)
    names: dict[str, object] = {}
    try:
        exec(compile(code, "docs/explanations.md", "exec"), names)
    finally:
        METHODS.pop("gradient-times-input", None)
    explanation = names["explanation"]
    assert explanation.meta["parameters"]["strength"] == 2.0
    assert explanation.values.shape == (4, 28, 28) and not explanation.degenerate.any()


def test_the_page_of_explanations_names_every_method_and_metric() -> None:
    page = (DOCS / "explanations.md").read_text()
    for name, kind in METHODS.items():
        (row,) = re.findall(rf"^\| `{re.escape(name)}` \| (.*) \|$", page, re.M)
        _, signed, complete, looks, *_ = row.split(" | ")
        assert (signed == "yes", looks == "yes") == (kind.signed, kind.class_specific)
        assert (complete != "no") == kind.complete
    results = {name for name in metrics.__all__ if name[0].isupper()}
    helpers = {
        "FILLS", "SCORES", "concordance", "fill_images", "histogram_entropy", "imputation_noise",
        "impute", "places", "randomise", "score_of",
    }  # fmt: skip
    for name in set(metrics.__all__) - results - helpers:
        assert f"`{name}`" in page, name


@pytest.mark.parametrize(
    ("study", "words", "count"),
    [
        ("noniid", "Its 48 most telling cells are all finished", 48),
        ("noniid-sampled", "all sixteen of its most telling cells", 16),
    ],
)
def test_the_results_count_the_most_telling_cells_and_all_are_finished(study, words, count) -> None:
    results = DOCS / "results"
    assert words in (results / "README.md").read_text()
    with (results / study / "table.csv").open() as table:
        finished = {
            f"{row['partition']}/{row['algorithm']}/{row['seed']}"
            for row in csv.DictReader(table)
            if row["state"] == "finished"
        }
    first = [cell.name for cell in load_study(study).choose([], first=True)]
    assert len(first) == count and not set(first) - finished
