"""Keeping people: a lead's page, everybody's own password, secrets that are shown once."""

import re

from fedlens.review.contract import Role
from fedlens.review.web.console import Console


def test_only_a_lead_keeps_people(reviewer, auditor, lead):
    for other in (reviewer, auditor):
        other.get("/people", status=403)
        other.post("/people/add", status=403, name="eve", password="x" * 12, role="lead")
        other.post("/people/token", status=403, name="eve", role="lead")
    assert "reviewer" in lead.get("/people")


def test_a_person_is_added_changed_and_let_go(lead, console: Console, client_of, password: str):
    people = console.store.people
    refused = lead.post("/people/add", status=400, name="Eve", password="short", role="reviewer")
    assert "at least 12 characters" in refused.text
    assert 'value="Eve"' in refused.text
    assert "short" not in re.sub(r"at least.*?\.", "", refused.text)
    lead.post("/people/add", status=400, name="Eve", password=password, role="owner")
    lead.post("/people/add", name="Eve", password=password, role="reviewer")
    assert people.get("Eve").role is Role.REVIEWER
    lead.post("/people/role", name="Eve", role="auditor")
    assert people.get("Eve").role is Role.AUDITOR
    lead.post("/people/password", name="Eve", password="another long one")
    assert people.check_password("Eve", "another long one") is not None
    lead.post("/people/active", name="Eve", active="no")
    assert people.check_password("Eve", "another long one") is None
    lead.post("/people/role", status=404, name="nobody", role="lead")


def test_a_lead_does_not_lock_themselves_out(lead, console: Console):
    for path, change in (("active", {"active": "no"}), ("role", {"role": "auditor"})):
        answer = lead.post(f"/people/{path}", status=403, name="lead", **change)
        assert "another lead" in answer.text
    people = console.store.people
    people.add("Other", "a long enough password", Role.LEAD, people.get("lead").actor)
    for name in ("LEAD", "Lead"):  # that they are not the last lead is no way round
        answer = lead.post("/people/role", status=403, name=name, role="reviewer")
        assert "another lead" in answer.text
    page = lead.get("/people")
    assert 'aria-label="Deactivate lead"' not in page and 'aria-label="Role of lead"' not in page
    assert 'aria-label="Deactivate reviewer"' in page
    assert next(one for one in console.store.people.list() if one.name == "lead").active


def test_a_token_is_shown_once_and_revoked(lead, console: Console):
    page = lead.post("/people/token", status=200, name="scanner", role="reviewer").text
    (token,) = re.findall(r"fedlens_[\w-]+", page)
    assert console.store.people.token(token).name == "scanner"
    assert token not in lead.get("/people")
    assert not any(token in str(record.content) for record in lead.records())
    lead.post("/people/revoke", name="scanner")
    assert console.store.people.token(token) is None
    assert "revoked" in lead.get("/people")


def test_ones_own_password_takes_the_old_one(reviewer, console: Console, password: str):
    new = "quite another phrase"
    wrong = {"old": "not the old one", "new": new, "again": new}
    assert "another one" in reviewer.post("/password", status=400, **wrong).text
    apart = {"old": password, "new": new, "again": new + "!"}
    assert "not the same" in reviewer.post("/password", status=400, **apart).text
    short = {"old": password, "new": "short", "again": "short"}
    assert "12 characters" in reviewer.post("/password", status=400, **short).text
    answer = reviewer.post("/password", old=password, new=new, again=new)
    assert answer.headers["location"] == "/sign-in"
    assert console.store.people.check_password("reviewer", new) is not None
    assert reviewer.client.get("/").status_code == 303  # signed out


def test_passwords_are_not_tried_without_end(reviewer):
    wrong = {"old": "not the old one", "new": "x" * 12, "again": "x" * 12}
    answers = [
        reviewer.client.post("/password", data={"csrf": reviewer.csrf, **wrong}).status_code
        for _ in range(12)
    ]
    assert answers[0] == 400
    assert answers[-1] == 429
