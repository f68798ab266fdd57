"""Made-up runs with plausible numbers, for the report's tests and for looking at the page."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedlens.privacy.amplification import amplification
from fedlens.privacy.ledger import Terms
from fedlens.privacy.mechanism import Mechanism
from fedlens.privacy.releases import Release
from fedlens.report import write_report
from fedlens.report.content import (
    Case,
    GalleryGroup,
    LayerSummary,
    PrivacyAccount,
    PrivacySpending,
    ReportContent,
    SeedResult,
)
from fedlens.training.evaluation import Evaluation

GARMENTS = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]
FINDINGS = ["Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Hernia"]

STUDY: dict[str, Any] = {
    "source": "a published study, sections 3 and 4",
    "train_accuracy": 0.9485,
    "validation_accuracy": 0.9015,
    "gap": 0.047,
    "test_accuracy": 0.8957,
    "test_loss": 0.3562,
    "macro_f1": 0.90,
    "f1": {
        "Trouser": 0.98,
        "Bag": 0.98,
        "Sandal": 0.96,
        "Ankle boot": 0.94,
        "Dress": 0.91,
        "Pullover": 0.88,
        "Coat": 0.86,
        "T-shirt/top": 0.82,
        "Shirt": 0.71,
    },
    "shirt_to_tshirt": 114,
    "tshirt_to_shirt": 112,
    "stability": 0.02,
}

# True class -> predicted class -> how many of 1,000, the rest on the diagonal.
MISTAKES = {
    0: {6: 110, 2: 18, 3: 25, 8: 9},
    1: {3: 14, 6: 3},
    2: {4: 58, 6: 49, 0: 14},
    3: {4: 33, 6: 26, 0: 21},
    4: {2: 63, 6: 58, 3: 27},
    5: {7: 19, 9: 8},
    6: {0: 121, 2: 62, 4: 71, 3: 24, 8: 8},
    7: {9: 28, 5: 11},
    8: {6: 8, 0: 5, 4: 4},
    9: {7: 36, 5: 7},
}


def confusion_of(mistakes: dict[int, dict[int, int]], per_class: int = 1000) -> np.ndarray:
    matrix = np.zeros((len(mistakes), len(mistakes)), dtype=np.int64)
    for true, others in mistakes.items():
        for predicted, count in others.items():
            matrix[true, predicted] = count
        matrix[true, true] = per_class - sum(others.values())
    return matrix


def evaluation_of(confusion: np.ndarray, loss: float) -> Evaluation:
    right = np.diag(confusion).astype(float)
    support, said = confusion.sum(1), confusion.sum(0)
    recall, precision = right / np.maximum(support, 1), right / np.maximum(said, 1)
    f1 = 2 * right / np.maximum(support + said, 1)
    return Evaluation(
        task="multiclass",
        examples=int(confusion.sum()),
        loss=loss,
        accuracy=float(right.sum() / confusion.sum()),
        macro_f1=float(f1[support > 0].mean()),
        precision=precision,
        recall=recall,
        f1=f1,
        class_loss=np.full(len(confusion), loss),
        support=support,
        confusion=confusion,
        auc=None,
    )


def shirt(rng: np.random.Generator, side: int = 28) -> np.ndarray:
    rows, columns = np.indices((side, side)) / side
    body = (abs(columns - 0.5) < 0.24) & (rows > 0.08) & (rows < 0.95)
    sleeves = (abs(columns - 0.5) < 0.45) & (rows > 0.1) & (rows < 0.12 + rng.uniform(0.2, 0.6))
    collar = (abs(columns - 0.5) < 0.1) & (rows < 0.08 + rng.uniform(0.05, 0.12))
    light = np.where((body | sleeves) & ~collar, 0.55 + 0.3 * rng.random((side, side)), 0.0)
    return (255 * light).astype(np.uint8)


def bump(row: float, column: float, side: int = 28) -> np.ndarray:
    rows, columns = np.indices((side, side))
    return np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 40).astype(np.float32)


def cases(count: int, true: str, predicted: str, seed: int) -> list[Case]:
    rng = np.random.default_rng(seed)
    return [
        Case(
            index=100 * seed + number,
            image=shirt(rng),
            heatmap=3 * bump(rng.uniform(4, 24), rng.uniform(8, 20)),
            true_class=true,
            predicted_class=predicted,
            confidence=float(rng.uniform(0.5, 1.0)),
            layer="conv3",
        )
        for number in range(count)
    ]


def gallery(each: int = 6) -> list[GalleryGroup]:
    empty = Case(
        index=7,
        image=shirt(np.random.default_rng(7)),
        heatmap=np.zeros((28, 28), dtype=np.float32),
        true_class="Coat",
        predicted_class="Pullover",
        confidence=0.99996,
        layer="conv3",
        degenerate=True,
    )
    return [
        GalleryGroup(
            "Typical hits",
            "Right answers of middling confidence for their class.",
            cases(each, "Coat", "Coat", 1),
        ),
        GalleryGroup(
            "The most confident mistakes",
            "Wrong answers that the model was surest of.",
            [*cases(each - 1, "Dress", "Coat", 2), empty],
        ),
        GalleryGroup(
            "Shirt taken for T-shirt/top",
            "121 of 1,000 test images of Shirt; the surest first.",
            cases(each, "Shirt", "T-shirt/top", 3),
        ),
    ]


def paper_layers() -> list[LayerSummary]:
    return [
        LayerSummary("conv1", "Conv2d", "3x3, 32 filters", (32, 26, 26), 320),
        LayerSummary("relu1", "ReLU", "", (32, 26, 26), 0),
        LayerSummary("pool1", "MaxPool2d", "2x2", (32, 13, 13), 0),
        LayerSummary("conv2", "Conv2d", "3x3, 64 filters", (64, 11, 11), 18496),
        LayerSummary("relu2", "ReLU", "", (64, 11, 11), 0),
        LayerSummary("pool2", "MaxPool2d", "2x2", (64, 5, 5), 0),
        LayerSummary("conv3", "Conv2d", "3x3, 64 filters", (64, 3, 3), 36928),
        LayerSummary("relu3", "ReLU", "", (64, 3, 3), 0),
        LayerSummary("pool3", "MaxPool2d", "2x2", (64, 1, 1), 0),
        LayerSummary("flatten", "Flatten", "", (64,), 0),
        LayerSummary("dense", "Linear", "128 units", (128,), 8320),
        LayerSummary("relu4", "ReLU", "", (128,), 0),
        LayerSummary("output", "Linear", "10 units", (10,), 1290),
    ]


def blind() -> np.ndarray:
    area = np.zeros((28, 28), dtype=bool)
    area[22:] = True
    area[:, 22:] = True
    return area


BLIND_LIGHT = np.array([0.24, 0.17, 0.27, 0.2, 0.28, 0.36, 0.27, 0.33, 0.31, 0.39])

ENVIRONMENT: dict[str, Any] = {
    "started": "2026-01-05T10:11:12+00:00",
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "python": "3.11.7",
    "packages": {"fedlens": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
    "processor": "an x86 processor",
    "cores": 2,
    "command": "fedlens run --preset first",
}


def configuration(mode: str) -> dict[str, Any]:
    return {
        "mode": mode,
        "seed": 42,
        "dataset": {"name": "fashion-mnist"},
        "partition": {"scheme": "dirichlet", "alpha": 0.5, "minimum": 10, "drop": False},
        "model": {"name": "paper-cnn"},
        "federation": {
            "algorithm": "fedavg",
            "clients": 10,
            "cohort": "all",
            "rounds": 10,
            "workers": 2,
            "parameters": {},
        },
        "local": {
            "epochs": 15 if mode == "central" else 1,
            "batch_size": 32,
            "optimizer": "adam",
            "lr": 0.001,
        },
        "privacy": {"mechanism": "none"},
        "explain": {"method": "grad-cam"},
        "report": {"cases": 6},
    }


def federated_history(clients: int, rounds: int, counts: np.ndarray) -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    skew = rng.uniform(-0.07, 0.03, clients)
    history = []
    for number in range(1, rounds + 1):
        accuracy = 0.885 - 0.35 * np.exp(-0.55 * number) + rng.normal(0, 0.006)
        history.append(
            {
                "round": number,
                "seconds": 8.1 + float(rng.normal(0, 0.3)),
                "cohort": list(range(clients)),
                "bytes_down": 4 * 65354 * clients,
                "bytes_up": 4 * 65354 * clients,
                "train_loss": 0.25 + 0.9 * np.exp(-0.5 * number),
                "train_accuracy": float(accuracy + 0.015 + 0.003 * number),
                "validation": {"loss": 0.33 + 0.8 * np.exp(-0.5 * number), "accuracy": accuracy},
                "clients": [
                    {
                        "client": client,
                        "examples": int(counts[client].sum()),
                        "steps": int(counts[client].sum() // 32),
                        "seconds": 0.0006 * int(counts[client].sum()),
                        "train_loss": 0.4,
                        "loss": 0.5,
                        "accuracy": float(accuracy + skew[client] + rng.normal(0, 0.008)),
                        "update_norm": 1.6 * np.exp(-0.12 * number) + float(rng.normal(0, 0.05)),
                        "cosine_to_mean": 0.55 - 0.02 * number,
                    }
                    for client in range(clients)
                ],
                "left_out": [],
                "drift": {
                    "mean_update_norm": 1.6 * np.exp(-0.12 * number),
                    "mean_cosine": 0.55 - 0.02 * number,
                },
            }
        )
    return history


def label_counts(clients: int, classes: int, total: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    shares = rng.dirichlet(np.full(clients, 0.5), size=classes)
    return np.floor(shares * total / classes).astype(np.int64).T + 1


def make_federated(clients: int = 10, rounds: int = 10, each: int = 6) -> ReportContent:
    counts = label_counts(clients, 10, 54_000)
    return ReportContent(
        title=f"paper-cnn on fashion-mnist, trained together by {clients} clients",
        mode="federated",
        configuration=configuration("federated"),
        dataset_name="fashion-mnist",
        dataset_source="the cache",
        task="multiclass",
        class_names=GARMENTS,
        split_counts=np.array([[5400] * 10, [600] * 10, [1000] * 10]),
        seeds=[
            SeedResult(
                42,
                federated_history(clients, rounds, counts),
                evaluation_of(confusion_of(MISTAKES), 0.3611),
            )
        ],
        layers=paper_layers(),
        total_parameters=65354,
        client_names=[f"client {number}" for number in range(clients)],
        client_label_counts=counts,
        input_shape=(1, 28, 28),
        blind_area=blind(),
        blind_light=BLIND_LIGHT,
        gallery=gallery(each),
        explain_method="grad-cam",
        environment=ENVIRONMENT,
        notices=["2 client updates were left out of their rounds."],
    )


def central_history(seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "epoch": epoch,
            "seconds": 15.0,
            "train_loss": float(0.12 + 0.55 * np.exp(-0.3 * epoch) + rng.normal(0, 0.003)),
            "train_accuracy": float(0.955 - 0.2 * np.exp(-0.3 * epoch) + rng.normal(0, 0.002)),
            "validation": {
                "loss": float(0.28 + 0.5 * np.exp(-0.5 * epoch) + 0.005 * epoch),
                "accuracy": float(0.902 - 0.17 * np.exp(-0.4 * epoch) + rng.normal(0, 0.003)),
            },
        }
        for epoch in range(1, 16)
    ]


def make_central(seeds: int = 3, each: int = 6) -> ReportContent:
    results = []
    for number in range(seeds):
        matrix = confusion_of(MISTAKES)
        matrix[6, 0] += number
        matrix[6, 6] -= number
        loss = 0.36 + 0.01 * number
        results.append(
            SeedResult(42 + number, central_history(number), evaluation_of(matrix, loss))
        )
    return ReportContent(
        title="paper-cnn on fashion-mnist, trained centrally",
        mode="central",
        configuration=configuration("central"),
        dataset_name="fashion-mnist",
        dataset_source="the cache",
        task="multiclass",
        class_names=GARMENTS,
        split_counts=np.array([[5400] * 10, [600] * 10, [1000] * 10]),
        seeds=results,
        layers=paper_layers(),
        total_parameters=65354,
        blind_area=blind(),
        blind_light=BLIND_LIGHT,
        gallery=gallery(each),
        explain_method="grad-cam",
        study=STUDY,
        environment=ENVIRONMENT,
    )


def make_multilabel() -> ReportContent:
    labels = len(FINDINGS)
    support = np.array([50, 20, 60, 80, 15, 0])
    test = Evaluation(
        task="multilabel",
        examples=200,
        loss=0.31,
        accuracy=0.871,
        macro_f1=0.34,
        precision=np.array([0.41, 0.35, 0.5, 0.55, 0.2, 0.0]),
        recall=np.array([0.3, 0.25, 0.45, 0.5, 0.1, 0.0]),
        f1=np.array([0.35, 0.29, 0.47, 0.52, 0.13, 0.0]),
        class_loss=np.array([0.4, 0.3, 0.4, 0.5, 0.3, np.nan]),
        support=support,
        confusion=None,
        auc=np.array([0.71, 0.8, 0.78, 0.66, 0.62, np.nan]),
    )
    counts = label_counts(4, labels, 600)
    history = federated_history(4, 6, counts)
    for line in history:
        for entry in line["clients"]:
            entry["accuracy"] = None
    return ReportContent(
        title="paper-cnn on chest images, trained together by 4 clients",
        mode="federated",
        configuration=configuration("federated"),
        dataset_name="chest images",
        dataset_source="a file",
        task="multilabel",
        class_names=FINDINGS,
        split_counts=np.array([[150, 60, 180, 240, 45, 6], [50, 20, 60, 80, 15, 2], support]),
        seeds=[SeedResult(42, history, test)],
        layers=paper_layers(),
        total_parameters=65354,
        client_names=["North clinic", "South clinic", "Children's hospital", "University"],
        client_label_counts=counts,
        client_sizes=np.array([200, 150, 150, 100]),
        gallery=[
            GalleryGroup(
                "The surest hits",
                "The label that the model is surest of is present.",
                cases(3, "Effusion, Mass", "Effusion", 4),
            )
        ],
        explain_method="grad-cam",
        environment=ENVIRONMENT,
    )


def make_private(content: ReportContent) -> ReportContent:
    """Return the same run with example-level privacy, its figures made up but possible."""
    mechanism = Mechanism("example", 5400, 270, 0.5, 1.25, len(content.seeds[0].history), 20)
    releases = [Release(1.25, 0.05, 20 * mechanism.periods)]
    names = content.client_names or ["all images"]
    history = [
        {
            **line,
            "train_loss": None,
            "train_accuracy": None,
            "clients": [
                {**entry, "train_loss": None, "not_finite": int(entry["client"] == 3)}
                for entry in line.get("clients", [])
            ],
            "privacy": {"epsilon": 2.9871 * (number / mechanism.periods) ** 0.5},
        }
        for number, line in enumerate(content.seeds[0].history, start=1)
    ]
    return dataclasses.replace(
        content,
        configuration={**content.configuration, "privacy": {"mechanism": "dp-sgd"}},
        seeds=[SeedResult(42, history, content.seeds[0].test), *content.seeds[1:]],
        privacy=PrivacySpending(
            terms=Terms(
                mechanism="dp-sgd",
                unit="example",
                relation=mechanism.relation,
                delta=1e-5,
                budget=3.0,
                source="the operating system's generator",
                guarantee=True,
            ),
            mechanism=mechanism,
            accounts=[
                PrivacyAccount(name, 5400 - k, releases, 2.9871 - 0.1 * k)
                for k, name in enumerate(names)
            ],
            epsilon_rdp=3.2144,
            attack_bound=0.05213,
            amplification=amplification(
                mechanism, releases, 1e-5, federated=content.mode == "federated"
            ),
        ),
    )


@pytest.fixture(scope="session")
def federated() -> ReportContent:
    return make_federated(each=2)


@pytest.fixture(scope="session")
def private(federated: ReportContent) -> ReportContent:
    return make_private(federated)


@pytest.fixture(scope="session")
def federated_report(federated: ReportContent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the federated run: drawing its figures takes seconds, so it is written once."""
    return write_report(federated, tmp_path_factory.mktemp("federated"))


@pytest.fixture(scope="session")
def private_report(private: ReportContent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the private run, written once."""
    return write_report(private, tmp_path_factory.mktemp("private"))


@pytest.fixture(scope="session")
def private_central() -> ReportContent:
    return make_private(make_central(seeds=2, each=2))


@pytest.fixture(scope="session")
def central() -> ReportContent:
    return make_central(each=2)


@pytest.fixture(scope="session")
def multilabel() -> ReportContent:
    return make_multilabel()
