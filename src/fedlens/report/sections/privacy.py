"""Privacy: what is promised to whom against whom, what was spent, and what sampling did to it."""

import math

import numpy as np

from fedlens.report import privacy_words, words
from fedlens.report.content import PrivacyAccount, PrivacySpending, ReportContent
from fedlens.report.curves import Curve, curves_figure
from fedlens.report.history import aligned
from fedlens.report.page import Chart, Drawer, Item, Section, text_only
from fedlens.report.privacy_words import epsilon_text, small
from fedlens.report.tables import Table, first_seed
from fedlens.report.wording import NONE

MOST_ACCOUNTS = 30  # rows of the table of clients
MOST_BESIDE = 12  # clients up to which it stands beside another table


def privacy_section(content: ReportContent, drawer: Drawer) -> Section | None:
    """Return what a private run promised and spent, or None for a run without privacy."""
    spending = content.privacy
    if spending is None:
        return None
    rows: list[list[Item]] = [
        [spent_table(content, spending), *_curve(content, spending, drawer)],
        [mechanism_table(content, spending)],
        [coverage_table(content)],
        [amplification_table(content, spending)],
    ]
    clients = len(spending.accounts)
    if clients > 1:
        accounts = accounts_table(content, spending)
        if clients <= MOST_BESIDE:
            rows[1].append(accounts)
        else:
            rows.insert(2, [accounts])
    paragraphs = text_only(
        " ".join(privacy_words.promise(content)), privacy_words.not_finite(content)
    )
    return Section("privacy", "Privacy", paragraphs, rows)


def spent_table(content: ReportContent, spending: PrivacySpending) -> Table:
    """Return epsilon with all that belongs to such a number."""
    terms, worst = spending.terms, spending.worst
    rows = [
        ["Epsilon, by PLD", epsilon_text(worst.epsilon, 4)],
        ["Epsilon, by RDP", f"{epsilon_text(spending.epsilon_rdp, 4)} (the cross-check, looser)"],
        ["Delta", small(terms.delta)],
        ["Unit of privacy", privacy_words.unit_text(spending)],
        ["Neighbouring relation", terms.relation],
        [
            "True positives of any attacker at 1 % false positives",
            f"at most {privacy_words.upper_percent(spending.attack_bound)}",
        ],
        ["Accountant", "PLD (privacy-loss distributions of dp-accounting), from the ledger"],
        ["Budget", "none was set" if terms.budget is None else f"epsilon {terms.budget:g}"],
        [
            "Guarantee",
            "yes: noise and samples were secret"
            if terms.guarantee
            else "none: noise and samples were seeded",
        ],
        [
            "Signature of the ledger",
            "verified with this machine's key"
            if spending.verified
            else "not verified: made with the key of another machine",
        ],
    ]
    return Table(
        f"What was spent{_whose(content, spending)}. Epsilons are rounded up.",
        ("Privacy", "Value"),
        rows,
        words=(1,),
    )


def mechanism_table(content: ReportContent, spending: PrivacySpending) -> Table:
    """Return how it was spent: sampling, noise and clipping."""
    terms, mechanism, worst = spending.terms, spending.mechanism, spending.worst
    noise = privacy_words.noise_text(spending, worst)
    shape = mechanism.schedule.shape
    rows = [
        ["Mechanism", terms.mechanism],
        ["Sampling", privacy_words.sampling_text(spending)],
        [
            "Noise multiplier",
            f"{noise}, {'constant' if shape == 'constant' else f'falling ({shape})'}",
        ],
        ["Noise added by", _adder(content, spending)],
        ["Clip norm", privacy_words.clip_text(content)],
        ["Releases charged", privacy_words.releases_of(worst)],
        ["Noise and samples from", terms.source],
    ]
    return Table(f"How it was spent{_whose(content, spending)}.", ("", "Value"), rows, words=(1,))


def _whose(content: ReportContent, spending: PrivacySpending) -> str:
    if len(spending.accounts) == 1:
        return first_seed(content)
    return f" by {spending.worst.name}, the client that has spent most{first_seed(content)}"


