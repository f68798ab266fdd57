"""The pages in a real browser: by keyboard alone, without script, and for assistive technology."""

import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from fedlens.review.contract import Choice, Person, Role, State
from fedlens.review.web.app import create_app
from fedlens.review.web.console import Console
from fedlens.review.web.serving import server

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WORKED = 10
SOON = 20_000  # ms
FIRST_MAP = ".picture:nth-child(2) [data-map]"
WIDE = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"}
NARROW = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = [path for path in map(shutil.which, PROGRAMS) if path]
    if not found:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found[0], args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def blind_first() -> bool:
    """Whether people label before they see the answer; a test may say otherwise."""
    return True


@pytest.fixture
def address(console: Console, people: dict[Role, Person], blind_first: bool) -> Iterator[str]:
    """Serve the console, with twelve cases, on a port of this machine."""
    console = replace(console, policy=replace(console.policy, blind_first=blind_first))
    by = people[Role.LEAD].actor
    for batch in console.images.cases(console.examiner, first=WORKED + 2):
        console.store.queue.add(batch, by)
    running = server(create_app(console), port=0)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    running.should_exit = True
    thread.join(timeout=20)


@pytest.fixture
def enter(chromium: Browser, address: str, password: str) -> Iterator[Callable[..., Page]]:
    """Sign a person in, by keyboard; no page may break a rule of its own or ask another host."""
    faults: list[str] = []
    contexts = []

    def sign_in(role: Role, **settings: object) -> Page:
        context = chromium.new_context(base_url=address, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SOON)
        page.on("console", lambda said: faults.append(said.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith(address) else faults.append(asked.url),
        )
        page.goto("/sign-in")
        page.focus("#name")
        page.keyboard.type(role.value)
        page.keyboard.press("Tab")
        page.keyboard.type(password)
        page.keyboard.press("Enter")
        page.wait_for_selector("text=cases decided")
        return page

    yield sign_in
    for context in contexts:
        context.close()
    assert faults == []


def number_of(page: Page) -> int:
    found = re.search(r"/cases/(\d+)", page.url)
    assert found is not None, page.url
    return int(found[1])


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def label_and_reveal(page: Page, key: str) -> None:
    page.wait_for_selector("text=What do you see?")
    press(page, key, "Enter")
    page.wait_for_selector("#decision")


def test_a_reviewer_works_ten_cases_by_keyboard(enter, console: Console):
    page = enter(Role.REVIEWER)
    press(page, "n")
    worked = []
    for turn in range(WORKED):
        label_and_reveal(page, "1")
        number = number_of(page)
        worked.append(number)
        predicted = console.store.queue.get(number).predicted
        assert page.locator("#decision input:checked").count() == 0
        if turn == 4:
            other = "1" if predicted != 0 else "2"
            press(page, "m")
            page.wait_for_selector(f"{FIRST_MAP}[src*='method=gradient']")
            press(page, "o", other, "r", "r", "f", "Enter")
        elif turn == 6:
            press(page, "a", "Enter")
            page.wait_for_selector("text=accepted as")
            press(page, "u")
            page.wait_for_selector("#decision")
            assert number_of(page) == number
            press(page, "d", "Enter")
        else:
            press(page, "a", "Enter")
        page.wait_for_selector(f"text=Case {number} ")
        page.wait_for_selector('[data-key="u"]')
    assert len(set(worked)) == WORKED
    cases = [console.store.queue.get(number) for number in worked]
    assert [case.state for case in cases].count(State.DECIDED) == WORKED - 1
    assert cases[6].state is State.DEFERRED
    overridden = console.store.trail.record(cases[4].decision).content
    assert overridden["choice"] == Choice.OVERRIDE
    assert overridden["label"] == (0 if cases[4].predicted != 0 else 1)
    assert overridden["reason"] == "confusable-classes"
    assert overridden["misleading"] is True
    assert overridden["displayed"]["maps"][0]["method"] == "gradient"
    assert overridden["blind_label"] == 0

    page.goto("/trail")
    page.click("text=Verify the chain now")
    assert "Chain valid" in page.inner_text("#verdict")


def test_an_auditor_finds_a_record_that_was_tampered_with(enter, console: Console, tmp_path: Path):
    record = console.store.trail.page(kind="person-added", limit=1)[0]
    with sqlite3.connect(tmp_path / "review.sqlite") as by_hand:
        by_hand.execute(
            "UPDATE records SET actor = 'somebody else' WHERE sequence = ?", (record.sequence,)
        )
    page = enter(Role.AUDITOR)
    page.goto("/trail")
    page.click("text=Verify the chain now")
    said = page.inner_text("#verdict")
    assert "Chain NOT valid" in said
    assert f"ecord {record.sequence}" in said
    assert page.get_attribute("#verdict", "role") == "alert"


@pytest.mark.parametrize("settings", [WIDE, NARROW], ids=["wide-light", "narrow-dark"])
def test_every_page_is_for_everybody(enter, settings: dict[str, object]):
    axe = Axe()
    faults: list[str] = []

    def check(page: Page, where: str) -> None:
        faults.extend(
            f"{where}: {one['impact']} {one['id']} {one['nodes'][0]['target']}"
            for one in axe.run(page).response["violations"]
            if one["impact"] in ("serious", "critical")
        )
        beyond = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        if beyond > 0:
            faults.append(f"{where}: {beyond} pixels wider than the window")

    page = enter(Role.REVIEWER, **settings)
    check(page, "queue")
    press(page, "n")
    page.wait_for_selector("text=What do you see?")
    check(page, "before the reveal")
    label_and_reveal(page, "2")
    check(page, "after the reveal")
    press(page, "o", "3", "r")
    check(page, "overriding")
    press(page, "?")
    page.wait_for_selector("dialog[open]")
    check(page, "help")
    press(page, "Escape", "a", "Enter")
    page.wait_for_selector('[data-key="u"]')
    check(page, "after a decision")
    lead = enter(Role.LEAD, **settings)
    for path in ("/", "/trail", "/trail/1", "/insight", "/model", "/people", "/password"):
        lead.goto(path)
        check(lead, path)
    lead.goto("/stop")
    lead.fill("#why", "it went astray")
    lead.click("text=Stop the model now")
    lead.wait_for_selector("text=Put it back into service")
    check(lead, "stopped")
    page.goto("/")
    check(page, "queue while stopped")
    lead.context.clear_cookies()
    lead.goto("/sign-in")
    check(lead, "sign-in")
    assert faults == []


def test_all_of_it_works_without_script(enter, console: Console):
    page = enter(Role.REVIEWER, java_script_enabled=False)
    page.click("text=Work the next case")
    number = number_of(page)
    page.check('input[name="label"][value="4"]')
    page.click("text=Keep my label and reveal")
    page.select_option("#method", "gradient")
    page.click("text=Show >> nth=0")
    page.wait_for_selector(f"{FIRST_MAP}[src*='method=gradient']")
    assert page.locator("#method").input_value() == "gradient"
    predicted = console.store.queue.get(number).predicted
    other = (predicted + 1) % 10
    page.check("#choice-override")
    page.check(f'#decision input[name="label"][value="{other}"]')
    page.check('input[name="reason"][value="wrong-class"]')
    page.click("text=Record the decision")
    page.wait_for_selector(f"text=Case {number} overridden")
    record = console.store.trail.record(console.store.queue.get(number).decision)
    assert record.content["label"] == other
    assert record.content["displayed"]["maps"][0]["method"] == "gradient"
    page.click("text=Undo >> nth=0")
    page.wait_for_selector("#decision")
    assert number_of(page) == number


def test_single_keys_can_be_turned_off(enter):
    page = enter(Role.REVIEWER)
    press(page, "n")
    page.wait_for_selector("text=What do you see?")
    page.click('[data-opens="keys"]')
    page.uncheck("#keys-on")
    press(page, "Escape", "1")
    assert page.locator('input[name="label"]:checked').count() == 0
    page.reload()
    press(page, "1")
    assert page.locator('input[name="label"]:checked').count() == 0
    page.click('[data-opens="keys"]')
    page.check("#keys-on")
    press(page, "Escape", "1")
    assert page.locator('input[name="label"]:checked').count() == 1


def test_enter_sends_what_is_chosen_from_wherever_one_is(enter, console: Console):
    page = enter(Role.REVIEWER)
    press(page, "n")
    label_and_reveal(page, "1")
    number = number_of(page)
    press(
        page, "Enter"
    )  # nothing is chosen: the browser says what is asked for, and nothing is sent
    assert page.evaluate("document.activeElement.name") == "choice"
    assert number_of(page) == number
    press(page, "a")
    page.focus("#text")
    page.keyboard.type("a note")
    press(page, "Escape", "Enter")
    page.wait_for_selector('[data-key="u"]')
    record = console.store.trail.record(console.store.queue.get(number).decision)
    assert record.content["text"] == "a note"


def test_opacity_is_seen_at_once_and_sent_with_the_decision(enter, console: Console):
    page = enter(Role.REVIEWER)
    press(page, "n")
    label_and_reveal(page, "1")
    number = number_of(page)
    page.focus("#opacity")
    press(page, *["ArrowLeft"] * 5)
    assert page.inner_text('label[for="opacity"]') == "Opacity: 40 %"
    shown = page.evaluate("getComputedStyle(document.querySelector('[data-map]')).opacity")
    assert float(shown) == pytest.approx(0.4)
    press(page, "v", "v", "v")
    assert page.inner_text('label[for="opacity"]') == "Opacity: 0 %"
    press(page, "a", "Enter")
    page.wait_for_selector('[data-key="u"]')
    record = console.store.trail.record(console.store.queue.get(number).decision)
    assert record.content["displayed"]["opacity"] == 0.0


def shown_of(console: Console, number: int) -> list[tuple[str, float]]:
    """Return of each record that displays something its kind, and how opaque the maps were."""
    records = [one for one in console.store.decisions.history(number) if "displayed" in one.content]
    return [(one.kind, one.content["displayed"]["opacity"]) for one in records]


@pytest.mark.parametrize("blind_first", [False])
@pytest.mark.parametrize("key", ["v", "slider", None])
def test_in_open_mode_the_trail_says_whether_the_map_was_looked_at(
    enter, console: Console, key: str | None
):
    page = enter(Role.REVIEWER)
    press(page, "n")
    page.wait_for_selector("#decision")
    number = number_of(page)
    if key is not None:
        with page.expect_response(lambda one: f"/cases/{number}?" in one.url):
            page.focus("#opacity")
            press(page, *(["v"] if key == "v" else ["ArrowRight"] * 3))
    assert shown_of(console, number)[0] == ("revealed", 0.0)
    press(page, "a", "Enter")
    page.wait_for_selector('[data-key="u"]')
    content = console.store.trail.record(console.store.queue.get(number).decision).content
    if key is None:
        assert shown_of(console, number) == [("revealed", 0.0), ("decided", 0.0)]
        assert content["map_revealed"] is None
        return
    last = 0.9 if key == "v" else 0.3
    first, second, *_ = kinds = shown_of(console, number)
    assert (first[1], second[0], kinds[-1]) == (0.0, "revealed", ("decided", last))
    assert second[1] > 0
    assert [kind for kind, _ in kinds].count("revealed") == 2  # told once
    assert content["revealed"] < content["map_revealed"]
