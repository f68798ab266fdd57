"""How unusual an image looks to a network, beside images that it is meant for.

The score is the distance to the nearest of some reference images in the features that the last linear
layer is given, each at length 1 (Sun, Ming, Zhu and Li, "Out-of-Distribution Detection with Deep
Nearest Neighbors", 2022), as a percentile of the references' own distances. References are images that
the network was not trained on, so that the percentile is a true one: of images of their kind a share p
scores below p.

It was chosen by measuring. Networks that know Fashion-MNIST were shown its test images among strangers;
the area under the ROC curve (1 is perfect, 0.5 is chance), mean of five networks (``paper-cnn``,
``paper-cnn-same`` trained centrally, federated, and at epsilon 3, ``hybrid``), the worst in brackets:

======================  ============  ============  ============  ============  ============
score                   digits        noise         shuffled      inverted      turned
======================  ============  ============  ============  ============  ============
nearest reference       0.96 (0.92)   0.95 (0.85)   0.98 (0.95)   0.97 (0.93)   0.87 (0.82)
relative Mahalanobis    0.94 (0.93)   0.97 (0.96)   0.97 (0.94)   0.97 (0.94)   0.86 (0.82)
Mahalanobis             0.74 (0.46)   0.79 (0.52)   0.84 (0.55)   0.94 (0.81)   0.84 (0.73)
energy of the logits    0.91 (0.69)   0.91 (0.77)   0.93 (0.82)   0.79 (0.38)   0.76 (0.65)
======================  ============  ============  ============  ============  ============

(digits: those of scikit-learn; noise: uniform; shuffled, inverted, turned: the test images with their
pixels in another order, their light inverted, a quarter turn.) The choice was made on these very
images, and none was tuned: the first row may flatter itself by a point. The relative Mahalanobis
distance does as well, but needs labels and a share of the images to find its matrices on. References
from the training images in place of the validation images gave the same areas to 0.01 (at the tenth
nearest).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fedlens.errors import ModelError
from fedlens.training.prediction import predict

Floats = npt.NDArray[np.float64]

NEIGHBOURS = 1
"""An image is as unusual as its nearest reference is far."""

MOST_REFERENCES = 2000
"""References that are kept, evenly over those that are given: more made no difference."""


class Novelty:
    """Distance to the nearest references in the features that decide; see :func:`fit_novelty`.

    Attributes:
        references: float32 (R, F), features of length 1.
        distances: float64 (N,), rising: the references' own distances, each to the others.
    """

    def __init__(self, references: Tensor, distances: Floats) -> None:
        """Take what :func:`fit_novelty` found, or what was kept of it."""
        self.references = references
        self.distances = distances

    def score(self, features: Tensor) -> Floats:
        """Return the share of references that look less unusual, float64 (B,), in [0, 1].

        Args:
            features: (B, F), as of :func:`features_of`.
        """
        found = _distances(_unit(features), self.references, own=False)
        return np.searchsorted(self.distances, found, side="left") / len(self.distances)


def fit_novelty(features: Tensor) -> Novelty:
    """Return what judges how unusual features are.

    Args:
        features: (N, F) of images that the network is meant for, and was not trained on; N >= 2.

    Raises:
        ModelError: there are fewer than two, or one is not finite.
    """
    if features.dim() != 2 or len(features) < 2 or not bool(torch.isfinite(features).all()):
        raise ModelError(
            f"Got features {tuple(features.shape)}, expected finite (N, F) of at least two images."
        )
    chosen = np.linspace(0, len(features) - 1, min(len(features), MOST_REFERENCES)).round()
    references = _unit(features[torch.from_numpy(chosen.astype(np.int64))])
    return Novelty(references, np.sort(_distances(references, references, own=True)))


def head_of(model: nn.Module) -> nn.Linear:
    """Return the linear layer that makes the logits: the last one of the network.

    Raises:
        ModelError: the network has none.
    """
    found = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not found:
        raise ModelError(
            f"{type(model).__name__} does not end in a linear layer, so that its features are not "
            "known."
        )
    return found[-1]


@contextmanager
def captured_features(head: nn.Linear, most: int | None = None) -> Iterator[list[Tensor]]:
    """Yield a list that forward passes inside the block fill with the inputs (B, F) of ``head``.

    No more than the first ``most`` of them; None for all.
    """
    features: list[Tensor] = []

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if most is None or len(features) < most:
            features.append(inputs[0].detach().flatten(1))

    handle = head.register_forward_pre_hook(keep)
    try:
        yield features
    finally:
        handle.remove()


def features_of(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features (N, F) that the last linear layer is given, and the logits (N, L).

    Args:
        model: any network of the registry, or another that ends in a linear layer; left as it was.
        images: uint8 (N, C, H, W), N >= 1.

    Raises:
        ModelError: the network does not end in a linear layer.
    """
    with captured_features(head_of(model)) as parts:
        logits = predict(model, images)
    if sum(len(part) for part in parts) != len(images):
        raise ModelError(
            f"The last linear layer of {type(model).__name__} does not run once an image, so that "
            "its features are not known."
        )
    return torch.cat(parts).clone(), logits


def _unit(features: Tensor) -> Tensor:
    values = features.detach().float()
    unit: Tensor = values / values.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return unit


def _distances(features: Tensor, references: Tensor, *, own: bool) -> Floats:
    """Return the distance to the k-th nearest reference, float64 (B,); not to itself if ``own``."""
    k = min(NEIGHBOURS, len(references) - own)
    likeness = features @ references.T
    if own:
        likeness.fill_diagonal_(-2)
    nearest = likeness.topk(k, dim=1).values[:, -1].double()
    return np.asarray((2 - 2 * nearest).clamp_min(0).sqrt().numpy())
