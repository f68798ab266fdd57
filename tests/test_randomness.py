"""Random streams: independent, repeatable, nothing global."""

import itertools

import numpy as np
import pytest
import torch

from fedlens.randomness import (
    Purpose,
    generator,
    local_torch_seed,
    seed_sequence,
    torch_seed,
)


def test_the_same_names_give_the_same_draws() -> None:
    first = generator(7, Purpose.COHORT, round=3, client=2, epoch=1).random(5)
    again = generator(7, Purpose.COHORT, round=3, client=2, epoch=1).random(5)
    assert np.array_equal(first, again)


def test_any_other_name_gives_other_draws() -> None:
    names = itertools.product((0, 1), (Purpose.COHORT, Purpose.MODEL), (0, 1), (0, 1), (0, 1))
    states = {
        tuple(seed_sequence(seed, purpose, round=r, client=k, epoch=e).generate_state(4))
        for seed, purpose, r, k, e in names
    }
    assert len(states) == 2**5


def test_the_global_state_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002  it is what the test is about
    generator(1, Purpose.PARTITION).random()
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_torch_seeds_fit_a_signed_integer() -> None:
    seeds = [torch_seed(s, Purpose.MODEL) for s in range(50)]
    assert all(0 <= s < 2**63 for s in seeds)
    assert len(set(seeds)) == 50


def test_pytorchs_own_generator_is_seeded_for_a_while_and_put_back() -> None:
    before = torch.get_rng_state()
    with local_torch_seed(5):
        drawn = torch.rand(4)
    assert torch.equal(drawn, torch.rand(4, generator=torch.Generator().manual_seed(5)))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ValueError, match="on the way"), local_torch_seed(5):
        torch.rand(4)
        raise ValueError("on the way")
    assert torch.equal(torch.get_rng_state(), before)
