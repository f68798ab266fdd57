"""From logits and features to a prediction: calibrated, compared with what is usual, and weighed."""

from collections.abc import Sequence

import numpy as np

from fedlens.review.contract import ReviewError
from fedlens.review.model import need
from fedlens.review.model.findings import Prediction
from fedlens.review.model.fitted import Fitted
from fedlens.review.model.looking import Look
from fedlens.training import Evaluation

TOP = 3
"""Classes that are named, the surest first."""

NO_NUMBER = "The network's answer to this image is not a number; it may not be reviewed."


class Reader:
    """What the figures of one network make of its answers; what each class stands for is known."""

    def __init__(self, fitted: Fitted, test: Evaluation) -> None:
        """Look at each class once.

        Args:
            fitted: what the network is measured by.
            test: its figures on the test split, which say what is taken for what.
        """
        self._fitted = fitted
        classes = range(len(test.support))
        self._weak = [need.behind_others(fitted.figures, number) for number in classes]
        self._confusable = [confusable_with(test, number) for number in classes]

    def predictions(self, seen: Look, digests: Sequence[str]) -> list[Prediction]:
        """Return the prediction of each of B images.

        Args:
            seen: of the B images; without ``likeness`` the predictions have no ``disagreement``.
            digests: B of them.

        Raises:
            ReviewError: the network's logits are not finite.
        """
        if not bool(seen.logits.isfinite().all()):
            raise ReviewError(NO_NUMBER)
        fitted = self._fitted
        probabilities = fitted.temperature.probabilities(seen.logits)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : TOP + 1].tolist()
        predicted = seen.logits.argmax(1).tolist()
        novelty = fitted.novelty.score(seen.features).tolist()
        strange = None
        if seen.likeness is not None and fitted.likeness is not None:
            # The share of validation images whose maps are more alike than this one's.
            below = np.searchsorted(fitted.likeness, seen.likeness.numpy(), side="right")
            strange = (1 - below / len(fitted.likeness)).tolist()
        answers = []
        for n, (logits, sure) in enumerate(
            zip(seen.logits.tolist(), probabilities.tolist(), strict=True)
        ):
            number = predicted[n]
            signals = {
                need.UNCERTAINTY: 1 - sure[number],
                need.NOVELTY: need.beyond_usual(novelty[n]),
            }
            if strange is not None:
                signals[need.DISAGREEMENT] = need.beyond_usual(strange[n])
            signals[need.WEAK_CLASS] = self._weak[number]
            confusable, share = self._confusable[number]
            # The predicted class comes first, even in a tie.
            others = [other for other in order[n] if other != number]
            answers.append(
                Prediction(
                    digest=digests[n],
                    logits=tuple(logits),
                    probabilities=tuple(sure),
                    predicted=number,
                    top=(number, *others)[:TOP],
                    confusable=confusable,
                    confusable_share=share,
                    novelty=novelty[n],
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
