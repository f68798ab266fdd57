"""``fedlens explain`` as people use and misuse it."""

import contextlib
import json
import subprocess
from pathlib import Path
from unittest import mock

import commands
import numpy as np
import pytest
import torch
from PIL import Image

from fedlens.experiment.config import load_config
from fedlens.experiment.explaining import reference_positions
from fedlens.experiment.opened import load_run
from fedlens.experiment.reporting import report_content
from fedlens.experiment.run import start_run
from fedlens.explain import METHODS, Contrast, explain

CHEAP = {
    "smoothgrad": ["samples=2"],
    "integrated-gradients": ["panels=1", "most_steps=9"],
    "expected-gradients": ["samples=3"],
    "exact-shapley": ["across=2"],
    "kernel-shap": ["across=3", "samples=40"],
    "lime": ["across=3", "samples=40"],
    "occlusion": ["size=14", "stride=14"],
}
WITH_ATTENTION = ("attention-rollout", "attention-relevance")
CONVOLUTIONAL = [name for name in METHODS if name not in WITH_ATTENTION]


def fedlens(*arguments: str | int | Path) -> subprocess.CompletedProcess[str]:
    """Run ``fedlens explain``."""
    return commands.fedlens("explain", *arguments)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = (
        "dataset.name=digits", "dataset.limit=200", "federation.clients=2",
        "federation.rounds=1", "federation.workers=1", "partition.scheme=iid",
        'explain.method=["grad-cam", "attention-rollout", "edges"]',
    )  # fmt: skip
    return start_run(load_config(overrides=settings), tmp_path_factory.mktemp("e") / "run").path


