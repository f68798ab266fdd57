import pytest
import torch
from captum.metrics import sensitivity_max

from fedlens.errors import ExplanationError
from fedlens.explain import explain
from fedlens.explain.metrics import max_sensitivity, seed_stability
from fedlens.models.paper_cnn import PaperCNN


@pytest.fixture
def model(linear, rand):
    """Two classes whose border no small change of an image in [0.1, 0.9] crosses."""
    return linear(torch.stack((torch.ones(1, 5, 5), -torch.ones(1, 5, 5))))


def test_by_hand(model, rand, seeded):
    """With map = image, the change is the draw itself."""
    images = rand(4, 1, 5, 5) * 0.8 + 0.1
    found = max_sensitivity(model, images, lambda x: x[:, 0], generator=seeded(), radius=0.05)
    generator = seeded()
    draws = [0.05 * (2 * torch.rand(1, 5, 5, generator=generator) - 1) for _ in range(10)]
    largest = max(float(draw.double().norm()) for draw in draws)
    torch.testing.assert_close(found.values, largest / images.flatten(1).norm(dim=1))
    assert found.flipped.tolist() == [0, 0, 0, 0]
    # A linear network's gradient does not depend on the image.
    same = max_sensitivity(model, images, lambda x: torch.ones(4, 5, 5), generator=seeded())
    assert same.values.tolist() == [0, 0, 0, 0]


def test_equals_captum(rand, seeded):
    model = PaperCNN(1, 10, 28, torch.Generator().manual_seed(4)).eval()
    images = rand(3, 1, 28, 28).float() * 0.8 + 0.1
    predicted = model(images).argmax(1)

    def maps(images):
        repeats = len(images) // 3  # captum repeats each image in a row
        target = predicted.repeat_interleave(repeats)
        return explain(model, images, "gradient", target=target).values

    generator = seeded()
    draws = [0.002 * (2 * torch.rand(1, 28, 28, generator=generator) - 1) for _ in range(4)]
    expected = sensitivity_max(
        lambda given: (maps(given[0] if isinstance(given, tuple) else given)[:, None],),
        images,
        perturb_func=lambda inputs: inputs + torch.stack(draws).repeat(3, 1, 1, 1),
        n_perturb_samples=4,
    )
    found = max_sensitivity(model, images, maps, generator=seeded(), radius=0.002, draws=4)
    assert found.flipped.sum() == 0
    assert (found.values > 0).all()
    torch.testing.assert_close(found.values, expected.double(), rtol=1e-4, atol=1e-7)


def test_flips_are_counted_and_left_out(linear, seeded):
    """The class is the sign of the image's sum; two images are near the border, two are not."""
    model = linear(torch.stack((torch.ones(1, 5, 5), -torch.ones(1, 5, 5))))
    images = torch.full((3, 1, 5, 5), 0.5).double()
    images[1] = 1e-9
    images[2] = 0.0
    generator, sums = seeded(), []
    for _ in range(10):
        draw = (0.02 * (2 * torch.rand(1, 5, 5, generator=generator) - 1)).double()
        sums.append(float((images[1] + draw).sum()))
    flips = sum(value <= 0 for value in sums)
    assert 0 < flips < 10

    def maps(x):
        # After a flip the map would be another one altogether.
        return torch.where(x.sum((1, 2, 3), keepdim=True) > 0, 1.0, 100.0)[:, 0].expand(-1, 5, 5)

    found = max_sensitivity(model, images, maps, generator=seeded(), value_range=(-1.0, 1.0))
    assert found.flipped.tolist()[:2] == [0, flips]
    assert found.values.tolist()[:2] == [0, 0]


