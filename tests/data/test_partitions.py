import gzip
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from fedlens.data.client import label_counts
from fedlens.data.dataset import Split
from fedlens.data.partitions import SCHEMES, partition, schemes
from fedlens.errors import ConfigError, DataError

MINIMUM_KEEPING = ("iid", "dirichlet", "dirichlet-balanced", "quantity")


def make_split(labels, groups=None) -> Split:
    labels = torch.as_tensor(labels, dtype=torch.uint8 if np.ndim(labels) == 2 else torch.int64)
    images = torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8)
    return Split(images, labels, None if groups is None else torch.as_tensor(groups))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def assert_disjoint(parts, examples: int) -> np.ndarray:
    held = np.concatenate(parts)
    assert len(np.unique(held)) == len(held)
    assert held.min() >= 0 and held.max() < examples
    for part in parts:
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    return held


def assert_exhaustive(parts, examples: int) -> None:
    assert len(assert_disjoint(parts, examples)) == examples


def table_of(parts, labels) -> np.ndarray:
    labels = np.asarray(labels)
    return np.stack([np.bincount(labels[part], minlength=labels.max() + 1) for part in parts])


@st.composite
def label_sets(draw) -> np.ndarray:
    """Any order, any imbalance, classes without examples."""
    counts = draw(st.lists(st.one_of(st.just(0), st.integers(1, 60)), min_size=1, max_size=12))
    if sum(counts) == 0:
        counts[-1] = draw(st.integers(1, 60))
    return rng(draw(st.integers(0, 99))).permutation(np.repeat(np.arange(len(counts)), counts))


ALPHAS = st.floats(math.log(1e-3), math.log(1e3)).map(math.exp)
SEEDS = st.integers(0, 2**32)


def sized(data, labels) -> tuple[int, int]:
    """Clients and a minimum that the examples suffice for."""
    clients = data.draw(st.integers(1, min(len(labels), 120)))
    minimum = data.draw(st.integers(1, len(labels) // clients))
    return clients, minimum


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), labels=label_sets(), alpha=ALPHAS, seed=SEEDS)
@pytest.mark.parametrize("scheme", MINIMUM_KEEPING)
def test_every_example_has_one_client_and_every_client_the_minimum(
    scheme, data, labels, alpha, seed
):
    clients, minimum = sized(data, labels)
    own = {} if SCHEMES[scheme] is None else {"alpha": alpha}
    arguments = {"clients": clients, "minimum": minimum, "seed": seed, **own}
    made = partition(make_split(labels), scheme, **arguments)

    assert len(made) == clients
    assert made.dropped == 0
    assert_exhaustive(made.indices, len(labels))
    assert min(len(client) for client in made) >= minimum
    assert (made.label_counts() == table_of(made.indices, labels)).all()

    np.random.seed(seed % 1000)  # noqa: NPY002 - the global state must not matter
    again = partition(make_split(labels), scheme, **arguments)
    assert all((a == b).all() for a, b in zip(made.indices, again.indices, strict=True))


