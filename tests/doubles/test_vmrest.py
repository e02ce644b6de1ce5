"""The double of vmrest against the vendor's own document, and the vendor's rules."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from quart import Response
from quart.typing import TestClientProtocol as Client

from tests.doubles.vmrest import MEDIA_TYPE, vmrest
from tests.doubles.vmrest_schemas import BODIES
from tests.doubles.vmrest_world import Workstation

CONTRACT = Path(__file__).parents[3] / "shared/contracts/vmrest-openapi.yaml"
AUTH = "Basic " + base64.b64encode(b"u:p").decode()
SLIP = "mactoip"  # the vendor's document requires this of MACToIPs, whose field it calls mactoips


class Caller:
    """Calls the double as a client with the right login and media type does."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __call__(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, Any]:
        sent = {"Authorization": AUTH} | ({"Content-Type": MEDIA_TYPE} if body is not None else {}) | headers
        answer: Response = await self.client.open(f"/api{path}", method=method, data=body, headers=sent)
        assert answer.content_type == MEDIA_TYPE
        return answer.status_code, await answer.get_json(force=True) if await answer.get_data() else None


@pytest.fixture
def world() -> Workstation:
    return Workstation(clone_seconds=0, act_seconds=0, boot_seconds=0)


@pytest.fixture
async def call(world: Workstation) -> AsyncIterator[Caller]:
    yield Caller(vmrest(world, "u", "p").test_client())
    world.close()


def contract() -> dict[str, Any]:
    """The vendor's document; empty where it is not at hand."""
    found: dict[str, Any] = yaml.safe_load(CONTRACT.read_text()) if CONTRACT.exists() else {}
    return found


def bare(schema: Any) -> Any:
    """A schema without what says nothing about values."""
    if isinstance(schema, dict):
        return {key: bare(value) for key, value in schema.items() if key not in {"description", "default", "readOnly"}}
    return sorted(schema) if isinstance(schema, list) else schema


@pytest.mark.parametrize("name", sorted(BODIES))
def test_it_takes_what_the_vendor_takes(name: str) -> None:
    schemas = contract().get("components", {}).get("schemas", BODIES)
    theirs = {"type": "object"} | bare(schemas[name])
    assert bare(BODIES[name]) == theirs


def test_every_operation_is_the_vendors(world: Workstation) -> None:
    """No path or method of our own."""
    paths = contract().get("paths")
    for rule in vmrest(world, "u", "p").url_map.iter_rules():
        path = rule.rule.removeprefix("/api").replace("<int:", "<").replace("<vm>", "{id}")
        path = path.replace("<", "{").replace(">", "}")
        methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if paths is not None and rule.endpoint != "static":
            assert {method.lower() for method in methods} <= set(paths[path]), path


async def test_it_answers_in_the_vendors_types(call: Caller, world: Workstation) -> None:
    document = contract()
    vm = world.add("template").id
    calls = [
        ("GET", "/vms", "/vms", None),
        ("POST", "/vms", "/vms", f'{{"name": "copy", "parentId": "{vm}"}}'),
        ("GET", "/vms/{id}", f"/vms/{vm}", None),
        ("PUT", "/vms/{id}", f"/vms/{vm}", '{"processors": 2}'),
        ("GET", "/vms/{id}/restrictions", f"/vms/{vm}/restrictions", None),
        ("PUT", "/vms/{id}/params", f"/vms/{vm}/params", '{"name": "a", "value": "b"}'),
        ("GET", "/vms/{id}/params/{name}", f"/vms/{vm}/params/a", None),
        ("GET", "/vms/{id}/nic", f"/vms/{vm}/nic", None),
        ("POST", "/vms/{id}/nic", f"/vms/{vm}/nic", '{"type": "nat", "vmnet": ""}'),
        ("PUT", "/vms/{id}/nic/{index}", f"/vms/{vm}/nic/2", '{"type": "custom", "vmnet": "vmnet1"}'),
        ("DELETE", "/vms/{id}/nic/{index}", f"/vms/{vm}/nic/2", None),
        ("PUT", "/vms/{id}/power", f"/vms/{vm}/power", "on"),
        ("GET", "/vms/{id}/power", f"/vms/{vm}/power", None),
        ("GET", "/vms/{id}/nicips", f"/vms/{vm}/nicips", None),
        ("GET", "/vmnet", "/vmnet", None),
        ("PUT", "/vmnet/{vmnet}/mactoip/{mac}", "/vmnet/vmnet8/mactoip/00:50:56:00:00:01", '{"IP": "192.168.77.9"}'),
        ("GET", "/vmnet/{vmnet}/mactoip", "/vmnet/vmnet8/mactoip", None),
        ("PUT", "/vmnet/{vmnet}/portforward/{protocol}/{port}", "/vmnet/vmnet8/portforward/tcp/80",
         '{"guestIp": "192.168.77.9", "guestPort": 80}'),
        ("GET", "/vmnet/{vmnet}/portforward", "/vmnet/vmnet8/portforward", None),
        ("DELETE", "/vmnet/{vmnet}/portforward/{protocol}/{port}", "/vmnet/vmnet8/portforward/tcp/80", None),
    ]  # fmt: skip
    for method, pattern, path, body in calls:
        status, answer = await call(method, path, body)
        assert 200 <= status < 300, (method, path, answer)
        if document:
            said = document["paths"][pattern][method.lower()]["responses"][str(status)].get("content", {})
            check(document, said.get(MEDIA_TYPE, {}).get("schema"), answer)
    for path in ("/vms/none", "/nothing"):
        status, answer = await call("GET", path)
        assert status == 404
        check(document, {"$ref": "#/components/schemas/ErrorModel"} if document else None, answer)


