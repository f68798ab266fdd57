"""The application: the pages, the API, and what stands before both."""

from importlib import resources
from pathlib import Path

from fastapi import Depends, FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

import fedlens
from fedlens.review.web import api
from fedlens.review.web.api.asking import LANES
from fedlens.review.web.api.lane import Lanes
from fedlens.review.web.api.watching import Measured
from fedlens.review.web.console import Console
from fedlens.review.web.limits import BATCH_BYTES, BODY_SECONDS, IMAGE_BYTES, BodyLimit
from fedlens.review.web.pages import routers, sign_in
from fedlens.review.web.refusals import add_refusals
from fedlens.review.web.security import Doorman, SecureHeaders, check_csrf

LARGER_BODIES = {
    "/v1/predict": IMAGE_BYTES,
    "/v1/explain": IMAGE_BYTES,
    "/v1/predict/batch": BATCH_BYTES,
}
_KEPT_FOR_GOOD = "public, max-age=31536000, immutable"


class _Static(StaticFiles):
    """Our own files; an address with a version in it may be kept, another is asked for again."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        versioned = scope["query_string"].startswith(b"v=")
        response.headers["Cache-Control"] = _KEPT_FOR_GOOD if versioned else "no-cache"
        return response


def create_app(console: Console) -> FastAPI:
    """Return the application that serves ``console``; it owns nothing and closes nothing."""
    app = FastAPI(
        title="fedlens review",
        summary="Predict, explain, and record what a person decided",
        version=fedlens.__version__,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # both would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.console = console
    sign_in.add_limits(app)
    api.add_api(app)
    app.include_router(sign_in.router, include_in_schema=False)
    for router in routers:
        app.include_router(router, include_in_schema=False, dependencies=[Depends(check_csrf)])
    static = Path(str(resources.files("fedlens.review.web"))) / "static"
    app.mount("/static", _Static(directory=static))
    add_refusals(app)
    # The last one added is the outermost.
    app.add_middleware(Lanes, lanes=LANES)
    app.add_middleware(BodyLimit, larger=LARGER_BODIES, seconds=BODY_SECONDS)
    app.add_middleware(Doorman)
    app.add_middleware(SecureHeaders, secure=console.policy.secure_cookies)
    app.add_middleware(Measured, measures=app.state.measures)
    return app
