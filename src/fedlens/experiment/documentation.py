"""Writes ``docs/configuration.md`` from the configuration's own definition."""

import sys
from pathlib import Path

from fedlens.experiment.config import Config, presets
from fedlens.experiment.sections import Section
from fedlens.experiment.wording import default_in_words, values_in_words
from fedlens.files import write_text

HEAD = """# Configuration

One TOML file describes an experiment; every key has a default. Keys are overridden on the command
line with `--set key=value`. The run directory keeps the fully resolved configuration in `config.toml`.

    fedlens run mine.toml --set local.lr=0.1 --set partition.scheme=classes

Presets: {presets}. This page is made from the code by `make docs`.

| key | values | default | meaning |
|---|---|---|---|
"""


def configuration_page() -> str:
    """Return the page: one table of every key, its values, its default and its meaning."""
    rows = [
        f"| `{key}` | {values} | {f'`{default}`' if default else ''} | {meaning} |"
        for key, values, default, meaning in describe_keys()
    ]
    names = ", ".join(f"`{name}`" for name in presets())
    return HEAD.format(presets=names) + "\n".join(rows) + "\n"


def describe_keys() -> list[tuple[str, str, str, str]]:
    """Return (key, values, default, meaning) of every key, for the documentation."""
    rows = []
    for name, info in Config.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, Section):
            for key, field in section.model_fields.items():
                rows.append(
                    (
                        f"{name}.{key}",
                        values_in_words(field),
                        default_in_words(field),
                        field.description or "",
                    )
                )
        else:
            rows.append(
                (name, values_in_words(info), default_in_words(info), info.description or "")
            )
    return rows


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), configuration_page())
