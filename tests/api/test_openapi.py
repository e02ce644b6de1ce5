"""The OpenAPI document: exactly the documented routes, valid, with examples, and read with a reader of our own."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from quart import Quart

from panel.app import create_app
from panel.settings import Settings
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


async def test_below_a_sub_path_it_says_where_the_api_is(settings: Settings) -> None:
    """Else readers and generated clients ask beside the panel."""
    below = create_app(replace(settings, base_path="/panel"))
    for path in ("/panel/openapi.json", "/openapi.json"):  # a proxy may strip it
        document = await (await below.test_client().get(path)).get_json()
        assert document["servers"] == [{"url": "/panel"}]
    answer = await (await below.test_client().get("/panel/api/nowhere")).get_json()
    assert answer["msg"] == "The API has no address /panel/api/nowhere. /panel/docs lists all."
    assert "servers" not in await (await create_app(settings).test_client().get("/openapi.json")).get_json()


def test_errors_are_described_once_with_an_answer_as_it_comes(document: dict[str, Any]) -> None:
    from jsonschema_rs import Draft202012Validator

    responses = document["components"]["responses"]
    named = {name: set() for name in responses}  # type: dict[str, set[str]]
    for _method, _path, item in operations(document):
        for status, response in item["responses"].items():
            if status != "200":
                named[response["$ref"].rpartition("/")[2]].add(status)
    schemas = {"components": document["components"]}
    for name, statuses in named.items():
        (status,) = statuses
        content = responses[name]["content"]["application/json"]
        assert content["example"]["code"] == int(status)
        assert responses[name]["description"]
        Draft202012Validator(content["schema"] | schemas).validate(content["example"])


async def test_an_example_is_what_comes(app: Quart, document: dict[str, Any]) -> None:
    response = await app.test_client().get("/api/system/statis")
    example = document["components"]["responses"]["Unauthorized"]["content"]["application/json"]["example"]
    assert (response.status_code, await response.get_json()) == (401, example)
