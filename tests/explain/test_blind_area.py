"""The blind area against geometry, and against networks that are changed inside it."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedlens.errors import ExplanationError
from fedlens.explain.blind_area import blind_area, blind_light
from fedlens.models.paper_cnn import PaperCNN


def paper_cnn(in_channels: int = 1, classes: int = 10, size: int = 28, seed: int = 0) -> PaperCNN:
    return PaperCNN(in_channels, classes, size, torch.Generator().manual_seed(seed))


def beyond(first: int, size: int) -> Tensor:
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[first:] = True
    mask[:, first:] = True
    return mask


@pytest.mark.parametrize("seed", range(3))
def test_the_study_network_is_blind_to_rows_and_columns_22_to_27(seed):
    area = blind_area(paper_cnn(seed=seed), (1, 28, 28), seed=seed)
    assert area.dtype == torch.bool and area.shape == (28, 28)
    assert torch.equal(area, beyond(22, 28))
    assert int(area.sum()) == 28 * 28 - 22 * 22


@pytest.mark.parametrize(
    ("size", "first"),
    # The side of the third pooling's output decides: 2 (its side) -> 4 -> 6 -> 12 -> 14 -> 28 -> 30
    [(22, 22), (25, 22), (29, 22), (30, 30), (33, 30)],
)
def test_other_sizes_by_geometry(size, first):
    area = blind_area(paper_cnn(3, 2, size), (3, size, size))
    assert torch.equal(area, beyond(first, size))


def test_resting_units_and_saturated_training_do_not_blind_it_further():
    """Three quarters of the units of each layer never fire; the rest still read every pixel."""
    model = paper_cnn(seed=5)
    with torch.no_grad():
        for layer in (model.conv1, model.conv2, model.conv3):
            layer.bias[: 3 * len(layer.bias) // 4] = -100
    assert torch.equal(blind_area(model, (1, 28, 28)), beyond(22, 28))


def test_changing_the_blind_pixels_changes_no_logit():
    model = paper_cnn()
    area = blind_area(model, (1, 28, 28))
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(16, 1, 28, 28, generator=generator)
    others = torch.rand(16, 1, 28, 28, generator=generator)
    with torch.no_grad():
        before = model(images)
        assert torch.equal(model(torch.where(area, others, images)), before)
        for row, column in ((21, 21), (0, 21), (21, 0)):
            changed = images.clone()
            changed[:, :, row, column] = 1 - changed[:, :, row, column]
            assert not torch.equal(model(changed), before)


def test_a_padded_network_sees_everything():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 25, 2),
    )
    assert not blind_area(model, (3, 10, 10)).any()


def test_a_wide_maximum_sees_everything():
    """Each pixel counts in one image of 64 only."""
    assert not blind_area(nn.Sequential(nn.MaxPool2d(8), nn.Flatten()), (1, 24, 24)).any()


@pytest.mark.parametrize(("sign", "threshold"), [(1.0, 0.85), (-1.0, -0.15)])
@pytest.mark.parametrize("pool", [nn.Identity(), nn.AdaptiveAvgPool2d(1)], ids=["pixel", "image"])
def test_units_that_fire_on_bright_or_dark_pixels_or_images_only(sign, threshold, pool):
    """ReLU(x - 0.85) and ReLU(0.15 - x), for x a pixel and for x the mean of the image."""
    conv = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        conv.weight.fill_(sign)
        conv.bias.fill_(-threshold)
    model = nn.Sequential(pool, conv, nn.ReLU(), nn.Flatten())
    assert not blind_area(model, (1, 12, 12)).any()


def test_pixels_without_a_weight_are_blind_in_all_channels_only():
    """A linear layer: a pixel is seen where any weight of any channel and class is not zero."""
    weights = torch.zeros(2, 3, 4, 5)
    weights[0, 2, 1, 3] = 1e-30
    weights[1, 0, 0, 0] = -2.0
    weights[:, 1, 3, 4] = 1.0
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 2))
    with torch.no_grad():
        model[1].weight.copy_(weights.flatten(1))
    expected = torch.ones(4, 5, dtype=torch.bool)
    for row, column in ((1, 3), (0, 0), (3, 4)):
        expected[row, column] = False
    assert torch.equal(blind_area(model, (3, 4, 5)), expected)


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.ones(3))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), 3)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_network_that_ignores_the_image_is_blind_everywhere(frozen):
    assert blind_area(Constant().requires_grad_(not frozen), (1, 3, 3)).all()


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_network_and_the_global_state_are_untouched(mode):
    model = paper_cnn().train()
    model.conv2.eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    random_state = torch.get_rng_state()
    with mode():
        area = blind_area(model, (1, 28, 28))
    assert torch.equal(area, beyond(22, 28)) and not area.is_inference()
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(value.dtype == torch.float32 for value in model.state_dict().values())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_images_that_the_network_cannot_take():
    with pytest.raises(ExplanationError, match=r"cannot take images .* \(3, 28, 28\)"):
        blind_area(paper_cnn(), (3, 28, 28))


# Light.


def light_images() -> Tensor:
    """Two channels of 1x3 pixels; the last column is the blind one."""
    return torch.tensor(
        [[[[10, 20, 30]], [[0, 0, 40]]], [[[200, 0, 50]], [[0, 0, 0]]], [[[255, 255, 10]]] * 2],
        dtype=torch.uint8,
    )


LAST = torch.tensor([[False, False, True]])


def test_light_by_hand():
    """Class 0: 70 of 100 and 50 of 250; class 2: 20 of 1,040; class 1 has no image."""
    shares = blind_light(light_images(), torch.tensor([0, 0, 2]), 3, LAST)
    assert shares.dtype == torch.float64
    assert shares[[0, 2]].tolist() == pytest.approx([120 / 350, 20 / 1040])
    assert shares[1].isnan()


def test_light_of_several_labels():
    labels = torch.tensor([[1, 0], [1, 1], [0, 0]], dtype=torch.uint8)
    shares = blind_light(light_images(), labels, 2, LAST)
    assert shares.tolist() == pytest.approx([120 / 350, 50 / 250])


@pytest.mark.parametrize(
    ("labels", "mask", "sentence"),
    [
        (torch.tensor([0, 0, 3]), LAST, r"labels run from 0 to 3, expected 0 to 2"),
        (torch.tensor([0, -1, 1]), LAST, r"labels run from -1 to 1"),
        (torch.tensor([0, 0]), LAST, r"shape \(2,\) for 3 images"),
        (torch.zeros(3, 2), LAST, r"shape \(3, 2\) for 3 images, expected \(3,\) or \(3, 3\)"),
        (torch.tensor([0, 0, 0]), LAST.T, r"expected bool \(H, W\) = \(1, 3\)"),
        (torch.tensor([0, 0, 0]), LAST.float(), r"torch.float32 \(1, 3\), expected bool"),
    ],
)
def test_light_of_what_does_not_fit(labels, mask, sentence):
    with pytest.raises(ExplanationError, match=sentence):
        blind_light(light_images(), labels, 3, mask)


@pytest.mark.skipif("FEDLENS_DATA" not in os.environ, reason="FEDLENS_DATA is not set")
def test_a_quarter_of_the_light_of_fashion_mnist_is_not_seen():
    """Trouser 17 %, sandal 36 %, ankle boot 39 %, all together 27 %, each within a point."""
    folder = Path(os.environ["FEDLENS_DATA"]) / "fashion-mnist"
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), dtype=np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as file:
        classes = np.frombuffer(file.read(), dtype=np.uint8, offset=8)
    images, labels = torch.from_numpy(pixels.copy()), torch.from_numpy(classes.astype(np.int64))
    mask = blind_area(paper_cnn(), (1, 28, 28))
    shares = blind_light(images, labels, 10, mask)
    assert shares[[1, 5, 9]].tolist() == pytest.approx([0.17, 0.36, 0.39], abs=0.01)
    overall = blind_light(images, torch.zeros_like(labels), 1, mask)
    assert overall.item() == pytest.approx(0.27, abs=0.01)
