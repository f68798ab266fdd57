"""Studies: the grid, the cells as runs of their own, the figures and the page."""

import csv
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from fnmatch import fnmatchcase
from html.parser import HTMLParser
from pathlib import Path

import pytest
from commands import started
from typer.testing import CliRunner

from fedlens.cli import app
from fedlens.errors import ConfigError, FedlensError, RunError
from fedlens.experiment.opened import load_run
from fedlens.experiment.run import start_run
from fedlens.experiment.study import Study, load_study, run_study, studies
from fedlens.experiment.study.summary import cell_state, recommend, summarise
from fedlens.report.study_content import MissingCell, StudySummary
from fedlens.report.study_page import manifest, table_csv, write_study_page
from fedlens.report.study_tables import target_table
from hand_made import hand_made

TINY = '''
title = "Tiny <study>"
about = """
Two ways to
  average digits."""
seeds = [0, 1]
front_classes = ["8"]
first = ["pairs/fedprox/*", "iid/*/1"]
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
[base.local]
batch_size = 16
[partitions.iid]
title = "IID"
set.partition = { scheme = "iid" }
[partitions.pairs]
title = "Pairs"
set.partition = { scheme = "classes", classes_per_client = 5 }
[algorithms.fedavg]
title = "FedAvg"
set = {}
[algorithms.fedprox]
title = "FedProx"
set.federation = { algorithm = "fedprox", parameters = { mu = 0.1 } }
[published.iid]
"Someone, best" = "91.50 ± 0.30 (FedAvg)"
'''


def written(folder: Path, text: str = TINY) -> Path:
    path = folder / "tiny.toml"
    path.write_text(text)
    return path


def small(folder: Path, text: str = TINY) -> Study:
    return load_study(str(written(folder, text)))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    folder = tmp_path_factory.mktemp("study")
    study = small(folder)
    run_study(study.cells, folder / "out", jobs=2)
    return study, folder / "out"


def bytes_of(cells, folder: Path) -> dict[str, bytes]:
    return {c.name: (c.folder(folder) / "model.safetensors").read_bytes() for c in cells}


# --- the grid


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("title = ", "title == ", ["not valid TOML"]),
        ("seeds = [0, 1]", "sedes = [0, 1]", ["seeds", "required"]),
        ("seeds = [0, 1]", "seeds = [0, 1]\ncolour = 1", ["colour", "not permitted"]),
        ("seeds = [0, 1]", "seeds = []", ["seeds"]),
        ("partitions.pairs", 'partitions."Two pairs"', ["Two pairs", "small letters"]),
        ("mu = 0.1", "mu = -1.0", ["iid/fedprox/0", "mu"]),
        ("clients = 2", "client = 2", ["iid/fedavg/0", "federation.client", "clients"]),
        (
            "seeds = [0, 1]",
            'seeds = [0, 1]\nleave_out = ["none/*"]',
            ["leave_out", "matches no cell"],
        ),
        ("seeds = [0, 1]", 'seeds = [0, 1]\nleave_out = ["*"]', ["leave_out", "every cell"]),
        ("[base.model]", "[base]\nrepeats = 4\n[base.model]", ["base.repeats", "`seeds`"]),
        ('{ scheme = "iid" }', '"iid"', ["partitions.iid.set.partition", "a table of settings"]),
        ('["8"]', '["8", "8"]', ["front_classes", "'8' is named twice"]),
        ('["8"]', '["8", "10"]', ["front_classes", "no class '10'", "digits", "0, 1, 2"]),
    ],
)
def test_a_study_that_cannot_be_is_one_sentence(
    old: str, new: str, words: list[str], tmp_path: Path
) -> None:
    assert old in TINY
    with pytest.raises(ConfigError) as caught:
        small(tmp_path, TINY.replace(old, new))
    for word in ["tiny.toml", *words]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_classes_of_an_image_set_of_ones_own_are_not_known_yet(tmp_path: Path) -> None:
    text = TINY.replace('["8"]', '["melanoma"]').replace('name = "digits"', 'path = "skin.npz"')
    assert small(tmp_path, text).file.front_classes == ["melanoma"]


def test_an_unknown_study_is_answered_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'noniid'"):
        load_study("noniit")
    with pytest.raises(ConfigError, match=r"Could not read .*none\.toml"):
        load_study(str(tmp_path / "none.toml"))


