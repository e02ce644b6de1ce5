"""The OpenAPI document: exactly the documented routes, valid, with examples, and read with a reader of our own."""

from __future__ import annotations

import re
from typing import Any

import pytest
from quart import Quart

from tests.api.examples import HERE, ROUTES


@pytest.fixture
async def document(app: Quart) -> dict[str, Any]:
    """``/openapi.json``, as anyone gets it."""
    response = await app.test_client().get("/openapi.json")
    assert response.status_code == 200
    found: dict[str, Any] = await response.get_json()
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(m.upper(), path, item) for path, items in document["paths"].items() for m, item in items.items()]


def test_it_lists_exactly_the_documented_routes(document: dict[str, Any]) -> None:
    wanted = {(route.method, re.sub(r"<(\w+)>", r"{\1}", route.path)) for route in HERE}
    assert {(method, path) for method, path, _item in operations(document)} == wanted
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] == "OpenIDCS Panel"


def test_it_is_valid(document: dict[str, Any]) -> None:
    """Against the specification's own JSON schema, as schemathesis carries it."""
    from jsonschema_rs import Draft202012Validator
    from schemathesis.specs.openapi.definitions import OPENAPI_31

    Draft202012Validator(OPENAPI_31).validate(document)
    text = repr(document)
    for name in re.findall(r"#/components/schemas/([^'\"]+)", text):
        assert name in document["components"]["schemas"], name


def test_every_operation_says_what_it_does(document: dict[str, Any]) -> None:
    ids = [item["operationId"] for _method, _path, item in operations(document)]
    assert len(set(ids)) == len(ids)
    for method, path, item in operations(document):
        assert item.get("summary") or item.get("description"), path
        assert item["tags"] == [path.split("/")[2]]
        assert {"200", "400", "401", "404", "409", "500", "503"} <= set(item["responses"]), (method, path)
        parameters = {parameter["name"] for parameter in item.get("parameters", []) if parameter["in"] == "path"}
        assert parameters == set(re.findall(r"\{(\w+)\}", path))


def test_only_upload_needs_no_token(document: dict[str, Any]) -> None:
    assert document["security"] == [{"bearer": []}]
    assert document["components"]["securitySchemes"]["bearer"] == {"type": "http", "scheme": "bearer"}
    free = [path for _method, path, item in operations(document) if item.get("security") in ([], [{}])]
    assert free == ["/api/client/upload"]


def test_bodies_have_the_fields_of_the_examples(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for route in ROUTES:
        if route.body is None:
            continue
        item = document["paths"][re.sub(r"<(\w+)>", r"{\1}", route.path)][route.method.lower()]
        schema = item["requestBody"]["content"]["application/json"]["schema"]
        if "$ref" in schema:
            schema = schemas[schema["$ref"].rpartition("/")[2]]
        assert set(route.body) <= set(schema["properties"]), route.path
        assert set(schema.get("required", [])) <= set(route.body), route.path
