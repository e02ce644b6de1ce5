"""The double of Proxmox VE against the vendor's own schema, and the vendor's rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import jsonschema_rs
import pytest
from quart.typing import TestClientProtocol as Client

from tests.doubles.pve import API, Door, pve
from tests.doubles.pve_schemas import CONTRACT, KEPT, NOTES, OPERATIONS, parameters
from tests.doubles.pve_world import Cluster

CONTAINER = {"vmid": "102", "ostemplate": "local:vztmpl/debian-12.tar.zst", "rootfs": "local-lvm:1", "unprivileged": "1",
             "hostname": "box", "net0": "name=eth0,bridge=vmbr0,hwaddr=52:54:00:00:00:01,ip=dhcp"}  # fmt: skip


class Caller:
    """Calls the double with an API token."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __call__(
        self, method: str, path: str, form: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, Any]:
        sent = {"Authorization": "PVEAPIToken=u@pve!t=s"} | headers
        options = {"query_string": form} if method in {"GET", "DELETE"} else {"form": form or {}}
        answer = await self.client.open(API + path, method=method, headers=sent, **options)
        return answer.status_code, await answer.get_json()

    async def done(self, method: str, path: str, form: dict[str, str] | None = None) -> str:
        """A task's exit status, once it has ended."""
        status, answer = await self(method, path, form)
        assert status == 200, answer
        return await self.ended(answer["data"])

    async def ended(self, upid: str) -> str:
        task = f"/nodes/{upid.split(':')[1]}/tasks/{quote(upid, safe='')}"
        async with asyncio.timeout(20):
            while True:
                found = (await self("GET", f"{task}/status"))[1]["data"]
                if found["status"] == "stopped":
                    return str(found["exitstatus"])
                await asyncio.sleep(0.01)


@pytest.fixture
def world() -> Cluster:
    return Cluster(clone_seconds=0.03, act_seconds=0, boot_seconds=0)


@pytest.fixture
def door() -> Door:
    return Door("u@pve", "p", "u@pve!t=s")


@pytest.fixture
async def call(world: Cluster, door: Door) -> AsyncIterator[Caller]:
    yield Caller(pve(world, door).test_client())
    await world.close()


def contract() -> dict[str, Any]:
    """The vendor's document; empty where it is not at hand."""
    found: dict[str, Any] = json.loads(CONTRACT.read_text()) if CONTRACT.exists() else {}
    return found


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_it_takes_what_the_vendor_takes(operation: str) -> None:
    """Parameters, types, bounds, what is required; formats that are schemas of their own by name only."""
    document = contract()
    if document:
        assert '"description"' not in json.dumps(document), "the copy has got back what it had lost: drop NOTES"
        assert OPERATIONS[operation] == parameters(document, operation)
    assert all(schema.keys() <= KEPT for schema in OPERATIONS[operation].values())


def test_a_parameter_called_like_documentation_stays() -> None:
    described = {"type": "string", "optional": 1, "description": "Notes of the VM", "maxLength": 8192}
    document = {"/x": {"PUT": {"parameters": {"properties": {"description": described}}}}}
    assert parameters(document, "PUT /x") == NOTES


def translated(schema: Any) -> Any:
    """The vendor's kind of schema as JSON Schema: booleans are 0 and 1, numbers may be text, what is not optional is required."""
    kinds = {"boolean": {"enum": [0, 1, True, False]}, "integer": {"type": ["integer", "string"]},
              "number": {"type": ["number", "string"]}, "string": {"type": ["string", "integer"]},
             "null": {"type": "null"}}  # fmt: skip
    if schema.get("type") in kinds:
        return kinds[schema["type"]] | ({"enum": schema["enum"]} if "enum" in schema else {})
    if schema.get("type") == "array":
        return {"type": "array", "items": translated(schema.get("items", {}))}
    parts = schema.get("properties", {})
    return {
        "type": "object",
        "properties": {name: translated(part) for name, part in parts.items() if "[n]" not in name},
        "required": [name for name, part in parts.items() if not part.get("optional")],
    }


