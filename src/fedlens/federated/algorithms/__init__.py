"""Federated algorithms by name: one file, one paper."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from fedlens.errors import ConfigError
from fedlens.federated.aggregation import MEAN, Aggregation
from fedlens.federated.algorithm import Algorithm
from fedlens.federated.algorithms.fedavg import FedAvg
from fedlens.federated.algorithms.fedavgm import FedAvgM
from fedlens.federated.algorithms.feddyn import FedDyn
from fedlens.federated.algorithms.fednova import FedNova
from fedlens.federated.algorithms.fedopt import FedAdagrad, FedAdam, FedYogi
from fedlens.federated.algorithms.fedprox import FedProx
from fedlens.federated.algorithms.scaffold import Scaffold

ALGORITHMS: dict[str, type[Algorithm]] = {
    kind.name: kind
    for kind in (
        FedAvg,
        FedProx,
        FedNova,
        Scaffold,
        FedAvgM,
        FedAdagrad,
        FedAdam,
        FedYogi,
        FedDyn,
    )
}

__all__ = [
    "ALGORITHMS",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedDyn",
    "FedNova",
    "FedProx",
    "FedYogi",
    "Scaffold",
    "build_algorithm",
]


def build_algorithm(
    name: str, parameters: Mapping[str, Any], aggregation: Aggregation | None = None
) -> Algorithm:
    """Return the algorithm called ``name`` with its ``parameters`` (``server_lr``, ...).

    Raises:
        ConfigError: there is no such algorithm, it does not take such a parameter, or not such a
            value.
    """
    if name not in ALGORITHMS:
        raise ConfigError(
            f"federation.algorithm is '{name}', expected one of {', '.join(ALGORITHMS)}."
        )
    kind = ALGORITHMS[name]
    defaults = {
        field.name: field.default
        for field in fields(kind)  # type: ignore[arg-type]
        if field.name != "aggregation"
    }
    for key, value in parameters.items():
        if key not in defaults:
            raise ConfigError(
                f"federation.parameters.{key} is not a parameter of {name}, which takes "
                f"{', '.join(defaults)}."
            )
        _check_kind(key, value, defaults[key])
    build: Callable[..., Algorithm] = kind
    return build(**parameters, aggregation=aggregation or MEAN)


def _check_kind(key: str, value: Any, default: Any) -> None:
    """Raise ``ConfigError`` unless ``value`` is of the kind of ``default``."""
    kinds: dict[type, tuple[type | tuple[type, ...], str]] = {
        bool: (bool, "true or false"),
        str: (str, "a word"),
        float: ((int, float), "a number"),
    }
    kind, word = kinds[type(default)]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"federation.parameters.{key} is {value!r}, expected {word}.")
