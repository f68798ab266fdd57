"""The training images that look most like one under review, to the network's eyes.

Off unless policy allows it: it shows a reviewer images that belong to others, and no promise of
differential privacy covers an image that is shown as it is.
"""

import threading
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import normalize

from fedlens.review.contract import NotAllowedError, ReviewError
from fedlens.review.model.examiner import Examiner
from fedlens.review.model.fitted import chosen

MOST_IMAGES = 20_000
"""Training images that are searched, evenly over the split."""


@dataclass(frozen=True)
class Neighbour:
    """One training image near another image.

    Attributes:
        position: in the training split, from 0.
        label: its class number.
        distance: between their features, each at length 1: in [0, 2], 0 for the same.
    """

    position: int
    label: int
    distance: float


class Neighbours:
    """Searches the training images of a subject; from any number of threads."""

    def __init__(self, examiner: Examiner, *, allowed: bool = False) -> None:
        """Bind the examiner; nothing is computed yet.

        Args:
            examiner: whose subject has a ``train`` split.
            allowed: policy allows that reviewers see training images.
        """
        self._examiner = examiner
        self._allowed = allowed
        self._lock = threading.Lock()
        self._known: tuple[Tensor, Tensor] | None = None

    def nearest(self, image: Tensor, count: int = 3) -> list[Neighbour]:
        """Return the ``count`` nearest training images of ``image`` uint8 (C, H, W), nearest first.

        The first call looks at all training images, which takes seconds.

        Raises:
            NotAllowedError: policy does not allow it.
            ReviewError: the training images are not here, or it is no such image.
        """
        if not self._allowed:
            raise NotAllowedError(
                "Training images may not be shown here: the policy is against it."
            )
        split = self._examiner.subject.train
        if split is None or len(split) == 0:
            raise ReviewError("The training images are not here, so that none can be shown.")
        positions, known = self._features()
        own = normalize(self._examiner.features(image[None]).float(), dim=1)
        squares = (2 - 2 * (known @ own[0])).clamp_min(0)
        nearest = squares.topk(min(count, len(known)), largest=False)
        return [
            Neighbour(
                int(positions[place]), int(split.labels[positions[place]]), float(square) ** 0.5
            )
            for place, square in zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)
        ]

    def _features(self) -> tuple[Tensor, Tensor]:
        with self._lock:
            if self._known is None:
                split = self._examiner.subject.train
                assert split is not None
                positions = chosen(len(split), MOST_IMAGES)
                features = self._examiner.features(split.images[positions])
                self._known = positions, normalize(features.float(), dim=1)
            return self._known
