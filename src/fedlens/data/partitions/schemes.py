"""How examples are shared out: one pure function a scheme, of labels or groups and a generator.

Each returns one ascending int64 array of example positions a client. The label-based schemes first
decide *how many* examples of each class a client gets, as a table int64 (K, L), then deal out each
class in random order; so that a retry or a repair works on the small table alone.
"""

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fedlens.data.partitions.describe import Floats, Integers
from fedlens.errors import DataError

ATTEMPTS = 25
"""How often a draw that leaves a client below the minimum is made before it is repaired."""


def iid(examples: int, clients: int, generator: np.random.Generator) -> list[Integers]:
    """Share ``examples`` out at random, sizes differing by at most one (larger ones first)."""
    small, rest = divmod(examples, clients)
    sizes = np.full(clients, small, dtype=np.int64)
    sizes[:rest] += 1
    return _deal(np.zeros(examples, dtype=np.int64), sizes[:, None], generator)


def quantity(
    examples: int, clients: int, alpha: float, generator: np.random.Generator, minimum: int = 1
) -> list[Integers]:
    """Share ``examples`` out at random, the clients' shares drawn from Dir(``alpha``).

    Sizes below ``minimum`` are raised by :func:`top_up`, before the examples are dealt out.
    """
    sizes = _cut(_dirichlet(alpha, clients, generator), examples)[:, None]
    return _deal(np.zeros(examples, dtype=np.int64), top_up(sizes, minimum), generator)


def dirichlet(
    labels: Integers,
    clients: int,
    alpha: float,
    generator: np.random.Generator,
    minimum: int = 1,
) -> list[Integers]:
    """Share each class out over the clients in proportions drawn from Dir(``alpha``).

    The per-class form of Yurochkin et al., "Bayesian nonparametric federated learning of neural
    networks" (2019): independent proportions a class; the examples of the class are shuffled and
    cut at the cumulative proportions, rounded to the nearest example. (Hsu, Qi and Brown, 2019,
    draw a mix of classes for each client instead.) The draw is made once, because making it again
    until every size fits would change its law and need not end; a client below ``minimum`` is
    filled by :func:`top_up`.
    """
    totals = np.bincount(labels)
    shares = [_cut(_dirichlet(alpha, clients, generator), int(total)) for total in totals]
    return _deal(labels, top_up(np.stack(shares, axis=1), minimum), generator)


def dirichlet_balanced(
    labels: Integers,
    clients: int,
    alpha: float,
    generator: np.random.Generator,
    minimum: int = 1,
) -> list[Integers]:
    """Share each class out by Dir(``alpha``) over the clients that hold less than N / K examples.

    The variant in the code of NIID-Bench (Li, Diao, Chen and He, "Federated learning on non-IID
    data silos: an experimental study", 2022): the classes are gone through in order; a client that
    already holds at least N / K examples gets proportion 0 and the others' proportions are
    renormalised. Hence no client holds more than ceil(N / K) - 1 examples plus the size of the
    largest class. The draw is made again, up to ``ATTEMPTS`` times, while a client has fewer than
    ``minimum`` examples; then :func:`top_up` fills it.
    """
    totals = np.bincount(labels)
    table = np.zeros((clients, len(totals)), dtype=np.int64)
    for _ in range(ATTEMPTS):
        table[:] = 0
        sizes = np.zeros(clients, dtype=np.int64)
        for label in np.flatnonzero(totals):
            # A Dirichlet vector restricted to some of its parts and renormalised is a Dirichlet
            # vector of these parts; drawn so, its sum can't vanish when alpha is tiny.
            below = np.flatnonzero(sizes * clients < len(labels))
            shares = _dirichlet(alpha, len(below), generator)
            table[below, label] = _cut(shares, int(totals[label]))
            sizes += table[:, label]
        if sizes.min() >= minimum:
            break
    return _deal(labels, top_up(table, minimum), generator)


def classes(
    labels: Integers,
    clients: int,
    classes_per_client: int,
    generator: np.random.Generator,
    minimum: int = 1,
    drop: bool = False,
) -> list[Integers]:
    """Give every client ``classes_per_client`` classes, each split equally among its holders.

    The "#C = k" setting of NIID-Bench over the P classes that have examples: client i's first class
    is number i mod P, its others are drawn uniformly, without replacement, from the rest. Where
    there are fewer clients than classes, the classes that are nobody's first are dealt to random
    clients before the others are drawn, so that every class has a holder. The shares of a class
    differ by at most one example, the larger going to the lower-numbered holders. The classes are
    drawn again, up to ``ATTEMPTS`` times, while a client has fewer than ``minimum`` examples; if it
    still has, the caller finds a short client: a repair would break the k classes.

    Raises:
        DataError: more classes a client than have examples, or fewer places than classes and
            ``drop`` is not set.
    """
    totals = np.bincount(labels)
    present = np.flatnonzero(totals)
    if classes_per_client > len(present):
        raise DataError(
            f"classes_per_client is {classes_per_client} and the split has examples of "
            f"{len(present)} classes, expected at most that many."
        )
    if clients * classes_per_client < len(present) and not drop:
        raise DataError(
            f"{clients} clients of {classes_per_client} classes each have fewer places than the "
            f"{len(present)} classes of the split; ask for more clients, more classes a client, or "
            "for the rest to be left out (drop=True)."
        )
    table = np.zeros((clients, len(totals)), dtype=np.int64)
    for _ in range(ATTEMPTS):
        held = _draw_classes(clients, len(present), classes_per_client, generator)
        table[:, present] = _equal_shares(held, totals[present])
        if table.sum(axis=1).min() >= minimum:
            break
    return _deal(labels, table, generator)


