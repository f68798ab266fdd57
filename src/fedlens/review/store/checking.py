"""Checking a chain of records as they stream by, in constant memory, and naming what was done to it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedlens.review.store.chain import (
    NOTHING,
    Head,
    add_seal,
    digest_of,
    record_message,
    signed_by,
)
from fedlens.review.store.signing import PublicKey

BLOCK = 128
"""So many records share one check of a signature: a digest stands for all that came before it."""
MOST_FINDINGS = 1000


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it was signed.

    Attributes:
        sequence: number of the record that it is about, or None.
        problem: in one word: ``altered``, ``removed``, ``inserted``, ``broken``, ``forged``,
            ``signature``, ``truncated``, ``head``, ``key``, ``anchor``, ``rollback``, ``pruned``,
            ``decisions``, ``cases``, ``people``, ``schema``.
        sentence: the same for a person.
    """

    sequence: int | None
    problem: str
    sentence: str


class Findings(list[Finding]):
    """Findings, at most a thousand: whoever rewrote a store leaves more than anyone reads."""

    def add(self, sequence: int | None, problem: str, sentence: str) -> None:
        """Add one, unless there are a thousand."""
        if len(self) < MOST_FINDINGS:
            # what it quotes may be text that somebody made unreadable
            readable = sentence.encode("utf-8", "replace").decode()
            self.append(Finding(sequence, problem, readable))


@dataclass
class ChainCheck:
    """What was seen of a chain so far.

    Attributes:
        store: identity of the store.
        key: that signed it.
        findings: that are added to.
        seals: running digest of the signatures before the first record.
        signatures: they are checked; not where it is unknown which store it is.
        wanted: sequence number -> what is looked up there, for anchors; filled in as they pass.
    """

    store: str
    key: PublicKey
    findings: Findings
    seals: str = NOTHING
    wanted: dict[int, str] = field(default_factory=dict)
    first: int = 0
    last: int = 0
    before: str = NOTHING
    signatures: bool = True
    digest: str = NOTHING
    records: int = 0
    _worked_out: str = NOTHING
    _block: list[tuple[int, str, str]] = field(default_factory=list)
    _forged: tuple[int, int] | None = None

    def feed(self, rows: Iterable[Sequence[Any]]) -> None:
        """Check records, in order of their numbers; each a row of :data:`~.trail.RECORD_COLUMNS`."""
        for row in rows:
            if isinstance(row[0], int):
                self._one(*row)
            else:  # somebody made the table anew, without its key
                self.findings.add(None, "inserted", f"A record without a number, {row[0]!r}.")
        self._check_block()
        self._tell_forged()

    def _one(
        self,
        sequence: int,
        moment: str,
        kind: str,
        actor: str,
        role: str,
        case: int | None,
        content: str,
        previous: str,
        digest: str,
        signature: str,
    ) -> None:
        if self.records == 0:
            self.first, self.before = sequence, str(previous)
            if sequence < 1:
                self.findings.add(
                    sequence, "inserted", f"Record {sequence} was inserted: numbers begin at 1."
                )
        elif sequence != self.last + 1:
            self.findings.add(self.last + 1, "removed", _removed(self.last + 1, sequence - 1))
        elif previous not in (self.digest, self._worked_out):
            self.findings.add(
                sequence,
                "broken",
                f"Record {sequence} does not follow record {self.last}: one of them was exchanged.",
            )
        try:
            right = digest_of(sequence, moment, kind, actor, role, case, content, previous)
        except (TypeError, ValueError, AttributeError):  # SQLite keeps any type in any column
            right = ""
        if right != digest:
            self.findings.add(
                sequence,
                "altered",
                f"Record {sequence} was altered: it is not what its digest says.",
            )
        self.records += 1
        self.last, self.digest, self._worked_out = sequence, str(digest), right
        self.seals = add_seal(self.seals, str(signature))
        if sequence in self.wanted:
            self.wanted[sequence] = self.digest
        self._block.append((sequence, self.digest, str(signature)))
        if len(self._block) == BLOCK:
            self._check_block()

    def _check_block(self) -> None:
        block, self._block = self._block, []
        if not block or self._holds(*block[-1]):
            if self._forged is not None and block:
                # the block holds as a whole, so that the run of forged records ended before it
                self._tell_forged()
            return
        if self._forged is not None:
            self._forged = (self._forged[0], block[-1][0])
            return
        for number, digest, signature in block:
            if not self._holds(number, digest, signature):
                start = number if self._forged is None else self._forged[0]
                self._forged = (start, number)
            else:
                self._tell_forged()

    def _tell_forged(self) -> None:
        if self._forged is None:
            return
        (first, last), self._forged = self._forged, None
        if first == last:
            sentence = f"Record {first} is not what was signed: its signature does not hold."
        else:
            sentence = (
                f"Records {first} to {last} are not what was signed: record {first} was changed or "
                "inserted, and the chain after it written anew."
            )
        self.findings.add(first, "forged", sentence)

    def _holds(self, sequence: int, digest: str, signature: str) -> bool:
        return not self.signatures or signed_by(
            self.key, signature, record_message(self.store, sequence, digest)
        )

    def close(self, head: Head | None, purpose: str = "head") -> None:
        """Compare where the chain ends with what was signed of its end, if it truly was."""
        if head is None or not head.holds(self.key, purpose):
            return
        if head.count > self.last:
            self.findings.add(self.last + 1, "truncated", _removed(self.last + 1, head.count))
        elif head.count < self.last:
            self.findings.add(
                head.count + 1,
                "inserted",
                f"The records from {head.count + 1} to {self.last} were inserted: the chain ends at "
                f"record {head.count}.",
            )
        elif head.digest != self.digest and not self.findings:
            self.findings.add(
                self.last, "altered", f"Record {self.last} is not the one that the chain ends with."
            )


def check_head(
    head: Head | None, key: PublicKey, findings: Findings, purpose: str = "head"
) -> bool:
    """Check that the end of a chain was signed; return whether it was."""
    if head is None:
        findings.add(None, "head", "The end of the chain was removed from the store.")
    elif head.holds(key, purpose):
        return True
    elif head.fingerprint != key.fingerprint:
        findings.add(
            None,
            "key",
            f"The chain says that it was signed with the key {head.fingerprint}, and not with "
            f"{key.fingerprint}.",
        )
    else:
        findings.add(None, "head", "The end of the chain was altered: its signature does not hold.")
    return False


def check_each_signature(
    rows: Iterable[Sequence[Any]], store: str, key: PublicKey, findings: Findings
) -> None:
    """Name the records whose signature was changed and nothing else; slow, a signature at a time.

    Args:
        rows: sequence number, digest and signature of each record.
        store: identity of the store.
        key: that signed.
        findings: are added to.
    """
    for sequence, digest, signature in rows:
        if not signed_by(key, str(signature), record_message(store, sequence, str(digest))):
            findings.add(sequence, "signature", f"The signature of record {sequence} was altered.")


def _removed(first: int, last: int) -> str:
    if first == last:
        return f"Record {first} was removed."
    return f"The records from {first} to {last} were removed."
