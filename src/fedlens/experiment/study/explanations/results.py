"""The finished parts of the study of explanations, read back for its page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedlens.errors import RunError
from fedlens.experiment.study.explanations.parts import Part
from fedlens.files import read_bytes
from fedlens.report.explanation_content import ExplanationStudy, Finding

LARGEST = 256 << 20


def gather(
    parts: Sequence[Part], folder: Path, *, name: str, title: str, about: str
) -> ExplanationStudy:
    """Return what the finished parts have found; the others are named.

    Raises:
        RunError: a part's file is damaged.
    """
    findings: dict[str, Finding] = {}
    missing = []
    for part in parts:
        if not part.done(folder):
            missing.append(part.name)
            continue
        plain, packed = part.files(folder)
        try:
            content: dict[str, Any] = json.loads(read_bytes(plain, LARGEST))
            with np.load(packed, allow_pickle=False) as archive:
                arrays = {key.replace("|", "/"): archive[key] for key in archive.files}
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{plain} or {packed.name} is damaged; remove both.") from error
        findings[part.name] = Finding(content, arrays)
    return ExplanationStudy(name, title, about, findings, tuple(missing))
