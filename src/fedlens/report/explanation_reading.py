"""What the findings on explanations come to: estimates, orders of methods, and who agrees."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedlens.report.explanation_content import ExplanationStudy

CONTROLS = (
    "edges",
    "random",
)  # know nothing of the decision: what is no better than they is worthless

Content = Mapping[str, Any]


@dataclass(frozen=True)
class Estimate:
    """A mean over images with its 95 % interval; NaN where there is none.

    Attributes:
        mean, low, high: the mean and the interval's ends.
        images, missing: images that have a figure, and that have none.
    """

    mean: float
    low: float = math.nan
    high: float = math.nan
    images: int = 0
    missing: int = 0

    @property
    def known(self) -> bool:
        """Return whether there is a mean."""
        return math.isfinite(self.mean)

    def times(self, factor: float) -> "Estimate":
        """Return the same in another unit."""
        ends = (factor * self.mean, factor * self.low, factor * self.high)
        return Estimate(*ends, self.images, self.missing)

    def over(self, value: float) -> bool:
        """Return whether the whole interval lies above ``value``; False where there is none."""
        return self.low > value

    def under(self, value: float) -> bool:
        """Return whether the whole interval lies below ``value``; False where there is none."""
        return self.high < value


NOTHING = Estimate(math.nan)


def estimate(raw: Content | None) -> Estimate:
    """Return an interval as the parts write it."""
    if not raw:
        return NOTHING
    return Estimate(
        number(raw.get("mean")),
        number(raw.get("low")),
        number(raw.get("high")),
        int(raw.get("images") or 0),
        int(raw.get("missing") or 0),
    )


def number(value: Any) -> float:
    """Return a figure, NaN for None."""
    return math.nan if value is None else float(value)


@dataclass(frozen=True)
class Place:
    """Where a method stands by its mean rank over the measures.

    Attributes:
        key: the method.
        rank: its mean rank, 1 is the best.
        kept: share of the resamples in which it keeps its place.
        control: it is a control.
        class_specific: it looks at the class.
    """

    key: str
    rank: Estimate
    kept: float
    control: bool
    class_specific: bool


def answered(study: ExplanationStudy, question: str) -> dict[str, Content]:
    """Return network -> content of the parts on ``question`` that found something."""
    return {
        model: finding.content
        for model, finding in study.of(question).items()
        if "nothing" not in finding.content
    }


def nothing_found(study: ExplanationStudy) -> dict[str, str]:
    """Return part -> why it found nothing."""
    return {
        name: str(finding.content["nothing"])
        for name, finding in study.findings.items()
        if "nothing" in finding.content
    }


def standing(content: Content) -> list[Place]:
    """Return the methods of a judged network, the best mean rank first."""
    ranking = content["ranking"]
    places = [
        Place(
            row["key"],
            Estimate(
                number(ranking["mean_rank"][n]),
                number(ranking["low"][n]),
                number(ranking["high"][n]),
            ),
            number(ranking["kept"][n]),
            bool(row["control"]),
            bool(row["class_specific"]),
        )
        for n, row in enumerate(content["rows"])
    ]
    return sorted(places, key=lambda place: (not place.rank.known, place.rank.mean))


def ordered(study: ExplanationStudy, model: str, keys: Sequence[str]) -> list[str]:
    """Return ``keys`` the best-ranked of the network first, the controls last."""
    content = answered(study, "judged").get(model)
    order = [] if content is None else [place.key for place in standing(content)]
    return sorted(
        keys, key=lambda key: (key in CONTROLS, order.index(key) if key in order else len(order))
    )


def proper(keys: Sequence[str]) -> list[str]:
    """Return the keys that are no controls."""
    return [key for key in keys if key not in CONTROLS]


def figure_of(row: Content, measure: str) -> Estimate:
    """Return a judged method's figure; nothing where the measure does not apply to it."""
    return estimate(row["figures"].get(measure))


def leader(content: Content, measure: Content) -> str | None:
    """Return the method that is best by a measure, if its interval excludes the next best's mean.

    Controls do not compete.
    """
    if measure["higher_is_better"] is None:
        return None
    sign = 1 if measure["higher_is_better"] else -1
    found = [
        (sign * figure.mean, row["key"], figure)
        for row in content["rows"]
        if not row["control"] and (figure := figure_of(row, measure["key"])).known
    ]
    least = min((figure.missing for _, _, figure in found), default=0)
    found = [item for item in found if item[2].missing == least]  # failing is no advantage
    if len(found) < 2:
        return None
    found.sort(key=lambda item: -item[0])
    (_, key, best), (_, _, second) = found[:2]
    ahead = best.over(second.mean) if sign > 0 else best.under(second.mean)
    return key if ahead else None


def alike(content: Content, role: str, what: str = "spearman") -> dict[str, Estimate]:
    """Return method -> how alike the maps of the central network and of ``role`` are."""
    rows = content["alike"].get(role, {})
    return {key: estimate(row[what]) for key, row in rows.items()}


def quality(content: Content, role: str, measure: str) -> dict[str, Estimate]:
    """Return method -> a measure of the maps of ``role`` for its own network."""
    rows = content["quality"].get(role, {})
    return {key: estimate(row[measure]) for key, row in rows.items()}


def average(figures: Mapping[str, Estimate]) -> float:
    """Return the mean over the methods that are no controls; NaN without any."""
    known = [figures[key].mean for key in proper(list(figures)) if figures[key].known]
    return sum(known) / len(known) if known else math.nan


def budgets(content: Content) -> dict[str, float]:
    """Return role -> epsilon of a part on privacy, the widest budget first."""
    pairs = {role: number(value) for role, value in content["epsilon"].items()}
    return dict(sorted(pairs.items(), key=lambda pair: -pair[1]))


def seed_spread(study: ExplanationStudy, model: str) -> dict[str, Estimate]:
    """Return method -> how alike two central trainings are; empty where there is one."""
    content = answered(study, "federation").get(model)
    return {} if content is None else alike(content, "again")


def classless(study: ExplanationStudy) -> list[str]:
    """Return the methods that look at no class, in order."""
    found: dict[str, None] = {}
    for content in answered(study, "judged").values():
        found |= {row["key"]: None for row in content["rows"] if not row["class_specific"]}
    return list(found)
