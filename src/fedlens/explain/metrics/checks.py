"""What every metric demands of what it is given, in one sentence where it is not so."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fedlens.errors import ExplanationError


def check_images(images: Tensor) -> None:
    """Raise ``ExplanationError`` where ``images`` are not finite (B, C, H, W) bytes or floats."""
    shape = _shape(images)
    if not isinstance(images, Tensor) or images.dim() != 4 or 0 in images.shape[1:]:
        raise ExplanationError(f"The images are {shape}, expected a tensor (B, C, H, W).")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ExplanationError(f"The images are {images.dtype}, expected uint8 or a float type.")
    if images.is_floating_point() and not bool(torch.isfinite(images).all()):
        raise ExplanationError("The images hold a pixel that is NaN or infinite.")


def check_maps(maps: Tensor, images: Tensor | None = None, what: str = "maps") -> None:
    """Raise ``ExplanationError`` where ``maps`` are not floats (B, H, W), one map for each image."""
    if not isinstance(maps, Tensor) or maps.dim() != 3 or 0 in maps.shape[1:]:
        raise ExplanationError(f"The {what} are {_shape(maps)}, expected a tensor (B, H, W).")
    if not maps.is_floating_point():
        raise ExplanationError(f"The {what} are {maps.dtype}, expected a float type.")
    if images is None:
        return
    wanted = (len(images), *images.shape[2:])
    if tuple(maps.shape) != wanted:
        raise ExplanationError(
            f"The {what} are {_shape(maps)}, expected {wanted}: one for each image, and as large."
        )


def check_pair(first: Tensor, second: Tensor) -> None:
    """Raise ``ExplanationError`` where the two are not maps (B, H, W) of one shape."""
    check_maps(first)
    check_maps(second)
    if first.shape != second.shape:
        raise ExplanationError(
            f"The maps are {_shape(first)} and {_shape(second)}, expected two of one shape."
        )


def check_region(maps: Tensor, region: Tensor) -> None:
    """Raise ``ExplanationError`` where ``region`` is not bool and of the shape of the maps."""
    check_maps(maps)
    if not isinstance(region, Tensor) or region.dtype != torch.bool or region.shape != maps.shape:
        got = f"{region.dtype} {_shape(region)}" if isinstance(region, Tensor) else _shape(region)
        raise ExplanationError(f"The region is {got}, expected bool {_shape(maps)} like the maps.")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ``ExplanationError`` where ``value`` is none of ``choices``."""
    if value not in choices:
        raise ExplanationError(f"{name} is {value!r}, expected one of {', '.join(choices)}.")


def check_share(name: str, value: float) -> None:
    """Raise ``ExplanationError`` where ``value`` is not a share above 0 and at most 1."""
    if not 0 < value <= 1:
        raise ExplanationError(f"{name} is {value!r}, expected a share above 0 and at most 1.")


def check_count(name: str, value: int, least: int = 1, most: int | None = None) -> None:
    """Raise ``ExplanationError`` where ``value`` is not a whole number from ``least`` to ``most``."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        limit = "" if most is None else f" to {most}"
        raise ExplanationError(f"{name} is {value!r}, expected a whole number from {least}{limit}.")


def nan_where_not_finite(values: Tensor, maps: Tensor) -> Tensor:
    """Return ``values`` (B, ...), with NaN for each map of ``maps`` (B, ...) that is not finite."""
    finite = torch.isfinite(maps.flatten(1)).all(1).to(values.device)
    finite = finite.reshape(-1, *(1,) * (values.dim() - 1))
    return torch.where(finite, values, torch.nan)


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
