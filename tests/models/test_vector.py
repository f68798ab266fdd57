"""Parameters as one flat vector."""

import pytest
import torch
from torch import nn

from fedlens.errors import ModelError
from fedlens.models import FlatParameters, get_vector, has_batch_norm, set_vector


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)).double()


def test_the_layout_is_that_of_pytorchs_own_helper() -> None:
    model = small()
    expected = nn.utils.parameters_to_vector(model.parameters()).detach()
    assert torch.equal(get_vector(model), expected)
    assert torch.equal(FlatParameters(model).vector, expected)


def test_set_vector_undoes_get_vector() -> None:
    model, other = small(), small()
    set_vector(other, get_vector(model))
    x = torch.rand(4, 3, dtype=torch.float64)
    assert torch.equal(model(x), other(x))


def test_the_model_computes_with_the_vector() -> None:
    model = small()
    flat = FlatParameters(model)
    flat.vector.zero_()
    assert not any(bool(p.any()) for p in model.parameters())


def test_gradients_gather_in_one_vector() -> None:
    model, twin = small(), small()
    twin.load_state_dict(model.state_dict())
    x = torch.rand(4, 3, dtype=torch.float64)
    flat = FlatParameters(model)
    model(x).square().sum().backward()
    expected = torch.autograd.grad(twin(x).square().sum(), list(twin.parameters()))
    assert torch.equal(flat.gradient, torch.cat([g.reshape(-1) for g in expected]))


def test_frozen_parameters_stay_out() -> None:
    model = small()
    model[0].weight.requires_grad_(False)
    assert get_vector(model).numel() == 2 + 2 + 1


def test_the_state_carries_running_statistics() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    flat = FlatParameters(model)
    assert flat.state_length == (6 + 2) + (2 + 2) + (2 + 2) + 1  # the last counts batches
    state = torch.arange(flat.state_length, dtype=torch.float32)
    flat.load_state(state)
    assert model[1].running_mean.tolist() == [12.0, 13.0]
    back = torch.zeros(flat.state_length)
    flat.save_state(back)
    assert torch.equal(state, back)
    assert has_batch_norm(model)
    assert not has_batch_norm(small())


def test_what_cannot_be_a_vector_is_refused() -> None:
    mixed = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
    with pytest.raises(ModelError, match="2 kinds"):
        FlatParameters(mixed)
    with pytest.raises(ModelError, match="no trainable parameters"):
        get_vector(nn.ReLU())
    with pytest.raises(ModelError, match="network of 11 parameters"):
        set_vector(small(), torch.zeros(10))
