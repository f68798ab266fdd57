"""What the report says in sentences, from the same numbers as its tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedlens.report import privacy_words
from fedlens.report.blind import Mask, ranges
from fedlens.report.comparison import gap, last_value, over_seeds
from fedlens.report.content import NO_CLASS, WHERE, Case, ReportContent
from fedlens.report.history import Point, best, client_series, final, latest, listed, spread, steps
from fedlens.report.wording import (
    count,
    decimal,
    listing,
    percent,
    points,
    with_spread,
)

ALGORITHMS = {
    "fedavg": "FedAvg",
    "fedprox": "FedProx",
    "fednova": "FedNova",
    "fedavgm": "FedAvgM",
    "fedadagrad": "FedAdagrad",
    "fedadam": "FedAdam",
    "fedyogi": "FedYogi",
    "feddyn": "FedDyn",
    "scaffold": "SCAFFOLD",
}
_PARTITIONS = {
    "iid": "dealt out at random, so that all clients have nearly the same mix",
    "dirichlet": "skewed by a Dirichlet draw for each class",
    "dirichlet-balanced": "skewed by a self-balancing Dirichlet draw",
    "classes": "limited to a few classes for each client",
    "class-lists": "given to named specialists, class by class",
    "quantity": "shared out in very unequal amounts",
    "group": "kept with the institution that they come from",
}


def federated(content: ReportContent) -> bool:
    """Tell whether the run was a federation."""
    return content.mode == "federated"


def unit(content: ReportContent) -> str:
    """Return what a step of the history is called: ``round`` or ``epoch``."""
    return "round" if federated(content) else "epoch"


def setting(content: ReportContent, *path: str) -> Any:
    """Return the configuration's value at ``path``, or None."""
    value: Any = content.configuration
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def algorithm(content: ReportContent) -> str:
    """Return the name of the federated algorithm as its authors write it."""
    name = str(setting(content, "federation", "algorithm") or "federated averaging")
    return ALGORITHMS.get(name, name)


def model_name(content: ReportContent) -> str:
    """Return the name of the network."""
    return str(setting(content, "model", "name") or "the network")


def statement(content: ReportContent) -> list[str]:
    """Return what was run and what came of it, a few plain sentences."""
    return [
        _what_was_run(content),
        *_what_was_shared(content),
        _outcome(content),
        *_weakest(content),
    ]


def _what_was_run(content: ReportContent) -> str:
    length = count(max(steps(content.seeds[0].history), default=0), unit(content))
    repeats = len(content.seeds)
    again = f", {count(repeats, 'time')} from different seeds" if repeats > 1 else ""
    if federated(content):
        who = count(len(content.client_names), "client")
        return (
            f"{who.capitalize()} trained {model_name(content)}, a network of "
            f"{content.total_parameters:,} parameters, on {content.dataset_name} for {length} with "
            f"{algorithm(content)}{again}."
            + (" The model is the average of the rounds' models." if is_averaged(content) else "")
        )
    return (
        f"The network {model_name(content)}, of {content.total_parameters:,} parameters, was "
        f"trained on {int(content.split_counts[0].sum()):,} pooled training images of "
        f"{content.dataset_name} for {length}{again}."
    )


def _what_was_shared(content: ReportContent) -> list[str]:
    if not federated(content):
        return ["The images were pooled in one place: this is the baseline without a federation."]
    here = ", here in a simulation on one machine" if content.simulated else ""
    what = "model parameters and training figures"
    if content.privacy is not None:
        what = "model parameters and counts of images and steps"
    return [
        f"No client gave away an image: {what} were all that passed between the clients and the "
        f"server{here}."
    ]


def _outcome(content: ReportContent) -> str:
    test = content.seeds[0].test
    over = (
        f" (mean ± sd over {count(len(content.seeds), 'seed')})" if len(content.seeds) > 1 else ""
    )
    f1 = with_spread(over_seeds(content, lambda s: s.test.macro_f1), lambda v: decimal(v, 3))
    images = f"On the {test.examples:,} test images, which played no part in training,"
    if test.auc is not None:
        return f"{images} the mean AUC over labels is {mean_auc(content)}, macro F1 {f1}{over}."
    accuracy = with_spread(over_seeds(content, lambda s: s.test.accuracy), percent)
    return f"{images} it names the right class for {accuracy} of them, macro F1 {f1}{over}."


def _weakest(content: ReportContent) -> list[str]:
    test = content.seeds[0].test
    scores = np.where(test.support > 0, test.f1, np.nan)
    if np.isnan(scores).all():
        return []
    place = int(np.nanargmin(scores))
    noun = "label" if content.task == "multilabel" else "class"
    mean = over_seeds(content, lambda s: float(s.test.f1[place]))
    value = with_spread(mean, lambda v: decimal(v, 3))
    sentence = f"Its weakest {noun} is {content.class_names[place]} (F1 {value})"
    worst = worst_client(content)
    if worst is None or is_averaged(content):  # clients are measured with each round's model
        return [f"{sentence}."]
    name, accuracy = worst
    return [f"{sentence}; the client it serves worst is {name} ({percent(accuracy, 1)})."]


