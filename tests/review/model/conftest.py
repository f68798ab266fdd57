"""A small network that was taught on the embedded digits for a moment, and its examiner."""

from collections.abc import Iterator

import pytest
import torch

import fedlens
from fedlens.models import build_model
from fedlens.review.model import Examiner, Subject, weights_digest
from fedlens.training.evaluation import evaluate_logits
from fedlens.training.prediction import predict


@pytest.fixture(scope="session")
def subject() -> Subject:
    data = fedlens.load_dataset("digits")
    model = build_model("paper-cnn-same", in_channels=1, classes=10, image_size=28, seed=3)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for start in range(0, 960, 32):
        part = slice(start, start + 32)
        optimiser.zero_grad()
        logits = model(data.train.images[part].float() / 255)
        torch.nn.functional.cross_entropy(logits, data.train.labels[part]).backward()
        optimiser.step()
    model.eval()
    return Subject(
        title="Digits, for a test",
        network="paper-cnn-same",
        model=model,
        digest=weights_digest(model),
        class_names=tuple(f"digit {number}" for number in range(10)),
        channels=1,
        image_size=28,
        dataset_name="digits",
        dataset_checksum="0" * 64,
        test=evaluate_logits(predict(model, data.test.images), data.test.labels),
        validation=data.validation,
        train=data.train,
        test_split=data.test,
        round=7,
        privacy={"epsilon": 3.0, "delta": 1e-5, "unit": "example", "relation": "add or remove one"},
        methods=(
            "grad-cam",
            "gradient",
            "integrated-gradients",
            "expected-gradients",
            "edges",
            "attention-rollout",
        ),
        seed=5,
    )


@pytest.fixture(scope="session")
def examiner(subject: Subject) -> Iterator[Examiner]:
    with Examiner(subject) as found:
        yield found


@pytest.fixture(scope="session")
def images(subject: Subject) -> torch.Tensor:
    assert subject.test_split is not None
    return subject.test_split.images
