"""A console over the embedded digits, with a small network that was taught for a moment."""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from argon2 import PasswordHasher
from PIL import Image
from starlette.testclient import TestClient

import fedlens
from fedlens.models import build_model
from fedlens.review.contract import Actor, Person, Role
from fedlens.review.model import Examiner, Subject, weights_digest
from fedlens.review.store import ReviewKey, Store, open_store
from fedlens.review.web.app import create_app
from fedlens.review.web.console import Console, Policy
from fedlens.review.web.images import ImageSource
from fedlens.training.evaluation import evaluate_logits
from fedlens.training.prediction import predict

PASSWORD = "correct horse battery"
BY = Actor("command line", Role.LEAD)

Picture = Callable[..., bytes]


@pytest.fixture(scope="session")
def subject() -> Subject:
    data = fedlens.load_dataset("digits")
    model = build_model("lenet", in_channels=1, classes=10, image_size=28, seed=3)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for start in range(0, 960, 32):
        inputs = data.train.images[start : start + 32].float() / 255
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(
            model(inputs), data.train.labels[start : start + 32]
        ).backward()
        optimiser.step()
    model.eval()
    return Subject(
        title="Digits, for a test",
        network="lenet",
        model=model,
        digest=weights_digest(model),
        class_names=tuple(f"digit {number}" for number in range(10)),
        channels=1,
        image_size=28,
        dataset_name="digits",
        dataset_checksum="0" * 64,
        test=evaluate_logits(predict(model, data.test.images), data.test.labels),
        validation=data.validation,
        test_split=data.test,
        round=1,
        trained="for a moment",
        methods=("grad-cam", "gradient"),
    )


@pytest.fixture(scope="session")
def examiner(subject: Subject) -> Iterator[Examiner]:
    examiner = Examiner(subject, None)
    yield examiner
    examiner.close()


@pytest.fixture
def kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqlite_tables: Callable[[Path], str]
) -> Iterator[Store]:
    """A store in SQLite, whose passwords are hashed fast."""
    fast = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr("fedlens.review.store.people.PasswordHasher", lambda: fast)
    store = open_store(
        sqlite_tables(tmp_path / "review.sqlite"), ReviewKey.load(tmp_path / "review.key")
    )
    yield store
    store.close()


@pytest.fixture
def console(kept: Store, examiner: Examiner, subject: Subject) -> Console:
    return Console(
        store=kept,
        examiner=examiner,
        subject=subject,
        images=ImageSource(subject),
        policy=Policy(),
        fingerprint=kept.key.public.fingerprint,
    )


@pytest.fixture(scope="session")
def password() -> str:
    return PASSWORD


@pytest.fixture
def people(kept: Store) -> dict[Role, Person]:
    return {role: kept.people.add(role.value, PASSWORD, role, BY) for role in Role}


@pytest.fixture
def tokens(kept: Store) -> dict[Role, str]:
    return {role: kept.people.add_token(f"{role}-program", role, BY) for role in Role}


@pytest.fixture
def client_of() -> Callable[..., TestClient]:
    """Make a browser, or a program, that has not signed in; it follows no redirect by itself."""

    def make(console: Console, *, token: str | None = None, **policy: object) -> TestClient:
        scheme = "https" if policy.get("secure_cookies") else "http"
        client = TestClient(
            create_app(replace(console, policy=replace(console.policy, **policy))),
            base_url=f"{scheme}://127.0.0.1:8000",
            follow_redirects=False,
            client=("127.0.0.1", 50_000),
            raise_server_exceptions=False,
        )
        if token is not None:
            client.headers["Authorization"] = f"Bearer {token}"
        return client

    return make


@pytest.fixture
def client(console: Console, client_of: Callable[..., TestClient]) -> TestClient:
    return client_of(console)


@pytest.fixture
def program(
    console: Console, client_of: Callable[..., TestClient], tokens: dict[Role, str]
) -> TestClient:
    """A program with the API token of a reviewer."""
    return client_of(console, token=tokens[Role.REVIEWER])


@pytest.fixture(scope="session")
def csrf_of() -> Callable[[TestClient], str]:
    """Read a session's CSRF token from a page."""

    def read(client: TestClient) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', client.get("/nothing-is-here").text)
        assert found is not None
        return found[1]

    return read


@pytest.fixture(scope="session")
def sign_in(csrf_of: Callable[[TestClient], str]) -> Callable[[TestClient, Role], str]:
    """Sign in by password, and return the session's CSRF token."""

    def enter(client: TestClient, role: Role) -> str:
        answer = client.post("/sign-in", data={"name": role.value, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        return csrf_of(client)

    return enter


@pytest.fixture(scope="session")
def picture() -> Picture:
    """Make a picture file of random pixels."""

    def make(seed: int = 0, size: tuple[int, int] = (28, 28), kind: str = "PNG") -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format=kind)
        return file.getvalue()

    return make
