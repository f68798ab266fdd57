"""An account in memory: what was released of its units, and whether a mechanism pays for more.

:mod:`fedlens.privacy.ledger` is the account of a run, on the disk and signed; this one lives as long
as the object that has it.
"""

from collections.abc import Sequence

from fedlens.errors import ConfigError
from fedlens.privacy.accounting import epsilon_of
from fedlens.privacy.mechanism import Mechanism
from fedlens.privacy.releases import Release, merged, no_more_than


class Account:
    """The releases of one mechanism's units, added up."""

    def __init__(self, mechanism: Mechanism) -> None:
        """Open it with nothing spent."""
        self.mechanism = mechanism
        self.spent: tuple[Release, ...] = ()
        self._reserved: tuple[Release, ...] = ()

    def with_more(self, releases: Sequence[Release]) -> tuple[Release, ...]:
        """Return what would be spent after further releases; nothing is charged."""
        return merged([*self.spent, *releases])

    def reserve(self, releases: Sequence[Release], *, of: str) -> None:
        """Refuse further releases that are not affordable; note that the others are.

        The charges that make them up need not be worked out again, one by one.

        Args:
            releases: all that a training is going to make.
            of: what a sentence calls the units.

        Raises:
            ConfigError: they are not affordable.
        """
        after = self.with_more(releases)
        if not self.mechanism.affords(after):
            raise ConfigError(self._refusal(after, of))
        self._reserved = after

    def affords(self, releases: Sequence[Release]) -> bool:
        """Tell whether further releases are affordable."""
        after = self.with_more(releases)
        return no_more_than(after, self._reserved) or self.mechanism.affords(after)

    def charge(self, releases: Sequence[Release]) -> None:
        """Add releases to what is spent, affordable or not."""
        self.spent = self.with_more(releases)

    def _refusal(self, after: Sequence[Release], of: str) -> str:
        budget = self.mechanism.budget
        asked = "What was asked for"
        asked += ", with what was released of it earlier," if self.spent else ""
        if budget is not None:
            return (
                f"{asked} would cost {of} epsilon {epsilon_of(after, budget.delta):.4g} at delta "
                f"{budget.delta:g}, more than its budget of {budget.epsilon:g}; ask for fewer rounds "
                "or epochs, or calibrate for as many."
            )
        made, planned = (sum(one.count for one in some) for some in (after, self.mechanism.plan()))
        return (
            f"{asked} would make {made:,} releases of {of}, more or others than the {planned:,} that "
            "its mechanism plans; calibrate for as many with Mechanism.calibrated, or give a function "
            "that keeps account instead."
        )
