"""The server: rounds of sampling a cohort, collecting updates and aggregating them."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import nn

from fedlens.data.client import Client, as_client
from fedlens.data.dataset import Split
from fedlens.errors import ConfigError
from fedlens.federated.algorithm import Algorithm, Federation
from fedlens.federated.client import Workbench
from fedlens.federated.client_store import ClientStore
from fedlens.federated.cohort import Planner, check_minimum_cohort, cohort_size, planned_work
from fedlens.federated.engines import build_engine
from fedlens.federated.faults import Faults, Screening, poisoned_clients
from fedlens.federated.history import RoundRecord
from fedlens.federated.privacy import check_network, check_privacy
from fedlens.federated.privacy_contract import Privacy
from fedlens.federated.round import Checkpoint, Rounds, Rules
from fedlens.federated.validation import Validation
from fedlens.models.vector import has_batch_norm
from fedlens.training.local import LocalTraining
from fedlens.training.losses import Loss, chosen_loss


@dataclass(frozen=True)
class Progress:
    """Where a federation is, for a progress bar.

    Attributes:
        round, rounds: the round at work (from 1), and how many there are.
        clients_done, clients: clients finished in this round, and the size of its cohort.
        record: the round's record once it is complete, else None.
    """

    round: int
    rounds: int
    clients_done: int
    clients: int
    record: RoundRecord | None = None


@dataclass(frozen=True, eq=False)
class FederationResult:
    """The trained global model, and what happened in each round of this call."""

    model: nn.Module
    history: list[RoundRecord] = field(default_factory=list)


def federate(
    model: nn.Module,
    clients: Sequence[Client],
    *,
    algorithm: Algorithm,
    rounds: int,
    local: LocalTraining,
    cohort: int | float | None = None,
    workers: int = 1,
    seed: int = 0,
    loss: Loss | None = None,
    progress: Callable[[Progress], None] | None = None,
    validation: Split | Client | None = None,
    faults: Faults | None = None,
    screening: Screening | None = None,
    minimum_cohort: int = 0,
    averaging: float = 0.0,
    privacy: Privacy | None = None,
    client_store: ClientStore | None = None,
    resume_from: Checkpoint | None = None,
    checkpoint: Callable[[Checkpoint, RoundRecord], None] | None = None,
) -> FederationResult:
    """Train ``model`` over ``clients`` and return a new model; the given one is not changed.

    The result is a function of the arguments alone: it is the same to the last bit for any number
    of workers, and for a run that was stopped and resumed.

    Args:
        model: any network with floating-point parameters of one dtype.
        clients: who holds what; ``fedlens.partition`` makes them, or plain ``Client`` tensors.
        algorithm: how clients train and updates become the next global model, e.g.
            ``fedlens.FedAvg()``.
        rounds: how many rounds, counted from the beginning (a resumed run does the rest).
        local: settings of the clients' training.
        cohort: clients a round, drawn uniformly without replacement: None for all, a count, or a
            fraction in (0, 1) of all clients (rounded, at least one).
        workers: 1 runs in this process; more are forked processes of one thread each.
        seed: root seed, at least 0.
        loss: ``loss(outputs, targets)`` with one value per example; by default cross-entropy for
            class numbers and binary cross-entropy for label rows.
        progress: called after each client and each round.
        validation: class numbers or label rows on which the global model is measured each round.
        faults: what goes wrong, simulated; by default nothing.
        screening: what is done about updates that are far off; by default nothing.
        minimum_cohort: usable updates below which a round is repeated with a new cohort; the work
            of the attempt is lost.
        averaging: most, in [0, 1), that an average of the global models keeps of itself in a
            round. It begins as the first round's model; round n > 1 keeps
            min(averaging, n / (n + 9)), so that the window grows with the rounds, and this limit
            acts only after 9 averaging / (1 - averaging) of them. Where it is above 0 the average
            is what is returned, and it is measured beside the model of each round. The rounds
            themselves go on as without it. Under privacy it costs nothing.
            (Up to the limit: polynomial-decay averaging, Shamir and Zhang 2013, with eta = 8.)
        privacy: hides examples (``ExamplePrivacy``) or clients (``ClientPrivacy``); by default nothing
            is hidden. A federation that would spend more than its budget is refused; one that does
            so by repeating rounds, or whose ``charge`` says no, ends early.
        client_store: keeps what clients remember between rounds, for algorithms that have them
            remember; by default in memory, and past a limit in a temporary folder.
        resume_from: a checkpoint of the same federation; where clients remember something, together
            with the store that it was made with.
        checkpoint: called after each round with what is needed to go on from there.

    Raises:
        ConfigError: a number of rounds, clients, workers or epochs that cannot be, a loss that does
            not return one value per example, or validation targets that are not classes.
        ModelError: see :class:`fedlens.models.FlatParameters`.
        FedlensError: a round got too few updates again and again.
    """
    _check(clients, rounds, local, workers, seed, averaging)
    held_out = None if validation is None else _held_out(validation, clients)
    largest_cohort = cohort_size(cohort, len(clients))
    check_minimum_cohort(minimum_cohort, largest_cohort)
    if has_batch_norm(model):
        warnings.warn(
            "The network uses BatchNorm, whose running statistics differ from client to client; "
            "they are averaged with the weights, but GroupNorm is the sounder choice in a "
            "federation.",
            stacklevel=2,
        )
    loss = chosen_loss(loss, (client.targets for client in clients))
    faults = faults or Faults()
    federation = Federation(tuple(len(client) for client in clients), local)
    algorithm.check(federation)
    attackers = faults.attackers(len(clients), seed)
    privacy = Privacy() if privacy is None else privacy
    check_privacy(privacy, algorithm, federation.sizes, screening or Screening(), minimum_cohort)
    planner = Planner(federation.sizes, cohort, local, seed, faults, attackers, privacy)
    if privacy.unit is not None:
        work = planned_work(len(clients), cohort, local, seed, rounds)
        privacy.begin(local, work, 0 if resume_from is None else resume_from.round)
    bench = Workbench(
        model,
        poisoned_clients(clients, attackers, faults),
        local,
        loss,
        seed,
        None if held_out is None else held_out.inputs,
        algorithm,
        privacy,
    )
    if privacy.unit is not None:
        check_network(bench.flat)
    engine = build_engine(
        bench,
        workers=workers,
        largest_cohort=len(clients) if privacy.hides_cohort else largest_cohort,
        validation_examples=0 if held_out is None else len(held_out),
    )
    try:
        server = Rounds(
            engine,
            bench,
            Rules(
                algorithm,
                federation,
                planner,
                screening or Screening(),
                minimum_cohort,
                privacy,
                averaging,
            ),
            Validation(held_out, clients, loss),
            client_store or ClientStore(),
            resume_from,
        )
        history: list[RoundRecord] = []
        for number in range(server.round + 1, rounds + 1):
            record = server.run(number, _counter(progress, number, rounds))
            if record is None:
                break
            history.append(record)
            if checkpoint is not None:
                checkpoint(server.checkpoint(), record)
            if progress is not None:
                done = len(record.cohort)
                progress(Progress(number, rounds, done, done, record))
        return FederationResult(server.global_model(model), history)
    finally:
        engine.close()


def _check(
    clients: Sequence[Client],
    rounds: int,
    local: LocalTraining,
    workers: int,
    seed: int,
    averaging: float,
) -> None:
    if not clients:
        raise ConfigError("A federation needs at least one client, got none.")
    if rounds < 1:
        raise ConfigError(f"federation.rounds is {rounds}, expected a whole number from 1.")
    if workers < 1:
        raise ConfigError(f"federation.workers is {workers}, expected a whole number from 1.")
    if seed < 0:
        raise ConfigError(f"seed is {seed}, expected a whole number from 0.")
    if type(averaging) not in (int, float) or not 0 <= averaging < 1:
        raise ConfigError(f"federation.averaging is {averaging}, expected a number in [0, 1).")
    if local.threads > 1:
        raise ConfigError(
            f"local.threads is {local.threads}, expected 1 in a federation, where federation.workers "
            "makes use of the processors."
        )
    if local.averaging:
        raise ConfigError(
            f"local.averaging is {local.averaging}, expected 0 in a federation: a client's average "
            "would not be what its algorithm works with; federation.averaging averages the rounds."
        )
    if isinstance(local.epochs, list) and len(local.epochs) != len(clients):
        raise ConfigError(
            f"local.epochs lists {len(local.epochs)} numbers for {len(clients)} clients, expected "
            "one for each client."
        )


def _held_out(validation: Split | Client, clients: Sequence[Client]) -> Client:
    held_out = as_client(validation)
    if held_out.targets.is_floating_point() or held_out.targets.dim() > 2:
        raise ConfigError(
            f"The validation targets are {held_out.targets.dtype} of shape "
            f"{tuple(held_out.targets.shape)}, expected class numbers (N,) or label rows (N, L); "
            "leave validation out for other problems."
        )
    dims = held_out.targets.dim()
    for number, client in enumerate(clients):  # each is measured by its own mix of classes
        targets = client.targets
        if targets.dim() != dims or (dims == 1 and targets.is_floating_point()):
            expected = "class numbers (N,)" if dims == 1 else "label rows (N, L)"
            raise ConfigError(
                f"The targets of client {number} are {targets.dtype} of shape {tuple(targets.shape)}, "
                f"expected {expected} as the validation targets are; leave validation out for other "
                "problems."
            )
    return held_out


def _counter(
    progress: Callable[[Progress], None] | None, number: int, rounds: int
) -> Callable[[int, int], None]:
    def finished(done: int, clients: int) -> None:
        if progress is not None:
            progress(Progress(number, rounds, done, clients))

    return finished
