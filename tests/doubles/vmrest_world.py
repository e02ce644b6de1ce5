"""What a Workstation has: its library, files, networks, and the screens of what runs."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import PureWindowsPath
from typing import Any
from uuid import uuid4

from panel.engines.common.rfb import reply
from panel.engines.fake.screen import Screen

VMS, IMAGES = r"D:\VMs", r"D:\Images"
NETWORKS = {"vmnet0": ("bridged", "", ""), "vmnet1": ("hostOnly", "192.168.56.0", "255.255.255.0"),
            "vmnet8": ("nat", "192.168.77.0", "255.255.255.0")}  # fmt: skip
OF_TYPE = {"nat": "vmnet8", "bridged": "vmnet0", "hostonly": "vmnet1"}
FROM = {"off": {"poweredOn", "paused"}, "on": {"poweredOff", "suspended"}, "shutdown": {"poweredOn"},
        "suspend": {"poweredOn"}, "pause": {"poweredOn"}, "unpause": {"paused"}}  # fmt: skip
TO = {"off": "poweredOff", "on": "poweredOn", "suspend": "suspended", "pause": "paused", "unpause": "poweredOn"}


class RefusedError(Exception):
    """An answer of the vendor's kind: HTTP status, its number and its sentence."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass
class Machine:
    """A VM of the library."""

    id: str
    path: str
    params: dict[str, str] = field(default_factory=dict)
    nics: list[dict[str, str]] = field(default_factory=list)
    processors: int = 1
    memory: int = 512
    state: str = "poweredOff"
    tools: bool = True
    passwords: dict[str, str] = field(default_factory=lambda: {"root": "template", "Administrator": "template"})
    deaf: bool = False
    since: float = 0.0
    screen: asyncio.Server | None = None

    @property
    def name(self) -> str:
        return PureWindowsPath(self.path).stem

    @property
    def disk(self) -> str:
        return str(PureWindowsPath(self.path).with_suffix(".vmdk"))

    def mac(self, place: int) -> str:
        return self.params.get(f"ethernet{place}.address") or self.nics[place]["mac"]

    def seconds(self) -> float | None:
        return time.monotonic() - self.since if self.state == "poweredOn" else None


