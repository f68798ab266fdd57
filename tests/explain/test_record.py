"""The record of an explanation determines its maps: two that are equal are of equal maps."""

import hashlib
import json
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cheap import FEW
from fedlens.explain import METHODS, Attribution, Attributor, Explanation, explain, parameters_of
from fedlens.explain.baselines import BASELINES
from fedlens.explain.methods.lime import SEGMENT_MEAN
from fedlens.models import build_model

CLASSES = 4


def drawn(count: int, seed: int) -> Tensor:
    """Images in [0, 1], the darker half of the range for an even seed."""
    images = torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    return images / (2 - seed % 2)


def network(method: str) -> nn.Module:
    name = "hybrid" if METHODS[method].needs_attention else "paper-cnn"
    return build_model(name, in_channels=1, classes=CLASSES, image_size=28, seed=3)


def ways(method: str) -> list[dict[str, Any]]:
    """The method with each of its baselines."""
    known = parameters_of(method)
    if "baseline" in known:
        return [{"baseline": name} for name in BASELINES]
    return [{"fill": name} for name in (SEGMENT_MEAN, *BASELINES)] if "fill" in known else [{}]


every_way = pytest.mark.parametrize(
    ("method", "way"),
    [
        pytest.param(method, way, id="-".join([method, *way.values()]))
        for method in METHODS
        for way in ways(method)
    ],
)


def asked(method: str, way: dict[str, Any], **options: Any) -> Explanation:
    # only where a class is looked at may a map be about one
    target = 1 if METHODS[method].class_specific else None
    few = FEW.get(method, {})
    return explain(network(method), drawn(2, 1), method, target=target, **few, **way, **options)


@every_way
def test_equal_records_are_of_equal_maps(method: str, way: dict[str, Any]) -> None:
    references = [drawn(5, 2), drawn(5, 3), drawn(6, 3)]
    if not METHODS[method].needs_references:
        references.append(None)
    found = [
        asked(method, way, references=others, value_range=reach)
        for others in references
        for reach in ((0.0, 1.0), (-1.0, 2.0))
    ]
    for first, second in combinations(found, 2):
        if first.meta == second.meta:
            assert torch.equal(first.values, second.values)


@every_way
def test_references_are_on_record_where_they_are_looked_at(
    method: str, way: dict[str, Any]
) -> None:
    first, second = (asked(method, way, references=drawn(5, seed)) for seed in (2, 3))
    looks = not torch.equal(first.values, second.values)
    assert looks == (METHODS[method].needs_references or "mean" in way.values())
    for found, seed in ((first, 2), (second, 3)):
        record = found.meta["references"]
        if looks:
            others = drawn(5, seed).numpy()
            wanted = hashlib.sha256(b"float32 (5, 1, 28, 28)" + others.tobytes()).hexdigest()
            assert record == {"count": 5, "sha256": wanted}
        else:
            assert record is None
    assert json.loads(json.dumps(first.meta, allow_nan=False)) == first.meta


def test_without_references_a_mean_is_the_images_own() -> None:
    found = asked("occlusion", {"baseline": "mean"})
    assert found.meta["references"] is None and found.meta["baseline"] == "mean"
    flat = torch.full((2, 1, 28, 28), 0.25)
    options = {"baseline": "mean", "size": 14, "stride": 14}
    own = explain(network("occlusion"), flat, "occlusion", **options)
    assert not own.values.any() and own.degenerate.all()  # hidden or not, it is the same image
    others = explain(network("occlusion"), flat, "occlusion", references=drawn(5, 1), **options)
    assert others.values.any()


def test_the_range_of_a_pixel_is_on_record_as_two_plain_numbers() -> None:
    for reach in ((-1, 2), (np.float32(-1), np.float64(2))):
        assert asked("gradient", {}, value_range=reach).meta["value_range"] == [-1.0, 2.0]
    pixels = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    assert explain(network("gradient"), pixels, "gradient").meta["value_range"] == [0.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.bfloat16])
def test_references_are_recorded_as_they_were_given(dtype: torch.dtype) -> None:
    others = (drawn(5, 1) * 255).to(dtype) if dtype == torch.uint8 else drawn(5, 1).to(dtype)
    kind = str(dtype).removeprefix("torch.")
    content = others.view(torch.uint8).numpy().tobytes()
    wanted = hashlib.sha256(f"{kind} (5, 1, 28, 28)".encode() + content).hexdigest()
    # the order in memory is no part of an image
    for given in (others, others.to(memory_format=torch.channels_last), others.mT.clone().mT):
        record = asked("expected-gradients", {}, references=given).meta["references"]
        assert record == {"count": 5, "sha256": wanted}


def test_a_method_of_ones_own_says_that_it_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    class FromTheMean(Attributor):
        uses_references = True

        def attribute(self, images: Tensor, target: Any) -> Attribution:
            away = images.sum(1)
            if self.context.references is not None:
                away = away - self.context.references.mean((0, 1))
            return Attribution(away, self.context.model(images))

    monkeypatch.setitem(METHODS, "from-the-mean", FromTheMean)
    assert asked("from-the-mean", {}).meta["references"] is None
    assert asked("from-the-mean", {}, references=drawn(5, 2)).meta["references"]["count"] == 5
