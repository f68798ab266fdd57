"""Similar training images: shown only where policy allows, only when asked for, and recorded."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

import fedlens
from fedlens.data import Split
from fedlens.review.contract import Role
from fedlens.review.web.console import Console

OWN = 17
"""Where the image under review itself lies among the training images."""


@pytest.fixture
def train(console: Console, cases: list[int], monkeypatch: pytest.MonkeyPatch) -> Split:
    """Give the subject training images for one test."""
    known = fedlens.load_dataset("digits").train
    images, labels = known.images[:40].clone(), known.labels[:40].clone()
    first = console.store.queue.page(limit=1)[0]
    images[OWN] = console.images.image(first)
    split = Split(images, labels)
    monkeypatch.setitem(console.subject.__dict__, "train", split)
    monkeypatch.setitem(console.examiner.subject.__dict__, "train", split)
    return split


def revealed_by(browser) -> int:
    case = browser.take_next()
    browser.post(f"/cases/{case}/label", label="3")
    return case


def test_they_are_off_by_default(train: Split, reviewer):
    case = revealed_by(reviewer)
    assert "neighbours=yes" not in reviewer.get(f"/cases/{case}")
    reviewer.get(f"/cases/{case}?neighbours=yes", status=403)
    reviewer.get("/train/1.png", status=403)


def test_the_nearest_are_shown_when_asked_for_and_recorded(
    train: Split, browser_of: Callable, text_of
):
    browser = browser_of(Role.REVIEWER, neighbours=True)
    case = revealed_by(browser)
    page = browser.get(f"/cases/{case}")
    assert "neighbours=yes" in page
    assert "/train/" not in page
    page = browser.get(f"/cases/{case}?neighbours=yes")
    assert page.index(f"/train/{OWN}.png") == page.index("/train/")  # the same image is nearest
    assert "distance 0.00" in text_of(page)
    shown = browser.records(case)[-1].content["displayed"]["neighbours"]
    assert shown[0] == f"train/{OWN}"
    assert len(shown) == 5
    content = browser.client.get(f"/train/{OWN}.png").content
    pixels = train.images[OWN, 0].numpy()
    picture = np.asarray(Image.open(io.BytesIO(content)))
    assert np.array_equal(picture, np.kron(pixels, np.ones((4, 4), np.uint8)))
    browser.get("/train/40.png", status=404)
