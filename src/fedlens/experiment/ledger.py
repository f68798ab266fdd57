"""A run's ledger opened, and compared with the run that it lies in."""

import math
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from fedlens.errors import ConfigError, RunError
from fedlens.experiment.config import Config
from fedlens.experiment.run_directory import RunDirectory
from fedlens.federated.cohort import cohort_size, local_epochs, planned_work
from fedlens.privacy.accounting import calibrate_each, epsilon_of
from fedlens.privacy.ledger import Ledger, Terms
from fedlens.privacy.mechanism import Mechanism, relation_of
from fedlens.privacy.privacy_loss import LEAST_NOISE
from fedlens.privacy.releases import Release, merged
from fedlens.privacy.schedule import NoiseSchedule
from fedlens.privacy.sources import SecureSource, SeededSource

EVERY_CLIENT = "every client"
POOLED = "all images"
ABOUT_THE_SAME = 0.01  # of two epsilons of the same releases, by two versions of the accountant
THE_SAME = 1e-9  # of two noise multipliers of one period, worked out on two machines


def terms_of(config: Config) -> Terms:
    """Return the terms that a run's ledger opens with."""
    section = config.privacy
    source = SeededSource(config.seed) if section.seeded else SecureSource()
    return Terms(
        mechanism=section.mechanism,
        unit="example" if section.mechanism == "dp-sgd" else "client",
        relation=relation_of(section.sampling, section.placement),
        delta=section.delta,
        budget=section.epsilon,
        source=source.description,
        guarantee=source.guarantee,
    )


def open_ledger(directory: RunDirectory, config: Config) -> Ledger:
    """Return a run's ledger, if it fits the run's configuration, metrics and result.

    Neither the image set nor the signing key is needed; see :func:`check_accounts` for the rest.

    Raises:
        RunError: it is missing, damaged or changed, or so are the metrics or the result, or it is
            not the ledger of this run: on other terms, of other accounts, with fewer releases or a
            smaller epsilon than the metrics tell of, with others than the result tells of, or with
            a noise or a sampling rate that the configuration does not give.
    """
    ledger = Ledger.open(directory.ledger_file)
    for finding in _findings(directory, config, ledger):
        raise RunError(
            f"{ledger.path} is the ledger of another run, or of another time: {finding}; put back the "
            "one that this run wrote last."
        )
    return ledger


def check_accounts(ledger: Ledger, units: Mapping[str, int]) -> None:
    """Raise ``RunError`` unless the ledger has these accounts, of so many units each."""
    if ledger.units != units:
        ours = {name: ledger.units.get(name) for name in units}
        wrong = next((name for name in units if ours[name] != units[name]), None)
        if wrong is None:
            wrong = next(name for name in ledger.units if name not in units)
        raise RunError(
            f"{ledger.path} is the ledger of another run: it has {_units(ledger.units.get(wrong))} of "
            f"'{wrong}', and the run {_units(units.get(wrong))}; put back the one that belongs here."
        )


@dataclass(frozen=True, eq=False)
class _Course:
    """What a run is going to release of one account, and what its metrics say that it has.

    Attributes:
        name: of the account.
        mechanism: with a noise multiplier of 1.
        planned, told: period, from 0 -> how many times it is charged.
    """

    name: str
    mechanism: Mechanism
    planned: Mapping[int, int]
    told: Mapping[int, int]

    def charges(self, noise: float, times: Mapping[int, int]) -> tuple[Release, ...]:
        """Return what is released in so many of these periods, at a noise multiplier."""
        made = self.mechanism.with_noise(noise)
        return merged(one for period, n in times.items() for one in made.charges(period) * n)

    def plan(self, noise: float) -> tuple[Release, ...]:
        """Return all that is planned, at a noise multiplier."""
        return self.charges(noise, self.planned)

    def difference(self, releases: Sequence[Release], noise: float) -> str | None:
        """Return in what these differ from releases at this noise multiplier; None in nothing."""
        every = self.charges(noise, dict.fromkeys(range(self.mechanism.periods), 1))
        noises, rate = [one.noise_multiplier for one in every], every[0].rate
        counts: Counter[float] = Counter()
        for one in releases:
            if not math.isclose(one.rate, rate, rel_tol=THE_SAME):
                return (
                    f"it has releases of '{self.name}' at a sampling rate of {one.rate:.6g}, and the "
                    f"run's is {rate:.6g}"
                )
            nearest = _nearest(noises, one.noise_multiplier)
            if not math.isclose(one.noise_multiplier, nearest, rel_tol=THE_SAME):
                return (
                    f"it has releases of '{self.name}' with a noise multiplier of "
                    f"{one.noise_multiplier:.6g}, which the run's configuration does not give"
                )
            counts[nearest] += one.count
        for one in self.charges(noise, self.told):
            if counts[one.noise_multiplier] < one.count:
                return (
                    f"it has {_releases(counts[one.noise_multiplier])} of '{self.name}' with a noise "
                    f"multiplier of {one.noise_multiplier:.6g}, and the metrics tell of {one.count:,}"
                )
        return None


