"""Random changes of images."""

import torch

from fedlens.data.augmentation import shift_and_mirror


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_result_is_the_image_moved_and_perhaps_mirrored() -> None:
    """Every result is one of the 50 that can be built by hand, and all 50 come up."""
    image = torch.rand(3, 5, 6, generator=generator(1))
    choices = {}
    padded = torch.zeros(3, 9, 10)
    padded[:, 2:7, 2:8] = image
    for down in range(5):
        for right in range(5):
            cut = padded[:, down : down + 5, right : right + 6]
            choices[(down, right, False)] = cut
            choices[(down, right, True)] = cut.flip(2)
    results = shift_and_mirror(image.expand(1500, -1, -1, -1), generator())
    seen = [
        next(name for name, choice in choices.items() if torch.equal(choice, result))
        for result in results
    ]
    assert set(seen) == set(choices)
    counts = torch.tensor([seen.count(name) for name in choices], dtype=torch.float64)
    # chi-square with 49 degrees of freedom: above 110 with probability below 1e-6
    assert float(((counts - 30) ** 2 / 30).sum()) < 110


def test_no_shift_only_mirrors_and_the_generator_decides() -> None:
    images = torch.rand(40, 1, 4, 4, generator=generator(2))
    results = shift_and_mirror(images, generator(3), shift=0)
    assert all(
        torch.equal(result, image) or torch.equal(result, image.flip(2))
        for result, image in zip(results, images, strict=True)
    )
    assert torch.equal(results, shift_and_mirror(images, generator(3), shift=0))
    assert not torch.equal(results, shift_and_mirror(images, generator(4), shift=0))
