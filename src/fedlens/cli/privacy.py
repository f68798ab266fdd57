"""``fedlens privacy``: what a training would cost, how much noise a budget needs, what was spent."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from fedlens.cli.display import errors, out, print_json, table, waiting
from fedlens.cli.options import Json, RunPath
from fedlens.errors import RunError
from fedlens.experiment.ledger import open_ledger
from fedlens.experiment.opened import part_folders
from fedlens.experiment.privacy import private
from fedlens.experiment.run_directory import RunDirectory
from fedlens.files import without_nan
from fedlens.privacy.accounting import attack_bound, epsilon_of, worst_attack_bound
from fedlens.privacy.accounting import calibrate as find_noise
from fedlens.privacy.ledger import KEY_VARIABLE, Ledger, epsilon_of_all
from fedlens.privacy.mechanism import Mechanism
from fedlens.privacy.schedule import NoiseSchedule

NOT_VERIFIED = 1  # exit code: nothing was wrong with the question, but the ledger proves nothing

privacy = typer.Typer(
    help="Privacy: what a training costs, how much noise a budget needs, what a run has spent.",
    no_args_is_help=True,
)

Units = Annotated[int, typer.Option(min=1, help="Examples (or clients) in all.")]
Expected = Annotated[int, typer.Option(min=1, help="Expected in a batch (or cohort).")]
Periods = Annotated[
    int, typer.Option(min=1, max=100_000, help="Epochs over the examples (or rounds).")
]
Unit = Annotated[str, typer.Option(help="What is hidden: example or client.")]
Delta = Annotated[float, typer.Option(help="Well below one over the number of units.")]
Sampling = Annotated[
    str, typer.Option(help="poisson, or fixed (shuffled batches, a cohort of fixed size).")
]
Placement = Annotated[str, typer.Option(help="Who adds a client's noise: server or local.")]
ScheduleName = Annotated[
    str, typer.Option(help="Of the noise: constant, linear, exponential, cosine or step.")
]
End = Annotated[float, typer.Option(help="Factor of the noise in the last period.")]


@privacy.command()
def epsilon(
    *,
    noise: Annotated[
        float, typer.Option(help="Noise multiplier: its deviation over the clip norm.")
    ],
    units: Units,
    expected: Expected,
    periods: Periods,
    unit: Unit = "example",
    delta: Delta = 1e-5,
    sampling: Sampling = "poisson",
    placement: Placement = "server",
    schedule: ScheduleName = "constant",
    end: End = 0.5,
    json: Json = False,
) -> None:
    """Print what a planned training would cost.

    Examples:

        fedlens privacy epsilon --noise 1.1 --units 60000 --expected 256 --periods 60

        fedlens privacy epsilon --noise 0.94 --unit client --units 1000 --expected 100 --periods 100
    """
    plan = _mechanism(unit, units, expected, periods, noise, sampling, placement, schedule, end)
    _show(plan, delta, json)


@privacy.command()
def calibrate(
    *,
    epsilon: Annotated[float, typer.Option(help="What may be spent.")],
    units: Units,
    expected: Expected,
    periods: Periods,
    unit: Unit = "example",
    delta: Delta = 1e-5,
    sampling: Sampling = "poisson",
    placement: Placement = "server",
    schedule: ScheduleName = "constant",
    end: End = 0.5,
    json: Json = False,
) -> None:
    """Print the least noise with which a planned training stays within a budget.

    Examples:

        fedlens privacy calibrate --epsilon 3 --units 60000 --expected 2048 --periods 40

        fedlens privacy calibrate --epsilon 1 --units 5400 --expected 512 --periods 20 --schedule linear
    """
    plan = _mechanism(unit, units, expected, periods, 1.0, sampling, placement, schedule, end)
    with waiting("working out the noise", quiet=json):
        noise = find_noise(lambda scale: plan.with_noise(scale).plan(), epsilon, delta)
    _show(plan.with_noise(noise), delta, json)


@privacy.command()
def ledger(path: RunPath, *, json: Json = False) -> None:
    """Print what a run has spent, worked out again from its ledger.

    The ledger is compared with the run's configuration, metrics and result. Exit code 0: it fits, and
    its signature was verified. 1: it fits, but was signed with a key that is not here, so that it
    proves nothing. 2: it was changed, or is not this run's.

    Example:

        fedlens privacy ledger runs/private
    """
    config = RunDirectory(path).read_config()
    if not private(config):
        raise RunError(
            f"{path} was trained without privacy (privacy.mechanism is 'none'): nothing was hidden or "
            "charged, so that there is no epsilon."
        )
    folders = part_folders(path, config) if config.repeats > 1 else [path]
    if not folders:
        raise RunError(f"{path} has not begun; go on with `fedlens resume {path}`.")
    spent = []
    with waiting("working out what was spent", quiet=json):
        for folder in folders:
            part = RunDirectory(folder)
            spent.append(_spent(open_ledger(part, part.read_config())))
    names = [folder.name for folder in folders]
    if config.repeats == 1:
        if json:
            print_json(without_nan(spent[0].content()))
        else:
            _print_spent(spent[0])
    else:
        _print_parts(names, spent, json)
    foreign = [one.ledger for one in spent if not one.ledger.verified]
    for found in foreign:
        errors.print(
            f"Not verified: {found.path} was signed with another key than this machine's, so that a "
            "change would not be noticed; check it where the run was made, or name the file of its "
            f"key in ${KEY_VARIABLE}.",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
    if foreign:
        raise typer.Exit(NOT_VERIFIED)


def _print_parts(names: list[str], spent: list["_Spent"], json: bool) -> None:
    """Print what each seed has spent, and what all have together."""
    ledgers = [one.ledger for one in spent]
    with waiting("working out what all seeds cost together", quiet=json):
        together, accountant = epsilon_of_all(
            [[found.releases(name) for name in found.units] for found in ledgers],
            ledgers[0].terms.delta,
        )
    if json:
        parts = [{"part": n, **one.content()} for n, one in zip(names, spent, strict=True)]
        all_parts = {"epsilon_of_all_parts": together, "accountant_of_all_parts": accountant}
        print_json(without_nan({"parts": parts, **all_parts}))
        return
    for name, one in zip(names, spent, strict=True):
        _print_spent(one, f"{name}: ")
    how = "the releases of all seeds together, by PLD"
    if accountant == "rdp":
        how = (
            "a bound by RDP: at each Renyi order the account of each seed that costs most there, since "
            f"one {ledgers[0].terms.unit} may be in another account in each"
        )
    _say(
        f"All {len(spent)} seeds used the same images: whoever sees all of their models is promised "
        f"epsilon {_number(together)}, not that of one ({how})."
    )


@dataclass(frozen=True, eq=False)
class _Spent:
    """A ledger, and what its accounts cost: worked out once, since that takes time."""

    ledger: Ledger
    epsilons: dict[str, float]
    cross_checks: dict[str, float]

    @property
    def worst(self) -> str:
        """Name of the account that has spent most."""
        return max(self.epsilons, key=lambda name: self.epsilons[name])

    def content(self) -> dict[str, Any]:
        """Return what ``--json`` shows."""
        found = self.ledger
        return {
            **found.terms.model_dump(),
            "verified": found.verified,
            "epsilon": self.epsilons[self.worst],
            "worst_account": self.worst,
            "true_positive_rate_bound_at_1_percent": worst_attack_bound(
                found.releases(name) for name in found.units
            ),
            "accounts": [
                {
                    "account": name,
                    "units": units,
                    "releases": found.steps(name),
                    "epsilon_pld": self.epsilons[name],
                    "epsilon_rdp": self.cross_checks[name],
                }
                for name, units in found.units.items()
            ],
        }


def _spent(found: Ledger) -> _Spent:
    return _Spent(
        found,
        {name: found.epsilon(name) for name in found.units},
        {name: found.epsilon(name, accountant="rdp") for name in found.units},
    )


def _print_spent(spent: _Spent, title: str = "") -> None:
    found, terms = spent.ledger, spent.ledger.terms
    rows = [
        [
            name,
            f"{units:,}",
            f"{found.steps(name):,}",
            _number(spent.epsilons[name]),
            _number(spent.cross_checks[name]),
        ]
        for name, units in found.units.items()
    ]
    table(
        f"{title}{terms.mechanism}, unit: one {terms.unit}, delta {terms.delta:g}",
        ["account", f"{terms.unit}s", "releases", "epsilon (PLD)", "epsilon (RDP)"],
        rows,
    )
    _say(
        f"Spent: epsilon {_number(spent.epsilons[spent.worst])} at delta {terms.delta:g} for one "
        f"{terms.unit} ({terms.relation}), by PLD"
        + (f"; that is the worst, {spent.worst}." if len(found.units) > 1 else ".")
    )
    _say(f"Budget: {'none was set' if terms.budget is None else f'epsilon {terms.budget:g}'}.")
    _say(f"Noise and samples: {terms.source}.")
    if not terms.guarantee:
        _say("They were seeded, so that nothing is guaranteed: whoever knows the seed knows all.")
    if found.verified:
        _say("Verified: signed with this machine's key, and it fits the run.")


def _say(line: str) -> None:
    out.print(line, highlight=False, soft_wrap=True)


def _mechanism(
    unit: str,
    units: int,
    expected: int,
    periods: int,
    noise: float,
    sampling: str,
    placement: str,
    schedule: str,
    end: float,
) -> Mechanism:
    steps = -(-units // expected) if unit == "example" else 1
    shape: Any = schedule
    return Mechanism(
        unit=unit,  # type: ignore[arg-type]  # the mechanism itself refuses what it cannot be
        population=units,
        expected=expected,
        clip_norm=1.0,
        noise_multiplier=noise,
        periods=periods,
        steps=steps,
        schedule=NoiseSchedule(shape, end),
        sampling=sampling,  # type: ignore[arg-type]
        placement=placement,  # type: ignore[arg-type]
    )


def _show(plan: Mechanism, delta: float, json: bool) -> None:
    releases = plan.plan()
    with waiting("working out what it costs", quiet=json):
        costs = [epsilon_of(releases, delta), epsilon_of(releases, delta, accountant="rdp")]
        bound = attack_bound(releases)
    content = {
        "unit": plan.unit,
        "relation": plan.relation,
        "delta": delta,
        "epsilon_pld": costs[0],
        "epsilon_rdp": costs[1],
        "noise_multiplier": plan.noise_multiplier,
        "last_noise_multiplier": plan.multiplier(plan.periods - 1),
        "sampling": plan.sampling,
        "rate": plan.rate,
        "releases": sum(release.count for release in releases),
        "true_positive_rate_bound_at_1_percent": bound,
    }
    warning = ""
    if delta * plan.population >= 1 and plan.placement != "local":
        warning = (
            f"Warning: delta is not below 1 / {plan.population:,}, so that publishing one whole "
            f"{plan.unit} would count as private."
        )
    if json:
        print_json(without_nan(content))
        if warning:
            errors.print(warning, style="yellow", highlight=False, soft_wrap=True)
        return
    rows = [
        ["epsilon (PLD)", _number(content["epsilon_pld"])],
        ["epsilon (RDP, the cross-check)", _number(content["epsilon_rdp"])],
        ["delta", f"{delta:g}"],
        ["unit", f"one {plan.unit}"],
        ["noise multiplier", f"{plan.noise_multiplier:.4g}"],
        ["releases", f"{content['releases']:,}"],
        ["sampling rate that amplifies", f"{releases[0].rate:.4g}"],
        [
            "an attacker's true positives at 1 % false ones",
            f"at most {100 * float(content['true_positive_rate_bound_at_1_percent']):.1f} %",  # type: ignore[arg-type]
        ],
    ]
    if plan.schedule.shape != "constant":
        rows.insert(5, ["in the last period", f"{plan.multiplier(plan.periods - 1):.4g}"])
    table("Cost of the plan", ["", "value"], rows)
    out.print(f"Cannot be told apart: {plan.relation}.", highlight=False, soft_wrap=True)
    if warning:
        out.print(warning, style="yellow", highlight=False, soft_wrap=True)


def _number(value: Any) -> str:
    return "infinite" if math.isinf(value) else f"{value:.4g}"
