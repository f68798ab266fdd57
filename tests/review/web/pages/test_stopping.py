"""The stop switch as a page."""

import pytest

from fedlens.review.contract import Role


@pytest.mark.parametrize("role", [Role.REVIEWER, Role.LEAD])
def test_who_works_cases_stops_the_model_and_everybody_is_told(browser_of, auditor, role, text_of):
    browser = browser_of(role)
    assert "The model is in service" in browser.get("/stop")
    refused = browser.post("/stop", status=400, why="  ")
    assert "Say why" in refused.text
    browser.post("/stop", why="wrong <again>")
    for path in ("/", "/trail", "/model", "/stop", "/cases/1"):
        words = text_of(auditor.get(path))
        assert "The model is out of service" in words
        assert f"{role.value} stopped it" in words
        assert "wrong <again>" in words
    again = browser.post("/stop", status=409, why="once more")
    assert "stopped already" in again.text


def test_a_lead_resumes_it_and_nobody_else(reviewer, lead, auditor, text_of):
    auditor.post("/stop", status=403, why="no")
    reviewer.post("/stop", why="blurred images")
    reviewer.post("/stop/resume", status=403, why="fine again")
    auditor.post("/stop/resume", status=403, why="fine again")
    assert "Resume the model" not in reviewer.get("/stop")
    assert "Resume the model" in lead.get("/stop")
    lead.post("/stop/resume", why="lens cleaned")
    words = text_of(lead.get("/stop"))
    assert "The model is in service" in words
    assert words.index("lens cleaned") < words.index("blurred images")
