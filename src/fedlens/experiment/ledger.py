"""A run's ledger opened, and compared with the run that it lies in."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from fedlens.errors import RunError
from fedlens.experiment.config import Config
from fedlens.experiment.run_directory import RunDirectory
from fedlens.privacy.ledger import Ledger, Terms
from fedlens.privacy.mechanism import relation_of
from fedlens.privacy.sources import SecureSource, SeededSource

EVERY_CLIENT = "every client"
POOLED = "all images"
ABOUT_THE_SAME = 0.01  # of two epsilons of the same releases, by two versions of the accountant


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
        RunError: it is missing, damaged or changed, or it is not the ledger of this run: on other
            terms, of other accounts, with fewer releases than the metrics tell of, or with others
            than the result tells of.
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


def _findings(directory: RunDirectory, config: Config, ledger: Ledger) -> Iterator[str]:
    yield from _other_terms(ledger.terms, terms_of(config))
    yield from _other_accounts(config, ledger)
    history = directory.read_metrics()
    least = _charged_at_least(config, ledger, history)
    name = directory.metrics_file.name
    told = [_told(line, f"{name}, line {number}") for number, line in enumerate(history, start=1)]
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
    result = directory.read_result()
    if result is None:
        return
    name = directory.result_file.name
    account, releases, epsilon = _told(result, name)
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


def _other_terms(found: Terms, expected: Terms) -> Iterator[str]:
    for name in ("mechanism", "unit", "relation", "delta", "budget", "guarantee", "source"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        # the seed is all that can differ in it; what else it says is a matter of the version
        if ours != theirs and not (name == "source" and found.guarantee):
            yield f"its {name} is '{ours}', and the run's '{theirs}'"


def _other_accounts(config: Config, ledger: Ledger) -> Iterator[str]:
    single = _only_account(config)
    if single is not None:
        if set(ledger.units) != {single}:
            yield f"it has an account of '{next(iter(ledger.units))}', and the run of '{single}'"
        return
    clients = config.federation.clients
    if clients is not None and len(ledger.units) != clients:
        yield f"it has {len(ledger.units):,} accounts, and the run {clients:,} clients"


def _only_account(config: Config) -> str | None:
    """Return the account of a run that has but one; None where each client has its own."""
    if config.mode == "central":
        return POOLED
    if config.privacy.mechanism == "dp-fedavg" and config.privacy.placement != "local":
        return EVERY_CLIENT
    return None


def _charged_at_least(
    config: Config, ledger: Ledger, history: list[dict[str, Any]]
) -> dict[str, int]:
    """Return for each client's account how many releases the metrics tell of, at the least."""
    least = dict.fromkeys(ledger.units, 0)
    if _only_account(config) is not None:
        return {}
    names = list(ledger.units)
    counts_steps = config.privacy.mechanism == "dp-sgd" and config.privacy.sampling == "poisson"
    for line in history:
        steps = {
            entry["client"]: entry["steps"] for entry in line.get("clients", []) if counts_steps
        }
        for client in line.get("cohort", []):
            name = names[client] if client < len(names) else f"client {client}"
            least[name] = least.get(name, 0) + steps.get(client, 1)
    return least


def _told(content: Mapping[str, Any], where: str) -> tuple[str, int, float]:
    """Return the account, its releases and epsilon that a line of the metrics or a result tells of."""
    told = content.get("privacy")
    if isinstance(told, dict):
        account, releases, epsilon = (told.get(key) for key in ("account", "releases", "epsilon"))
        if isinstance(account, str) and type(releases) is int:
            if epsilon is None:  # no bound; JSON has no word for it
                return account, releases, math.inf
            if isinstance(epsilon, int | float) and not isinstance(epsilon, bool):
                return account, releases, float(epsilon)
    raise RunError(f"{where} is damaged: it does not say what of its privacy was spent.")


def _releases(count: int) -> str:
    return f"{count:,} release{'' if count == 1 else 's'}"


def _units(count: int | None) -> str:
    return "nothing" if count is None else f"{count:,}"
