"""``fedlens review`` as a lead and an auditor use and misuse it."""

import http.client
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import fedlens, refused

from fedlens.cli.review import app
from fedlens.experiment.config import load_config
from fedlens.experiment.run import start_run

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = (
        "dataset.name=digits", "dataset.limit=300", "federation.clients=2",
        "federation.rounds=2", "federation.workers=1", "partition.scheme=iid",
    )  # fmt: skip
    return start_run(load_config(overrides=settings), tmp_path_factory.mktemp("r") / "run").path


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEDLENS_REVIEW_KEY", str(tmp_path / "keys" / "review.key"))
    return tmp_path / "keys" / "review.key"


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The address of a store with two people: three records with its token."""
    url = f"sqlite:///{tmp_path / 'review.sqlite'}"
    for name, role in (("ada", "lead"), ("bo", "reviewer")):
        done = fedlens(
            *("review", "user", "add", url, name, "--role", role, "--password-stdin"),
            typed=PASSWORD + "\n",
        )
        assert done.returncode == 0, done.stderr
    return url


def test_a_private_run_that_held_nothing_out_is_not_reviewed(tmp_path: Path) -> None:
    """What the console works out of its validation images would tell of trained ones without noise."""
    settings = (
        "dataset.name=digits", "dataset.limit=400", "dataset.hold_out=false", "local.batch_size=50",
        "federation.clients=2", "federation.rounds=1", "federation.workers=1",
    )  # fmt: skip
    config = load_config(preset="private", overrides=settings)
    out = start_run(config, tmp_path / "run").path
    refused(fedlens("review", "card", out), "dataset.hold_out is off", "no epsilon covers")


def test_people_are_added_changed_and_listed_and_no_password_is_kept(
    store: str, tmp_path: Path
) -> None:
    done = fedlens("review", "user", "change", store, "bo", "--role", "auditor")
    assert done.stdout == "bo is now auditor.\n"
    people = json.loads(fedlens("review", "user", "list", store, "--json").stdout)
    assert [(one["name"], one["role"], one["active"]) for one in people] == [
        ("ada", "lead", True),
        ("bo", "auditor", True),
    ]
    for file in tmp_path.glob("review.sqlite*"):
        assert PASSWORD.encode() not in file.read_bytes()


def test_the_last_lead_stays(store: str) -> None:
    refused(fedlens("review", "user", "change", store, "ada", "--inactive"), "ada is the last lead")


def test_a_token_is_printed_alone_and_kept_as_a_digest(store: str, tmp_path: Path) -> None:
    done = fedlens("review", "token", "add", store, "pacs")
    token = done.stdout.strip()
    assert re.fullmatch(r"fedlens_[\w-]{43}", token)
    for file in tmp_path.glob("review.sqlite*"):
        assert token.encode() not in file.read_bytes()
    listed = json.loads(fedlens("review", "token", "list", store, "--json").stdout)
    assert [one["name"] for one in listed] == ["pacs"]
    assert fedlens("review", "token", "revoke", store, "pacs").returncode == 0
    listed = json.loads(fedlens("review", "token", "list", store, "--json").stdout)
    assert [one["active"] for one in listed] == [False]


def test_a_short_password_an_unknown_role_and_no_terminal_are_refused(store: str) -> None:
    add = ("review", "user", "add", store, "cy")
    refused(fedlens(*add, "--password-stdin", typed="short\n"), "12")
    refused(fedlens(*add, "--password-stdin", typed=""), "no password")
    refused(fedlens(*add, "--role", "boss"), "reviewer, lead, auditor")
    refused(fedlens(*add), "--password-stdin")
    refused(fedlens("review", "user", "change", store, "bo"), "Nothing to change")


def test_an_untouched_trail_is_valid_and_an_auditor_needs_no_secret(
    store: str, tmp_path: Path, key: Path
) -> None:
    public, anchor = tmp_path / "review.pub", tmp_path / "anchor.jsonl"
    assert fedlens("review", "key", "--public", public).returncode == 0
    assert fedlens("review", "anchor", store, "--out", anchor).returncode == 0
    key.unlink()
    done = fedlens("review", "verify", store, "--public-key", public, "--anchors", anchor)
    assert done.returncode == 0, done.stderr
    assert "chain valid: 3 records" in done.stdout
    assert not key.exists(), "to verify makes no key"


def test_to_verify_makes_no_key(store: str, key: Path) -> None:
    key.unlink()
    refused(fedlens("review", "verify", store), "There is no key", "public key")
    assert not key.exists()


def test_a_record_tampered_with_by_hand_is_named(store: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "review.sqlite") as connection:
        changed = connection.execute(
            "UPDATE records SET content = replace(content, '\"bo\"', '\"eve\"') WHERE sequence = 2"
        )
        assert changed.rowcount == 1
    done = fedlens("review", "verify", store)
    assert done.returncode == 1
    assert "NOT valid" in done.stderr
    assert re.search(r"\b2\b", done.stderr)
    found = json.loads(fedlens("review", "verify", store, "--json").stdout)
    assert found["valid"] is False
    assert {finding["sequence"] for finding in found["findings"]} >= {2}


def test_an_older_state_that_was_put_back_is_found_by_the_anchors(
    store: str, tmp_path: Path
) -> None:
    file = tmp_path / "review.sqlite"
    before = file.read_bytes()
    assert fedlens("review", "token", "add", store, "pacs").returncode == 0
    file.write_bytes(before)
    done = fedlens("review", "verify", store)
    assert done.returncode == 1, "its head was truly signed, but once there was more"


def test_an_export_is_verified_by_itself_and_a_csv_is_a_table(store: str, tmp_path: Path) -> None:
    lines, rows = tmp_path / "trail.jsonl", tmp_path / "trail.csv"
    assert fedlens("review", "export", store, "--out", lines).returncode == 0
    done = fedlens("review", "verify", lines, "--exported")
    assert done.returncode == 0, done.stderr
    content = lines.read_text()
    lines.write_text(content.replace('"name":"bo"', '"name":"eve"', 1))
    assert lines.read_text() != content
    assert fedlens("review", "verify", lines, "--exported").returncode == 1
    assert fedlens("review", "export", store, "--out", rows).returncode == 0
    assert len(rows.read_text().splitlines()) == 5  # names, two people, two exports


def test_what_is_not_there_or_not_allowed_is_one_sentence(
    run: Path, store: str, tmp_path: Path
) -> None:
    refused(fedlens("review", "verify", tmp_path), "not a run directory")
    refused(fedlens("review", "verify", run), "There is no store", "fedlens review serve")
    refused(fedlens("review", "verify", f"sqlite:///{tmp_path / 'no.sqlite'}"), "There is no store")
    refused(fedlens("review", "verify", "mysql://nowhere/x"), "postgresql")
    refused(fedlens("review", "verify", tmp_path / "none.jsonl", "--exported"), "Could not read")
    refused(fedlens("review", "export", store, "--out", tmp_path / "x.txt"), ".jsonl")
    refused(fedlens("review", "prune", store, "--older-than", 30, "--yes"), "183")
    refused(fedlens("review", "prune", store), "--yes")
    refused(fedlens("review", "serve", run, "--demo", "--images", tmp_path), "choose one")
    refused(fedlens("review", "serve", run, "--host", "0.0.0.0"), "TLS")
    refused(fedlens("review", "serve", tmp_path), "not a run directory")
    assert not (tmp_path / "no.sqlite").exists()


def test_nothing_is_pruned_that_is_young(store: str) -> None:
    done = fedlens("review", "prune", store, "--yes")
    assert "nothing was removed" in done.stdout


def test_without_its_packages_the_console_says_what_to_install(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "NEEDED", ("no_such_package",))
    refused(fedlens("review", "serve", run), "fedlens[review]")


@pytest.fixture
def served(run: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """The console of a run in a process of its own: the process, its port and what it said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"sqlite:///{tmp_path / 'served.sqlite'}"
    command = ["review", "serve", run, "--demo", "--first", 20, "--port", port, "--database", url]
    process = subprocess.Popen(
        [sys.executable, "-c", "from fedlens.cli import main; main()", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            break
    for _ in range(100):
        with socket.socket() as there:
            if there.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield process, port, said
    process.kill()
    process.wait()


def test_a_console_is_served_lets_one_in_and_stops_without_a_trace_left_open(
    served: tuple[subprocess.Popen[str], int, str], tmp_path: Path
) -> None:
    process, port, said = served
    assert "20 cases are waiting" in said
    link = re.search(r"http://127\.0\.0\.1:\d+(/link/\S+)", said)
    assert link is not None, said
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def get(path: str, **headers: str) -> tuple[int, str, str]:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Set-Cookie") or "", answer.read().decode()

    assert get("/health")[0] == 200
    assert get("/")[0] == 303, "who is not signed in is sent to sign in"
    opened = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}
    status, cookie, _ = get(link[1], **opened)
    assert status == 303
    assert cookie
    status, _, page = get("/", Cookie=cookie.partition(";")[0])
    assert status == 200
    assert "20" in page
    assert get(link[1], **opened)[0] == 401, "the link works once"
    connection.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert process.stdout is not None
    assert "Traceback" not in process.stdout.read()
    done = fedlens("review", "verify", f"sqlite:///{tmp_path / 'served.sqlite'}")
    assert "chain valid" in done.stdout, done.stderr


def test_a_port_in_use_is_said_before_the_work(run: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = fedlens("review", "serve", run, "--demo", "--port", taken.getsockname()[1])
    assert done.returncode == 2
    assert "choose another port" in done.stderr
    assert "Learning" not in done.stdout


def test_pictures_that_cannot_be_read_are_named_and_counted(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "incoming"
    (folder / "deeper").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = ("--port", port, "--database", f"sqlite:///{tmp_path / 'folder.sqlite'}")
    done = fedlens("review", "serve", run, "--images", folder, *url)
    assert done.returncode == 2
    assert f"There are no images in {folder}" in done.stderr
    for number in range(7):
        (folder / "deeper" / f"{number}.png").write_bytes(b"GIF89a")
    done = fedlens("review", "serve", run, "--images", folder, *url)
    assert done.returncode == 2
    assert "Left out: deeper/0.png: " in done.stderr and "deeper/5.png" not in done.stderr
    assert "Left out: two more like these." in done.stderr
    assert f"None of the images in {folder} can be read" in done.stderr
