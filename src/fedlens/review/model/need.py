"""How much a case needs a person: one number, made of signals that a person can check.

=================  ====================================================================  ======
signal             what it is, in [0, 1]                                                 weight
=================  ====================================================================  ======
``uncertainty``    1 - the calibrated probability of the predicted class                 0.7
``novelty``        how unusual the image looks beside the validation images              0.2
``disagreement``   how unalike the maps of two cheap methods are, beside those of the    0.05
                   validation images
``weak-class``     how far the validation F1 of the predicted class is below that of     0.05
                   the other classes
=================  ====================================================================  ======

``need`` is the weighted mean of the signals that there are: a network without a convolution has no
``disagreement``. The two that are measured beside the validation images are 0 up to the 90th
percentile of those, and rise from there to 1 (see :func:`beyond_usual`): at 0.5 an image is stranger
than 95 of 100. ``weak-class`` is 0.5 where the F1 is 0.1 below the mean of the others, and 1 from 0.2
on (see :func:`behind_others`): of the ten classes of Fashion-MNIST that picks between one and three.

The weights were chosen on validation images of Fashion-MNIST, over five networks: ``paper-cnn``
(federated), ``paper-cnn-same`` (central, federated, and at epsilon 3) and ``hybrid``. One half of the
images set the temperature, what is usual, and the F1; the other half was put in order among strangers
(digits, and garments turned or inverted) that were 1 in 11 images, 1 in 33, or none. Of the weights in
steps of 0.05 (the last two up to 0.3), 0.8 for ``uncertainty`` and 0.2 for ``novelty`` brought most of
what a person should see, wrong answers and strangers, into the first tenth (mean over networks and
mixtures, and also whichever network is left out). ``disagreement`` and ``weak-class`` displace
a little more than they bring: with 0.05 each, which a reviewer who sees two maps disagree expects, the
first tenth holds 43.4 in place of 44.1 % on those validation images.

Of the test images, among strangers that had no part in the choice (other digits, test garments), the
first tenth holds in percent, by need and by uncertainty alone (mean of the networks; lowest and
highest in brackets):

=========  ============  ==================  =============  ==============================
strangers  in order of   all a person        the strangers  the garments answered wrongly
                         should see
=========  ============  ==================  =============  ==============================
1 in 11    need          37 (25 to 44)       46 (30 to 55)  28 (23 to 35)
1 in 11    uncertainty   34 (24 to 40)       33 (16 to 43)  34 (28 to 43)
1 in 33    need          41 (27 to 51)       52 (32 to 63)  37 (26 to 47)
1 in 33    uncertainty   39 (27 to 49)       37 (16 to 48)  40 (28 to 51)
none       need          42 (28 to 54)                      42 (28 to 54)
none       uncertainty   43 (29 to 55)                      43 (29 to 55)
=========  ============  ==================  =============  ==============================

Novelty finds strangers and pays with some of the wrong answers; without strangers nothing is gained.
(At epsilon 3 a fifth of the answers are wrong, which is more than a tenth can hold.)
"""

from collections.abc import Mapping

import numpy as np

from fedlens.training import Evaluation

UNCERTAINTY = "uncertainty"
NOVELTY = "novelty"
DISAGREEMENT = "disagreement"
WEAK_CLASS = "weak-class"

WEIGHTS: Mapping[str, float] = {
    UNCERTAINTY: 0.7,
    NOVELTY: 0.2,
    DISAGREEMENT: 0.05,
    WEAK_CLASS: 0.05,
}
"""Signal -> weight; they add up to 1."""

USUAL = 0.9
"""Percentile of the validation images up to which nothing is unusual."""

FAR_BEHIND = 0.2
"""How far below the mean of the other classes the F1 of the weakest classes is, or farther."""


def need_of(signals: Mapping[str, float]) -> float:
    """Return the weighted mean of ``signals``, in [0, 1]; 0 where none of them counts."""
    total = sum(WEIGHTS[name] for name in signals)
    if not total:
        return 0.0
    return sum(WEIGHTS[name] * value for name, value in signals.items()) / total


def beyond_usual(percentile: float) -> float:
    """Return 0 up to :data:`USUAL`, and from there a straight line to 1 at 1."""
    return max(0.0, (percentile - USUAL) / (1 - USUAL))


def behind_others(figures: Evaluation, number: int) -> float:
    """Return how far the F1 of class ``number`` is below the mean of the other classes, in [0, 1].

    A straight line from 0, where it is not below, to 1 at :data:`FAR_BEHIND`. Other classes without
    an example say nothing and are left out; 0 where none is left.
    """
    others = figures.support > 0
    others[number] = False
    if not others.any():
        return 0.0
    behind = float(figures.f1[others].mean() - figures.f1[number])
    return float(np.clip(behind / FAR_BEHIND, 0, 1))
