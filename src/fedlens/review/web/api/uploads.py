"""The parts of a multipart body, held in memory: no image ever touches the disk."""

from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from fedlens.review.web.api.multipart import MalformedError, TooManyError, parts_of, text_of

LARGEST_FIELD = 4096


@dataclass(frozen=True)
class Upload:
    """What was sent.

    Attributes:
        images: content of the image parts, in the order in which they were sent.
        fields: the other parts, name -> text.
    """

    images: list[bytes]
    fields: dict[str, str]


async def read_parts(
    request: Request, image: str, fields: tuple[str, ...] = (), most: int = 1
) -> Upload:
    """Return the parts of a multipart body.

    What a part says of its own name on somebody's disk, or of its type, is not looked at.

    Args:
        request: with the body.
        image: name of the parts with an image, at least one.
        fields: names of the other parts that there may be, each once.
        most: images that there may be.

    Raises:
        HTTPException: 415 for another kind of body; 400 for one that is not what it says it is, or
            that ended early; 422 for parts that are missing, unknown or too many.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(
            415, f"Send the image as multipart/form-data, in a part named '{image}'."
        )
    try:
        body = await request.body()
        parts = parts_of(body, request.headers["content-type"], most + len(fields))
    except ClientDisconnect as error:
        raise HTTPException(400, "The body ended early.") from error
    except MalformedError as error:
        raise HTTPException(400, f"The body is not valid multipart: {error}.") from error
    except TooManyError as error:
        raise HTTPException(
            422, f"Expected at most {most} image(s) and {len(fields)} other parts."
        ) from error
    images: list[bytes] = []
    texts: dict[str, str] = {}
    for part in parts:
        if part.name == image and part.is_file and len(images) < most:
            images.append(part.content)
        elif part.name in fields and not part.is_file and part.name not in texts:
            if len(part.content) > LARGEST_FIELD:
                raise HTTPException(
                    400, f"The part '{part.name}' is longer than {LARGEST_FIELD:,} bytes."
                )
            texts[part.name] = text_of(part.content)
        else:
            raise HTTPException(422, _unexpected(image, fields))
    if not images:
        raise HTTPException(422, f"The part '{image}' is missing, or is not a file.")
    return Upload(images, texts)


def body_of(image: str, fields: dict[str, Any], most: int = 1) -> dict[str, Any]:
    """Return what OpenAPI says of such a body; ``fields`` has the schema of each other part."""
    picture: dict[str, Any] = {
        "type": "string",
        "format": "binary",
        "description": "One PNG, JPEG or TIFF picture, at most 10 MB and 16 megapixels.",
    }
    several = {"type": "array", "items": picture, "minItems": 1, "maxItems": most}
    content = {
        "type": "object",
        "required": [image],
        "properties": {image: picture if most == 1 else several, **fields},
        "additionalProperties": False,
    }
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": content}}}
    }


def _unexpected(image: str, fields: tuple[str, ...]) -> str:
    others = f" and, once each, {', '.join(fields)}" if fields else ""
    return f"Expected the file part '{image}'{others}, and nothing else."
