"""Who takes part in a round, and how much each does."""

from fedlens.errors import ConfigError
from fedlens.federated.client import ClientTask
from fedlens.randomness import Purpose, generator
from fedlens.training.local import LocalTraining


def cohort_size(cohort: int | float | None, clients: int) -> int:
    """Return the number of clients a round.

    Args:
        cohort: None for all, a count, or a fraction in (0, 1), rounded, at least one client.
        clients: how many there are.

    Raises:
        ConfigError: more clients than there are, fewer than one, or a fraction outside (0, 1).
    """
    if cohort is None:
        return clients
    if isinstance(cohort, bool) or (isinstance(cohort, float) and not 0 < cohort < 1):
        raise ConfigError(
            f"federation.cohort is {cohort}, expected a whole number of clients or a fraction "
            "between 0 and 1."
        )
    size = max(1, round(cohort * clients)) if isinstance(cohort, float) else cohort
    if not 1 <= size <= clients:
        raise ConfigError(
            f"federation.cohort is {cohort}, expected from 1 to the {clients:,} clients there are."
        )
    return size


def choose_cohort(clients: int, cohort: int | float | None, seed: int, round: int) -> list[int]:
    """Return the client numbers of a round, ascending: uniform, without replacement."""
    size = cohort_size(cohort, clients)
    if size == clients:
        return list(range(clients))
    stream = generator(seed, Purpose.COHORT, round=round)
    return sorted(int(k) for k in stream.choice(clients, size=size, replace=False))


def local_epochs(local: LocalTraining, seed: int, round: int, client: int) -> int:
    """Return how many local epochs a client does in a round."""
    if isinstance(local.epochs, int):
        return local.epochs
    if isinstance(local.epochs, list):
        return local.epochs[client]
    low, high = local.epochs
    stream = generator(seed, Purpose.LOCAL_EPOCHS, round=round, client=client)
    return int(stream.integers(low, high, endpoint=True))


def round_tasks(
    sizes: list[int], cohort: int | float | None, local: LocalTraining, seed: int, round: int
) -> list[ClientTask]:
    """Return the work of a round, in client order; ``sizes`` are the clients' examples."""
    chosen = choose_cohort(len(sizes), cohort, seed, round)
    return [
        ClientTask(round, k, slot, local_epochs(local, seed, round, k), sizes[k])
        for slot, k in enumerate(chosen)
    ]
