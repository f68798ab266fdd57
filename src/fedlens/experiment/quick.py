"""A small version of any experiment, to see within seconds that it runs."""

from fedlens.experiment.config import Config, parse_config

IMAGES = 2000
ROUNDS = 2


def quick_values(config: Config) -> Config:
    """Return ``config`` with at most 2,000 training images, two rounds (or epochs) and one seed."""
    content = config.to_dict()
    content["repeats"] = 1
    content["dataset"]["limit"] = min(IMAGES, config.dataset.limit or IMAGES)
    content["federation"]["rounds"] = min(ROUNDS, config.federation.rounds)
    epochs = config.local.epochs
    content["local"]["epochs"] = (
        min(ROUNDS, epochs) if isinstance(epochs, int) else [min(ROUNDS, n) for n in epochs]
    )
    return parse_config(content)
