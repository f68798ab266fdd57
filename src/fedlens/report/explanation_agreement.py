"""Who agrees: the measures on the order of the methods, and the methods on where the evidence is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fedlens.report.explanation_naming import method_name
from fedlens.report.explanation_reading import CONTROLS, Content, number, proper, standing
from fedlens.report.wording import count, decimal, listing

# Kendall's W of m measures, put on the scale of the mean rank correlation between two of them,
# (m W - 1) / (m - 1): below the first the order is a matter of which measures are taken.
HARDLY, LARGELY = 0.3, 0.7


def concordance_words(content: Content) -> str:
    """Return how far the measures agree on the order of the methods, and what that means."""
    ranking = content["ranking"]
    measures = len(ranking["measures"])
    agree = number(ranking["concordance"])
    if not math.isfinite(agree):
        return "The order of the methods cannot be compared over the measures."
    if measures < 2:
        return "One measure alone makes this order."
    common = (measures * agree - 1) / (measures - 1)
    if common < HARDLY:
        verdict = "they hardly agree, so who is ahead depends on which measures are taken"
    elif common < LARGELY:
        verdict = "they agree in part, so other measures might give another order"
    else:
        verdict = "they largely agree"
    return (
        f"The {count(measures, 'ranked measure')} agree on the order with a Kendall's W of "
        f"{decimal(agree, 2)} (1: one order; about {decimal(1 / measures, 2)}: nothing in common): "
        f"{verdict}."
    )


@dataclass(frozen=True)
class Agreement:
    """Mean rank correlation between the maps of each two methods.

    Attributes:
        methods: the best-ranked first, the controls last.
        values: (method, other) -> the correlation; NaN where unknown.
    """

    methods: tuple[str, ...]
    values: Mapping[tuple[str, str], float]

    def pairs(self) -> dict[tuple[str, str], float]:
        """Return each two methods once, in order, with what is known of them."""
        return {
            (one, other): self.values[one, other]
            for place, one in enumerate(self.methods)
            for other in self.methods[place + 1 :]
            if math.isfinite(self.values[one, other])
        }


def agreement(content: Content) -> Agreement | None:
    """Return how alike the maps of the methods are; None where that was not worked out."""
    raw = content.get("agreement")
    if not raw or len(raw["rows"]) < 2:
        return None
    order = [place.key for place in standing(content) if place.key in raw["rows"]]
    order.sort(key=lambda key: key in CONTROLS)
    values = {
        (one, other): number(value)
        for one, line in zip(raw["rows"], raw["matrix"], strict=True)
        for other, value in zip(raw["rows"], line, strict=True)
    }
    return Agreement(tuple(order), values)


def agreement_words(found: Agreement) -> str:
    """Return which two methods agree most, and which least with the others; controls aside."""
    methods = proper(list(found.methods))
    pairs = {
        pair: value for pair, value in found.pairs().items() if all(key in methods for key in pair)
    }
    if not pairs:
        return "The maps of no two methods can be compared."
    closest = max(pairs, key=lambda pair: pairs[pair])
    said = (
        f"The maps of {listing([method_name(key) for key in closest])} agree most, with a mean "
        f"rank correlation of {decimal(pairs[closest], 2)}"
    )
    means = {}
    for key in methods:
        with_others = [value for pair, value in pairs.items() if key in pair]
        if with_others:
            means[key] = sum(with_others) / len(with_others)
    if len(means) < 3:  # of two, neither agrees less than the other
        return f"{said}."
    least = min(means, key=lambda key: means[key])
    return (
        f"{said}; those of {method_name(least)} agree least with the other methods', with "
        f"{decimal(means[least], 2)} on average."
    )
