"""The ledger: charged before the fact, replayed, and noticed when edited."""

import json
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from fedlens.errors import RunError
from fedlens.privacy.accounting import epsilon_of
from fedlens.privacy.ledger import Ledger, Terms, ledger_key
from fedlens.privacy.releases import Release

TERMS = Terms(
    mechanism="dp-sgd",
    unit="example",
    relation="add or remove one",
    delta=1e-5,
    budget=3.0,
    source="the operating system",
    guarantee=True,
)


def fresh(path: Path) -> Ledger:
    return Ledger.create(path, TERMS, {"A": 5400, "B": 600})


def test_what_is_charged_is_replayed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    ledger = fresh(path)
    assert ledger.epsilon("A") == 0
    ledger.charge({"A": [Release(1.0, 0.01, 90)], "B": [Release(1.0, 0.1, 9)]})
    ledger.charge({"A": [Release(1.0, 0.01, 90)], "B": []})
    # the same noise and share of the data: the smaller account's steps are sampled more densely
    assert Ledger.open(path).worst() == "B"
    ledger.charge({"A": [Release(0.5, 0.01, 1)]})
    again = Ledger.open(path)
    assert again.verified and again.terms == TERMS and again.units == {"A": 5400, "B": 600}
    # alike neighbours are one line, so that a long run's file stays short
    assert again.releases("A") == [Release(1.0, 0.01, 180), Release(0.5, 0.01, 1)]
    assert again.steps("A") == 181 and again.steps("B") == 9
    assert again.epsilon("B") == epsilon_of([Release(1.0, 0.1, 9)], 1e-5)
    assert again.worst() == "A" and again.epsilon("A") > again.epsilon("B")
    again.charge({"A": [Release(0.5, 0.01, 1)]})
    assert Ledger.open(path).steps("A") == 182


def test_a_charge_is_on_the_disk_when_the_call_returns(tmp_path: Path) -> None:
    ledger = fresh(tmp_path / "ledger.json")

    def work() -> None:
        ledger.charge({"A": [Release(1.0, 0.01, 7)]})
        os._exit(9)  # as a kill would

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert Ledger.open(ledger.path).steps("A") == 7


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c["accounts"]["A"]["releases"][0].__setitem__(2, 1),
        lambda c: c["accounts"]["A"]["releases"][0].__setitem__(0, 9.0),
        lambda c: c["accounts"]["A"].update(units=6000),
        lambda c: c["accounts"].pop("B"),
        lambda c: c["terms"].update(delta=1e-3),
        lambda c: c["terms"].update(guarantee=False),
        lambda c: c.update(digest="0" * 64),
    ],
)
def test_an_edit_by_hand_is_noticed(tmp_path: Path, edit) -> None:
    path = tmp_path / "ledger.json"
    fresh(path).charge({"A": [Release(1.0, 0.01, 90)], "B": [Release(1.0, 0.1, 9)]})
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match="changed after it was signed"):
        Ledger.open(path)


def test_another_machine_can_read_and_is_told_and_cannot_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.json"
    fresh(path).charge({"B": [Release(1.0, 0.1, 9)]})
    monkeypatch.setenv("FEDLENS_LEDGER_KEY", str(tmp_path / "other.key"))
    there = Ledger.open(path)
    assert not there.verified and there.steps("B") == 9
    before = path.read_bytes()
    with pytest.raises(RunError, match="another key"):
        there.charge({"B": [Release(1.0, 0.1, 1)]})
    assert path.read_bytes() == before


def test_the_key_is_the_owners_alone_and_stays(key: Path) -> None:
    first = ledger_key()
    assert len(first) == 32 and ledger_key() == first
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert first.hex() not in Ledger.create(key.parent / "l.json", TERMS, {"A": 1}).path.read_text()
    assert [path.name for path in key.parent.iterdir() if path.suffix == ".part"] == []


def test_first_runs_at_once_agree_on_one_key(key: Path) -> None:
    context = multiprocessing.get_context("fork")
    with context.Pool(8) as pool:
        assert len(set(pool.starmap(ledger_key, [()] * 32))) == 1


@pytest.mark.parametrize("text", ["", "abc", "zz" * 32, "ab" * 31])
def test_a_key_that_is_none_is_one_sentence(key: Path, text: str) -> None:
    key.write_text(text)
    with pytest.raises(RunError, match="64 hexadecimal digits"):
        ledger_key()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[" * 200_000, "not JSON"),
        ("[]", "not a privacy ledger"),
        ('{"format": 1}', "terms"),
        ("{}", "format"),
    ],
)
def test_a_file_that_is_no_ledger_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "ledger.json").write_text(text)
    with pytest.raises(RunError, match=words):
        Ledger.open(tmp_path / "ledger.json")
    with pytest.raises(RunError, match="Could not read"):
        Ledger.open(tmp_path / "none.json")


def test_values_that_cannot_be_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    fresh(path).charge({"A": [Release(1.0, 0.01, 90)]})
    for place, value in ((0, -1.0), (1, 2.0), (2, 0), (0, "NaN")):
        content = json.loads(path.read_text())
        content["accounts"]["A"]["releases"][0][place] = value
        (tmp_path / "bad.json").write_text(json.dumps(content))
        with pytest.raises(RunError, match=r"accounts\.A\.releases"):
            Ledger.open(tmp_path / "bad.json")


def test_a_charge_that_cannot_be_written_is_not_taken_back_silently(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    ledger = fresh(folder / "ledger.json")
    (folder / "ledger.json").rename(tmp_path / "kept.json")
    folder.rmdir()
    with pytest.raises(RunError, match="Could not write"):
        ledger.charge({"A": [Release(1.0, 0.01, 90)]})
    assert ledger.steps("A") == 0
    folder.mkdir()
    with pytest.raises(RunError, match="no account 'C'"):
        ledger.charge({"C": [Release(1.0)]})
