"""Every reproducible random draw of fedlens comes from a stream named here.

A stream is a pure function of (root seed, purpose, round, client), so that a draw does not depend on
how many workers there are, in which order clients finish, or whether the run was stopped and resumed.
Nothing in fedlens reads or sets the global state of ``random`` or ``numpy.random``; that of PyTorch,
which dropout draws from, is set for a while and put back by :func:`local_torch_seed`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch

CPU = torch.device("cpu")


class Purpose(IntEnum):
    """What a random draw is for; the numbers are part of the file format: never re-use one."""

    MODEL = 1
    PARTITION = 2
    COHORT = 3
    LOCAL_EPOCHS = 4
    LOCAL_TRAINING = 5
    DROPOUT = 6
    VALIDATION_SPLIT = 7
    EXPLAIN = 8
    POISON = 9
    FAULTS = 10
    PRIVACY = 11
    AUGMENTATION = 12
    MEASURES = 13


def seed_sequence(
    seed: int, purpose: Purpose, *, round: int = 0, client: int = 0, epoch: int = 0
) -> np.random.SeedSequence:
    """Return the ``SeedSequence`` of one purpose in one local epoch of one round at one client.

    Args:
        seed: root seed of the run, at least 0.
        purpose: what the draw is for.
        round: round number, from 1; 0 where rounds do not matter.
        client: client number, from 0.
        epoch: local epoch, from 1; 0 where epochs do not matter.
    """
    return np.random.SeedSequence([seed, int(purpose), round, client, epoch])


def generator(
    seed: int, purpose: Purpose, *, round: int = 0, client: int = 0, epoch: int = 0
) -> np.random.Generator:
    """Return a fresh NumPy generator for one stream; see :func:`seed_sequence`."""
    sequence = seed_sequence(seed, purpose, round=round, client=client, epoch=epoch)
    return np.random.Generator(np.random.PCG64(sequence))


def torch_seed(
    seed: int, purpose: Purpose, *, round: int = 0, client: int = 0, epoch: int = 0
) -> int:
    """Return a 63-bit integer to seed a ``torch.Generator``; see :func:`seed_sequence`."""
    sequence = seed_sequence(seed, purpose, round=round, client=client, epoch=epoch)
    return int(sequence.generate_state(1, np.uint64)[0]) >> 1


@contextmanager
def local_torch_seed(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """Seed the generators that dropout draws from, and put their state back afterwards.

    Args:
        seed: of PyTorch's default generators on the processor and on ``device``.
        device: where the network is.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        number = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[number])
    before = [each.get_state() for each in generators]
    for each in generators:
        each.manual_seed(seed)
    try:
        yield
    finally:
        for each, state in zip(generators, before, strict=True):
            each.set_state(state)
