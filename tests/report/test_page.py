"""The page as a whole: what is on it, that it stands alone, and that nothing on it runs."""

import dataclasses
import re
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedlens.errors import RunError
from fedlens.report import write_report
from fedlens.report.content import GalleryGroup, ReportContent, SeedResult

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "wbr"}
NASTY = ['<script>alert("1")</script>', "\"quoted\" & 'single'", "$\\frac{$", "a" * 60]


class Page(HTMLParser):
    """A page read strictly: every tag that is opened is closed, in order."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.pieces: list[tuple[tuple[str, ...], str]] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} names an attribute twice"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.pieces.append((tuple(self.open), data))

    @property
    def text(self) -> str:
        """The words of the page outside its style sheet, with plain single spaces."""
        kept = [data for place, data in self.pieces if "style" not in place]
        return " ".join(" ".join(kept).replace("\u00a0", " ").split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="session")
def federated_page(federated_report: Path) -> Page:
    return Page(federated_report)


@pytest.fixture(scope="session")
def central_page(central: ReportContent, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(write_report(central, tmp_path_factory.mktemp("central")))


@pytest.fixture(scope="session")
def multilabel_folders(
    multilabel: ReportContent, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """The same report, written twice at the same time."""
    folders = [tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda folder: write_report(multilabel, folder), folders))
    return folders


@pytest.fixture(scope="session")
def multilabel_page(multilabel_folders: list[Path]) -> Page:
    return Page(multilabel_folders[0] / "report.html")


@pytest.fixture(scope="session")
def private_page(private_report: Path) -> Page:
    return Page(private_report)


@pytest.fixture(params=["federated_page", "central_page", "multilabel_page", "private_page"])
def page(request: pytest.FixtureRequest) -> Page:
    found: Page = request.getfixturevalue(request.param)
    return found


def test_the_page_stands_alone_and_runs_nothing(page: Page) -> None:
    assert "http:" not in page.source and "https:" not in page.source
    assert "@import" not in page.source
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "link", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} has {name}"
            if name in {"src", "href", "xlink:href", "srcset", "data", "action", "poster"}:
                assert value.startswith(("#", "data:image/png;base64,")), value[:80]
            assert not re.search(r"url\((?!#)", value)
    assert re.search(r"url\((?!#)", page.source) is None
    assert len(page.source.encode()) < 2_000_000


def test_ids_are_unique_and_references_lead_somewhere(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        targets = [attributes.get("href", "")[1:]] if attributes.get("href", "")[:1] == "#" else []
        targets += re.findall(r"url\(#([^)]+)\)", " ".join(attributes.values()))
        targets += attributes.get("aria-labelledby", "").split()
        for target in targets:
            assert target in ids


def test_the_page_can_be_read_without_seeing_it(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1 and len(page.all("main")) == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table")) > 0
    assert all(cell.get("scope") in {"col", "row"} for cell in page.all("th"))
    assert all(image.get("alt") for image in page.all("img"))
    assert len(page.all("figcaption")) == len(page.all("figure"))
    drawings = [attributes for _, attributes in page.tags if attributes.get("role") == "img"]
    assert len(drawings) == len(page.all("svg")) > 0
    assert all(len(attributes["aria-label"]) > 20 for attributes in drawings)
    assert any(attributes.get("name") == "viewport" for attributes in page.all("meta"))


def test_every_figure_is_also_a_png_and_an_svg(
    page: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp()
    folders = [path.parent for path in root.glob("*/report.html")]
    folder = next(f for f in folders if (f / "report.html").read_text() == page.source)
    names = {
        attributes["id"].removeprefix("figure-")
        for attributes in page.all("figure")
        if "id" in attributes
    }
    files = {path.name for path in (folder / "figures").iterdir()}
    assert {f"{name}.png" for name in names} | {f"{name}.svg" for name in names} <= files
    assert {name.rpartition(".")[0] for name in files} - names <= {
        f"gallery-{number}" for number in (1, 2, 3)
    }
    for path in (folder / "figures").iterdir():
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG" if path.suffix == ".png" else b"<?xml")
        assert b"Software" not in content and b"dc:date" not in content


def test_the_same_content_gives_the_same_bytes_even_from_two_threads(
    multilabel_folders: list[Path],
) -> None:
    one, two = multilabel_folders
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert len(names) > 10
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_a_federated_page_says_what_was_run_and_what_came_of_it(
    federated_page: Page, federated: ReportContent
) -> None:
    text = federated_page.text
    assert (
        "Ten clients trained paper-cnn, a network of 65,354 parameters, on fashion-mnist for ten "
        "rounds with FedAvg."
    ) in text
    # 940 of the 10,000 test images of the fixture are wrong: the rows of MISTAKES added up by hand.
    assert "it names the right class for 90.60 % of them" in text
    assert "of 940 errors in all" in text
    assert "The updates were not protected. No privacy noise was used" in text
    assert "simulation on one machine" in text
    assert "2 client updates were left out of their rounds." in text
    last = federated.seeds[0].history[-1]["clients"]
    worst = min(last, key=lambda entry: entry["accuracy"])
    assert (
        f"the client it serves worst is client {worst['client']} ({100 * worst['accuracy']:.1f} %)"
    ) in text


def test_every_class_is_in_the_table_with_its_own_figures(federated_page: Page) -> None:
    table = federated_page.source.partition("Each class on the test images")[2]
    table = table.partition("</table>")[0]
    for name in ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt",
                 "Sneaker", "Bag", "Ankle boot"):  # fmt: skip
        assert f'<th scope="row">{name}</th>' in table
    # Sneaker, by hand: 961 right of 1,000; named 961 + 19 + 36 = 1,016 times.
    assert (
        '<th scope="row">Sneaker</th><td>0.946</td><td>0.961</td><td>0.953</td><td>1,000</td>'
    ) in table
    # Bag, by hand: 983 right of 1,000; named 983 + 9 + 8 = 1,000 times.
    assert (
        '<th scope="row">Bag</th><td>0.983</td><td>0.983</td><td>0.983</td><td>1,000</td>'
    ) in table


def test_the_gallery_shows_cases_and_does_not_paint_empty_maps(
    federated_page: Page, federated: ReportContent
) -> None:
    total = sum(len(group.cases) for group in federated.gallery)
    alts = [image["alt"] for image in federated_page.all("img")]
    assert sum(alt.startswith("image of test image") for alt in alts) == total
    assert sum(alt.startswith("map of test image") for alt in alts) == total - 1
    assert sum(alt.startswith("overlay of test image") for alt in alts) == total - 1
    assert federated_page.text.count("no evidence found for this class") == 2
    assert "true Coat predicted Pullover , over 99.9 %" in federated_page.text
    assert "It does not show that the answer is right" in federated_page.text
    assert "Layer conv3 gives 3 × 3 cells, stretched smoothly over 28 × 28" in federated_page.text


def test_the_blind_area_is_named_and_measured(federated_page: Page) -> None:
    # 28 x 28 less 22 x 22 pixels are 300 of 784, 38.3 %.
    assert (
        "The network cannot see rows 22–27 and columns 22–27 of the 28 × 28 pixels (counted from "
        "0): 38.3 % of the image."
    ) in federated_page.text
    assert "39 % lies there for Ankle boot and 17 % for Trouser" in federated_page.text


def test_a_central_page_has_the_study_and_no_clients(central_page: Page) -> None:
    assert 'id="study"' in central_page.source and 'id="clients"' not in central_page.source
    assert "pooled training images of fashion-mnist for 15 epochs, three times" in (
        central_page.text
    )
    assert "It gives no figure for Sneaker." in central_page.text
    assert "No privacy noise was used" in central_page.text
    assert "federation-" not in central_page.source


def test_a_multilabel_page_has_auc_and_no_confusion_matrix(multilabel_page: Page) -> None:
    assert "confusion" not in {a.get("id", "")[7:] for a in multilabel_page.all("figure")}
    # (0.71 + 0.80 + 0.78 + 0.66 + 0.62) / 5, Hernia having none.
    assert "the mean AUC over labels is 0.714" in multilabel_page.text
    hernia = re.search(r"<tr><th scope=\"row\">Hernia</th>(.*?)</tr>", multilabel_page.source)
    assert hernia is not None
    assert re.findall(r"<td>(.*?)</td>", hernia[1]) == ["–", "–", "–", "–", "0"]
    assert "Accuracy is the shared model" not in multilabel_page.text


def test_names_are_untrusted(multilabel: ReportContent, tmp_path: Path) -> None:
    case = dataclasses.replace(
        multilabel.gallery[0].cases[0], true_class=NASTY[0], predicted_class=NASTY[1]
    )
    content = dataclasses.replace(
        multilabel,
        title=NASTY[0],
        class_names=[*NASTY, *multilabel.class_names[4:]],
        client_names=NASTY,
        gallery=[GalleryGroup(NASTY[0], NASTY[1], [case])],
        notices=[NASTY[0], "]]>\x00\x1b\ud800--><!--"],
        configuration={**multilabel.configuration, NASTY[0]: {NASTY[1]: NASTY[0]}},
        environment={NASTY[1]: NASTY[0]},
        explain_method=NASTY[0],
        study={"source": NASTY[0], "f1": {NASTY[0]: 0.9}, "test_accuracy": 0.9},
    )
    page = Page(write_report(content, tmp_path))
    assert page.all("script") == [] and "<script" not in page.source
    assert page.text.count('<script>alert("1")</script>') >= 10
    assert "$\\frac{$" in page.text and "]]>\ufffd\ufffd\ufffd--><!--" in page.text
    for path in (tmp_path / "figures").glob("*.svg"):
        assert "<script" not in path.read_text()


BROKEN: list[dict[str, Any]] = [
    {},
    {
        "round": 2,
        "validation": None,
        "train_loss": None,
        "clients": [{"client": 99, "accuracy": 0.1}, {"client": 0, "accuracy": None}, "junk", {}],
        "drift": None,
        "left_out": None,
        "cohort": None,
        "seconds": "fast",
        "bytes_down": float("nan"),
    },
    {"round": 3, "validation": {"loss": None, "accuracy": None}, "left_out": [{"client": 1}, 7]},
]


@pytest.mark.parametrize("history", [[], BROKEN], ids=["nothing", "nulls"])
def test_missing_figures_are_left_out_and_not_fatal(
    federated: ReportContent, tmp_path: Path, history: list[dict[str, Any]]
) -> None:
    content = dataclasses.replace(
        federated,
        seeds=[SeedResult(1, history, federated.seeds[0].test)],
        configuration={},
        layers=[],
        client_label_counts=None,
        blind_area=None,
        blind_light=None,
        gallery=[],
        environment={},
        study={},
    )
    page = Page(write_report(content, tmp_path))
    assert "The validation set was not evaluated after any round." in page.text
    assert "nan" not in re.sub(r"[^a-z]+", " ", page.text.lower()).split()


def test_a_folder_that_cannot_be_written_is_one_clear_sentence(
    multilabel: ReportContent, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RunError, match=r"Could not make the folder .*taken"):
        write_report(multilabel, tmp_path / "taken")


def test_text_has_enough_contrast_in_both_themes(central_page: Page) -> None:
    def value(color: str) -> float:
        parts = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    def contrast(one: str, two: str) -> float:
        low, high = sorted([value(one), value(two)])
        return (high + 0.05) / (low + 0.05)

    themes = re.findall(r":root \{(.*?)\}", central_page.source, re.DOTALL)
    colors = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", theme)) for theme in themes]
    assert len(colors) == 3  # light, dark, print
    for theme in colors:
        for text in ("ink", "muted", "link", "right", "wrong"):
            for ground in ("ground", "card", "warn-ground"):
                assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
        assert contrast(theme["chart-blue"], theme["card"]) >= 3
        assert contrast("#d55e00", theme["card"]) >= 3
