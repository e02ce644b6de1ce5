"""The API of Proxmox VE (8 and 9) over a ``Cluster``: tickets, tokens, parameters, tasks, screens."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from quart import Quart, Response, jsonify, request

from tests.doubles import pve_images, pve_snapshots
from tests.doubles.pve_consoles import Opened, upgraded
from tests.doubles.pve_makers import make_container, make_vm
from tests.doubles.pve_schemas import OPERATIONS, check
from tests.doubles.pve_world import GIB, MAC, NODES, Cluster, Machine, RefusedError, Task, resource

API = "/api2/json"
VM = "/nodes/{node}/qemu/{vmid}"
CT = "/nodes/{node}/lxc/{vmid}"
SOCKETS = (f"GET {VM}/vncwebsocket", f"GET {CT}/vncwebsocket")
RIGHTS = ("VM.Audit", "VM.Allocate", "VM.Clone", "VM.Console", "VM.PowerMgmt", "VM.Config.CPU", "VM.Config.Memory",
          "VM.Config.Disk", "VM.Config.Network", "VM.Config.Options", "VM.Config.Cloudinit", "VM.Config.HWType", "VM.Snapshot",
          "Datastore.AllocateSpace", "Datastore.Audit", "Sys.Audit", "SDN.Use", "VM.GuestAgent.Unrestricted",
          "VM.GuestAgent.Audit")  # fmt: skip

Given = dict[str, str]
Handler = Callable[[Given], Any]


@dataclass
class Door:
    """Who may in. ``missing``: rights that the login lacks. ``tickets``: those that hold, with their CSRF tokens."""

    user: str
    password: str
    token: str = ""
    missing: set[str] = field(default_factory=set)
    tickets: dict[str, str] = field(default_factory=dict)
    consoles: dict[str, Opened] = field(default_factory=dict)

    def enter(self, headers: Any, cookies: Any, method: str) -> None:
        """Refuses whom the vendor refuses."""
        given = headers.get("Authorization", "")
        if given.startswith("PVEAPIToken="):
            if not self.token or given.removeprefix("PVEAPIToken=") != self.token:
                raise RefusedError(401, "invalid token value!")
            return
        ticket = unquote(cookies.get("PVEAuthCookie", ""))
        if not ticket:
            raise RefusedError(401, "No ticket")
        if ticket not in self.tickets:
            raise RefusedError(401, "permission denied - invalid PVE ticket")
        if method != "GET" and headers.get("CSRFPreventionToken") != self.tickets[ticket]:
            raise RefusedError(401, "Permission denied - invalid csrf token")

    def need(self, path: str, right: str) -> None:
        """The vendor's check of a right."""
        if right in self.missing:
            raise RefusedError(403, f"Permission check failed ({path}, {right})")


def pve(world: Cluster, door: Door) -> Quart:
    """The server, as an ASGI application."""
    app = Quart(__name__)
    served = _Api(world, door)
    table: dict[str, Handler] = served.table()
    assert table.keys() | set(SOCKETS) == OPERATIONS.keys()

    async def answer(operation: str, handler: Handler, parts: Given) -> Response:
        if operation != "POST /access/ticket":
            door.enter(request.headers, request.cookies, request.method)
        sent = await request.get_json() if request.is_json else dict(await request.form)
        given = {name: _text(value) for name, value in {**dict(request.args), **(sent or {})}.items()} | parts
        check(operation, given)
        return jsonify({"data": handler(given | {"kind": kind_of(operation)})})

    for operation, handler in table.items():
        method, _blank, path = operation.partition(" ")
        rule = API + path.replace("{volume}", "<path:volume>").replace("{", "<").replace("}", ">")

        async def view(operation: str = operation, handler: Handler = handler, **parts: str) -> Response:
            return await answer(operation, handler, parts)

        app.add_url_rule(rule, operation, view, methods=[method])

    @app.errorhandler(RefusedError)
    async def refused(error: RefusedError) -> tuple[Response, int]:
        body: dict[str, Any] = {"data": None, "message": error.message}
        return jsonify(body | ({"errors": error.errors} if error.errors else {})), error.status

    @app.errorhandler(404)
    async def unknown(_error: Exception) -> tuple[Response, int]:
        return jsonify({"data": None, "message": f"Method '{request.method} {request.path}' not implemented"}), 501

    for operation in SOCKETS:
        rule = API + operation.partition(" ")[2].replace("{", "<").replace("}", ">")

        async def console(operation: str = operation, **parts: str) -> tuple[str, int] | None:
            return await upgraded(world, door, operation, parts | {"kind": kind_of(operation)})

        app.add_websocket(rule, operation, console)

    return app


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def kind_of(operation: str) -> str:
    """``lxc`` for the operations of containers."""
    return "lxc" if "/lxc" in operation else "qemu"


