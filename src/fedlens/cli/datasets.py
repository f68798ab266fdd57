"""``fedlens datasets``: what there is, whether it is whole, and how to bring one's own."""

from pathlib import Path
from typing import Annotated

import typer

from fedlens.cli.display import out, print_json, table
from fedlens.cli.options import Json
from fedlens.data import DATASETS, available, import_folder, load_dataset, summarise
from fedlens.data.summary import DatasetSummary

datasets = typer.Typer(help="List, check and import image sets.", no_args_is_help=True)


@datasets.command("list")
def list_(json: Json = False) -> None:
    """List the image sets that fedlens knows by name, and where each would be found.

    Example:

        fedlens datasets list
    """
    rows = [
        {
            "name": name,
            "title": known.title,
            "task": known.task,
            "classes": len(known.class_names),
            "channels": known.channels,
            "found": available(name),
        }
        for name, known in DATASETS.items()
    ]
    if json:
        print_json(rows)
        return
    table(
        "Known image sets",
        ["name", "title", "task", "classes", "channels", "where"],
        [
            [str(row[key]) for key in ("name", "title", "task", "classes", "channels")]
            + [str(row["found"] or "to be downloaded")]
            for row in rows
        ],
    )


@datasets.command()
def check(
    name: Annotated[str, typer.Argument(help="A known name, or a file or folder.")],
    *,
    path: Annotated[Path | None, typer.Option(help="Where the named set lies.")] = None,
    json: Json = False,
) -> None:
    """Verify an image set and summarise it.

    Examples:

        fedlens datasets check fashion-mnist

        fedlens datasets check scans.npz
    """
    by_path = path is None and name not in DATASETS and Path(name).exists()
    dataset = (
        load_dataset(path=name, progress=not json)
        if by_path
        else load_dataset(name, path=path, progress=not json)
    )
    _show(summarise(dataset), json)


@datasets.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="A folder of class-named sub-folders of images.")],
    *,
    out_: Annotated[Path, typer.Option("--out", help="The .npz file to write.")],
    size: Annotated[int, typer.Option(help="Height and width to resize to, in pixels.")] = 28,
    channels: Annotated[
        int | None, typer.Option(help="1 for grey, 3 for colour.", show_default="as the images")
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            help="Institutions: 'folder' for a second folder level, or a CSV of path,group.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 42,
    json: Json = False,
) -> None:
    """Turn a folder of class-named sub-folders (PNG, JPEG, TIFF) into an image set.

    Examples:

        fedlens datasets import scans --out scans.npz

        fedlens datasets import scans --out scans.npz --size 64 --groups folder
    """
    where = groups if groups is None or groups == "folder" else Path(groups)
    dataset = import_folder(
        folder,
        out_,
        size=size,
        channels=channels,
        groups=where,  # type: ignore[arg-type]  # a str other than "folder" was made a path
        seed=seed,
    )
    _show(summarise(dataset), json)
    if not json:
        out.print(f"Written: {out_}", highlight=False, soft_wrap=True)


def _show(summary: DatasetSummary, json: bool) -> None:
    content = summary.to_json()
    if json:
        print_json(content)
        return
    counts = content["counts"]
    table(
        f"{content['name']} ({content['task']})",
        ["class", *counts],
        [
            [name, *(f"{counts[split][row]:,}" for split in counts)]
            for row, name in enumerate(content["class_names"])
        ],
    )
    if content["groups"]:
        names = sorted({name for groups in content["groups"].values() for name in groups})
        splits = list(content["groups"])
        table(
            "Institutions",
            ["institution", *splits],
            [[n, *(f"{content['groups'][s].get(n, 0):,}" for s in splits)] for n in names],
        )
    for key in ("image_shape", "mean", "std", "checksum", "source"):
        value = content[key]
        text = f"{value:.5f}" if isinstance(value, float) else str(value)
        out.print(f"{key.replace('_', ' ')}: {text}", highlight=False, soft_wrap=True)
