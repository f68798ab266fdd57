"""Whatever is drawn for a batch of private examples is as secret as its noise.

A mask of dropout, or a view, is drawn for a place in the batch. Were it known beforehand, one example
more would give all that come after it other masks than they would have had, and the sum of the
clipped gradients would change by more than the one example's clip norm, which is all that is paid for.
"""

import pytest
import torch
from torch import Tensor, nn

from fedlens.data.client import Client
from fedlens.models import FlatParameters
from fedlens.privacy.mechanism import Mechanism
from fedlens.training import LocalTraining, default_loss
from fedlens.training.loop import Draws
from fedlens.training.private import PrivateRun, PrivateSteps

EVERYBODY = Mechanism("example", 16, 16, 1e3, 0.0, periods=9)  # no noise, nothing sampled


def end(seeded: bool, model: nn.Module, augmentation=None) -> Tensor:
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(16, 8, generator=stream)
    flat = FlatParameters(model)
    run = PrivateRun(
        flat,
        Client(inputs, torch.arange(16) % 3),
        LocalTraining(batch_size=None, lr=0.5),
        default_loss,
        Draws(5, 1, 0),
        PrivateSteps(EVERYBODY, seeded=seeded, augmentation=augmentation),
    )
    run.epoch(1)
    return flat.vector.clone()


def dropping() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 30), nn.Dropout(0.5), nn.Linear(30, 3))


@pytest.mark.parametrize("seeded", [False, True])
def test_masks_of_dropout(seeded: bool) -> None:
    assert torch.equal(end(seeded, dropping()), end(seeded, dropping())) == seeded


@pytest.mark.parametrize("seeded", [False, True])
def test_changes_of_an_augmentation(seeded: bool) -> None:
    drawn = []

    def shake(inputs: Tensor, generator: torch.Generator) -> Tensor:
        drawn.append(torch.rand(4, generator=generator))
        return inputs

    for _ in range(2):
        torch.manual_seed(1)
        end(seeded, nn.Linear(8, 3), shake)
    assert torch.equal(*drawn) == seeded


def test_the_callers_own_draws_go_on_as_if_nothing_had_been() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    model = dropping()
    torch.manual_seed(7)
    end(False, model)
    assert torch.equal(torch.rand(3), expected)
