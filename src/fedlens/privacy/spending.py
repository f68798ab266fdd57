"""What a training's privacy has spent: an account a client, beside the caller's own charge."""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence

from fedlens.errors import ConfigError
from fedlens.privacy.account import Account
from fedlens.privacy.accounting import epsilon_of
from fedlens.privacy.mechanism import Mechanism
from fedlens.privacy.releases import Release

Charge = Callable[[Mapping[int, Sequence[Release]]], bool | None]
"""Called with client number -> what a round is about to release of it; charges it, or returns False
where that would exceed a budget. Under client-level privacy every client is in it."""

Charges = Mapping[int, Sequence[Release]]


class Spending:
    """Accounts by client number (or one for all), kept as long as the privacy that they belong to.

    They limit what a round may release where the mechanism carries a budget, and where nobody else
    keeps account: then to the mechanism's plan.
    """

    def __init__(
        self,
        mechanism_of: Callable[[int], Mechanism],
        charge: Charge | None,
        name: Callable[[int], str],
    ) -> None:
        """Open no account yet.

        Args:
            mechanism_of: account -> what it is charged by.
            charge: the caller's own, asked after the accounts here.
            name: account -> what a sentence calls it.
        """
        self._mechanism_of = mechanism_of
        self._charge = charge
        self._name = name
        self._accounts: dict[int, Account] = {}
        self._paid = 0  # rounds of the last training, with those before its checkpoint

    def begin(self, before: Charges, coming: Charges, *, done: int, forget: bool) -> None:
        """Refuse a training that would spend too much; nothing is charged then.

        Args:
            before: what the rounds before its checkpoint released. They count as spent, unless the
                last training paid for as many here: then it is the one that goes on.
            coming: what the others are going to release.
            done: how many rounds lie before the checkpoint.
            forget: begin anew, for noise that is seeded and guarantees nothing.

        Raises:
            ConfigError: see above.
        """
        accounts = {} if forget else {k: copy.copy(one) for k, one in self._accounts.items()}
        if forget or self._paid < done:
            for key, releases in before.items():
                self._account(key, accounts).charge(releases)
        for key, releases in coming.items():
            account = self._account(key, accounts)
            if self._limits(account.mechanism):
                account.reserve(releases, of=self._name(key))
        self._accounts, self._paid = accounts, done

    def pay(self, own: Charges, charges: Charges, *, round: int) -> bool:
        """Charge, or return False and charge nothing where it cannot be afforded.

        Args:
            own: account -> releases.
            charges: the same by client, for the caller's charge.
            round: that they belong to, from 1.
        """
        for key, releases in own.items():
            account = self._account(key, self._accounts)
            if self._limits(account.mechanism) and not account.affords(releases):
                warnings.warn(
                    f"Another attempt at a round would exceed the privacy budget of "
                    f"{self._name(key)}: the federation ends here, before its last round.",
                    stacklevel=2,
                )
                return False
        if self._charge is not None:
            answer = self._charge(charges)
            if answer is not None and not answer:  # NumPy's False is another than Python's
                return False
        self.charge(own, round=round)
        return True

    def charge(self, own: Charges, *, round: int) -> None:
        """Add what round ``round``, from 1, releases to the accounts, affordable or not."""
        for key, releases in own.items():
            self._account(key, self._accounts).charge(releases)
        self._paid = round

    def epsilon(self, delta: float) -> float:
        """Return epsilon of the account that has spent most, by PLD; 0 where nothing is spent."""
        spent = {account.spent for account in self._accounts.values()}
        return max((epsilon_of(releases, delta) for releases in spent), default=0.0)

    def _account(self, key: int, accounts: dict[int, Account]) -> Account:
        if key not in accounts:
            accounts[key] = Account(self._mechanism_of(key))
        return accounts[key]

    def _limits(self, mechanism: Mechanism) -> bool:
        return self._charge is None or mechanism.budget is not None


def check_periods(mechanism: Mechanism, rounds: int) -> None:
    """Raise ``ConfigError`` for more rounds than the mechanism has a noise for."""
    if rounds > mechanism.periods:
        planned = mechanism.periods
        raise ConfigError(
            f"A federation of {rounds:,} rounds was asked for, but its privacy mechanism is for "
            f"{planned:,} round{'' if planned == 1 else 's'}; make one with as many periods."
        )
