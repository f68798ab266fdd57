"""``fedlens personalise``."""

import dataclasses
import statistics
from typing import Annotated

import typer

from fedlens.cli.display import errors, out, print_json, table, watching
from fedlens.cli.options import Json, RunPath
from fedlens.errors import RunError
from fedlens.experiment.modes import Event
from fedlens.experiment.opened import load_run
from fedlens.experiment.privacy import private
from fedlens.experiment.run import partition_of
from fedlens.federated.personal import personalise as fit
from fedlens.files import without_nan


def personalise(
    path: RunPath,
    *,
    ditto: Annotated[
        float, typer.Option(help="Strength of the pull towards the global model; 0 for none.")
    ] = 0.0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over each client's images.")] = 1,
    json: Json = False,
) -> None:
    """Fit a finished run's model to each client, and show whom that helps.

    Accuracy is on the test split, weighted to each client's own mix of classes. Nothing in the run
    directory is changed.

    Examples:

        fedlens personalise runs/first

        fedlens personalise runs/first --ditto 0.1 --epochs 3
    """
    run = load_run(path)
    if run.config.mode != "federated":
        raise RunError(f"{path} was trained centrally; expected the run of a federation.")
    if private(run.config):
        errors.print(
            "Note: personal models are trained on each client's images without noise: no privacy "
            "covers them or their figures, which must stay with their client.",
            style="yellow",
            soft_wrap=True,
        )
    model = run.model
    first = run.parts[0] if run.parts else run
    clients = partition_of(first.config, first.dataset)
    local = dataclasses.replace(first.config.local_training(), epochs=epochs)
    with watching(quiet=json) as watch:
        results = fit(
            model,
            clients,
            local=local,
            held_out=first.dataset.test,
            ditto=ditto,
            seed=first.config.seed,
            progress=lambda done, total: watch(Event(done, total)),
        )
    if json:
        content = {
            "run": str(path),
            "ditto": ditto,
            "epochs": epochs,
            "clients": [
                {"name": name, **dataclasses.asdict(result)}
                for name, result in zip(clients.names, results, strict=True)
            ],
        }
        print_json(without_nan(content))
        return
    by_accuracy = all(r.personal_accuracy is not None for r in results)
    pairs = [
        (r.global_accuracy, r.personal_accuracy)
        if by_accuracy
        else (r.global_loss, r.personal_loss)
        for r in results
    ]
    rows = [
        [name, f"{result.examples:,}", *(_shown(value, by_accuracy) for value in pair)]
        for name, result, pair in zip(clients.names, results, pairs, strict=True)
    ]
    for name, pick in (("mean", statistics.mean), ("worst", min if by_accuracy else max)):
        columns = [
            [value for value in column if value is not None] for column in zip(*pairs, strict=True)
        ]
        rows.append([name, "", *(_shown(pick(column), by_accuracy) for column in columns)])
    measure = "test accuracy" if by_accuracy else "test loss"
    title = f"{measure.capitalize()}, weighted to each client's own classes"
    table(title, ["client", "images", "global model", "personal model"], rows)
    out.print(
        "Ditto with a pull of " + f"{ditto:g}." if ditto else "Fine-tuned without a pull.",
        highlight=False,
    )


def _shown(value: float | None, as_share: bool) -> str:
    if value is None:
        return ""
    return f"{100 * value:.2f} %" if as_share else f"{value:.4f}"
