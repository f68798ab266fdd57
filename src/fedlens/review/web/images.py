"""The image of a case, found again where it was found, and held to its digest."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fedlens.data import Split
from fedlens.review.contract import SOURCE_API, Case, NewCase, NotFoundError, ReviewError
from fedlens.review.model.intake import folder_images, read_folder_image
from fedlens.review.model.subject import image_digest

if TYPE_CHECKING:
    from fedlens.review.model.examiner import Examiner
    from fedlens.review.model.subject import Subject

Watch = Callable[[int, int], None]
"""Is told how many images are done, and of how many."""
_Found = tuple[str, Tensor | None]
"""A source and its image, or None where it cannot be read."""


class ImageSource:
    """Where the images of the queue are: the run's own splits, and a folder.

    Args:
        subject: its test and validation splits are ``test/17`` and ``validation/17``.
        folder: images of it are ``folder/a.png``; None without one.

    Raises:
        ReviewError: there is no such folder.
    """

    def __init__(self, subject: "Subject", folder: Path | None = None) -> None:
        if folder is not None and not folder.is_dir():
            raise ReviewError(f"There is no folder {folder} of images.")
        self.subject = subject
        self.folder = None if folder is None else folder.resolve()

    def image(self, case: Case) -> Tensor:
        """Return the image of ``case``, uint8 (C, H, W), exactly as the model was given it.

        Raises:
            NotFoundError: it came through the API, is gone, or has changed since.
        """
        if case.source == SOURCE_API:
            raise NotFoundError(
                f"The image of case {case.number} came through the API and was not kept."
            )
        image = self._found(case)
        if image_digest(image) != case.digest:
            raise NotFoundError(
                f"The image of case {case.number}, {case.source}, has changed since it came in."
            )
        return image

    def cases(
        self,
        examiner: "Examiner",
        watch: Watch | None = None,
        *,
        first: int | None = None,
        at_once: int = 256,
        left_out: Callable[[str], None] | None = None,
    ) -> Iterator[list[NewCase]]:
        """Yield the cases of the folder, or of the test split without one, ``at_once`` at a time.

        Args:
            examiner: predicts them.
            watch: is told how far it is.
            first: only so many of the test split, or of the folder in the order of its names.
            at_once: images of one batch.
            left_out: is told, in a sentence that names it, of each picture of the folder that
                cannot be read; the others are cases all the same. Without it the first such
                picture is an error.

        Raises:
            ReviewError: there is neither a folder nor a test split, or a picture of the folder
                cannot be read; the sentence names it.
        """
        if self.folder is None:
            total, found = self._of_the_test_split(first)
        else:
            total, found = self._of_the_folder(self.folder, first, left_out)
        done = 0
        for batch in _batches(found, at_once):
            done += len(batch)
            pictures = [(source, image) for source, image in batch if image is not None]
            if pictures:
                predictions = examiner.predict(torch.stack([image for _, image in pictures]))
                yield [
                    prediction.case(source)
                    for (source, _), prediction in zip(pictures, predictions, strict=True)
                ]
            if watch is not None:
                watch(done, total)

    def _of_the_test_split(self, first: int | None) -> tuple[int, Iterator[_Found]]:
        split = self.subject.test_split
        if split is None:
            raise ReviewError(
                f"The test images of {self.subject.title} are not on this machine; name a folder of "
                "images to review."
            )
        count = len(split) if first is None else min(first, len(split))
        images = split.images
        return count, ((f"test/{position}", images[position]) for position in range(count))

    def _of_the_folder(
        self, folder: Path, first: int | None, left_out: Callable[[str], None] | None
    ) -> tuple[int, Iterator[_Found]]:
        names = folder_images(folder)[:first]

        def read(name: str) -> Tensor | None:
            try:
                return self._read(folder, name)
            except ReviewError as error:
                if left_out is None:
                    raise
                left_out(str(error))
                return None

        return len(names), ((f"folder/{name}", read(name)) for name in names)

    def _found(self, case: Case) -> Tensor:
        kind, _, name = case.source.partition("/")
        if kind == "folder":
            return self._from_folder(case, name)
        splits = {"test": self.subject.test_split, "validation": self.subject.validation}
        return _from_split(case, splits.get(kind), name)

    def _from_folder(self, case: Case, name: str) -> Tensor:
        if self.folder is None:
            raise NotFoundError(
                f"The image of case {case.number} is in a folder; serve the console with --images."
            )
        try:
            return self._read(self.folder, name)
        except ReviewError as error:
            raise NotFoundError(
                f"The image of case {case.number}, {case.source}, cannot be read any more."
            ) from error

    def _read(self, folder: Path, name: str) -> Tensor:
        subject = self.subject
        return read_folder_image(folder, name, size=subject.image_size, channels=subject.channels)


def _from_split(case: Case, split: Split | None, name: str) -> Tensor:
    if split is None or not (name.isascii() and name.isdigit() and len(name) < 16):
        raise NotFoundError(f"The image of case {case.number}, {case.source}, is gone.")
    position = int(name)
    if position >= len(split):
        raise NotFoundError(
            f"The image of case {case.number}, {case.source}, is gone: the split has {len(split):,} "
            "images."
        )
    return split.images[position]


def _batches(found: Iterator[_Found], size: int) -> Iterator[list[_Found]]:
    while batch := list(islice(found, size)):
        yield batch