def _adder(content: ReportContent, spending: PrivacySpending) -> str:
    mechanism = spending.mechanism
    if mechanism.placement == "local":
        return "each client, before it sends"
    if mechanism.placement == "distributed":
        return "each client a share"
    if mechanism.unit == "client":
        return "the server"
    return "each client, in every step" if words.federated(content) else "the one who trains"


def coverage_table(content: ReportContent) -> Table:
    """Return what the promise covers and what it does not."""
    return Table(
        "What is promised to whom, against whom, and what lies outside.",
        ("", "In words"),
        privacy_words.coverage(content),
        words=(1,),
    )


def accounts_table(content: ReportContent, spending: PrivacySpending) -> Table:
    """Return what each client has spent, worst first."""
    every = spending.accounts
    shown = every[:MOST_ACCOUNTS]
    examples = spending.mechanism.unit == "example"
    columns = ["Client", "Epsilon", *(["Images"] if examples else []), "Releases", "Noise"]
    caption = "What each client has spent, worst first"
    if len(every) > len(shown):
        caption = f"The {len(shown)} clients of {len(every):,} that have spent most"
    tail = " Its own size and number of rounds set the noise and the cost of each."
    return Table(
        f"{caption}{first_seed(content)}.{tail if examples else ''}",
        columns,
        [_account(spending, account, examples=examples) for account in shown],
    )


def _account(spending: PrivacySpending, account: PrivacyAccount, *, examples: bool) -> list[str]:
    images = [f"{account.units:,}"] if examples else []
    return [
        account.name,
        epsilon_text(account.epsilon),
        *images,
        privacy_words.releases_of(account),
        privacy_words.noise_text(spending, account, digits=3),
    ]


def amplification_table(content: ReportContent, spending: PrivacySpending) -> Table:
    """Return the same noise in other settings."""
    rows = [
        [
            f"{row.what} (this run)" if row.spent else row.what,
            NONE if row.epsilon is None else epsilon_text(row.epsilon),
            f"{row.assumed}\nHolds against: {row.against}",
        ]
        for row in spending.amplification
    ]
    whose = f" of {spending.worst.name}" * (len(spending.accounts) > 1)
    return Table(
        f"What sampling and secure aggregation change: epsilon by PLD at delta "
        f"{small(spending.terms.delta)} of the same noise{whose}{first_seed(content)}. Only the row "
        "of this run is promised. A dash stands where epsilon does not change or no sound number is "
        "known.",
        ("Setting", "Epsilon", "What is assumed, and against whom it holds"),
        rows,
        words=(2,),
        stacked=True,
    )


def _curve(content: ReportContent, spending: PrivacySpending, drawer: Drawer) -> list[Chart]:
    """Return epsilon by round or epoch, with the budget, as no chart or one."""
    name = words.unit(content)
    steps, values = aligned([seed.history for seed in content.seeds], "privacy", "epsilon")
    if not values.size or np.isnan(values).all():
        return []
    budget = spending.terms.budget
    curves = [Curve("spent", values)]
    if budget is not None:
        curves.append(Curve("budget", np.full((1, len(steps)), budget), dashed=True))
    known = values[0][~np.isnan(values[0])]
    end = epsilon_text(float(known[-1]) if len(known) else math.nan)
    lines = " Thin lines are the seeds, the thick one their mean." if len(values) > 1 else ""
    whose = ", of the client that had spent most" if len(spending.accounts) > 1 else ""
    return [
        drawer.chart(
            "epsilon",
            curves_figure(steps, curves, axis="Epsilon", unit=name.capitalize(), zero=True),
            f"Epsilon after each {name}, at delta {small(spending.terms.delta)}{whose}"
            + (f"; the budget of {budget:g} is dashed." if budget is not None else ".")
            + lines,
            f"Line chart of epsilon by {name}; {end} at the end.",
        )
    ]
