"""Asking the model: ``/v1/predict``, ``/v1/predict/batch`` and ``/v1/explain``."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import torch
from fastapi import APIRouter
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from fedlens.explain import Contrast
from fedlens.review.contract import Person, ReviewError, Role
from fedlens.review.model import Prediction
from fedlens.review.model.intake import check_upload, decode_checked
from fedlens.review.store.trail import PREDICTED
from fedlens.review.web.api.desk import Desk
from fedlens.review.web.api.lane import Lane
from fedlens.review.web.api.models import (
    ExplainedAnswer,
    Predicted,
    PredictedBatch,
    Refusal,
    explanation_fields,
    prediction_fields,
)
from fedlens.review.web.api.recording import record_findings
from fedlens.review.web.api.uploads import Upload, body_of, read_parts
from fedlens.review.web.console import Console, ConsoleOf
from fedlens.review.web.limits import InFlight, TokenBuckets
from fedlens.review.web.security import needs, visitor_of

T = TypeVar("T")
LARGEST_BATCH = 64
AT_ONCE = 64
"""Requests that are being answered at once; each may hold an image of 10 MB."""
BATCHES_AT_ONCE = 4
SMALL_BYTES = 16 * 1024
SMALL_PIXELS = 256 * 256

MAY_ASK = (Role.REVIEWER, Role.LEAD)
Asks = Annotated[Person, needs(*MAY_ASK)]

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": words}
    for status, words in {
        400: "The body is not what it says it is, or is larger than it says.",
        401: "No API token, or one that is not valid.",
        403: "The role does not allow it, or another site asked.",
        408: "The body took too long to arrive.",
        413: "The body, or a picture in it, is too large.",
        415: "The picture is no PNG, JPEG or TIFF, or the body is no multipart.",
        422: "A picture that cannot be read, or a field that cannot have this value.",
        429: "Too many requests; Retry-After says when to try again.",
        503: "The model was taken out of service, or the store cannot be reached.",
    }.items()
}

router = APIRouter(prefix="/v1", tags=["model"], responses=REFUSALS)


@router.post("/predict", response_model=Predicted, openapi_extra=body_of("image", {}))
async def predict(request: Request, console: ConsoleOf, person: Asks) -> Response:
    """Predict one image. It is not kept; the answer's case number stands for it."""
    with _allowed(request, 1):
        desk: Desk = request.app.state.desk
        desk.expect()
        upload = await read_parts(request, "image")
        (image,) = await _images(console, upload)
        number, prediction = await desk.predict(person.actor, image)
        return _answer(_predicted(console, number, prediction))


@router.post(
    "/predict/batch",
    response_model=PredictedBatch,
    openapi_extra=body_of("images", {}, most=LARGEST_BATCH),
)
async def predict_batch(request: Request, console: ConsoleOf, person: Asks) -> Response:
    """Predict up to 64 images, all of them or, if one cannot be read, none."""
    with request.app.state.batches, _allowed(request, LARGEST_BATCH):
        upload = await read_parts(request, "images", most=LARGEST_BATCH)
        images = await _images(console, upload)
        predictions = await asyncio.wrap_future(console.examiner.predict_soon(torch.stack(images)))
        numbers = await record_findings(
            console, [(person.actor, PREDICTED, prediction) for prediction in predictions]
        )
        answers = [
            _predicted(console, number, prediction)
            for number, prediction in zip(numbers, predictions, strict=True)
        ]
        return _answer({"predictions": answers})


EXPLAIN_FIELDS = {
    "method": {
        "type": "string",
        "description": "One of the model's methods; by default the first.",
    },
    "target": {
        "type": "string",
        "description": "Name of the class that is explained; by default the predicted one.",
    },
    "against": {
        "type": "string",
        "description": "Name of a class: explain why it is `target` rather than this.",
    },
    "badges": {
        "type": "string",
        "enum": ["true", "false"],
        "description": "Try how good the map is; by default false.",
    },
}


@router.post(
    "/explain", response_model=ExplainedAnswer, openapi_extra=body_of("image", EXPLAIN_FIELDS)
)
async def explain(request: Request, console: ConsoleOf, person: Asks) -> Response:
    """Predict one image and explain the prediction by one map."""
    with _allowed(request, 1):
        desk: Desk = request.app.state.desk
        desk.expect()
        upload = await read_parts(request, "image", tuple(EXPLAIN_FIELDS))
        method, target, badges = _question(console, upload.fields)
        (image,) = await _images(console, upload)
        number, explained = await desk.explain(person.actor, image, method, target, badges=badges)
        return _answer(
            {
                **_predicted(console, number, explained.prediction),
                **explanation_fields(explained, console.subject),
            }
        )


