"""What a study of privacy shows: accuracy against epsilon, what each class pays, what was claimed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fedlens.report.curves import HEIGHT
from fedlens.report.history import Floats, Spread
from fedlens.report.page import Drawer, Section
from fedlens.report.privacy_words import epsilon_text
from fedlens.report.study_content import Advice, CellResult, Group, StudySummary
from fedlens.report.study_figures import series_style
from fedlens.report.style import HALF, drawing, new_figure, shown
from fedlens.report.tables import Table
from fedlens.report.wording import NONE, count, decimal, listing, percent, points, with_spread

KEPT = 0.01 + 1e-9  # loss of accuracy up to which it counts as kept: a point
FEWEST_PAIRS = 6  # seeds from which a paired test can tell anything at 5 %


@dataclass(frozen=True, eq=False)
class Line:
    """The accuracy of one model in one setting at every budget.

    Attributes:
        setting: name of the partition.
        model: name of the network.
        schedule: of the noise.
        groups: epsilon (infinite without privacy) -> the seeds.
    """

    setting: str
    model: str
    schedule: str
    groups: Mapping[float, Group]

    def accuracy(self, epsilon: float) -> Spread | None:
        """Return mean and sd of the final accuracy at a budget, None where there is none."""
        group = self.groups.get(epsilon)
        return None if group is None else group.over_seeds(lambda cell: cell.final)

    @property
    def open(self) -> Spread | None:
        """Accuracy without privacy."""
        return self.accuracy(math.inf)


def lines_of(summary: StudySummary) -> list[Line]:
    """Return the lines that a study has finished cells of, in its order."""
    found: dict[tuple[str, str, str], dict[float, Group]] = {}
    for setting in summary.begun_partitions():
        for group in summary.groups(setting):
            cell = group.cells[0]
            key = (setting, _model(cell), _schedule(cell))
            found.setdefault(key, {})[_budget(cell)] = group
    for (setting, model, _), groups in found.items():  # without noise there is no schedule of it
        plain = found.get((setting, model, "constant"), {}).get(math.inf)
        if plain is not None:
            groups.setdefault(math.inf, plain)
    return [Line(*key, dict(sorted(groups.items()))) for key, groups in found.items()]


def privacy_sections(summary: StudySummary, drawer: Drawer) -> list[Section]:
    """Return the sections of a study of privacy, after the table of accuracies."""
    lines = lines_of(summary)
    made = [
        Section("epsilon", "Accuracy against epsilon", (), [[_chart(summary, lines, drawer)]]),
        Section("spent", "What was spent", (), [[_spent_table(summary)]]),
        _classes(summary, lines),
        _schedules(summary, lines),
    ]
    return [section for section in made if section is not None]


def privacy_advice(summary: StudySummary) -> list[Advice]:
    """Return what the figures say of each setting, and of the two claims that are tested."""
    advice = []
    for line in lines_of(summary):
        if line.schedule != "constant" or len(line.groups) < 2:
            continue
        title = f"{summary.partitions[line.setting]}, {line.model}"
        said = [
            f"{percent(accuracy.mean, 1)} at epsilon {_epsilon(budget)}"
            for budget in line.groups
            if (accuracy := line.accuracy(budget)) is not None
        ]
        text = f"Test accuracy is {listing(said)}."
        if line.open is not None:
            text += _ten_keeps_accuracy(line) + _one_costs_three_to_eight(line)
        advice.append(Advice(line.setting, title, (text,)))
    return advice


def _ten_keeps_accuracy(line: Line) -> str:
    """Hold the published claim that epsilon of about 10 keeps accuracy against the figures."""
    run = [budget for budget in (10, 8) if line.accuracy(budget) is not None]
    if not run:
        return ""
    lost = _lost(line, run[0])
    verdict = "holds here, to within a point" if lost <= KEPT else "does not hold here"
    instead = "" if run[0] == 10 else f"; {_epsilon(run[0])} stands for 10, which was not run"
    return (
        f" Epsilon {_epsilon(run[0])} costs {points(lost)} points: the claim that about 10 keeps the "
        f"accuracy {verdict}{instead}."
    )


def _one_costs_three_to_eight(line: Line) -> str:
    """Hold the published claim that epsilon of about 1 costs 3 to 8 points against the figures."""
    if line.accuracy(1) is None:
        return ""
    lost = _lost(line, 1)
    verdict = (
        "it costs less" if lost < 3 / 100 else "it costs more" if lost > 8 / 100 else "it does"
    )
    return f" Epsilon 1 costs {points(lost)} points: claimed are 3 to 8, and {verdict} here."


def _lost(line: Line, budget: float) -> float:
    accuracy = line.accuracy(budget)
    assert line.open is not None and accuracy is not None
    return line.open.mean - accuracy.mean


def _chart(summary: StudySummary, lines: Sequence[Line], drawer: Drawer) -> Any:
    said = "; ".join(
        f"{_name(summary, line)}: "
        + ", ".join(
            f"{percent(accuracy.mean, 1)} at {_epsilon(budget)}"
            for budget in line.groups
            if (accuracy := line.accuracy(budget)) is not None
        )
        for line in lines
    )
    return drawer.chart(
        "accuracy-epsilon",
        epsilon_figure([(_name(summary, line), line) for line in lines]),
        f"Accuracy on the {summary.measured_on} after the last epoch or round, against the budget "
        "epsilon; bars are one standard deviation over the seeds. The steps of the axis are the "
        "budgets that were run, not to scale; it does not start at zero.",
        f"Accuracy against epsilon. {said}.",
    )


@drawing()
def epsilon_figure(lines: Sequence[tuple[str, Line]]) -> Figure:
    """Return accuracy (percent) over the budgets, one line each, with bars of one sd."""
    budgets = sorted({budget for _, line in lines for budget in line.groups})
    place = {budget: n for n, budget in enumerate(budgets)}
    figure = new_figure(HALF, HEIGHT + 22 * len(lines))
    axes = figure.add_subplot()
    for number, (name, line) in enumerate(lines):
        known = [(b, a) for b in line.groups if (a := line.accuracy(b)) is not None]
        axes.errorbar(
            [place[b] for b, _ in known],
            [100 * a.mean for _, a in known],
            yerr=[100 * (a.sd or 0.0) for _, a in known],
            capsize=3,
            label=shown(name, 44),
            **series_style(number),
        )
    axes.set_xticks(range(len(budgets)), [_epsilon(budget) for budget in budgets])
    axes.set_xlabel("epsilon")
    axes.set_ylabel("Accuracy (%)")
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower left", handlelength=4.2)
    return figure


def _spent_table(summary: StudySummary) -> Table:
    rows = []
    for setting in summary.begun_partitions():
        for group in summary.groups(setting):
            spent = [cell.privacy for cell in group.cells if cell.privacy]
            if not spent:
                continue
            worst = max(spent, key=lambda entry: float(entry["epsilon"]))
            rows.append(
                [
                    f"{summary.partitions[setting]}, {summary.algorithms[group.algorithm]}",
                    epsilon_text(float(worst["epsilon"]), 3),
                    f"{float(worst['delta']):g}",
                    f"one {worst['unit']}",
                    str(worst["account"]),
                    f"{int(worst['releases']):,}",
                ]
            )
    return Table(
        "Epsilon that was really spent, replayed from each run's ledger by privacy-loss "
        "distributions: the highest of the seeds, and of the clients, rounded up. Each cell and seed "
        "is a release of its own about the same images: what two of them tell together costs more.",
        ("Cell", "Epsilon", "Delta", "Hides", "Worst account", "Releases"),
        rows,
        words=(0, 3, 4),
    )


def _classes(summary: StudySummary, lines: Sequence[Line]) -> Section | None:
    """Return what each class loses in F1, in points, against the same model without privacy."""
    tables = []
    sentences = []
    for line in lines:
        if line.schedule != "constant" or line.open is None or len(line.groups) < 2:
            continue
        free = _f1(line.groups[math.inf])
        costs = {b: free - _f1(group) for b, group in line.groups.items() if math.isfinite(b)}
        rows = [
            [f"epsilon {_epsilon(budget)}", *(points(value) for value in cost), points(cost.mean())]
            for budget, cost in costs.items()
        ]
        tables.append(
            Table(
                f"{_name(summary, line)}: points of F1 that each class loses to privacy.",
                ("", *summary.class_names, "mean"),
                rows,
            )
        )
        tightest = min(costs)
        dearest = int(np.nanargmax(costs[tightest]))
        sentences.append(
            f"{_name(summary, line)}: at epsilon {_epsilon(tightest)} {summary.class_names[dearest]} "
            f"pays most, {points(costs[tightest][dearest])} points of F1 against "
            f"{points(float(np.nanmean(costs[tightest])))} on average."
        )
    if not tables:
        return None
    return Section("classes", "Who pays", sentences, [[table] for table in tables])


def _schedules(summary: StudySummary, lines: Sequence[Line]) -> Section | None:
    """Return falling against constant noise at the same epsilon, seed by seed."""
    rows = []
    for line in lines:
        if line.schedule == "constant":
            continue
        even = next(
            (
                other
                for other in lines
                if (other.setting, other.model, other.schedule)
                == (line.setting, line.model, "constant")
            ),
            None,
        )
        for budget, group in line.groups.items():
            base = None if even is None else even.groups.get(budget)
            if base is None or not math.isfinite(budget):
                continue
            ours = {cell.seed: cell.final for cell in group.cells}
            theirs = {cell.seed: cell.final for cell in base.cells}
            seeds = sorted(set(ours) & set(theirs))
            gains = [ours[seed] - theirs[seed] for seed in seeds]
            rows.append(
                [
                    f"{summary.partitions[line.setting]}, {line.model}, {line.schedule}",
                    _epsilon(budget),
                    str(len(seeds)),
                    with_spread(base.only(seeds).over_seeds(lambda cell: cell.final), percent),
                    with_spread(group.only(seeds).over_seeds(lambda cell: cell.final), percent),
                    points(float(np.mean(gains))) if gains else NONE,
                    _p_value(gains),
                ]
            )
    if not rows:
        return None
    return Section(
        "schedules",
        "Falling noise against constant noise",
        (
            "Each schedule is scaled so that the whole training costs the same epsilon. The last "
            "column is the two-sided Wilcoxon signed-rank test over the seeds that both have; it needs "
            f"{count(FEWEST_PAIRS, 'seed')} to be able to fall below 5 %.",
        ),
        [
            [
                Table(
                    "The same model with constant and with falling noise, on the same seeds.",
                    ("", "Epsilon", "Seeds", "Constant", "Falling", "Gain (points)", "p"),
                    rows,
                )
            ]
        ],
    )


def _p_value(gains: Sequence[float]) -> str:
    if len(gains) < FEWEST_PAIRS or not any(gains):
        return NONE
    from scipy.stats import wilcoxon  # half a second of imports that only this table needs

    return decimal(float(wilcoxon(gains).pvalue), 3)


def _f1(group: Group) -> Floats:
    mean: Floats = np.array([cell.f1 for cell in group.cells]).mean(0)
    return mean


def _budget(cell: CellResult) -> float:
    privacy = cell.config.get("privacy", {})
    if privacy.get("mechanism", "none") == "none":
        return math.inf
    return float(privacy.get("epsilon") or math.nan)


def _model(cell: CellResult) -> str:
    return str(cell.config.get("model", {}).get("name", ""))


def _schedule(cell: CellResult) -> str:
    return str(cell.config.get("privacy", {}).get("schedule", "constant"))


def _epsilon(budget: float) -> str:
    return "∞" if math.isinf(budget) else f"{budget:g}"


def _name(summary: StudySummary, line: Line) -> str:
    falling = "" if line.schedule == "constant" else f", {line.schedule} noise"
    return f"{summary.partitions[line.setting]}, {line.model}{falling}"
