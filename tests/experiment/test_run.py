"""Runs: what they leave behind, and that stopping changes nothing."""

import json
import math
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import elsewhere, started
from commands import fedlens as command

import fedlens
from fedlens.data import load_dataset
from fedlens.errors import DataError, FedlensError, RunError
from fedlens.experiment.config import Config, parse_config
from fedlens.experiment.modes import Event
from fedlens.experiment.opened import load_run
from fedlens.experiment.reporting import report_content
from fedlens.experiment.run import resume_run, start_run
from fedlens.experiment.run_directory import RunDirectory, read_tensors, write_tensors
from fedlens.training import evaluate_logits, predict

SMALL = [
    "dataset.name=digits",
    "dataset.limit=300",
    "federation.clients=4",
    "federation.rounds=6",
    "partition.minimum=5",
    "local.lr=0.05",
]


def config(**changes) -> Config:
    content = {
        "dataset": {"name": "digits", "limit": 300},
        "partition": {"scheme": "dirichlet", "minimum": 5},
        "federation": {"clients": 4, "rounds": 3, "workers": 1},
        "local": {"optimizer": "adam", "lr": 0.001},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            content.setdefault(section, {})[name] = value
        else:
            content[section] = value
    return parse_config(content)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> fedlens.Run:
    return start_run(config(), tmp_path_factory.mktemp("runs") / "first")


def small_run(out: Path, *more: str, rounds: int = 6) -> list[str]:
    sets = [part for value in [*SMALL, f"federation.rounds={rounds}"] for part in ("--set", value)]
    return ["run", *sets, "--out", str(out), *more]


def lines(out: Path) -> int:
    file = out / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def wait_for(out: Path, count: int, runs: Callable[[], bool]) -> None:
    while lines(out) < count and runs():
        time.sleep(0.002)


def test_a_run_directory_holds_what_is_promised(finished: fedlens.Run) -> None:
    names = {entry.name for entry in finished.path.iterdir()}
    assert {
        "config.toml",
        "metrics.jsonl",
        "ledger.json",
        "model.safetensors",
        "checkpoints",
        "environment.json",
        "result.json",
    } <= names
    assert [line["round"] for line in finished.history] == [1, 2, 3]
    assert not [name for name in names if name.endswith(".part")]
    ledger = json.loads((finished.path / "ledger.json").read_text())
    assert ledger["guarantee"].startswith("none")


def test_a_run_can_be_opened_and_its_figures_found_again(finished: fedlens.Run) -> None:
    run = fedlens.load_run(finished.path)
    outputs = predict(run.model, run.dataset.test.images)
    again = evaluate_logits(outputs, run.dataset.test.labels)
    assert again.accuracy == run.test.accuracy
    assert run.config == finished.config
    last = run.history[-1]["validation"]["accuracy"]
    measured = predict(run.model, run.dataset.validation.images)
    assert evaluate_logits(measured, run.dataset.validation.labels).accuracy == last


def test_the_same_configuration_gives_the_same_model_file(finished, tmp_path: Path) -> None:
    again = start_run(config(federation__workers=2), tmp_path / "again")
    one = (finished.path / "model.safetensors").read_bytes()
    assert one == (again.path / "model.safetensors").read_bytes()


def test_another_seed_gives_another_model(finished, tmp_path: Path) -> None:
    other = start_run(config(seed=43), tmp_path / "other")
    one, two = (read_tensors(r.path / "model.safetensors")[0] for r in (finished, other))
    assert not torch.equal(one["conv2.weight"], two["conv2.weight"])


@pytest.mark.parametrize(
    ("mode", "epochs", "moments", "algorithm"),
    [
        ("federated", 1, [(0, 0.0), (3, 0.05), (6, 0.0)], "fedavg"),
        ("federated", 1, [(1, 0.0), (2, 0.04), (4, 0.08)], "scaffold"),
        ("central", 6, [(2, 0.02)], "fedavg"),
    ],
)
def test_kill_at_any_moment_then_resume_gives_the_same_bytes(
    mode: str, epochs: int, moments: list[tuple[int, float]], algorithm: str, tmp_path: Path
) -> None:
    more = ["--mode", mode, "--set", f"local.epochs={epochs}"]
    more += ["--set", f"federation.algorithm={algorithm}"]
    resumed = []
    for number, (after, delay) in enumerate(moments):
        out = tmp_path / f"killed-{number}"
        process = started(command, *small_run(out, *more))
        while not (out / "config.toml").exists() and process.is_alive():
            time.sleep(0.002)
        wait_for(out, after, process.is_alive)
        time.sleep(delay)
        process.kill()
        process.join()
        resumed.append(resume_run(out))
        assert len(resumed[-1].history) == 6
        assert resumed[-1].config == resumed[0].config
    expected = start_run(resumed[0].config, tmp_path / "whole")
    whole = (expected.path / "model.safetensors").read_bytes()
    assert all((run.path / "model.safetensors").read_bytes() == whole for run in resumed)


def test_what_clients_remember_is_kept_for_two_checkpoints(tmp_path: Path) -> None:
    """The rounds of the last checkpoint and of the one before, which a damaged one falls back to."""
    run = start_run(config(federation__algorithm="scaffold", federation__rounds=4), tmp_path / "a")
    names = sorted(file.name[:14] for file in (run.path / "clients").iterdir())
    assert names == [f"{k:07d}-{r:06d}" for k in range(4) for r in (3, 4)]
    (run.path / "result.json").unlink()
    newest = sorted((run.path / "checkpoints").iterdir())[-1]
    newest.unlink()
    again = resume_run(run.path)
    assert (again.path / "model.safetensors").read_bytes() == (
        start_run(again.config, tmp_path / "b").path / "model.safetensors"
    ).read_bytes()


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", "from fedlens.cli import main; main()", *small_run(out, rounds=500)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(out, 2, lambda: process.poll() is None)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"fedlens resume {out}" in errors.replace("\n", " ")
    assert "Traceback" not in errors
    assert load_run(out).result is None


def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"

    def with_small_files() -> subprocess.CompletedProcess[str]:
        # a write past this size fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        return command(*small_run(out))

    done = elsewhere(with_small_files)
    assert done.returncode == 2
    assert "Could not write" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(out.rglob("*.part"))
    resumed = resume_run(out)
    assert len(resumed.history) == 6


def test_repeats_are_runs_of_their_own_and_resume_as_one(tmp_path: Path) -> None:
    run = start_run(config(repeats=2), tmp_path / "two")
    assert [part.config.seed for part in run.parts] == [42, 43]
    alone = start_run(config(seed=43), tmp_path / "alone")
    assert (run.parts[1].path / "model.safetensors").read_bytes() == (
        alone.path / "model.safetensors"
    ).read_bytes()
    assert run.model is run.parts[0].model


def test_progress_runs_from_the_start_to_the_end(tmp_path: Path) -> None:
    events: list[Event] = []
    start_run(config(repeats=2), tmp_path / "two", watch=events.append)
    done = [event.done for event in events]
    assert done == sorted(done)
    assert done[-1] == events[-1].total == 6


@pytest.mark.parametrize(("mode", "unit"), [("federated", "round"), ("central", "epoch")])
@pytest.mark.parametrize(("hold_out", "split"), [(True, "validation"), (False, "test")])
def test_a_line_of_progress_names_the_split_that_it_was_measured_on(
    mode: str, unit: str, hold_out: bool, split: str, tmp_path: Path
) -> None:
    events: list[Event] = []
    small = config(mode=mode, dataset__hold_out=hold_out)
    start_run(small, tmp_path / "run", watch=events.append)
    told = [event.message for event in events if event.message.startswith(f"{unit} ")]
    assert told
    assert all(f": {split} accuracy " in line for line in told)


def test_a_finished_run_is_left_as_it_is(finished: fedlens.Run) -> None:
    before = {f: f.stat().st_mtime_ns for f in finished.path.rglob("*") if f.is_file()}
    resume_run(finished.path)
    assert before == {f: f.stat().st_mtime_ns for f in finished.path.rglob("*") if f.is_file()}


def copy_unfinished(finished: fedlens.Run, to: Path) -> RunDirectory:
    shutil.copytree(finished.path, to)
    (to / "result.json").unlink()
    return RunDirectory(to)


def test_a_checkpoint_cut_in_half_is_named_and_the_one_before_it_works(finished, tmp_path) -> None:
    directory = copy_unfinished(finished, tmp_path / "run")
    last = directory.checkpoint_files()[-1]
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    with pytest.raises(RunError, match=f"{last.name} is damaged; delete that file"):
        resume_run(directory.path)
    last.unlink()
    resume_run(directory.path)
    one = (finished.path / "model.safetensors").read_bytes()
    assert one == (directory.path / "model.safetensors").read_bytes()


def test_a_flipped_bit_in_a_checkpoint_is_noticed(finished, tmp_path) -> None:
    directory = copy_unfinished(finished, tmp_path / "run")
    last = directory.checkpoint_files()[-1]
    content = bytearray(last.read_bytes())
    content[-1000] ^= 1
    last.write_bytes(content)
    with pytest.raises(RunError, match="damaged"):
        resume_run(directory.path)


def test_a_metrics_line_cut_short_is_written_again(finished, tmp_path) -> None:
    directory = copy_unfinished(finished, tmp_path / "run")
    whole = directory.metrics_file.read_bytes()
    directory.metrics_file.write_bytes(whole + b'{"round": 4, "sec')
    run = resume_run(directory.path)
    assert len(run.history) == 3
    assert directory.metrics_file.read_bytes() == whole


def test_lost_metrics_are_not_passed_over(finished, tmp_path) -> None:
    directory = copy_unfinished(finished, tmp_path / "run")
    directory.metrics_file.write_bytes(b"")
    with pytest.raises(RunError, match="lines were lost"):
        resume_run(directory.path)


def test_a_run_directory_of_another_version_is_refused(finished, tmp_path) -> None:
    directory = copy_unfinished(finished, tmp_path / "run")
    text = directory.config_file.read_text().replace("format = 2", "format = 99")
    directory.config_file.write_text(text)
    with pytest.raises(RunError, match="format 99, expected 2"):
        load_run(directory.path)


def test_what_is_not_a_run_directory_is_refused(tmp_path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        load_run(tmp_path)
    with pytest.raises(RunError, match="not a run directory"):
        load_run(tmp_path / "missing")


def test_weights_that_were_changed_are_refused(finished, tmp_path) -> None:
    directory = copy_unfinished(finished, tmp_path / "run")
    tensors, metadata = read_tensors(directory.model_file)
    tensors.pop("output.bias")
    write_tensors(directory.model_file, tensors, metadata)
    with pytest.raises(RunError, match="does not hold the weights"):
        _ = load_run(directory.path).model


def test_a_run_whose_images_changed_is_not_resumed(finished, tmp_path) -> None:
    directory = copy_unfinished(finished, tmp_path / "run")
    environment = json.loads(directory.environment_file.read_text())
    environment["dataset"]["checksum"] = "0" * 64
    directory.environment_file.write_text(json.dumps(environment))
    with pytest.raises(DataError, match="checksum"):
        resume_run(directory.path)


def test_two_processes_never_write_the_same_run(finished, tmp_path) -> None:
    directory = copy_unfinished(finished, tmp_path / "run")
    with directory.lock():
        done = elsewhere(lambda: command("resume", directory.path))
    assert done.returncode == 2
    assert "Another process is at work" in done.stderr
    resume_run(directory.path)


def test_workers_that_outlive_a_killed_server_do_not_hold_its_lock(finished, tmp_path) -> None:
    directory = copy_unfinished(finished, tmp_path / "run")
    here, there = multiprocessing.Pipe(duplex=False)

    def serve() -> None:
        with directory.lock():
            worker = os.fork()
            if worker == 0:
                time.sleep(20)
                os._exit(0)
            there.send(worker)
            os.kill(os.getpid(), signal.SIGKILL)

    process = started(serve)
    worker = here.recv()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with directory.lock():
        assert directory.config_file.exists()
        os.kill(worker, signal.SIGKILL)  # it was there until now


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"federation__clients": 301}, "clients"),
        ({"federation__clients": 100, "partition__minimum": 5}, "100"),
        ({"partition": {"scheme": "classes", "classes_per_client": 11}}, "11"),
        ({"partition": {"scheme": "group"}}, "group"),
        (
            {
                "partition": {"scheme": "class-lists", "class_lists": {"a": ["Shirt"]}},
                "federation": {"rounds": 1},
            },
            "Shirt",
        ),
        ({"dataset": {"name": "digits", "limit": 100}, "federation__clients": 101}, "101"),
        ({"explain__layer": "conv9"}, "conv9"),
        ({"explain": {"method": ["lime", "grad-cam"], "layer": "conv9"}}, "conv9"),
        (
            {
                "partition": {
                    "scheme": "class-lists",
                    "class_lists": {"a": [0, 1, 2, 3, 4], "b": [5, 6, 7, 8, 9]},
                },
                "federation": {"cohort": 3},
            },
            "cohort",
        ),
    ],
)
def test_what_cannot_be_run_is_found_before_anything_is_made(changes, words, tmp_path) -> None:
    with pytest.raises(FedlensError, match=words):
        start_run(config(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_directory_that_is_not_empty_is_not_written_to(tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="is not empty"):
        start_run(config(), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert not (tmp_path / "config.toml").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(RunError, match="Could not write"):
        start_run(config(), file / "run")
    if os.geteuid() != 0:  # root may write anywhere
        tmp_path.chmod(0o500)
        with pytest.raises(RunError, match="Could not write"):
            start_run(config(), tmp_path / "run")
        tmp_path.chmod(0o700)


def test_a_multilabel_set_trains_and_is_measured_by_auc(data_folder, tmp_path) -> None:
    path = data_folder / "medmnist" / "chestmnist_like_nih1000.npz"
    content = {
        "dataset": {"path": str(path)},
        "partition": {"scheme": "iid"},
        "federation": {"clients": 3, "rounds": 2, "workers": 1},
    }
    run = start_run(parse_config(content), tmp_path / "chest")
    assert run.test.auc is not None
    assert len(run.test.auc) == 14
    assert run.config.dataset.name is None


def test_the_api_of_the_readme(data_folder, tmp_path) -> None:
    data = load_dataset("fashion-mnist", path=data_folder / "fashion-mnist")
    small = data.train.subset(torch.arange(600))
    clients = fedlens.partition(small, "dirichlet", clients=5, alpha=0.5, seed=42)
    model = fedlens.build_model("paper-cnn", in_channels=1, classes=10, image_size=28, seed=42)
    result = fedlens.federate(
        model,
        clients,
        algorithm=fedlens.FedAvg(),
        rounds=2,
        local=fedlens.LocalTraining(
            epochs=1, batch_size=32, optimizer="sgd", lr=0.05, momentum=0.0
        ),
        cohort=None,
        workers=2,
        seed=42,
        loss=None,
        progress=None,
    )
    assert len(result.history) == 2
    images = data.test.images[:8]
    explanation = fedlens.explain(result.model, images, method="grad-cam", target=None, layer=None)
    assert explanation.values.shape == (8, 28, 28)


def test_a_run_that_diverges_ends_with_figures_and_not_with_a_traceback(tmp_path: Path) -> None:
    for lr in (1e9, 50.0):
        run = start_run(config(local={"optimizer": "sgd", "lr": lr}), tmp_path / f"lr-{lr}")
        assert len(run.history) == 3
        json.loads(run.path.joinpath("metrics.jsonl").read_text().splitlines()[-1])
        assert 0 <= run.test.accuracy <= 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seed = 42", "seed = 7"),
        ("lr = 0.001", "lr = 0.01"),
        ('mode = "federated"', 'mode = "central"'),
        ("limit = 300", "limit = 200"),
    ],
)
def test_a_configuration_that_was_edited_is_not_resumed(finished, tmp_path, old, new) -> None:
    directory = copy_unfinished(finished, tmp_path / "run")
    text = directory.config_file.read_text()
    assert old in text
    directory.config_file.write_text(text.replace(old, new))
    with pytest.raises(RunError, match="was changed after the run had begun"):
        resume_run(directory.path)


def test_the_number_of_workers_may_change_on_the_way(finished, tmp_path) -> None:
    directory = copy_unfinished(finished, tmp_path / "run")
    directory.checkpoint_files()[-1].unlink()
    text = directory.config_file.read_text()
    directory.config_file.write_text(text.replace("workers = 1", "workers = 2"))
    resume_run(directory.path)
    one = (finished.path / "model.safetensors").read_bytes()
    assert one == (directory.path / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "name", ["environment.json", "result.json", "metrics.jsonl", "config.toml"]
)
@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "5", "{}\n", '{"test": 5}\n', '{"dataset": 5}', "[" * 100_000, "\x00\xff"],
)
def test_damaged_files_are_one_sentence(finished, tmp_path, name: str, content: str) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished.path, path)
    (path / name).write_text(content)
    with pytest.raises(FedlensError) as caught:
        run = load_run(path)
        _ = run.test, run.model, run.dataset
    assert "\n" not in str(caught.value)[:200]


