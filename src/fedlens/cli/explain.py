"""``fedlens explain``: why the model of a run decided as it did."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from fedlens.cli.display import errors, out, print_json, table, watching
from fedlens.cli.options import Json, RunPath
from fedlens.data import SPLITS, Split
from fedlens.data.images import read_image
from fedlens.errors import ExplanationError
from fedlens.experiment.explaining import (
    Answers,
    Question,
    any_uses_layer,
    applicable,
    check_writable,
    explain_images,
    methods_in_words,
    save_maps,
)
from fedlens.experiment.gallery import build_cases
from fedlens.experiment.opened import Run, load_run
from fedlens.experiment.privacy import private
from fedlens.experiment.questions import (
    check_methods,
    chosen_positions,
    parse_contrast,
    parse_parameters,
)
from fedlens.explain import Contrast, blind_area, blind_light
from fedlens.explain.target import class_number
from fedlens.files import without_nan
from fedlens.report import explanation_figure, save_figure
from fedlens.report.content import Case
from fedlens.report.gallery import as_case, is_degenerate
from fedlens.report.words import looks_at_no_class

MOST_SHOWN = 60  # images in one figure, and in the table


def explain(
    path: RunPath,
    *,
    index: Annotated[
        list[str] | None,
        typer.Option(
            help="Position of an image in the split, or a slice start:stop or start:stop:step; may "
            "be given again.",
            show_default="the first six",
        ),
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
    contrast: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="Why class A rather than class B.", show_default=False),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Method; given again, the figure shows them side by side.",
            show_default="of the run",
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Convolution to explain.", show_default="of the run")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Setting of the method, e.g. samples=500; may be given again.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the method's draws.", show_default="of the run")
    ] = None,
    out_: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for the figure; or FILE.npz for the maps of one method.",
            show_default="RUN/figures",
        ),
    ] = None,
    figure: Annotated[
        bool, typer.Option("--figure", help="With --out FILE.npz: the figure too, in RUN/figures.")
    ] = False,
    json: Json = False,
) -> None:
    """Explain decisions: image, predicted class, confidence and map, side by side.

    Examples:

        fedlens explain runs/first

        fedlens explain runs/first --index 12 --index 40 --class Shirt

        fedlens explain runs/first --image photo.png --method grad-cam --method occlusion

        fedlens explain runs/first --index 0:64 --contrast Shirt:T-shirt/top --out maps.npz

        fedlens explain runs/first --method kernel-shap --parameter samples=2000 --seed 7

    A file of maps needs no pickle to be read. Its keys: maps, float32 (B, H, W), neither scaled nor
    painted; logits; indices and labels (-1 where unknown); predicted; target, one class for each image,
    the two classes of a contrast, or nothing where the method looks at no class; degenerate, maps that
    say nothing; detail_NAME, what the method knows of each map; meta, what made them, as JSON.
    """
    run = load_run(path)
    if class_ is not None and contrast is not None:
        raise ExplanationError("--class and --contrast were both given; give the one or the other.")
    maps = (
        out_ if out_ is not None and out_.suffix.lower() == ".npz" and not out_.is_dir() else None
    )
    if maps is not None:
        check_writable(maps)
    methods, left_out = _methods(run, method, maps)
    question = Question(
        methods,
        target=_target(run.class_names, class_, contrast),
        layer=layer or (run.config.explain.layer if any_uses_layer(methods) else None),
        seed=run.config.seed if seed is None else seed,
        parameters=parse_parameters(parameter or []),
        reference_seed=run.config.seed,
    )
    model, dataset = run.model, run.dataset
    source, chosen = _images(run, split, index, image)
    images, labels = (part[torch.tensor(chosen)] for part in (source.images, source.labels))
    with watching(quiet=json) as watch:
        answers = explain_images(model, images, question, dataset.train, watch=watch)
    _note(answers, left_out, run)
    asked = question.target is not None
    positions = np.array(chosen, dtype=np.int64)
    cases = build_cases(answers.explanations, dataset, source, positions, asked=asked)
    blind = blind_area(model, (dataset.channels, dataset.image_size, dataset.image_size))
    written = []
    if maps is not None:
        (explanation,) = answers.explanations.values()
        about = {"run": str(path), "class_names": run.class_names}
        about |= {"files": [str(file) for file in image]} if image else {"split": split}
        save_maps(maps, explanation, chosen, labels, about)
        written.append(f"Maps: {maps}")
    pictures: list[Path] = []
    if maps is None or figure:
        drawn = explanation_figure(cases[:MOST_SHOWN], blind.numpy() if bool(blind.any()) else None)
        which = [file.stem for file in image] if image else [split, *(index or map(str, chosen))]
        seeded = None if seed is None else f"seed {seed}"
        name = _name(which, (class_, contrast, *(method or ()), layer, *(parameter or ()), seeded))
        folder = out_ if out_ is not None and maps is None else path / "figures"
        pictures = list(save_figure(drawn, folder, name))
        written.append(f"Figure: {pictures[0]}")
    if json:
        content = {
            "cases": [_plain(each) for case in cases for each in _by_method(case)],
            "blind_pixels": int(blind.sum()),
            "figures": [str(picture) for picture in pictures],
            "maps": None if maps is None else str(maps),
        }
        print_json(without_nan(content))
        return
    _show(cases, [str(file) for file in image] if image else [f"{split} {n}" for n in chosen])
    agnostic = [name for name, one in answers.explanations.items() if one.target is None]
    unseen = blind_light(images, torch.zeros(len(images), dtype=torch.int64), 1, blind)
    sentences = [looks_at_no_class(agnostic)]
    if bool(blind.any()):
        sentences.append(
            f"This network cannot see {int(blind.sum())} of {blind.numel()} pixels (hatched in the "
            f"figure), which hold {100 * float(unseen[0]):.0f} % of the light of these images; "
            "whatever a map paints there is only its enlargement."
        )
    for line in filter(None, [*sentences, *written]):
        out.print(line, highlight=False, soft_wrap=True)


def _help() -> str:
    """Return the list of the methods as it stands in the help text."""
    lines = [
        f"- {name}: {sentence}{'' if looks else ' Looks at no class.'}"
        for name, sentence, looks in methods_in_words()
    ]
    return "\n    ".join(["Methods:", "", *lines])


# The methods are listed from their own words; a docstring cannot be put together where it stands.
explain.__doc__ = f"{explain.__doc__}\n    {_help()}\n    "


def _methods(
    run: Run, given: list[str] | None, maps: Path | None
) -> tuple[list[str], dict[str, str]]:
    """Return the methods that were given, or those of the run that can explain its network.

    For a file of maps it is one alone. With them goes why each other one of the run cannot.
    """
    if given:
        methods = check_methods(given)
        if maps is not None and len(methods) > 1:
            raise ExplanationError(
                f"--out {maps} takes the maps of one method, but {len(methods)} were given; choose "
                "one, or a folder for a figure of all."
            )
        return methods, {}
    methods = run.config.explain.methods[: None if maps is None else 1]
    able, refused = applicable(run.model, methods)
    return (able, refused) if able else (methods, {})  # none can: the first says why


def _target(names: list[str], class_: str | None, contrast: str | None) -> int | Contrast | None:
    if contrast is not None:
        return parse_contrast(contrast, names)
    return None if class_ is None else class_number(class_, names)


def _images(
    run: Run, split: str, index: list[str] | None, files: list[Path] | None
) -> tuple[Split, list[int]]:
    dataset = run.dataset
    if files:
        images = torch.stack(
            [read_image(file, size=dataset.image_size, channels=dataset.channels) for file in files]
        )
        unknown = torch.full((len(files),), -1, dtype=torch.int64)
        return Split(images, unknown), list(range(len(files)))
    source = dataset.split(split)
    return source, chosen_positions(index or [":6"], len(source), split)


def _note(answers: Answers, left_out: dict[str, str], run: Run) -> None:
    """Say which methods of the run explain nothing, and which maps no privacy covers."""
    for name, sentence in left_out.items():
        errors.print(f"Note: {name} is left out. {sentence}", style="yellow", soft_wrap=True)
    compared = [name for name, one in answers.explanations.items() if one.meta["references"]]
    if compared and private(run.config):
        errors.print(
            f"Note: maps of {', '.join(compared)} are worked out from training images as they are, "
            "which no noise hides: the guarantee of this run does not cover them.",
            style="yellow",
            soft_wrap=True,
        )


def _by_method(case: Case) -> list[Case]:
    """Return a case for each method."""
    return [case, *(as_case(case, further) for further in case.further)]


def _name(which: Sequence[str], choices: Sequence[str | None]) -> str:
    """Return a file name that tells one figure of a run from the next."""
    words = [*which[:7], *(choice for choice in choices if choice is not None)]
    plain = re.sub(r"[^A-Za-z0-9]+", "-", " ".join(words).replace(":", " to "))
    return f"explanation-{plain.strip('-')[:100]}"


def _show(cases: list[Case], images: list[str]) -> None:
    """Print a table with a row for each image and method."""
    several = bool(cases[0].further)
    columns = ["image", "true", "predicted", "confidence", "explained"]
    rows = [
        [
            images[number],
            case.true_class,
            case.predicted_class,
            f"{100 * case.confidence:.1f} %",
            case.explained or case.predicted_class,
            *([case.method] if several else []),
            (case.layer or "none") + (" (no evidence found)" if is_degenerate(case) else ""),
        ]
        for number, shown in enumerate(cases[:MOST_SHOWN])
        for case in _by_method(shown)
    ]
    table("Explained decisions", [*columns, *(["method"] if several else []), "layer"], rows)
    if len(cases) > MOST_SHOWN:
        out.print(f"These are the first {MOST_SHOWN} of {len(cases):,} images.", highlight=False)


def _plain(case: Case) -> dict[str, Any]:
    return {
        "index": case.index,
        "true_class": case.true_class,
        "predicted_class": case.predicted_class,
        "confidence": case.confidence,
        "explained_class": case.explained or case.predicted_class,
        "method": case.method,
        "layer": case.layer or None,
        "degenerate": case.degenerate,
        "map": case.heatmap.tolist(),
    }
