"""What holds for every page: nothing inline, one heading, a label for each field, no other host."""

from html.parser import HTMLParser

import pytest

from fedlens.review.contract import Role
from fedlens.review.web.pages import routers

VOID = {"img", "input", "link", "meta", "br", "hr", "rect"}


class Page(HTMLParser):
    """Collects what of a page can be wrong."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.fields: list[dict[str, str | None]] = []
        self.labels: set[str] = set()
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if "style" in given or any(name.startswith("on") for name in given):
            self.faults.append(f"<{tag}> has style or script of its own")
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.faults.append(f"<{tag}> is inline")
        for name in ("src", "href", "action"):
            address = given.get(name)
            if (address is not None and not address.startswith(("/", "#"))) or address == "//":
                self.faults.append(f"<{tag} {name}={address}>")
        if tag == "img" and "alt" not in given:
            self.faults.append("an image without alt")
        if tag in ("h1", "h2", "h3"):
            self.headings.append(int(tag[1]))
        if given.get("id"):
            self.ids.append(given["id"])
        if tag == "label" and given.get("for"):
            self.labels.add(given["for"])
        if (
            tag in ("input", "select", "textarea")
            and given.get("type") != "hidden"
            and "hidden" not in given
            and "label" not in self.open
            and "aria-label" not in given
        ):
            self.fields.append(given)
        if tag == "form" and given.get("method") == "post":
            self.open_form = True

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open[-4:], self.getpos())
        self.open.pop()


PAGES = {
    Role.REVIEWER: ("/", "/trail", "/model", "/stop", "/password", "/cases/1", "/nothing"),
    Role.LEAD: ("/", "/trail", "/trail/2", "/insight", "/model", "/people", "/stop", "/cases/1"),
    Role.AUDITOR: ("/", "/trail", "/trail/2", "/insight", "/model", "/stop", "/cases/1"),
}


def check(text: str) -> None:
    page = Page(text)
    assert page.faults == []
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    assert len(page.ids) == len(set(page.ids))
    for field in page.fields:
        assert field.get("id") in page.labels, field


@pytest.mark.parametrize("role", list(Role))
def test_pages_are_well_made(browser_of, role: Role):
    browser = browser_of(role)
    for path in PAGES[role]:
        check(browser.client.get(path).text)


def test_so_is_a_case_at_each_of_its_stages(reviewer, lead, auditor):
    case = reviewer.take_next()
    address = f"/cases/{case}"
    check(reviewer.get(address))
    check(lead.get(address))
    reviewer.post(f"{address}/label", label="2")
    check(reviewer.get(address))
    check(reviewer.post(f"{address}/decide", status=400, choice="override").text)
    answer = reviewer.post(f"{address}/decide", choice="accept")
    check(reviewer.get(answer.headers["location"]))
    check(reviewer.get(address))
    check(auditor.get(address))
    reviewer.post("/stop", why="it went astray")
    for path in ("/stop", address):
        check(reviewer.get(path))
    check(auditor.post("/trail/verify", status=200).text)
    check(lead.get("/insight"))
    check(lead.post("/people/token", status=200, name="scanner", role="reviewer").text)


def test_every_form_of_the_pages_wants_the_sessions_token(reviewer, lead):
    for router in routers:
        for route in router.routes:
            if "POST" in route.methods:
                path = route.path.replace("{number}", "1").replace("{sequence}", "1")
                answer = lead.client.post(path, data={"csrf": reviewer.csrf})
                assert answer.status_code == 403, path
                assert "another session" in answer.text
