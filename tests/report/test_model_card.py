"""The model card: the paper's headings, figures that can be checked, and nothing made up."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from fedlens.report.content import ReportContent
from fedlens.report.model_card import CardSection, Measured, ModelCard, model_card
from fedlens.report.tables import Table
from fedlens.training.calibration import calibration_of, fit_temperature
from fedlens.training.evaluation import evaluate_logits

HEADINGS = [
    "Model details",
    "Intended use",
    "Out of scope",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Quantitative analyses",
    "Confidence",
    "Privacy",
    "Explanations and their limits",
    "Human oversight",
    "Ethical considerations",
    "Caveats and recommendations",
]


def section(card: ModelCard, heading: str) -> CardSection:
    (found,) = [part for part in card.sections if part.heading == heading]
    return found


def words(card: ModelCard, heading: str) -> str:
    return " ".join(section(card, heading).sentences)


@pytest.mark.parametrize("kind", ["federated", "central", "private", "multilabel"])
def test_every_run_has_a_card_under_the_papers_headings(
    kind: str, request: pytest.FixtureRequest
) -> None:
    content: ReportContent = request.getfixturevalue(kind)
    card = model_card(content)
    assert card.title == content.title
    assert [part.heading for part in card.sections] == HEADINGS
    for part in card.sections:
        assert part.sentences
        for sentence in part.sentences:
            assert sentence.endswith((".", ")")), sentence
            assert "None" not in sentence and "nan" not in re.split(r"\W+", sentence)
    text = card.markdown()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS


def test_the_interval_of_accuracy_is_wilsons(federated: ReportContent) -> None:
    test = federated.seeds[0].test
    hits = round(test.accuracy * test.examples)
    expected = binomtest(hits, test.examples).proportion_ci(method="wilson")
    said = words(model_card(federated), "Quantitative analyses")
    found = re.search(r"95 % interval ([\d.]+)\s% to ([\d.]+)\s%", said)
    assert found is not None
    assert [float(part) for part in found.groups()] == [
        round(100 * expected.low, 1),
        round(100 * expected.high, 1),
    ]


def test_no_interval_is_given_where_answers_are_many_an_image(multilabel: ReportContent) -> None:
    assert "95 % interval" not in words(model_card(multilabel), "Quantitative analyses")


def test_the_figures_of_each_class_and_the_worst_one_are_named(federated: ReportContent) -> None:
    card = model_card(federated)
    table = section(card, "Quantitative analyses").tables[0]
    assert [row[0] for row in table.rows] == federated.class_names
    # Shirt: 1,000 images, of which 121 + 62 + 71 + 24 + 8 are taken for something else.
    assert "misses Shirt most often: of 1,000 test images it finds 71.4" in words(
        card, "Caveats and recommendations"
    )


def test_privacy_is_what_was_spent_or_said_to_be_none(
    private: ReportContent, federated: ReportContent
) -> None:
    said = words(model_card(private), "Privacy")
    assert "epsilon 2.99" in said and "delta 1e-5" in said and "one example" in said
    assert "no bound" in words(model_card(federated), "Privacy")
    assert "Do not give the weights" in words(model_card(federated), "Ethical considerations")
    # Figures on training images are not given of a private run.
    assert "overfitting" not in words(model_card(private), "Quantitative analyses")


def test_the_blind_area_is_a_limit_where_there_is_one(federated: ReportContent) -> None:
    said = words(model_card(federated), "Explanations and their limits")
    assert "rows 22–27" in said and "grad-cam" in said
    seeing = dataclasses.replace(federated, blind_area=None, blind_light=None)
    card = model_card(seeing)
    assert "sees the whole image" in words(card, "Explanations and their limits")
    assert "cannot see" not in words(card, "Out of scope")


def test_what_was_not_measured_is_said_so(federated: ReportContent) -> None:
    card = model_card(federated)
    assert "was not measured" in words(card, "Confidence")
    assert "No groups are known" in words(card, "Factors")
    assert "not known" in words(card, "Human oversight")


def test_what_was_measured_is_shown(federated: ReportContent) -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(6 * rng.standard_normal((400, 10)))
    labels = torch.where(torch.from_numpy(rng.random(400) < 0.6), logits.argmax(1), torch.tensor(3))
    temperature = fit_temperature(logits, labels)
    calibration = calibration_of(logits, labels, temperature.value)
    groups = {
        name: evaluate_logits(logits[part], labels[part])
        for name, part in (("North", slice(0, 380)), ("South", slice(380, 400)))
    }
    card = model_card(
        federated,
        Measured(
            weights="ab" * 32,
            temperature=temperature,
            calibration=calibration,
            groups=groups,
            methods=("grad-cam", "edges"),
            no_class=("edges",),
            oversight=("Each case is decided by a person.",),
        ),
    )
    assert "ab" * 32 in words(card, "Model details")
    said = words(card, "Confidence")
    assert f"temperature {temperature.value:.3f}" in said and "too sure of itself" in said
    assert f"{100 * calibration.before.error:.1f}" in said
    assert f"{100 * calibration.after.error:.1f}" in said
    table = section(card, "Quantitative analyses").tables[-1]
    assert [row[0] for row in table.rows] == ["North", "South"]
    assert table.rows[1][1].startswith(f"{100 * groups['South'].accuracy:.1f}")
    assert "South" in words(card, "Caveats and recommendations")  # 20 images are few
    assert "edges looks at no class" in words(card, "Explanations and their limits")
    assert words(card, "Human oversight") == "Each case is decided by a person."


def test_nothing_is_said_of_any_image_set_but_the_runs_own(federated: ReportContent) -> None:
    renamed = dataclasses.replace(
        federated,
        title="a run",
        dataset_name="chest-x",
        class_names=[f"finding {number}" for number in range(10)],
        configuration={"model": {"name": "net"}},
        notices=[],
    )
    text = model_card(renamed).markdown().lower()
    for word in ("fashion", "shirt", "garment", "mnist", "paper-cnn"):
        assert word not in text


def test_markdown_shows_names_as_they_are() -> None:
    table = Table("A | caption", ("Name", "Number"), [["a|b", "1"], ["<b>*x*</b>\nnew", "2"]])
    card = ModelCard("A [title](x)", [CardSection("Part #1", ["One_two `three`."], [table])])
    assert card.markdown().splitlines() == [
        r"# Model card: A \[title\](x)",
        "",
        r"## Part \#1",
        "",
        r"One\_two \`three\`.",
        "",
        r"A \| caption",
        "",
        "| Name | Number |",
        "| --- | ---: |",
        r"| a\|b | 1 |",
        r"| \<b\>\*x\*\</b\> new | 2 |",
    ]


def test_a_card_that_travels_says_which_images_and_not_where_they_lay(
    federated: ReportContent,
) -> None:
    environment = {**federated.environment, "dataset": {"checksum": "ab12" * 16}}
    here = dataclasses.replace(
        federated, dataset_source="/home/ada/patients", environment=environment
    )
    text = model_card(here).markdown()
    assert "/home/ada" not in text
    assert "(checksum ab12ab12ab12ab12)" in text
    damaged = dataclasses.replace(here, environment={"dataset": "gone"})
    assert "checksum" not in words(model_card(damaged), "Evaluation data")
