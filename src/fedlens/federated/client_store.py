"""What clients remember from one of their rounds to the next, kept for them by a simulation.

In a real federation each client keeps its own. Here a vector a client that has taken part lies in
memory until all of them together pass a limit; beyond it the least recently used lie on disk only.
With a folder every vector is on disk as well, under its round's number, so that a run that was killed
goes on from the vectors that its checkpoint names.
"""

import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fedlens.errors import RunError
from fedlens.files import read_bytes, write_bytes

LIMIT = 256 << 20  # bytes of vectors that are held in memory
LARGEST = 4 << 30  # bytes of one client's file
DIGEST = 32  # bytes of the SHA-256 that a file begins with; safetensors follow


class ClientStore:
    """Vectors by client number, each with the round that wrote it."""

    def __init__(self, folder: Path | None = None, *, limit: int = LIMIT) -> None:
        """Start empty.

        Args:
            folder: where to keep every vector; without one, files are made in a temporary folder,
                and only past the limit.
            limit: bytes that may be held in memory.
        """
        self._folder = folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._limit = limit
        self._held: OrderedDict[int, Tensor] = OrderedDict()
        self._bytes = 0
        self._rounds: dict[int, int] = {}

    @property
    def rounds(self) -> dict[int, int]:
        """Client number -> the round that wrote its vector; clients without one are missing."""
        return dict(self._rounds)

    def read(self, client: int) -> Tensor | None:
        """Return the client's vectors (V, P), or None before its first round; do not change them.

        Raises:
            RunError: its file is missing or damaged.
        """
        if client not in self._rounds:
            return None
        if client in self._held:
            self._held.move_to_end(client)
            return self._held[client]
        vectors = _load(self._file(client, self._rounds[client]))
        self._hold(client, vectors)
        return vectors

    def write(self, client: int, round: int, vectors: Tensor) -> None:
        """Keep a copy of ``vectors`` (V, P) as what the client remembers after ``round``.

        Raises:
            RunError: the file cannot be written.
        """
        copy = vectors.clone()
        if self._folder is not None:
            self._save(client, round, copy)
        self._rounds[client] = round
        self._hold(client, copy)

    def restore(self, rounds: Mapping[int, int]) -> None:
        """Go back to the vectors that these rounds wrote, as the folder has them.

        Raises:
            RunError: there is no folder, and these are not the rounds that are held.
        """
        if self._folder is None:
            if dict(rounds) == self._rounds:
                return
            if rounds:
                raise RunError(
                    "A ClientStore without a folder cannot go back to what clients remembered in "
                    "an earlier round; give it a folder to resume from a checkpoint."
                )
        self._held.clear()
        self._bytes = 0
        self._rounds = dict(rounds)

    def prune(self, *kept: Mapping[int, int]) -> None:
        """Delete the folder's files that none of the given ``rounds`` names."""
        if self._folder is None or not self._folder.exists():
            return
        needed = {
            self._file(client, number) for rounds in kept for client, number in rounds.items()
        }
        for file in self._folder.glob("*.memory"):
            if file not in needed:
                file.unlink(missing_ok=True)

    def _hold(self, client: int, vectors: Tensor) -> None:
        old = self._held.pop(client, None)
        self._bytes += vectors.nbytes - (old.nbytes if old is not None else 0)
        self._held[client] = vectors
        while self._bytes > self._limit and len(self._held) > 1:
            other, forgotten = self._held.popitem(last=False)
            self._bytes -= forgotten.nbytes
            if self._folder is None:
                self._save(other, self._rounds[other], forgotten)

    def _file(self, client: int, round: int) -> Path:
        folder = self._folder
        if folder is None:
            # without a folder there is one file a client: nobody goes back to an older round
            if self._temporary is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="fedlens-clients-")
            folder, round = Path(self._temporary.name), 0
        return folder / f"{client:07d}-{round:06d}.memory"

    def _save(self, client: int, round: int, vectors: Tensor) -> None:
        file = self._file(client, round)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"Could not make the folder {file.parent}: {error.strerror or error}."
            ) from error
        content = save({"memory": vectors.contiguous()})
        write_bytes(file, hashlib.sha256(content).digest() + content)


def _load(file: Path) -> Tensor:
    content = read_bytes(file, LARGEST)
    digest, content = content[:DIGEST], content[DIGEST:]
    try:
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("its content does not match its digest")
        return load(content)["memory"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise RunError(
            f"{file} is damaged, expected what client {int(file.name[:7])} remembers; this run "
            "cannot go on from its last checkpoint."
        ) from error


def rounds_as_tensor(rounds: Mapping[int, int], clients: int) -> Tensor:
    """Return int64 (N,): each client's round, 0 where it has none; for a checkpoint."""
    result = torch.zeros(clients, dtype=torch.int64)
    for client, number in rounds.items():
        result[client] = number
    return result


def rounds_from_tensor(tensor: Tensor) -> dict[int, int]:
    """Return what :func:`rounds_as_tensor` was given."""
    return {client: int(number) for client, number in enumerate(tensor.tolist()) if number}
