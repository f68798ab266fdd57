"""An algorithm of one's own: FedAvg with the clients' updates shrunk where they disagree in sign.

    python examples/own_algorithm.py

It runs wherever the built-in ones do: in one process, in a pool of workers, in a run directory and in
a study (there by its name, once it is in ``ALGORITHMS``).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

import fedlens
from fedlens.federated import ALGORITHMS


@dataclass(frozen=True)
class Agreement(fedlens.Algorithm):
    """x' = x + a * mean update, a being the share of clients that agree with the mean's sign."""

    name: ClassVar[str] = "agreement"
    power: float = 1.0
    aggregation: fedlens.Aggregation = fedlens.Mean()  # noqa: RUF009

    def aggregate(self, state, updates, federation):
        old = state.parameters.double()
        deltas = torch.stack([u.weights.double() - old for u in updates])
        mean = self.aggregation(list(deltas), [u.examples for u in updates])
        agree = (deltas.sign() == mean.sign()).double().mean(0)
        new = old + agree**self.power * mean
        return fedlens.ServerState(new.to(state.parameters.dtype))


def main() -> None:
    data = fedlens.load_dataset("digits")
    clients = fedlens.partition(data.train, "dirichlet", clients=5, alpha=0.5, seed=1)
    model = fedlens.build_model("lenet", in_channels=1, classes=10, image_size=28, seed=1)
    local = fedlens.LocalTraining(epochs=2, batch_size=16, lr=0.05, momentum=0.5)
    for algorithm in (fedlens.FedAvg(), Agreement()):
        result = fedlens.federate(
            model, clients, algorithm=algorithm, rounds=8, local=local, workers=2,
            validation=data.validation,
        )  # fmt: skip
        print(f"{algorithm.name}: {100 * result.history[-1].validation.accuracy:.1f} %")
    ALGORITHMS[Agreement.name] = Agreement  # from here on `federation.algorithm = "agreement"`
    config = fedlens.load_config(overrides=["federation.algorithm=agreement"])
    print(config.algorithm())


if __name__ == "__main__":
    main()
