"""Which part of a garment decides, in words that follow from the findings."""

from collections.abc import Sequence

from fedlens.report.explanation_naming import capital, lifted, method_name, methods_named
from fedlens.report.explanation_parts import Difference, Direction, left_out
from fedlens.report.explanation_reading import Content
from fedlens.report.wording import count, listing, signed


def direction_words(found: Direction) -> str:
    """Return which part the methods name for one direction, held against the right answers."""
    if not found.methods:
        return "no method that may be asked about parts was judged."
    who = methods_named(found.methods)
    if found.part is None:
        if not any(found.tops):
            return f"no part surely has more of the evidence than its area by {who}."
        each = listing(
            [
                f"{method_name(key)} {'names no part surely' if top is None else f'names the {top}'}"
                for key, top in zip(found.methods, found.tops, strict=True)
            ]
        )
        return f"the methods do not agree: {each}."
    put = ("puts", "both put")[len(found.methods) - 1] if len(found.methods) < 3 else "all put"
    said = (
        f"the {found.part}. {capital(who)} {put} more of their positive evidence there than its "
        f"area: {listing([lifted(lift) for lift in found.lifts])} points."
    )
    if not found.right:
        return f"{said} There are no right answers of the class {found.predicted} to compare with."
    in_right = listing([signed(100 * lift.mean, 0) for lift in found.right])
    pairs = list(zip(found.lifts, found.right, strict=True))
    less = sum(wrong.over(right.high) for wrong, right in pairs)
    more = sum(wrong.under(right.low) for wrong, right in pairs)
    if less == len(pairs):
        verdict = "less by more than the intervals: the mistakes lean on it more"
    elif more == len(pairs):
        verdict = "more by more than the intervals: the mistakes lean on it less"
    else:
        verdict = "for not all of them a clear difference"
    return (
        f"{said} In right answers of the class {found.predicted}, asked the same, it is {in_right} "
        f"points, {verdict}."
    )


def left_out_words(content: Content) -> str:
    """Return which methods were not asked which part decides, and why; empty for none."""
    reasons = left_out(content)
    if not reasons:
        return ""
    each = "; ".join(f"{methods_named(keys)} ({why})" for why, keys in reasons.items())
    return f"not asked, although they look at the class: {each}."


def difference_words(found: Sequence[Difference]) -> str:
    """Return on which parts the methods agree that two groups differ, a sentence for each pair."""
    return " ".join(_difference(pair) for pair in found)


def _difference(pair: Difference) -> str:
    held = f"{pair.first} against {pair.second}:"
    methods = list(pair.values)
    if not methods:
        return f"{held} no method that may be asked was compared."
    more, less = pair.agreed(1), pair.agreed(-1)
    same = pair.of_the_images()
    also = (
        f" (On the {listing(same)} an edge detector differs the same way: that is of the images, not "
        "of the network.)"
        if same
        else ""
    )
    who = method_name(methods[0])
    if not more and not less:
        if len(methods) > 1:
            who = f"the {count(len(methods), 'method')} asked surely differ the same way"
            other = "other " if same else ""
            return f"{held} there is no {other}part on which {who}.{also}"
        return f"{held} {who} differs surely on no {'other ' if same else ''}part.{also}"
    put = [f"more on the {listing(more)}"] if more else []
    put += [f"less on the {listing(less)}"] if less else []
    verb = "puts"
    if len(methods) > 1:
        every = "both methods" if len(methods) == 2 else f"all {count(len(methods), 'method')}"
        who, verb = f"{every} asked", "put"
    return f"{held} {who} {verb} {listing(put)} in the first, by more than the intervals.{also}"