def changed_copy(
    run: fedlens.Run, path: Path, name: str, change: Callable[[dict[str, Any]], object]
) -> Path:
    """Copy a run directory and change each JSON object of one of its files."""
    shutil.copytree(run.path, path)
    text = (path / name).read_text()
    objects = [json.loads(part) for part in (text.splitlines() if name.endswith("l") else [text])]
    for content in objects:
        change(content)
    (path / name).write_text("".join(json.dumps(content) + "\n" for content in objects))
    return path


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("metrics.jsonl", lambda line: line.update(train_loss=math.nan)),
        ("metrics.jsonl", lambda line: line.pop("seconds")),
        ("metrics.jsonl", lambda line: line.pop("validation")),
        ("result.json", lambda content: content["test"].update(confusion=[[1, 2], [3, 4]])),
        ("result.json", lambda content: content["test"].update(f1=[1.0])),
        ("result.json", lambda content: content["test"].update(examples="many")),
        ("result.json", lambda content: content["test"].update(support=[-5] * 10)),
    ],
)
def test_damaged_values_are_one_sentence_too(finished, tmp_path, name, change) -> None:
    path = changed_copy(finished, tmp_path / "run", name, change)
    with pytest.raises(RunError, match=r"damaged"):
        _ = load_run(path).test
    if name == "metrics.jsonl":
        (path / "result.json").unlink()
        with pytest.raises(RunError, match=r"damaged"):
            resume_run(path)