async def test_it_answers_in_the_vendors_types(call: Caller, world: Cluster) -> None:
    document = contract()
    world.add("template", template=True)
    vm = world.add("vm")
    vm.config["serial0"] = "socket"
    path = f"/nodes/pve1/qemu/{vm.vmid}"
    assert await call.done("POST", f"{path}/status/start") == "OK"
    box = "/nodes/pve1/lxc/102"
    world.files["local:vztmpl/debian-12.tar.zst"] = 1000
    assert await call.done("POST", "/nodes/pve1/lxc", CONTAINER) == "OK"
    assert await call.done("POST", f"{box}/status/start") == "OK"
    upid = next(iter(world.tasks))
    task = f"/nodes/pve1/tasks/{quote(upid, safe='')}"
    calls = [
        ("GET /version", "/version", {}),
        ("GET /access/permissions", "/access/permissions", {}),
        ("GET /cluster/resources", "/cluster/resources", {}),
        ("GET /cluster/nextid", "/cluster/nextid", {}),
        ("GET /nodes/{node}/status", "/nodes/pve1/status", {}),
        ("GET /nodes/{node}/qemu", "/nodes/pve1/qemu", {"full": "1"}),
        ("GET /nodes/{node}/qemu/{vmid}/config", f"{path}/config", {"current": "1"}),
        ("GET /nodes/{node}/qemu/{vmid}/status/current", f"{path}/status/current", {}),
        ("PUT /nodes/{node}/qemu/{vmid}/config", f"{path}/config", {"cores": "2"}),
        ("PUT /nodes/{node}/qemu/{vmid}/resize", f"{path}/resize", {"disk": "scsi0", "size": "3G"}),
        ("POST /nodes/{node}/qemu/{vmid}/vncproxy", f"{path}/vncproxy", {"websocket": "1"}),
        ("POST /nodes/{node}/qemu/{vmid}/termproxy", f"{path}/termproxy", {"serial": "serial0"}),
        ("POST /nodes/{node}/qemu/{vmid}/agent/ping", f"{path}/agent/ping", {}),
        ("GET /nodes/{node}/lxc", "/nodes/pve1/lxc", {}),
        ("GET /nodes/{node}/lxc/{vmid}/config", f"{box}/config", {"current": "1"}),
        ("GET /nodes/{node}/lxc/{vmid}/status/current", f"{box}/status/current", {}),
        ("GET /nodes/{node}/lxc/{vmid}/interfaces", f"{box}/interfaces", {}),
        ("POST /nodes/{node}/lxc/{vmid}/vncproxy", f"{box}/vncproxy", {"websocket": "1"}),
        ("POST /nodes/{node}/lxc/{vmid}/termproxy", f"{box}/termproxy", {}),
        ("PUT /nodes/{node}/lxc/{vmid}/resize", f"{box}/resize", {"disk": "rootfs", "size": "3G"}),
        ("POST /nodes/{node}/qemu/{vmid}/snapshot", f"{path}/snapshot", {"snapname": "before"}),
        ("GET /nodes/{node}/qemu/{vmid}/snapshot", f"{path}/snapshot", {}),
        ("GET /nodes/{node}/lxc/{vmid}/snapshot", f"{box}/snapshot", {}),
        ("GET /nodes/{node}/storage/{storage}/content", "/nodes/pve1/storage/local/content", {}),
        ("GET /nodes/{node}/tasks/{upid}/status", task + "/status", {}),
        ("GET /nodes/{node}/tasks/{upid}/log", task + "/log", {}),
    ]  # fmt: skip
    for operation, where, form in calls:
        method, _blank, pattern = operation.partition(" ")
        status, answer = await call(method, where, form)
        assert status == 200, (operation, answer)
        if document:
            returns = document[pattern][method].get("returns", {"type": "null"})
            jsonschema_rs.validate(translated(returns), answer["data"])