class Workstation:
    """One host. ``clone_seconds``, ``act_seconds``, ``boot_seconds``: what copies, power and the start of Tools take."""

    def __init__(self, *, clone_seconds: float = 0.02, act_seconds: float = 0.005, boot_seconds: float = 0.1) -> None:
        self.machines: dict[str, Machine] = {}
        self.files: set[str] = set()
        self.forwards: dict[tuple[str, str, int], dict[str, Any]] = {}
        self.bindings: dict[str, dict[str, str]] = {"vmnet1": {}, "vmnet8": {}}
        self.clone_seconds, self.act_seconds, self.boot_seconds = clone_seconds, act_seconds, boot_seconds
        self.forward_seconds = 0.0  # that a change of a forward takes

    def add(self, name: str, folder: str = IMAGES, *, tools: bool = True, guest: str = "debian12-64") -> Machine:
        """Put a VM into the library, as somebody at the host's screen does."""
        path = str(PureWindowsPath(folder, name, f"{name}.vmx"))
        params = {"displayName": name, "guestOS": guest}
        vm = Machine(uuid4().hex.upper(), path, params, [_nic("nat")], tools=tools)
        self.machines[vm.id] = vm
        self.files |= {vm.path, vm.disk}
        return vm

    def find(self, vm: str) -> Machine:
        if vm not in self.machines:
            raise RefusedError(404, 100, "The virtual machine cannot be found")
        return self.machines[vm]

    def stopped(self, vm: str) -> Machine:
        found = self.find(vm)
        if found.state != "poweredOff":
            raise RefusedError(409, 106, "The virtual machine needs to be powered off")
        return found

    async def clone(self, name: str, parent: str) -> Machine:
        source = self.stopped(parent)
        if not name or set(name) & set('<>:"/\\|?*'):
            raise RefusedError(400, 107, "Invalid VM name")
        self._free(name)
        await asyncio.sleep(self.clone_seconds)
        self._free(name)
        vm = self.add(name, VMS, tools=source.tools)
        vm.params = dict(source.params) | {"displayName": name}
        vm.nics = [_nic(nic["type"], nic["vmnet"]) for nic in source.nics]
        vm.passwords = dict(source.passwords)
        vm.processors, vm.memory = source.processors, source.memory
        return vm

    def _free(self, name: str) -> None:
        if any(vm.name.lower() == name.lower() for vm in self.machines.values()):
            raise RefusedError(409, 108, "The VM name exists already")

    async def delete(self, vm: str) -> None:
        found = self.stopped(vm)
        await asyncio.sleep(self.act_seconds)
        self.machines.pop(vm, None)
        self.files -= {found.path, found.disk}

    async def power(self, vm: str, operation: str) -> Machine:
        found = self.find(vm)
        if found.state not in FROM[operation]:
            raise RefusedError(409, 109, f"The virtual machine is in state {found.state}")
        await asyncio.sleep(self.act_seconds)
        if operation == "shutdown":
            if not found.tools:
                raise RefusedError(500, 110, "The VMware Tools are not running in the virtual machine")
            if not found.deaf:
                asyncio.get_running_loop().call_later(self.boot_seconds, self._fall, found)
            return found
        fresh = found.state == "poweredOff"
        found.state = TO[operation]
        if fresh:
            found.since = time.monotonic()
            found.deaf = False
        if found.state == "poweredOn" and found.screen is None:
            await self._show(found)
        elif found.state in {"poweredOff", "suspended"}:
            self._hide(found)
        return found

    def addresses(self, vm: Machine) -> list[dict[str, Any]]:
        """What Tools tell of a running VM."""
        if vm.state != "poweredOn":
            raise RefusedError(409, 111, "The virtual machine is not powered on")
        if not vm.tools or (vm.seconds() or 0) < self.boot_seconds:
            raise RefusedError(500, 112, "Unable to get the IP address: VMware Tools are not running")
        told = []
        for place in range(len(vm.nics)):
            mac = vm.mac(place)
            bound = self.bindings["vmnet8"].get(mac) or f"192.168.77.{128 + sum(mac.encode()) % 120}"  # by DHCP
            told.append({"mac": mac, "ip": [f"{bound}/24", "fe80::1/64"]})
        return told

    def is_guest(self, vmnet: str, ip: str) -> bool:
        """Whether an address is one of a network's."""
        _kind, subnet, mask = NETWORKS[vmnet]
        try:
            return IPv4Address(ip) in IPv4Network(f"{subnet}/{mask}")
        except ValueError:
            return False

    def bind(self, vmnet: str, mac: str, ip: str) -> None:
        """What DHCP gives ``mac``; nothing, when ``ip`` is empty."""
        held = self.bindings[vmnet]
        if not ip:
            held.pop(mac, None)
            return
        if not self.is_guest(vmnet, ip):
            raise RefusedError(400, 113, "The IP address is not valid for the network")
        if any(other != mac and address == ip for other, address in held.items()):
            raise RefusedError(409, 114, "The IP address is in use")
        held[mac] = ip

    def close(self) -> None:
        for vm in self.machines.values():
            self._hide(vm)

    def _fall(self, vm: Machine) -> None:
        if vm.state == "poweredOn":
            vm.state = "poweredOff"
            self._hide(vm)

    async def _show(self, vm: Machine) -> None:
        """Serve the VM's screen as its settings say."""
        if vm.params.get("RemoteDisplay.vnc.enabled", "").upper() != "TRUE":
            return

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, asyncio.IncompleteReadError):
                if await _admits(reader, writer, vm.params.get("RemoteDisplay.vnc.password", "")):
                    await _Greeted(vm.name, vm.seconds).serve(reader, writer)
            writer.close()

        with suppress(OSError):  # somebody else has the port: Workstation then runs the VM without a screen
            vm.screen = await asyncio.start_server(serve, "127.0.0.1", int(vm.params["RemoteDisplay.vnc.port"]))

    def _hide(self, vm: Machine) -> None:
        if vm.screen is not None:
            vm.screen.close()
            vm.screen = None


class _Greeted(Screen):
    """The fake engine's screen, for a viewer that has given its password."""

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._begin(reader, writer)


async def _admits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, password: str) -> bool:
    """RFC 6143, 7.1 and 7.2.2."""
    writer.write(b"RFB 003.008\n")
    await reader.readexactly(12)
    writer.write(b"\x01\x02")
    if await reader.readexactly(1) != b"\x02":
        return False
    challenge = random.randbytes(16)
    writer.write(challenge)
    right = await reader.readexactly(16) == reply(password, challenge)
    writer.write(bytes(4) if right else b"\0\0\0\x01\0\0\0\x06denied")
    await writer.drain()
    return right


def _nic(kind: str, vmnet: str = "") -> dict[str, str]:
    mac = "00:0c:29" + "".join(f":{random.randrange(256):02x}" for _unused in range(3))
    return {"type": kind, "vmnet": vmnet or OF_TYPE.get(kind, ""), "mac": mac}
