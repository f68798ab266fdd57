"""Grad-CAM++, HiResCAM and LayerCAM on numbers worked by hand, and the exponential of Grad-CAM++."""

import pytest
import torch

from fedlens.explain.methods.cam import grad_cam_plus_plus_map, hires_cam_map, layer_cam_map

# Two maps of 2x2 and their gradients: A1 sums to 3, A2 to 6.
MAPS = torch.tensor([[[[2.0, 1.0], [0.0, 0.0]], [[0.0, 1.0], [2.0, 3.0]]]])
GRADIENTS = torch.tensor([[[[0.0, 2.0], [4.0, -2.0]], [[1.0, -1.0], [-2.0, 0.0]]]])


def test_grad_cam_plus_plus_by_hand():
    # alpha = 1 / (2 + sum(A) g) where g is not 0. Of A1: 1/8 at g = 2, 1/14 at g = 4, so that
    # w1 = 2/8 + 4/14 = 15/28; of A2: 1/8 at g = 1, so that w2 = 1/8.
    expected = torch.tensor([[[30 / 28, 15 / 28 + 1 / 8], [2 / 8, 3 / 8]]])
    torch.testing.assert_close(grad_cam_plus_plus_map(MAPS, GRADIENTS), expected)


def test_hires_cam_and_layer_cam_by_hand():
    # A1 g1 + A2 g2 = [[0, 2 - 1], [-4, 0]]; with positive gradients alone [[0, 2], [0, 0]]
    assert hires_cam_map(MAPS, GRADIENTS).tolist() == [[[0.0, 1.0], [0.0, 0.0]]]
    assert layer_cam_map(MAPS, GRADIENTS).tolist() == [[[0.0, 2.0], [0.0, 0.0]]]


@pytest.mark.parametrize("offset", [-3.0, 0.0, 2.0])
def test_grad_cam_plus_plus_is_that_of_the_exponential_score(offset):
    """Equation 19 with the true derivatives of exp(S), taken one by one, up to the factor exp(S)."""
    maps = MAPS[0].double().requires_grad_()
    gradients = GRADIENTS[0].double() / 10
    score = torch.exp((gradients * maps).sum() + offset)
    first = torch.autograd.grad(score, maps, create_graph=True)[0]
    second, third = torch.zeros_like(maps), torch.zeros_like(maps)
    for place in range(maps.numel()):
        again = torch.autograd.grad(first.flatten()[place], maps, create_graph=True)[0].flatten()
        second.view(-1)[place] = again[place].detach()
        once_more = torch.autograd.grad(again[place], maps, retain_graph=True)[0].flatten()
        third.view(-1)[place] = once_more[place]
    bottom = 2 * second + maps.detach().sum((1, 2), keepdim=True) * third
    alpha = torch.where(second != 0, second / torch.where(second != 0, bottom, 1.0), 0.0)
    weights = (alpha * first.detach().relu()).sum((1, 2))
    expected = torch.einsum("k,khw->hw", weights, maps.detach()).relu()
    found = grad_cam_plus_plus_map(maps.detach()[None], gradients[None])[0]
    torch.testing.assert_close(found / found.max(), expected / expected.max())
    torch.testing.assert_close(found * score.detach(), expected)