def _findings(directory: RunDirectory, config: Config, ledger: Ledger) -> Iterator[str]:
    """Yield what does not fit; nobody may go on past the first."""
    yield from _other_terms(ledger.terms, terms_of(config))
    yield from _other_accounts(config, ledger)
    lines = {
        f"{directory.metrics_file}, line {number}": line
        for number, line in enumerate(directory.read_metrics(), start=1)
    }
    told = [_told(line, where) for where, line in lines.items()]
    cohorts: list[dict[int, int]] = [{} for _ in lines]
    if config.mode == "federated":
        cohorts = [_cohort(line, where) for where, line in lines.items()]
    name = directory.metrics_file.name
    if len(cohorts) > _periods(config):
        yield f"{name} has {len(cohorts):,} lines, and the run is of {_periods(config):,}"
    for client in (client for cohort in cohorts for client in cohort):
        if _only_account(config) is None and client >= len(ledger.units):
            yield f"{name} tells of 'client {client}', of which it has no account"
    try:
        courses = _courses(config, ledger, cohorts)
        yield from _less_than_told(ledger, courses, told, name)
        result = directory.read_result()
        if result is not None:
            where = directory.result_file
            yield from _other_than_told(ledger, _told(result, str(where)), where.name)
        for course in courses:
            yield from _other_noise(config, ledger, course, courses)
    except ConfigError as error:
        yield f"with its accounts the run could not have been: {str(error).rstrip('.')}"


def _less_than_told(
    ledger: Ledger, courses: Sequence[_Course], told: Sequence[tuple[str, int, float]], name: str
) -> Iterator[str]:
    least = {
        course.name: sum(one.count for one in course.charges(1.0, course.told))
        for course in courses
    }
    if told:
        account, releases, _ = told[-1]
        least[account] = max(least.get(account, 0), releases)
    for account, count in least.items():
        if account not in ledger.units:
            yield f"{name} tells of '{account}', of which it has no account"
        elif ledger.steps(account) < count:
            yield (
                f"it has {_releases(ledger.steps(account))} of '{account}', and {name} tells of "
                f"{count:,}, so that it is an older one"
            )
    if told:
        epsilon = told[-1][2]
        found = ledger.epsilon(ledger.worst())
        if not found >= epsilon * (1 - ABOUT_THE_SAME):
            yield (
                f"what it has cost epsilon {found:.4g}, and the last line of {name} tells of "
                f"{epsilon:.4g}, so that the noise was another"
            )


def _other_than_told(ledger: Ledger, told: tuple[str, int, float], name: str) -> Iterator[str]:
    account, releases, epsilon = told
    if account not in ledger.units:
        yield f"{name} tells of '{account}', of which it has no account"
    elif ledger.steps(account) != releases:
        yield (
            f"it has {_releases(ledger.steps(account))} of '{account}', and {name} tells of "
            f"{releases:,}"
        )
    else:
        found = ledger.epsilon(ledger.worst())
        if not math.isclose(found, epsilon, rel_tol=ABOUT_THE_SAME):
            yield (
                f"what it has cost epsilon {found:.4g}, and {name} tells of {epsilon:.4g}, so that the "
                "noise was another"
            )


