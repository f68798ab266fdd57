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
    ClientPrivacy,
    ClientStore,
    CoordinateMedian,
    Correction,
    ExamplePrivacy,
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
from fedlens.privacy.accounting import Budget, calibrate, epsilon_of
from fedlens.privacy.adaptive_clip import AdaptiveClip
from fedlens.privacy.mechanism import Mechanism
from fedlens.privacy.releases import Release
from fedlens.privacy.schedule import NoiseSchedule
from fedlens.training import LocalTraining

__version__ = "0.1.0"

__all__ = [
    "AdaptiveClip",
    "Aggregation",
    "Algorithm",
    "Budget",
    "Client",
    "ClientPrivacy",
    "ClientStore",
    "Config",
    "Contrast",
    "CoordinateMedian",
    "Correction",
    "ExamplePrivacy",
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
    "Mechanism",
    "NoiseSchedule",
    "Partition",
    "PersonalResult",
    "Progress",
    "Release",
    "Run",
    "Scaffold",
    "Screening",
    "ServerState",
    "Split",
    "TrimmedMean",
    "Update",
    "__version__",
    "build_model",
    "calibrate",
    "epsilon_of",
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
