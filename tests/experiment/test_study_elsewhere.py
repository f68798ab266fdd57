"""A study over several machines: cells taken from the manifest that another one wrote."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedlens.cli import app
from fedlens.errors import ConfigError, FedlensError, RunError
from fedlens.experiment.study import Study, load_study, run_study
from fedlens.experiment.study.elsewhere import read_elsewhere
from fedlens.experiment.study.summary import recommend, summarise
from fedlens.report.runaway import Runaway
from fedlens.report.study_page import MANIFEST, table_csv, write_study_page

TINY = """
title = "Tiny"
seeds = [0]
front_classes = ["8"]
[base.dataset]
name = "digits"
limit = 150
hold_out = false
[base.model]
name = "lenet"
[base.partition]
minimum = 2
[base.federation]
clients = 2
rounds = 2
workers = 1
[partitions.iid]
title = "IID"
set.partition = { scheme = "iid" }
[partitions.pairs]
title = "Pairs"
set.partition = { scheme = "classes", classes_per_client = 5 }
[algorithms.fedavg]
title = "FedAvg"
set = {}
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    """Return a study of two cells and a folder in which both are finished, with its page."""
    folder = tmp_path_factory.mktemp("study")
    path = folder / "tiny.toml"
    path.write_text(TINY)
    study = load_study(str(path))
    run_study(study.cells, folder / "out", jobs=1)
    summary = summarise(study, folder / "out")
    write_study_page(summary, recommend(summary), folder / "out")
    return study, folder / "out"


def test_two_halves_make_the_whole(done, tmp_path: Path) -> None:
    """The table of one half's run directories and the other's manifest is that of all directories."""
    study, folder = done
    whole = table_csv(summarise(study, folder))
    for name in ("iid", "pairs"):
        shutil.copytree(folder / "cells" / name, tmp_path / name / "cells" / name)
    only_pairs = summarise(study, tmp_path / "pairs")
    assert len(only_pairs.cells) == 1
    write_study_page(only_pairs, recommend(only_pairs), tmp_path / "pairs")
    for place in (tmp_path / "pairs", tmp_path / "pairs" / MANIFEST):
        both = summarise(study, tmp_path / "iid", read_elsewhere(study, [place]))
        assert table_csv(both) == whole and both.missing == ()
        assert [cell.environment["processor"] for cell in both.cells]
    # and once more around: nothing is lost on the way through a manifest
    write_study_page(both, recommend(both), tmp_path / "third")
    again = summarise(study, tmp_path / "none", read_elsewhere(study, [tmp_path / "third"]))
    assert table_csv(again) == whole
    assert (tmp_path / "third" / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()


def test_a_runaway_client_goes_through_the_manifest(done, tmp_path: Path) -> None:
    study, folder = done
    summary = summarise(study, folder)
    assert all(cell.runaway is None for cell in summary.cells)  # of two clients none can
    first = replace(summary.cells[0], runaway=Runaway(2, 1, 1.5e25, 0.75))
    known = replace(summary, cells=(first, *summary.cells[1:]))
    write_study_page(known, recommend(known), tmp_path)
    found = read_elsewhere(study, [tmp_path]).cells
    assert [cell.runaway for cell in found.values()] == [cell.runaway for cell in known.cells]


def test_the_client_that_ran_away_is_read_from_the_record(tmp_path: Path) -> None:
    path = tmp_path / "three.toml"
    path.write_text(TINY.replace("clients = 2", "clients = 3"))
    study = load_study(str(path))
    cell = study.cells[0]
    run_study([cell], tmp_path, jobs=1)
    record = cell.folder(tmp_path) / "metrics.jsonl"
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    for client, length in zip(lines[1]["clients"], (1.0, 12.0, 0.5), strict=True):
        client["update_norm"] = length
    record.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found,) = summarise(study, tmp_path).cells
    assert found.runaway == Runaway(2, lines[1]["clients"][1]["client"], 12.0, 1.0)


def test_clients_that_never_came_count_where_the_federation_is_not_of_a_stated_size(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sampled.toml"
    lists = ", ".join(f'c{digit} = ["{digit}"]' for digit in range(10))
    by_lists = f'{{ scheme = "class-lists", class_lists = {{ {lists} }} }}'
    sampled = TINY.replace("clients = 2", "cohort = 3")
    path.write_text(sampled.replace('{ scheme = "iid" }', by_lists))
    study = load_study(str(path))
    cell = study.cells[0]
    run_study([cell], tmp_path, jobs=1)
    record = cell.folder(tmp_path) / "metrics.jsonl"
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    lines[0]["cohort"], lines[1]["cohort"] = [4, 0, 8], [8, 4, 5]
    for line in lines:
        for client, who, length in zip(line["clients"], line["cohort"], (1, 1, 1), strict=True):
            client.update(client=who, update_norm=length)
    lines[1]["clients"][0]["update_norm"] = 12.0  # that of client 8, of four that were seen
    record.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found,) = summarise(study, tmp_path).cells
    assert found.federation == 9
    assert found.runaway == Runaway(2, 8, 12.0, 1.0)


