"""Federated training: the algorithms, the server's round, and the engines that run clients."""

from fedlens.federated.algorithm import Algorithm, ServerState, Update
from fedlens.federated.algorithms import ALGORITHMS, FedAvg, build_algorithm
from fedlens.federated.history import RoundRecord
from fedlens.federated.server import Checkpoint, FederationResult, Progress, federate

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Checkpoint",
    "FedAvg",
    "FederationResult",
    "Progress",
    "RoundRecord",
    "ServerState",
    "Update",
    "build_algorithm",
    "federate",
]
