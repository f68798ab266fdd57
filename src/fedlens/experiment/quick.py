"""A small version of any experiment, to see within seconds that it runs."""

from typing import Any

from fedlens.data.partitions import OWN_CLIENTS
from fedlens.experiment.config import Config, parse_config
from fedlens.federated.cohort import cohort_size

IMAGES = 2000
ROUNDS = 2
CLIENTS = 50


def quick_values(config: Config) -> Config:
    """Return ``config`` with at most 2,000 training images, two rounds (or epochs) and one seed.

    There are no more clients, no larger cohorts and, under DP-SGD, no larger batches than so few
    images allow; a client may hold a single image.
    """
    content = config.to_dict()
    content["repeats"] = 1
    content["dataset"]["limit"] = min(IMAGES, config.dataset.limit or IMAGES)
    content["federation"]["rounds"] = min(ROUNDS, config.federation.rounds)
    epochs = config.local.epochs
    content["local"]["epochs"] = (
        min(ROUNDS, epochs) if isinstance(epochs, int) else [min(ROUNDS, n) for n in epochs]
    )
    clients = _fit_clients(content, config) if config.mode == "federated" else 1
    batch = config.local.batch_size
    if config.privacy.mechanism == "dp-sgd" and isinstance(batch, int):
        images = content["dataset"]["limit"]
        content["partition"]["minimum"] = max(1, images // (4 * clients))
        content["local"]["batch_size"] = min(batch, max(1, images // (8 * clients)))
    return parse_config(content)


def _fit_clients(content: dict[str, Any], config: Config) -> int:
    """Fit the clients to the images, and return how many there are where that is known, else 1."""
    if config.federation.clients is None or config.partition.scheme in OWN_CLIENTS:
        content["partition"]["minimum"] = 1  # as many as there are groups, however small
        return config.federation.clients or 1
    clients = min(config.federation.clients, CLIENTS)
    content["federation"]["clients"] = clients
    least = max(1, content["dataset"]["limit"] // (8 * clients))
    content["partition"]["minimum"] = min(config.partition.minimum, least)
    cohort = config.federation.cohort
    if isinstance(cohort, int):
        drawn = clients if config.privacy.mechanism == "none" else max(1, clients // 5)
        content["federation"]["cohort"] = min(cohort, drawn)
        cohort = content["federation"]["cohort"]
    size = cohort_size(None if cohort == "all" else cohort, clients)
    content["federation"]["minimum_cohort"] = min(config.federation.minimum_cohort, size)
    return clients
