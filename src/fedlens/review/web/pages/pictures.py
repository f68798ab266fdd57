"""The pictures of a case: the image, its maps, and the colour scale; each is made when asked for."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from fedlens.review.contract import NotAllowedError, NotFoundError
from fedlens.review.model.pictures import image_png, legend_png, map_png
from fedlens.review.web.console import ConsoleOf
from fedlens.review.web.pages.asked import asked_of
from fedlens.review.web.pages.seeing import explained, must_see
from fedlens.review.web.security import Signed
from fedlens.review.web.showing import note_picture

ENLARGED = 448
"""Pixels that an enlarged image has at least, if it can have them."""

router = APIRouter()


@router.get("/cases/{number}/native.png")
def native(console: ConsoleOf, person: Signed, number: int) -> Response:
    """Return the image as the model was given it."""
    return _png(image_png(console.images.image(console.store.queue.get(number))))


@router.get("/cases/{number}/image.png")
def enlarged(console: ConsoleOf, person: Signed, number: int) -> Response:
    """Return the image with each pixel a square."""
    image = console.images.image(console.store.queue.get(number))
    return _png(image_png(image, enlarge=enlargement(console.subject.image_size)))


@router.get("/cases/{number}/map.png")
def heat_map(
    request: Request,
    console: ConsoleOf,
    person: Signed,
    number: int,
    method: Annotated[str, Query()] = "",
    against: Annotated[str, Query()] = "",
) -> Response:
    """Return a map, to be laid over the image."""
    subject = console.subject
    case = console.store.queue.get(number)
    must_see(console, case, person)
    methods = console.examiner.methods
    if method not in methods:
        raise NotFoundError("There is no such explanation method here.")
    asked = asked_of(
        {"method": method, "against": against}, methods, case.predicted, subject.classes
    )
    image = console.images.image(case)
    found = explained(console, case, image, method, asked.against, badges=False)
    if found.degenerate:
        raise NotFoundError(f"The map of {method} shows nothing, and is not painted.")
    part = request.headers.get("sec-fetch-dest") == "image"
    note_picture(console, person, case, asked, found, part=part)
    return _png(
        map_png(
            found.values,
            scale=console.examiner.scale(method),
            signed=found.signed,
            enlarge=enlargement(subject.image_size),
            blind_area=subject.blind_area,
        )
    )


@router.get("/train/{position}.png")
def training_image(console: ConsoleOf, person: Signed, position: int) -> Response:
    """Return a training image, where policy allows to show any."""
    train = console.subject.train
    if not console.policy.neighbours or train is None:
        raise NotAllowedError("Training images are not shown here.")
    if not 0 <= position < len(train):
        raise NotFoundError(f"There is no training image {position}.")
    return _png(
        image_png(train.images[position], enlarge=4 if console.subject.image_size < 64 else 1)
    )


@router.get("/scale/{sign}.png")
def scale(person: Signed, sign: str) -> Response:
    """Return the colours of a map, from its least value to its largest."""
    if sign not in ("signed", "unsigned"):
        raise NotFoundError("There is no such scale.")
    return _png(legend_png(signed=sign == "signed"))


def enlargement(size: int) -> int:
    """Return how many times an image of ``size`` pixels is enlarged, from 1 to 64."""
    return max(1, min(64, -(-ENLARGED // size)))


def _png(content: bytes) -> Response:
    return Response(content, media_type="image/png")
