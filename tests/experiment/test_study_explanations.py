"""The study of explanations: its questions, and what it keeps, on a network that need not be good."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fedlens.data import load_dataset
from fedlens.data.client import Client
from fedlens.data.partitions import partition
from fedlens.data.shapes import MARK, with_mark
from fedlens.errors import ExplanationError, FedlensError, RunError
from fedlens.experiment.study import load_study
from fedlens.experiment.study.explanations import (
    QUICK,
    Size,
    comparing,
    explain_study,
    measures,
    parts,
    parts_of,
)
from fedlens.experiment.study.explanations.cases import (
    Group,
    NothingToExplainError,
    pair_groups,
    reference_images,
)
from fedlens.experiment.study.explanations.clients import local_models, planted, shortcut
from fedlens.experiment.study.explanations.comparing import (
    compared,
    maps_of,
    quality,
    shared_answers,
)
from fedlens.experiment.study.explanations.garments import regions_of
from fedlens.experiment.study.explanations.intervals import difference, interval
from fedlens.experiment.study.explanations.judging import judge
from fedlens.experiment.study.explanations.known import edge_shares, localisation
from fedlens.experiment.study.explanations.measures import MEASURES, Material
from fedlens.experiment.study.explanations.parts import Part, write_arrays
from fedlens.experiment.study.explanations.rows import ROWS, SHORT, rows_for
from fedlens.explain import METHODS, Contrast
from fedlens.explain.regions import garment_regions
from fedlens.models import build_model
from fedlens.training.local import LocalTraining

KEYS = ("layer-cam", "gradient", "smoothgrad", "edges", "random")
PAIR = ("Shirt", "T-shirt/top")


class ByTheFirstPixel(nn.Module):
    """Answers with the value of the first pixel, 0 to 3 of 255."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer = (images[:, 0, 0, 0] * 255).round()
        return -(answer[:, None] - torch.arange(4.0)).abs() + self.unused


@pytest.fixture(scope="module")
def dataset():
    """The shapes, called like garments, so that the pair of the study is there."""
    shapes = load_dataset("shapes")
    names = ("Shirt", "T-shirt/top", "Coat", "Pullover")
    test = shapes.test.subset(torch.arange(40))
    return replace(shapes, class_names=names, test=test)


@pytest.fixture(scope="module")
def model():
    return build_model("lenet", in_channels=1, classes=4, image_size=28, seed=3).eval()


@pytest.fixture(scope="module")
def material(dataset, model):
    images = dataset.test.images
    groups = [
        Group("Shirt", "T-shirt/top", Contrast(1, 0), np.arange(3), images[:3], 9),
        Group("Shirt", "Shirt", Contrast(0, 1), np.arange(3, 5), images[3:5], 7),
    ]
    seen = torch.ones(28, 28, dtype=torch.bool)
    return Material(model, groups, reference_images(dataset, 0), seen, 0)


def test_the_groups_are_the_mistakes_and_as_many_right_answers(dataset):
    truth = torch.tensor([0] * 12 + [1] * 12 + [2] * 16)
    answers = torch.tensor([1] * 5 + [0] * 7 + [0] * 2 + [1] * 10 + [0] * 4 + [2] * 12)
    images = torch.zeros(40, 1, 28, 28, dtype=torch.uint8)
    images[:, 0, 0, 0] = answers.byte()
    test = replace(dataset.test, images=images, labels=truth)
    groups = pair_groups(ByTheFirstPixel(), replace(dataset, test=test), PAIR, 4, seed=0)
    assert [group.name for group in groups] == [
        *("Shirt taken for T-shirt/top", "T-shirt/top taken for Shirt"),
        *("Shirt, right", "T-shirt/top, right"),
    ]
    assert [len(group) for group in groups] == [4, 2, 4, 2]  # four of five drawn
    assert [group.found for group in groups] == [5, 2, 7, 10]
    # why the answer, and not the true class, or where it is true not the other one
    asked = [(group.contrast.for_class, group.contrast.against_class) for group in groups]
    assert asked == [(1, 0), (0, 1), (0, 1), (1, 0)]
    for group in groups:
        assert (truth[group.indices] == dataset.class_names.index(group.true)).all()
        assert (answers[group.indices] == dataset.class_names.index(group.predicted)).all()
        assert torch.equal(group.images, images[group.indices])


