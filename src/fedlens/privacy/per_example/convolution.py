"""A convolution seen as a product of matrices: its patches and the gradient at its outputs."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

# With fewer numbers than this in a line of a patch, lines of the image are copied instead.
_SHORT = 12


class Geometry(NamedTuple):
    """How a 2-d kernel walks over an image; each pair is (vertical, horizontal), in pixels.

    Attributes:
        kernel: height and width of the kernel.
        stride: step between two patches.
        dilation: step between two taps of a patch.
        padding: zeros on the (left, right, top, bottom).
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]

    @classmethod
    def of(
        cls,
        kernel: tuple[int, int],
        stride: int | tuple[int, ...],
        padding: str | int | tuple[int, ...],
        dilation: int | tuple[int, ...],
    ) -> "Geometry":
        """Return the geometry that ``torch.nn.functional.conv2d`` gives these arguments."""
        spread = _pair(dilation)
        if isinstance(padding, str):
            total = [
                step * (size - 1) if padding == "same" else 0
                for step, size in zip(spread, kernel, strict=True)
            ]
            # An odd number of zeros: PyTorch puts the one more at the right and the bottom.
            top, left = total[0] // 2, total[1] // 2
            sides = (left, total[1] - left, top, total[0] - top)
        else:
            top, left = _pair(padding)
            sides = (left, left, top, top)
        return cls(kernel, _pair(stride), spread, sides)


def patches(images: Tensor, geometry: Geometry) -> Tensor:
    """Return (R, T, kh * kw * C): what the kernel sees of ``images`` at each of T positions.

    Args:
        images: (R, C, H, W); fastest where its channels are innermost in memory.
        geometry: of the convolution.
    """
    if any(geometry.padding):
        images = F.pad(images, geometry.padding)
    images = images.permute(0, 2, 3, 1).contiguous()
    rows, height, width, channels = images.shape
    (kh, kw), (sh, sw), (dh, dw) = geometry.kernel, geometry.stride, geometry.dilation
    down = (height - dh * (kh - 1) - 1) // sh + 1
    across = (width - dw * (kw - 1) - 1) // sw + 1
    line = width * channels
    # Strides of rows, of the walk down and across, and of the taps down, across and in depth.
    walk, taps = (sh * line, sw * channels), (dh * line, dw * channels, 1)
    size, area = (kh, kw, channels), height * line
    if kw * channels < _SHORT:
        shape, strides = (rows, *size, down, across), (area, *taps, *walk)
        return images.as_strided(shape, strides).reshape(rows, -1, down * across).mT
    shape, strides = (rows, down, across, *size), (area, *walk, *taps)
    return images.as_strided(shape, strides).reshape(rows, down * across, -1)


def positions(deltas: Tensor) -> Tensor:
    """Return the gradient (R, O, H, W) at a convolution's outputs as (R, T, O), without a copy.

    A copy is made where neither channels nor pixels are contiguous.
    """
    if deltas.is_contiguous():
        return deltas.flatten(2).mT
    return deltas.permute(0, 2, 3, 1).flatten(1, 2)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1])
