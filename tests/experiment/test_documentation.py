"""The generated page is the one that is committed."""

from pathlib import Path

from fedlens.experiment.documentation import configuration_page

DOCS = Path(__file__).parents[2] / "docs"


def test_configuration_page_is_up_to_date() -> None:
    assert (DOCS / "configuration.md").read_text() == configuration_page(), "run `make docs`"
