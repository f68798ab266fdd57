"""Federated averaging on a problem whose optimum is known, with any model and any loss.

Two clients hold points around 1 and 5; each pulls the one parameter towards its own mean. With equal
local work FedAvg finds the mean of all points; with unequal work it does not, which is the bias that
FedNova and SCAFFOLD were made to remove.

    python examples/own_problem.py
"""

import torch
from torch import nn

import fedlens


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return one value an example."""
    return 0.5 * (outputs - targets).square().sum(1)


def holder(*values: float) -> fedlens.Client:
    targets = torch.tensor(values).unsqueeze(1)
    return fedlens.Client(torch.ones_like(targets), targets)


def main() -> None:
    clients = [holder(0.5, 1.0, 1.5), holder(5.0)]
    for epochs in (1, [1, 10]):
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        result = fedlens.federate(
            model,
            clients,
            algorithm=fedlens.FedAvg(),
            rounds=200,
            local=fedlens.LocalTraining(epochs=epochs, batch_size=None, lr=0.1),
            loss=squared_error,
        )
        found = result.model.weight.item()
        print(f"local epochs {epochs}: found {found:.3f}, the mean of all points is 2.000")


if __name__ == "__main__":
    main()
