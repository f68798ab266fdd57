"""Federated algorithms by name: one file, one paper."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

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
    known = {field.name: field for field in fields(kind) if field.init}  # type: ignore[arg-type]
    given = dict(parameters)
    takes_a_rule = known.pop("aggregation", None) is not None
    hints = _hints(kind)
    for key, value in given.items():
        if key not in known:
            what = f"which takes {', '.join(known)}" if known else "which takes none"
            raise ConfigError(f"federation.parameters.{key} is not a parameter of {name}, {what}.")
        _check_kind(key, value, hints.get(key, Any))
    for key, field in known.items():
        if key not in given and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(
                f"federation.parameters.{key} is not set, and {name} has no value of its own for it."
            )
    rule = aggregation or MEAN
    if takes_a_rule:
        given["aggregation"] = rule
    elif rule != MEAN:
        raise ConfigError(
            f"federation.aggregation is not the mean, but {name} takes no rule of aggregation."
        )
    build: Callable[..., Algorithm] = kind
    return build(**given)


def _hints(kind: type[Algorithm]) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except (NameError, TypeError):  # annotations of names that are not there at run time
        return {}


def _check_kind(key: str, value: Any, hint: Any) -> None:
    """Raise ``ConfigError`` unless ``value`` is of a kind that ``hint`` names.

    What is annotated as anything but plain values is left to the algorithm's own checks.
    """
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if all(kind in _KINDS for kind in kinds) and not any(_is(value, kind) for kind in kinds):
        words = " or ".join(_KINDS[kind] for kind in kinds)
        raise ConfigError(f"federation.parameters.{key} is {value!r}, expected {words}.")


_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    NoneType: "none",
}


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
