"""The algorithms written down a second time, straight from their papers, on least squares.

One vector, float64, full batches, plain Python: no optimiser, no state classes, nothing of
``fedlens`` but the records that say who did how many steps.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedlens.data import Client
from fedlens.federated import RoundRecord


@dataclass(frozen=True)
class Descent:
    """Local SGD: rate lr, momentum, weight decay and schedule."""

    lr: float
    momentum: float = 0.0
    decay: float = 0.0
    schedule: str = "constant"

    def rate(self, step: int, planned: int) -> float:
        """Return the learning rate of step ``step``, from 0."""
        part = step / planned
        shapes = {
            "constant": 1.0,
            "linear": 1 - part,
            "cosine": 0.5 * (1 + math.cos(math.pi * part)),
        }
        return self.lr * shapes[self.schedule]

    def length(self, steps: int, planned: int, pull: float) -> float:
        """Return ||a||_1, adding up what an impulse in each of the steps has moved in the end."""
        total = 0.0
        for impulse in range(steps):
            place = velocity = 0.0
            for step in range(steps):
                gradient = (1.0 if step == impulse else 0.0) + pull * place
                velocity = self.momentum * velocity + gradient
                place -= self.rate(step, planned) * velocity
            total += abs(place)
        return total / self.lr


def simulate(
    name: str,
    parameters: dict[str, Any],
    descent: Descent,
    clients: list[Client],
    planned: list[int],
    records: list[RoundRecord],
) -> list[Tensor]:
    """Return the server's weights after each round.

    Args:
        name: of the algorithm.
        parameters: its own; what is missing has the algorithm's default.
        descent: the clients' local work.
        clients: least squares, see ``problems``.
        planned: local steps of each, had it not been late.
        records: who took part in each round, and the steps that it did.
    """
    sizes = [len(client) for client in clients]
    number, everyone = sum(sizes), len(clients)
    dimensions = clients[0].inputs.shape[1]

    def zero() -> Tensor:
        return torch.zeros(dimensions, dtype=torch.float64)

    def gradient(k: int, w: Tensor) -> Tensor:
        x, y = clients[k].inputs, clients[k].targets[:, 0]
        return x.T @ (x @ w - y) / len(y)

    def work(k: int, start: Tensor, steps: int, tilt: Tensor, pull: float) -> tuple[Tensor, Tensor]:
        w, velocity, raw = start.clone(), zero(), zero()
        for step in range(steps):
            found = gradient(k, w)
            raw += found
            found = found + tilt + pull * (w - start) + descent.decay * w
            velocity = descent.momentum * velocity + found
            w = w - descent.rate(step, planned[k]) * velocity
        return w, raw / steps

    get = parameters.get
    x, c, m, h = zero(), zero(), zero(), zero()
    own = [zero() for _ in clients]
    tau = get("tau", 1e-3)
    v = torch.full_like(x, tau**2)
    path = []
    for record in records:
        steps = {client.client: client.steps for client in record.clients}
        if not steps:
            path.append(x)
            continue
        cohort = list(steps)
        here = sum(sizes[k] for k in cohort)
        share = {k: sizes[k] / here for k in cohort}
        pull = get("alpha", 0.01) if name == "feddyn" else get("mu", 0.0)
        tilts = {"scaffold": [c - known for known in own], "feddyn": [-known for known in own]}
        tilt = tilts.get(name, [zero() for _ in own])
        done = {k: work(k, x, steps[k], tilt[k], pull) for k in cohort}
        change = {k: y - x for k, (y, _) in done.items()}
        mean = sum((share[k] * change[k] for k in cohort), zero())
        eta = get("server_lr", 1.0)
        if name in ("fedavg", "fedprox"):
            x = x + eta * mean
        elif name == "fedavgm":
            m = get("momentum", 0.9) * m + mean
            x = x + eta * m
        elif name in ("fedadagrad", "fedadam", "fedyogi"):
            m = parameters["beta1"] * m + (1 - parameters["beta1"]) * mean
            square, keep = mean.square(), get("beta2", 0.0)
            v = {
                "fedadagrad": v + square,
                "fedadam": keep * v + (1 - keep) * square,
                "fedyogi": v - (1 - keep) * square * torch.sign(v - square),
            }[name]
            x = x + eta * m / (v.sqrt() + tau)
        elif name == "fednova":
            length = {k: descent.length(steps[k], planned[k], pull) for k in cohort}
            plain = {k: descent.length(steps[k], planned[k], 0.0) for k in cohort}
            effective = sum(share[k] * plain[k] for k in cohort)
            weight = sum(share[k] * effective / length[k] for k in cohort)
            step = eta * effective / (max(1.0, weight) if get("guard", False) else 1.0)
            x = x + step * sum((share[k] * change[k] / length[k] for k in cohort), zero())
        elif name == "scaffold":
            weight_of = {k: sizes[k] / number if get("weighted") else 1 / everyone for k in cohort}
            whole = sum(weight_of.values())
            renewed = {}
            for k in cohort:
                y, raw = done[k]
                length = descent.length(steps[k], planned[k], pull)
                renewed[k] = {
                    "mean-gradient": raw,
                    "option-1": gradient(k, x),
                    "option-2": own[k] - c + (x - y) / (descent.lr * length),
                }[get("control", "mean-gradient")]
            x = x + eta * sum((weight_of[k] * change[k] for k in cohort), zero()) / whole
            c = c + sum((weight_of[k] * (renewed[k] - own[k]) for k in cohort), zero())
            for k, value in renewed.items():
                own[k] = value
        elif name == "feddyn":
            uniform = sum(change.values(), zero()) / len(cohort)
            for k in cohort:
                own[k] = own[k] - pull * change[k]
            h = h - pull * len(cohort) / everyone * uniform
            x = x + uniform - h / pull
        path.append(x)
    return path
