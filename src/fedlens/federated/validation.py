"""How the global model is measured after each round."""

from collections.abc import Sequence

from torch import Tensor

from fedlens.data.client import Client, label_counts
from fedlens.federated.engines import Engine
from fedlens.federated.history import mix_weighted
from fedlens.training.evaluation import Evaluation, evaluate_logits
from fedlens.training.losses import Loss


class Validation:
    """The held-out examples, and each client's measure on them."""

    def __init__(self, held_out: Client | None, clients: Sequence[Client], loss: Loss) -> None:
        """Name the examples (None for no measure), and the clients whose label mixes count."""
        self._held_out = held_out
        self._clients = clients
        self._loss = loss
        self._mixes: Tensor | None = None  # (K, L) label counts, once L is known

    def evaluate(self, engine: Engine) -> Evaluation | None:
        """Return the figures of the model that the engine's ``incoming`` holds."""
        if self._held_out is None:
            return None
        outputs = engine.predict()
        losses = self._loss(outputs, self._held_out.targets)
        evaluation = evaluate_logits(outputs, self._held_out.targets, losses=losses)
        if self._mixes is None:
            self._mixes = label_counts(self._clients, len(evaluation.support))
        return evaluation

    def of_client(
        self, client: int, evaluation: Evaluation | None
    ) -> tuple[float | None, float | None]:
        """Return (loss, accuracy) re-weighted to the client's own label mix."""
        if evaluation is None or self._mixes is None:
            return None, None
        return mix_weighted(evaluation, self._mixes[client])
