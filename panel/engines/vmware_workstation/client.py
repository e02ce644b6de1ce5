"""The REST API of VMware Workstation (``vmrest``, 1.3). The only place that sees its errors.

Source of paths, fields and status codes: the vendor's OpenAPI document "VMware Fusion REST API 1.3.1".
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from panel.engines.common.http import Answer, HttpHost, split_address
from panel.engines.common.ssh import short
from panel.engines.types import HostConnection
from panel.errors import Conflict, EngineFailure, InvalidInput, NotFound, PanelError
from panel.i18n import gettext_noop as _

MEDIA_TYPE = "application/vnd.vmware.vmw.rest-v1+json"
PORT = 8697
CLONE_SECONDS = 1700.0
CHANGE_SECONDS = 60.0
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Listed:
    """A VM of the host's library: the vendor's own id, and its ``.vmx`` file."""

    id: str
    path: str


@dataclass(frozen=True, slots=True)
class VmNet:
    """A virtual network. ``type``: ``nat``, ``bridged`` or ``hostOnly``. ``subnet`` None: it has none that makes sense."""

    name: str
    type: str
    dhcp: bool
    subnet: IPv4Network | None


@dataclass(frozen=True, slots=True)
class VmForward:
    """A port that a NAT network leads to a guest."""

    protocol: str
    port: int
    address: str
    target_port: int
    description: str = ""


def base_url(address: str) -> str:
    """Where the API is. Without a scheme: TLS, but for this machine, where vmrest has none of its own."""
    bare = address.strip().rpartition("@")[2].partition("/")[0]
    name = bare if bare.count(":") > 1 else bare.partition(":")[0]
    return split_address(address, PORT, scheme="http" if name.strip("[]") in LOOPBACK else "https")


class Client:
    """vmrest of one host. Every method raises what ``HttpHost.ask`` does, and:

    NotFound: no such VM. Conflict: its state forbids it. EngineFailure: anything else that vmrest refuses, with its reason.
    """

    def __init__(self, connection: HostConnection) -> None:
        base = base_url(connection.address)
        self.host = urlsplit(base).hostname or ""
        self.port = urlsplit(base).port or PORT
        self.address = urlsplit(base).netloc.lower()
        self.plain = base.startswith("http:") and self.host not in LOOPBACK
        self._http = HttpHost(
            f"{base}/api",
            fingerprint=connection.options.get("fingerprint", ""),
            auth=(connection.user, connection.secret),
            headers={"Accept": MEDIA_TYPE},
        )

    async def close(self) -> None:
        """Disconnect. Never raises."""
        await self._http.close()

    async def vms(self) -> list[Listed]:
        """The host's library."""
        found = await self._ask("GET", "/vms")
        return [Listed(str(item["id"]), str(item["path"])) for item in _list(found)]

    async def settings(self, vm: str) -> dict[str, Any]:
        """CPUs, memory, interfaces and VNC of a VM (the vendor's "restrictions")."""
        return _dict(await self._ask("GET", f"/vms/{quote(vm, safe='')}/restrictions"))

    async def power_state(self, vm: str) -> str:
        """``poweredOn``, ``poweredOff``, ``paused`` or ``suspended``."""
        return str(_dict(await self._ask("GET", f"/vms/{quote(vm, safe='')}/power")).get("power_state", ""))

    async def power(self, vm: str, operation: str) -> None:
        """``on``, ``off``, ``shutdown``, ``suspend``, ``pause``, ``unpause``: a bare word, as the vendor has it."""
        await self._ask("PUT", f"/vms/{quote(vm, safe='')}/power", operation.encode(), CHANGE_SECONDS)

    async def clone(self, name: str, parent: str) -> str:
        """Copy a VM; returns the copy's id."""
        body = {"name": name, "parentId": parent}
        return str(_dict(await self._ask("POST", "/vms", orjson.dumps(body), CLONE_SECONDS))["id"])

    async def resize(self, vm: str, cpu_count: int | None, memory_mib: int | None) -> None:
        """Change a stopped VM; None leaves it."""
        body = {"processors": cpu_count, "memory": memory_mib}
        await self._put(
            f"/vms/{quote(vm, safe='')}", {name: value for name, value in body.items() if value is not None}
        )

    async def delete(self, vm: str) -> None:
        """Remove a stopped VM and all its files."""
        await self._ask("DELETE", f"/vms/{quote(vm, safe='')}", seconds=CLONE_SECONDS)

    async def param(self, vm: str, name: str) -> str:
        """A line of the VM's ``.vmx``; empty when it is not there."""
        try:
            found = await self._ask("GET", f"/vms/{quote(vm, safe='')}/params/{quote(name, safe='')}")
        except NotFound:
            return ""
        return str(_dict(found).get("value") or "")

    async def set_param(self, vm: str, name: str, value: str) -> None:
        """Write a line of a stopped VM's ``.vmx``."""
        await self._put(f"/vms/{quote(vm, safe='')}/params", {"name": name, "value": value})

    async def nics(self, vm: str) -> list[dict[str, Any]]:
        """A VM's interfaces, by index."""
        found = _dict(await self._ask("GET", f"/vms/{quote(vm, safe='')}/nic"))
        return sorted(_list(found.get("nics")), key=lambda nic: int(nic["index"]))

    async def add_nic(self, vm: str, kind: str, network: str) -> None:
        """Add an interface to a stopped VM."""
        body = orjson.dumps({"type": kind, "vmnet": network})
        await self._ask("POST", f"/vms/{quote(vm, safe='')}/nic", body, CHANGE_SECONDS)

    async def change_nic(self, vm: str, index: int, kind: str, network: str) -> None:
        """Connect an interface of a stopped VM otherwise."""
        await self._put(f"/vms/{quote(vm, safe='')}/nic/{index}", {"type": kind, "vmnet": network})

    async def remove_nic(self, vm: str, index: int) -> None:
        """Take an interface from a stopped VM."""
        await self._ask("DELETE", f"/vms/{quote(vm, safe='')}/nic/{index}", seconds=CHANGE_SECONDS)

    async def guest_addresses(self, vm: str) -> dict[str, tuple[str, ...]] | None:
        """Addresses by MAC as VMware Tools tell them; None when no Tools answer."""
        try:
            found = _dict(await self._ask("GET", f"/vms/{quote(vm, safe='')}/nicips"))
        except (Conflict, EngineFailure):
            return None
        return {
            str(nic["mac"]).lower(): tuple(str(text).partition("/")[0] for text in nic.get("ip") or ())
            for nic in _list(found.get("nics"))
        }

    async def networks(self) -> list[VmNet]:
        """All virtual networks."""
        found = _dict(await self._ask("GET", "/vmnet"))
        return [
            VmNet(
                str(item["name"]),
                str(item.get("type", "")),
                str(item.get("dhcp", "")).lower() == "true",
                _subnet(str(item.get("subnet", "")), str(item.get("mask", ""))),
            )
            for item in _list(found.get("vmnets"))
        ]

    async def nat_networks(self) -> list[str]:
        """The names of the NAT networks."""
        return [network.name for network in await self.networks() if network.type == "nat"]

    async def bindings(self, network: str) -> dict[str, str]:
        """The addresses that DHCP keeps, by MAC."""
        found = _dict(await self._ask("GET", f"/vmnet/{quote(network, safe='')}/mactoip"))
        return {str(item["mac"]).lower(): str(item["ip"]) for item in _list(found.get("mactoips"))}

    async def bind(self, network: str, mac: str, address: str) -> None:
        """Let DHCP give ``mac`` the address; an empty one removes the binding (so the vendor's document)."""
        await self._put(f"/vmnet/{quote(network, safe='')}/mactoip/{quote(mac, safe='')}", {"IP": address})

    async def forwards(self, network: str) -> list[VmForward]:
        """The ports that a NAT network leads to guests."""
        found = _dict(await self._ask("GET", f"/vmnet/{quote(network, safe='')}/portforward"))
        rows = [(item, _dict(item.get("guest"))) for item in _list(found.get("port_forwardings"))]
        return [
            VmForward(
                str(item["protocol"]).lower(), _port(item["port"]), str(guest.get("ip", "")), _port(guest.get("port")),
                str(item.get("desc") or ""),
            )
            for item, guest in rows
        ]  # fmt: skip

    async def forward(self, network: str, wanted: VmForward) -> None:
        """Lead a port to a guest, whoever had it."""
        body = {"guestIp": wanted.address, "guestPort": wanted.target_port, "desc": wanted.description}
        await self._put(f"/vmnet/{quote(network, safe='')}/portforward/{wanted.protocol}/{wanted.port}", body)

    async def unforward(self, network: str, protocol: str, port: int) -> None:
        """Lead it nowhere."""
        path = f"/vmnet/{quote(network, safe='')}/portforward/{protocol}/{port}"
        await self._ask("DELETE", path, seconds=CHANGE_SECONDS)

    async def _put(self, path: str, body: dict[str, Any]) -> None:
        await self._ask("PUT", path, orjson.dumps(body), CHANGE_SECONDS)

    async def _ask(self, method: str, path: str, body: bytes | None = None, seconds: float = 15.0) -> Any:
        headers = {} if body is None else {"Content-Type": MEDIA_TYPE}
        answer = await self._http.ask(method, path, content=body, headers=headers, seconds=seconds)
        if not answer.ok:
            raise self._refusal(answer)
        return answer.json() if answer.body else None

    def _refusal(self, answer: Answer) -> PanelError:
        """What vmrest refuses, in our words."""
        reason = _reason(answer)
        if answer.status == 404:
            return NotFound(
                _("Host {host} has no such VM, network or setting: {reason}"), host=answer.host, reason=reason
            )
        if answer.status == 409:
            return Conflict(_("Host {host} refuses that now: {reason}"), host=answer.host, reason=reason)
        if answer.status == 406:
            return EngineFailure(
                _("Host {host} does not take what the panel sends. It needs vmrest 1.3 or newer (Workstation 17)."),
                host=answer.host,
            )
        return EngineFailure(
            _("VMware Workstation on host {host} failed: {reason}. Look at vmrest's own window or log."),
            host=answer.host,
            reason=reason,
        )


def _reason(answer: Answer) -> str:
    """The vendor's sentence; its document and its servers spell the field differently."""
    try:
        found = orjson.loads(answer.body)
        return short(str(found.get("message") or found.get("Message") or f"HTTP {answer.status}"))
    except (ValueError, AttributeError):
        return f"HTTP {answer.status}"


def _dict(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _subnet(subnet: str, mask: str) -> IPv4Network | None:
    try:
        return IPv4Network(f"{subnet}/{mask}")
    except ValueError:
        return None


def _port(value: Any) -> int:
    """A port; the vendor's document has them as 16 bits with a sign."""
    return int(value or 0) & 0xFFFF


def _list(found: Any) -> list[dict[str, Any]]:
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def packed(title: str) -> str:
    """Any title as a line of a ``.vmx``, which has no way to write every character. ``InvalidInput`` for half a character."""
    try:
        return base64.b64encode(title.encode()).decode()
    except UnicodeEncodeError:
        raise InvalidInput(_("A title must be text: this one has half a character."), field="vm_name") from None


def unpacked(line: str) -> str:
    """A title from its line; empty when somebody has spoiled it."""
    try:
        return base64.b64decode(line, validate=True).decode()
    except ValueError:
        return ""
