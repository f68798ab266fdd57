"""A small version of any experiment, to see within seconds that it runs."""

from typing import Any

from fedlens.experiment.config import Config, parse_config

IMAGES = 2000
ROUNDS = 2
CLIENTS = 50
LEAST_IMAGES = 10


def quick_values(config: Config) -> Config:
    """Return ``config`` with at most 2,000 training images, two rounds (or epochs) and one seed.

    A private run also gets batches that so few images allow, and no more clients than they do.
    """
    content = config.to_dict()
    content["repeats"] = 1
    content["dataset"]["limit"] = min(IMAGES, config.dataset.limit or IMAGES)
    content["federation"]["rounds"] = min(ROUNDS, config.federation.rounds)
    epochs = config.local.epochs
    content["local"]["epochs"] = (
        min(ROUNDS, epochs) if isinstance(epochs, int) else [min(ROUNDS, n) for n in epochs]
    )
    if config.privacy.mechanism != "none":
        _fit(content, config)
    return parse_config(content)


def _fit(content: dict[str, Any], config: Config) -> None:
    images, clients = content["dataset"]["limit"], 1
    if config.mode == "federated":
        clients = min(config.federation.clients or 1, CLIENTS)
        content["partition"]["minimum"] = min(config.partition.minimum, LEAST_IMAGES)
        if config.federation.clients is not None:
            content["federation"]["clients"] = clients
        cohort = config.federation.cohort
        if isinstance(cohort, int):
            content["federation"]["cohort"] = min(cohort, max(1, clients // 5))
    batch = config.local.batch_size
    if config.privacy.mechanism == "dp-sgd" and isinstance(batch, int):
        content["partition"]["minimum"] = max(1, images // (4 * clients))
        content["local"]["batch_size"] = min(batch, max(1, images // (8 * clients)))