def _other_noise(
    config: Config, ledger: Ledger, course: _Course, courses: Sequence[_Course]
) -> Iterator[str]:
    releases, noise = ledger.releases(course.name), config.privacy.noise_multiplier
    if not releases:
        return
    if noise is not None:
        difference = course.difference(releases, noise)
        if difference is not None:
            yield difference
        return
    # calibrated, which takes long: what the ledger has says what was found, if it is known of which
    # period the first of it is. A repeated round may have drawn a client earlier than was planned.
    start = min(course.planned, default=0)
    periods = sorted(range(course.mechanism.periods), key=lambda period: period != start)
    units = [course.mechanism.charges(period)[0].noise_multiplier for period in periods]
    differences = []
    for noise in dict.fromkeys(releases[0].noise_multiplier / unit for unit in units):
        difference = course.difference(releases, noise) or _miscalibrated(
            config, course, noise, courses
        )
        if difference is None:
            return
        differences.append(difference)
    yield differences[0]


def _miscalibrated(
    config: Config, course: _Course, noise: float, courses: Sequence[_Course]
) -> str | None:
    """Return why this cannot be the noise that was found for the run's budget; None if it can."""
    epsilon, delta = config.privacy.epsilon, config.privacy.delta
    assert epsilon is not None  # it is what the noise is calibrated to
    if not course.planned:  # drawn in a repeated round alone: it has the largest noise of all
        plans = [one.plan for one in courses if one.planned]
        most = max(calibrate_each(plans, epsilon, delta))
        if math.isclose(noise, most, rel_tol=ABOUT_THE_SAME):
            return None
        return f"the noise multiplier of '{course.name}' is {noise:.6g}, and the run's {most:.6g}"
    cost = epsilon_of(course.plan(noise), delta)
    least = epsilon * (1 - ABOUT_THE_SAME)
    # a little less noise would have cost too much, or else there would be that little less
    if cost <= epsilon * (1 + ABOUT_THE_SAME) and (
        cost >= least
        or noise < 2 * LEAST_NOISE  # less is not looked for
        or epsilon_of(course.plan(noise * (1 - ABOUT_THE_SAME)), delta) >= least
    ):
        return None
    return (
        f"with the noise multiplier {noise:.6g} that it has of '{course.name}' the whole training "
        f"would cost epsilon {cost:.4g}, and the run's noise was calibrated to {epsilon:g}"
    )


def _nearest(values: Sequence[float], value: float) -> float:
    """Return which of some ascending values is nearest to one."""
    place = bisect_left(values, value)
    return min(values[max(0, place - 1) : place + 1], key=lambda one: abs(one - value))


