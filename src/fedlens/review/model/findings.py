"""What the examiner answers: a prediction, and an explanation with what speaks for and against it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from torch import Tensor

from fedlens.explain import Contrast
from fedlens.review.contract import NewCase


class Rank(StrEnum):
    """How good an explanation is in one respect."""

    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"
    DEGENERATE = "degenerate"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Badge:
    """One respect in which a map was tried.

    Attributes:
        name: ``stability``, ``seeds``, ``faithfulness``, ``completeness``, ``agreement``,
            ``degenerate`` or ``blind-area``.
        title: the same for a person, such as "Steady".
        rank: see :class:`Rank`.
        words: one sentence that says what was found.
        value: the figure, or None where there is none.
        meaning: one sentence that says what the figure is, its range, and which way is better.
    """

    name: str
    title: str
    rank: Rank
    words: str
    value: float | None = None
    meaning: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return name, rank, value and words as plain JSON."""
        return {"name": self.name, "rank": str(self.rank), "value": self.value, "words": self.words}


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image; L is the number of classes.

    Attributes:
        digest: SHA-256 of the pixels; see :func:`fedlens.review.model.image_digest`.
        logits: L of them.
        probabilities: calibrated, one a class, adding up to 1.
        predicted: class number of the largest logit.
        top: the three most probable classes (or all L where there are fewer), the surest first.
        confusable: the class that is most often taken for the predicted one, or None where no test
            image was.
        confusable_share: of the test images that were called ``predicted``, the share in [0, 1]
            that were ``confusable``.
        novelty: share in [0, 1] of validation images that look less unusual than this one.
        need: how much a person is needed, in [0, 1].
        signals: what ``need`` was made of; see :mod:`fedlens.review.model.need`.
    """

    digest: str
    logits: tuple[float, ...]
    probabilities: tuple[float, ...]
    predicted: int
    top: tuple[int, ...]
    confusable: int | None
    confusable_share: float
    novelty: float
    need: float
    signals: Mapping[str, float]

    @property
    def confidence(self) -> float:
        """Return the calibrated probability of the predicted class."""
        return self.probabilities[self.predicted]

    def case(self, source: str, *, queued: bool = True) -> NewCase:
        """Return the case that the store keeps; see :class:`NewCase` for ``source``."""
        return NewCase(
            digest=self.digest,
            source=source,
            predicted=self.predicted,
            probabilities=self.probabilities,
            need=self.need,
            signals=dict(self.signals),
            queued=queued,
            logits=self.logits,
        )


@dataclass(frozen=True, eq=False)
class Explained:
    """Why the network says so: one map of one image.

    Attributes:
        prediction: of the same image.
        method: name of the method.
        target: the class or contrast that was asked for; None for the predicted class, or where the
            method looks at no class.
        explained: the class that the map is about; None where it is about a contrast or no class.
        values: float32 (H, W) on the CPU, signed as the method defines, not normalised.
        digest: SHA-256 of ``values``; see :func:`fedlens.review.model.map_digest`.
        meta: as of :class:`fedlens.explain.Explanation`, plain JSON, and ``batch``: how many images
            were explained together (``size``) and which was this one (``position``, from 0). The
            last bits of a map depend on that: repeat the image as often to have the same digest.
        degenerate: the map is all zero or not finite, and is not to be painted.
        details: what the method knows of its map.
        badges: empty unless asked for.
    """

    prediction: Prediction
    method: str
    target: int | Contrast | None
    explained: int | None
    values: Tensor
    digest: str
    meta: Mapping[str, Any]
    degenerate: bool
    details: Mapping[str, float] = field(default_factory=dict)
    badges: tuple[Badge, ...] = ()

    @property
    def signed(self) -> bool:
        """Return whether negative values are evidence against the target."""
        return bool(self.meta["signed"])
