from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedlens.data.images import read_image
from fedlens.review.contract import SOURCE_API, Case, NotFoundError, ReviewError
from fedlens.review.model import Examiner, Subject, image_digest
from fedlens.review.web.images import ImageSource


def case_of(source: str, digest: str = "0" * 64) -> Case:
    return Case(digest, source, 0, (1.0,), 0.5, number=7)


@pytest.fixture
def folder(tmp_path: Path, picture) -> Path:
    folder = tmp_path / "images"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.png").write_bytes(picture(seed=1, size=(40, 30)))
    (folder / "deeper" / "b.jpg").write_bytes(picture(seed=2, kind="JPEG"))
    (folder / "notes.txt").write_text("not a picture")
    (tmp_path / "secret.png").write_bytes(picture(seed=3))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    return folder


def test_the_cases_of_the_test_split_are_found_again(subject: Subject, examiner: Examiner):
    source = ImageSource(subject)
    seen = []
    batches = list(
        source.cases(examiner, lambda done, of: seen.append((done, of)), first=5, at_once=2)
    )
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert seen == [(2, 5), (4, 5), (5, 5)]
    cases = [case for batch in batches for case in batch]
    assert [case.source for case in cases] == [f"test/{number}" for number in range(5)]
    assert all(case.queued for case in cases)
    for number, case in enumerate(cases):
        image = source.image(case_of(case.source, case.digest))
        assert torch.equal(image, subject.test_split.images[number])
        assert case.digest == image_digest(image)


def test_the_images_of_a_folder_are_read_as_an_import_reads_them(
    subject: Subject, examiner: Examiner, folder: Path
):
    source = ImageSource(subject, folder)
    cases = [case for batch in source.cases(examiner) for case in batch]
    assert [case.source for case in cases] == ["folder/a.png", "folder/deeper/b.jpg"]
    for case in cases:
        path = folder / case.source.removeprefix("folder/")
        expected = read_image(path, size=28, channels=1)
        assert torch.equal(source.image(case_of(case.source, case.digest)), expected)


def test_a_picture_that_cannot_be_read_is_named_and_the_others_are_cases(
    subject: Subject, examiner: Examiner, folder: Path, picture
):
    (folder / "a_broken.png").write_bytes(picture(seed=4)[:60])
    (folder / "deeper" / "really.png").write_bytes(b"GIF89a" + bytes(40))
    source, sentences, seen = ImageSource(subject, folder), [], []
    batches = source.cases(
        examiner, lambda done, of: seen.append((done, of)), at_once=1, left_out=sentences.append
    )
    found = [case.source for batch in batches for case in batch]
    assert found == ["folder/a.png", "folder/deeper/b.jpg"]
    assert [sentence.partition(":")[0] for sentence in sentences] == [
        "a_broken.png",
        "deeper/really.png",
    ]
    assert seen[-1] == (4, 4)
    with pytest.raises(ReviewError, match=r"a_broken\.png: "):
        list(source.cases(examiner))
    assert [len(batch) for batch in source.cases(examiner, first=1)] == [1]


def test_an_image_that_changed_or_went_is_not_shown(
    subject: Subject, examiner: Examiner, folder: Path, picture
):
    source = ImageSource(subject, folder)
    first, second = (case for batch in source.cases(examiner) for case in batch)
    (folder / "a.png").write_bytes(picture(seed=9))
    with pytest.raises(NotFoundError, match=r"a\.png, has changed"):
        source.image(case_of(first.source, first.digest))
    (folder / "deeper" / "b.jpg").unlink()
    with pytest.raises(NotFoundError, match=r"b\.jpg, cannot be read"):
        source.image(case_of(second.source, second.digest))
    (folder / "a.png").write_text("<svg/>")
    with pytest.raises(NotFoundError, match="cannot be read"):
        source.image(case_of(first.source, first.digest))


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "/etc/passwd", "link.png", "deeper", "", ".", "a.png/../../secret.png", "\0"],
)
def test_no_source_leads_out_of_the_folder(subject: Subject, folder: Path, name: str):
    secret = image_digest(read_image(folder.parent / "secret.png", size=28, channels=1))
    with pytest.raises(NotFoundError):
        ImageSource(subject, folder).image(case_of(f"folder/{name}", secret))


@pytest.mark.parametrize(
    "source", ["test/-1", "test/99999", "test/x", "test/", "test/²", "train/1", "nothing", "a/b"]
)
def test_a_source_that_is_none_has_no_image(subject: Subject, source: str):
    with pytest.raises(NotFoundError, match="case 7"):
        ImageSource(subject).image(case_of(source))


def test_what_came_through_the_api_has_none(subject: Subject):
    with pytest.raises(NotFoundError, match="was not kept"):
        ImageSource(subject).image(case_of(SOURCE_API))


def test_without_the_folder_its_images_are_asked_for(subject: Subject):
    with pytest.raises(NotFoundError, match="--images"):
        ImageSource(subject).image(case_of("folder/a.png"))
    with pytest.raises(ReviewError, match="no folder"):
        ImageSource(subject, Path("/nowhere/at/all"))


def test_without_test_images_a_folder_is_asked_for(subject: Subject, examiner: Examiner):
    source = ImageSource(replace(subject, test_split=None))
    with pytest.raises(ReviewError, match="name a folder"):
        next(source.cases(examiner))
    with pytest.raises(NotFoundError):
        source.image(case_of("test/0"))
