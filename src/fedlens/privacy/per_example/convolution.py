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


class Windows:
    """What a kernel sees of images at each of T positions, copied out when it is asked for.

    Its I = kh * kw * C numbers are in the order of kernel lines, their taps, and channels.
    """

    def __init__(self, images: Tensor, geometry: Geometry, examples: int) -> None:
        """Look at ``images`` through a kernel.

        Args:
            images: (n K, C, H, W), K views an example; fastest with channels innermost in memory.
            geometry: of the convolution.
            examples: n.
        """
        if any(geometry.padding):
            images = F.pad(images, geometry.padding)
        images = images.permute(0, 2, 3, 1).contiguous()
        rows, height, width, channels = images.shape
        (kh, kw), (sh, sw), (dh, dw) = geometry.kernel, geometry.stride, geometry.dilation
        across, views = (width - dw * (kw - 1) - 1) // sw + 1, rows // examples
        line = width * channels
        # (n, K, H, across, kw, C): of every line of an image, what a line of the kernel sees
        self._lines = images.as_strided(
            (examples, views, height, across, kw, channels),
            (views * height * line, height * line, line, sw * channels, dw * channels, 1),
        )
        # (n, K, down, across, kh, kw, C)
        self._all = self._lines.unfold(2, dh * (kh - 1) + 1, sh)[..., ::dh].movedim(-1, 4)
        self._dilation = dh
        self._short = kw * channels < _SHORT
        self._shared = sh == 1 and views == 1

    def whole(self, examples: slice = slice(None)) -> Tensor:
        """Return (m, T, I)."""
        some = self._all[examples]
        if self._short:
            return some.movedim((4, 5, 6), (1, 2, 3)).flatten(4).flatten(1, 3).mT
        return some.flatten(4).flatten(1, 3)

    def pieces(self, examples: slice) -> list[Tensor]:
        """Return the same cut along I, (m, T, I / kh) each; where lines are long, with less to copy."""
        if self._short:
            return [self.whole(examples)]
        if not self._shared:
            return [line.flatten(4).flatten(1, 3) for line in self._all[examples].unbind(4)]
        # the lines of the kernel see the same lines of the image, one copy of which is enough
        lines, (_, _, down, _, kh, *_) = self._lines[examples].contiguous(), self._all.shape
        first = [line * self._dilation for line in range(kh)]
        return [lines[:, 0, top : top + down].flatten(3).flatten(1, 2) for top in first]


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