def test_the_command_runs_only_what_is_not_finished_elsewhere(done, tmp_path: Path) -> None:
    _, folder = done
    content = json.loads((folder / MANIFEST).read_text())
    content["cells"] = [entry for entry in content["cells"] if entry["cell"] == "pairs/fedavg/0"]
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    (tmp_path / "tiny.toml").write_text(TINY)
    out = tmp_path / "out"
    arguments = [
        "study",
        str(tmp_path / "tiny.toml"),
        "--include",
        str(tmp_path),
        "--out",
        str(out),
    ]
    listed = CliRunner().invoke(app, [*arguments, "--list", "--json"])
    states = {entry["cell"]: entry["state"] for entry in json.loads(listed.stdout)}
    assert states == {"iid/fedavg/0": "not begun", "pairs/fedavg/0": "finished"}
    ran = CliRunner().invoke(app, [*arguments, "--jobs", "1", "--json"])
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["finished"] == 2
    assert [path.name for path in (out / "cells").iterdir()] == ["iid"]
    figures = [entry["figures"] for entry in json.loads((out / MANIFEST).read_text())["cells"]]
    whole = json.loads((folder / MANIFEST).read_text())["cells"]
    assert figures == [entry["figures"] for entry in whole]


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def text(source: str) -> str:
        content = json.loads(source)
        change(content)
        return json.dumps(content)

    return text


def cell(key: str, value: Any) -> Callable[[str], str]:
    return changed(lambda content: content["cells"][0].update({key: value}))


def figure(key: str, value: Any) -> Callable[[str], str]:
    return changed(lambda content: content["cells"][0]["figures"].update({key: value}))


@pytest.mark.parametrize(
    ("damage", "kind", "words"),
    [
        (lambda _: "no", RunError, "not JSON"),
        (lambda _: "[" * 100_000, RunError, "not JSON"),
        (lambda _: "[]", RunError, "not the manifest"),
        (changed(lambda content: content.pop("class_names")), RunError, "class_names"),
        (changed(lambda content: content.update(study="other")), RunError, "of the study 'other'"),
        (changed(lambda content: content.update(quick=True)), RunError, "quick"),
        (cell("cell", "iid/fedavg/7"), RunError, "iid/fedavg/7"),
        (changed(lambda c: c["cells"][0].pop("figures")), RunError, "figures"),
        (
            changed(lambda c: c["cells"][0]["config"]["local"].update(lr=0.5)),
            ConfigError,
            "other settings",
        ),
        (figure("accuracy", [0.5]), RunError, "1 accuracies"),
        (figure("accuracy", [0.5, 1.5]), RunError, "accuracy"),
        (figure("accuracy", []), RunError, "accuracy"),
        (figure("f1", [0.5]), RunError, "1 F1 of 10 classes"),
        (figure("sent", [-1, 2]), RunError, "sent"),
        (figure("clients", ["<script>"]), RunError, "clients"),
        (figure("colour", 1), RunError, "colour"),
        (
            figure("runaway", {"round": 1, "client": 0, "length": 1, "median": 0}),
            RunError,
            "median",
        ),
        (
            figure("runaway", {"round": 1, "client": -1, "length": 1, "median": 1}),
            RunError,
            "client",
        ),
        (cell("seconds", -1), RunError, "seconds"),
    ],
)
def test_a_manifest_that_cannot_be_is_one_sentence(
    done, tmp_path: Path, damage: Callable[[str], str], kind: type[FedlensError], words: str
) -> None:
    study, folder = done
    path = tmp_path / MANIFEST
    path.write_text(damage((folder / MANIFEST).read_text()))
    with pytest.raises(kind) as caught:
        read_elsewhere(study, [path])
    assert words in str(caught.value) and str(path) in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_a_missing_or_foreign_manifest_is_one_sentence(done, tmp_path: Path) -> None:
    study, folder = done
    with pytest.raises(RunError, match="Could not read"):
        read_elsewhere(study, [tmp_path])
    content = json.loads((folder / MANIFEST).read_text())
    content["class_names"][0] = "eight"
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(RunError, match="eight"):
        read_elsewhere(study, [folder, tmp_path])
    with pytest.raises(RunError, match="another image set"):
        summarise(study, folder, read_elsewhere(study, [tmp_path]))
