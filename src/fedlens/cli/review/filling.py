"""The queue of a console that is about to be served: what is put into it, and what is left out."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fedlens.cli.display import errors, watching
from fedlens.cli.review.app import operator
from fedlens.errors import FedlensError
from fedlens.experiment.modes import Event
from fedlens.report.wording import count

if TYPE_CHECKING:
    from fedlens.review.web.console import Console

NAMED = 5
"""Pictures that could not be read which are named one by one; of more it is said how many."""
FIRST_SHOWN = 2


def fill(console: "Console", folder: Path | None, first: int | None) -> None:
    """Add the images to the queue, with a bar; those that are there already stay as they are.

    Args:
        console: whose queue.
        folder: that the images are in; None for the test images.
        first: only so many of them, or all.

    Raises:
        ReviewError: there are none, or none that can be read.
    """
    from fedlens.review.contract import ReviewError

    added = 0
    left_out: list[str] = []
    with watching() as watch:
        watch(Event(0, 1, "Looking at the images"))
        batches = console.images.cases(
            console.examiner,
            lambda done, total: watch(Event(done, total)),
            first=first,
            left_out=left_out.append,
        )
        for cases in batches:
            added += len(console.store.queue.add(cases, operator()))
    for sentence in left_out[:NAMED]:
        errors.print(f"Left out: {sentence}", style="yellow", soft_wrap=True)
    if len(left_out) > NAMED:
        more = count(len(left_out) - NAMED, "more", "more")
        errors.print(f"Left out: {more} like these.", style="yellow", highlight=False)
    if added == 0:
        if folder is None:
            raise ReviewError("There are no images to review.")
        none = "None of the images" if left_out else "There are no images"
        can = " can be read" if left_out else ""
        raise ReviewError(
            f"{none} in {folder}{can}: PNG, JPEG and TIFF files are looked for there, and in its "
            "sub-folders."
        )


@contextmanager
def warming(console: "Console") -> Iterator[None]:
    """Work out the colour scales of the maps that are shown first, beside whoever comes in."""

    def warm() -> None:
        for method in console.examiner.methods[:FIRST_SHOWN]:
            try:
                console.examiner.scale(method)
            except FedlensError:
                return  # the page of a case says what is wrong

    thread = threading.Thread(target=warm, name="warming", daemon=True)
    thread.start()
    yield
