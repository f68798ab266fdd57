"""What an explanation is asked about: a class or two of them, by number or by name."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cheap import FEW
from fedlens.errors import ExplanationError
from fedlens.explain import METHODS, Contrast, Explanation, explain, parameters_of
from fedlens.models import build_model

GARMENTS = ["T-shirt/top", "Trouser", "Pullover", "Shirt"]
LOOKING = [name for name, kind in METHODS.items() if kind.class_specific]


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def ask(method: str, **options: Any) -> Explanation:
    name = "hybrid" if METHODS[method].needs_attention else "paper-cnn"
    model = build_model(name, in_channels=1, classes=len(GARMENTS), image_size=28, seed=3)
    if METHODS[method].needs_references:
        options["references"] = images(3)
    return explain(model, images(), method, **FEW.get(method, {}), **options)


@pytest.mark.parametrize("method", LOOKING)
def test_a_contrast_by_names_or_numbers_is_that_contrast(method: str) -> None:
    wanted = ask(method, target=Contrast(3, 0))
    for options in (
        {"contrast": ("Shirt", "T-shirt/top"), "class_names": GARMENTS},
        {"contrast": (3, 0)},
        {"contrast": [np.int64(3), torch.tensor(0)], "class_names": tuple(GARMENTS)},
        {"contrast": ("Shirt", 0), "class_names": GARMENTS},
        {"contrast": Contrast(3, 0)},
    ):
        found = ask(method, **options)
        assert found.target == Contrast(3, 0)
        assert torch.equal(found.values, wanted.values)
        assert found.meta == wanted.meta


@pytest.mark.parametrize("method", LOOKING)
def test_a_target_by_name_is_that_class(method: str) -> None:
    found = ask(method, target="Shirt", class_names=GARMENTS)
    assert found.target.tolist() == [3, 3] and found.target.dtype == torch.int64
    assert torch.equal(found.values, ask(method, target=3).values)


def test_names_alone_ask_for_nothing() -> None:
    for method in ("gradient", "edges"):
        found = ask(method, class_names=GARMENTS)
        assert torch.equal(found.values, ask(method).values)


PAIR = ("Shirt", "T-shirt/top")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"contrast": (3, 0), "target": 3}, "a target and a contrast were both given"),
        ({"contrast": (3, 0), "target": Contrast(3, 0)}, "a target and a contrast were both given"),
        ({"contrast": PAIR}, r"'Shirt' is asked for by name, .* class_names.*class number"),
        ({"target": "Shirt"}, r"'Shirt' is asked for by name, .* class_names.*class number"),
        (
            {"contrast": ("Shirt", "Hat"), "class_names": GARMENTS},
            r"no class 'Hat', expected one of T-shirt/top, Trouser, Pullover, Shirt",
        ),
        (
            {"target": "shirt", "class_names": GARMENTS},
            r"no class 'shirt', expected one of T-shirt/top, .*, Shirt. Did you mean 'Shirt'\?",
        ),
        ({"contrast": ("Shirt", "Shirt"), "class_names": GARMENTS}, "got 'Shirt' twice"),
        ({"contrast": (3, 3)}, "two different classes, got class 3 twice"),
        ({"contrast": ("Shirt", 3), "class_names": GARMENTS}, "got class 3 twice"),
        ({"contrast": (3, -1)}, "two class numbers from 0, got -1"),
        ({"contrast": (3, True)}, "two class numbers from 0, got True"),
        ({"contrast": (3, 0.5)}, r"two class numbers from 0, got 0\.5"),
        ({"contrast": (3, 4)}, "no class 4 to explain: the network has the classes 0 to 3"),
        ({"contrast": (3,)}, r"contrast is \(3,\), expected two classes"),
        ({"contrast": (3, 0, 1)}, r"contrast is \(3, 0, 1\), expected two classes"),
        ({"contrast": "ab", "class_names": ["a", "b", "c", "d"]}, "contrast is 'ab', expected two"),
        ({"contrast": {3, 0}}, r"contrast is \{.*\}, expected two classes"),  # it has no order
        ({"contrast": 3}, "contrast is 3, expected two classes"),
        ({"target": "a", "class_names": "abcd"}, "class_names is 'abcd', expected one name per"),
        ({"target": "a", "class_names": [1, 2, 3, 4]}, "class_names .* expected one name per"),
        ({"target": "a", "class_names": 4}, "class_names is 4, expected one name per class"),
        ({"target": "a", "class_names": ["a", "b", "a", "d"]}, "several classes are called 'a'"),
        ({"target": "Shirt", "class_names": GARMENTS[1:]}, "3 class names .* with 4 classes"),
        ({"target": 0, "class_names": [*GARMENTS, "Hat"]}, "5 class names .* with 4 classes"),
        ({"target": ["Shirt", "Hat"], "class_names": GARMENTS}, r"target is \['Shirt', 'Hat'\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_one_clear_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ExplanationError, match=f"(?i){sentence}") as caught:
        ask("gradient", **options)
    assert str(caught.value)[-1] in ".?" and "\n" not in str(caught.value)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in LOOKING])
@pytest.mark.parametrize(
    "options",
    [
        {"contrast": PAIR, "class_names": GARMENTS},
        {"contrast": (3, 0)},
        {"contrast": ("Hat", "Cap")},
        {"target": "Shirt", "class_names": GARMENTS},
    ],
)
def test_a_method_that_looks_at_no_class_refuses_both(method: str, options: dict[str, Any]) -> None:
    with pytest.raises(ExplanationError, match=f"'{method}' looks at no class.*contrast"):
        ask(method, **options)


@pytest.mark.parametrize("method", METHODS)
def test_no_parameter_of_a_method_is_called_as_one_of_explain(method: str) -> None:
    own = set(inspect.signature(explain).parameters)
    assert {"target", "contrast", "class_names"} <= own
    assert not own & set(parameters_of(method))
