"""Checks that the algorithms' parameters share."""

import math

from fedlens.errors import ConfigError


def positive(name: str, value: float) -> None:
    """Raise ``ConfigError`` unless ``value`` is a finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"federation.parameters.{name} is {value}, expected a number above 0.")


def at_least_zero(name: str, value: float) -> None:
    """Raise ``ConfigError`` unless ``value`` is a finite number from 0."""
    if not (math.isfinite(value) and value >= 0):
        raise ConfigError(f"federation.parameters.{name} is {value}, expected a number from 0.")


def below_one(name: str, value: float) -> None:
    """Raise ``ConfigError`` unless ``value`` is in [0, 1)."""
    if not 0 <= value < 1:
        raise ConfigError(f"federation.parameters.{name} is {value}, expected a number in [0, 1).")