def mean_auc(content: ReportContent) -> str:
    """Return the mean AUC over the labels that have one, as mean ± sd over seeds."""
    values = [
        float(np.nanmean(seed.test.auc))
        for seed in content.seeds
        if seed.test.auc is not None and not np.isnan(seed.test.auc).all()
    ]
    return with_spread(spread(values), lambda value: decimal(value, 3))


def worst_client(content: ReportContent) -> tuple[str, float] | None:
    """Return name and accuracy of the client with the lowest latest accuracy, or None."""
    names = content.client_names
    accuracy = latest(client_series(content.seeds[0].history, len(names), "accuracy"))
    if not len(accuracy) or np.isnan(accuracy).all():
        return None
    place = int(np.nanargmin(accuracy))
    return names[place], float(accuracy[place])


def protection(content: ReportContent) -> str:
    """Return how the updates were protected; says plainly where they were not."""
    if content.privacy is not None:
        return privacy_words.protection(content)
    section = setting(content, "privacy")
    if is_unprotected(section):
        if federated(content):
            return (
                "The updates were not protected. No privacy noise was used, nothing was clipped, "
                "and there was no secure aggregation: whoever sees a client's update can try to "
                "rebuild its images or find out who is among them. Keeping the images at home is "
                "not a privacy guarantee."
            )
        return (
            "No privacy noise was used: the trained network carries no guarantee about the images "
            "it was trained on."
        )
    settings = ", ".join(f"{key} {value}" for key, value in dict(section).items())
    return f"The configuration protects the updates by: {settings}."


def is_unprotected(section: Any) -> bool:
    """Tell whether a configuration's privacy section asks for no protection at all."""
    nothing = (None, False, 0, 0.0, "", "none", "off")
    if not isinstance(section, Mapping):
        return section in nothing
    if "mechanism" in section:
        return section["mechanism"] in nothing
    return all(value in nothing for value in section.values())


def is_unguarded(content: ReportContent) -> bool:
    """Tell whether nothing is guaranteed of the privacy of the training images."""
    spending = content.privacy
    if spending is None:
        return is_unprotected(setting(content, "privacy"))
    return not spending.terms.guarantee or math.isinf(spending.worst.epsilon)


def repeatable(content: ReportContent) -> bool:
    """Tell whether every draw came from the seed, so that the run can be repeated."""
    return content.privacy is None or not content.privacy.terms.guarantee


def is_averaged(content: ReportContent) -> bool:
    """Tell whether the model of the run is the average of its rounds' models."""
    return federated(content) and bool(setting(content, "federation", "averaging"))


def best_step(content: ReportContent) -> Point | None:
    """Return the best step of the first seed by validation accuracy (by loss if multi-label)."""
    history = content.seeds[0].history
    if content.task == "multilabel":
        return best(history, "validation", "loss", lowest=True)
    return best(history, "validation", "accuracy")


def ending(content: ReportContent) -> list[str]:
    """Return the figures after the last step, with the best step beside them."""
    history, name = content.seeds[0].history, unit(content)
    last, loss = final(history, "validation", "accuracy"), final(history, "validation", "loss")
    if last is None or loss is None:
        return [f"The validation set was not evaluated after any {name}."]
    several = len(content.seeds) > 1
    accuracy = over_seeds(content, lambda s: last_value(s, "validation", "accuracy"))
    losses = over_seeds(content, lambda s: last_value(s, "validation", "loss"))
    over = f" (mean ± sd over {count(len(content.seeds), 'seed')})" if several else ""
    sentences = [
        f"After {name} {last.step}, the last one evaluated, validation accuracy is "
        f"{with_spread(accuracy, percent)} and validation loss "
        f"{with_spread(losses, decimal)}{over}."
    ]
    top = best_step(content)
    if top is not None:
        which = f"Of seed {content.seeds[0].seed} the" if several else "The"
        if top.step == last.step:
            sentences.append(f"{which} last {name} is also the best.")
        else:
            value = (
                f"validation loss {decimal(top.value)}"
                if content.task == "multilabel"
                else f"validation accuracy {percent(top.value)}"
            )
            sentences.append(f"{which} best {name} was {top.step}, with {value}.")
    whose = f"the last {name}"
    if is_averaged(content):
        whose = f"the average after the last {name}"
        averaged = over_seeds(content, lambda s: last_value(s, "averaged", "accuracy"))
        sentences.append(
            f"The model of the run is the average of the {name}s' models, each older one counting "
            f"less; its validation accuracy is {with_spread(averaged, percent)}."
        )
    sentences.append(f"All test figures are those of {whose}: none was picked afterwards.")
    return sentences


def overfitting(content: ReportContent) -> str:
    """Return the gap between training and validation accuracy in a sentence; empty if unknown."""
    value = over_seeds(content, gap)
    if value is None:
        return ""
    where = (
        "the clients measure the former on their own images while they train"
        if federated(content)
        else "the former is measured while the weights still move"
    )
    end = "of the last round's own model" if is_averaged(content) else "at the end"
    return (
        f"The overfitting gap {end}, training minus validation accuracy, is "
        f"{with_spread(value, points)} points; {where}."
    )


