"""Image sets: where they come from, what they hold, and how they are divided among clients."""

from fedlens.data.catalogue import DATASETS, KnownDataset
from fedlens.data.client import Client, label_counts
from fedlens.data.dataset import SPLITS, ImageDataset, Split, Task, validate
from fedlens.data.folder import import_folder
from fedlens.data.locate import available
from fedlens.data.partitions import Partition, partition
from fedlens.data.sources import load_dataset
from fedlens.data.summary import DatasetSummary, summarise

__all__ = [
    "DATASETS",
    "SPLITS",
    "Client",
    "DatasetSummary",
    "ImageDataset",
    "KnownDataset",
    "Partition",
    "Split",
    "Task",
    "available",
    "import_folder",
    "label_counts",
    "load_dataset",
    "partition",
    "summarise",
    "validate",
]
