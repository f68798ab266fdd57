"""Federated training: the algorithms, the server's round, and the engines that run clients."""

from fedlens.federated.aggregation import (
    AGGREGATIONS,
    Aggregation,
    CoordinateMedian,
    Krum,
    Mean,
    TrimmedMean,
)
from fedlens.federated.algorithm import Algorithm, Federation, LocalWork, ServerState, Update
from fedlens.federated.algorithms import (
    ALGORITHMS,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedDyn,
    FedNova,
    FedProx,
    FedYogi,
    Scaffold,
    build_algorithm,
)
from fedlens.federated.client_store import ClientStore
from fedlens.federated.faults import Faults, Screening
from fedlens.federated.history import RoundRecord
from fedlens.federated.personal import PersonalResult, personalise
from fedlens.federated.privacy import ClientPrivacy, ExamplePrivacy
from fedlens.federated.privacy_contract import Privacy
from fedlens.federated.round import Checkpoint
from fedlens.federated.server import FederationResult, Progress, federate
from fedlens.training.loop import Correction

__all__ = [
    "AGGREGATIONS",
    "ALGORITHMS",
    "Aggregation",
    "Algorithm",
    "Checkpoint",
    "ClientPrivacy",
    "ClientStore",
    "CoordinateMedian",
    "Correction",
    "ExamplePrivacy",
    "Faults",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedDyn",
    "FedNova",
    "FedProx",
    "FedYogi",
    "Federation",
    "FederationResult",
    "Krum",
    "LocalWork",
    "Mean",
    "PersonalResult",
    "Privacy",
    "Progress",
    "RoundRecord",
    "Scaffold",
    "Screening",
    "ServerState",
    "TrimmedMean",
    "Update",
    "build_algorithm",
    "federate",
    "personalise",
]
