"""A fixed scattering transform: image features that need no training and so cost no privacy.

An image is filtered by Morlet wavelets of 2 scales and 8 orientations, the modulus is taken, the
first scale is filtered once more, and everything is averaged over 4x4 pixels. What is left changes
little when the image is moved or bent a little, and is computed without looking at any data: Bruna
and Mallat, "Invariant Scattering Convolution Networks", 2013, section 2; as features for private
training in Tramer and Boneh, 2021.

The filters, their order and the borders are those of kymatio 0.3 (`Scattering2D(J=2, L=8)`), with
which published results were computed; outputs agree to 3e-7.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedlens.errors import ModelError

SMALLEST_IMAGE = 8
ORIENTATIONS = 8
STRIDE = 4  # 2^J for J = 2 scales
COEFFICIENTS = 1 + 2 * ORIENTATIONS + ORIENTATIONS**2  # 81: orders 0, 1 and 2

BANDWIDTH = 0.8  # standard deviation of the finest wavelet's envelope, in pixels
FREQUENCY = 3 * math.pi / 4  # of the finest wavelet, in radians a pixel
SLANT = 4 / ORIENTATIONS  # across the wave the envelope is 1 / SLANT times as long
PI = 3.1415  # sic: kymatio's constant in the norm of a Gaussian, 3e-5 off, kept for equal outputs
PERIODS = 2  # the filters live on a torus: copies so many periods away still count
CHUNK = 16  # images at a time: their maps stay in the cache


class Scattering2d(nn.Module):
    """The scattering transform of square images, with 2 scales, 8 orientations and orders 0 to 2.

    It has no parameters. Its filters are real in the Fourier domain; they are computed in float64,
    kept in float32 and are no part of ``state_dict``.

    Attributes:
        image_size: height and width H of the images in pixels.
        channels: channels of the output, 81 a colour channel.
        side: height and width h = H // 4 of the output.
        fine: (8, P, P) wavelets of the first scale; P is H with its borders.
        coarse: (8, P, P) wavelets of the second scale, divided by 4 (see :func:`_halve`).
        average_full: (h, P) low-pass filter and subsampling by 4, along one axis.
        average_half: (h, P / 2) the same for maps of half the resolution, by 2.
    """

    fine: Tensor
    coarse: Tensor
    average_full: Tensor
    average_half: Tensor

    def __init__(self, in_channels: int, image_size: int) -> None:
        """Compute the filters.

        Args:
            in_channels: colour channels C of the images; each is transformed by itself.
            image_size: height and width of the images in pixels, at least 8.

        Raises:
            ModelError: the image is too small for two scales of wavelets.
        """
        super().__init__()
        if image_size < SMALLEST_IMAGE:
            raise ModelError(
                f"The scattering transform needs images of at least {SMALLEST_IMAGE}x"
                f"{SMALLEST_IMAGE} pixels, got {image_size}x{image_size}; import the images with a "
                "larger --size."
            )
        self.image_size = image_size
        self.channels = COEFFICIENTS * in_channels
        self.side = image_size // STRIDE
        # Whole strides, with a border of at least half a stride that `average_*` drops again.
        padded = (self.side + 2) * STRIDE
        before = (padded - image_size) // 2
        self._border = (before, padded - image_size - before) * 2
        angles = [(3 - turn) * math.pi / ORIENTATIONS for turn in range(ORIENTATIONS)]
        filters = {
            "fine": torch.stack([_morlet(padded, 0, angle) for angle in angles]),
            "coarse": torch.stack([_morlet(padded, 1, angle) for angle in angles]) / 4,
            "average_full": _average(padded, 0),
            "average_half": _average(padded, 1),
        }
        for name, values in filters.items():
            self.register_buffer(name, values.to(torch.float32), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the coefficients (N, 81 C, h, h) of float images (N, C, H, H), h = H // 4.

        For each colour channel: order 0 (1 map), order 1 (first scale, then second, 8 orientations
        each), order 2 (64 maps: first scale at orientation a, then second scale at orientation b,
        at place 8 a + b). The dtype is the filters'. For images in [0, 1] order 0 is in [0, 1.0001].
        Two images come no further apart than they were.

        Raises:
            ModelError: the images have another size than the transform was built for.
        """
        count, colours, height, width = images.shape
        if (height, width) != (self.image_size, self.image_size):
            raise ModelError(
                f"The scattering transform was built for {self.image_size}x{self.image_size} "
                f"pixels, got images of {height}x{width}."
            )
        if count == 0:  # which the Fourier transform refuses
            return self.fine.new_zeros(0, COEFFICIENTS * colours, self.side, self.side)
        # Autocast would do the averages, and nothing else, in half precision.
        with torch.autocast(images.device.type, enabled=False):
            planes = images.to(self.fine.dtype).flatten(0, 1)
            chunks = [self._transform(part) for part in planes.split(CHUNK)]
            return torch.cat(chunks).view(count, -1, self.side, self.side)

    def _transform(self, planes: Tensor) -> Tensor:
        """Return (N, 81, h, h) of planes (N, H, H)."""
        padded = F.pad(planes.unsqueeze(1), self._border, mode="reflect")
        spectrum = torch.fft.fft2(padded)
        first = torch.fft.ifft2(spectrum * self.fine).abs()
        second = torch.fft.ifft2(_halve(spectrum * self.coarse)).abs()
        spectra = torch.fft.fft2(first).unsqueeze(2)
        twice = torch.fft.ifft2(_halve(spectra * self.coarse)).abs()
        return torch.cat(
            [
                _averaged(padded, self.average_full),
                _averaged(first, self.average_full),
                _averaged(second, self.average_half),
                _averaged(twice.flatten(1, 2), self.average_half),
            ],
            dim=1,
        )


