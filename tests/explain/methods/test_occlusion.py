"""Occlusion of a linear network by hand, and windows at the border."""

import pytest
import torch
from captum.attr import Occlusion
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.explaining import explain
from fedlens.explain.methods.occlusion import window_masks
from fedlens.explain.target import Contrast
from fedlens.models.paper_cnn import PaperCNN


class Linear(nn.Module):
    """Two logits: the weighted sum of the pixels, and the same negated plus one."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.weights).sum((1, 2, 3))
        return torch.stack((score, 1 - score), dim=1)


def test_a_linear_network_by_hand():
    """Windows of 2 at 0 and 1 of a 3x3 image: the middle is in all four, a corner in one."""
    weights = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])
    images = torch.ones(1, 1, 3, 3)
    images[..., 2] = 0  # the last column is black already
    # The windows lose 1+2+4+5 = 12, 2+5 = 7, 4+5+7+8 = 24 and 5+8 = 13.
    expected = torch.tensor([[12.0, 9.5, 7], [18, 14, 10], [24, 18.5, 13]])
    model = Linear(weights)
    found = explain(model, images, "occlusion", target=0, size=2, stride=1)
    assert torch.equal(found.values[0], expected)
    against = explain(model, images, "occlusion", target=Contrast(1, 0), size=2, stride=1)
    torch.testing.assert_close(against.values[0], -2 * expected)
    ranged = explain(
        model, images, "occlusion", target=0, size=2, stride=1, value_range=(-1.0, 1.0)
    )
    # Black is -1: a lit pixel loses twice its weight, and one at 0 loses it once.
    assert ranged.values[0, 0, 0] == 2 * 12
    assert ranged.values[0, 2, 2] == 2 * 13 + 6 + 9


def test_windows_reach_every_border():
    windows = window_masks(7, 5, 4, 3)
    assert windows.shape == (4, 7, 5) and windows.dtype == torch.bool
    corners = [(int(w.any(1).long().argmax()), int(w.any(0).long().argmax())) for w in windows]
    assert corners == [(0, 0), (0, 1), (3, 0), (3, 1)]
    assert window_masks(28, 28, 4, 2).shape == (169, 28, 28)
    for height, width, size, stride in [(5, 6, 2, 2), (7, 8, 3, 3), (9, 4, 4, 1), (6, 6, 5, 2)]:
        windows = window_masks(height, width, size, stride)
        assert windows.any(0).all()
        assert (windows.sum((1, 2)) == size * size).all()


def test_equals_captum_where_windows_fit():
    model = PaperCNN(1, 5, 28, torch.Generator().manual_seed(1)).eval()
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    found = explain(model, images, "occlusion", target=[3, 0], size=8, stride=4)
    with torch.no_grad():
        expected = Occlusion(model).attribute(
            images, (1, 8, 8), strides=(1, 4, 4), target=torch.tensor([3, 0])
        )
    torch.testing.assert_close(found.values, expected[:, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 0}, r"size is 0, expected a whole number"),
        ({"stride": 1.5}, r"stride is 1.5, expected a whole number"),
        ({"stride": 5}, r"stride is 5, expected at most size, which is 4"),
        ({"size": 29}, r"size is 29, expected at most 28"),
        ({"baseline": "white"}, r"no baseline 'white'"),
    ],
)
def test_wrong_parameters_are_one_clear_sentence(options, sentence):
    model = PaperCNN(1, 5, 28, torch.Generator().manual_seed(1))
    with pytest.raises(ExplanationError, match=sentence) as caught:
        explain(model, torch.rand(1, 1, 28, 28), "occlusion", **options)
    assert str(caught.value).endswith(".")