def sharing(content: ReportContent) -> str:
    """Return how the training images were spread over the clients, in a sentence."""
    scheme = str(setting(content, "partition", "scheme") or "")
    how = _PARTITIONS.get(scheme, "")
    if not how:
        return ""
    details = []
    alpha = setting(content, "partition", "alpha")
    if alpha is not None and scheme.startswith("dirichlet"):
        details.append(f"α = {alpha:g}" if isinstance(alpha, int | float) else f"α = {alpha}")
    classes = setting(content, "partition", "classes_per_client")
    if classes is not None and scheme == "classes":
        details.append(f"{classes} classes a client")
    given = f" ({', '.join(details)})" if details else ""
    return f"The training images were {how}{given}."


def map_size(content: ReportContent, cases: list[Case]) -> str:
    """Return how coarse the maps are, in a sentence; empty if the layer is not in the drawing."""
    shapes = {layer.name: layer.output_shape for layer in content.layers}
    layer = cases[0].layer if cases else ""
    shape = shapes.get(layer, ())
    if len(shape) != 3:
        return ""
    height, width = cases[0].heatmap.shape
    return (
        f"Layer {layer} gives {shape[1]} × {shape[2]} cells, stretched smoothly over "
        f"{height} × {width} pixels: trust the region, not its edge."
    )


def beside(cases: list[Case]) -> str:
    """Return which methods' maps are shown beside the main one; empty where there is none."""
    names = [further.method for further in cases[0].further] if cases else []
    if not names:
        return ""
    return (
        f"Under each decision are the maps of {listing(names)}, each scaled to its own strongest "
        "pixel too: compare where they point, not how bright they are."
    )


def without_class(content: ReportContent) -> str:
    """Return which of the methods look at no class, in a sentence; empty where all look at one."""
    names = []
    case = next((group.cases[0] for group in content.gallery if group.cases), None)
    if case is not None:
        if case.explained == NO_CLASS:
            names.append(content.explain_method or "the chosen method")
        names += [further.method for further in case.further if further.explained == NO_CLASS]
    return looks_at_no_class(names)


def looks_at_no_class(methods: Sequence[str]) -> str:
    """Return what a map of ``methods`` shows, which look at no class; empty for no method."""
    if not methods:
        return ""
    if len(methods) == 1:
        return f"{methods[0]} looks at no class: its map shows {WHERE}."
    return f"{listing(list(methods))} look at no class: their maps show {WHERE}."


def blindness(blind_area: Mask) -> str:
    """Return which part of the image the network cannot see, in a sentence."""
    height, width = blind_area.shape
    rows, columns = ranges(np.all(blind_area, axis=1)), ranges(np.all(blind_area, axis=0))
    parts = [f"rows {rows}"] if rows else []
    parts += [f"columns {columns}"] if columns else []
    share = percent(float(blind_area.mean()), 1)
    if not parts:
        return f"The network cannot see {share} of the pixels: nothing there changes its answer."
    return (
        f"The network cannot see {listing(parts)} of the {height} × {width} pixels (counted from "
        f"0): {share} of the image. Nothing there can change its answer."
    )


def hidden_light(content: ReportContent) -> str:
    """Return how much of the light is out of sight, in a sentence; empty if not measured."""
    light = content.blind_light
    if light is None or not np.isfinite(light).any():
        return ""
    most, least = int(np.nanargmax(light)), int(np.nanargmin(light))
    names = content.class_names
    return (
        f"Of the light of the test images, {percent(float(light[most]), 0)} lies there for "
        f"{names[most]} and {percent(float(light[least]), 0)} for {names[least]}. Questions about "
        "what is drawn there belong to a network that sees it."
    )


def cohort(content: ReportContent) -> str:
    """Return who takes part in a round, for the drawing of the federation."""
    secret = privacy_words.cohort_text(content)
    if secret:
        return secret
    clients = len(content.client_names)
    sizes = {len(listed(line, "cohort")) for line in content.seeds[0].history} - {0}
    if not sizes:
        asked = setting(content, "federation", "cohort")
        return f"{clients:,} clients; a round: {asked}" if asked else f"{clients:,} clients"
    low, high = min(sizes), max(sizes)
    if low == high == clients:
        return f"All {clients:,} clients take part in every round"
    taking = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{taking} of {clients:,} clients take part in each round"


def local_work(content: ReportContent) -> str:
    """Return what one client does in a round, for the drawing of the federation."""
    epochs = setting(content, "local", "epochs")
    if isinstance(epochs, list | tuple) and len(epochs) == 2:
        return f"{epochs[0]}–{epochs[1]} local epochs"
    if isinstance(epochs, int | float) and math.isfinite(epochs):
        return f"{epochs:g} local epoch{'' if epochs == 1 else 's'}"
    return "local training"
