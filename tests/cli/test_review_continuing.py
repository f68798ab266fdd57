"""A store goes on with the model that its cases are answers of, and with no other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedlens.cli.review.continuing import check_same_model
from fedlens.errors import RunError
from fedlens.review.contract import Actor, NewCase, Role
from fedlens.review.store import ReviewKey, Store, open_store
from fedlens.review.store.trail import SERVING_BEGAN

LEAD = Actor("Lena", Role.LEAD)
CASE = NewCase("a" * 64, "test/0", 1, (0.2, 0.8), 0.5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path / 'review.sqlite'}"
    opened = open_store(url, ReviewKey.load(tmp_path / "key" / "review.key"))
    yield opened
    opened.close()


def test_another_model_does_not_go_on_with_these_cases(store: Store) -> None:
    check_same_model(store, "1" * 64)
    store.trail.add(SERVING_BEGAN, LEAD, {"model": {"weights": "1" * 64}})
    check_same_model(store, "2" * 64)  # nothing was answered yet
    store.queue.add([CASE], LEAD)
    check_same_model(store, "1" * 64)
    with pytest.raises(RunError, match=r"another model.*--database"):
        check_same_model(store, "2" * 64)
