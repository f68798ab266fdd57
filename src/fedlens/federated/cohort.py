"""Who takes part in a round, how much each does, and who fails."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedlens.errors import ConfigError
from fedlens.federated.client import ClientTask
from fedlens.federated.faults import Faults
from fedlens.federated.history import LeftOut
from fedlens.federated.privacy_contract import Privacy
from fedlens.randomness import Purpose, generator
from fedlens.training.local import LocalTraining


@dataclass(frozen=True)
class Plan:
    """One attempt at a round.

    Attributes:
        cohort: the chosen clients, ascending.
        tasks: the work of those whose update will arrive, in client order.
        lost: the others.
        epochs: client of the cohort -> its local epochs.
    """

    cohort: list[int]
    tasks: list[ClientTask]
    lost: list[LeftOut]
    epochs: dict[int, int]


@dataclass(frozen=True)
class Planner:
    """Draws the rounds of a federation; each is a function of the seed and the round's number.

    Attributes:
        sizes: the clients' numbers of examples.
        cohort: clients a round, as :func:`cohort_size` takes it.
        local: settings of the clients' training.
        seed: root seed.
        faults: what goes wrong.
        attackers: numbers of the poisoned clients.
        privacy: may draw the cohorts itself.
    """

    sizes: Sequence[int]
    cohort: int | float | None
    local: LocalTraining
    seed: int
    faults: Faults
    attackers: frozenset[int]
    privacy: Privacy = field(default_factory=Privacy)

    @property
    def varies(self) -> bool:
        """Whether two attempts at a round may differ."""
        everyone = cohort_size(self.cohort, len(self.sizes)) == len(self.sizes)
        return not everyone or bool(self.faults.dropout or self.faults.stragglers)

    def plan(self, round: int, attempt: int) -> Plan:
        """Return one attempt, from 0, at a round, from 1."""
        chosen = self.privacy.sample(round)
        if chosen is None:
            chosen = choose_cohort(len(self.sizes), self.cohort, self.seed, round, attempt)
        # under client-level privacy whom the faults strike must not depend on who was sampled, or
        # one client more would change what the others do
        struck = range(len(self.sizes)) if self.privacy.unit == "client" else chosen
        work = {k: local_epochs(self.local, self.seed, round, k) for k in struck}
        steps = {k: n * self.local.steps_per_epoch(self.sizes[k]) for k, n in work.items()}
        fates = self.faults.strike(struck, list(steps.values()), self.seed, round, attempt)
        fate_of = dict(zip(struck, fates, strict=True))
        tasks: list[ClientTask] = []
        lost: list[LeftOut] = []
        for k in chosen:
            count, whole, fate = work[k], steps[k], fate_of[k]
            if fate.gone:
                lost.append(LeftOut(k, "it dropped out"))
            elif fate.late and (self.faults.late == "drop" or fate.steps == 0):
                lost.append(LeftOut(k, "it missed the deadline"))
            else:
                stretch = self.faults.stretch if k in self.attackers else 1.0
                slot, size = len(tasks), self.sizes[k]
                tasks.append(ClientTask(round, k, slot, count, size, fate.steps, whole, stretch))
        return Plan(chosen, tasks, lost, {k: work[k] for k in chosen})


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


def check_minimum_cohort(minimum: int, size: int) -> None:
    """Raise ``ConfigError`` unless a round of ``size`` clients can bring ``minimum`` updates."""
    if not 0 <= minimum <= size:
        raise ConfigError(
            f"federation.minimum_cohort is {minimum}, expected from 0 to the {size} clients of a "
            "round."
        )


def choose_cohort(
    clients: int, cohort: int | float | None, seed: int, round: int, attempt: int = 0
) -> list[int]:
    """Return the client numbers of a round, ascending: uniform, without replacement."""
    size = cohort_size(cohort, clients)
    if size == clients:
        return list(range(clients))
    stream = generator(seed, Purpose.COHORT, round=round, epoch=attempt)
    return sorted(int(k) for k in stream.choice(clients, size=size, replace=False))


def planned_work(
    clients: int, cohort: int | float | None, local: LocalTraining, seed: int, rounds: int
) -> list[dict[int, int]]:
    """Return of each round client of its cohort -> local epochs, where no round is repeated.

    Both are drawn from the seed, without a look at the data; a secret cohort is another.
    """
    return [
        {
            client: local_epochs(local, seed, round, client)
            for client in choose_cohort(clients, cohort, seed, round)
        }
        for round in range(1, rounds + 1)
    ]


def local_epochs(local: LocalTraining, seed: int, round: int, client: int) -> int:
    """Return how many local epochs a client does in a round."""
    if isinstance(local.epochs, int):
        return local.epochs
    if isinstance(local.epochs, list):
        return local.epochs[client]
    low, high = local.epochs
    stream = generator(seed, Purpose.LOCAL_EPOCHS, round=round, client=client)
    return int(stream.integers(low, high, endpoint=True))
