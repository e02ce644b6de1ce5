"""The REST API of VMware Workstation 17 (vmrest 1.3) over a ``Workstation``: login, media type, schemas, status codes."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import jsonschema_rs
from quart import Quart, Response, request

from tests.doubles.vmrest_schemas import BODIES
from tests.doubles.vmrest_world import NETWORKS, OF_TYPE, Machine, RefusedError, Workstation, _nic

MEDIA_TYPE = "application/vnd.vmware.vmw.rest-v1+json"
VALIDATORS = {name: jsonschema_rs.validator_for(schema) for name, schema in BODIES.items()}


def answered(value: Any, status: int = 200) -> Response:
    """An answer in the vendor's media type; None is no body."""
    return Response(b"" if value is None else json.dumps(value).encode(), status, content_type=MEDIA_TYPE)


def refused(status: int, code: int, message: str) -> Response:
    """The vendor's ErrorModel."""
    return answered({"code": code, "message": message}, status)


async def body(schema: str) -> Any:
    """The request's body, as the schema has it. The power operation is a bare word, not JSON."""
    if request.headers.get("Content-Type", "").partition(";")[0].strip() != MEDIA_TYPE:
        raise RefusedError(406, 1, "Content type was not supported")
    text = (await request.get_data()).decode(errors="replace")
    try:
        value = text if schema == "VMPowerOperation" else json.loads(text)
    except ValueError:
        raise RefusedError(400, 2, "The request body is malformed") from None
    if not VALIDATORS[schema].is_valid(value):
        raise RefusedError(400, 3, "Invalid parameters")
    return value


def vmrest(world: Workstation, user: str, password: str) -> Quart:
    """The server, as an ASGI application."""
    app = Quart(__name__)
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    @app.before_request
    async def authenticated() -> Response | None:
        if request.headers.get("Authorization") != expected:
            return refused(401, 4, "Authentication failed")
        return None

    @app.errorhandler(RefusedError)
    async def refusal(error: RefusedError) -> Response:
        return refused(error.status, error.code, error.message)

    @app.errorhandler(404)
    async def unknown(_error: Exception) -> Response:
        return refused(404, 5, "No such resource")

    _library(app, world)
    _settings(app, world)
    _nics(app, world)
    _networks(app, world)
    return app


def _library(app: Quart, world: Workstation) -> None:
    @app.get("/api/vms")
    async def vms() -> Response:
        return answered([{"id": vm.id, "path": vm.path} for vm in list(world.machines.values())])

    @app.post("/api/vms")
    async def clone() -> Response:
        wanted = await body("VMCloneParameter")
        return answered(_information(await world.clone(wanted["name"], wanted["parentId"])), 201)

    @app.get("/api/vms/<vm>")
    async def vm_settings(vm: str) -> Response:
        return answered(_information(world.find(vm)))

    @app.put("/api/vms/<vm>")
    async def change(vm: str) -> Response:
        wanted, found = await body("VMParameter"), world.stopped(vm)
        found.processors = wanted.get("processors", found.processors)
        found.memory = wanted.get("memory", found.memory)
        return answered(_information(found))

    @app.delete("/api/vms/<vm>")
    async def delete(vm: str) -> Response:
        await world.delete(vm)
        return answered(None, 204)

    @app.get("/api/vms/<vm>/power")
    async def power(vm: str) -> Response:
        return answered({"power_state": world.find(vm).state})

    @app.put("/api/vms/<vm>/power")
    async def set_power(vm: str) -> Response:
        return answered({"power_state": (await world.power(vm, await body("VMPowerOperation"))).state})


def _settings(app: Quart, world: Workstation) -> None:
    @app.get("/api/vms/<vm>/restrictions")
    async def restrictions(vm: str) -> Response:
        found = world.find(vm)
        port = int(found.params.get("RemoteDisplay.vnc.port", "0"))
        enabled = found.params.get("RemoteDisplay.vnc.enabled", "FALSE").lower()
        vnc = {"VNCEnabled": enabled, "VNCPort": port}
        return answered(_information(found) | {"niclist": _nic_list(found), "remoteVNC": vnc})

    @app.get("/api/vms/<vm>/params/<name>")
    async def param(vm: str, name: str) -> Response:
        found = world.find(vm)
        if name not in found.params:
            raise RefusedError(404, 6, "No such parameter")
        return answered({"name": name, "value": found.params[name]})

    @app.put("/api/vms/<vm>/params")
    async def set_param(vm: str) -> Response:
        wanted, found = await body("ConfigVMParamsParameter"), world.stopped(vm)
        name, value = wanted.get("name", ""), wanted.get("value", "")
        if not name or not all(32 <= ord(char) < 0xD800 or ord(char) > 0xDFFF for char in value) or '"' in value:
            raise RefusedError(400, 7, "Invalid parameters")
        found.params[name] = value
        return answered({"code": 0, "message": "The operation was successful"})


