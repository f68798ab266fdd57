"""The ledger: what was really released, from which epsilon is worked out again by replay.

A charge is on the disk before what it pays for leaves the process, so that a kill can only
over-charge. Every state of the file is signed with a key that lies outside the run directory: a ledger
that was edited by hand is noticed. Whoever has the key can sign another one; the signature is against
mistakes and against those who only have the run, not against the one who trained.
"""

import hashlib
import hmac
import json
import math
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedlens.errors import ConfigError, RunError
from fedlens.files import make_once, read_bytes, write_json
from fedlens.privacy.accounting import check_delta, epsilon_of, largest
from fedlens.privacy.privacy_loss import LEAST_NOISE, Accountant, quiet, renyi
from fedlens.privacy.releases import Release, merged

FORMAT = 1
LARGEST_LEDGER = 64 << 20
KEY_BYTES = 32
KEY_VARIABLE = "FEDLENS_LEDGER_KEY"


class Terms(BaseModel):
    """On what terms a run spends privacy: written once, at its beginning.

    Attributes:
        mechanism: in configurations and reports, e.g. ``dp-sgd``.
        unit: whose presence is hidden: one example, or all that one client has.
        relation: between the two inputs that cannot be told apart.
        delta: at which epsilon is given.
        budget: epsilon that may not be exceeded, or None.
        source: where noise and samples came from, in words.
        guarantee: false where they were seeded, so that all figures are hypothetical.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mechanism: str
    unit: str
    relation: str
    delta: float = Field(gt=0, lt=1)
    budget: float | None = Field(None, gt=0)
    source: str
    guarantee: bool


_Entry = tuple[
    Annotated[float, Field(ge=0, allow_inf_nan=False)],
    Annotated[float, Field(gt=0, le=1)],
    Annotated[int, Field(ge=1)],
]


class _Account(BaseModel):
    model_config = ConfigDict(extra="forbid")

    units: int = Field(ge=1)
    releases: list[_Entry]


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int
    terms: Terms
    accounts: dict[str, _Account] = Field(min_length=1)
    key: str
    digest: str


@dataclass(eq=False)
class Ledger:
    """The accounts of one run: each is a set of units whose releases are added up.

    Attributes:
        path: file that it is kept in.
        terms: see :class:`Terms`.
        units: account -> how many units it speaks for.
        verified: the file's signature was made with the key of this machine; False where it was
            made with another key, so that an edit would not be noticed.
    """

    path: Path
    terms: Terms
    units: dict[str, int]
    verified: bool = True
    _key: bytes = field(default=b"", repr=False)
    _releases: dict[str, list[Release]] = field(default_factory=dict)

    @classmethod
    def create(cls, path: Path, terms: Terms, units: Mapping[str, int]) -> "Ledger":
        """Write a ledger without charges and return it.

        Args:
            path: file to be made.
            terms: of the run.
            units: account -> how many examples (or clients) it speaks for.

        Raises:
            RunError: the file or the key cannot be written.
        """
        ledger = cls(path, terms, dict(units), True, ledger_key(), {name: [] for name in units})
        ledger._write()
        return ledger

    @classmethod
    def open(cls, path: Path) -> "Ledger":
        """Return the ledger in a file.

        Raises:
            RunError: it is missing, damaged, or was changed since it was signed.
        """
        try:
            raw = json.loads(read_bytes(path, LARGEST_LEDGER))
            content = _Content.model_validate(raw)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"]) or "the whole"
            raise RunError(f"{path} is not a privacy ledger: {where}: {problem['msg']}.") from error
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path} is not a privacy ledger: it is not JSON.") from error
        if content.format != FORMAT:
            raise RunError(f"{path} is a ledger of format {content.format}, expected {FORMAT}.")
        key = ledger_key()
        verified = content.key == _name(key)
        if verified and not hmac.compare_digest(_digest(raw, key), content.digest):
            raise RunError(
                f"{path} was changed after it was signed: what it says was spent cannot be trusted; "
                "put back the file that the run wrote."
            )
        releases: dict[str, list[Release]] = {}
        for name, account in content.accounts.items():
            try:
                releases[name] = [Release(*entry) for entry in account.releases]
                merged(releases[name])  # together they may be too many
            except ConfigError as error:
                raise RunError(
                    f"{path} is not a privacy ledger: account '{name}': {error}"
                ) from error
        units = {name: account.units for name, account in content.accounts.items()}
        return cls(path, content.terms, units, verified, key, releases)

    def charge(self, charges: Mapping[str, Iterable[Release]]) -> None:
        """Add releases to accounts and write the file; return once it is on the disk.

        Raises:
            RunError: there is no such account; the file cannot be written (nothing is charged
                then); or it was signed with another key, so that it cannot be gone on with here.
        """
        if not self.verified:
            raise RunError(
                f"{self.path} was signed with another key than this machine's; go on where the run "
                f"was begun, or copy the key from there and name its file in ${KEY_VARIABLE}."
            )
        for name in charges:
            if name not in self._releases:
                raise RunError(f"{self.path} has no account '{name}'.")
        before = {name: list(entries) for name, entries in self._releases.items()}
        for name, releases in charges.items():
            for release in releases:
                _append(self._releases[name], release)
        try:
            self._write()
        except RunError:
            self._releases = before
            raise

    def releases(self, account: str) -> list[Release]:
        """Return what was charged to an account, in order."""
        return list(self._releases[account])

    def epsilon(self, account: str, *, accountant: Accountant = "pld") -> float:
        """Return what an account has spent, at the terms' delta."""
        return epsilon_of(self._releases[account], self.terms.delta, accountant=accountant)

    def worst(self) -> str:
        """Return the account that has spent most, the first of equals; it is the federation's."""
        return largest(self._releases, self.terms.delta)[0]

    def steps(self, account: str) -> int:
        """Return how many releases were charged to an account."""
        return sum(release.count for release in self._releases[account])

    def _write(self) -> None:
        content: dict[str, Any] = {
            "format": FORMAT,
            "terms": self.terms.model_dump(),
            "accounts": {
                name: {
                    "units": self.units[name],
                    "releases": [
                        [entry.noise_multiplier, entry.rate, entry.count] for entry in entries
                    ],
                }
                for name, entries in self._releases.items()
            },
            "key": _name(self._key),
        }
        write_json(self.path, {**content, "digest": _digest(content, self._key)})