@pytest.mark.parametrize("name", studies())
def test_the_studies_that_come_along_can_be_loaded(name: str) -> None:
    for quick in (False, True):
        study = load_study(name, quick=quick)
        axes = study.file.partitions, study.file.algorithms, study.file.seeds
        left_out = [
            name
            for name in map("/".join, itertools.product(*axes[:2], map(str, axes[2])))
            if any(fnmatchcase(name, pattern) for pattern in study.file.leave_out)
        ]
        assert len(study.cells) == math.prod(map(len, axes)) - len(left_out)
        assert study.choose([], first=True)


def test_the_most_telling_cells_come_first(tmp_path: Path) -> None:
    study = small(tmp_path)
    listed = ["pairs/fedprox/0", "pairs/fedprox/1", "iid/fedavg/1", "iid/fedprox/1"]
    rest = ["iid/fedavg/0", "iid/fedprox/0", "pairs/fedavg/0", "pairs/fedavg/1"]
    assert [cell.name for cell in study.cells] == listed + rest
    assert [cell.name for cell in study.choose([], first=True)] == listed
    assert [c.name for c in study.choose(["iid/*/0", "*/fedavg/1"])] == [
        "iid/fedavg/1", "iid/fedavg/0", "iid/fedprox/0", "pairs/fedavg/1",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"iid/\*/7.*matches no cell.*fedavg, fedprox"):
        study.choose(["iid/*/0", "iid/*/7"])


# --- the cells


def test_a_cell_is_bit_for_bit_the_run_of_its_configuration(done, tmp_path: Path) -> None:
    study, folder = done
    for cell in study.choose(["pairs/*/0", "iid/fedavg/1"]):
        single = start_run(cell.config, tmp_path / cell.name.replace("/", "-"))
        for name in ("model.safetensors", "config.toml"):
            assert (single.path / name).read_bytes() == (cell.folder(folder) / name).read_bytes()
        for ours, theirs in zip(single.history, load_run(cell.folder(folder)).history, strict=True):
            assert ours["validation"] == theirs["validation"]
            # Sums over more threads round differently, and a cell has one thread.
            assert ours["drift"] == pytest.approx(theirs["drift"], rel=1e-12)
    assert len(set(bytes_of(study.cells, folder).values())) == len(study.cells)


def test_a_killed_study_goes_on_to_the_same_models(done, tmp_path: Path) -> None:
    study, folder = done
    cells, out = study.choose(["*/*/0"]), tmp_path / "out"

    def work() -> None:
        os.setsid()  # the study and its cells are a group of their own
        run_study(cells, out, jobs=2)

    process = started(work)
    while process.is_alive() and not list(out.glob("cells/*/*/*/checkpoints/*.safetensors")):
        time.sleep(0.002)
    process.kill()  # the study alone: its cells have to notice
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not all((cell.folder(out) / "result.json").exists() for cell in cells)
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:  # until no cell is left at work
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.02)
    else:
        pytest.fail("cells outlived their study")
    run_study(cells, out, jobs=2)
    assert bytes_of(cells, out) == bytes_of(cells, folder)


def test_finished_cells_are_not_run_again(done) -> None:
    study, folder = done
    before = {c.name: (c.folder(folder) / "result.json").stat().st_mtime_ns for c in study.cells}
    events = []
    run_study(study.cells, folder, watch=events.append)
    assert [(event.done, event.total) for event in events] == [(8, 8)]
    assert before == {
        c.name: (c.folder(folder) / "result.json").stat().st_mtime_ns for c in study.cells
    }


def test_settings_that_changed_since_are_one_sentence(done, tmp_path: Path) -> None:
    _, folder = done
    changed = small(tmp_path, TINY.replace("mu = 0.1", "mu = 0.2"))
    for attempt in (
        lambda: run_study(changed.cells, folder),
        lambda: summarise(changed, folder),
        lambda: cell_state(changed.choose(["iid/fedprox/0"])[0], folder),
    ):
        with pytest.raises(ConfigError, match=r"fedprox/seed-\d was made with other settings"):
            attempt()
    assert cell_state(changed.choose(["iid/fedavg/0"])[0], folder) == "finished"


