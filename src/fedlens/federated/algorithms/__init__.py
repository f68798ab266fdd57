"""Federated algorithms by name: one file, one paper."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from fedlens.errors import ConfigError
from fedlens.federated.algorithm import Algorithm
from fedlens.federated.algorithms.fedavg import FedAvg

ALGORITHMS: dict[str, Callable[..., Algorithm]] = {"fedavg": FedAvg}

__all__ = ["ALGORITHMS", "FedAvg", "build_algorithm"]


def build_algorithm(name: str, parameters: Mapping[str, Any]) -> Algorithm:
    """Return the algorithm called ``name`` with its ``parameters`` (``server_lr``, ...).

    Raises:
        ConfigError: there is no such algorithm, or it does not take such a parameter.
    """
    if name not in ALGORITHMS:
        raise ConfigError(
            f"federation.algorithm is '{name}', expected one of {', '.join(ALGORITHMS)}."
        )
    kind = ALGORITHMS[name]
    allowed = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key, value in parameters.items():
        if key not in allowed:
            raise ConfigError(
                f"federation.parameters.{key} is not a parameter of {name}, which takes "
                f"{', '.join(allowed)}."
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"federation.parameters.{key} is {value!r}, expected a number.")
    return kind(**parameters)