def epsilon_of_all(
    ledgers: Sequence[Iterable[Iterable[Release]]], delta: float
) -> tuple[float, Accountant]:
    """Return what one unit has spent at the most in several runs together, and by which accountant.

    It is in one account of each ledger, and it is not known in which. Where a ledger's accounts have
    all released the same, it is no matter: the releases are composed, by PLD. Otherwise the worst
    account at delta need not be the worst in company, so that at each Renyi order the largest
    divergence of a ledger's accounts is taken, and those are added up (Mironov 2017, proposition 1).

    Args:
        ledgers: the releases of each account of each ledger; at least one account in each.
        delta: in (0, 1).

    Raises:
        ConfigError: a delta outside (0, 1).
    """
    kinds = [{merged(releases) for releases in accounts} for accounts in ledgers]
    if all(len(accounts) == 1 for accounts in kinds):
        return epsilon_of((one for (releases,) in kinds for one in releases), delta), "pld"
    every = [one for accounts in kinds for releases in accounts for one in releases]
    check_delta(delta)
    if any(one.noise_multiplier < LEAST_NOISE for one in every):
        return math.inf, "rdp"
    from dp_accounting.rdp import compute_epsilon

    orders = renyi(every[0].noise_multiplier, every[0].rate)[0]
    together = np.zeros(len(orders))
    for accounts in kinds:
        together += np.max([_divergence(releases, len(orders)) for releases in accounts], axis=0)
    with quiet():
        return max(0.0, float(compute_epsilon(orders, together, delta)[0])), "rdp"


def _divergence(releases: Iterable[Release], orders: int) -> NDArray[np.float64]:
    """Return the Renyi divergence of releases at each of the accountant's orders."""
    total = np.zeros(orders)
    for one in releases:
        total += one.count * np.asarray(renyi(one.noise_multiplier, one.rate)[1])
    return total


def ledger_key() -> bytes:
    """Return the key that this machine signs ledgers with; it is made when first asked for.

    It lies in the file that ``$FEDLENS_LEDGER_KEY`` names, or in the user's configuration folder,
    readable by its owner alone.

    Raises:
        RunError: the file cannot be made, or is not a key.
    """
    named = os.environ.get(KEY_VARIABLE)
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "fedlens"
    path = Path(named) if named else folder / "ledger.key"
    try:
        # two first runs at once must not sign with two keys
        make_once(path, f"{secrets.token_hex(KEY_BYTES)}\n".encode())
        key = bytes.fromhex(read_bytes(path, 4096).decode().strip())
    except OSError as error:
        raise RunError(
            f"Could not make the key of the privacy ledgers, {path}: {error.strerror or error}; name "
            f"a file that you may write in ${KEY_VARIABLE}."
        ) from error
    except ValueError as error:
        raise RunError(
            f"{path} is not a key of privacy ledgers, expected 64 hexadecimal digits."
        ) from error
    if len(key) != KEY_BYTES:
        raise RunError(f"{path} is not a key of privacy ledgers, expected 64 hexadecimal digits.")
    return key


def _append(entries: list[Release], release: Release) -> None:
    last = entries[-1] if entries else None
    if release.count == 0:
        return
    if last and (last.noise_multiplier, last.rate) == (release.noise_multiplier, release.rate):
        entries[-1] = Release(last.noise_multiplier, last.rate, last.count + release.count)
    else:
        entries.append(release)


def _digest(content: Mapping[str, Any], key: bytes) -> str:
    """Return the keyed digest of everything in ``content`` but the digest itself."""
    signed = {name: value for name, value in content.items() if name != "digest"}
    text = json.dumps(signed, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _name(key: bytes) -> str:
    """Return what tells keys apart, and nothing of the key itself."""
    return hashlib.sha256(b"fedlens ledger key" + key).hexdigest()[:16]
