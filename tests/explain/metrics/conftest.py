"""A linear network in float64: for it the right map is known, and sums are exact."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

Linear = Callable[[Tensor], nn.Module]


@pytest.fixture
def linear() -> Linear:
    """Makes a network of logits from weights (L, C, H, W)."""

    def make(weights: Tensor) -> nn.Module:
        layer = nn.Linear(weights[0].numel(), len(weights), bias=False, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(weights.flatten(1))
        return nn.Sequential(nn.Flatten(), layer)

    return make


@pytest.fixture
def rand() -> Callable[..., Tensor]:
    """Draws numbers in [0, 1), float64."""

    def draw(*shape: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    return draw


@pytest.fixture
def seeded() -> Callable[..., torch.Generator]:
    """Makes a fresh generator."""
    return lambda seed=0: torch.Generator().manual_seed(seed)
