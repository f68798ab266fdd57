"""What is shown of a case leaves a record, whoever looks, on which page or through the API.

Who labels first can be asked only before the answer was shown: whoever works cases is therefore on
record with everything that they were shown. An auditor decides nothing, and leaves nothing: who ceases
to be one labels nothing blind that came in until then.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedlens.files import without_nan
from fedlens.review.contract import Case, ConflictError, Person, Record, Role
from fedlens.review.model.evidence import how_made
from fedlens.review.store.trail import EXPLAINED, PREDICTED, REVEALED
from fedlens.review.store.work import maps_are_on
from fedlens.review.web.console import Console

if TYPE_CHECKING:  # the model side loads torch and more
    from fedlens.review.model.findings import Explained
    from fedlens.review.model.neighbours import Neighbour
    from fedlens.review.web.pages.asked import Asked


def displayed(
    case: Case,
    asked: "Asked",
    maps: "Sequence[Explained]",
    near: "Sequence[Neighbour]" = (),
    *,
    stopped: bool = False,
) -> dict[str, Any]:
    """Return what was before a person's eyes, as plain JSON for the trail.

    Args:
        case: that was shown.
        asked: what was asked of the model.
        maps: what it answered.
        near: training images beside it.
        stopped: the model is out of service, and was not asked.
    """
    shown: dict[str, Any] = {
        "revealed": True,
        "maps": [_map(one) for one in maps],
        "contrast": None if asked.against is None else [case.predicted, asked.against],
        "opacity": asked.opacity / 100,
        "asked": [asked.method, asked.second],
    }
    if near:
        shown["neighbours"] = [f"train/{one.position}" for one in near]
    if stopped:
        shown["stopped"] = True
    return shown


def same_display(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two displays show the same maps of the same question.

    How opaque they are does not matter, but whether they can be seen at all does.
    """

    def what(shown: Mapping[str, Any]) -> object:
        maps = shown.get("maps", [])
        found = [(each.get("method"), each.get("map")) for each in maps]
        names = "asked", "contrast", "neighbours", "stopped", "through"
        asked = [shown.get(name) for name in names]
        return found, maps_are_on(shown), asked

    return what(one) == what(other)


def reveals_of(console: Console, person: Person, case: Case) -> list[Record]:
    """Return the records of what was shown of a case to ``person``, the oldest first."""
    records = console.store.decisions.history(case.number)
    return [one for one in records if one.kind == REVEALED and one.actor == person.name]


def note_display(
    console: Console,
    person: Person,
    case: Case,
    shown: Mapping[str, Any],
    evidence: Mapping[str, Any],
) -> None:
    """Leave a record of what is shown, unless the same was shown to this person last.

    Args:
        console: that shows it.
        person: to whom.
        case: that it is of.
        shown: see :func:`displayed`.
        evidence: what the model said, which a decision that rests on it holds too.
    """
    if person.role is Role.AUDITOR:
        return
    before = reveals_of(console, person, case)
    last = before[-1].content if before else {}
    # one without evidence was left before records held it: a decision would have none to rest on
    if last.get("evidence") and same_display(last.get("displayed", {}), shown):
        return
    console.store.decisions.reveal(person.actor, case.number, shown, evidence)


def decided_on(
    console: Console, person: Person, case: Case, form: Mapping[str, str]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return what a person had before them when they decided, and what the model said of it.

    Both are what a page that was shown to them left in the trail, and not what the form says: that
    only tells which of the pages it stands on. How opaque the maps were then, it alone knows; maps
    that it says were raised, and of which no record tells, leave one now.

    Args:
        console: that showed it.
        person: who decides.
        case: that they decide.
        form: ``method``, ``second``, ``against`` and ``opacity`` as they were sent, or empty; from a
            page without maps, all are.

    Raises:
        ConflictError: nothing like it was shown to them.
    """
    said = tuple(form[name] for name in ("method", "second", "against"))
    records = [
        record
        for record in reveals_of(console, person, case)
        if "through" not in (shown := record.content.get("displayed", {}))
        and (not any(said) or _question(shown) == said)
    ]
    if not records:
        raise ConflictError(
            f"Case {case.number} was not shown to you as the form says; open it, look, and decide then."
        )
    content = records[-1].content
    shown, evidence = content["displayed"], content.get("evidence", {})
    step = form["opacity"]
    if shown.get("maps") and step.isascii() and step.isdigit() and len(step) < 4:
        faded = shown | {"opacity": min(100, int(step)) / 100}
        if maps_are_on(faded) and not maps_are_on(shown):
            console.store.decisions.reveal(person.actor, case.number, faded, evidence)
        shown = faded
    return shown, evidence


def _question(shown: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which methods and contrast a display is of, as its page sends them along."""
    names = shown.get("asked") or [one.get("method") for one in shown.get("maps", [])]
    contrast = shown.get("contrast")
    against = "" if contrast is None else str(contrast[1])
    return (*names, against) if len(names) > 1 else (*names, *names, against)


def note_picture(
    console: Console, person: Person, case: Case, asked: "Asked", found: "Explained", *, part: bool
) -> None:
    """Leave a record that the picture of a map is shown, unless a page that shows it left one.

    Args:
        console: that shows it.
        person: to whom.
        case: that it is of.
        asked: what is asked.
        found: the map.
        part: the browser says that the picture is a part of a page, whose slider fades it; by itself
            it is seen as it is.
    """
    if person.role is Role.AUDITOR:
        return
    shown = displayed(case, asked, [found]) | {"opacity": 1.0, "through": "picture"}
    for record in reveals_of(console, person, case):
        before = record.content.get("displayed", {})
        held = [one.get("method") for one in before.get("maps", [])]
        same = found.method in held and before.get("contrast") == shown["contrast"]
        if same and (part or maps_are_on(before)):
            return
    evidence = console.examiner.evidence(found)
    console.store.decisions.reveal(person.actor, case.number, shown, evidence)


def note_answer(console: Console, person: Person, case: Case) -> None:
    """Leave a record that the API tells what the model says of a case, the first time.

    Whose program sent the image is on record with the answer.
    """
    told = (REVEALED, PREDICTED, EXPLAINED)
    records = console.store.decisions.history(case.number)
    known = any(one.kind in told and one.actor == person.name for one in records)
    if person.role is Role.AUDITOR or known:
        return
    shown = {"revealed": True, "maps": [], "through": "api"}
    console.store.decisions.reveal(person.actor, case.number, shown)


def _map(one: "Explained") -> dict[str, Any]:
    return {
        "method": one.method,
        "map": one.digest,
        "degenerate": one.degenerate,
        "badges": [without_nan(badge.to_json()) for badge in one.badges],
        "meta": how_made(one),
    }