def class_lists(
    labels: Integers,
    lists: Sequence[Sequence[int]],
    generator: np.random.Generator,
    drop: bool = False,
) -> list[Integers]:
    """Give every client the classes on its list, each split equally among those that list it.

    The shares of a class differ by at most one example, the larger going to the earlier clients. A
    listed class without examples adds nothing.

    Raises:
        DataError: a class with examples is on no list and ``drop`` is not set.
    """
    top = max(int(labels.max()), *(max(listed) for listed in lists))
    totals = np.bincount(labels, minlength=top + 1)
    held = np.zeros((len(lists), top + 1), dtype=np.bool_)
    for client, listed in enumerate(lists):
        held[client, list(listed)] = True
    homeless = np.flatnonzero((totals > 0) & ~held.any(axis=0))
    if len(homeless) > 0 and not drop:
        raise DataError(
            f"No class list has {'class' if len(homeless) == 1 else 'the classes'} "
            f"{', '.join(map(str, homeless))} ({int(totals[homeless].sum()):,} examples); list "
            "them, or ask for them to be left out (drop=True)."
        )
    return _deal(labels, _equal_shares(held, totals), generator)


def group(groups: Integers) -> list[Integers]:
    """Make every distinct group number a client, in ascending order of the numbers."""
    numbers, owners = np.unique(groups, return_inverse=True)
    return _members(owners.astype(np.int64), len(numbers))


def top_up(table: Integers, minimum: int) -> Integers:
    """Return ``table`` (K, L) with examples moved so that every row sums to at least ``minimum``.

    Clients are filled in ascending order. A short client takes what it lacks from the most
    plentiful class of the client that is largest at that moment (the lower number where equal), at
    most so much that the giver keeps ``minimum``, and then goes on to the next. While a client is
    short the largest holds more than ``minimum``, because K * ``minimum`` is at most the number of
    examples: every step moves at least one example, and no giver becomes short.
    """
    sizes = table.sum(axis=1)
    short = np.flatnonzero(sizes < minimum).tolist()
    if not short:
        return table
    table = table.copy()
    largest = [(-int(size), client) for client, size in enumerate(sizes) if size > minimum]
    heapq.heapify(largest)
    for client in short:
        lack = minimum - int(sizes[client])
        while lack > 0:
            size, giver = -largest[0][0], largest[0][1]
            label = int(table[giver].argmax())
            moved = min(lack, int(table[giver, label]), size - minimum)
            table[giver, label] -= moved
            table[client, label] += moved
            lack -= moved
            if size - moved > minimum:
                heapq.heapreplace(largest, (moved - size, giver))
            else:
                heapq.heappop(largest)
    return table


def _dirichlet(alpha: float, clients: int, generator: np.random.Generator) -> Floats:
    # Beyond these the shares are all equal, or all one client's, to far less than one example, and
    # the sampler's sums overflow or vanish.
    return generator.dirichlet(np.full(clients, min(max(alpha, 1e-9), 1e12)))


def _cut(shares: Floats, examples: int) -> Integers:
    """Return int64 (K,) sizes that sum to ``examples``, cut at the rounded cumulative shares."""
    ends = np.rint(np.cumsum(shares) * examples).astype(np.int64)
    ends[-1] = examples
    return np.diff(ends, prepend=0)


def _draw_classes(
    clients: int, classes: int, per_client: int, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Return bool (K, L): which classes a client holds, ``per_client`` in every row."""
    everyone = np.arange(clients)
    # The per_client lowest keys of a row win: the first class, then those dealt, then at random.
    keys = generator.random((clients, classes))
    keys[everyone, everyone % classes] = -2.0
    if clients < classes:
        places = generator.permutation(np.repeat(everyone, per_client - 1))
        unheld = generator.permutation(np.arange(clients, classes))
        dealt = min(len(places), len(unheld))
        keys[places[:dealt], unheld[:dealt]] = -1.0
    held = np.zeros((clients, classes), dtype=np.bool_)
    np.put_along_axis(held, np.argsort(keys, axis=1)[:, :per_client], True, axis=1)
    return held


def _equal_shares(held: npt.NDArray[np.bool_], totals: Integers) -> Integers:
    """Return int64 (K, L): each class's total split equally among the clients that hold it."""
    holders = np.maximum(held.sum(axis=0), 1)
    rank = np.cumsum(held, axis=0) - 1
    shares: Integers = np.where(held, totals // holders + (rank < totals % holders), 0)
    return shares


def _deal(labels: Integers, table: Integers, generator: np.random.Generator) -> list[Integers]:
    """Deal the examples of each class out in random order: ``table[k, l]`` of class l to client k.

    Examples beyond the sum of a column are nobody's.
    """
    clients = np.arange(len(table))
    owners = np.full(len(labels), -1, dtype=np.int64)
    by_class = np.argsort(labels, kind="stable")
    start = 0
    for label, total in enumerate(np.bincount(labels, minlength=table.shape[1])):
        examples = generator.permutation(by_class[start : start + total])
        dealt = np.repeat(clients, table[:, label])
        owners[examples[: len(dealt)]] = dealt
        start += total
    return _members(owners, len(table))


def _members(owners: Integers, clients: int) -> list[Integers]:
    """Return the ascending positions of each client's examples; an owner of -1 is nobody.

    All are views of one array of N positions.
    """
    order = np.argsort(owners, kind="stable").astype(np.int64, copy=False)
    order = order[np.count_nonzero(owners < 0) :]
    ends = np.cumsum(np.bincount(owners[order], minlength=clients))
    return np.split(order, ends[:-1])