@pytest.mark.parametrize(
    ("method", "path", "form", "wrong"),
    [
        ("POST", "/clone", {}, "newid"),
        ("POST", "/clone", {"newid": "99"}, "newid"),
        ("POST", "/clone", {"newid": "200", "name": "no_such_name"}, "name"),
        ("POST", "/clone", {"newid": "200", "other": "1"}, "other"),
        ("PUT", "/config", {"cores": "two"}, "cores"),
        ("PUT", "/config", {"agnet": "1"}, "agnet"),
        ("PUT", "/resize", {"disk": "scsi99", "size": "3G"}, "disk"),
        ("PUT", "/resize", {"disk": "scsi0", "size": "-3G"}, "size"),
        ("POST", "/agent/set-user-password", {"username": "root", "password": "1234"}, "password"),
        ("POST", "/status/suspend", {"statestorage": "local"}, "todisk"),
    ],
)
async def test_parameters(
    call: Caller, world: Cluster, method: str, path: str, form: dict[str, str], wrong: str
) -> None:
    vm = world.add("vm")
    status, answer = await call(method, f"/nodes/pve1/qemu/{vm.vmid}{path}", form)
    assert (status, list(answer["errors"])) == (400, [wrong])


async def test_who_may_in(call: Caller, world: Cluster, door: Door) -> None:
    none = {"Authorization": ""}
    assert (await call("GET", "/version", **none))[0] == 401
    assert (await call("GET", "/version", Authorization="PVEAPIToken=u@pve!t=x"))[0] == 401
    login = {"username": "u@pve", "password": "p"}
    assert (await call("POST", "/access/ticket", login | {"password": "x"}, **none))[0] == 401
    told = (await call("POST", "/access/ticket", login, **none))[1]["data"]
    cookie = none | {"Cookie": "PVEAuthCookie=" + quote(told["ticket"], safe="")}
    assert (await call("GET", "/version", **cookie))[0] == 200
    vm = world.add("vm")
    start = f"/nodes/pve1/qemu/{vm.vmid}/status/start"
    assert (await call("POST", start, **cookie))[0] == 401, "without its CSRF token"
    assert (await call("POST", start, **cookie, CSRFPreventionToken=told["CSRFPreventionToken"]))[0] == 200
    door.missing.add("VM.PowerMgmt")
    status, answer = await call("POST", start)
    assert (status, answer["message"]) == (403, f"Permission check failed (/vms/{vm.vmid}, VM.PowerMgmt)")
    door.tickets.clear()
    assert (await call("GET", "/version", **cookie))[0] == 401, "expired"


async def test_it_refuses_what_the_vendor_refuses(call: Caller, world: Cluster) -> None:
    template = world.add("template", template=True)
    path = "/nodes/pve1/qemu/101"
    status, answer = await call("GET", f"{path}/config")
    assert (status, answer["message"]) == (500, "Configuration file 'nodes/pve1/qemu-server/101.conf' does not exist\n")
    clone = f"/nodes/pve1/qemu/{template.vmid}/clone"
    upid = (await call("POST", clone, {"newid": "101", "full": "1", "name": "copy"}))[1]["data"]
    assert (await call("PUT", f"{path}/config", {"cores": "2"}))[1]["message"] == "VM is locked (clone)\n"
    assert (await call("POST", clone, {"newid": "101"}))[0] == 500
    assert await call.ended(upid) == "OK"
    assert (await call("PUT", f"{path}/config", {"cores": "2"}))[0] == 200
    assert (await call("POST", clone, {"newid": "102", "storage": "local-lvm"}))[0] == 400, "a linked clone stays there"
    assert await call.done("POST", f"{path}/status/start") == "OK"
    assert (await call("DELETE", path))[1]["message"] == "VM 101 is running - destroy failed\n"
    assert "already running" in await call.done("POST", f"{path}/status/start")
    assert "shrinking" in await call.done("PUT", f"{path}/resize", {"disk": "scsi0", "size": "1G"})
    await call("PUT", f"{path}/config", {"memory": "1024"})
    assert (await call("GET", f"{path}/config", {"current": "1"}))[1]["data"]["memory"] == "512", "at its next start"
    assert await call.done("POST", f"{path}/status/stop") == "OK"
    assert (await call("GET", f"{path}/config", {"current": "1"}))[1]["data"]["memory"] == "1024"
    assert (await call("POST", f"{path}/status/shutdown"))[0] == 500
    volumes = set(world.volumes)
    assert await call.done("DELETE", path, {"purge": "1"}) == "OK"
    assert len(volumes - world.volumes) == 2


