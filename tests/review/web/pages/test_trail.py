"""The trail as a page: who reads what of it, and whether its chain is whole."""

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from fedlens.review.contract import Role
from fedlens.review.store.exports import verify_export
from fedlens.review.web.console import Console


def tamper(console: Console, statement: str) -> None:
    with console.store.database.transaction() as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize("role", list(Role))
def test_a_whole_chain_is_said_to_be(browser_of, role: Role, text_of):
    browser = browser_of(role)
    count = browser.store.trail.head().count
    page = text_of(browser.post("/trail/verify", status=200).text)
    assert f"Chain valid: {count:,} records" in page


def test_an_auditor_is_shown_which_record_was_tampered_with(
    reviewer, auditor, revealed: int, console: Console, text_of
):
    reviewer.post(f"/cases/{revealed}/decide", choice="accept")
    (victim,) = [one.sequence for one in reviewer.records(revealed) if one.kind == "decided"]
    tamper(
        console,
        f"UPDATE records SET content = replace(content, 'accept', 'defer') WHERE sequence = {victim}",
    )
    page = auditor.post("/trail/verify", status=200).text
    words = text_of(page)
    assert "Chain NOT valid" in words
    assert f"Record {victim}" in words
    assert f'href="/trail/{victim}"' in page
    assert 'role="alert"' in page


def test_a_chain_whose_end_is_gone_can_be_verified_too(auditor, console: Console, text_of):
    tamper(console, "UPDATE head SET id = 2")
    words = text_of(auditor.post("/trail/verify", status=200).text)
    assert "The end of the chain was removed" in words
    tamper(console, "UPDATE head SET id = 1")


def test_a_reviewer_reads_only_what_they_did(reviewer, lead, auditor, revealed: int):
    mine = reviewer.get("/trail?person=lead")
    shown = [int(n) for n in re.findall(r'<th scope="row"><a href="/trail/(\d+)">', mine)]
    assert shown
    assert {reviewer.store.trail.record(number).actor for number in shown} == {"reviewer"}
    reviewer.get(f"/trail/{shown[0]}")
    reviewer.get("/trail/1", status=403)
    for reader in (lead, auditor):
        assert "added a person" in reader.get("/trail")
        reader.get("/trail/1")
    reviewer.get("/trail/export.jsonl", status=403)
    reviewer.get("/trail/anchor.jsonl", status=403)


def test_the_list_is_narrowed_and_paged(auditor, reviewer, revealed: int):
    page = auditor.get(f"/trail?case={revealed}&kind=opened&person=reviewer")
    assert "one record" in page or "1 record," in page
    assert "No record is like this" in auditor.get("/trail?case=99999")
    assert "No record is like this" in auditor.get("/trail?person=%3Cscript%3E")
    for _ in range(55):
        reviewer.store.trail.add("exported", reviewer.store.people.get("lead").actor, {})
    first = auditor.get("/trail?kind=exported&person=lead")
    (older,) = re.findall(r'rel="next" href="([^"]+)"', first)
    second = auditor.get(older.replace("&amp;", "&"))
    rows = [
        re.findall(r'<th scope="row"><a href="/trail/(\d+)">', page) for page in (first, second)
    ]
    assert [len(found) for found in rows] == [50, 5]
    assert set(rows[0]).isdisjoint(rows[1])


def test_a_record_is_shown_as_it_is_and_harmless(reviewer, auditor, revealed: int):
    nasty = "<script>alert(1)</script>"
    reviewer.post(f"/cases/{revealed}/decide", choice="defer", text=nasty)
    (record,) = [one for one in reviewer.records(revealed) if one.kind == "decided"]
    page = auditor.get(f"/trail/{record.sequence}")
    assert nasty not in page
    assert record.digest in page
    assert record.previous in page
    assert "&lt;script&gt;" in page
    auditor.get("/trail/999999", status=404)


def test_an_export_verifies_on_its_own(auditor, console: Console):
    lines = auditor.get("/trail/export.jsonl").splitlines()
    found = verify_export(lines, console.store.key.public)
    assert found.valid
    assert auditor.records()[-1].kind == "exported"
    table = auditor.get("/trail/export.csv")
    assert table.startswith("sequence,time,kind,actor")
    assert "BEGIN PUBLIC KEY" in auditor.get("/trail/key.pem")


def test_an_anchor_contradicts_an_older_state(auditor, reviewer, console: Console, text_of):
    anchor = json.loads(auditor.get("/trail/anchor.jsonl"))
    assert anchor["count"] == auditor.records()[-1].sequence
    tamper(console, f"DELETE FROM records WHERE sequence = {anchor['count']}")
    assert "Chain NOT valid" in text_of(auditor.post("/trail/verify", status=200).text)


def test_who_comes_while_the_chain_is_verified_does_not_wait(
    auditor, console: Console, text_of, monkeypatch: pytest.MonkeyPatch
):
    """Each would hold a thread of those that answer everybody."""
    begun, finish = threading.Event(), threading.Event()
    verify = console.store.verify

    def slow():
        begun.set()
        assert finish.wait(30)
        return verify()

    with monkeypatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(console.store, "verify", slow)
        first = pool.submit(auditor.post, "/trail/verify", 200)
        assert begun.wait(30)
        try:
            for _ in range(3):
                refused = auditor.post("/trail/verify", status=429)
                assert "being verified just now" in text_of(refused.text)
                assert int(refused.headers["Retry-After"]) > 0
        finally:
            finish.set()
        assert "Chain valid" in text_of(first.result().text)
    assert "Chain valid" in text_of(auditor.post("/trail/verify", status=200).text)
    monkeypatch.setattr(console.store, "verify", lambda: 1 / 0)
    auditor.post("/trail/verify", status=500)
    auditor.post("/trail/verify", status=500)  # a verification that failed does not keep the turn
