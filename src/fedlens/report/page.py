"""What the page is built from: charts, blocks and sections."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from fedlens.report.inline import inline_svg
from fedlens.report.style import save_with_svg
from fedlens.report.tables import Table


@dataclass(frozen=True)
class Chart:
    """A figure set into the page.

    Attributes:
        name: of its files in ``figures/``, and start of its ids.
        svg: the drawing.
        caption: what it shows and how to read it.
        alt: the same for who does not see it, with the figures that matter.
        least: width in pixels below which it is moved sideways rather than made smaller.
    """

    name: str
    svg: Markup
    caption: str
    alt: str
    least: int


@dataclass(frozen=True)
class Stack:
    """Charts and tables one above the other, beside something taller."""

    items: Sequence[Chart | Table]


Item = Chart | Table | Stack


@dataclass(frozen=True)
class FurtherView:
    """The map of a further method on the page.

    Attributes:
        method: its name.
        note: what is to be known of it, or empty.
        map: a ``data:`` address, None if not painted.
    """

    method: str
    note: str
    map: str | None


@dataclass(frozen=True)
class CaseView:
    """One explained decision on the page; pictures are ``data:`` addresses, None if not painted."""

    number: int
    true_class: str
    predicted_class: str
    confidence: str
    verdict: str
    image: str
    map: str | None
    overlay: str | None
    further: Sequence[FurtherView] = ()


@dataclass(frozen=True)
class GroupView:
    """A titled row of explained decisions on the page."""

    title: str
    sentence: str
    cases: Sequence[CaseView]


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        key: its anchor.
        title: its heading.
        paragraphs: sentences under the heading.
        rows: charts and tables, each row side by side where there is room.
        groups: explained decisions, after the rows.
    """

    key: str
    title: str
    paragraphs: Sequence[str] = ()
    rows: Sequence[Sequence[Item]] = ()
    groups: Sequence[GroupView] = ()


class Drawer:
    """Writes figures into one folder and returns them as charts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def chart(self, name: str, figure: Figure, caption: str, alt: str, *, least: int = 0) -> Chart:
        """Write ``figure`` as PNG and SVG and return it for the page; raises ``RunError``."""
        _, _, document = save_with_svg(figure, self._folder, name)
        return Chart(name, inline_svg(document, name), caption, alt, least)

    def file(self, name: str, figure: Figure) -> None:
        """Write ``figure`` as PNG and SVG without setting it into the page; raises ``RunError``."""
        save_with_svg(figure, self._folder, name)


def text_only(*paragraphs: str) -> list[str]:
    """Return the paragraphs that are not empty."""
    return [paragraph for paragraph in paragraphs if paragraph]
