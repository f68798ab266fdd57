"""Checks that the algorithms' parameters share."""

from fedlens.errors import ConfigError

LARGEST = 1e12


def positive(name: str, value: float) -> None:
    """Raise ``ConfigError`` unless ``value`` is a number above 0, of a size that makes sense."""
    if not (_is_number(value) and 0 < value <= LARGEST):
        raise ConfigError(
            f"federation.parameters.{name} is {value!r}, expected a number above 0 (at most "
            f"{LARGEST:g})."
        )


def at_least_zero(name: str, value: float) -> None:
    """Raise ``ConfigError`` unless ``value`` is a number from 0, of a size that makes sense."""
    if not (_is_number(value) and 0 <= value <= LARGEST):
        raise ConfigError(
            f"federation.parameters.{name} is {value!r}, expected a number from 0 (at most "
            f"{LARGEST:g})."
        )


def below_one(name: str, value: float) -> None:
    """Raise ``ConfigError`` unless ``value`` is in [0, 1)."""
    if not (_is_number(value) and 0 <= value < 1):
        raise ConfigError(f"federation.parameters.{name} is {value}, expected a number in [0, 1).")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