def test_a_failing_cell_lets_the_others_finish(done, tmp_path: Path) -> None:
    study, folder = done
    cells = study.choose(["iid/*/0"])
    foreign = cells[0].folder(tmp_path)
    foreign.mkdir(parents=True)
    (foreign / "notes.txt").write_text("mine")
    with pytest.raises(FedlensError, match=r"1 of the study's cells failed: iid/fedavg/0.*empty"):
        run_study(cells, tmp_path, jobs=1)
    assert bytes_of(cells[1:], tmp_path) == bytes_of(cells[1:], folder)
    with pytest.raises(ConfigError, match="jobs is 0"):
        run_study(cells, tmp_path, jobs=0)


# --- the figures


def line(number: int, accuracy: float, clients: list[float | None], cosine: float | None) -> dict:
    return {
        "round": number,
        "seconds": 2.0 * number,
        "cohort": list(range(len(clients))),
        "bytes_down": 100,
        "bytes_up": 60,
        "validation": {"accuracy": accuracy, "f1": [0.01 * n for n in range(10)]},
        "clients": [{"client": k, "accuracy": value} for k, value in enumerate(clients)],
        "left_out": [],
        "drift": {"mean_update_norm": 1.0, "mean_cosine": cosine},
    }


def test_figures_are_those_worked_out_by_hand(done, tmp_path: Path) -> None:
    study, folder = done
    lines = {
        0: [line(1, 0.86, [0.5, 0.5], None), line(2, 0.84, [0.7, 0.9], 0.25)],
        1: [line(1, 0.70, [0.5, 0.5], 0.50), line(2, 0.80, [0.6, None], 0.75)],
    }
    for cell in study.choose(["iid/fedavg/*"]):
        target = cell.folder(tmp_path)
        target.mkdir(parents=True)
        for name in ("config.toml", "environment.json", "result.json"):
            (target / name).write_bytes((cell.folder(folder) / name).read_bytes())
        text = "".join(json.dumps(entry) + "\n" for entry in lines[cell.seed])
        (target / "metrics.jsonl").write_text(text)
    begun = study.choose(["pairs/fedprox/0"])[0].folder(tmp_path)
    begun.mkdir(parents=True)
    (begun / "config.toml").write_bytes(
        (study.choose(["pairs/fedprox/0"])[0].folder(folder) / "config.toml").read_bytes()
    )
    (begun / "metrics.jsonl").write_text(json.dumps(lines[0][0]) + "\n")

    summary = summarise(study, tmp_path)
    group = summary.group("iid", "fedavg")
    assert group is not None and group.seeds == (0, 1)
    one, two = group.cells
    final = group.over_seeds(lambda cell: cell.final)
    # (0.84 + 0.80) / 2 and |0.84 - 0.80| / sqrt(2)
    assert final.mean == pytest.approx(0.82) and final.sd == pytest.approx(0.04 / math.sqrt(2))
    assert (one.best, one.best_round, two.best, two.best_round) == (0.86, 1, 0.80, 2)
    assert [one.reached(t) for t in (0.80, 0.85, 0.88)] == [1, 1, None]
    assert [two.reached(t) for t in (0.80, 0.85, 0.88)] == [2, None, None]
    assert [one.bytes_to(0.85), two.bytes_to(0.80), two.bytes_to(0.85)] == [160, 320, None]
    assert one.total_bytes == 320 and one.seconds == 6.0
    assert one.worst_client == 0.7 and one.client_range == pytest.approx(0.2)
    assert one.client_sd == pytest.approx(0.1 * math.sqrt(2))
    assert two.clients == (0.6,) and math.isnan(two.client_sd) and two.federation == 2
    assert (one.mean_cosine, two.mean_cosine) == (0.25, 0.625)
    assert summary.class_names == ("8", "0", "1", "2", "3", "4", "5", "6", "7", "9")
    assert one.f1[:3] == (0.08, 0.0, 0.01)
    assert summary.about == "Two ways to average digits."
    assert len(summary.missing) == 6 and summary.total == 8
    assert {m.name: m.state for m in summary.missing if m.state} == {
        "pairs/fedprox/0": "round 1 of 2"
    }
    assert summary.measured_on == "test split"
    assert target_table(summary, 0.80).rows == [["FedAvg", "1.5\n240\u00a0bytes"]]
    assert target_table(summary, 0.85).rows == [["FedAvg", "1 (1 of 2)\n160\u00a0bytes"]]
    assert target_table(summary, 0.88).rows == [["FedAvg", "never"]]