@pytest.fixture(scope="module")
def hybrid_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the network that offers its attention, trained as little as may be."""
    settings = (
        "dataset.name=digits", "dataset.limit=100", "model.name=hybrid", "federation.clients=1",
        "federation.rounds=1", "federation.workers=1", "local.epochs=1", "partition.scheme=iid",
    )  # fmt: skip
    return start_run(load_config(overrides=settings), tmp_path_factory.mktemp("h") / "run").path


def parameters(method: str) -> list[str]:
    return [word for text in CHEAP.get(method, []) for word in ("--parameter", text)]


def maps_of(file: Path) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    with np.load(file, allow_pickle=False) as content:
        arrays = dict(content)
    return arrays, json.loads(str(arrays.pop("meta")))


@pytest.mark.parametrize("method", CONVOLUTIONAL)
def test_every_method_writes_a_file_of_maps(run: Path, tmp_path: Path, method: str) -> None:
    file = tmp_path / "maps.npz"
    done = fedlens(
        run, "--method", method, "--split", "validation", "--index", "2:5", *parameters(method),
        "--out", file,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["maps.npz"], "no figure unless asked"
    arrays, meta = maps_of(file)
    assert arrays["maps"].dtype == np.float32 and arrays["maps"].shape == (3, 28, 28)
    assert arrays["logits"].shape == (3, 10)
    assert arrays["indices"].tolist() == [2, 3, 4]
    dataset = load_run(run).dataset
    assert arrays["labels"].tolist() == dataset.validation.labels[2:5].tolist()
    assert arrays["degenerate"].dtype == bool and arrays["degenerate"].shape == (3,)
    predicted = arrays["logits"].argmax(1).tolist()
    assert arrays["predicted"].tolist() == predicted and arrays["predicted"].dtype == np.int64
    looks = METHODS[method].class_specific
    assert arrays["target"].dtype == np.int64
    assert arrays["target"].tolist() == (predicted if looks else [])
    assert (meta["method"], meta["split"]) == (method, "validation")
    assert meta["explained"] == ("class" if looks else "no class")
    assert (meta["references"] is None) == (method != "expected-gradients")
    assert meta["value_range"] == [0, 1]
    assert ("detail_completeness_gap" in arrays) == METHODS[method].complete
    assert ("looks at no class: its map shows where, not why for this class" in done.stdout) != (
        looks
    )


@pytest.mark.parametrize("method", WITH_ATTENTION)
def test_the_methods_of_attention_explain_a_network_that_offers_it(
    hybrid_run: Path, tmp_path: Path, method: str
) -> None:
    file = tmp_path / "maps.npz"
    done = fedlens(hybrid_run, "--method", method, "--index", "2:5", "--out", file, "--figure")
    assert done.returncode == 0, done.stderr
    arrays, meta = maps_of(file)
    opened = load_run(hybrid_run)
    expected = explain(opened.model, opened.dataset.test.images[2:5], method)
    np.testing.assert_allclose(arrays["maps"], expected.values, rtol=1e-4, atol=1e-8)
    assert arrays["maps"].any((1, 2)).all() and not arrays["degenerate"].any()
    looks = method == "attention-relevance"
    assert arrays["target"].tolist() == (arrays["predicted"].tolist() if looks else [])
    assert meta["explained"] == ("class" if looks else "no class")
    assert meta["parameters"]["grid"] == [7, 7] and meta["references"] is None
    assert ("looks at no class: its map shows where, not why for this class" in done.stdout) != (
        looks
    )
    assert len(list((hybrid_run / "figures").glob(f"*{method}.svg"))) == 1


def test_attention_explains_a_contrast_by_relevance_and_not_by_rollout(
    hybrid_run: Path, tmp_path: Path
) -> None:
    file = tmp_path / "maps.npz"
    asked = ["--index", "2:5", "--contrast", "3:8", "--out", file]
    done = fedlens(hybrid_run, "--method", "attention-relevance", *asked)
    assert done.returncode == 0, done.stderr
    arrays, meta = maps_of(file)
    assert arrays["target"].tolist() == [3, 8] and meta["explained"] == "contrast"
    opened = load_run(hybrid_run)
    expected = explain(
        opened.model, opened.dataset.test.images[2:5], "attention-relevance",
        contrast=("3", "8"), class_names=opened.class_names,
    )  # fmt: skip
    np.testing.assert_allclose(arrays["maps"], expected.values, rtol=1e-4, atol=1e-8)
    file.unlink()
    done = fedlens(hybrid_run, "--method", "attention-rollout", *asked)
    commands.refused(done, "'attention-rollout' looks at no class", "leave out", "contrast")
    assert list(tmp_path.iterdir()) == []


def test_the_ending_of_a_file_of_maps_may_be_in_capitals(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "MAPS.NPZ"
    done = fedlens(run, "--index", 0, "--method", "gradient", "--out", file)
    assert done.returncode == 0, done.stderr
    assert file.is_file() and maps_of(file)[0]["maps"].shape == (1, 28, 28)


def test_the_maps_are_those_of_explain(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "maps.npz"
    done = fedlens(
        run, "--method", "expected-gradients", "--parameter", "samples=3", "--seed", 5,
        "--index", ":2", "--index", "7", "--contrast", "3:8", "--out", file, "--figure", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["maps"] == str(file) and Path(printed["figures"][0]).parent == run / "figures"
    opened = load_run(run)
    train = opened.dataset.train
    chosen = reference_positions(len(train), opened.config.seed)
    assert len(chosen) == len(set(chosen.tolist())) == 100
    expected = explain(
        opened.model,
        opened.dataset.test.images[[0, 1, 7]],
        "expected-gradients",
        target=Contrast(3, 8),
        seed=5,
        references=train.images[torch.from_numpy(chosen)],
        samples=3,
    )
    arrays, meta = maps_of(file)
    np.testing.assert_allclose(arrays["maps"], expected.values, rtol=1e-5, atol=1e-8)
    assert arrays["target"].tolist() == [3, 8] and meta["explained"] == "contrast"
    where = {"split": "train", "seed": 42, "positions": chosen.tolist()}
    assert meta["references"] == {**expected.meta["references"], **where}
    assert meta["references"]["count"] == 100
    assert meta["seed"] == 5
    assert {case["explained_class"] for case in printed["cases"]} == {"3 against 8"}


def test_several_methods_stand_side_by_side(run: Path, tmp_path: Path) -> None:
    asked = ["--method", "hires-cam", "--method", "edges", "--method", "gradient"]
    done = fedlens(run, *asked, "--index", 0, "--class", "7", "--layer", "conv2", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line.split("│")[1:-1] for line in done.stdout.splitlines() if "test 0" in line]
    rows = [[cell.strip() for cell in row][4:] for row in rows]
    assert [(explained, method) for explained, method, _ in rows] == [
        ("7", "hires-cam"), ("no class", "edges"), ("7", "gradient"),
    ]  # fmt: skip
    assert rows[0][2].startswith("conv2") and rows[1][2].startswith("none")
    assert "edges looks at no class" in done.stdout
    assert len(list(tmp_path.glob("*.svg"))) == 1
    document = next(tmp_path.glob("*.svg")).read_text()
    for text in ("hires-cam", "edges", "gradient", "(no class)", "map: evidence for 7"):
        assert f">{text}</text>" in document


def test_without_a_method_it_takes_those_of_the_run_that_can(run: Path, tmp_path: Path) -> None:
    done = fedlens(run, "--index", 0, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "attention-rollout is left out" in done.stderr
    assert "grad-cam" in done.stdout and "edges looks at no class" in done.stdout
    done = fedlens(run, "--index", 0, "--out", tmp_path / "maps.npz", "--json")
    assert [case["method"] for case in json.loads(done.stdout)["cases"]] == ["grad-cam"]
    assert done.stderr == ""


def test_the_report_shows_the_methods_that_can_and_says_which_cannot(run: Path) -> None:
    content = report_content(load_run(run))
    assert content.explain_method == "grad-cam"
    case = content.gallery[0].cases[0]
    assert [further.method for further in case.further] == ["edges"]
    (notice,) = [text for text in content.notices if "attention-rollout" in text]
    assert notice.startswith("Maps of attention-rollout are left out. PaperCNN does not offer")


def test_maps_made_from_the_images_of_a_private_run_are_pointed_out(
    run: Path, tmp_path: Path
) -> None:
    asked = ["--index", 0, "--method", "occlusion", *parameters("occlusion")]
    for baseline, said in (("black", False), ("mean", True)):
        with mock.patch("fedlens.cli.explain.private", return_value=True):
            done = fedlens(run, *asked, "--parameter", f"baseline={baseline}", "--out", tmp_path)
        assert done.returncode == 0, done.stderr
        assert ("maps of occlusion are worked out from training images" in done.stderr) == said


def test_an_image_file_has_an_unknown_label(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a long path would be folded in its cell of the table
    photo, file = Path("photo.png"), tmp_path / "maps.npz"
    Image.fromarray(np.full((50, 80, 3), 90, dtype=np.uint8)).save(photo)
    done = fedlens(run, "--image", photo, "--method", "gradient", "--out", file)
    assert done.returncode == 0, done.stderr
    arrays, meta = maps_of(file)
    assert arrays["labels"].tolist() == [-1] and meta["files"] == [str(photo)]
    assert "photo.png" in done.stdout and "unknown" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--index", "5:5"], ["The selection 5:5 holds no image", "test split"]),
        (["--index", "900:999"], ["900:999", "0 to 359"]),
        (["--index", "4:1"], ["4:1", "holds no image"]),
        (["--index", "360"], ["no image 360", "expected from 0 to 359"]),
        (["--index", "-1"], ["'-1' selects no images", "start:stop"]),
        (["--index", "0:9:0"], ["step", "at least 1"]),
        (["--index", "1.5"], ["'1.5'"]),
        (["--index", "a:b"], ["'a:b'"]),
        (["--index", "9" * 5000], ["selects no images"]),
        (["--contrast", "3"], ["The contrast '3' is not two classes", "0, 1, 2"]),
        (["--contrast", "3:12"], ["'3:12'", "0, 1, 2"]),
        (["--contrast", "3:3"], ["two different"]),
        (["--contrast", "3:8", "--class", "3"], ["--class and --contrast"]),
        (["--class", "13"], ["There is no class '13'", "expected one of"]),
        (["--method", "gradcam"], ["'gradcam'", "Did you mean 'grad-cam'?"]),
        (["--method", "attention-rollout"], ["does not offer its attention"]),
        (["--method", "edges", "--class", "3"], ["'edges' looks at no class"]),
        (["--method", "edges", "--contrast", "3:8"], ["'edges' looks at no class"]),
        (["--method", "gradient", "--layer", "conv1"], ["explains no single layer"]),
        (["--layer", "conv9"], ["conv9", "conv3"]),
        (["--parameter", "samples"], ["'samples'", "NAME=VALUE"]),
        (["--method", "lime", "--parameter", "sample=9"], ["no parameter 'sample'", "samples"]),
        (["--method", "lime", "--parameter", "samples=many"], ["samples is 'many'", "whole"]),
        (["--method", "lime", "--parameter", "samples=1e3"], ["samples is '1e3'", "whole"]),
        (["--method", "lime", "--parameter", "alpha=nan"], ["alpha is 'nan'", "a number"]),
        (["--method", "lime", "--parameter", "alpha=-1"], ["alpha is -1.0", "above 0"]),
        (["--method", "lime", "--parameter", "fill=pink"], ["no fill 'pink'", "black"]),
        (["--seed", "-1"], ["seed is -1"]),
        (["--out", "no/such/folder/maps.npz"], ["no folder no/such/folder"]),
        (["--method", "edges", "--method", "random", "--out", "x.npz"], ["one method", "2 were"]),
    ],
)
def test_what_a_person_does_wrong_is_one_sentence(
    run: Path, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    before = sorted(run.rglob("*"))
    with contextlib.chdir(tmp_path):
        done = fedlens(run, *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ") and done.stderr.strip().count("\n") == 0
    for word in words:
        assert word in done.stderr
    assert sorted(run.rglob("*")) == before and list(tmp_path.iterdir()) == []


def test_help_lists_the_methods_and_the_keys() -> None:
    text = " ".join(fedlens("--help").stdout.split())
    for name in METHODS:
        assert f" {name}: " in text
    assert text.count("Looks at no class.") == 3
    assert "--contrast Shirt:T-shirt/top --out maps.npz" in text
    for key in ("maps", "logits", "indices", "labels", "predicted", "target", "degenerate", "meta"):
        assert f" {key}" in text[text.index("A file of maps") :]