def test_a_pair_without_mistakes_or_of_unknown_classes_is_refused(dataset):
    images = torch.zeros(40, 1, 28, 28, dtype=torch.uint8)
    images[:, 0, 0, 0] = dataset.test.labels.byte()
    good = replace(dataset, test=replace(dataset.test, images=images))
    with pytest.raises(ExplanationError, match="never takes Shirt and T-shirt/top for each other"):
        pair_groups(
            ByTheFirstPixel(), replace(good, test=good.test), ("Shirt", "T-shirt/top"), 0, 0
        )
    with pytest.raises(ExplanationError, match="no class 'Hat' in shapes, expected one of Shirt"):
        pair_groups(ByTheFirstPixel(), good, ("Hat", "Shirt"), 3, 0)


def test_every_method_has_a_row_and_every_short_row_is_one():
    assert {row.method for row in ROWS} == set(METHODS)
    assert set(SHORT) <= {row.key for row in ROWS}
    assert [row.key for row in ROWS[-2:]] == ["edges", "random"]  # controls last


def test_rows_that_cannot_explain_a_network_are_left_out(dataset, model):
    references = reference_images(dataset, 0)
    image = dataset.test.images[:1]
    usable = {row.key for row in rows_for(model, image, references)}
    assert "grad-cam" in usable and not any("attention" in key for key in usable)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(784, 4)).eval()
    assert {row.key for row in rows_for(flat, image, references, KEYS)} == set(KEYS) - {"layer-cam"}


def test_an_interval_by_hand():
    draws = np.random.default_rng(0)
    same = interval(np.array([2.0, 2.0, np.nan]), draws)
    assert same == {"mean": 2.0, "low": 2.0, "high": 2.0, "images": 2, "missing": 1}
    nothing = interval(np.array([np.nan]), draws)
    assert nothing["mean"] is None and nothing["missing"] == 1
    assert interval(np.array([1.0]), draws)["low"] is None
    # of a normal sample: mean plus and minus 1.96 standard errors
    values = np.random.default_rng(1).normal(size=400)
    found = interval(values, draws)
    expected = 1.96 * values.std() / 20
    assert found["high"] - values.mean() == pytest.approx(expected, rel=0.15)
    assert values.mean() - found["low"] == pytest.approx(expected, rel=0.15)


def test_the_table_of_one_network(dataset, material, monkeypatch):
    monkeypatch.setattr(measures, "STEPS", 7)
    monkeypatch.setattr(measures, "NOISE_SETS", 20)
    monkeypatch.setattr(measures, "DRAWS", 2)
    rows = rows_for(material.model, dataset.test.images[:1], material.references, KEYS)
    said = []
    content, arrays = judge(material, rows, lambda share, text: said.append(share), regions=True)
    assert json.loads(json.dumps(content, allow_nan=True)) is not None
    assert [row["key"] for row in content["rows"]] == list(KEYS)
    table = {row["key"]: row["figures"] for row in content["rows"]}
    known = {measure.key for measure in MEASURES}
    for key in KEYS:
        drawn = key in ("smoothgrad", "random")
        assert set(table[key]) == known - {"complete"} - (set() if drawn else {"seeds"})
        assert table[key]["deletion"]["images"] == 5
    # what is known of the controls beforehand
    assert table["edges"]["randomisation"]["mean"] == pytest.approx(1)
    assert abs(table["random"]["randomisation"]["mean"]) < 0.1
    assert table["random"]["seeds"]["mean"] == pytest.approx(0, abs=0.1)
    matrix = np.array(content["agreement"]["matrix"])
    assert matrix.shape == (5, 5) and np.allclose(matrix, matrix.T)
    assert np.allclose(np.diag(matrix), 1) and abs(matrix[4, :4]).max() < 0.1
    for group in content["regions"]["tables"]:
        for shares in group["shares"].values():
            assert sum(part["mean"] for part in shares) == pytest.approx(1)
        assert sum(group["areas"]) == pytest.approx(1)
    assert arrays["maps/Shirt, right/gradient"].shape == (2, 28, 28)
    assert arrays["mean-image/Shirt, right"].shape == (28, 28)
    assert said == sorted(said)


