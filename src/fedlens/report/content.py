"""What a report is made from: plain values, so that any run (or a test) can fill it in."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlens.models.summary import LayerSummary
from fedlens.privacy.amplification import Setting
from fedlens.privacy.ledger import Terms
from fedlens.privacy.mechanism import Mechanism
from fedlens.privacy.releases import Release
from fedlens.training.evaluation import Evaluation

__all__ = [
    "NO_CLASS",
    "WHERE",
    "Case",
    "FurtherMap",
    "GalleryGroup",
    "LayerSummary",
    "PrivacyAccount",
    "PrivacySpending",
    "ReportContent",
    "SeedResult",
]


NO_CLASS = "no class"
"""What a map explains whose method looks at no class."""

WHERE = "where, not why for this class"
"""What such a map shows."""


@dataclass(frozen=True, eq=False)
class FurtherMap:
    """What another method says of the same decision.

    Attributes:
        method: its name.
        heatmap, layer, explained, degenerate, signed: as of :class:`Case`.
    """

    method: str
    heatmap: npt.NDArray[np.float32]
    layer: str = ""
    explained: str = ""
    degenerate: bool = False
    signed: bool = False


@dataclass(frozen=True, eq=False)
class Case:
    """One explained decision: the five-part record of the study's pipeline and the truth.

    Attributes:
        index: position of the image in its split.
        image: uint8 (H, W) or (H, W, 3).
        heatmap: float32 (H, W), signed and not normalised.
        true_class, predicted_class: names.
        confidence: softmax (or sigmoid) probability of the predicted class, in [0, 1].
        layer: the layer that the map was taken from; empty where the method explains none.
        explained: the class (or contrast) that the map is about; empty for the predicted class,
            :data:`NO_CLASS` where the method looks at none.
        degenerate: the map is all zero or not finite, and is not to be painted.
        method: name of the method that made the map; empty if not known.
        signed: the method also finds evidence against the class, as negative values.
        further: maps of other methods, to be shown beside it.
    """

    index: int
    image: npt.NDArray[np.uint8]
    heatmap: npt.NDArray[np.float32]
    true_class: str
    predicted_class: str
    confidence: float
    layer: str
    degenerate: bool = False
    explained: str = ""
    method: str = ""
    signed: bool = False
    further: Sequence[FurtherMap] = ()


@dataclass(frozen=True, eq=False)
class GalleryGroup:
    """A titled row of cases, with one sentence on what they have in common."""

    title: str
    sentence: str
    cases: list[Case]


@dataclass(frozen=True, eq=False)
class SeedResult:
    """The final figures of one seed of a repeated run.

    Attributes:
        seed: root seed.
        history: its lines of ``metrics.jsonl``.
        test: figures on the test split at the end.
    """

    seed: int
    history: list[dict[str, Any]]
    test: Evaluation


@dataclass(frozen=True, eq=False)
class PrivacyAccount:
    """One account of a run's privacy ledger.

    Attributes:
        name: of a client, or of all.
        units: how many examples, or clients, it speaks for.
        releases: what was charged, in order.
        epsilon: by PLD at the terms' delta; may be infinite.
    """

    name: str
    units: int
    releases: Sequence[Release]
    epsilon: float


@dataclass(frozen=True, eq=False)
class PrivacySpending:
    """What a private run promised and spent; of the first seed, if there are several.

    Attributes:
        terms: of the ledger.
        mechanism: of the first account.
        accounts: at least one, the one that has spent most first; its figures are the run's.
        epsilon_rdp: of the first account by RDP, the cross-check.
        attack_bound: the highest true-positive rate, in [0, 1], of any test of who is in an
            account, whichever it is, at 1 % false positives.
        amplification: the first account's noise in other settings.
        verified: the ledger was signed with this machine's key.
    """

    terms: Terms
    mechanism: Mechanism
    accounts: Sequence[PrivacyAccount]
    epsilon_rdp: float
    attack_bound: float
    amplification: Sequence[Setting] = ()
    verified: bool = True

    @property
    def worst(self) -> PrivacyAccount:
        """Return the account that has spent most."""
        return self.accounts[0]


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Everything that the report shows.

    Attributes:
        title: one line.
        mode: ``federated`` or ``central``.
        configuration: the fully resolved configuration, section -> key -> value.
        dataset_name, dataset_source, task: of the image set.
        class_names: L names.
        split_counts: int (3, L): images per class in train, validation, test.
        seeds: one result a seed; the first one is shown in detail.
        layers: the network, in order.
        total_parameters: trainable parameters of the network.
        client_names: K names (empty in central mode).
        client_label_counts: int (K, L) training examples per client and class, or None.
        client_sizes: int (K,) training examples per client, or None (then the row sums of
            ``client_label_counts``, which count an image with several labels several times).
        input_shape: (C, H, W) of the images, or empty if not known.
        simulated: the clients were simulated on one machine.
        blind_area: bool (H, W), True where the network cannot see, or None if it sees everything.
        blind_light: (L,) share of each class's light (test split) in the blind area, or None.
        gallery: groups of explained cases.
        explain_method: the method of the main maps, e.g. ``grad-cam``.
        study: the study's reference figures by name (empty unless comparable): ``test_accuracy``,
            ``test_loss``, ``macro_f1``, ``train_accuracy``, ``validation_accuracy``, ``gap``,
            ``f1`` (class name -> value), ``shirt_to_tshirt``, ``tshirt_to_shirt``,
            ``stability`` (its bound on the per-epoch standard deviation), ``source``.
        environment: versions, commit, hardware, as in ``environment.json``.
        notices: sentences that the reader must see (left-out updates, fallbacks, ...).
        privacy: what a private run promised and spent; None for a run without privacy.
    """

    title: str
    mode: str
    configuration: dict[str, Any]
    dataset_name: str
    dataset_source: str
    task: str
    class_names: list[str]
    split_counts: npt.NDArray[np.int64]
    seeds: list[SeedResult]
    layers: list[LayerSummary]
    total_parameters: int
    client_names: list[str] = field(default_factory=list)
    client_label_counts: npt.NDArray[np.int64] | None = None
    client_sizes: npt.NDArray[np.int64] | None = None
    input_shape: tuple[int, ...] = ()
    simulated: bool = True
    blind_area: npt.NDArray[np.bool_] | None = None
    blind_light: npt.NDArray[np.float64] | None = None
    gallery: list[GalleryGroup] = field(default_factory=list)
    explain_method: str = ""
    study: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    privacy: PrivacySpending | None = None
