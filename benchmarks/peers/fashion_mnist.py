"""Fashion-MNIST and the study's split, for peers that run without fedlens."""

import argparse
import gzip
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``, the folder of the four IDX files, by default from ``FEDLENS_DATA``."""
    default = os.environ.get("FEDLENS_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        default=default and Path(default),
        required=default is None,
        help="folder of the four Fashion-MNIST files, or its parent if it is called fashion-mnist",
    )


def read(folder: Path) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Return train images (60000, 28, 28), train labels (60000,), test images and test labels."""
    if (folder / "fashion-mnist").is_dir():
        folder = folder / "fashion-mnist"
    parts: list[Bytes] = []
    for prefix, count in (("train", 60_000), ("t10k", 10_000)):
        images = _idx(folder, f"{prefix}-images-idx3-ubyte", IMAGES_MAGIC, 16)
        labels = _idx(folder, f"{prefix}-labels-idx1-ubyte", LABELS_MAGIC, 8)
        parts += [images.reshape(count, 28, 28), labels.reshape(count)]
    return parts[0], parts[1], parts[2], parts[3]


def _idx(folder: Path, name: str, magic: int, header: int) -> Bytes:
    packed, plain = folder / f"{name}.gz", folder / name
    if not packed.exists() and not plain.exists():
        raise SystemExit(f"{folder} holds neither {packed.name} nor {name}: see --data.")
    content = gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes()
    found = int.from_bytes(content[:4], "big")
    if found != magic:
        raise SystemExit(f"{folder / name}: magic number {found}, expected {magic}.")
    return np.frombuffer(content, dtype=np.uint8, offset=header)


def split(labels: Bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the study's 54,000 training and 6,000 validation images."""
    from sklearn.model_selection import train_test_split

    train, validation = train_test_split(
        np.arange(len(labels)), test_size=6_000, stratify=labels, random_state=42
    )
    return train, validation
