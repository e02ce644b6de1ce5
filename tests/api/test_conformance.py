"""The OpenAPI document describes what really comes: each field of each answer, its type, and its status. Nothing beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from jsonschema_rs import Draft202012Validator
from quart import Quart

from panel.engines.fake.behaviour import Manner
from tests.api import examples
from tests.api.examples import HERE
from tests.api.kit import make_host, make_vm, small, turn
from tests.conftest import ApiClient

ACTIONS = ("start", "suspend", "start", "reset", "shutdown", "shutdown")
BODIES: dict[str, dict[str, Any]] = {
    "/api/server/create": examples.HOST | {"engine_type": "FakeEngine", "server_name": "host2"},
    "/api/client/create/<hs_name>": small("vm-2"),
    "/api/client/upload": examples.REPORT | {"vm_uuid": "vm-1"},
    "/api/server/update/<hs_name>": {"server_user": "ops"},
    "/api/client/update/<hs_name>/<vm_uuid>": {"vm_name": "新", "cpu_num": 2, "colour": "blue"},
    "/api/client/natadd/<hs_name>/<vm_uuid>": {"internal_port": 80},
    "/api/client/ipaddr/create/<hs_name>/<vm_uuid>": {"interface": "eth0"},
    "/api/server/network/<hs_name>/<net_name>": {"reserved": [], "subnet": "203.0.113.0/24"},
    "/api/server/network/<hs_name>/<net_name>/<pool_id>": {"subnet": "203.0.113.0/25"},
}
LAST = ("", "/api/client/delete/", "/api/server/delete/", "/api/system/")  # what ends things, in this order


class Document:
    """The OpenAPI document, made to refuse fields that it does not name."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._paths = document["paths"]
        self._responses = document["components"]["responses"]
        self._components = _strict(document["components"])
        self.seen: set[tuple[str, str, int]] = set()

    def check(self, method: str, rule: str, status: int, answer: dict[str, Any]) -> None:
        """Hold an answer against what its route says."""
        said = self._paths[re.sub(r"<(\w+)>", r"{\1}", rule)][method.lower()]["responses"]
        assert str(status) in said, (method, rule, status, answer)
        response = said[str(status)]
        if "$ref" in response:
            response = self._responses[response["$ref"].rpartition("/")[2]]
        schema = _strict(response["content"]["application/json"]["schema"])
        validator = Draft202012Validator(schema | {"components": self._components}, validate_formats=True)
        wrong = [(error.message, list(error.instance_path)) for error in validator.iter_errors(answer)]
        assert not wrong, (method, rule, status, wrong)
        self.seen.add((method, rule, status))


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(value) for name, value in schema.items()}
    if strict.get("type") == "object" and "properties" in strict:
        strict.setdefault("additionalProperties", False)
    return strict


def _requests(host: str, vm: str) -> Iterator[tuple[str, str, str, dict[str, Any] | None]]:
    """Each route once, what ends things last: method, rule, path, body."""
    for route in sorted(HERE, key=lambda route: (_last(route.path), route.method == "DELETE")):
        net = "fake-nat" if route.method == "PUT" and not route.path.endswith("<pool_id>") else "fake-bridge"
        values = {"hs_name": host, "vm_uuid": vm, "net_name": net, "pool_id": "1", "ip_index": "1"}
        path = route.path
        for name in re.findall(r"<(\w+)>", path):
            path = path.replace(f"<{name}>", values.get(name, "0"))
        yield route.method, route.path, path, BODIES.get(route.path, route.body)


def _last(path: str) -> int:
    return max(number for number, beginning in enumerate(LAST) if path.startswith(beginning))


async def test_each_answer_is_as_described(app: Quart, api: ApiClient, fake_host: str) -> None:
    document = Document(await (await app.test_client().get("/openapi.json")).get_json())
    await make_vm(api, nic_all={"eth0": {}, "eth1": {"net_mode": "bridge"}}, start=True)
    await make_host(api, "mad", vms="3")
    await api.ok("POST", "/api/client/scaner/mad")
    turn(Manner.GARBAGE, "mad")
    await api.ok("POST", "/api/client/scaner/mad")
    await make_host(api, "off", vms="3")
    await api.ok("POST", "/api/client/scaner/off")
    await api.ok("POST", "/api/server/powers/off", {"action": "disable"})
    turn(Manner.REFUSING, "off")
    for host, vm in (("host1", "nobody"), ("mad", "vm-0001"), ("off", "vm-0001"), ("host9", "vm-1")):
        for method, rule, path, body in _requests(host, vm):
            if not rule.startswith("/api/system/") and (method == "GET" or host in {"host9", "off"}):
                document.check(method, rule, *await api(method, path, body))
    for action in ACTIONS:
        rule = "/api/client/powers/<hs_name>/<vm_uuid>"
        document.check("POST", rule, *await api("POST", "/api/client/powers/host1/vm-1", {"action": action}))
    await api.ok("POST", "/api/client/powers/host1/vm-1", {"action": "start"})
    for method, rule, path, body in _requests("host1", "vm-1"):
        status, answer = await api(method, path, body)
        document.check(method, rule, status, answer)
        if path in {"/api/system/resets", "/api/system/create"}:
            api.token = answer["data"]["token"]
        if rule == "/api/system/tasker":
            task = answer["data"]["tasks"][0]["id"]
            document.check(method, rule, *await api(method, f"{path}?id={task}"))
    good = {(method, rule) for method, rule, status in document.seen if status == 200}
    assert good == {(route.method, route.path) for route in HERE}, "each route answered well once"
