"""The API against its own OpenAPI document, with requests that nobody would think of."""

from collections.abc import Callable

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from fedlens.review.contract import Role
from fedlens.review.store import Store
from fedlens.review.web.console import Console

Make = Callable[..., TestClient]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    ignored_auth,
]
OPERATIONS = [
    ("post", "/v1/predict"),
    ("post", "/v1/predict/batch"),
    ("post", "/v1/explain"),
    ("post", "/v1/decisions"),
    ("get", "/v1/cases/{number}"),
    ("get", "/v1/model"),
    ("get", "/health"),
]
NOTHING_WRONG = [("get", "/health")]  # it takes nothing that could be wrong


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [
        (*each, mode)
        for each in OPERATIONS
        for mode in GenerationMode
        if each not in NOTHING_WRONG or mode is GenerationMode.POSITIVE
    ],
)
def test_it_keeps_to_its_document(
    console: Console,
    client_of: Make,
    tokens: dict[Role, str],
    method: str,
    path: str,
    mode: GenerationMode,
    picture: Callable[..., bytes],
):
    policy = {"api_rate": 1e6, "api_burst": 10_000_000}
    program = client_of(console, token=tokens[Role.LEAD], **policy)
    headers = {"Authorization": f"Bearer {tokens[Role.LEAD]}", "Host": "127.0.0.1"}
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", program.app, headers=headers)
    (operation,) = (
        found.ok()
        for found in schema.get_all_operations()
        if isinstance(found, Ok) and (found.ok().method, found.ok().path) == (method, path)
    )

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def keeps_to_it(case: schemathesis.Case) -> None:
        pictured = mode is GenerationMode.POSITIVE and "/v1/d" not in path and method == "post"
        if pictured:
            # Bytes at random are never a picture, and an answer has to keep to the document too.
            case.body |= {"images": [picture()] * 2} if "batch" in path else {"image": picture()}
        answer = case.call_and_validate(headers=headers, checks=CHECKS)
        assert not (pictured and "predict" in path) or answer.status_code == 200

    keeps_to_it()


def test_all_of_it_is_tried(program: TestClient):
    paths = program.get("/v1/openapi.json").json()["paths"]
    found = [(method, path) for path, methods in paths.items() for method in methods]
    assert sorted(found) == sorted(OPERATIONS)


def test_each_endpoint_says_how_it_refuses(program: TestClient, kept: Store):
    paths = program.get("/v1/openapi.json").json()["paths"]
    for path, methods in paths.items():
        if path == "/health":
            continue
        for operation in methods.values():
            responses = operation["responses"]
            assert {"401", "403", "422", "503"} <= set(responses), path
            for status, answer in responses.items():
                assert answer["description"]
                if status.startswith("4"):
                    name = answer["content"]["application/json"]["schema"]["$ref"]
                    assert name.endswith("/Refusal"), (path, status)
            assert operation["security"] == [{"HTTPBearer": []}]
