"""``fedlens review serve`` and ``card``: the console of one run, and its model card."""

import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedlens.cli.display import errors, out, watching
from fedlens.cli.options import RunPath
from fedlens.cli.review.app import KeyFile, account, address_of, check_installed, operator
from fedlens.cli.review.continuing import check_same_model
from fedlens.cli.review.filling import fill, warming
from fedlens.cli.review.naming import naming
from fedlens.errors import RunError
from fedlens.experiment.modes import Event
from fedlens.experiment.opened import load_run
from fedlens.files import write_text

if TYPE_CHECKING:
    from fedlens.review.contract import Person
    from fedlens.review.store import Store
    from fedlens.review.web.console import Console

ANCHOR_SECONDS = 300.0


def serve(
    run: RunPath,
    *,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of images to review (PNG, JPEG, TIFF).", show_default=False),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Review the run's test images.")] = False,
    first: Annotated[
        int | None, typer.Option(min=1, help="Only so many of the images.", show_default=False)
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="To listen on.")] = 8000,
    host: Annotated[
        str, typer.Option(help="To listen on; other than loopback it needs TLS.")
    ] = "127.0.0.1",
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            help="Name that browsers call it by, where that is not what it listens on.",
            show_default=False,
        ),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="TLS certificate, PEM.", show_default=False)
    ] = None,
    certificate_key: Annotated[
        Path | None, typer.Option(help="Its key, PEM.", show_default=False)
    ] = None,
    behind_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-proxy",
            help="A proxy on this machine has the TLS, and passes on the Host that it was asked for.",
        ),
    ] = False,
    blind_first: Annotated[
        bool,
        typer.Option(
            "--blind-first/--open",
            help="Reviewers label before they see the prediction and the map, or see all at once.",
        ),
    ] = False,
    neighbours: Annotated[
        bool,
        typer.Option(
            "--neighbours",
            help="Show similar training images. They are the data of others: ask first.",
        ),
    ] = False,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Keep the store there: sqlite:///FILE or postgresql://USER@HOST/NAME.",
            show_default="RUN/review/review.sqlite",
        ),
    ] = None,
    key: KeyFile = None,
) -> None:
    """Serve the reviewer's console of a finished run, on this machine alone unless told otherwise.

    Without people in the store it lets you in by a link that works once. Stop it with Ctrl-C;
    nothing that was decided is lost.

    Examples:

        fedlens review serve runs/first --demo

        fedlens review serve runs/first --images incoming --blind-first

        fedlens review serve runs/first --database postgresql://fedlens@db/review --host 0.0.0.0
        --name review.example.org --certificate review.pem --certificate-key review.key
    """
    check_installed()
    from fedlens.cli.review.reviewed import subject_of
    from fedlens.experiment.reporting import report_content
    from fedlens.report.model_card import model_card
    from fedlens.review.model import Examiner
    from fedlens.review.model.measuring import measured
    from fedlens.review.store import ReviewKey, open_store
    from fedlens.review.web.app import create_app
    from fedlens.review.web.console import LOOPBACK_HOSTS, Console, Policy
    from fedlens.review.web.images import ImageSource
    from fedlens.review.web.serving import check_place, is_loopback
    from fedlens.review.web.serving import serve as serve_app

    if demo and images is not None:
        raise RunError("--demo reviews the test images and --images a folder: choose one.")
    called = naming(host, port, name or [], certificate=certificate is not None, proxy=behind_proxy)
    secure = certificate is not None or behind_proxy
    check_place(host, certificate, certificate_key, secure=secure, port=port)
    opened = load_run(run)
    content = report_content(opened, explained=False)
    subject = subject_of(opened, content)
    source = ImageSource(subject, images)
    policy = Policy(
        blind_first=blind_first,
        neighbours=neighbours,
        secure_cookies=secure,
        hosts=(*LOOPBACK_HOSTS, *called.hosts),
    )
    secret = ReviewKey.load(key)
    store = open_store(address_of(database or str(run), must_exist=False), secret)
    try:
        check_same_model(store, subject.digest)
        with _told("Learning how sure the model may be"):
            examiner = Examiner(subject, opened.path / "review")
        try:
            console = Console(store, examiner, subject, source, policy, secret.public.fingerprint)
            with _told("Writing the model card"):
                card = model_card(content, measured(examiner, policy.oversight))
            console = replace(console, card=card)
            if demo or images is not None:
                fill(console, images, first)
            _record_start(console)
            app = create_app(console)
            _greet(store, called.address, link=is_loopback(host))
            with _anchoring(store), warming(console), _until_stopped():
                serve_app(app, host, port, certificate, certificate_key)
        finally:
            examiner.close()
    finally:
        store.close()
    out.print("Stopped; the trail is kept.", highlight=False)