def test_undefined_is_nan(model, linear, rand, seeded):
    images = rand(4, 1, 5, 5) * 0.8 + 0.1
    calls = []

    def maps(x):
        found = x[:, 0].clone()
        found[0] = 0  # a blank map is not a stable one
        found[1, 2, 2] = float("nan")
        if len(calls) == 3:
            found[2, 1, 1] = float("nan")  # one draw alone
        calls.append(x)
        return found

    found = max_sensitivity(model, images, maps, generator=seeded())
    assert found.values.isnan().tolist() == [True, True, True, False]
    assert len(calls) == 11 and all(len(x) == 4 for x in calls)
    # The draws differ, and all stay within the range of a pixel.
    bright = torch.ones(1, 1, 5, 5).double()
    seen = []
    max_sensitivity(
        model, bright, lambda x: seen.append(x) or x[:, 0], generator=seeded(), radius=0.5
    )
    assert len({x.sum().item() for x in seen}) == 11
    assert max(float(x.max()) for x in seen) == 1 and min(float(x.min()) for x in seen) > 0.49
    # Where each draw flips the class there is no figure.
    flipping = linear(torch.stack((-torch.ones(1, 5, 5), torch.zeros(1, 5, 5))))
    found = max_sensitivity(
        flipping, torch.zeros(1, 1, 5, 5), lambda x: x[:, 0] + 1, generator=seeded()
    )
    assert found.flipped.tolist() == [10] and found.values.isnan().all()


def test_batch_equals_loop(model, rand, seeded):
    images = rand(4, 1, 5, 5)
    together = max_sensitivity(model, images, lambda x: x[:, 0].exp(), generator=seeded())
    for number in range(4):
        part = images[number : number + 1]
        alone = max_sensitivity(model, part, lambda x: x[:, 0].exp(), generator=seeded())
        torch.testing.assert_close(alone.values, together.values[number : number + 1])
    empty = max_sensitivity(model, images[:0], lambda x: x[:, 0], generator=seeded())
    assert empty.values.shape == empty.flipped.shape == (0,)


def test_seeds_by_hand():
    """Pixels of 1 and 3 over two seeds, and the reverse: sd 1 in each pixel, mean square 5."""
    maps = {3: torch.tensor([[[1.0, 3.0]]]), 4: torch.tensor([[[3.0, 1.0]]])}
    found = seed_stability(maps.__getitem__, [3, 4])
    assert found.spearman.tolist() == [-1]
    assert found.deviation.tolist() == pytest.approx([5**-0.5])


def test_seeds(rand):
    fixed = rand(3, 6, 6)
    same = seed_stability(lambda seed: fixed, range(4))
    assert same.spearman.tolist() == [1, 1, 1]
    assert same.deviation.abs().max() < 1e-15

    noise = seed_stability(lambda seed: rand(3, 28, 28, seed=seed) - 0.5, range(10))
    assert noise.spearman.abs().max() < 0.05
    assert (noise.deviation > 0.85).all() and (noise.deviation <= 1).all()

    def partly(seed):
        found = fixed.clone()
        found[0] = 0
        found[1, 0, 0] = float("nan") if seed == 2 else 1.0
        return found

    broken = seed_stability(partly, range(4))
    assert broken.spearman.isnan().tolist() == [True, True, False]
    assert broken.deviation.isnan().tolist() == [True, True, False]
    assert seed_stability(lambda seed: rand(0, 4, 4), [0, 1]).spearman.shape == (0,)


def test_refusals(model, rand, seeded):
    images = rand(2, 1, 5, 5)
    with pytest.raises(ExplanationError, match=r"explain_fn returned are \(2, 1, 5, 5\)"):
        max_sensitivity(model, images, lambda x: x, generator=seeded())
    with pytest.raises(ExplanationError, match="radius is 0"):
        max_sensitivity(model, images, lambda x: x[:, 0], generator=seeded(), radius=0)
    with pytest.raises(ExplanationError, match="draws is 0"):
        max_sensitivity(model, images, lambda x: x[:, 0], generator=seeded(), draws=0)
    for seeds in ([], [1], [1, 1]):
        with pytest.raises(ExplanationError, match="two or more different"):
            seed_stability(lambda seed: images[:, 0], seeds)
    with pytest.raises(ExplanationError, match="expected one shape"):
        seed_stability(lambda seed: rand(1 + seed, 4, 4), [0, 1])
