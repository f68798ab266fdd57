"""The scattering transform: kymatio's numbers, and what must hold of any such transform."""

import pytest
import torch
from torch import Tensor

from fedlens.errors import ModelError
from fedlens.models.scattering import Scattering2d

TURN = [4, 5, 6, 7, 0, 1, 2, 3]  # orientation a, turned by 90 degrees

# Made once with kymatio 0.3.0 (NumPy 1.26, SciPy 1.12, Python 3.11) in an environment of its own:
# `Scattering2D(J=2, shape=(28, 28), L=8)` with the NumPy frontend on `formula(...)` below, in
# float64. On random images of 28, 30 and 64 pixels the largest difference was 2.6e-7.
KYMATIO_PLACES = [
    (0, 0, 0),
    (0, 3, 5),
    (1, 0, 0),
    (4, 3, 3),
    (8, 6, 2),
    (9, 2, 6),
    (12, 3, 3),
    (16, 5, 0),
    (17, 1, 1),
    (24, 3, 4),
    (45, 0, 6),
    (52, 6, 6),
    (80, 4, 2),
]
KYMATIO = {
    (7, 13, 1, 29): (
        "0.4356271 0.4221006 0.0833244 0.0692752 0.0500054 0.0279386 0.0284908 "
        "0.0122084 0.0074013 0.0059813 0.0030462 0.0032892 0.0023985",
        [25.2172794, 22.2867198, 10.8409281, 17.8187008],
    ),
    (3, 5, 2, 31): (
        "0.3521274 0.5257017 0.0547245 0.0413780 0.0560699 0.0154677 0.0368702 "
        "0.0088897 0.0099229 0.0042591 0.0085642 0.0050964 0.0050368",
        [24.2513144, 22.9502707, 9.9151504, 20.2424398],
    ),
}


def formula(a: int, b: int, c: int, modulus: int) -> Tensor:
    """Return float64 (1, 1, 28, 28): ((a row + b column + c row column) mod m) / (m - 1)."""
    row = torch.arange(28).unsqueeze(1)
    column = torch.arange(28)
    values = (a * row + b * column + c * row * column) % modulus
    return (values.double() / (modulus - 1)).view(1, 1, 28, 28)