def _other_terms(found: Terms, expected: Terms) -> Iterator[str]:
    for name in ("mechanism", "unit", "relation", "delta", "budget", "guarantee", "source"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        # the seed is all that can differ in it; what else it says is a matter of the version
        if ours != theirs and not (name == "source" and found.guarantee):
            yield f"its {name} is '{ours}', and the run's '{theirs}'"


def _other_accounts(config: Config, ledger: Ledger) -> Iterator[str]:
    single, clients = _only_account(config), config.federation.clients
    if single is not None:
        if set(ledger.units) != {single}:
            yield f"it has an account of '{next(iter(ledger.units))}', and the run of '{single}'"
        if single == EVERY_CLIENT and clients not in (None, ledger.units[single]):
            yield f"its account is of {ledger.units[single]:,} clients, and the run of {clients:,}"
        return
    if clients is not None and len(ledger.units) != clients:
        yield f"it has {len(ledger.units):,} accounts, and the run {clients:,} clients"


def _only_account(config: Config) -> str | None:
    """Return the account of a run that has but one; None where each client has its own."""
    if config.mode == "central":
        return POOLED
    if config.privacy.mechanism == "dp-fedavg" and config.privacy.placement != "local":
        return EVERY_CLIENT
    return None


def _periods(config: Config) -> int:
    if config.mode == "federated":
        return config.federation.rounds
    assert isinstance(config.local.epochs, int)
    return config.local.epochs


def _courses(config: Config, ledger: Ledger, cohorts: Sequence[Mapping[int, int]]) -> list[_Course]:
    """Return the course of each account of a ledger.

    Args:
        config: of its run.
        ledger: with the accounts that the configuration asks for.
        cohorts: of each line of the metrics client -> optimiser steps; without clients in it where
            all have one account.

    Raises:
        ConfigError: with these accounts there can be no such run.
    """
    section, local, periods = config.privacy, config.local_training(), _periods(config)
    names, single = list(ledger.units), _only_account(config)
    if single is not None:
        mechanism = _mechanism(config, ledger.units[single])
        each = dict.fromkeys(range(periods), 1)
        return [_Course(single, mechanism, each, dict.fromkeys(range(len(cohorts)), 1))]
    of_examples = section.mechanism == "dp-sgd"
    planned: list[dict[int, int]] = [{} for _ in names]
    told: list[dict[int, int]] = [{} for _ in names]
    work = planned_work(len(names), config.cohort(), local, config.seed, periods)
    for period, epochs in enumerate(work):
        for client, count in epochs.items():
            planned[client][period] = count if of_examples else 1
    mechanisms = [
        _mechanism(config, ledger.units[name] if of_examples else len(names)) for name in names
    ]
    for period, cohort in enumerate(cohorts):
        for client, steps in cohort.items():
            told[client][period] = 1
            if of_examples:
                epochs_made = -(-steps // mechanisms[client].steps)
                drawn = local_epochs(local, config.seed, period + 1, client)
                told[client][period] = max(drawn, epochs_made)
    return [_Course(*course) for course in zip(names, mechanisms, planned, told, strict=True)]


def _mechanism(config: Config, population: int) -> Mechanism:
    """Return by what an account of so many units is spent, with a noise multiplier of 1."""
    section = config.privacy
    of_examples = section.mechanism == "dp-sgd"
    if of_examples:
        expected = config.local_training().batch_size or population
    else:
        expected = cohort_size(config.cohort(), population)
    return Mechanism(
        unit="example" if of_examples else "client",
        population=population,
        expected=expected,
        clip_norm=section.clip_norm,
        noise_multiplier=1.0,
        periods=_periods(config),
        steps=-(-population // expected) if of_examples else 1,
        schedule=NoiseSchedule(section.schedule, section.schedule_end),
        sampling="fixed" if section.placement == "local" else section.sampling,
        placement=section.placement,
    )


def _cohort(line: Mapping[str, Any], where: str) -> dict[int, int]:
    """Return client -> optimiser steps of the round that a line of the metrics tells of.

    The steps are 0 of those in the cohort whose update was not used.
    """
    cohort, clients = line.get("cohort"), line.get("clients")
    if not (isinstance(cohort, list) and all(_is_count(client) for client in cohort)):
        raise RunError(f"{where} is damaged: its cohort is not a list of client numbers.")
    steps = dict.fromkeys(cohort, 0)
    if not isinstance(clients, list):
        raise RunError(f"{where} is damaged: its clients are not a list.")
    for entry in clients:
        client, count = (
            (entry.get(key) for key in ("client", "steps"))
            if isinstance(entry, dict)
            else (None,) * 2
        )
        if not (_is_count(client) and client in steps and _is_count(count)):
            raise RunError(
                f"{where} is damaged: it does not say of each of its clients which of the cohort it "
                "is, and how many steps it took."
            )
        steps[client] = count
    return steps


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _told(content: Mapping[str, Any], where: str) -> tuple[str, int, float]:
    """Return the account, its releases and epsilon that a line of the metrics or a result tells of."""
    told = content.get("privacy")
    if isinstance(told, dict):
        account, releases, epsilon = (told.get(key) for key in ("account", "releases", "epsilon"))
        if isinstance(account, str) and type(releases) is int and releases >= 0:
            if epsilon is None:  # no bound; JSON has no word for it
                return account, releases, math.inf
            if type(epsilon) in (int, float) and 0 <= epsilon <= sys.float_info.max:
                return account, releases, float(epsilon)
    raise RunError(f"{where} is damaged: it does not say what of its privacy was spent.")


def _releases(count: int) -> str:
    return f"{count:,} release{'' if count == 1 else 's'}"


def _units(count: int | None) -> str:
    return "nothing" if count is None else f"{count:,}"