def _halve(spectra: Tensor) -> Tensor:
    """Return the spectra (..., P/2, P/2) of every second pixel, times 4, of spectra (..., P, P).

    Taking every second pixel adds up the frequencies that it cannot tell apart: the aliases.
    """
    half = spectra.shape[-1] // 2
    rows = spectra[..., :half, :] + spectra[..., half:, :]
    return rows[..., :half] + rows[..., half:]


def _averaged(maps: Tensor, average: Tensor) -> Tensor:
    """Return ``average`` applied along both axes: maps (..., P, P) become (..., h, h)."""
    across = F.linear(maps, average)
    return F.linear(across.transpose(-1, -2), average).transpose(-1, -2)


def _coordinates(size: int) -> Tensor:
    """Return float64 (5 size,), the coordinates of a torus's pixels and of their copies."""
    return torch.arange(-PERIODS * size, (PERIODS + 1) * size, dtype=torch.float64)


def _morlet(size: int, scale: int, angle: float) -> Tensor:
    """Return the Fourier transform, float64 (size, size), of a Morlet wavelet on a torus.

    A wave e^(i w u) under a Gaussian envelope g, made blind to constants: g(u) (e^(i w u) - b) with
    b such that the sum is zero (Bruna and Mallat, 2013, section 2).

    Args:
        size: height and width of the torus in pixels.
        scale: 0 for the finest wavelet; each further one is twice as wide.
        angle: direction in which the wave runs, in radians from the first axis to the second.
    """
    sigma = BANDWIDTH * 2**scale
    place = _coordinates(size)
    rows, columns = torch.meshgrid(place, place, indexing="ij")
    along = math.cos(angle) * rows + math.sin(angle) * columns
    across = math.cos(angle) * columns - math.sin(angle) * rows
    envelope = torch.exp(-(along.square() + (SLANT * across).square()) / (2 * sigma**2))
    envelope = envelope * SLANT / (2 * PI * sigma**2)
    wave = envelope * torch.exp(1j * FREQUENCY / 2**scale * along)
    envelope, wave = (
        values.view(2 * PERIODS + 1, size, 2 * PERIODS + 1, size).sum((0, 2))
        for values in (envelope, wave)
    )
    wavelet = wave - envelope * (wave.sum() / envelope.sum())
    # w(-u) is the conjugate of w(u), so that the transform has no imaginary part.
    transform: Tensor = torch.fft.fft2(wavelet).real
    return transform


def _average(size: int, halvings: int) -> Tensor:
    """Return float64 (h, size / 2^halvings), a Gaussian average taken at every fourth pixel.

    The two-dimensional low-pass filter of the transform is this one along each axis, since a
    Gaussian is a product. Places in the border have no row.

    Args:
        size: length of the padded axis in pixels.
        halvings: how often the axis has been subsampled by 2 already, 0 or 1.
    """
    sigma = BANDWIDTH * STRIDE / 2
    kernel = torch.exp(-_coordinates(size).square() / (2 * sigma**2))
    kernel = kernel.view(-1, size).sum(0) / math.sqrt(2 * PI * sigma**2)
    spectrum = torch.fft.fft(kernel).real
    length = size >> halvings
    low = torch.cat([spectrum[: length // 2], spectrum[size - length // 2 :]])
    kernel = torch.fft.ifft(low).real
    stride = STRIDE >> halvings
    outputs = torch.arange(1, size // STRIDE - 1).unsqueeze(1) * stride
    matrix: Tensor = kernel[(outputs - torch.arange(length)) % length]
    return matrix
