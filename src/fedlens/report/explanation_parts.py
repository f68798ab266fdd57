"""Which part of a garment the evidence lies on: who is asked, what they say, how groups differ."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedlens.explain import METHODS
from fedlens.explain.explaining import parameters_of
from fedlens.report.explanation_reading import Content, Estimate, estimate, standing

EDGES = "edges"  # the control that shows where images differ
BEST = 3  # methods that are asked which part of a garment matters
COARSE = 4  # cells along a side up to which a cell of 28 pixels is wider than a collar

TOO_COARSE = "too coarse to tell the parts apart"
BLACK = "a black baseline, against which a dark part can never get evidence"
OWN_MEAN = "a cell's own mean as the baseline, against which an evenly dark cell can get none"
SLOPE = "a slope, which says what a small change would do and not what a part is worth"
UNFIT = "too coarse, or a baseline against which a dark part can never get evidence"


def asked(content: Content) -> list[str]:
    """Return the best-ranked methods that may be asked which part decides, at most three.

    Where the content does not say who may be, all that look at the class may.
    """
    return [key for key in _about_the_class(content) if _may_be_asked(content)[key]][:BEST]


def selects(content: Content) -> bool:
    """Return whether the content says which methods may be asked about parts."""
    return any("names_parts" in row for row in content["rows"])


def left_out(content: Content) -> dict[str, list[str]]:
    """Return reason -> methods that look at the class and yet may not be asked, in order."""
    may, about = _may_be_asked(content), _about_the_class(content)
    found: dict[str, list[str]] = {}
    for row in content["rows"]:
        if row["key"] in about and not may[row["key"]]:
            found.setdefault(_unfit(row), []).append(row["key"])
    return found


def _about_the_class(content: Content) -> list[str]:
    return [p.key for p in standing(content) if p.class_specific and not p.control]


def _may_be_asked(content: Content) -> dict[str, bool]:
    chosen = selects(content)
    return {row["key"]: bool(row.get("names_parts", not chosen)) for row in content["rows"]}


def _unfit(row: Content) -> str:
    """Return why a method may not be asked.

    The content says only that it may not be; the reason follows from what the method is.
    """
    kind = METHODS.get(row["method"])
    if kind is None:
        return UNFIT
    settings = parameters_of(row["method"]) | dict(row["parameters"])
    if kind.uses_layer or kind.needs_attention or settings.get("across", COARSE + 1) <= COARSE:
        return TOO_COARSE
    baseline = settings.get("baseline", settings.get("fill"))
    if baseline is None:
        return UNFIT if kind.needs_references else SLOPE
    return {"black": BLACK, "segment-mean": OWN_MEAN}.get(baseline, UNFIT)


@dataclass(frozen=True)
class Direction:
    """Which part of a garment one direction of the confusion rests on.

    Attributes:
        group: name of the mistakes.
        true: class of the images.
        images: how many.
        methods: those that are asked: see :func:`asked`.
        tops: of each method, the part with its largest lift among those surely above 0, or None.
        part: the part that all of them name, or None.
        lifts: of each method, the lift of that part.
        predicted: class of the answer.
        right: the same in the right answers of the class of the answer, which are asked the same
            question; empty where there are none.
    """

    group: str
    true: str
    predicted: str
    images: int
    methods: tuple[str, ...]
    tops: tuple[str | None, ...]
    part: str | None
    lifts: tuple[Estimate, ...]
    right: tuple[Estimate, ...]


def directions(content: Content) -> list[Direction]:
    """Return of each direction of the confusion what the best-ranked methods say."""
    regions = content.get("regions")
    if not regions:
        return []
    names = list(regions["names"])
    lifts = {
        table["group"]: {
            key: dict(zip(names, map(estimate, values), strict=True))
            for key, values in table["lift"].items()
        }
        for table in regions["tables"]
    }
    methods = tuple(asked(content))
    found = []
    for group in content["groups"]:
        if group["right"]:
            continue
        mine = [lifts[group["name"]][key] for key in methods]
        tops = tuple(_top(lift) for lift in mine)
        part = tops[0] if tops and len(set(tops)) == 1 else None
        right = next(
            (
                other
                for other in content["groups"]
                if other["right"] and other["true"] == group["predicted"]
            ),
            None,
        )
        beside = () if part is None or right is None else tuple(
            lifts[right["name"]][key][part] for key in methods
        )  # fmt: skip
        found.append(
            Direction(
                group=group["name"],
                true=group["true"],
                predicted=group["predicted"],
                images=group["images"],
                methods=methods,
                tops=tops,
                part=part,
                lifts=() if part is None else tuple(lift[part] for lift in mine),
                right=beside,
            )
        )
    return found


def _top(lift: Mapping[str, Estimate]) -> str | None:
    sure = [part for part, value in lift.items() if value.over(0)]
    return max(sure, key=lambda part: lift[part].mean, default=None)


@dataclass(frozen=True)
class Difference:
    """How two groups differ in where the positive evidence lies.

    Attributes:
        first, second: names of the groups.
        parts: names of the parts.
        values: asked method -> part -> share in the first less that in the second.
        edges: the same of the edge detector, which knows nothing of the decision; empty without.
    """

    first: str
    second: str
    parts: tuple[str, ...]
    values: Mapping[str, Mapping[str, Estimate]]
    edges: Mapping[str, Estimate]

    def agreed(self, sign: int) -> list[str]:
        """Return the parts on which all methods surely put more (+1) or less (-1) in the first.

        Where the edge detector does so too, the images differ (a longer sleeve has more of any map),
        and it says nothing of the network: these parts are in :meth:`of_the_images`.
        """
        return [part for part in self._alike(sign) if not self._in_edges(part, sign)]

    def of_the_images(self) -> list[str]:
        """Return the parts on which all methods agree, but the edge detector does too."""
        return [
            part
            for part in self.parts
            for sign in (1, -1)
            if part in self._alike(sign) and self._in_edges(part, sign)
        ]

    def _alike(self, sign: int) -> list[str]:
        return [
            part
            for part in self.parts
            if all(_surely(by_part[part], sign) for by_part in self.values.values())
        ]

    def _in_edges(self, part: str, sign: int) -> bool:
        return part in self.edges and _surely(self.edges[part], sign)


def _surely(value: Estimate, sign: int) -> bool:
    return value.over(0) if sign > 0 else value.under(0)


def differences(content: Content) -> list[Difference]:
    """Return the differences between groups by the methods that are asked."""
    regions = content.get("regions") or {}
    methods, found = asked(content), []
    for raw in regions.get("differences") or []:
        by_key = {
            key: dict(zip(regions["names"], map(estimate, values), strict=True))
            for key, values in raw["values"].items()
        }
        values = {key: by_key[key] for key in methods if key in by_key}
        parts = tuple(regions["names"])
        found.append(Difference(raw["first"], raw["second"], parts, values, by_key.get(EDGES, {})))
    return found
