"""Partitions of a training set over clients: who holds which examples, from one seed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedlens.data.dataset import Split
from fedlens.data.partitions import schemes
from fedlens.data.partitions.describe import Description, Integers
from fedlens.data.partitions.result import Partition
from fedlens.errors import ConfigError, DataError
from fedlens.randomness import Purpose, generator

__all__ = ["OWN_CLIENTS", "SCHEMES", "Description", "Partition", "partition"]

ClassLists = Sequence[Sequence[int]] | Mapping[str, Sequence[int]]

SCHEMES: dict[str, str | None] = {
    "iid": None,
    "dirichlet": "alpha",
    "dirichlet-balanced": "alpha",
    "classes": "classes_per_client",
    "class-lists": "class_lists",
    "quantity": "alpha",
    "group": None,
}
"""Name of each scheme -> the one parameter of its own that it needs, or None."""

OWN_CLIENTS = ("class-lists", "group")
"""The schemes that bring their own clients, so that their number may be left out."""

_ANY_LABELS = ("iid", "quantity", "group")
_REMEDY = {
    "classes": "fewer clients or more classes a client",
    "class-lists": "fewer clients on the same class, or a longer list",
    "group": "such groups to be left out (drop=True)",
}


def partition(
    split: Split,
    scheme: str,
    *,
    clients: int | None = None,
    seed: int = 0,
    classes: int | None = None,
    alpha: float | None = None,
    classes_per_client: int | None = None,
    class_lists: ClassLists | None = None,
    minimum: int = 1,
    drop: bool = False,
    group_names: Sequence[str] = (),
) -> Partition:
    """Share the N examples of ``split`` out to clients; images are not copied.

    The result is a pure function of the arguments. The clients are disjoint, hold at least
    ``minimum`` examples each and, unless ``drop`` is set, every example between them. The schemes
    are described in :mod:`fedlens.data.partitions.schemes`:

    - ``iid``: at random, sizes differing by at most one;
    - ``dirichlet``: each class shared out by Dir(``alpha``) over the clients;
    - ``dirichlet-balanced``: the same, but a client that holds N / ``clients`` gets no more;
    - ``classes``: ``classes_per_client`` classes a client, each split equally among its holders;
    - ``class-lists``: named specialists, each class split equally among those that list it;
    - ``quantity``: sizes by Dir(``alpha``), labels at random;
    - ``group``: the institutions of ``split.groups``.

    Where a draw of the Dirichlet or quantity schemes leaves a client below ``minimum``, the largest
    clients give it examples (:func:`~fedlens.data.partitions.schemes.top_up`).

    Args:
        split: the examples; for multi-label splits only ``iid``, ``quantity`` and ``group``.
        scheme: one of :data:`SCHEMES`.
        clients: number of clients K, at least 1; may be left out for ``class-lists`` and ``group``,
            which bring their own.
        seed: root seed, at least 0.
        classes: number of classes L; the largest label plus one where not given.
        alpha: concentration of the Dirichlet schemes and ``quantity``, finite and above 0.
        classes_per_client: of ``classes``, from 1 to the number of classes that have examples.
        class_lists: of ``class-lists``: one list of class numbers a client, or client name -> list.
        minimum: examples that every client must have, at least 1.
        drop: leave out what cannot be placed (classes that no client may hold; groups smaller than
            ``minimum``), counted in ``Partition.dropped``, where it would be an error.
        group_names: one name a group number, for ``group``.

    Raises:
        ConfigError: a parameter that is missing, impossible, or not the scheme's.
        DataError: the split cannot be shared out as asked.
    """
    own = {"alpha": alpha, "classes_per_client": classes_per_client, "class_lists": class_lists}
    _check_parameters(scheme, own, clients, seed, minimum)
    classes = _check_labels(split, scheme, classes)
    lists: dict[str, list[int]] = {}
    if class_lists is not None:
        lists = _check_lists(class_lists, classes, clients)
        clients = len(lists)
    if clients is not None and scheme != "group":
        _check_enough(len(split), clients, minimum)

    labels, draws = split.labels.numpy(), generator(seed, Purpose.PARTITION)
    if clients is None or scheme == "group":
        parts, names = _groups(split, clients, minimum, drop, group_names)
    else:
        names = list(lists) or [f"client {number}" for number in range(clients)]
        if alpha is not None and scheme == "dirichlet":
            parts = schemes.dirichlet(labels, clients, alpha, draws, minimum)
        elif alpha is not None and scheme == "dirichlet-balanced":
            parts = schemes.dirichlet_balanced(labels, clients, alpha, draws, minimum)
        elif alpha is not None:
            parts = schemes.quantity(len(split), clients, alpha, draws, minimum)
        elif classes_per_client is not None:
            parts = schemes.classes(labels, clients, classes_per_client, draws, minimum, drop)
        elif lists:
            parts = schemes.class_lists(labels, list(lists.values()), draws, drop)
        else:
            parts = schemes.iid(len(split), clients, draws)
    for name, part in zip(names, parts, strict=True):
        if len(part) < minimum:
            raise DataError(
                f"Under the scheme '{scheme}' {name} would hold {len(part):,} examples, below the "
                f"minimum of {minimum:,}; ask for {_REMEDY[scheme]}, or a smaller minimum."
            )

    parameters: dict[str, Any] = {
        "clients": len(parts),
        "seed": seed,
        "minimum": minimum,
        "drop": drop,
    }
    if lists:
        parameters["class_lists"] = lists
    elif (key := SCHEMES[scheme]) is not None:
        parameters[key] = own[key]
    return Partition(
        split=split,
        scheme=scheme,
        parameters=parameters,
        indices=tuple(parts),
        names=tuple(names),
        dropped=len(split) - sum(len(part) for part in parts),
        classes=classes,
    )


def _check_parameters(
    scheme: str, own: dict[str, Any], clients: int | None, seed: int, minimum: int
) -> None:
    if scheme not in SCHEMES:
        raise ConfigError(
            f"There is no partition scheme '{scheme}'; a scheme is one of {', '.join(SCHEMES)}."
        )
    needed = SCHEMES[scheme]
    for key, value in own.items():
        if key == needed and value is None:
            raise ConfigError(f"The partition scheme '{scheme}' needs {key}, which was not given.")
        if key != needed and value is not None:
            takers = [name for name, parameter in SCHEMES.items() if parameter == key]
            raise ConfigError(
                f"The partition scheme '{scheme}' does not take {key}, only {', '.join(takers)} "
                f"{'does' if len(takers) == 1 else 'do'}; leave it out."
            )
    if clients is None and scheme not in OWN_CLIENTS:
        raise ConfigError(f"The partition scheme '{scheme}' needs the number of clients.")
    if clients is not None and clients < 1:
        raise ConfigError(f"A partition over {clients} clients was asked for, expected at least 1.")
    if minimum < 1:
        raise ConfigError(
            f"A minimum of {minimum} examples a client was asked for, expected at least 1."
        )
    if seed < 0:
        raise ConfigError(f"The seed of a partition is {seed}, expected at least 0.")
    alpha, per_client = own["alpha"], own["classes_per_client"]
    if alpha is not None and not (alpha > 0 and math.isfinite(alpha)):
        raise ConfigError(f"alpha is {alpha}, expected a finite number above 0.")
    if per_client is not None and per_client < 1:
        raise ConfigError(f"classes_per_client is {per_client}, expected at least 1.")


def _check_labels(split: Split, scheme: str, classes: int | None) -> int:
    """Return the number of classes L after checking the labels against it and the scheme."""
    labels = split.labels
    if len(split) == 0 or len(labels) != len(split):
        raise DataError(
            f"The split has {len(split):,} images and {len(labels):,} labels, expected as many "
            "labels as images, and at least one."
        )
    if labels.dim() == 2:
        if scheme not in _ANY_LABELS:
            raise DataError(
                f"The partition scheme '{scheme}' needs one class an image and this split has "
                f"{labels.shape[1]} labels an image; use {', '.join(_ANY_LABELS)}."
            )
        if classes is not None and classes != labels.shape[1]:
            raise DataError(
                f"The split has {labels.shape[1]} labels an image, expected classes={classes}."
            )
        return int(labels.shape[1])
    low, high = int(labels.min()), int(labels.max())
    classes = high + 1 if classes is None else classes
    if low < 0 or high >= classes:
        raise DataError(f"The labels run from {low} to {high}, expected 0 to {classes - 1}.")
    return classes


def _check_enough(examples: int, clients: int, minimum: int) -> None:
    if clients * minimum > examples:
        raise DataError(
            f"The split has {examples:,} examples, too few for {clients:,} clients with a minimum "
            f"of {minimum:,} each; ask for fewer clients or a smaller minimum."
        )


def _check_own_clients(clients: int | None, found: int, what: str) -> None:
    if clients is not None and clients != found:
        raise DataError(
            f"{clients:,} clients were asked for and there are {found:,} {what}; leave the number "
            "of clients out or make them equal."
        )


def _check_lists(
    class_lists: ClassLists, classes: int, clients: int | None
) -> dict[str, list[int]]:
    """Return client name -> its classes, after checking both."""
    if not isinstance(class_lists, Mapping):
        class_lists = {f"client {number}": listed for number, listed in enumerate(class_lists)}
    if not class_lists:
        raise ConfigError("class_lists is empty, expected one list of classes a client.")
    _check_own_clients(clients, len(class_lists), "class lists")
    for name, listed in class_lists.items():
        if len(listed) == 0:
            raise ConfigError(f"The class list of {name} is empty, expected at least one class.")
        if len(set(listed)) < len(listed):
            raise ConfigError(f"The class list of {name} names a class twice: {list(listed)}.")
        for label in listed:
            if label not in range(classes):
                raise DataError(
                    f"The class list of {name} has the class {label!r}, expected numbers from 0 "
                    f"to {classes - 1}."
                )
    return {name: [int(label) for label in listed] for name, listed in class_lists.items()}


def _groups(
    split: Split, clients: int | None, minimum: int, drop: bool, group_names: Sequence[str]
) -> tuple[list[Integers], list[str]]:
    if split.groups is None:
        raise DataError(
            "The partition scheme 'group' needs a split with groups and this one has none; import "
            "the images with groups or choose another scheme."
        )
    groups = split.groups.numpy()
    if groups.shape != (len(split),):
        raise DataError(
            f"The split has {len(groups):,} group numbers for {len(split):,} images, expected one "
            "an image."
        )
    parts = schemes.group(groups)
    if drop:
        parts = [part for part in parts if len(part) >= minimum]
    if not parts:
        raise DataError(
            f"No group has the minimum of {minimum:,} examples; ask for a smaller minimum."
        )
    _check_own_clients(clients, len(parts), "groups")
    numbers = [int(groups[part[0]]) for part in parts]
    if not group_names:
        return parts, [f"group {number}" for number in numbers]
    if numbers[0] < 0 or numbers[-1] >= len(group_names):
        raise DataError(
            f"The group numbers run from {numbers[0]} to {numbers[-1]} and there are "
            f"{len(group_names)} group names, expected numbers from 0 to {len(group_names) - 1}."
        )
    return parts, [group_names[number] for number in numbers]