class _Api:
    """The operations."""

    def __init__(self, world: Cluster, door: Door) -> None:
        self.world, self.door = world, door

    def table(self) -> dict[str, Handler]:
        """By method and path."""
        found: dict[str, Handler] = {
            "POST /access/ticket": self.ticket,
            "GET /access/permissions": lambda _given: {"/": dict.fromkeys(set(RIGHTS) - self.door.missing, 1)},
            "GET /version": lambda _given: {"version": "8.4.1", "release": "8.4", "repoid": "2a5fa54a8503f96d"},
            "GET /cluster/resources": self.resources,
            "GET /cluster/nextid": lambda given: str(given.get("vmid") or self.world.next_id()),
            "GET /nodes/{node}/status": self.node_status,
            "GET /nodes/{node}/network": lambda given: self.world.bridge_lines(given["node"]),
            f"POST {VM}/clone": self.clone,
            f"POST {VM}/agent/ping": lambda given: self.agent(given) and {"result": {}},
            f"GET {VM}/agent/network-get-interfaces": lambda given: {"result": self.addresses(self.agent(given))},
            f"POST {VM}/agent/set-user-password": self.set_password,
            f"GET {CT}/interfaces": self.interfaces,
            "GET /nodes/{node}/storage/{storage}/content": self.content,
            "POST /nodes/{node}/storage/{storage}/download-url": self.download,
            "DELETE /nodes/{node}/storage/{storage}/content/{volume}": self.remove_file,
            "DELETE /nodes/{node}/tasks/{upid}": self.end_task,
            "GET /nodes/{node}/tasks/{upid}/log": self.task_log,
            "GET /nodes/{node}/tasks/{upid}/status": self.task_status,
        }
        for path, kind in ((VM, "qemu"), (CT, "lxc")):
            found |= {
                f"GET /nodes/{{node}}/{kind}": self.of_node,
                f"POST /nodes/{{node}}/{kind}": self.create,
                f"GET {path}/config": self.config,
                f"PUT {path}/config": self.change,
                f"DELETE {path}": self.delete,
                f"PUT {path}/resize": self.resize,
                f"GET {path}/status/current": lambda given: current(self.find(given)),
                f"POST {path}/vncproxy": self.vncproxy,
                f"POST {path}/termproxy": self.termproxy,
                f"GET {path}/snapshot": lambda given: pve_snapshots.listed(self.find(given)),
                f"POST {path}/snapshot": self.take_snapshot,
                f"DELETE {path}/snapshot/{{snapname}}": self.remove_snapshot,
                f"POST {path}/snapshot/{{snapname}}/rollback": self.roll_back,
            }
            for word in ("start", "stop", "shutdown", *(("suspend", "resume", "reset") if kind == "qemu" else ())):
                found[f"POST {path}/status/{word}"] = lambda given, word=word: self.power(given, word)
        return found

    def find(self, given: Given) -> Machine:
        return self.world.find(given["node"], given["vmid"], given["kind"])

    def unlocked(self, given: Given) -> Machine:
        return self.world.unlocked(given["node"], given["vmid"], given["kind"])

    def of_node(self, given: Given) -> list[dict[str, Any]]:
        return [current(vm) for vm in self.vms() if (vm.node, vm.kind) == (given["node"], given["kind"])]

    def vms(self) -> list[Machine]:
        return list(self.world.machines.values()) if "VM.Audit" not in self.door.missing else []

    def ticket(self, given: Given) -> dict[str, str]:
        if (given["username"], given["password"]) != (self.door.user, self.door.password):
            raise RefusedError(401, "authentication failure")
        ticket = f"PVE:{self.door.user}:{int(time.time()):08X}::{secrets.token_urlsafe(32)}=="
        self.door.tickets[ticket] = f"{int(time.time()):08X}:{secrets.token_urlsafe(16)}"
        return {"ticket": ticket, "CSRFPreventionToken": self.door.tickets[ticket], "username": self.door.user}

    def resources(self, given: Given) -> list[dict[str, Any]]:
        found = [resource(vm) for vm in self.vms()]
        for node in NODES:
            load = {"cpu": 0.1, "maxcpu": 4, "mem": 4 * GIB, "maxmem": 16 * GIB, "disk": 5 * GIB, "maxdisk": 50 * GIB}
            found.append({"id": f"node/{node}", "type": "node", "node": node, "status": "online", **load})
            found.append({"id": f"storage/{node}/local", "type": "storage", "storage": "local", "node": node,
                          "status": "available", "content": "iso,vztmpl,import,snippets", "plugintype": "dir", "shared": 0,
                          "disk": GIB, "maxdisk": 50 * GIB})  # fmt: skip
            found.append({"id": f"storage/{node}/local-lvm", "type": "storage", "storage": "local-lvm", "node": node,
                          "status": "available", "content": "images,rootdir", "plugintype": "lvmthin", "shared": 0,
                          "disk": 10 * GIB, "maxdisk": 100 * GIB})  # fmt: skip
        kinds = {"vm": {"qemu", "lxc"}}.get(given.get("type", ""), {given.get("type", "")})
        return [one for one in found if "type" not in given or one["type"] in kinds]

    def node_status(self, given: Given) -> dict[str, Any]:
        self.door.need(f"/nodes/{given['node']}", "Sys.Audit")
        disk = {"total": 100 * GIB, "used": 10 * GIB, "free": 90 * GIB, "avail": 90 * GIB}
        return {
            "boot-info": {"mode": "efi", "secureboot": 0},
            "cpu": 0.1,
            "cpuinfo": {"cpus": 4, "cores": 4, "sockets": 1, "model": "A processor"},
            "current-kernel": {"machine": "x86_64", "release": "6.8.12-4-pve", "sysname": "Linux", "version": "#1 SMP"},
            "loadavg": ["0.10", "0.12", "0.09"],
            "memory": {"total": 16 * GIB, "used": 4 * GIB, "free": 12 * GIB, "available": 12 * GIB},
            "pveversion": "pve-manager/8.3.0/c1689ccb1065a83b",
            "rootfs": disk,
        }

    def config(self, given: Given) -> dict[str, Any]:
        self.door.need(f"/vms/{given['vmid']}", "VM.Audit")
        vm = self.find(given)
        shown: dict[str, Any] = vm.config | ({} if given.get("current") == "1" else vm.pending)
        shown = {
            key: int(value) if key in {"cores", "template", "unprivileged"} else value for key, value in shown.items()
        }
        return shown | ({"cipassword": "**********"} if "cipassword" in shown else {}) | {"digest": "0" * 40}

    def change(self, given: Given) -> None:
        vm = self.unlocked(given)
        self.door.need(f"/vms/{vm.vmid}", "VM.Config.Options")
        self.world.change(vm, {key: value for key, value in given.items() if key not in {"node", "vmid", "kind"}})

    def clone(self, given: Given) -> str:
        self.door.need(f"/vms/{given['vmid']}", "VM.Clone")
        self.door.need(f"/vms/{given['newid']}", "VM.Allocate")
        vm = self.unlocked(given)
        return self.world.clone(vm, int(given["newid"]), given, self.door.user)

    def create(self, given: Given) -> str:
        """A new VM or container; its disk is made by a task."""
        self.door.need(f"/vms/{given['vmid']}", "VM.Allocate")
        self.door.need("/storage", "Datastore.AllocateSpace")
        wanted = {key: value for key, value in given.items() if key not in {"node", "vmid", "kind"}}
        make = make_container if given["kind"] == "lxc" else make_vm
        return make(self.world, given["node"], int(given["vmid"]), wanted, self.door.user)

    def take_snapshot(self, given: Given) -> str:
        vm = self.snapshotted(given)
        return pve_snapshots.take(self.world, vm, given["snapname"], given.get("description", ""), self.door.user)

    def remove_snapshot(self, given: Given) -> str:
        return pve_snapshots.remove(self.world, self.snapshotted(given), given["snapname"], self.door.user)

    def roll_back(self, given: Given) -> str:
        vm, start = self.snapshotted(given), given.get("start") == "1"
        return pve_snapshots.roll_back(self.world, vm, given["snapname"], self.door.user, start=start)

    def snapshotted(self, given: Given) -> Machine:
        self.door.need(f"/vms/{given['vmid']}", "VM.Snapshot")
        return self.unlocked(given)

    def content(self, given: Given) -> list[dict[str, Any]]:
        self.door.need(f"/storage/{given['storage']}", "Datastore.Audit")
        files = [
            (volume, size) for volume, size in self.world.files.items() if volume.startswith(given["storage"] + ":")
        ]
        kinds = {"vztmpl": "tzst", "import": "qcow2", "iso": "iso"}
        listed = [(volume, size, volume.partition(":")[2].partition("/")[0]) for volume, size in files]
        return [{"volid": volume, "size": size, "format": kinds[what], "ctime": 1700000000, "content": what}
                for volume, size, what in listed if given.get("content", what) == what]  # fmt: skip

    def download(self, given: Given) -> str:
        self.door.need(f"/storage/{given['storage']}", "Datastore.AllocateTemplate")
        return pve_images.download(self.world, given["node"], given["storage"], given, self.door.user)

    def remove_file(self, given: Given) -> str:
        self.door.need(f"/storage/{given['storage']}", "Datastore.Allocate")
        return pve_images.remove(self.world, given["node"], given["volume"], self.door.user)

    def delete(self, given: Given) -> str:
        self.door.need(f"/vms/{given['vmid']}", "VM.Allocate")
        vm = self.unlocked(given)
        if vm.status == "running":
            raise RefusedError(500, vm.running_sentence())
        return self.world.act(vm, f"{vm.prefix}destroy", self.door.user, lambda: self.world.destroy(vm))

    def resize(self, given: Given) -> str:
        vm = self.unlocked(given)
        self.door.need(f"/vms/{vm.vmid}", "VM.Config.Disk")
        drive, size = given["disk"], given["size"]
        return self.world.act(vm, "resize", self.door.user, lambda: self.world.resize(vm, drive, size))

    def power(self, given: Given, word: str) -> str:
        vm = self.unlocked(given)
        self.door.need(f"/vms/{vm.vmid}", "VM.PowerMgmt")
        if word not in {"start", "stop"} and vm.status != "running":
            raise RefusedError(500, f"{vm.called} {vm.vmid} not running\n")
        if word == "shutdown":
            seconds = float(given.get("timeout", "60"))
            return self.world.begin(vm.node, f"{vm.prefix}shutdown", vm.vmid, self.door.user,
                                    lambda task: self.world.shutdown(vm, seconds, task))  # fmt: skip
        acts: dict[str, Callable[[], None]] = {
            "start": lambda: self.world.start(vm),
            "stop": lambda: self.world.stop(vm),
            "suspend": lambda: setattr(vm, "paused", True),
            "resume": lambda: setattr(vm, "paused", False),
            "reset": lambda: setattr(vm, "since", time.monotonic()),
        }
        return self.world.act(vm, f"{vm.prefix}{word}", self.door.user, acts[word])

    def vncproxy(self, given: Given) -> dict[str, Any]:
        return self.proxy(given, "vncproxy") | {"cert": ""}

    def termproxy(self, given: Given) -> dict[str, Any]:
        vm = self.find(given)
        if vm.kind == "lxc":
            return self.proxy(given, "termproxy")
        serial = given.get("serial") or (vm.config.get("vga") if vm.config.get("vga", "").startswith("serial") else "")
        if not serial or serial not in vm.config:
            raise RefusedError(500, "unable to find a serial interface\n")
        return self.proxy(given, "termproxy")

    def proxy(self, given: Given, kind: str) -> dict[str, Any]:
        """What listens on the node for one viewer."""
        vm = self.find(given)
        self.door.need(f"/vms/{vm.vmid}", "VM.Console")
        ticket = f"PVEVNC:{int(time.time()):08X}::{secrets.token_urlsafe(32)}=="
        port = 5900 + len(self.door.consoles) % 100
        user = self.door.token.partition("=")[0] if self.door.token else self.door.user
        self.door.consoles[ticket] = Opened(port, kind, user, vm.vmid)
        upid = self.world.act(vm, kind, self.door.user, lambda: None)
        return {"user": user, "ticket": ticket, "port": str(port), "upid": upid}

    def agent(self, given: Given) -> Machine:
        vm = self.find(given)
        self.door.need(f"/vms/{vm.vmid}", "VM.GuestAgent.Unrestricted")
        self.world.answers(vm)
        return vm

    def interfaces(self, given: Given) -> list[dict[str, Any]] | None:
        """Of a container, as its node sees them; nothing of one that is off."""
        vm = self.find(given)
        self.door.need(f"/vms/{vm.vmid}", "VM.Audit")
        if vm.status != "running":
            return None
        found = self.addresses(vm)
        return [one | {"hwaddr": one["hardware-address"]} for one in found]

    def addresses(self, vm: Machine) -> list[dict[str, Any]]:
        nets = [vm.config[key] for key in sorted(vm.config) if key.startswith("net")]
        macs = [MAC.search(net)[0].lower() for net in nets]  # type: ignore[index]
        found = [{"name": "lo", "hardware-address": "00:00:00:00:00:00",
                  "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}]}]  # fmt: skip
        for place, one in enumerate(macs):
            asked = nets[place] if vm.kind == "lxc" else vm.config.get(f"ipconfig{place}", "ip=dhcp")
            told = dict(part.partition("=")[::2] for part in asked.split(",")).get("ip", "dhcp")
            lent = self.world.leases.get(one) or f"10.0.{place}.{sum(one.encode()) % 250 + 2}"
            address = lent if told == "dhcp" else told.partition("/")[0]
            addresses = [{"ip-address": address, "ip-address-type": "ipv4", "prefix": 24},
                         {"ip-address": "fe80::1", "ip-address-type": "ipv6", "prefix": 64}]  # fmt: skip
            found.append({"name": f"eth{place}", "hardware-address": one, "ip-addresses": addresses})
        return found

    def set_password(self, given: Given) -> dict[str, Any]:
        self.agent(given).passwords[given["username"]] = given["password"]
        return {"result": {}}

    def task(self, given: Given) -> Task:
        found = self.world.tasks.get(given["upid"])
        if found is None or found.node != given["node"]:
            raise RefusedError(500, "no such task\n")
        return found

    def end_task(self, given: Given) -> None:
        found = self.task(given)
        if found.work is not None:
            found.work.cancel()

    def task_log(self, given: Given) -> list[dict[str, Any]]:
        start, limit = int(given.get("start", "0")), int(given.get("limit", "50"))
        lines = list(enumerate(self.task(given).log, 1))[start : start + limit]
        return [{"n": number, "t": text} for number, text in lines] or [{"n": 1, "t": "no content"}][: not start]

    def task_status(self, given: Given) -> dict[str, Any]:
        found = self.task(given)
        _word, node, _pid, _start, began, kind, vmid, user, _end = found.upid.split(":")
        seen = {"upid": found.upid, "node": node, "type": kind, "id": vmid, "user": user, "starttime": int(began, 16),
                "pid": 1, "pstart": 1, "status": "stopped" if found.exit else "running"}  # fmt: skip
        return seen | ({"exitstatus": found.exit} if found.exit else {})


def current(vm: Machine) -> dict[str, Any]:
    """A VM as ``status/current`` has it."""
    names = {"id", "type", "node", "maxcpu"}
    seen = {key: value for key, value in resource(vm).items() if key not in names}
    if vm.kind == "lxc":
        return seen | {"cpus": int(vm.config.get("cores", "1")), "ha": {"managed": 0}}
    qmp = ("paused" if vm.paused else "running") if vm.status == "running" else "stopped"
    return seen | {"cpus": int(vm.config.get("cores", "1")), "qmpstatus": qmp, "ha": {"managed": 0}}