def test_what_a_report_only_tells_does_not_stop_it(finished, tmp_path) -> None:
    path = changed_copy(
        finished, tmp_path / "run", "result.json", lambda c: c.update(updates_left_out="x")
    )
    content = json.loads((path / "environment.json").read_text())
    (path / "environment.json").write_text(json.dumps({**content, "notices": 5}))
    assert report_content(load_run(path), explained=False).notices == []


def test_a_checkpoint_that_lacks_something_is_one_sentence(finished, tmp_path) -> None:
    directory = copy_unfinished(finished, tmp_path / "run")
    last = directory.checkpoint_files()[-1]
    tensors, metadata = read_tensors(last)
    tensors.pop("client_rounds")
    write_tensors(last, tensors, metadata)
    with pytest.raises(RunError, match=rf"{last.name} is damaged: it has no 'client_rounds'"):
        resume_run(directory.path)


def test_a_finished_run_keeps_the_settings_that_it_was_made_with(finished, tmp_path) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished.path, path)
    file = path / "config.toml"
    text = file.read_text()
    file.write_text(text.replace("workers = 1", "workers = 2").replace("cases = 6", "cases = 2"))
    assert load_run(path).test.accuracy == finished.test.accuracy
    file.write_text(text.replace("[dataset]", '[dataset]\npath = "/moved/images.npz"'))
    assert load_run(path).test.accuracy == finished.test.accuracy  # where the images lie now
    for edited in (text.replace("lr = 0.001", "lr = 0.5"), text[: text.index("[local]")]):
        assert edited != text
        file.write_text(edited)
        with pytest.raises(RunError, match="was changed after the run had finished"):
            load_run(path)