LANES = {
    f"{router.prefix}{path}": Lane(f"{router.prefix}{path}", endpoint, MAY_ASK)
    for path, endpoint in (
        ("/predict", predict),
        ("/predict/batch", predict_batch),
        ("/explain", explain),
    )
}
"""Path -> how it is called without FastAPI."""


def add_desk(state: Any, console: Console) -> None:
    """Give an application's ``state`` the desk of the endpoints here, and the counts they keep."""
    rate, burst = console.policy.api_rate, console.policy.api_burst
    state.desk = Desk(console)
    state.asking = InFlight(AT_ONCE)
    state.batches = InFlight(BATCHES_AT_ONCE)
    state.api_buckets = TokenBuckets(rate, max(burst, LARGEST_BATCH))


def _allowed(request: Request, images: int) -> InFlight:
    """Count ``images`` against whoever asks, before a byte of them is read."""
    visitor = visitor_of(request)
    assert visitor is not None  # the endpoint's dependency has seen to it
    request.app.state.api_buckets.check(visitor.key, images)
    in_flight: InFlight = request.app.state.asking
    return in_flight


async def _images(console: Console, upload: Upload) -> list[torch.Tensor]:
    """Decode what was sent; what may take a while, in a thread of the pool."""
    if sum(map(len, upload.images)) > SMALL_BYTES:
        await run_in_threadpool(_each, upload, check_upload)
        return await run_in_threadpool(_decoded, console, upload)
    outlines = _each(upload, check_upload)
    if sum(outline.width * outline.height for outline in outlines) > SMALL_PIXELS:
        return await run_in_threadpool(_decoded, console, upload)
    return _decoded(console, upload)  # so small that a change of threads would take longer


def _decoded(console: Console, upload: Upload) -> list[torch.Tensor]:
    size, channels = console.subject.image_size, console.subject.channels
    return _each(upload, lambda content: decode_checked(content, size=size, channels=channels))


def _each(upload: Upload, work: Callable[[bytes], T]) -> list[T]:
    """Do something with each picture; what is wrong with one says with which."""
    done, count = [], len(upload.images)
    for position, content in enumerate(upload.images, 1):
        try:
            done.append(work(content))
        except ReviewError as error:
            where = f"Image {position} of {count}: " if count > 1 else ""
            raise HTTPException(error.status, f"{where}{error}") from error
    return done


def _predicted(console: Console, number: int, prediction: Prediction) -> dict[str, Any]:
    return prediction_fields(number, prediction, console.subject, console.examiner.identity)


def _question(console: Console, fields: dict[str, str]) -> tuple[str, int | Contrast | None, bool]:
    methods = console.examiner.methods
    method = fields.get("method", methods[0])
    if method not in methods:
        raise HTTPException(
            422, f"method: '{method[:64]}' is not offered; expected one of {', '.join(methods)}."
        )
    badges = fields.get("badges", "false")
    if badges not in ("true", "false"):
        raise HTTPException(422, "badges: expected 'true' or 'false'.")
    target = class_number(console, fields["target"], "target") if "target" in fields else None
    if "against" not in fields:
        return method, target, badges == "true"
    if target is None:
        raise HTTPException(422, "target: a contrast also needs the class that it speaks for.")
    against = class_number(console, fields["against"], "against")
    if against == target:
        raise HTTPException(422, "against: a contrast is between two different classes.")
    return method, Contrast(target, against), badges == "true"


def class_number(console: Console, name: str, field: str) -> int:
    """Return the number of the class called ``name``.

    Raises:
        HTTPException: 422, there is none; the sentence names those that there are.
    """
    names = console.subject.class_names
    if name not in names:
        known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise HTTPException(422, f"{field}: there is no class '{name[:64]}'; expected {known}.")
    return names.index(name)


def _answer(answer: dict[str, Any]) -> Response:
    # The models are for the document; tests hold what is written here to it.
    # A number that is not finite is null: JSON has no word for it.
    return Response(to_json(answer, inf_nan_mode="null"), media_type="application/json")
