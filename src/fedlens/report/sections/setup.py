"""How it was built: drawings of the network and of the federation, and the images."""

import numpy as np
from matplotlib.figure import Figure

from fedlens.report import words
from fedlens.report.content import ReportContent
from fedlens.report.drawings import MOST_CLIENTS, federation_figure, network_figure
from fedlens.report.history import listed, look
from fedlens.report.page import Drawer, Item, Section
from fedlens.report.tables import client_sizes, split_table
from fedlens.report.withheld import hides_clients, hides_names
from fedlens.report.wording import count, size


def setup_section(content: ReportContent, drawer: Drawer) -> Section:
    """Return the drawings of the network and of the federation, and the sizes of the splits."""
    layers = len(content.layers)
    row: list[Item] = [
        drawer.chart(
            "network",
            network_figure(content.layers, _image_shape(content)),
            f"{words.model_name(content)}, drawn from the network itself: the sides of a slab are "
            "the height and width of its maps to scale, its thickness grows with the number of "
            f"channels. {content.total_parameters:,} trainable parameters in all.",
            f"Drawing of the network with {count(layers, 'step')} from the image to "
            f"{len(content.class_names)} outputs, {content.total_parameters:,} parameters.",
            least=400,
        )
    ]
    clients = len(content.client_names)
    if words.federated(content) and clients:
        row.append(
            drawer.chart(
                "federation",
                _federation(content),
                "The federation, drawn from its configuration"
                + (
                    ""
                    if hides_clients(content)
                    else ". The bars in a client are its mix of classes, the number its training images"
                )
                + (
                    f"; {MOST_CLIENTS - 1} of {clients:,} clients are drawn."
                    if clients > MOST_CLIENTS
                    else "."
                ),
                f"Drawing of a server above {count(clients, 'client')}: the global model goes "
                f"down, each client's {_sent(content)} go up, images stay where they are.",
                least=400,
            )
        )
        return Section(
            "setup",
            "How it is built",
            [],
            [row, [split_table(content)]],
        )
    row.append(split_table(content))
    return Section("setup", "How it is built", [], [row])


def _federation(content: ReportContent) -> Figure:
    history = content.seeds[0].history
    message = 4.0 * content.total_parameters
    for line in history:
        cohort = listed(line, "cohort")
        if cohort and not np.isnan(look(line, "bytes_down")):
            message = look(line, "bytes_down") / len(cohort)
    counts = None if hides_clients(content) else content.client_label_counts
    counts = None if counts is None else np.asarray(counts)
    names = content.client_names
    if hides_names(content):
        names = ["client"] * len(names)
    rounds = count(len(history), "round")
    return federation_figure(
        names,
        counts,
        client_sizes(content),
        server=f"{words.algorithm(content)}, {rounds}",
        down=f"the shared model\n{size(message)} to each",
        up=f"{_sent(content)},\nafter {words.local_work(content)}",
        cohort=words.cohort(content),
    )


def _sent(content: ReportContent) -> str:
    """Return what a client sends, in few words."""
    spending = content.privacy
    if spending is None or (
        spending.mechanism.unit == "client" and spending.mechanism.placement == "server"
    ):
        return "trained weights"
    return "weights with noise"


def _image_shape(content: ReportContent) -> tuple[int, ...]:
    """Return (C, H, W) of the images as given, or as a picture of the gallery shows it."""
    if content.input_shape:
        return content.input_shape
    for group in content.gallery:
        for case in group.cases:
            height, width = case.image.shape[:2]
            return (3 if case.image.ndim == 3 else 1, height, width)
    return ()
