"""The command line as people use and misuse it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import fedlens, refused
from PIL import Image

QUICK = [
    *("--set", "dataset.name=digits"),
    *("--set", "dataset.limit=300"),
    *("--set", "federation.clients=3"),
    *("--set", "federation.rounds=2"),
    *("--set", "federation.workers=1"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    out = folder / "runs" / "first"
    done = fedlens("run", *QUICK, where=folder)
    assert done.returncode == 0, done.stderr
    assert "Test accuracy" in done.stdout
    assert "round 2/2" in done.stderr
    return out


def content_of(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_run_leaves_a_report_and_pictures(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "<html" in page
    assert "digits" in page
    figures = list((run / "figures").iterdir())
    assert {f.suffix for f in figures} == {".png", ".svg"}


def test_json_is_all_that_is_printed(run: Path) -> None:
    done = fedlens("resume", run, "--json")
    content = json.loads(done.stdout)
    assert content["run"] == str(run)
    assert len(content["test_accuracy"]) == 1
    assert done.stderr == ""


def test_the_report_can_be_written_again(run: Path) -> None:
    before = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert fedlens("report", run).returncode == 0
    assert (run / "report.html").read_bytes() == before


def test_explain_gives_the_five_parts(run: Path, tmp_path: Path) -> None:
    done = fedlens("explain", run, "--index", 3, "--index", 5, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)["cases"]
    assert [case["index"] for case in cases] == [3, 5]
    for case in cases:
        assert {"predicted_class", "confidence", "map", "layer"} <= set(case)
        assert np.array(case["map"]).shape == (28, 28)
        assert case["layer"] == "conv3"
    assert json.loads(done.stdout)["blind_pixels"] == 28 * 28 - 22 * 22
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_explain_marks_the_blind_area_in_words(run: Path, tmp_path: Path) -> None:
    done = fedlens("explain", run, "--out", tmp_path)
    assert "cannot see 300 of 784 pixels" in done.stdout


def test_explain_takes_an_image_file(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    Image.fromarray(np.full((50, 80, 3), 90, dtype=np.uint8)).save(file)
    done = fedlens("explain", run, "--image", file, "--class", "7", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "unknown" in done.stdout


def test_explain_says_which_class_the_map_is_about(run: Path, tmp_path: Path) -> None:
    done = fedlens("explain", run, "--index", 0, "--class", "7", "--out", tmp_path, "--json")
    assert json.loads(done.stdout)["cases"][0]["explained_class"] == "7"
    other = fedlens("explain", run, "--index", 0, "--layer", "conv1", "--out", tmp_path, "--json")
    one, two = (json.loads(d.stdout)["figures"][0] for d in (done, other))
    assert one != two
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_a_run_can_be_run_again_from_its_own_configuration(run: Path, tmp_path: Path) -> None:
    done = fedlens("run", run / "config.toml", "--out", tmp_path / "again", "--json")
    assert done.returncode == 0, done.stderr
    one, other = ((r / "model.safetensors").read_bytes() for r in (run, tmp_path / "again"))
    assert one == other


def test_explain_refuses_what_is_not_there(run: Path, tmp_path: Path) -> None:
    refused(fedlens("explain", run, "--index", 99_999), "99999", "expected from 0 to")
    refused(fedlens("explain", run, "--class", "Unicorn"), "Unicorn", "expected one of")
    refused(fedlens("explain", run, "--layer", "conv9"), "conv9", "conv3")
    refused(fedlens("explain", run, "--split", "exam"), "exam", "validation")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    refused(fedlens("explain", run, "--image", broken), "broken.png")


def test_partition_shows_a_table_and_a_heatmap(tmp_path: Path) -> None:
    done = fedlens("partition", *QUICK, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "distance" in done.stdout
    assert {f.name for f in tmp_path.iterdir()} == {"partition.png", "partition.svg"}
    content = json.loads(fedlens("partition", *QUICK, "--out", tmp_path, "--json").stdout)
    assert sum(client["size"] for client in content["clients"]) == 300


def test_datasets_list_and_check() -> None:
    rows = json.loads(fedlens("datasets", "list", "--json").stdout)
    names = {row["name"] for row in rows}
    assert {"fashion-mnist", "digits", "pathmnist", "chestmnist"} <= names
    done = fedlens("datasets", "check", "digits", "--json")
    content = json.loads(done.stdout)
    assert sum(sum(counts) for counts in content["counts"].values()) == 1797


def test_datasets_import_then_run(tmp_path: Path) -> None:
    stream = np.random.default_rng(0)
    for name, level in (("cat", 60), ("dog", 180)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(40):
            pixels = np.clip(stream.normal(level, 20, (30 + number, 40)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    out = tmp_path / "pets.npz"
    done = fedlens("datasets", "import", tmp_path / "photos", "--out", out)
    assert done.returncode == 0, done.stderr
    done = fedlens(
        "run", "--set", f"dataset.path={out}", "--set", "federation.clients=2",
        "--set", "federation.rounds=2", "--set", "partition.minimum=2", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cat" in done.stdout


def save_images(path: Path, names: list[str], *, train: list[int], test: list[int]) -> Path:
    """Write an npz with ``train`` and ``test`` images of each class, and two groups."""
    stream = np.random.default_rng(0)
    content = {"class_names": np.array(names)}
    for split, counts in (("train", train), ("test", test)):
        labels = np.repeat(np.arange(len(names)), counts)
        level = 20 + 200 * labels[:, None, None] // max(1, len(names) - 1)
        noise = stream.integers(0, 20, (len(labels), 28, 28))
        content[f"{split}_images"] = (level + noise).astype(np.uint8)
        content[f"{split}_labels"] = labels
        content[f"{split}_groups"] = np.arange(len(labels)) % 3
    content["group_names"] = np.array(["north", "[/i]", "south"])
    np.savez(path, **content)
    return path


def test_names_are_printed_as_they_are(tmp_path: Path) -> None:
    images = save_images(tmp_path / "odd.npz", ["[/b]", "[red]R"], train=[60, 60], test=[9, 0])
    done = fedlens("datasets", "check", images)
    assert done.returncode == 0, done.stderr
    assert "[/b]" in done.stdout and "[red]R" in done.stdout
    by_group = ["--set", f"dataset.path={images}", "--set", "partition.scheme=group"]
    done = fedlens("partition", *by_group, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "[/i]" in done.stdout and "[red]R" in done.stdout
    out = tmp_path / "r[/x]"
    done = fedlens(
        "run", *by_group, "--set", "federation.rounds=2", "--set", "partition.minimum=1",
        "--set", "federation.workers=1", "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"Report: {out / 'report.html'}" in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if "[red]R" in line]
    assert not any(letter.isdigit() for letter in row)  # no test image, so no F1


def test_the_small_version_fits_more_clients_than_it_has_images_for(tmp_path: Path) -> None:
    many = save_images(tmp_path / "many.npz", ["a", "b"], train=[3_000, 1], test=[9, 9])
    done = fedlens(
        "run", "--quick", "--set", f"dataset.path={many}", "--set", "federation.clients=250",
        "--set", "federation.workers=1", "--set", "partition.scheme=iid",
        "--set", "federation.minimum_cohort=60", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_stop_before_there_is_a_run_does_not_send_anybody_to_resume_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["fedlens.cli.run"], "start_run", interrupted)
    done = fedlens("run", *QUICK, "--out", tmp_path / "run")
    assert done.returncode == 130
    assert "the same command starts it" in done.stderr and "resume" not in done.stderr


def test_what_a_person_does_wrong_is_one_sentence(tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(fedlens("run", "--set", "local.learning_rate=1", "--out", out), "local.learning_rate")
    refused(fedlens("run", tmp_path / "missing.toml", "--out", out), "missing.toml")
    refused(fedlens("run", "--preset", "second", "--out", out), "second", "first, paper")
    refused(fedlens("run", "--mode", "swarm", "--out", out), "swarm", "federated, central")
    refused(fedlens("run", "--set", "dataset.path=/no/such.npz", "--out", out), "/no/such.npz")
    refused(fedlens("run", *QUICK, "--set", "federation.clients=999", "--out", out), "999")
    refused(fedlens("resume", tmp_path), "not a run directory")
    refused(fedlens("report", tmp_path), "not a run directory")
    refused(fedlens("datasets", "check", "imagenet"), "imagenet")
    refused(fedlens("datasets", "import", tmp_path / "none", "--out", tmp_path / "x.npz"), "none")
    assert not out.exists()
    assert not (tmp_path / "x.npz").exists()


def test_without_the_image_set_the_embedded_one_is_used_and_said(tmp_path: Path) -> None:
    done = fedlens(
        "run", "--quick", "--or-embedded", "--set", "federation.clients=3", "--out", tmp_path / "run",
        FEDLENS_DATA=str(tmp_path), FEDLENS_CACHE=str(tmp_path / "cache"),
        http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "embedded set 'digits'" in done.stderr.replace("\n", " ")
    assert "embedded set" in (tmp_path / "run" / "report.html").read_text()


def test_runs_do_not_overwrite_each_other(run: Path) -> None:
    folder = run.parents[1]
    before = content_of(run)
    done = fedlens("run", *QUICK, "--json", where=folder)
    assert json.loads(done.stdout)["run"] == "runs/first-2"
    assert (folder / "runs" / "first-2" / "result.json").exists()
    refused(fedlens("run", *QUICK, "--out", "runs/first", where=folder), "is not empty")
    assert content_of(run) == before


def test_every_command_has_help_with_an_example() -> None:
    commands = [
        ["run"], ["resume"], ["report"], ["explain"], ["partition"],
        ["datasets", "list"], ["datasets", "check"], ["datasets", "import"],
    ]  # fmt: skip
    for words in commands:
        done = fedlens(*words, "--help")
        assert done.returncode == 0
        assert f"fedlens {' '.join(words)}" in done.stdout.split("Usage")[1].split("\n", 1)[1]


def test_the_installed_command_ends_with_exit_code_2_and_no_traceback(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("fedlens")
    done = subprocess.run(
        [command, "resume", tmp_path], capture_output=True, text=True, check=False
    )
    refused(done, "not a run directory")


def test_version() -> None:
    import fedlens as package

    assert fedlens("--version").stdout.strip() == package.__version__


PRIVATE = [
    *("--set", "dataset.name=digits"),
    *("--set", "mode=central"),
    *("--set", "model.name=tanh-cnn"),
    *("--set", "local.epochs=2"),
    *("--set", "local.batch_size=200"),
]


def test_a_budget_on_the_command_line_makes_a_run_private(tmp_path: Path) -> None:
    key = {"FEDLENS_LEDGER_KEY": str(tmp_path / "key")}
    out = tmp_path / "run"
    done = fedlens(
        "run", *PRIVATE, "--epsilon", "1", "--delta", "1e-4", "--out", out, "--json", **key
    )
    assert done.returncode == 0, done.stderr
    shown = fedlens("privacy", "ledger", out, "--json", **key)
    ledger = json.loads(shown.stdout)
    assert (ledger["unit"], ledger["delta"], ledger["budget"]) == ("example", 1e-4, 1.0)
    assert 0.975 < ledger["epsilon"] <= 1.0 and ledger["verified"] and ledger["guarantee"]
    # 1,293 training images in batches of 200: seven steps an epoch
    assert ledger["accounts"][0]["releases"] == 14
    table = fedlens("privacy", "ledger", out, **key)
    assert "one example" in table.stdout and "all images" in table.stdout


def test_a_budget_that_cannot_be_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    key = {"FEDLENS_LEDGER_KEY": str(tmp_path / "key")}
    out = tmp_path / "run"
    refused(fedlens("run", *PRIVATE, "--epsilon", "0", "--out", out, **key), "privacy.epsilon")
    refused(
        fedlens("run", *PRIVATE, "--epsilon", "1", "--delta", "2", "--out", out, **key),
        "privacy.delta",
    )
    refused(fedlens("run", *PRIVATE, "--delta", "1e-5", "--out", out, **key), "give --epsilon")
    refused(
        fedlens("run", *QUICK, "--preset", "private", "--out", out, **key),
        "fewer than the 1,024 expected in a batch",
    )
    assert not out.exists()


def test_planning_needs_no_run() -> None:
    """Noise 1.8086 keeps 1,172 steps at epsilon 3 (computed elsewhere); these are 40 x 30."""
    plan = ["--units", "60000", "--expected", "2048", "--periods", "40"]
    done = fedlens("privacy", "calibrate", "--epsilon", "3", *plan, "--json")
    found = json.loads(done.stdout)
    # at this many steps what is spent grows like their root
    assert found["noise_multiplier"] == pytest.approx(1.8086 * (1200 / 1172) ** 0.5, rel=5e-3)
    assert found["epsilon_pld"] <= 3 < found["epsilon_rdp"]
    again = fedlens(
        "privacy", "epsilon", "--noise", str(found["noise_multiplier"]), *plan, "--json"
    )
    assert json.loads(again.stdout)["epsilon_pld"] == found["epsilon_pld"]
    table = fedlens("privacy", "epsilon", "--noise", "1", *plan, "--delta", "0.001")
    assert "Warning: delta" in table.stdout
    refused(fedlens("privacy", "epsilon", "--noise", "-1", *plan), "noise")
    refused(fedlens("privacy", "epsilon", "--noise", "1", *plan, "--delta", "1"), "delta")
    refused(fedlens("privacy", "calibrate", "--epsilon", "-3", *plan), "epsilon")
    help_text = fedlens("privacy", "calibrate", "--help").stdout
    assert "fedlens privacy calibrate --epsilon 3" in help_text
