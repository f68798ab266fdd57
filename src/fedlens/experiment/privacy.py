"""What a run promises: its mechanisms from the configuration, and its ledger."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedlens.data import ImageDataset, Partition
from fedlens.data.augmentation import shift_and_mirror
from fedlens.errors import ConfigError, RunError
from fedlens.experiment.config import Config
from fedlens.experiment.ledger import (
    EVERY_CLIENT,
    POOLED,
    check_accounts,
    open_ledger,
    terms_of,
)
from fedlens.experiment.run_directory import RunDirectory
from fedlens.federated.cohort import cohort_size, planned_work
from fedlens.federated.privacy import ClientPrivacy, ExamplePrivacy
from fedlens.federated.privacy_contract import Privacy
from fedlens.privacy.accounting import calibrate_each, epsilon_of
from fedlens.privacy.adaptive_clip import AdaptiveClip
from fedlens.privacy.ledger import Ledger
from fedlens.privacy.mechanism import Mechanism
from fedlens.privacy.releases import Release, merged, no_more_than
from fedlens.privacy.schedule import NoiseSchedule
from fedlens.training.private import Augmentation

Plan = Callable[[Mechanism], list[Release]]


@dataclass(frozen=True)
class Account:
    """One line of the ledger, before anything is spent.

    Attributes:
        name: of a client, or of all.
        mechanism: by which it is spent.
        plan: everything that the whole training is going to release of it.
    """

    name: str
    mechanism: Mechanism
    plan: tuple[Release, ...]

    @property
    def units(self) -> int:
        """Return how many examples, or clients, it speaks for."""
        return 1 if self.mechanism.placement == "local" else self.mechanism.population


def private(config: Config) -> bool:
    """Return whether the configuration asks for privacy."""
    return config.privacy.mechanism != "none"


def accounts_of(config: Config, dataset: ImageDataset, clients: Partition | None) -> list[Account]:
    """Return the accounts of a run, each one's noise calibrated to the budget if none is named.

    Args:
        config: with a mechanism.
        dataset: as configured.
        clients: the partition; None in mode ``central``.

    Raises:
        ConfigError: a mechanism that cannot be with these clients, or a budget that cannot be met.
    """
    section = config.privacy
    drafts = _drafts(config, dataset, clients)
    if section.noise_multiplier is None:
        assert section.epsilon is not None
        # each to its own: the same budget for all lets larger clients add less noise
        plans = [_scaled(plan, mechanism) for _, mechanism, plan in drafts]
        # whoever is drawn in no round has nothing to release, and no noise of its own to find
        taking_part = [number for number, plan in enumerate(plans) if merged(plan(1.0))]
        found = calibrate_each(
            [plans[number] for number in taking_part] or plans, section.epsilon, section.delta
        )
        noises = [max(found)] * len(drafts)
        for number, noise in zip(taking_part, found, strict=True):
            noises[number] = noise
    else:
        noises = [section.noise_multiplier] * len(drafts)
    made = []
    for (name, mechanism, plan), noise in zip(drafts, noises, strict=True):
        noisy = mechanism.with_noise(noise)
        made.append(Account(name, noisy, merged(plan(noisy))))
    return made


def check_first(config: Config, accounts: Sequence[Account], clients: int) -> None:
    """Refuse a budget that the named noise overspends in the first epoch or round.

    Args:
        config: with a mechanism.
        accounts: as :func:`accounts_of` returned them.
        clients: how many there are; 0 in mode ``central``.

    Raises:
        ConfigError: nothing could be trained.
    """
    section = config.privacy
    if section.noise_multiplier is None or section.epsilon is None:
        return
    times = [1] * len(accounts)
    if len(accounts) == clients:
        first = [done.get(1, 0) for done in _work(config, clients)]
        times = first if section.mechanism == "dp-sgd" else [min(1, count) for count in first]
    for account, count in zip(accounts, times, strict=True):
        cost = epsilon_of(account.mechanism.charges(0) * count, section.delta)
        if cost > section.epsilon:
            raise ConfigError(
                f"privacy.epsilon is {section.epsilon:g}, but with privacy.noise_multiplier "
                f"{section.noise_multiplier:g} the first {'round' if clients else 'epoch'} alone "
                f"costs {cost:.4g}; choose more noise, or a larger budget."
            )


def delta_notice(accounts: Sequence[Account], delta: float) -> str | None:
    """Return a sentence where ``delta`` lets whole examples (or clients) be given away, else None."""
    for account in accounts:
        units, what = account.units, account.mechanism.unit
        if account.mechanism.placement != "local" and delta * units >= 1:
            return (
                f"privacy.delta is {delta:g}, not below one over the {units:,} {what}s of "
                f"'{account.name}', so that publishing one whole {what} would count as private."
            )
    return None


def _scaled(plan: Plan, mechanism: Mechanism) -> Callable[[float], list[Release]]:
    return lambda noise: plan(mechanism.with_noise(noise))


def _drafts(
    config: Config, dataset: ImageDataset, clients: Partition | None
) -> list[tuple[str, Mechanism, Plan]]:
    section, local = config.privacy, config.local_training()
    common = {
        "clip_norm": section.clip_norm,
        "noise_multiplier": 0.0,
        "schedule": NoiseSchedule(section.schedule, section.schedule_end),
        "sampling": section.sampling,
    }
    if clients is None:
        count = len(dataset.train)
        assert isinstance(local.epochs, int)
        mechanism = _of_examples("The training set", count, local.batch_size, local.epochs, common)
        return [(POOLED, mechanism, Mechanism.plan)]
    rounds, sizes = config.federation.rounds, [len(client) for client in clients]
    cohort = config.cohort()
    if section.mechanism == "dp-fedavg":
        mechanism = Mechanism(
            unit="client",
            population=len(sizes),
            expected=cohort_size(cohort, len(sizes)),
            periods=rounds,
            placement=section.placement,
            **common,  # type: ignore[arg-type]
        )
        if section.placement != "local":
            return [(EVERY_CLIENT, mechanism, Mechanism.plan)]
        mechanism = replace(mechanism, sampling="fixed")  # who sends is seen: nothing is amplified
    work = _work(config, len(sizes))
    names = [name or f"client {number}" for number, name in enumerate(clients.names)]
    if len(set(names)) < len(names):  # each has an account of its own
        names = [f"{number}: {name}" for number, name in enumerate(names)]
    drafts: list[tuple[str, Mechanism, Plan]] = []
    for number, size in enumerate(sizes):
        if section.mechanism == "dp-sgd":
            who = f"The client '{names[number]}'"
            mechanism = _of_examples(who, size, local.batch_size, rounds, common)

        def plan(made: Mechanism, done: Mapping[int, int] = work[number]) -> list[Release]:
            times = done if made.unit == "example" else dict.fromkeys(done, 1)
            return [
                release
                for round, count in times.items()
                for release in made.charges(round - 1) * count
            ]

        drafts.append((names[number], mechanism, plan))
    return drafts


def _of_examples(
    who: str, count: int, batch_size: int | None, periods: int, common: Mapping[str, object]
) -> Mechanism:
    expected = batch_size or count
    if expected > count:
        raise ConfigError(
            f"{who} has {count:,} images, fewer than the {expected:,} expected in a batch; under "
            "privacy choose a smaller local.batch_size, or a partition with larger clients."
        )
    return Mechanism(
        unit="example",
        population=count,
        expected=expected,
        periods=periods,
        steps=-(-count // expected),
        **common,  # type: ignore[arg-type]
    )


def _work(config: Config, clients: int) -> list[dict[int, int]]:
    """Return for each client: round in which it will take part -> local epochs."""
    work: list[dict[int, int]] = [{} for _ in range(clients)]
    rounds = planned_work(
        clients, config.cohort(), config.local_training(), config.seed, config.federation.rounds
    )
    for round, epochs in enumerate(rounds, start=1):
        for client, count in epochs.items():
            work[client][round] = count
    return work


class Book:
    """The ledger of a run at work, and the budget that it keeps to."""

    def __init__(
        self, directory: RunDirectory, config: Config, accounts: Sequence[Account]
    ) -> None:
        """Open the run's ledger, or begin it where the run has not begun.

        Raises:
            RunError: the ledger is gone, was changed, or is not the run's; see :func:`open_ledger`.
        """
        self._budget = config.privacy.epsilon
        self._plans = {account.name: account.plan for account in accounts}
        self._names = [account.name for account in accounts]
        units = {account.name: account.units for account in accounts}
        path = directory.ledger_file
        if not path.exists():
            if directory.read_metrics() or directory.checkpoint_files():
                raise RunError(
                    f"{path} is gone, so that what the run has spent is not known; put it back, or "
                    "start a new run."
                )
            self.ledger = Ledger.create(path, terms_of(config), units)
            return
        self.ledger = open_ledger(directory, config)
        check_accounts(self.ledger, units)

    def afford(self, charges: Mapping[str, Sequence[Release]]) -> bool:
        """Charge, or return False and charge nothing where that would exceed the budget."""
        if self._budget is not None and not all(
            self._within(name, releases) for name, releases in charges.items()
        ):
            return False
        self.ledger.charge(charges)
        return True

    def afford_clients(self, charges: Mapping[int, Sequence[Release]]) -> bool:
        """Do the same for charges by client number."""
        if self._names == [EVERY_CLIENT]:
            return self.afford({EVERY_CLIENT: next(iter(charges.values()))})
        return self.afford({self._names[client]: some for client, some in charges.items()})

    def summary(self) -> dict[str, Any]:
        """Return the worst account's epsilon so far, with all that belongs to such a number."""
        worst = self.ledger.worst()
        return {
            "epsilon": self.ledger.epsilon(worst),
            "delta": self.ledger.terms.delta,
            "unit": self.ledger.terms.unit,
            "account": worst,
            "releases": self.ledger.steps(worst),
        }

    def _within(self, name: str, releases: Sequence[Release]) -> bool:
        assert self._budget is not None
        after = merged([*self.ledger.releases(name), *releases])
        plan, delta = self._plans[name], self.ledger.terms.delta
        # where the whole plan is within the budget there is nothing to work out for its parts
        if no_more_than(after, plan) and epsilon_of(plan, delta) <= self._budget:
            return True
        return epsilon_of(after, delta) <= self._budget


def augmentation_of(config: Config) -> Augmentation | None:
    """Return what makes the views of an image; None where it is itself the only one."""
    return shift_and_mirror if config.privacy.views > 1 else None


def federated_privacy(
    config: Config, accounts: Sequence[Account], book: Book | None = None
) -> Privacy:
    """Return what the federation asks of privacy; without a book nothing is charged."""
    section = config.privacy
    afford = None if book is None else book.afford_clients
    if section.mechanism == "dp-sgd":
        return ExamplePrivacy(
            tuple(account.mechanism for account in accounts),
            afford,
            seeded=section.seeded,
            views=section.views,
            augmentation=augmentation_of(config),
        )
    adaptive = None
    if section.clip_quantile is not None:
        expected = accounts[0].mechanism.expected
        adaptive = AdaptiveClip(
            section.clip_quantile,
            section.clip_rate,
            expected / 20 if section.count_noise is None else section.count_noise,
        )
    return ClientPrivacy(
        accounts[0].mechanism,
        adaptive,
        afford,
        seed=config.seed if section.seeded else None,
    )
