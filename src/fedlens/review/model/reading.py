"""From logits and features to a prediction: calibrated, compared with what is usual, and weighed."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fedlens.review.contract import ReviewError
from fedlens.review.model import need
from fedlens.review.model.findings import Prediction
from fedlens.review.model.fitted import Fitted
from fedlens.review.model.looking import Look
from fedlens.training import Evaluation

TOP = 3
"""Classes that are named, the surest first."""


def predictions(
    seen: Look, digests: Sequence[str], fitted: Fitted, test: Evaluation
) -> list[Prediction]:
    """Return the prediction of each of B images.

    Args:
        seen: of the B images; without ``likeness`` the predictions have no ``disagreement``.
        digests: B of them.
        fitted: what the network is measured by.
        test: its figures on the test split, which say what is taken for what.

    Raises:
        ReviewError: the network's logits are not finite.
    """
    if not bool(seen.logits.isfinite().all()):
        raise ReviewError(
            "The network's answer to this image is not a number; it may not be reviewed."
        )
    probabilities = fitted.temperature.probabilities(seen.logits)
    predicted = seen.logits.argmax(1).tolist()
    novelty = fitted.novelty.score(seen.features)
    strange = None
    if seen.likeness is not None and fitted.likeness is not None:
        # The share of validation images whose maps are more alike than this one's.
        below = np.searchsorted(fitted.likeness, seen.likeness.numpy(), side="right")
        strange = 1 - below / len(fitted.likeness)
    answers = []
    for n, digest in enumerate(digests):
        number, sure = predicted[n], probabilities[n]
        signals = {
            need.UNCERTAINTY: float(1 - sure[number]),
            need.NOVELTY: need.beyond_usual(float(novelty[n])),
        }
        if strange is not None:
            signals[need.DISAGREEMENT] = need.beyond_usual(float(strange[n]))
        signals[need.WEAK_CLASS] = need.behind_others(fitted.figures, number)
        confusable, share = confusable_with(test, number)
        answers.append(
            Prediction(
                digest=digest,
                logits=tuple(seen.logits[n].tolist()),
                probabilities=tuple(sure.tolist()),
                predicted=number,
                top=_top(sure, number),
                confusable=confusable,
                confusable_share=share,
                novelty=float(novelty[n]),
                need=need.need_of(signals),
                signals=signals,
            )
        )
    return answers


def confusable_with(test: Evaluation, predicted: int) -> tuple[int | None, float]:
    """Return the class that is most often taken for ``predicted``, and its share of those calls.

    (None, 0.0) where nothing was. In a tie the lower class number.
    """
    assert test.confusion is not None
    called = test.confusion[:, predicted].astype(np.float64)
    total = called.sum()
    called[predicted] = 0
    worst = int(called.argmax())
    return (worst, float(called[worst] / total)) if called[worst] > 0 else (None, 0.0)


def _top(probabilities: npt.NDArray[np.float64], predicted: int) -> tuple[int, ...]:
    """Return the most probable classes, the predicted one first even in a tie."""
    order = np.argsort(-probabilities, kind="stable").tolist()
    return (predicted, *[number for number in order if number != predicted])[:TOP]