def test_a_cell_of_another_image_set_is_refused(done, tmp_path: Path) -> None:
    study, folder = done
    cells = study.choose(["iid/*/0"])
    for cell in cells:
        target = cell.folder(tmp_path)
        target.mkdir(parents=True)
        for name in ("config.toml", "environment.json", "result.json", "metrics.jsonl"):
            (target / name).write_bytes((cell.folder(folder) / name).read_bytes())
    environment = json.loads((target / "environment.json").read_text())
    environment["dataset"]["class_names"][0] = "zero"
    (target / "environment.json").write_text(json.dumps(environment))
    with pytest.raises(RunError, match="another image set"):
        summarise(study, tmp_path)


# --- the page


class Reader(HTMLParser):
    """Reads a page strictly: every element that opens is closed, in order."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "path", "use"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        self.ids += [v or "" for k, v in attrs if k == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text.append(data)


def read(page: Path) -> tuple[Reader, str]:
    reader = Reader()
    reader.feed(page.read_text())
    reader.close()
    return reader, " ".join(" ".join(reader.text).replace("\u00a0", " ").split())


def test_the_page_holds_the_numbers_and_needs_nothing_else(done, tmp_path: Path) -> None:
    study, folder = done
    summary = summarise(study, folder)
    page = write_study_page(summary, recommend(summary), tmp_path)
    reader, text = read(page)
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert all(a.startswith(("#", "data:")) for a in reader.addresses)
    assert all(a[1:] in reader.ids for a in reader.addresses if a.startswith("#") and len(a) > 1)
    assert not re.search(r"https?://|url\((?!#)|<script", page.read_text())
    assert "Tiny <study>" in text and "<study>" not in page.read_text()
    for group in (g for key in summary.partitions for g in summary.groups(key)):
        for figure in (lambda c: c.final, lambda c: c.best):
            found = group.over_seeds(figure)
            assert f"{100 * found.mean:.2f} ± {100 * found.sd:.2f}" in text
    for advice in recommend(summary):
        assert advice.use
        for sentence in (advice.use, *advice.reasons):
            assert sentence.replace("\u00a0", " ") in text
    assert "91.50 ± 0.30" in text and "Someone, best" in text
    assert "fedlens study tiny --only iid/fedavg/0 --out" in text
    assert "Cells that are missing" not in text
    for name in ("accuracy-iid", "accuracy-pairs"):
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / "figures" / f"{name}.svg").read_text()
    assert not list(tmp_path.rglob("*.part"))


def test_the_table_and_the_manifest_say_what_each_cell_was_made_from(done, tmp_path: Path) -> None:
    study, folder = done
    summary = summarise(study, folder)
    write_study_page(summary, recommend(summary), tmp_path)
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert len(rows) == 8
    content = json.loads((tmp_path / "manifest.json").read_text())
    assert content["study"] == "tiny" and content["missing"] == []
    for row, entry in zip(rows, content["cells"], strict=True):
        cell = study.choose([entry["cell"]])[0]
        run = load_run(cell.folder(folder))
        assert f"{row['partition']}/{row['algorithm']}/{row['seed']}" == entry["cell"] == cell.name
        assert float(row["final_accuracy"]) == entry["final_accuracy"] == run.test.accuracy
        assert float(row["best_accuracy"]) == run.result["best_validation_accuracy"]
        assert int(row["total_bytes"]) == run.result["bytes_down"] + run.result["bytes_up"]
        assert float(row["f1_8"]) == run.history[-1]["validation"]["f1"][8]
        assert row["rounds_to_88"] == "" and row["state"] == "finished"
        assert entry["config"] == json.loads(json.dumps(cell.config.to_dict()))
        assert entry["commit"] == run.environment["commit"]
        assert entry["machine"]["processor"] == run.environment["processor"]


def test_what_is_missing_sampled_or_unknown_is_said(tmp_path: Path) -> None:
    summary = hand_made({"fedavg": [math.nan], "scaffold": [0.8]})
    summary = StudySummary(
        **{
            **vars(summary),
            "missing": (MissingCell("p", "fedavg", 1, "round 3 of 50"), MissingCell("p", "fedavg", 2)),
            "sampled": True,
            "quick": True,
            "measured_on": "validation split",
        }
    )  # fmt: skip
    _, text = read(write_study_page(summary, recommend(summary), tmp_path))
    assert "FedAvg 1 (round 3 of 50), 2" in text
    assert "2 of the 4 cells are not finished" in text
    assert (
        "Only the cohort that was drawn for the last round is measured, not all clients, and"
        in text
    )
    assert "small version of the study" in text
    assert "on the validation split" in text and "Nothing may be chosen" not in text
    assert "nan" not in text.lower().split()
    assert table_csv(summary).splitlines()[3].startswith("p,fedavg,1,round 3 of 50,,")
    assert manifest(summary)["missing"] == ["p/fedavg/1", "p/fedavg/2"]


# --- the command line


def fedlens(*arguments: str | Path):
    result = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    if isinstance(result.exception, FedlensError):
        return 2, str(result.exception), ""  # as fedlens.cli.main has it
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_command_runs_cells_lists_them_and_writes_the_page(done, tmp_path: Path) -> None:
    study, folder = done
    where = ["study", written(tmp_path), "--out", tmp_path / "out"]
    code, text, _ = fedlens(*where, "--list", "--only", "iid/*")
    assert code == 0 and "0 of 4 cells finished" in text and "not begun" in text
    code, text, _ = fedlens(*where, "--page-only")
    assert code == 2 and "is finished in" in text
    code, text, err = fedlens(*where, "--only", "iid/*/0", "--jobs", "1", "--json")
    assert code == 0 and err == ""
    content = json.loads(text)
    assert (content["finished"], content["total"]) == (2, 8)
    assert set(content["advice"]) == {"iid"}
    advice = content["advice"]["iid"]
    assert advice["use"] and len(advice["reasons"]) > 1
    cells = study.choose(["iid/*/0"])
    assert bytes_of(cells, tmp_path / "out") == bytes_of(cells, folder)
    code, text, _ = fedlens(*where, "--page-only")
    assert code == 0
    assert f"IID: {advice['use']}\n  - {advice['reasons'][0]}\n  - " in text
    assert f"{100 * content['table'][0]['final_accuracy'][0]:.2f}" in text
    assert str(tmp_path / "out" / "study.html") in text.replace("\n", "")
    assert "6 of 8 cells are missing" in text
    code, text, _ = fedlens(*where, "--list", "--json", "--first")
    states = {entry["cell"]: entry["state"] for entry in json.loads(text)}
    assert list(states) == ["pairs/fedprox/0", "pairs/fedprox/1", "iid/fedavg/1", "iid/fedprox/1"]


def test_what_a_person_does_wrong_is_one_sentence(tmp_path: Path) -> None:
    tiny = written(tmp_path)
    code, text, _ = fedlens("study", "noniit")
    assert code == 2 and "Did you mean" in text
    code, text, _ = fedlens("study", tiny, "--only", "iid/*/9")
    assert code == 2 and "matches no cell" in text
    code, text, _ = fedlens("study", tiny, "--only", "iid/*/0", "--first")
    assert code == 2 and "both listed in its `first` and matched" in text
    assert not (tmp_path / "studies").exists()


def test_a_failing_cell_still_leaves_a_page(tmp_path: Path) -> None:
    foreign = tmp_path / "out" / "cells" / "iid" / "fedavg" / "seed-0"
    foreign.mkdir(parents=True)
    (foreign / "notes.txt").write_text("mine")
    where = ["study", written(tmp_path), "--out", tmp_path / "out"]
    code, text, _ = fedlens(*where, "--only", "iid/*/0")
    assert code == 2 and "iid/fedavg/0" in text
    assert "FedProx" in (tmp_path / "out" / "study.html").read_text()


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    out, tiny = tmp_path / "out", written(tmp_path, TINY.replace("rounds = 2", "rounds = 400"))
    command = [sys.executable, "-c", "from fedlens.cli import main; main()", "study", str(tiny)]
    process = subprocess.Popen(
        [*command, "--only", "iid/*/0", "--out", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and not list(out.glob("cells/*/*/*/checkpoints/*.safetensors")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    again = f"study {tiny} --only 'iid/*/0' --out {out}"
    assert again in errors.replace("\n", "") and "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_help_has_examples() -> None:
    code, text, _ = fedlens("study", "--help")
    assert code == 0 and "fedlens study noniid --first" in text