def test_a_network_that_sees_a_part_of_the_image_is_judged_too(dataset, monkeypatch):
    """What it does not see counts neither for nor against a map."""
    monkeypatch.setattr(measures, "STEPS", 4)
    monkeypatch.setattr(measures, "NOISE_SETS", 10)
    monkeypatch.setattr(measures, "DRAWS", 1)
    blind = build_model("paper-cnn", in_channels=1, classes=4, image_size=28, seed=3).eval()
    images = dataset.test.images
    groups = [
        Group("Shirt", "T-shirt/top", Contrast(1, 0), np.arange(2), images[:2], 9),
        Group("T-shirt/top", "T-shirt/top", Contrast(1, 0), np.arange(2, 4), images[2:4], 9),
    ]
    seen = torch.zeros(28, 28, dtype=torch.bool)
    seen[:22, :22] = True
    material = Material(blind, groups, reference_images(dataset, 0), seen, 0)
    keys = ("gradient", "integrated-gradients", "edges")
    rows = rows_for(blind, images[:1], material.references, keys)
    content, _ = judge(material, rows, lambda share, text: None, regions=True)
    figures = {row["key"]: row["figures"] for row in content["rows"]}
    assert all(figures[key]["sensitivity"]["images"] == 4 for key in keys)
    assert figures["integrated-gradients"]["complete"]["mean"] == 1
    assert "complete" not in figures["gradient"]
    assert content["seen"]["box"] == [0, 0, 22, 22]
    assert content["seen"]["blind"] == pytest.approx(1 - 22 * 22 / 784)
    light = images[:2].double()
    unseen = 1 - light[..., :22, :22].sum((1, 2, 3)) / light.sum((1, 2, 3))
    assert content["seen"]["light"][0] == pytest.approx(float(unseen.mean()))
    hem = content["regions"]["names"].index("background")
    assert 0 < content["regions"]["unseen"][0][hem] < 1
    (held,) = content["regions"]["differences"]  # both answer T-shirt/top
    assert (held["first"], held["second"]) == (groups[0].name, groups[1].name)
    tables = content["regions"]["tables"]
    for key in keys:
        for part, found in enumerate(held["values"][key]):
            means = [table["shares"][key][part]["mean"] for table in tables]
            assert found["mean"] == pytest.approx(means[0] - means[1])
    # no evidence is counted where it is blind: a map that knows of no blindness loses what lies there
    everywhere = {"edges": [torch.ones(2, 28, 28)] * 2}
    found = regions_of(material, [row for row in rows if row.key == "edges"], everywhere)
    parts = garment_regions(images[:2])[:, :22, :22].flatten(1)
    for part, share in enumerate(found["tables"][0]["shares"]["edges"]):
        assert share["mean"] == pytest.approx(float((parts == part).double().mean()))
        assert found["tables"][0]["lift"]["edges"][part]["mean"] == pytest.approx(0, abs=1e-9)


def test_a_difference_by_hand():
    draws = np.random.default_rng(0)
    same = difference(np.array([3.0, 3.0]), np.array([1.0, 1.0, np.nan]), draws)
    assert same == {"mean": 2.0, "low": 2.0, "high": 2.0, "images": 4, "missing": 1}
    assert difference(np.array([np.nan]), np.array([1.0]), draws)["mean"] is None
    # of two normal samples: 1.96 times the root of the sum of both squared standard errors
    first, second = np.random.default_rng(1).normal(size=(2, 400))
    found = difference(first, second, draws)
    middle = first.mean() - second.mean()
    expected = 1.96 * np.sqrt(first.var() / 400 + second.var() / 400)
    assert found["high"] - middle == pytest.approx(expected, rel=0.15)
    assert middle - found["low"] == pytest.approx(expected, rel=0.15)


def test_a_network_agrees_with_itself_and_not_with_another(dataset, material, monkeypatch):
    monkeypatch.setattr(comparing, "STEPS", 7)
    rows = rows_for(material.model, dataset.test.images[:1], material.references, KEYS[1:])
    other = build_model("lenet", in_channels=1, classes=4, image_size=28, seed=4).eval()
    first, second = (maps_of(model, material, rows) for model in (material.model, other))
    same = compared(material, rows, first, first)
    different = compared(material, rows, first, second)
    for row in rows:
        assert same[row.key]["spearman"]["mean"] == pytest.approx(1)
        assert same[row.key]["top"]["mean"] == pytest.approx(1)
    assert different["gradient"]["spearman"]["mean"] < 0.7
    assert different["edges"]["spearman"]["mean"] == pytest.approx(1)  # a control knows no network
    figures = quality(other, material, rows, second)
    assert all(0 <= figures[row.key]["deletion"]["mean"] <= 1 for row in rows)


