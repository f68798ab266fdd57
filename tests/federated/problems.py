"""Small problems whose optimum is known in closed form, and the clients that hold them."""

import torch
from torch import Tensor, nn

from fedlens.data import Client


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the squared error of each example."""
    return 0.5 * (outputs - targets).square().sum(1)


def line(dimensions: int = 1, start: float = 0.0) -> nn.Module:
    """A linear model without bias, in double precision, all weights equal to ``start``."""
    model = nn.Linear(dimensions, 1, bias=False).double()
    nn.init.constant_(model.weight, start)
    return model


def least_squares(sizes: list[int], dimensions: int = 3, seed: int = 0) -> list[Client]:
    """Clients with inputs of different scales and different true weights: far from alike."""
    stream = torch.Generator().manual_seed(seed)
    clients = []
    for number, size in enumerate(sizes):
        inputs = torch.randn(size, dimensions, generator=stream, dtype=torch.float64)
        inputs *= 0.6 + 0.25 * number
        truth = torch.randn(dimensions, generator=stream, dtype=torch.float64) + number
        noise = 0.1 * torch.randn(size, generator=stream, dtype=torch.float64)
        clients.append(Client(inputs, (inputs @ truth + noise).unsqueeze(1)))
    return clients


def well_conditioned(sizes: list[int], seed: int = 0) -> list[Client]:
    """Least squares in three weights that no axis makes slow: few rounds reach the optimum.

    The curvatures of every client are as 1 to 2 to 4, along axes of its own, and larger from client
    to client. Their true weights are far apart, so that what one client wants is not what all want.
    """
    stream = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=stream, dtype=torch.float64)

    roots = 2 ** torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)  # of the curvatures
    clients = []
    for number, size in enumerate(sizes):
        rows = size**0.5 * torch.linalg.qr(normal(size, 3))[0]
        axes = torch.linalg.qr(normal(3, 3))[0]
        inputs = rows * roots * (0.8 + 0.15 * number) @ axes.T
        truth = normal(3) + number
        clients.append(Client(inputs, (inputs @ truth + 0.1 * normal(size)).unsqueeze(1)))
    return clients


def optimum(clients: list[Client], weights: list[float]) -> Tensor:
    """The minimiser of sum_k weights_k f_k, f_k being client k's mean loss: normal equations."""
    dimensions = clients[0].inputs.shape[1]
    matrix = torch.zeros(dimensions, dimensions, dtype=torch.float64)
    vector = torch.zeros(dimensions, dtype=torch.float64)
    for client, weight in zip(clients, weights, strict=True):
        matrix += weight * client.inputs.T @ client.inputs / len(client)
        vector += weight * client.inputs.T @ client.targets[:, 0] / len(client)
    return torch.linalg.solve(matrix, vector)


def parabola(curvature: float, minimum: float) -> Client:
    """One example whose loss is curvature / 2 (w - minimum)^2."""
    root = curvature**0.5
    return Client(
        torch.tensor([[root]], dtype=torch.float64),
        torch.tensor([[root * minimum]], dtype=torch.float64),
    )