async def test_an_ended_task_leaves_nothing(call: Caller, world: Cluster) -> None:
    world.clone_seconds = 60
    template = world.add("template", template=True)
    volumes = set(world.volumes)
    upid = (await call("POST", f"/nodes/pve1/qemu/{template.vmid}/clone", {"newid": "101", "full": "1"}))[1]["data"]
    assert (await call("DELETE", f"/nodes/pve1/tasks/{quote(upid, safe='')}"))[0] == 200
    assert await call.ended(upid) == "interrupted by signal"
    assert (world.volumes, list(world.machines)) == (volumes, [template.vmid])


async def test_what_it_makes_of_files(call: Caller, world: Cluster) -> None:
    assert (await call("POST", "/nodes/pve1/lxc", CONTAINER))[0] == 500, "no such file"
    world.files |= {"local:vztmpl/debian-12.tar.zst": 1000, "local:import/cloud.qcow2": 1000}
    assert (await call("POST", "/nodes/pve1/lxc", CONTAINER | {"rootfs": "local:1"}))[0] == 500, "no directories there"
    assert (await call("POST", "/nodes/pve1/lxc", CONTAINER | {"sockets": "1"}))[0] == 400
    assert await call.done("POST", "/nodes/pve1/lxc", CONTAINER) == "OK"
    assert "already exists" in (await call("POST", "/nodes/pve1/lxc", CONTAINER))[1]["message"]
    assert (await call("GET", "/nodes/pve1/qemu/102/config"))[0] == 500, "it is no VM"
    assert (await call("POST", "/nodes/pve1/lxc/102/status/shutdown"))[1]["message"] == "CT 102 not running\n"
    assert await call.done("POST", "/nodes/pve1/lxc/102/status/start") == "OK"
    assert "container is running" in (await call("DELETE", "/nodes/pve1/lxc/102"))[1]["message"]
    vm = {"vmid": "103", "scsi0": "local-lvm:0,import-from=local:import/cloud.qcow2", "ide2": "local-lvm:cloudinit"}
    wrong = vm | {"scsi0": "local-lvm:0,import-from=local:vztmpl/debian-12.tar.zst"}
    assert (await call("POST", "/nodes/pve1/qemu", wrong))[0] == 500, "not a disk"
    assert await call.done("POST", "/nodes/pve1/qemu", vm) == "OK"
    assert (await call("GET", "/nodes/pve1/qemu/103/config"))[1]["data"]["scsi0"] == "local-lvm:vm-103-disk-0,size=2G"
    assert {"local-lvm:vm-102-disk-0", "local-lvm:vm-103-disk-0", "local-lvm:vm-103-cloudinit"} == world.volumes


async def test_its_snapshots(call: Caller, world: Cluster, door: Door) -> None:
    vm = world.add("vm")
    path = f"/nodes/pve1/qemu/{vm.vmid}/snapshot"
    assert await call.done("POST", path, {"snapname": "first"}) == "OK"
    assert await call.done("POST", path, {"snapname": "second", "description": "why"}) == "OK"
    assert "already used" in (await call("POST", path, {"snapname": "first"}))[1]["message"]
    assert "reserved" in (await call("POST", path, {"snapname": "current"}))[1]["message"]
    assert (await call("POST", path, {"snapname": "x" * 41}))[0] == 400
    listed = (await call("GET", path))[1]["data"]
    assert [(one["name"], one.get("parent")) for one in listed] == [
        ("first", None), ("second", "first"), ("current", "second"),
    ]  # fmt: skip
    assert await call.done("DELETE", f"{path}/first") == "OK"
    assert "does not exist" in (await call("POST", f"{path}/first/rollback"))[1]["message"]
    vm.status = "running"
    assert await call.done("POST", f"{path}/second/rollback") == "OK"
    assert vm.status == "stopped", "nobody asked for a start"
    door.missing.add("VM.Snapshot")
    assert (await call("DELETE", f"{path}/second"))[0] == 403