def check(document: dict[str, Any], schema: Any, answer: Any) -> None:
    """An answer is of its type."""
    if schema is None:
        assert answer is None or not document
        return
    components = document["components"]
    components["schemas"]["MACToIPs"]["required"] = ["num"]
    assert SLIP not in components["schemas"]["MACToIPs"]["required"]
    jsonschema_rs.validate({**schema, "components": components}, answer)


async def test_it_refuses_what_the_vendor_refuses(call: Caller, world: Workstation) -> None:
    template = world.add("template")
    vm = f"/vms/{template.id}"
    assert (await call("GET", "/vms", Authorization="Basic x"))[0] == 401
    assert (await call("PUT", vm, "{}", **{"Content-Type": "application/json"}))[0] == 406
    for body in ("{", "[]", '{"processors": "2"}'):
        assert (await call("PUT", vm, body))[0] == 400
    assert (await call("PUT", f"{vm}/power", '"on"'))[0] == 400, "a bare word"
    assert (await call("PUT", f"{vm}/power", "reset"))[0] == 400
    assert (await call("POST", "/vms", '{"name": "x"}'))[0] == 400
    assert (await call("POST", "/vms", '{"name": "x", "parentId": "none"}'))[0] == 404
    assert (await call("POST", "/vms", f'{{"name": "template", "parentId": "{template.id}"}}'))[0] == 409
    for operation in ("off", "suspend", "pause", "unpause", "shutdown"):
        assert (await call("PUT", f"{vm}/power", operation))[0] == 409
    assert (await call("GET", f"{vm}/nicips"))[0] == 409
    assert (await call("PUT", f"{vm}/power", "on"))[0] == 200
    running = [
        ("PUT", vm, '{"memory": 64}'),
        ("PUT", f"{vm}/params", '{"name": "a", "value": "b"}'),
        ("POST", f"{vm}/nic", '{"type": "nat", "vmnet": ""}'),
        ("DELETE", f"{vm}/nic/1", None),
        ("DELETE", vm, None),
        ("POST", "/vms", f'{{"name": "x", "parentId": "{template.id}"}}'),
    ]
    for method, path, body in running:
        assert (await call(method, path, body))[0] == 409, (method, path)
    assert (await call("PUT", f"{vm}/power", "suspend"))[0] == 200
    assert (await call("PUT", f"{vm}/power", "off"))[0] == 409, "it sleeps on the disk"
    assert (await call("PUT", "/vmnet/vmnet1/portforward/tcp/80", '{"guestIp": "x", "guestPort": 1}'))[0] == 404
    assert (await call("DELETE", "/vmnet/vmnet8/portforward/tcp/81"))[0] == 404
    assert (await call("PUT", "/vmnet/vmnet8/portforward/tcp/81", '{"guestIp": "10.0.0.1", "guestPort": 1}'))[0] == 400
    bind = "/vmnet/vmnet8/mactoip/00:50:56:00:00:0"
    assert (await call("PUT", f"{bind}1", '{"IP": "10.0.0.1"}'))[0] == 400
    assert (await call("PUT", f"{bind}1", '{"IP": "192.168.77.9"}'))[0] == 200
    assert (await call("PUT", f"{bind}2", '{"IP": "192.168.77.9"}'))[0] == 409
    assert (await call("PUT", f"{bind}1", '{"IP": ""}'))[0] == 200, (
        "an empty one removes it, says the vendor's document"
    )
    assert world.bindings["vmnet8"] == {}
