"""``fedlens explain``: why the model of a run decided as it did."""

import re
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from fedlens.cli.display import out, print_json, table
from fedlens.cli.options import Json, RunPath
from fedlens.data import SPLITS, Split
from fedlens.data.images import read_image
from fedlens.errors import ExplanationError
from fedlens.experiment.gallery import explain_cases
from fedlens.experiment.opened import Run, load_run
from fedlens.explain import blind_area, blind_light
from fedlens.report import explanation_figure, save_figure
from fedlens.report.content import Case


def explain(
    path: RunPath,
    *,
    index: Annotated[
        list[int] | None,
        typer.Option(help="Position of an image in the split; may be given again."),
    ] = None,
    split: Annotated[str, typer.Option(help=f"One of {', '.join(SPLITS)}.")] = "test",
    image: Annotated[
        list[Path] | None, typer.Option(help="An image file in place of one of the set.")
    ] = None,
    class_: Annotated[
        str | None,
        typer.Option(
            "--class", help="Class to explain.", show_default="the predicted class of each image"
        ),
    ] = None,
    method: Annotated[str | None, typer.Option(help="Method.", show_default="of the run")] = None,
    layer: Annotated[
        str | None, typer.Option(help="Convolution to explain.", show_default="of the run")
    ] = None,
    out_: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the figure.", show_default="RUN/figures"),
    ] = None,
    json: Json = False,
) -> None:
    """Explain decisions: image, predicted class, confidence, map and target layer, side by side.

    Examples:

        fedlens explain runs/first

        fedlens explain runs/first --index 12 --index 40 --class Shirt

        fedlens explain runs/first --image photo.png
    """
    run = load_run(path)
    model, dataset = run.model, run.dataset
    target = None if class_ is None else _class_number(class_, run.class_names)
    source, chosen = _images(run, split, index, image)
    cases = explain_cases(
        model,
        dataset,
        source,
        np.array(chosen, dtype=np.int64),
        method=method or run.config.explain.method,
        layer=layer or run.config.explain.layer,
        target=target,
    )
    shape = (dataset.channels, dataset.image_size, dataset.image_size)
    blind = blind_area(model, shape)
    figure = explanation_figure(cases, blind.numpy() if bool(blind.any()) else None)
    pictures = save_figure(
        figure, out_ or path / "figures", _name(split, chosen, image, (class_, method, layer))
    )
    shown = source.images[torch.tensor(chosen)]
    unseen = float(blind_light(shown, torch.zeros(len(shown), dtype=torch.int64), 1, blind)[0])
    if json:
        print_json(
            {
                "cases": [_plain(case) for case in cases],
                "blind_pixels": int(blind.sum()),
                "figures": [str(picture) for picture in pictures],
            }
        )
        return
    table(
        "Explained decisions",
        ["image", "true", "predicted", "confidence", "explained", "layer"],
        [
            [
                str(image[case.index]) if image else f"{split} {case.index}",
                case.true_class,
                case.predicted_class,
                f"{100 * case.confidence:.1f} %",
                case.explained or case.predicted_class,
                case.layer + (" (no evidence found)" if case.degenerate else ""),
            ]
            for case in cases
        ],
    )
    if bool(blind.any()):
        out.print(
            f"This network cannot see {int(blind.sum())} of {blind.numel()} pixels (hatched in the "
            f"figure), which hold {100 * unseen:.0f} % of the light of these images; whatever a map "
            "paints there is only its enlargement.",
            highlight=False,
        )
    out.print(f"Figure: {pictures[0]}", highlight=False, soft_wrap=True)


def _images(
    run: Run, split: str, index: list[int] | None, files: list[Path] | None
) -> tuple[Split, list[int]]:
    dataset = run.dataset
    if files:
        images = torch.stack(
            [read_image(file, size=dataset.image_size, channels=dataset.channels) for file in files]
        )
        unknown = torch.full((len(files),), -1, dtype=torch.int64)
        return Split(images, unknown), list(range(len(files)))
    source = dataset.split(split)
    chosen = index or list(range(min(6, len(source))))
    for number in chosen:
        if not 0 <= number < len(source):
            raise ExplanationError(
                f"There is no image {number} in the {split} split, expected from 0 to "
                f"{len(source) - 1:,}."
            )
    return source, chosen


def _name(
    split: str, chosen: list[int], files: list[Path] | None, choices: tuple[str | None, ...]
) -> str:
    """Return a file name that tells one figure of a run from the next."""
    which = [file.stem for file in files] if files else [split, *map(str, chosen)]
    words = [*which[:7], *(choice for choice in choices if choice is not None)]
    return "explanation-" + re.sub(r"[^A-Za-z0-9]+", "-", " ".join(words)).strip("-")[:100]


def _class_number(name: str, class_names: list[str]) -> int:
    if name not in class_names:
        raise ExplanationError(
            f"There is no class '{name}', expected one of {', '.join(class_names)}."
        )
    return class_names.index(name)


def _plain(case: Case) -> dict[str, Any]:
    return {
        "index": case.index,
        "true_class": case.true_class,
        "predicted_class": case.predicted_class,
        "confidence": case.confidence,
        "explained_class": case.explained or case.predicted_class,
        "layer": case.layer,
        "degenerate": case.degenerate,
        "map": case.heatmap.tolist(),
    }
