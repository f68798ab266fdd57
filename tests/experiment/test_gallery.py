"""Which decisions the report shows."""

import numpy as np
import torch
from torch import nn

from fedlens.data import ImageDataset, Split
from fedlens.experiment.gallery import build_gallery
from fedlens.explain import explain


class Shade(nn.Module):
    """Answers with the class whose number is the first pixel; as sure as the second one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1)
        nn.init.ones_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer = (images[:, 0, 0, 0] * 255).round().long()
        sure = images[:, 0, 0, 1] * 10
        tie = self.conv(images).mean((2, 3)) * 1e-6
        return nn.functional.one_hot(answer, 4) * sure[:, None] + tie


def dataset(answers: list[int], truth: list[int], sure: list[int]) -> ImageDataset:
    images = torch.zeros(len(answers), 1, 8, 8, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor(answers)
    images[:, 0, 0, 1] = torch.tensor(sure)
    split = Split(images, torch.tensor(truth))
    return ImageDataset("shades", "multiclass", ("a", "b", "c", "d"), split, split, split)


def groups(*columns: list[int], cases: int = 3):
    made = build_gallery(Shade(), dataset(*columns), methods=["grad-cam"], layer=None, cases=cases)
    return {group.title: [case.index for case in group.cases] for group in made.groups}


def test_cases_are_chosen_as_the_titles_say() -> None:
    answers = [0, 0, 0, 1, 1, 2, 1, 0]
    truth = [0, 0, 0, 1, 0, 2, 0, 1]
    sure = [200, 100, 150, 90, 220, 80, 60, 250]
    found = groups(answers, truth, sure)
    # the median of class a's hits is number 2 (150); class b and c have one hit each, d has none
    assert found["Typical hits"] == [2, 3, 5]
    assert found["The most confident mistakes"] == [7, 4, 6]
    # a and b are taken for each other three times, more than any other pair
    assert found["a taken for b"] == [4, 6]
    assert found["b taken for a"] == [7]


def test_a_model_without_a_mistake_has_no_pair_of_classes_that_it_takes_for_each_other() -> None:
    found = groups([0, 1, 2], [0, 1, 2], [10, 20, 30])
    assert found["Typical hits"] == [0, 1, 2]
    assert set(found) == {"Typical hits"}


def test_hits_are_spread_over_the_classes_that_have_some() -> None:
    found = groups([3, 3, 0, 0], [3, 3, 1, 2], [10, 20, 30, 40], cases=2)
    assert found["Typical hits"] == [1]


def test_maps_belong_to_their_images() -> None:
    made = build_gallery(
        Shade(), dataset([0, 1], [0, 1], [50, 60]), methods=["grad-cam"], layer="conv", cases=2
    )
    case = made.groups[0].cases[0]
    assert case.image.shape == case.heatmap.shape == (8, 8)
    assert np.isfinite(case.heatmap).all()
    assert (case.true_class, case.predicted_class, case.layer) == ("a", "a", "conv")
    assert case.further == [] and case.explained == "" and not case.signed


def test_further_methods_stand_beside_the_main_one() -> None:
    columns = dataset([0, 1, 1], [0, 1, 0], [50, 60, 70])
    methods = ["gradient", "attention-rollout", "edges", "expected-gradients"]
    made = build_gallery(Shade(), columns, methods=methods, layer="conv", cases=2)
    assert made.methods == ["gradient", "edges", "expected-gradients"]
    assert made.references == ["expected-gradients"]
    assert list(made.refused) == ["attention-rollout"]
    assert "attention" in made.refused["attention-rollout"]
    for group in made.groups:
        for case in group.cases:
            assert (case.method, case.layer, case.signed) == ("gradient", "", True)
            edges, expected = case.further
            assert (edges.method, edges.explained, edges.signed) == ("edges", "no class", False)
            assert (expected.method, expected.explained) == ("expected-gradients", "")
            assert edges.heatmap.shape == expected.heatmap.shape == (8, 8)
    image = columns.test.images[made.groups[0].cases[0].index]
    edges = explain(Shade(), image[None], "edges").values[0].numpy()
    np.testing.assert_array_equal(made.groups[0].cases[0].further[0].heatmap, edges)


def test_the_first_method_that_can_is_the_main_one() -> None:
    columns = dataset([0, 1], [0, 1], [50, 60])
    made = build_gallery(
        Shade(), columns, methods=["attention-relevance", "edges"], layer=None, cases=1
    )
    assert made.methods == ["edges"]
    assert made.groups[0].cases[0].explained == "no class"
    none = build_gallery(Shade(), columns, methods=["attention-rollout"], layer=None, cases=1)
    assert none.groups == [] and none.methods == [] and list(none.refused) == ["attention-rollout"]
