"""``fedlens partition``: who would hold what, before anything is trained."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from fedlens.cli.display import out, print_json, table
from fedlens.cli.options import ConfigFile, Json, Preset, Set
from fedlens.experiment.config import load_config
from fedlens.experiment.opened import as_configured, find_dataset
from fedlens.experiment.run import partition_of
from fedlens.report import partition_figure, save_figure


def partition(
    config: ConfigFile = None,
    *,
    preset: Preset = None,
    set_: Set = None,
    out_: Annotated[
        Path, typer.Option("--out", help="Folder for the heatmap (PNG and SVG).")
    ] = Path(),
    json: Json = False,
) -> None:
    """Show a partition of the training images as a table and a heatmap.

    Examples:

        fedlens partition

        fedlens partition --set partition.scheme=classes --set partition.classes_per_client=2

        fedlens partition --set partition.alpha=0.1 --set federation.clients=20 --out figures
    """
    chosen = load_config(config, preset=preset, overrides=set_ or [])
    dataset = as_configured(find_dataset(chosen, progress=not json), chosen)
    clients = partition_of(chosen, dataset)
    description = clients.describe(dataset.class_names)
    figure = partition_figure(
        clients.label_counts(), list(dataset.class_names), list(clients.names)
    )
    pictures = save_figure(figure, out_, "partition")
    if json:
        print_json({**description.to_json(), "figures": [str(path) for path in pictures]})
        return
    table(
        f"{dataset.name}: {clients.scheme}, {len(clients)} clients",
        ["client", "images", "effective classes", "distance", *dataset.class_names],
        [
            [
                name,
                f"{size:,}",
                f"{effective:.1f}",
                "" if np.isnan(distance) else f"{distance:.2f}",
                *(f"{count:,}" for count in counts),
            ]
            for name, size, effective, distance, counts in zip(
                description.names,
                description.sizes,
                description.effective_classes,
                description.total_variation,
                description.label_counts,
                strict=True,
            )
        ],
    )
    out.print(
        "distance: total-variation distance of the client's label mix from the whole's (0 to 1)",
        highlight=False,
    )
    if description.dropped:
        out.print(f"{description.dropped:,} images are held by nobody.", highlight=False)
    out.print(f"Heatmap: {pictures[0]}", highlight=False, soft_wrap=True)