def _nics(app: Quart, world: Workstation) -> None:
    @app.get("/api/vms/<vm>/nic")
    async def nics(vm: str) -> Response:
        return answered(_nic_list(world.find(vm)))

    @app.post("/api/vms/<vm>/nic")
    async def add_nic(vm: str) -> Response:
        wanted, found = await body("NICDeviceParameter"), world.stopped(vm)
        found.nics.append(_nic(wanted["type"], _vmnet(wanted)))
        return answered(_nic_list(found)["nics"][-1], 201)

    @app.put("/api/vms/<vm>/nic/<int:index>")
    async def change_nic(vm: str, index: int) -> Response:
        wanted, found = await body("NICDeviceParameter"), world.stopped(vm)
        place = _place(found, index)
        found.nics[place] |= {"type": wanted["type"], "vmnet": _vmnet(wanted)}
        return answered(_nic_list(found)["nics"][place])

    @app.delete("/api/vms/<vm>/nic/<int:index>")
    async def remove_nic(vm: str, index: int) -> Response:
        found = world.stopped(vm)
        del found.nics[_place(found, index)]
        return answered(None, 204)

    @app.get("/api/vms/<vm>/nicips")
    async def addresses(vm: str) -> Response:
        return answered({"nics": world.addresses(world.find(vm))})


def _networks(app: Quart, world: Workstation) -> None:
    @app.get("/api/vmnet")
    async def networks() -> Response:
        found = [
            {"name": name, "type": kind, "dhcp": "true" if subnet else "false", "subnet": subnet, "mask": mask}
            for name, (kind, subnet, mask) in NETWORKS.items()
        ]
        return answered({"num": len(found), "vmnets": found})

    @app.get("/api/vmnet/<vmnet>/mactoip")
    async def bindings(vmnet: str) -> Response:
        held = [{"vmnet": vmnet, "mac": mac, "ip": ip} for mac, ip in _held(world, vmnet).items()]
        return answered({"num": len(held), "mactoips": held})

    @app.put("/api/vmnet/<vmnet>/mactoip/<mac>")
    async def bind(vmnet: str, mac: str) -> Response:
        _held(world, vmnet)
        world.bind(vmnet, mac.lower(), (await body("MacToIPParameter"))["IP"])
        return answered({"code": 0, "message": "The operation was successful"})

    @app.get("/api/vmnet/<vmnet>/portforward")
    async def forwards(vmnet: str) -> Response:
        _nat(vmnet)
        found = [rule for key, rule in world.forwards.items() if key[0] == vmnet]
        return answered({"num": len(found), "port_forwardings": found})

    @app.put("/api/vmnet/<vmnet>/portforward/<protocol>/<int:port>")
    async def forward(vmnet: str, protocol: str, port: int) -> Response:
        wanted = await body("PortforwardParameter")
        _nat(vmnet)
        guest = {"ip": wanted["guestIp"], "port": wanted["guestPort"]}
        if not 0 < guest["port"] < 65536 or not world.is_guest(vmnet, guest["ip"]):
            raise RefusedError(400, 3, "Invalid parameters")
        rule = {"port": port, "protocol": protocol, "desc": wanted.get("desc", ""), "guest": guest}
        if protocol not in {"tcp", "udp"} or not 0 < port < 65536:
            raise RefusedError(400, 3, "Invalid parameters")
        await asyncio.sleep(world.forward_seconds)
        world.forwards[vmnet, protocol, port] = rule
        return answered({"code": 0, "message": "The operation was successful"})

    @app.delete("/api/vmnet/<vmnet>/portforward/<protocol>/<int:port>")
    async def unforward(vmnet: str, protocol: str, port: int) -> Response:
        await asyncio.sleep(world.forward_seconds)
        if world.forwards.pop((vmnet, protocol, port), None) is None:
            raise RefusedError(404, 8, "No such port forwarding")
        return answered(None, 204)


def _information(vm: Machine) -> dict[str, Any]:
    return {"id": vm.id, "cpu": {"processors": vm.processors}, "memory": vm.memory}


def _nic_list(vm: Machine) -> dict[str, Any]:
    nics = [
        {"index": place + 1, "type": nic["type"], "vmnet": nic["vmnet"], "macAddress": vm.mac(place)}
        for place, nic in enumerate(vm.nics)
    ]
    return {"num": len(nics), "nics": nics}


def _place(vm: Machine, index: int) -> int:
    if not 1 <= index <= len(vm.nics):
        raise RefusedError(404, 9, "No such network adapter")
    return index - 1


def _vmnet(wanted: dict[str, str]) -> str:
    if wanted["type"] != "custom":
        return OF_TYPE[wanted["type"]]
    if wanted["vmnet"] not in NETWORKS:
        raise RefusedError(400, 10, "Network type invalid")
    return wanted["vmnet"]


def _held(world: Workstation, vmnet: str) -> dict[str, str]:
    if vmnet not in world.bindings:
        raise RefusedError(404, 11, "No such network with DHCP")
    return world.bindings[vmnet]


def _nat(vmnet: str) -> None:
    if NETWORKS.get(vmnet, ("",))[0] != "nat":
        raise RefusedError(404, 12, "No such NAT network")
