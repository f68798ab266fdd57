"""What a round asks of privacy; the answers of one that hides nothing."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from fedlens.federated.algorithm import Algorithm, Update
from fedlens.privacy.mechanism import Unit
from fedlens.training.local import LocalTraining
from fedlens.training.private import PrivateSteps


class Privacy:
    """What a round asks of privacy; this one hides nothing, and updates travel as they are.

    Attributes:
        unit: what is hidden, one ``example`` or one ``client``; None for nothing.
        hides_figures: every figure of a client's own work is secret.
        hides_cohort: so is who took part in a round.
        expected: clients that a secret cohort is expected to have: what traffic is reported for.
    """

    unit: ClassVar[Unit | None] = None
    hides_figures: ClassVar[bool] = False
    hides_cohort: bool = False
    expected: int = 0

    def check(self, algorithm: Algorithm, sizes: Sequence[int]) -> None:
        """Raise ``ConfigError`` where it would not be sound with these clients and this algorithm."""
        return

    def begin(self, local: LocalTraining, rounds: Sequence[Mapping[int, int]], done: int) -> None:
        """Refuse a federation that would spend more than it may, before its first round.

        Args:
            local: settings of the clients' training.
            rounds: of each round from the first, client of its cohort -> local epochs, where no
                round has to be repeated.
            done: how many of them lie before the checkpoint that it goes on from.

        Raises:
            ConfigError: see above.
        """
        return

    def sample(self, round: int) -> list[int] | None:
        """Return the cohort of a round, ascending; None where privacy has no say in it."""
        return None

    def afford(self, round: int, epochs: Mapping[int, int]) -> bool:
        """Charge for a round before it begins; return False where the budget does not allow it.

        Args:
            round: from 1.
            epochs: client of the cohort -> local epochs.
        """
        return True

    def steps(self, round: int, client: int) -> PrivateSteps | None:
        """Return how a client's steps are made private; None where they are not."""
        return None

    def combine(
        self, round: int, start: Tensor, updates: Sequence[Update], clip_norm: float | None
    ) -> tuple[Sequence[Update], float | None]:
        """Return what the algorithm may see of a round's updates, and the next clip norm."""
        return updates, clip_norm

    def first_clip_norm(self) -> float | None:
        """Return the clip norm of the first round; None where updates are not clipped."""
        return None