@settings(max_examples=120, deadline=None)
@given(data=st.data(), labels=label_sets(), seed=SEEDS)
def test_classes_keeps_its_rule_or_says_why_it_cannot(data, labels, seed):
    present = np.unique(labels)
    clients = data.draw(st.integers(1, min(len(labels), 40)))
    k = data.draw(st.integers(1, len(present)))
    minimum = data.draw(st.integers(1, max(1, len(labels) // clients)))
    drop = data.draw(st.booleans())
    split = make_split(labels)
    arguments = {"clients": clients, "classes_per_client": k, "minimum": minimum, "seed": seed}
    try:
        made = partition(split, "classes", **arguments, drop=drop)
    except DataError as error:
        short = "would hold" in str(error)
        assert short or (not drop and clients * k < len(present))
        return

    held = assert_disjoint(made.indices, len(labels))
    table = table_of(made.indices, labels)
    covered = table.sum(axis=0) > 0
    assert made.dropped == len(labels) - len(held)
    assert covered.sum() == min(len(present), clients * k)
    assert made.dropped == 0 or drop
    assert (np.bincount(labels)[covered] == table.sum(axis=0)[covered]).all()
    assert ((table > 0).sum(axis=1) <= k).all()
    assert (table.sum(axis=1) >= minimum).all()
    again = partition(split, "classes", **arguments, drop=drop)
    assert all((a == b).all() for a, b in zip(made.indices, again.indices, strict=True))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), labels=label_sets(), seed=SEEDS)
def test_class_lists_place_every_listed_class_and_drop_only_the_rest(data, labels, seed):
    numbers = st.integers(0, int(labels.max()))
    lists = data.draw(
        st.lists(st.lists(numbers, min_size=1, unique=True), min_size=1, max_size=8),
    )
    parts = schemes.class_lists(labels, lists, rng(seed), drop=True)
    table, totals = table_of(parts, labels), np.bincount(labels)
    if table.any():
        assert_disjoint(parts, len(labels))
    for label, total in enumerate(totals):
        holders = [client for client, listed in enumerate(lists) if label in listed]
        assert table[:, label].sum() == (total if holders else 0)
        if holders:
            assert np.ptp(table[holders, label]) <= 1


def test_classes_by_hand():
    # 2 classes, 4 clients, 1 class each: clients 0 and 2 split class 0's 5 examples 3 to 2,
    # clients 1 and 3 split class 1's 4 examples 2 to 2.
    labels = [0, 1, 0, 1, 0, 1, 0, 1, 0]
    made = partition(make_split(labels), "classes", clients=4, classes_per_client=1, seed=1)
    assert made.label_counts().tolist() == [[3, 0], [0, 2], [2, 0], [0, 2]]
    assert made.names == ("client 0", "client 1", "client 2", "client 3")
    # 3 classes of 6, 3 clients, all 3 classes each: every client gets 2 of each.
    made = partition(make_split([0, 1, 2] * 6), "classes", clients=3, classes_per_client=3)
    assert made.label_counts().tolist() == [[2, 2, 2]] * 3
    # Class 1 has no examples: the first classes go round over 0 and 2.
    made = partition(make_split([0, 0, 2, 2, 2]), "classes", clients=3, classes_per_client=1)
    assert made.label_counts().tolist() == [[1, 0, 0], [0, 0, 3], [1, 0, 0]]


def test_classes_first_is_client_modulo_classes_and_the_others_are_uniform():
    labels = np.repeat(np.arange(5), 20_000)
    clients = 10_000
    table = table_of(schemes.classes(labels, clients, 3, rng(3)), labels)
    held = table > 0
    assert (held.sum(axis=1) == 3).all()
    assert held[np.arange(clients), np.arange(clients) % 5].all()
    for label in range(5):
        column = table[held[:, label], label]
        assert np.ptp(column) <= 1
    # Each of the 4 other classes is drawn with probability 2/4; 2,000 clients a first class.
    others = held.reshape(-1, 5, 5).sum(axis=0)
    expected, sd = 1000, math.sqrt(2000 * 0.25)
    off_diagonal = others[~np.eye(5, dtype=bool)]
    assert (abs(off_diagonal - expected) < 5 * sd).all()


@pytest.mark.parametrize("seed", range(30))
def test_fewer_clients_than_classes_still_cover_every_class(seed):
    labels = np.repeat(np.arange(10), 30)
    parts = schemes.classes(labels, 4, 3, rng(seed))
    assert_exhaustive(parts, 300)
    assert ((table_of(parts, labels) > 0).sum(axis=1) == 3).all()
    # With just as many places as classes, each class has one holder.
    parts = schemes.classes(labels, 5, 2, rng(seed))
    assert ((table_of(parts, labels) > 0).sum(axis=0) == 1).all()


def test_named_specialists_by_hand():
    # T-shirt 0, Dress 3, Sandal 5, Sneaker 7, Ankle boot 9; 6, 4, 5, 2 and 3 examples.
    labels = np.repeat([0, 3, 5, 7, 9], [6, 4, 5, 2, 3])
    lists = {
        "footwear retailer": [5, 7, 9],
        "T-shirt and Dress shop": [0, 3],
        "department store": [0, 5],
    }
    made = partition(make_split(labels), "class-lists", class_lists=lists, classes=10)
    assert made.names == tuple(lists)
    assert [client.name for client in made] == list(lists)
    counts = made.label_counts()
    assert counts.shape == (3, 10)
    # Columns 0, 3, 5, 7, 9: class 0 is split 3 to 3, class 5 splits 3 to 2.
    assert counts[:, [0, 3, 5, 7, 9]].tolist() == [
        [0, 0, 3, 2, 3],
        [3, 4, 0, 0, 0],
        [3, 0, 2, 0, 0],
    ]
    assert made.dropped == 0
    assert made.parameters["class_lists"] == lists

    del lists["T-shirt and Dress shop"]
    with pytest.raises(DataError, match=r"No class list has class 3 \(4 examples\)"):
        partition(make_split(labels), "class-lists", class_lists=lists)
    made = partition(make_split(labels), "class-lists", class_lists=lists, drop=True)
    assert made.dropped == 4
    assert not (labels[np.concatenate(made.indices)] == 3).any()


def test_top_up_by_hand():
    # Client 1 lacks 2: the largest is client 0 (9), whose most plentiful class is 1.
    # Client 3 lacks 1: now clients 0 and 2 have 7 and 8, so client 2 gives of its class 0.
    table = np.array([[4, 5], [0, 1], [8, 0], [0, 2]])
    assert schemes.top_up(table, 3).tolist() == [[4, 3], [0, 3], [7, 0], [1, 2]]
    assert table[0].tolist() == [4, 5]
    # Exactly enough: nobody is left above the minimum.
    assert schemes.top_up(np.array([[3, 3], [0, 0], [0, 0]]), 2).sum(axis=1).tolist() == [2, 2, 2]


def test_iid_sizes_and_label_variance():
    labels = np.repeat(np.arange(4), [100, 200, 300, 403])
    repeats, clients = 1500, 10
    counts = np.zeros((repeats, clients, 4))
    generator = rng(11)
    for repeat in range(repeats):
        parts = schemes.iid(len(labels), clients, generator)
        assert sorted({len(part) for part in parts}) == [100, 101]
        counts[repeat] = table_of(parts, labels)
    for label, total in enumerate([100, 200, 300, 403]):
        law = stats.hypergeom(len(labels), total, 100)  # clients 3 to 9 hold 100
        values = counts[:, 9, label]
        mean_error = law.std() / math.sqrt(repeats)
        # The law is close to normal: the variance of a sample variance is 2 s^4 / n.
        variance_error = law.var() * math.sqrt(2 / repeats)
        assert abs(values.mean() - law.mean()) < 5 * mean_error
        assert abs(values.var() - law.var()) < 5 * variance_error


@pytest.mark.parametrize("alpha", [0.05, 0.5, 5.0])
def test_dirichlet_shares_have_the_moments_of_a_dirichlet(alpha):
    classes, each, clients = 800, 400, 5
    labels = np.repeat(np.arange(classes), each)
    parts = schemes.dirichlet(labels, clients, alpha, rng(5), minimum=0)
    shares = table_of(parts, labels) / each  # 800 independent vectors of 5
    variance = (1 / clients) * (1 - 1 / clients) / (clients * alpha + 1)
    # A share is Beta(alpha, (K - 1) alpha); its fourth moment gives the error of a sample variance.
    # Rounding to an example moves a share by at most 1/400, which is added.
    law = stats.beta(alpha, (clients - 1) * alpha)
    assert law.var() == pytest.approx(variance)
    fourth = (float(law.stats("k")) + 3) * variance**2
    mean_error = math.sqrt(variance / classes)
    variance_error = math.sqrt((fourth - variance**2) / classes)
    for client in range(clients):
        assert abs(shares[client].mean() - 1 / clients) < 5 * mean_error + 1 / each
        assert abs(shares[client].var() - variance) < 5 * variance_error + 1 / each**2


def test_dirichlet_shuffles_the_examples_of_a_class():
    # Position and label must not be tied: the first client's share of a class is spread over it.
    parts = schemes.dirichlet(np.zeros(10_000, dtype=np.int64), 2, 1e6, rng(2))
    standard_error = 10_000 / math.sqrt(12) / math.sqrt(5000)
    assert abs(parts[0].mean() - 5000) < 5 * standard_error


@pytest.mark.parametrize("scheme", ["dirichlet", "dirichlet-balanced"])
def test_alpha_sets_how_uneven_the_labels_are(scheme):
    split = make_split(np.tile(np.arange(10), 2000))
    even = partition(split, scheme, clients=10, alpha=1e6, seed=1).describe()
    assert even.total_variation.max() < 0.02
    assert even.effective_classes.min() > 9.9
    uneven = partition(split, scheme, clients=100, alpha=1e-3, seed=1).describe()
    assert uneven.effective_classes.mean() < 1.3
    middle = partition(split, scheme, clients=10, alpha=0.5, seed=1).describe()
    assert 0.1 < middle.total_variation.mean() < 0.7


@pytest.mark.parametrize("alpha", [5e-324, 1e-300, 1e-12, 1e12, 1e300, 1.7e308])
@pytest.mark.parametrize("scheme", ["dirichlet", "dirichlet-balanced", "quantity"])
def test_extreme_alphas_terminate_and_honour_the_minimum(scheme, alpha):
    labels = np.tile(np.arange(10), 300)
    made = partition(make_split(labels), scheme, clients=100, alpha=alpha, minimum=5)
    assert_exhaustive(made.indices, 3000)
    sizes = made.describe().sizes
    assert sizes.min() >= 5
    if alpha > 1 and scheme != "dirichlet-balanced":
        assert np.ptp(sizes) <= 10  # at most one rounded example a class


@settings(max_examples=100, deadline=None)
@given(data=st.data(), labels=label_sets(), alpha=ALPHAS, seed=SEEDS)
def test_balanced_gives_nothing_to_a_full_client(data, labels, alpha, seed):
    clients = data.draw(st.integers(1, min(len(labels), 60)))
    # minimum=0: the bare rule, without repair.
    parts = schemes.dirichlet_balanced(labels, clients, alpha, rng(seed), minimum=0)
    assert_exhaustive([part for part in parts if len(part)], len(labels))
    table = table_of(parts, labels)
    before = np.cumsum(table, axis=1) - table
    full = before >= len(labels) / clients
    assert (table[full] == 0).all()

    # A client's last class came while it held less than N / K, so at most ceil(N / K) - 1, and
    # brought at most the whole class. Filling clients to a minimum (at most N / K) keeps it.
    bound = math.ceil(len(labels) / clients) - 1 + int(np.bincount(labels).max())
    assert table.sum(axis=1).max() <= bound
    minimum = len(labels) // clients
    topped = schemes.dirichlet_balanced(labels, clients, alpha, rng(seed), minimum=minimum)
    assert minimum <= min(map(len, topped)) and max(map(len, topped)) <= bound


@pytest.mark.parametrize("seed", range(10))
def test_balanced_by_hand(seed):
    # N / K is exactly 1: whoever gets an example is full, so that all four get one, by any draw.
    parts = schemes.dirichlet_balanced(np.arange(4), 4, 0.1, rng(seed), minimum=0)
    assert [len(part) for part in parts] == [1, 1, 1, 1]


def test_balanced_follows_the_law_of_the_published_rule():
    # The rule in its own words, proportions of all clients masked and renormalised, against the
    # Dirichlet over the remaining clients that the scheme draws: same mean table of sorted sizes.
    clients, classes, each, repeats = 4, 3, 200, 1500
    labels = np.repeat(np.arange(classes), each)
    ours, published = np.zeros((2, repeats, clients))
    generator, other = rng(8), rng(9)
    for repeat in range(repeats):
        parts = schemes.dirichlet_balanced(labels, clients, 0.5, generator, minimum=0)
        ours[repeat] = sorted(map(len, parts))
        sizes = np.zeros(clients)
        for _ in range(classes):
            proportions = other.dirichlet([0.5] * clients) * (sizes < len(labels) / clients)
            sizes += each * proportions / proportions.sum()
        published[repeat] = np.sort(sizes)
    error = np.sqrt((ours.var(axis=0) + published.var(axis=0)) / repeats)
    # Rounding shifts a size by at most half an example a cut, on average by far less than one.
    assert (abs(ours.mean(axis=0) - published.mean(axis=0)) < 5 * error + 0.5).all()


def test_balanced_redraws_before_it_repairs():
    # Four clients of 50 examples on average: a third of the draws leave one below 10. Redrawing
    # gives sizes of the law, rarely exactly 10; repairs alone would make every third draw 10.
    labels = np.repeat([0, 1], 100)
    bare, kept = (
        np.array(
            [
                min(map(len, schemes.dirichlet_balanced(labels, 4, 0.5, rng(seed), minimum=least)))
                for seed in range(300)
            ]
        )
        for least in (0, 10)
    )
    assert (bare < 10).mean() > 0.2
    assert kept.min() >= 10
    assert (kept == 10).mean() < 0.1
    good = bare >= 10
    assert (kept[good] == bare[good]).all()


def test_quantity_skews_sizes_and_leaves_labels_alone():
    split = make_split(np.repeat(np.arange(10), 2000))
    description = partition(split, "quantity", clients=5, alpha=1.0, seed=3).describe()
    assert np.ptp(description.sizes) > 1000
    # Expected TV of an IID sample of n from 10 equal classes: about 10/2 sqrt(2/pi . .09/n).
    for size, variation in zip(description.sizes, description.total_variation, strict=True):
        assert variation < 2 * 5 * math.sqrt(2 / math.pi * 0.09 / size)
    generator = rng(4)
    sizes = np.array(
        [[len(part) for part in schemes.quantity(600, 3, 0.5, generator, 0)] for _ in range(2000)]
    )
    variance = 600**2 * (1 / 3) * (2 / 3) / (3 * 0.5 + 1)
    assert abs(sizes.mean(axis=0) - 200).max() < 5 * math.sqrt(variance / 2000)
    assert abs(sizes.var(axis=0) / variance - 1).max() < 0.1  # five standard errors, flat law


def test_group_makes_the_institutions_clients():
    split = make_split([0, 1, 0, 1, 0, 1], groups=[7, 2, 7, 2, 2, 4])
    made = partition(split, "group")
    assert [part.tolist() for part in made.indices] == [[1, 3, 4], [5], [0, 2]]
    assert made.names == ("group 2", "group 4", "group 7")
    names = [f"hospital {letter}" for letter in "abcdefgh"]
    made = partition(split, "group", clients=3, group_names=names)
    assert made.names == ("hospital c", "hospital e", "hospital h")
    with pytest.raises(DataError, match="group 4 would hold 1 examples"):
        partition(split, "group", minimum=2)
    made = partition(split, "group", minimum=2, drop=True)
    assert made.names == ("group 2", "group 7") and made.dropped == 1
    for arguments, message in (
        ({"clients": 2}, "there are 3 groups"),
        ({"group_names": ["a"]}, "expected numbers from 0 to 0"),
        ({"minimum": 9, "drop": True}, "No group has the minimum of 9"),
    ):
        with pytest.raises(DataError, match=message):
            partition(split, "group", **arguments)
    with pytest.raises(DataError, match="this one has none"):
        partition(make_split([0, 1]), "group")


def test_multilabel_splits():
    labels = rng(1).integers(0, 2, (60, 3)).astype(np.uint8)
    split = make_split(labels, groups=np.arange(60) % 4)
    for scheme, own in (("iid", {}), ("quantity", {"alpha": 1.0}), ("group", {})):
        made = partition(split, scheme, clients=4, **own)
        assert_exhaustive(made.indices, 60)
        expected = [labels[part].astype(int).sum(axis=0) for part in made.indices]
        assert (made.label_counts() == expected).all()
    for scheme in ("dirichlet", "dirichlet-balanced", "classes", "class-lists"):
        own = {"alpha": 1.0, "classes_per_client": 1, "class_lists": [[0]]}
        key = SCHEMES[scheme]
        with pytest.raises(DataError, match="needs one class an image and this split has 3"):
            partition(split, scheme, clients=1, **{key: own[key]})


def test_clients_share_the_images_and_keep_their_order():
    split = make_split([0, 1, 2, 0, 1, 2])
    made = partition(split, "iid", clients=2, seed=4)
    assert made[1] is made[-1] and [c.name for c in made[:1]] == ["client 0"]
    for client, part in zip(made, made.indices, strict=True):
        assert client.inputs.data_ptr() == split.images.data_ptr()
        assert client.indices is not None and client.indices.dtype == torch.int64
        assert client.indices.tolist() == part.tolist()
    assert (label_counts(made, 3).numpy() == made.label_counts()).all()
    with pytest.raises(IndexError):
        made[2]


def test_seeds_differ_and_trailing_classes_do_not_matter():
    split = make_split(np.tile(np.arange(5), 40))
    first, same, other = (
        partition(split, "dirichlet", clients=4, alpha=1.0, seed=seed, classes=classes).indices
        for seed, classes in ((1, None), (1, 9), (2, None))
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    made = partition(split, "dirichlet", clients=4, alpha=1.0, seed=1)
    again = partition(split, made.scheme, **made.parameters)
    assert all(np.array_equal(a, b) for a, b in zip(first, again.indices, strict=True))


def test_description_by_hand():
    # Client 0 holds 2 of class 0; client 1 holds 1 of class 0 and 3 of class 1; the whole 3 and 3.
    split = make_split([0, 0, 0, 1, 1, 1], groups=[0, 0, 1, 1, 1, 1])
    description = partition(split, "group").describe(["cat", "dog"])
    assert description.sizes.tolist() == [2, 4]
    assert description.label_counts.tolist() == [[2, 0], [1, 3]]
    assert description.whole.tolist() == [3, 3]
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert description.effective_classes == pytest.approx([1.0, math.exp(entropy)])
    assert description.total_variation == pytest.approx([0.5, 0.25])
    content = json.loads(json.dumps(description.to_json(), allow_nan=False))
    assert content["class_names"] == ["cat", "dog"]
    assert content["clients"][0] == {
        "name": "group 0",
        "size": 2,
        "label_counts": [2, 0],
        "effective_classes": 1.0,
        "total_variation": 0.5,
    }
    with pytest.raises(DataError, match="3 class names"):
        partition(split, "group").describe(["a", "b", "c"])


def test_description_of_a_client_without_positive_labels():
    split = make_split(np.array([[0, 0], [0, 0], [1, 1]]), groups=[0, 0, 1])
    description = partition(split, "group").describe()
    assert description.effective_classes == pytest.approx([0.0, 2.0])
    assert np.isnan(description.total_variation[0]) and description.total_variation[1] == 0
    assert description.to_json()["clients"][0]["total_variation"] is None


LABELS = [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("scheme", "arguments", "error", "message"),
    [
        ("shards", {"clients": 2}, ConfigError, "no partition scheme 'shards'; .*class-lists"),
        ("iid", {}, ConfigError, "'iid' needs the number of clients"),
        ("iid", {"clients": 0}, ConfigError, "over 0 clients"),
        ("iid", {"clients": 2, "minimum": 0}, ConfigError, "minimum of 0"),
        ("iid", {"clients": 2, "seed": -1}, ConfigError, "seed of a partition is -1"),
        ("iid", {"clients": 2, "alpha": 1.0}, ConfigError, "'iid' does not take alpha"),
        ("iid", {"clients": 7}, DataError, "6 examples, too few for 7 clients"),
        ("iid", {"clients": 3, "minimum": 3}, DataError, "3 clients with a minimum of 3"),
        ("iid", {"clients": 2, "classes": 2}, DataError, "run from 0 to 2, expected 0 to 1"),
        ("dirichlet", {"clients": 2}, ConfigError, "'dirichlet' needs alpha"),
        ("dirichlet", {"clients": 2, "alpha": 0.0}, ConfigError, "alpha is 0.0"),
        ("dirichlet", {"clients": 2, "alpha": -1.0}, ConfigError, "finite number above 0"),
        ("quantity", {"clients": 2, "alpha": math.nan}, ConfigError, "alpha is nan"),
        ("dirichlet-balanced", {"clients": 2, "alpha": math.inf}, ConfigError, "alpha is inf"),
        ("classes", {"clients": 3}, ConfigError, "needs classes_per_client"),
        ("classes", {"clients": 3, "classes_per_client": 0}, ConfigError, "is 0, expected at"),
        ("classes", {"clients": 3, "classes_per_client": 4}, DataError, "examples of 3 classes"),
        ("classes", {"clients": 2, "classes_per_client": 1}, DataError, "fewer places than the 3"),
        (
            "classes",
            {"clients": 3, "classes_per_client": 1, "alpha": 1.0},
            ConfigError,
            "only dirichlet, dirichlet-balanced, quantity do;",
        ),
        ("class-lists", {}, ConfigError, "needs class_lists"),
        ("class-lists", {"class_lists": []}, ConfigError, "class_lists is empty"),
        ("class-lists", {"class_lists": {"shoes": []}}, ConfigError, "list of shoes is empty"),
        ("class-lists", {"class_lists": [[0, 1, 1, 2]]}, ConfigError, "names a class twice"),
        ("class-lists", {"class_lists": [[0, 1, 3]]}, DataError, "class 3, expected .* 0 to 2"),
        ("class-lists", {"class_lists": [["Bag"]]}, DataError, "class 'Bag', expected"),
        ("class-lists", {"class_lists": [[0], [1]]}, DataError, "No class list has class 2"),
        ("class-lists", {"class_lists": [[0]]}, DataError, "has the classes 1, 2"),
        ("class-lists", {"class_lists": [[0, 1, 2]], "clients": 2}, DataError, "there are 1 cl"),
        (
            "class-lists",
            {"class_lists": {"a": [0, 1, 2], "b": [3]}, "classes": 4},
            DataError,
            "b would hold 0 examples",
        ),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(scheme, arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        partition(make_split(LABELS), scheme, **arguments)
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text


def test_broken_splits_are_refused():
    with pytest.raises(DataError, match="labels run from -1 to 2"):
        partition(make_split([-1, 2]), "iid", clients=1)
    with pytest.raises(DataError, match="at least one"):
        partition(make_split([]), "iid", clients=1)
    broken = Split(torch.zeros(3, 1, 1, 1, dtype=torch.uint8), torch.tensor([0, 1]))
    with pytest.raises(DataError, match="3 images and 2 labels"):
        partition(broken, "iid", clients=1)


@pytest.mark.parametrize(
    ("scheme", "own"),
    [
        ("iid", {}),
        ("dirichlet", {"alpha": 0.1}),
        ("dirichlet-balanced", {"alpha": 0.1}),
        ("classes", {"classes_per_client": 2}),
        ("quantity", {"alpha": 0.5}),
        ("group", {}),
    ],
)
def test_ten_thousand_clients(scheme, own):
    split = make_split(np.tile(np.arange(10), 6000), groups=np.arange(60_000) // 6)
    made = partition(split, scheme, clients=10_000, seed=6, **own)
    assert_exhaustive(made.indices, 60_000)
    assert len({id(part.base) for part in made.indices}) == 1  # views of one array
    assert made.label_counts().shape == (10_000, 10)


def test_fashion_mnist_labels():
    if "FEDLENS_DATA" not in os.environ:
        pytest.skip("FEDLENS_DATA is not set")
    folder = Path(os.environ["FEDLENS_DATA"]) / "fashion-mnist"
    content = gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes())
    split = make_split(np.frombuffer(content, np.uint8, offset=8).astype(np.int64))
    assert len(split) == 60_000

    skewed = partition(split, "dirichlet", clients=10, alpha=0.5, seed=42).describe()
    assert skewed.label_counts.sum(axis=0).tolist() == [6000] * 10
    assert skewed.label_counts.sum(axis=1).tolist() == skewed.sizes.tolist()
    assert 0.2 < skewed.total_variation.mean() < 0.7
    balanced = partition(
        split, "dirichlet-balanced", clients=10, alpha=0.5, seed=42, minimum=10
    ).describe()
    assert balanced.sizes.min() >= 10 and balanced.sizes.max() <= 5999 + 6000
    assert np.ptp(balanced.sizes) < np.ptp(skewed.sizes)
    two = partition(split, "classes", clients=10, classes_per_client=2, seed=0).describe()
    assert ((two.label_counts > 0).sum(axis=1) == 2).all()
    assert (np.diag(two.label_counts) > 0).all()