def test_a_planted_mark_is_on_one_class_of_one_client(dataset):
    client = Client(dataset.train.images, dataset.train.labels, torch.arange(50, 90))
    cheat = planted(client, 2)
    before, labels = client.take(torch.arange(40))
    assert torch.equal(cheat.targets, labels)
    marked = (cheat.inputs[:, 0, :MARK, :MARK] == with_mark(before)[:, 0, :MARK, :MARK]).all((1, 2))
    assert torch.equal(marked, labels == 2) and marked.any()
    assert torch.equal(cheat.inputs[:, :, MARK:], before[:, :, MARK:])


def test_local_models_are_trained_one_by_one_and_leave_the_global_one_alone(dataset, model):
    held = [
        Client(dataset.train.images, dataset.train.labels, torch.arange(a, a + 64)) for a in (0, 64)
    ]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    local = LocalTraining(batch_size=32, lr=0.1)
    weights = [
        own.state_dict()["output.weight"].clone()
        for own in local_models(model, held, local, seed=0)
    ]
    assert not torch.equal(weights[0], weights[1])
    alone = next(iter(local_models(model, held[1:], local, seed=0)))
    assert not torch.equal(alone.state_dict()["output.weight"], before["output.weight"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_client_with_most_images_of_a_class_cheats(dataset, model):
    some = dataset.train.subset(torch.arange(400))
    clients = partition(some, "classes", clients=4, classes=4, classes_per_client=2, seed=1)
    counts = clients.label_counts()
    rows = rows_for(model, dataset.test.images[:1], reference_images(dataset, 0), ("gradient",))
    found = shortcut(
        model, dataset, clients, LocalTraining(lr=0.1), rows, reference_images(dataset, 0), 0
    )
    cheat, label = divmod(int(np.asarray(counts).argmax()), 4)
    assert (found["client"], found["class"]) == (cheat, dataset.class_names[label])
    assert [one["marked"] > 0 for one in found["clients"]] == [n == cheat for n in range(4)]
    # the twin draws what the cheat draws: without the mark it is what the client would have been
    assert found["twin"]["client"] == cheat and found["twin"]["marked"] == 0
    local, held = LocalTraining(lr=0.1), list(clients)
    weights = [
        own.state_dict()["output.weight"].clone() for own in local_models(model, held, local, 0)
    ]
    (again,) = local_models(model, [held[cheat]], local, 0, first=cheat)
    assert torch.equal(weights[cheat], again.state_dict()["output.weight"])
    assert found["area"] == pytest.approx(16 / 784)


def test_the_share_of_edges_by_hand():
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    images[0, 0, :, 4:] = 200  # one step, whose central differences lie in columns 3 and 4
    left = torch.zeros(1, 8, 8, dtype=torch.bool)
    left[:, :, :4] = True
    assert edge_shares(images, left).tolist() == pytest.approx([0.5])
    left[:, :, 3] = False
    assert edge_shares(images, left).tolist() == pytest.approx([0.0])


@pytest.mark.parametrize("with_shortcut", [False, True])
def test_controls_find_no_more_than_they_should(dataset, model, with_shortcut):
    rows = rows_for(
        model, dataset.test.images[:1], reference_images(dataset, 0), ("edges", "random")
    )
    found = localisation(model, rows, shortcut=with_shortcut, seed=0)
    assert found["area"] == pytest.approx(16 / 784 if with_shortcut else 0.15, abs=0.01)
    assert found["rows"]["random"]["mass"]["mean"] == pytest.approx(found["area"], abs=0.01)
    assert found["rows"]["edges"]["mass"]["mean"] == pytest.approx(found["edge_share"], abs=0.05)
    assert (found["taken"] is None) == (not with_shortcut)


def test_the_study_as_it_ships():
    study = load_study("explanations")
    names = [part.name for part in parts_of(study.cells)]
    assert names[:3] == ["judged/paper-cnn-same", "judged/hybrid", "judged/paper-cnn"]
    for model in ("paper-cnn-same", "hybrid"):
        for question in ("known", "federation", "clients", "privacy", "pairs"):
            assert f"{question}/{model}" in names
    privacy = next(part for part in parts_of(study.cells) if part.name == "privacy/hybrid")
    assert set(privacy.cells) == {"central", "private-8", "private-3", "private-1"}
    federation = next(part for part in parts_of(study.cells) if part.name == "federation/hybrid")
    assert federation.cells["again"].name == "central/hybrid/1"


def test_a_part_is_done_until_its_runs_change(tmp_path):
    cell = load_study("explanations").cells[0]
    weights = cell.folder(tmp_path) / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"one")
    part = Part("judged/some", {"central": cell}, lambda runs, size, watch: ({}, {}))
    plain, packed = part.files(tmp_path)
    assert not part.done(tmp_path)
    plain.parent.mkdir(parents=True)
    kept = {"runs": part._marks(tmp_path), "size": parts._plain(Size()), "made": parts._made()}
    plain.write_text(json.dumps(kept))
    assert part.done(tmp_path) and part.done(tmp_path, Size())
    assert not part.done(tmp_path, Size(images=10))  # what there is will do, but not for more
    plain.write_text(json.dumps(kept | {"made": {**kept["made"], "version": 0}}))
    assert part.done(tmp_path) and not part.done(tmp_path, Size())
    plain.write_text(json.dumps(kept))
    weights.write_bytes(b"two")
    assert not part.done(tmp_path)
    plain.write_text("{")
    assert not part.done(tmp_path)
    write_arrays(packed, {"a/b": np.ones(3), "images/c": np.ones(2, dtype=np.uint8)})
    with np.load(packed, allow_pickle=False) as kept:
        assert kept["a|b"].dtype == np.float16 and kept["images|c"].dtype == np.uint8


def test_only_shared_decisions_count_for_quality(material):
    other = build_model("lenet", in_channels=1, classes=4, image_size=28, seed=4).eval()
    kept = shared_answers([material.model, other], material)
    for group, some in zip(material.groups, kept, strict=True):
        for model in (material.model, other):
            logits = model(group.images.float() / 255)
            ours, against = group.contrast.for_class, group.contrast.against_class
            agree = (logits[:, ours] > logits[:, against]).numpy()
            assert np.isnan(some[~agree]).all()
    rows = rows_for(material.model, material.groups[0].images[:1], material.references, ("edges",))
    maps = maps_of(other, material, rows)
    none = [np.full(len(group), np.nan) for group in material.groups]
    nothing = quality(other, material, rows, maps, none)
    assert nothing["edges"]["deletion"]["mean"] is None


def test_a_map_that_is_not_finite_is_degenerate(material):
    maps = [torch.full((len(group), 28, 28), float("nan")) for group in material.groups]
    figures = measures._of_maps(material, material.groups[0], maps[0], multiplied=True)
    assert figures["degenerate"].tolist() == [1.0] * 3 and np.isnan(figures["road"]).all()


def failing(runs, size, watch):
    watch(0.1, "begun")
    raise ValueError("a mistake of ours")


def misusing(runs, size, watch):
    raise ExplanationError("The maps have the wrong shape.")


def without_mistakes(runs, size, watch):
    raise NothingToExplainError("The network never takes one for the other.")


def test_only_a_network_without_mistakes_is_a_finding(tmp_path, monkeypatch):
    """Any other refusal is a fault, and must not pass for an answer."""
    monkeypatch.setattr(parts, "load_run", lambda path: None)
    size = Size(images=1)
    part = Part("judged/without", {}, without_mistakes)
    part.carry_out(tmp_path, size, lambda share, text: None)
    assert "never takes" in json.loads(part.files(tmp_path)[0].read_bytes())["nothing"]
    with pytest.raises(ExplanationError, match="wrong shape"):
        Part("judged/misusing", {}, misusing).carry_out(tmp_path, size, lambda share, text: None)
    assert not Part("judged/misusing", {}, misusing).done(tmp_path)


def refusing(runs, size, watch):
    watch(0.1, "begun")
    raise RunError("The ledger is gone.")


def test_parts_that_fail_are_named_and_the_others_are_kept(tmp_path, monkeypatch):
    """Also where what a part said last comes after it has ended."""
    monkeypatch.setattr(parts, "load_run", lambda path: None)
    some = [
        Part("judged/one", {}, failing),
        Part("judged/one-same", {}, refusing),
        Part("judged/other", {}, lambda runs, size, watch: ({"found": 1}, {})),
    ]
    slow = lambda event: time.sleep(0.05)  # noqa: E731
    with pytest.raises(FedlensError, match="2 parts could not be explained") as caught:
        explain_study(some, tmp_path, Size(), jobs=2, watch=slow)
    assert "judged/one: Traceback" in str(caught.value)
    assert "a mistake of ours" in str(caught.value)
    assert "judged/one-same: The ledger is gone." in str(caught.value)
    assert [part.done(tmp_path, Size()) for part in some] == [False, False, True]


def test_the_quick_size_is_small():
    assert QUICK.images <= 5 and set(QUICK.rows) == set(SHORT)
