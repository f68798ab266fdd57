"""Where the randomness of privacy comes from: the operating system, or a seed for tests.

Noise and samples hide people only while nobody can guess them. :class:`SecureSource` draws from the
operating system and can be neither predicted nor repeated; :class:`SeededSource` repeats itself, for
tests and comparisons, and says that it guarantees nothing. All else is written once for both.
"""

import builtins
import math
import os
import threading
from abc import ABC, abstractmethod
from fractions import Fraction

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms
from numpy.typing import NDArray
from torch import Tensor

from fedlens.errors import ConfigError

KEY_BYTES, NONCE_BYTES = 32, 16
KEY_LIFE = 1 << 30  # bytes drawn from one key; far below the 2^38 at which ChaCha20 would repeat
CHUNK = 1 << 20  # units of a population that are drawn for at once: 8 MiB
WORD = 2**64


class RandomSource(ABC):
    """A stream of independent, uniform bits, and what privacy draws from it.

    Attributes:
        guarantee: whether nobody can predict or repeat the draws.
        description: where they come from, in words, for a report.
    """

    guarantee: bool
    description: str

    @abstractmethod
    def bytes(self, count: int) -> builtins.bytes:
        """Return the next ``count`` uniform bytes.

        Raises:
            ConfigError: ``count`` is negative.
        """

    def uniform64(self, count: int) -> NDArray[np.uint64]:
        """Return uniform integers in [0, 2^64): uint64 (count,), which may be read-only.

        Raises:
            ConfigError: ``count`` is negative.
        """
        return np.frombuffer(self.bytes(8 * count), dtype="<u8").astype(np.uint64, copy=False)

    def gaussian(self, count: int, std: float, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return independent noise N(0, std^2): (count,) of ``dtype``, always finite.

        Box and Muller (1958) in float64, from 64-bit uniforms that are never 0: the tails are
        right up to 9.49 standard deviations, where they are cut (2e-21 of the mass lies beyond).
        The low-order bits carry the traces of floating-point arithmetic, and adding the noise to
        a secret value shows them (Mironov 2012): :func:`fedlens.privacy.noise.release` does not.

        Args:
            count: how many values, from 0.
            std: standard deviation, finite and at least 0.
            dtype: ``torch.float32`` or ``torch.float64``.

        Raises:
            ConfigError: a value that it cannot have.
        """
        check_std(std)
        if dtype not in (torch.float32, torch.float64):
            raise ConfigError(f"Noise was asked for as {dtype}, expected float32 or float64.")
        _check_count(count)
        half = (count + 1) // 2
        words = self.uniform64(2 * half).astype(np.float64)
        # (w + 1/2) 2^-64 lies in (0, 1]: rounding may reach 1, whose logarithm is 0, but never 0
        radius = torch.from_numpy(words[:half]).add_(0.5).mul_(1 / WORD)
        radius = radius.log_().mul_(-2).sqrt_().mul_(std)
        angle = torch.from_numpy(words[half:]).mul_(math.tau / WORD)
        noise = torch.empty(2 * half, dtype=torch.float64)
        torch.mul(radius, angle.cos(), out=noise[:half])
        torch.mul(radius, angle.sin_(), out=noise[half:])
        return noise[:count].to(dtype)

    def poisson_sample(self, population: int, rate: float | Fraction) -> NDArray[np.int64]:
        """Return the sorted positions of a Poisson sample: int64 (size,), the size itself random.

        Each unit is in it independently, with probability floor(rate 2^64) / 2^64: exactly
        ``rate`` for a float from 2^-12, and for smaller ones less by under 2^-64, never more, so
        that what is charged for ``rate`` covers it.

        Args:
            population: units, from 0.
            rate: probability of each, in [0, 1]; 1 takes all.

        Raises:
            ConfigError: a negative population, or a rate outside [0, 1].
        """
        if not 0 <= rate <= 1:
            raise ConfigError(f"The sampling rate is {rate}, expected a number from 0 to 1.")
        _check_count(population)
        threshold = math.floor(Fraction(rate) * WORD)
        if threshold == WORD:
            return np.arange(population, dtype=np.int64)
        chosen = [np.empty(0, dtype=np.int64)]
        for start in range(0, population, CHUNK):
            words = self.uniform64(min(CHUNK, population - start))
            # integers against an integer: a comparison of floats would round rates up
            chosen.append(np.flatnonzero(words < np.uint64(threshold)) + start)
        return np.concatenate(chosen)


class SecureSource(RandomSource):
    """The operating system's generator: each object has its own key, which nobody sees.

    A 256-bit key from ``os.urandom`` is expanded by ChaCha20, and replaced after every GiB and in
    every forked child, so that parent and child never draw the same. Copying or pickling one gives
    a new source. Threads may share one. A virtual machine that is cloned while it runs does repeat
    its draws until the next key.
    """

    guarantee = True
    description = "the operating system's generator, expanded by ChaCha20; not reproducible"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._renew()

    def bytes(self, count: int) -> builtins.bytes:
        """Return the next ``count`` uniform bytes; see :meth:`RandomSource.bytes`."""
        _check_count(count)
        if self._owner != _this_process():
            self._lock = threading.Lock()  # a thread of the parent may have held the old one
            self._renew()
        parts = []
        with self._lock:
            while count:
                if not self._left:
                    self._renew()
                taken = min(count, self._left)
                parts.append(self._stream.update(bytes(taken)))
                self._left -= taken
                count -= taken
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _renew(self) -> None:
        """Begin a new stream; the key is used once, so that its nonce may be zero."""
        cipher = Cipher(algorithms.ChaCha20(os.urandom(KEY_BYTES), bytes(NONCE_BYTES)), None)
        self._stream: CipherContext = cipher.encryptor()
        self._left = KEY_LIFE
        self._owner = _this_process()

    def __reduce__(self) -> tuple[type["SecureSource"], tuple[()]]:
        return SecureSource, ()


class SeededSource(RandomSource):
    """A stream that repeats itself: a pure function of a seed and a path, for tests only.

    Its streams are independent of each other and of those of :mod:`fedlens.randomness`; a forked
    child goes on as its parent does. Whoever knows the seed can subtract the noise.

    Args:
        seed: from 0 to 2^128 - 1.
        path: what the stream is for, e.g. a purpose, a round and a client; each from 0 to 2^32 - 1.

    Raises:
        ConfigError: a seed or a path outside its range.
    """

    guarantee = False

    def __init__(self, seed: int, *path: int) -> None:
        # within these ranges no two (seed, path) mix the same words, which NumPy does not check
        if not 0 <= seed < 2**128:
            raise ConfigError(f"The seed is {seed}, expected a whole number from 0 to 2^128 - 1.")
        if not all(0 <= step < 2**32 for step in path):
            raise ConfigError(
                f"The path of a seeded source is {path}, expected whole numbers from 0 to 2^32 - 1."
            )
        self.description = f"a generator seeded with {seed}: reproducible, hence no guarantee"
        self._stream = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=path))

    def bytes(self, count: int) -> builtins.bytes:
        """Return the next ``count`` uniform bytes; see :meth:`RandomSource.bytes`."""
        _check_count(count)
        return self._stream.random_raw((count + 7) // 8).astype("<u8").tobytes()[:count]


def check_std(std: float) -> None:
    """Refuse a standard deviation that is negative, infinite or NaN.

    Raises:
        ConfigError: it is one of these.
    """
    if not (math.isfinite(std) and std >= 0):
        raise ConfigError(
            f"The standard deviation of the noise is {std}, expected a finite number from 0."
        )


def _check_count(count: int) -> None:
    if count < 0:
        raise ConfigError(f"{count} random values were asked for, expected a number from 0.")


_lineage = object()


def _this_process() -> tuple[int, object]:
    """Return what tells this process from those it was forked from, even if a number recurs."""
    return os.getpid(), _lineage


def _begin_lineage() -> None:
    global _lineage
    _lineage = object()


if hasattr(os, "register_at_fork"):  # not where nothing forks
    os.register_at_fork(after_in_child=_begin_lineage)