def card(
    run: RunPath,
    *,
    out_: Annotated[
        Path | None,
        typer.Option("--out", help="Markdown file to write.", show_default="standard output"),
    ] = None,
) -> None:
    """Print the model card of a run as Markdown: for whom, on what data, how good, at what cost.

    Examples:

        fedlens review card runs/first --out MODEL_CARD.md
    """
    check_installed()
    from fedlens.cli.review.reviewed import subject_of
    from fedlens.experiment.reporting import report_content
    from fedlens.report.model_card import model_card
    from fedlens.review.model import Examiner
    from fedlens.review.model.measuring import measured

    opened = load_run(run)
    content = report_content(opened, explained=False)
    with (
        _told("Measuring how sure the model may be"),
        Examiner(subject_of(opened, content)) as examiner,
    ):
        text = model_card(content, measured(examiner)).markdown()
    if out_ is None:
        sys.stdout.write(text)
        return
    write_text(out_, text)
    out.print(f"Wrote {out_}.", highlight=False, soft_wrap=True)


def _record_start(console: "Console") -> None:
    from fedlens.review.store.trail import SERVING_BEGAN

    policy = {name: value for name, value in asdict(console.policy).items() if name != "hosts"}
    content = {"model": console.examiner.identity, "policy": policy}
    console.store.trail.add(SERVING_BEGAN, operator(), content)


def _greet(store: "Store", where: str, *, link: bool) -> None:
    """Say where the console is, and how one gets in."""
    progress = store.queue.progress()
    waiting = progress.total - progress.decided
    person = _person(store) if link else None
    if progress.total == 0:
        out.print("Nothing is to be reviewed yet: give --demo, or --images FOLDER.")
    waits = "case is" if waiting == 1 else "cases are"
    out.print(f"{waiting:,} {waits} waiting at", highlight=False)
    address = where
    if person is not None:
        address = f"{where}/link/{store.people.one_time_link(person)}"
    out.print(f"  {address}", highlight=False, soft_wrap=True)
    if person is not None:
        out.print(f"The link lets {person.name} in once, within ten minutes.", highlight=False)
    elif not store.people.list():
        out.print(
            "Nobody may sign in yet: `fedlens review user add` adds a person.", highlight=False
        )
    out.print("Ctrl-C stops the console.", highlight=False)


def _person(store: "Store") -> "Person | None":
    """Return whoever runs the command, as a person of the store; made a lead where there is nobody."""
    from fedlens.review.contract import Role

    name = account()
    people = store.people.list()
    if not people:
        return store.people.add(name, secrets.token_urlsafe(32), Role.LEAD, operator())
    return next((one for one in people if one.name == name and one.active), None)


@contextmanager
def _told(message: str) -> Iterator[None]:
    """Show that something is being done whose end cannot be foretold."""
    with watching() as watch:
        watch(Event(0, 1, message))
        yield


@contextmanager
def _until_stopped() -> Iterator[None]:
    """End the block on Ctrl-C or a polite kill, which are how a console is meant to end."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _anchoring(store: "Store") -> Iterator[None]:
    """Keep an anchor of the trail's end beside the key every few minutes."""
    from fedlens.review.contract import ReviewError
    from fedlens.review.store.anchors import keep_anchor

    over = threading.Event()

    def keep() -> None:
        while not over.wait(ANCHOR_SECONDS):
            try:
                keep_anchor(store.trail)
            except ReviewError as error:
                errors.print(f"Note: {error}", style="yellow", soft_wrap=True)

    thread = threading.Thread(target=keep, name="anchors", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