def random_images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("numbers", KYMATIO)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_gives_kymatios_numbers(numbers: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    values, sums = KYMATIO[numbers]
    output = Scattering2d(1, 28).to(dtype)(formula(*numbers))[0]
    assert output.shape == (81, 7, 7)
    assert output.dtype == dtype
    for place, value in zip(KYMATIO_PLACES, values.split(), strict=True):
        assert float(output[place]) == pytest.approx(float(value), abs=1e-6)
    # Order 0; order 1 at the first scale; at the second; order 2: 49, 392, 392, 3,136 numbers.
    parts = output.double().split([1, 8, 8, 64])
    for part, total in zip(parts, sums, strict=True):
        assert float(part.sum()) == pytest.approx(total, abs=1e-6 * part.numel())


def test_an_even_image_has_order_0_only() -> None:
    output = Scattering2d(1, 28)(torch.full((1, 1, 28, 28), 0.75))[0]
    torch.testing.assert_close(output[0], torch.full((7, 7), 0.75), rtol=1e-4, atol=0)
    assert float(output[1:].abs().max()) < 1e-6


def test_the_filters_cover_the_frequencies_and_amplify_none() -> None:
    """Littlewood-Paley (Bruna and Mallat, 2013, section 2): the squares sum to about 1 or less."""
    transform = Scattering2d(1, 28).double()
    omega = 2 * torch.pi * torch.fft.fftfreq(36, dtype=torch.float64)
    low = torch.exp(-(1.6**2) * (omega.square().unsqueeze(1) + omega.square()) / 2)
    waves = torch.cat([transform.fine, 4 * transform.coarse]).square().sum(0)
    opposite = waves.flip((0, 1)).roll((1, 1), (0, 1))  # at the frequency -omega
    total = low.square() + (waves + opposite) / 2
    assert float(total.max()) < 1.0002
    assert float(total.min()) > 0.12  # in the corners, beyond the finest wavelets


def test_two_images_come_no_further_apart() -> None:
    transform = Scattering2d(1, 28).double()
    one, other = random_images(2, 16, 1, 28, 28)
    for a, b in [(one, other), (one, torch.zeros_like(one)), (one, 0.9 * one)]:
        distance = (transform(a) - transform(b)).flatten(1).norm(dim=1)
        assert bool((distance < (a - b).flatten(1).norm(dim=1)).all())


def test_a_shift_by_a_pixel_changes_little() -> None:
    image = random_images(1, 1, 28, 28)
    shifted = image.roll(1, 3)
    transform = Scattering2d(1, 28)
    plain, moved = transform(image), transform(shifted)
    assert float((image - shifted).norm() / image.norm()) > 0.6
    assert float((plain - moved).norm() / plain.norm()) < 0.1


def test_a_quarter_turn_permutes_the_orientations() -> None:
    """On a black border the turn is exact, once the turned image lies on the same grid of 4."""
    transform = Scattering2d(1, 28).double()
    image = torch.zeros(1, 1, 28, 28, dtype=torch.float64)
    image[..., 6:22, 6:22] = random_images(16, 16)
    plain = transform(image)[0]
    turned = transform(image.rot90(1, (2, 3)).roll(1, 2))[0]
    order1 = [1 + 8 * scale + TURN[a] for scale in range(2) for a in range(8)]
    order2 = [17 + 8 * TURN[a] + TURN[b] for a in range(8) for b in range(8)]
    expected = plain[:, :, 1:].rot90(1, (1, 2))
    # The filters are rounded to float32.
    torch.testing.assert_close(turned[[0, *order1, *order2], 1:], expected, rtol=0, atol=1e-7)


def test_a_wave_is_heard_in_its_own_orientation() -> None:
    """Orientation 3 runs down the rows, orientation 7 along the columns: angles 0 and -90."""
    wave = 0.5 + 0.5 * torch.cos(0.75 * torch.pi * torch.arange(28.0))
    for orientation, image in [(3, wave.view(28, 1)), (7, wave.view(1, 28))]:
        output = Scattering2d(1, 28)(image.expand(1, 1, 28, 28))[0]
        assert int(output[1:9].mean((1, 2)).argmax()) == orientation


def test_colours_are_transformed_one_by_one() -> None:
    images = random_images(2, 3, 30, 30).float()
    output = Scattering2d(3, 30)(images)
    assert output.shape == (2, 243, 7, 7)
    single = Scattering2d(1, 30)
    for colour in range(3):
        expected = single(images[:, colour : colour + 1])
        torch.testing.assert_close(output[:, 81 * colour : 81 * (colour + 1)], expected)


def test_a_batch_is_its_images_and_may_be_empty() -> None:
    transform = Scattering2d(1, 28)
    images = random_images(37, 1, 28, 28).float()  # more than two chunks
    whole = transform(images)
    for number in (0, 15, 16, 36):
        torch.testing.assert_close(transform(images[number : number + 1])[0], whole[number])
    assert transform(images[:0]).shape == (0, 81, 7, 7)


@pytest.mark.parametrize(("size", "side"), [(8, 2), (28, 7), (29, 7), (31, 7), (64, 16)])
def test_sizes(size: int, side: int) -> None:
    transform = Scattering2d(1, size)
    assert transform.side == side
    assert transform(torch.rand(1, 1, size, size)).shape == (1, 81, side, side)


def test_it_has_nothing_to_learn_and_nothing_to_save() -> None:
    transform = Scattering2d(1, 28)
    assert list(transform.parameters()) == []
    assert transform.state_dict() == {}
    assert {buffer.dtype for buffer in transform.buffers()} == {torch.float32}


def test_autocast_leaves_it_alone() -> None:
    transform, images = Scattering2d(1, 28), torch.rand(2, 1, 28, 28)
    expected = transform(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(transform(images), expected)


def test_the_gradient_is_the_slope() -> None:
    transform = Scattering2d(1, 8).double()
    image = random_images(1, 1, 8, 8).requires_grad_()
    assert torch.autograd.gradcheck(transform, image)


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ModelError, match="at least 8x8 pixels, got 7x7"):
        Scattering2d(1, 7)
    with pytest.raises(ModelError, match="built for 28x28 pixels, got images of 28x30"):
        Scattering2d(1, 28)(torch.rand(1, 1, 28, 30))
