"""Who may see what of a case, and what the model says of it, worked out once and kept for a while."""

import threading
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from torch import Tensor

from fedlens.errors import FedlensError
from fedlens.explain import METHODS, Contrast
from fedlens.review.contract import Case, NotAllowedError, Person, Role, State, StoppedError
from fedlens.review.model.neighbours import Neighbour, Neighbours
from fedlens.review.store.work import Work
from fedlens.review.web.console import Console
from fedlens.review.web.pages.asked import Asked

if TYPE_CHECKING:
    from fedlens.review.model.examiner import Examiner
    from fedlens.review.model.findings import Explained

NEIGHBOURS = 5
KEPT = 256
"""Explanations that are kept, so that a page, its pictures and its decision rest on the same map."""

_Kept = OrderedDict[tuple[object, str | None], "Future[Explained]"]
_kept: "WeakKeyDictionary[Examiner, _Kept]" = WeakKeyDictionary()
_neighbours: "WeakKeyDictionary[Examiner, Neighbours]" = WeakKeyDictionary()
_guard = threading.Lock()


@dataclass(frozen=True)
class Access:
    """What a person may do with a case and see of it.

    Attributes:
        mine: it is theirs to decide now.
        takeable: nobody has it.
        revealed: they may see what the model says.
        work: what they did with it so far.
    """

    mine: bool
    takeable: bool
    revealed: bool
    work: Work


def access(console: Console, case: Case, person: Person) -> Access:
    """Return what ``person`` may do with ``case`` and see of it.

    Where reviewers label first, the model's answer is shown to nobody who may still decide the case,
    before they have said what they see; unless they know it otherwise, when a label of theirs would
    be blind no more. Whoever sent an image through the API was answered then.
    """
    works = person.role is not Role.AUDITOR
    labels_first = (
        works
        and console.policy.blind_first
        and case.queued
        and case.state is not State.DECIDED
        and bool(console.store.decisions.unseen(person.actor, [case.number]))
    )
    work = console.store.decisions.work(person.actor, case.number)
    mine = works and case.state is State.ASSIGNED and case.assignee == person.name
    return Access(
        mine=mine,
        takeable=case.state in (State.OPEN, State.DEFERRED),
        revealed=not labels_first,
        work=work,
    )


def must_see(console: Console, case: Case, person: Person) -> None:
    """Check that a person may see what the model says of a case.

    Raises:
        NotAllowedError: they have not said yet what they see.
    """
    if not access(console, case, person).revealed:
        raise NotAllowedError(
            f"What the model says of case {case.number} is shown after you have labelled it."
        )


def explained(
    console: Console,
    case: Case,
    image: Tensor,
    method: str,
    against: int | None,
    *,
    badges: bool,
    beside: str = "",
) -> "Explained":
    """Return the map of one method for a case; the same one while it is kept.

    Args:
        console: whose model is asked.
        case: that the image is of.
        image: uint8 (C, H, W).
        method: name of a method of the subject.
        against: class that the predicted one is weighed against, or None.
        badges: whether the map is to be tried as well.
        beside: the method shown beside it, with which a map that is tried is compared.

    Raises:
        StoppedError: the model is out of service.
        FedlensError: the method cannot explain this.
    """
    console.store.switch.check()
    answer = _soon(console, case, image, method, against, badges, beside)
    try:
        return answer.result()
    except FedlensError:
        with _guard:
            kept = _kept[console.examiner]
            for key in [key for key, value in kept.items() if value is answer]:
                del kept[key]
        raise


def prepare(console: Console, case: Case, image: Tensor, asked: Asked) -> None:
    """Begin to explain a case while a person still looks at its image; show nothing of it."""
    if console.store.switch.state() is not None:
        return
    _both_soon(console, case, image, asked)


def _both_soon(console: Console, case: Case, image: Tensor, asked: Asked) -> None:
    """Ask for both maps: the second one first, with which the badges then compare the first one."""
    for method in dict.fromkeys((asked.second, asked.method)):
        tried = method == asked.method
        with suppress(FedlensError):  # it is met again, and said, when the map is to be shown
            _soon(console, case, image, method, asked.against, tried, asked.second if tried else "")


def _soon(
    console: Console,
    case: Case,
    image: Tensor,
    method: str,
    against: int | None,
    badges: bool,
    beside: str,
) -> "Future[Explained]":
    """Return the kept answer, or ask the model for one, which is then kept."""
    question = (case.digest, case.predicted, method, against)
    with _guard:
        kept = _kept.setdefault(console.examiner, OrderedDict())
        tried = beside if badges else None  # what it is compared with; None where it is not tried
        there = [one for one in kept if one[0] == question and tried in (None, one[1])]
        if there:
            found = max(there, key=lambda one: one[1] is not None)
            kept.move_to_end(found)
            return kept[found]
        contrasts = against is not None and METHODS[method].class_specific
        target = Contrast(case.predicted, against) if contrasts and against is not None else None
        other = beside if beside not in ("", method) else None
        answer = console.examiner.explain_soon(image, method, target, badges=badges, beside=other)
        kept[question, tried] = answer
        while len(kept) > KEPT:
            kept.popitem(last=False)
    return answer


def both_maps(
    console: Console, case: Case, image: Tensor, asked: Asked
) -> "tuple[list[Explained], str]":
    """Return the maps that are looked at, the first with badges, and why there are none.

    A method that cannot explain this network or question is named in the sentence; what the others
    show is shown.

    Raises:
        StoppedError: the model is out of service.
    """
    console.store.switch.check()
    _both_soon(console, case, image, asked)
    maps, problems = [], []
    for method in dict.fromkeys((asked.method, asked.second)):
        tried = method == asked.method
        beside = asked.second if tried else ""
        question = case, image, method, asked.against
        try:
            maps.append(explained(console, *question, badges=tried, beside=beside))
        except StoppedError:
            raise  # the whole of it is stopped: what the record would name is not all that was asked
        except FedlensError as error:
            problems.append(f"{method}: {error}")
    return maps, " ".join(problems)


def neighbours(console: Console, image: Tensor) -> list[Neighbour]:
    """Return the training images that the model finds most like ``image``, the nearest first.

    Raises:
        NotAllowedError: policy does not allow it.
        StoppedError: the model is out of service.
        ReviewError: the training images are not here.
    """
    if not console.policy.neighbours:
        raise NotAllowedError("Training images are not shown here.")
    console.store.switch.check()
    with _guard:
        search = _neighbours.get(console.examiner)
        if search is None:
            search = Neighbours(console.examiner, allowed=True)
            _neighbours[console.examiner] = search
    return search.nearest(image, NEIGHBOURS)
