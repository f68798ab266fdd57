"""The people, the clock and the cases of the console's tests."""

from fedlens.review.contract import Actor, NewCase, Role

LEAD = Actor("Lena", Role.LEAD)
ANNA = Actor("Anna", Role.REVIEWER)
BEN = Actor("Ben", Role.REVIEWER)
AUDITOR = Actor("Otto", Role.AUDITOR)
PASSWORD = "a long enough password"
START = 1_795_000_000.0  # November 2026


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def new_case(number: int, **changes: object) -> NewCase:
    """A case of ten classes whose fields all follow from ``number``."""
    values = {
        "digest": f"{number:064x}",
        "source": f"test/{number}",
        "predicted": number % 10,
        "probabilities": tuple(0.55 if k == number % 10 else 0.05 for k in range(10)),
        "need": (number * 37 % 100) / 100,
        "signals": {"uncertainty": (number % 4) / 4, "novelty": (number % 3) / 2},
    }
    return NewCase(**{**values, **changes})
