"""The client of the Flower benchmark: an ordinary PyTorch app in Flower's Message API.

It stands in a module of its own, so that Ray's workers import it by name, once, and keep what it
caches. What a careful Flower user does is done here: the images are memory-mapped and shared by the
workers, a worker builds its network once, and a client converts only its own images.
"""

import functools
import time
from pathlib import Path

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

PARAMETERS = 65_354
app = ClientApp()


class PaperCNN(nn.Module):
    """The study's network for 1x28x28 images and 10 classes, Glorot-uniform with zero biases."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        assert sum(parameter.numel() for parameter in self.parameters()) == PARAMETERS

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, 10) of float images (N, 1, 28, 28) in [0, 1]."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


def tensors(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Return float images (N, 1, 28, 28) in [0, 1] and int64 labels (N,), copied."""
    pixels = torch.from_numpy(np.array(images)).unsqueeze(1).float().div_(255)
    return pixels, torch.from_numpy(np.array(labels))


@functools.cache
def train_arrays(folder: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Map the shuffled training images and labels, once a worker."""
    return (
        np.load(Path(folder) / "images.npy", mmap_mode="r", allow_pickle=False),
        np.load(Path(folder) / "labels.npy", mmap_mode="r", allow_pickle=False),
    )


@functools.cache
def network() -> PaperCNN:
    """Build the network, once a worker: every client overwrites its weights."""
    torch.set_num_threads(1)
    return PaperCNN()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one client for one epoch on its share of the shuffled images."""
    begun = time.perf_counter()
    config = message.content["config"]
    client = int(context.node_config["partition-id"])
    clients = int(context.node_config["num-partitions"])
    images, labels = train_arrays(config["folder"])
    size = len(images) // clients
    mine = slice(client * size, (client + 1) * size)

    model = network()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    shuffle = torch.Generator().manual_seed(1000 * config["server-round"] + client)
    loader = DataLoader(
        TensorDataset(*tensors(images[mine], labels[mine])),
        batch_size=config["batch-size"],
        shuffle=True,
        generator=shuffle,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"], eps=1e-7)
    criterion = nn.CrossEntropyLoss()
    model.train()
    for batch, targets in loader:
        optimizer.zero_grad()
        criterion(model(batch), targets).backward()
        optimizer.step()

    reply = RecordDict(
        {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"num-examples": size, "seconds": time.perf_counter() - begun}),
        }
    )
    return Message(content=reply, reply_to=message)
