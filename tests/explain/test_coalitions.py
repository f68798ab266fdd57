"""Scores of masked images against the images made one by one."""

import pytest
import torch
from torch import Tensor, nn

from fedlens.explain.coalitions import all_coalitions, coalition_scores, masked_scores
from fedlens.explain.contract import Context
from fedlens.explain.segments import grid_segments
from fedlens.explain.target import Contrast, target_score
from fedlens.models.paper_cnn import PaperCNN


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class Plain(nn.Module):
    """Says in what layout it was called; with ``view`` it takes the usual one alone."""

    def __init__(self, channels: int, view: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.dense = nn.Linear(4 * 8 * 8, 5)
        self.view = view
        self.innermost: list[bool] = []
        with torch.no_grad():
            for number, weights in enumerate(self.parameters()):
                weights.copy_(rand(*weights.shape, seed=number) - 0.5)

    def forward(self, images: Tensor) -> Tensor:
        images.relu_()  # in place: the next masks must not suffer
        maps = self.conv(images)
        flat = maps.view(len(maps), -1) if self.view else maps.flatten(1)
        self.innermost.append(images.stride(1) == 1)
        return self.dense(flat)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("target", [torch.tensor([0, 4, 2]), Contrast(1, 3)], ids=str)
@torch.no_grad()
def test_equals_the_images_made_one_by_one(channels, view, target):
    model = Plain(channels, view)
    images, baselines = rand(3, channels, 8, 8), rand(3, channels, 8, 8, seed=1)
    segments = grid_segments(8, 8, 3)
    coalitions = rand(10, 9, seed=2) < 0.5
    expected = torch.empty(3, 10)
    for image in range(3):
        for row, coalition in enumerate(coalitions):
            masked = baselines[image].clone()
            for y in range(8):
                for x in range(8):
                    if coalition[segments[y, x]]:
                        masked[:, y, x] = images[image, :, y, x]
            asked = target if isinstance(target, Contrast) else target[[image]]
            expected[image, row] = target_score(model(masked[None].clone()), asked)[0]
    model.innermost.clear()
    for rows in (1, 4, 64):
        context = Context(model, rows=rows)
        scores = coalition_scores(context, images, baselines, segments, coalitions, target)
        assert scores.shape == (3, 10) and scores.dtype == torch.float64
        torch.testing.assert_close(scores, expected.double(), rtol=1e-5, atol=1e-5)
    assert all(model.innermost) is not view


@torch.no_grad()
def test_an_image_has_the_same_scores_in_every_batch_bit_by_bit():
    model = PaperCNN(1, 5, 28, torch.Generator().manual_seed(0)).eval()
    images = rand(3, 1, 28, 28)
    masks, target = rand(100, 28, 28) < 0.5, torch.tensor([0, 1, 2])
    blank = torch.zeros_like(images)
    together = masked_scores(Context(model), images, blank, masks.split(64), 100, target)
    for index in range(3):
        own = slice(index, index + 1)
        alone = masked_scores(
            Context(model), images[own], blank[own], masks.split(64), 100, target[own]
        )
        assert torch.equal(alone[0], together[index])


def test_all_coalitions_count_in_bits():
    coalitions = all_coalitions(3)
    assert coalitions.dtype == torch.bool
    assert coalitions[6].tolist() == [False, True, True]
    assert torch.equal(coalitions.long() @ torch.tensor([1, 2, 4]), torch.arange(8))
