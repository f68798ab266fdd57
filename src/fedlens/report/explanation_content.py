"""What the page of the study of explanations is made from: the findings of its parts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Finding:
    """What one part of the study has found out about one network.

    Attributes:
        content: plain JSON values, as the part wrote them.
        arrays: pictures: ``images/...`` uint8 and maps float16.
    """

    content: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class ExplanationStudy:
    """All that the page shows.

    Attributes:
        name, title, about: of the study.
        findings: ``question/model`` -> what was found; the questions are ``judged``, ``known``,
            ``federation``, ``clients``, ``privacy`` and ``pairs``.
        missing: names of the parts that are not done.
    """

    name: str
    title: str
    about: str
    findings: Mapping[str, Finding]
    missing: tuple[str, ...] = ()

    def of(self, question: str) -> dict[str, Finding]:
        """Return network -> what was found on ``question``, in the study's order."""
        found = {}
        for name, finding in self.findings.items():
            asked, _, model = name.partition("/")
            if asked == question:
                found[model] = finding
        return found
