"""``fedlens study``."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from fedlens.cli.display import errors, out, print_json, table, watching
from fedlens.cli.options import Json
from fedlens.cli.run import STOPPED
from fedlens.errors import ConfigError, FedlensError, RunError
from fedlens.experiment.opened import find_dataset
from fedlens.experiment.study import Cell, Study, load_study, run_study
from fedlens.experiment.study.elsewhere import read_elsewhere
from fedlens.experiment.study.explanations import QUICK, Size, explain_study, gather, parts_of
from fedlens.experiment.study.summary import FINISHED, cell_state, recommend, summarise
from fedlens.files import without_nan
from fedlens.report.explanation_page import write_explanation_page
from fedlens.report.study_content import StudySummary
from fedlens.report.study_page import write_study_page
from fedlens.report.study_tables import accuracy_table
from fedlens.training.memory import keep_freed_memory


def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A study, or a TOML file of one.")],
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="PATTERN",
            help="Only cells like this, as partition/algorithm/seed; may be given again.",
        ),
    ] = None,
    first: Annotated[
        bool,
        typer.Option("--first", help="Only the cells that tell most, as the study lists them."),
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small version of every cell, to see that it runs.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Cells at a time, a process each.")] = 2,
    out_: Annotated[
        Path | None,
        typer.Option("--out", help="Directory of the study.", show_default="studies/NAME"),
    ] = None,
    include: Annotated[
        list[Path] | None,
        typer.Option(
            "--include",
            metavar="FOLDER",
            help="Take cells that were finished elsewhere from the manifest.json in this folder, and "
            "do not run them; may be given again.",
        ),
    ] = None,
    cases: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Study explanations: decisions of a kind that are explained, at most.",
            show_default="150, and 20 in the shorter tables",
        ),
    ] = None,
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Run nothing; write the page of what is finished.")
    ] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="Print the cells and how far each is, and stop.")
    ] = False,
    json: Json = False,
) -> None:
    """Run a grid of partitions, algorithms and seeds, and compare them on one page.

    Cells that are finished are not run again; one that was stopped goes on from its last round.

    Examples:

        fedlens study noniid --first

        fedlens study noniid --only 'classes-2/*/0' --only 'iid/fedavg/*' --jobs 2

        fedlens study noniid --quick --only '*/*/0'

        fedlens study noniid --list

        fedlens study noniid --first --include docs/results/noniid

        fedlens study explanations --only '*/hybrid/*' --cases 60
    """
    chosen = load_study(name, quick=quick)
    cells = chosen.choose(only or [], first=first)
    if not cells:
        raise ConfigError(
            f"No cell of the study '{chosen.name}' is both listed in its `first` and matched by --only."
            if only
            else f"The study '{chosen.name}' lists no cells in its `first`; leave out --first."
        )
    folder = out_ or Path("studies") / (f"{chosen.name}-quick" if quick else chosen.name)
    elsewhere = read_elsewhere(chosen, include or [])
    states = {cell.name: cell_state(cell, folder) for cell in cells}
    states |= {name: FINISHED for name in states if name in elsewhere.cells}
    if list_:
        _list(chosen, states, json)
        return
    failure: FedlensError | None = None
    if not page_only:
        try:
            here = [cell for cell in cells if cell.name not in elsewhere.cells]
            _run(here, states, folder, jobs, quiet=json)
        except KeyboardInterrupt:
            _stopped()
        except FedlensError as error:
            failure = error  # the other cells are finished, and are to be seen
    if chosen.file.kind == "explanations":
        size = QUICK if chosen.quick else Size()
        if cases is not None:
            size = replace(size, images=cases, few=min(size.few, cases))
        page = _explain(chosen, cells, folder, jobs, size=None if page_only else size, quiet=json)
        if failure is not None:
            raise failure
        if json:
            print_json({"study": chosen.name, "page": str(page)})
        else:
            out.print(f"Page: {page}", highlight=False, soft_wrap=True)
        return
    summary = replace(summarise(chosen, folder, elsewhere), called=name)
    if failure is not None and not summary.cells:
        raise failure
    if not summary.cells:
        raise RunError(f"No cell of the study '{chosen.name}' is finished in {folder} yet.")
    page = write_study_page(summary, recommend(summary), folder)
    if json and failure is None:
        print_json(without_nan(_content(summary, page)))
    elif not json:
        _print(summary, page)
    if failure is not None:
        raise failure


def _run(
    cells: Sequence[Cell], states: dict[str, str], folder: Path, jobs: int, *, quiet: bool
) -> None:
    by_images: dict[str, list[Cell]] = {}
    for cell in cells:
        by_images.setdefault(str(cell.config.dataset), []).append(cell)
    keep_freed_memory()
    for some in by_images.values():
        waiting = [cell for cell in some if states[cell.name] != FINISHED]
        dataset = find_dataset(waiting[0].config, progress=not quiet) if waiting else None
        with watching(quiet=quiet) as watch:
            run_study(some, folder, jobs=jobs, dataset=dataset, watch=watch)


def _stopped() -> NoReturn:
    again = shlex.join(["fedlens", *sys.argv[1:]])
    errors.print(f"Stopped. Go on with: {again}", soft_wrap=True, highlight=False)
    raise typer.Exit(STOPPED) from None


def _explain(
    chosen: Study, cells: Sequence[Cell], folder: Path, jobs: int, *, size: Size | None, quiet: bool
) -> Path:
    """Work out what the finished cells can answer, write the page, and return it.

    Nothing is worked out where ``size`` is None.
    """
    parts = [
        part
        for part in parts_of(cells)
        if all(cell_state(cell, folder) == FINISHED for cell in part.cells.values())
    ]
    failure: FedlensError | None = None
    if size is not None:
        try:
            with watching(quiet=quiet) as watch:
                explain_study(parts, folder, size, jobs=jobs, watch=watch)
        except KeyboardInterrupt:
            _stopped()
        except FedlensError as error:
            failure = error  # the other parts are to be seen
    found = gather(
        parts_of(chosen.cells),
        folder,
        name=chosen.name,
        title=chosen.file.title,
        about=" ".join(chosen.file.about.split()),
    )
    if failure is not None and not found.findings:
        raise failure
    if not found.findings:
        raise RunError(f"Nothing of the study '{chosen.name}' is worked out in {folder} yet.")
    page = write_explanation_page(found, folder)
    if failure is not None:
        raise failure
    return page


def _list(chosen: Study, states: dict[str, str], json: bool) -> None:
    if json:
        print_json(
            [{"cell": name, "state": state or "not begun"} for name, state in states.items()]
        )
        return
    rows = [[name, state or "not begun"] for name, state in states.items()]
    done = sum(state == FINISHED for state in states.values())
    table(f"{chosen.name}: {done} of {len(rows)} cells finished", ["cell", "state"], rows)


def _print(summary: StudySummary, page: Path) -> None:
    made = accuracy_table(summary)
    rows = [list(row) for row in made.rows]
    average = ", and of the rounds' average" if any(c.averaged for c in summary.cells) else ""
    title = f"Accuracy after the last round, and of the best round{average} (%)"
    table(title, list(made.columns), rows)
    for advice in recommend(summary):
        first, *rest = filter(None, [advice.use, *advice.reasons])
        out.print(f"{advice.title}: {first}", highlight=False, soft_wrap=True)
        for reason in rest:
            out.print(f"  - {reason}", highlight=False, soft_wrap=True)
    if summary.missing:
        out.print(f"{len(summary.missing)} of {summary.total} cells are missing.", highlight=False)
    out.print(f"Page: {page}", highlight=False, soft_wrap=True)


def _content(summary: StudySummary, page: Path) -> dict[str, Any]:
    groups = [group for key in summary.partitions for group in summary.groups(key)]
    return {
        "study": summary.name,
        "page": str(page),
        "finished": len(summary.cells),
        "total": summary.total,
        "measured_on": summary.measured_on,
        "table": [
            {
                "partition": group.partition,
                "algorithm": group.algorithm,
                "seeds": list(group.seeds),
                "final_accuracy": [cell.final for cell in group.cells],
                "best_accuracy": [cell.best for cell in group.cells],
                "averaged_accuracy": [cell.averaged[-1:] for cell in group.cells],
                "total_bytes": [cell.total_bytes for cell in group.cells],
                "worst_client": [cell.worst_client for cell in group.cells],
                "seconds": [cell.seconds for cell in group.cells],
            }
            for group in groups
        ],
        "advice": {
            advice.partition: {"use": advice.use, "reasons": list(advice.reasons)}
            for advice in recommend(summary)
        },
        "missing": [cell.name for cell in summary.missing],
    }
