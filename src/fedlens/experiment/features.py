"""Features that depend on no training: computed once for an image set, instead of in every step."""

import copy
import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlens.data import ImageDataset, Partition
from fedlens.data.client import Client
from fedlens.data.dataset import Split
from fedlens.experiment.config import Config
from fedlens.experiment.opened import as_configured
from fedlens.models import FixedFeatureNetwork, build_model
from fedlens.training.loop import as_inputs, threads
from fedlens.training.prediction import chunks

KEPT = 4  # splits whose features are kept: of one image set, with and without validation images


@dataclass(frozen=True, eq=False)
class Trainable:
    """The part of a network that is trained, and what goes into it.

    Attributes:
        model: the network, or its head where what comes before is fixed.
        train, validation: inputs and targets of the two splits.
        clients: the same training inputs, as each client holds them; None in mode ``central``.
    """

    model: nn.Module
    train: Client
    validation: Client
    clients: list[Client] | None


def trainable(model: nn.Module, dataset: ImageDataset, clients: Partition | None) -> Trainable:
    """Return what is to be trained on what, with fixed features computed once.

    Features are float16: rounding by at most 2^-11 of each halves their 952 MB for 60,000 images of
    28x28 pixels.
    """
    held = None if clients is None else list(clients)
    if not isinstance(model, FixedFeatureNetwork):
        return Trainable(model, _plain(dataset.train), _plain(dataset.validation), held)
    inputs = features(model, dataset.train.images)
    train = Client(inputs, dataset.train.labels)
    validation = Client(features(model, dataset.validation.images), dataset.validation.labels)
    if held is not None:
        held = [Client(inputs, client.targets, client.indices, client.name) for client in held]
    return Trainable(model.head, train, validation, held)


def whole(model: nn.Module, trained: nn.Module) -> nn.Module:
    """Return ``model`` with the weights of its trained part."""
    if not isinstance(model, FixedFeatureNetwork):
        return trained
    complete: nn.Module = copy.deepcopy(model)
    complete.head.load_state_dict(trained.state_dict())  # type: ignore[union-attr]
    return complete


_kept: OrderedDict[tuple[str, str], Tensor] = OrderedDict()


def features(model: FixedFeatureNetwork, images: Tensor) -> Tensor:
    """Return the float16 features (N, ...) of uint8 images, kept for the next who asks.

    A study computes them before it forks, so that its cells share them.
    """
    content = hashlib.sha256(images.numpy().tobytes()).hexdigest()
    key = (f"{type(model).__name__} {tuple(images.shape)}", content)
    if key not in _kept:
        with threads(1), torch.no_grad():
            parts = [
                model.fixed_features(as_inputs(images[part], torch.float32), dtype=torch.float16)
                for part in chunks(len(images))
            ]
        _kept[key] = torch.cat(parts)
    _kept.move_to_end(key)
    while len(_kept) > KEPT:
        _kept.popitem(last=False)
    return _kept[key]


def share_features(config: Config, dataset: ImageDataset) -> None:
    """Compute the features that a run will ask for, where its network has a fixed part."""
    model = build_model(
        config.model.name,
        in_channels=dataset.channels,
        classes=dataset.classes,
        image_size=dataset.image_size,
    )
    trainable(model, as_configured(dataset, config), None)


def _plain(split: Split) -> Client:
    return Client(split.images, split.labels)
