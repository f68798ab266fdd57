"""fedlens: train image classifiers together without moving the images, and see why they decide.

The names below are the public Python API; each is described where it lives.
"""

from fedlens.data import Client, ImageDataset, Partition, Split, load_dataset, partition
from fedlens.errors import FedlensError
from fedlens.experiment import Config, Run, load_config, load_run, resume_run, start_run
from fedlens.explain import Contrast, Explanation, explain
from fedlens.federated import (
    Aggregation,
    Algorithm,
    ClientStore,
    CoordinateMedian,
    Correction,
    Faults,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedDyn,
    Federation,
    FederationResult,
    FedNova,
    FedProx,
    FedYogi,
    Krum,
    LocalWork,
    Mean,
    PersonalResult,
    Progress,
    Scaffold,
    Screening,
    ServerState,
    TrimmedMean,
    Update,
    federate,
    personalise,
)
from fedlens.models import build_model
from fedlens.training import LocalTraining

__version__ = "0.1.0"

__all__ = [
    "Aggregation",
    "Algorithm",
    "Client",
    "ClientStore",
    "Config",
    "Contrast",
    "CoordinateMedian",
    "Correction",
    "Explanation",
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
    "FedlensError",
    "ImageDataset",
    "Krum",
    "LocalTraining",
    "LocalWork",
    "Mean",
    "Partition",
    "PersonalResult",
    "Progress",
    "Run",
    "Scaffold",
    "Screening",
    "ServerState",
    "Split",
    "TrimmedMean",
    "Update",
    "__version__",
    "build_model",
    "explain",
    "federate",
    "load_config",
    "load_dataset",
    "load_run",
    "partition",
    "personalise",
    "resume_run",
    "start_run",
]