def test_a_finished_run_that_lost_a_seed_is_refused(tmp_path) -> None:
    run = start_run(config(repeats=2, federation__rounds=1), tmp_path / "run")
    (run.path / "result.json").unlink()
    (run.path / ".result.json.0123.part").write_text("half")  # of a kill at the very end
    resume_run(run.path)
    assert not list(run.path.glob(".*.part"))
    assert len(run.parts) == 2
    shutil.rmtree(run.path / "seed-43")
    with pytest.raises(RunError, match="1 of the 2 seeds"):
        load_run(run.path)


def test_a_run_that_was_killed_before_it_began_can_begin_again(finished, tmp_path) -> None:
    out = tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    (out / "environment.json").write_text("{}")
    (out / ".config.toml.0123.part").write_text("half")
    run = start_run(config(), out)
    assert (run.path / "model.safetensors").read_bytes() == (
        finished.path / "model.safetensors"
    ).read_bytes()
    assert not list(out.glob(".*.part"))


def test_a_refused_directory_is_left_without_a_trace(tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError):
        start_run(config(), tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_written_files_have_the_permissions_that_the_umask_leaves(tmp_path) -> None:
    from fedlens.files import write_text

    old = os.umask(0o077)
    try:
        write_text(tmp_path / "secret.txt", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "secret.txt").stat().st_mode & 0o777 == 0o600


def test_a_diverged_multilabel_run_ends_with_figures(data_folder, tmp_path) -> None:
    path = data_folder / "medmnist" / "chestmnist_like_nih1000.npz"
    content = {
        "mode": "central",
        "dataset": {"path": str(path)},
        "local": {"optimizer": "sgd", "lr": 1e4, "epochs": 2},
    }
    run = start_run(parse_config(content), tmp_path / "chest")
    assert run.test.auc is not None


def test_a_run_with_a_relative_image_path_opens_from_anywhere(
    data_folder, tmp_path, monkeypatch
) -> None:

    shutil.copy(data_folder / "medmnist" / "breastmnist_resaved.npz", tmp_path / "scans.npz")
    monkeypatch.chdir(tmp_path)
    content = {
        "dataset": {"path": "scans.npz"},
        "partition": {"scheme": "iid"},
        "federation": {"clients": 2, "rounds": 1, "workers": 1},
    }
    run = start_run(parse_config(content), Path("out").resolve())
    monkeypatch.chdir("/")
    assert len(load_run(run.path).dataset.train) == 546
