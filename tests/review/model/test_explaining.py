"""The examiner's own way to explain against the library's, to the last bit."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fedlens.explain import METHODS, Contrast, explain
from fedlens.models import build_model
from fedlens.review.contract import ReviewError
from fedlens.review.model import Subject
from fedlens.review.model.asking import Asking
from fedlens.review.model.explaining import Explainer

SLOW = {"lime", "kernel-shap", "exact-shapley"}
OF_ATTENTION = {"attention-rollout", "attention-relevance"}  # which the network has none of


@pytest.fixture(scope="module")
def asking(subject: Subject) -> Asking:
    return Asking(replace(subject, methods=tuple(METHODS)))


@pytest.fixture(scope="module")
def explainer(subject: Subject, asking: Asking) -> Explainer:
    return Explainer(subject.model, asking)


def test_what_needs_attention_is_not_among_the_methods_of_a_network_without(
    asking: Asking,
) -> None:
    assert set(asking.methods) == set(METHODS) - OF_ATTENTION


@pytest.mark.parametrize("method", [name for name in METHODS if name not in OF_ATTENTION])
def test_each_method_says_what_the_library_says(
    explainer: Explainer, asking: Asking, subject: Subject, images: torch.Tensor, method: str
) -> None:
    if method == "exact-shapley":  # which asks the network 65,536 times an image, here four times
        quick = build_model("lenet", in_channels=1, classes=10, image_size=28, seed=3).eval()
        subject = replace(subject, model=quick, methods=(method,))
        asking = Asking(subject)
        explainer = Explainer(subject.model, asking)
    number = 1 if method in SLOW else 5
    for images_ in (images[:number], images[7 : 7 + number]):  # the first binds the method
        found = explainer.explain(images_, method, None)
        wanted = explain(subject.model, images_, method, **asking.arguments(method))
        assert torch.equal(found.values, wanted.values)
        assert torch.equal(found.logits, wanted.logits)
        assert torch.equal(found.degenerate, wanted.degenerate)
        assert found.meta == wanted.meta
        assert (found.target is None) == (wanted.target is None)
        if isinstance(wanted.target, torch.Tensor):
            assert torch.equal(found.target, wanted.target)
        assert {k: v.tolist() for k, v in found.details.items()} == {
            k: v.tolist() for k, v in wanted.details.items()
        }


@pytest.mark.parametrize("target", [torch.arange(40) % 10, Contrast(2, 7)])
def test_more_images_than_go_at_once_and_a_target(
    explainer: Explainer,
    asking: Asking,
    subject: Subject,
    images: torch.Tensor,
    target: torch.Tensor | Contrast,
) -> None:
    explainer.explain(images[:1], "gradient", None)
    found = explainer.explain(images[:40], "gradient", target)
    wanted = explain(subject.model, images[:40], "gradient", target=target, seed=subject.seed)
    assert torch.equal(found.values, wanted.values)
    assert len(found) == 40


def test_an_answer_that_is_no_number_is_refused_later_too(
    subject: Subject, images: torch.Tensor
) -> None:
    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(784, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(images.flatten(1)) / (images.amax((1, 2, 3)) - 1)[:, None]

    model = Breaks()
    own = replace(subject, model=model, methods=("gradient",))
    explainer = Explainer(model, Asking(own))
    dark, bright = torch.zeros_like(images[:1]), torch.full_like(images[:1], 255)
    assert bool(explainer.explain(dark, "gradient", None).logits.isfinite().all())
    with pytest.raises(ReviewError, match="not a number"):
        explainer.explain(torch.cat([dark, bright]), "gradient", None)


def test_a_network_in_training_is_put_into_evaluation_mode(
    subject: Subject, images: torch.Tensor
) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(784, 10)).train()
    own = replace(subject, model=model, methods=("gradient",))
    explainer = Explainer(model, Asking(own))
    first, second = (explainer.explain(images[:3], "gradient", None) for _ in range(2))
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.values, second.values)
