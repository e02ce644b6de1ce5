"""Looking: one call for the cluster and one for each node; configurations and guests' addresses are kept for a while."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from panel.engines.proxmox.carrier import Carrier
from panel.engines.proxmox.client import Client, vm_path
from panel.engines.proxmox.config import (
    Addresses,
    Config,
    Mark,
    agent_on,
    boot_disk,
    cores_of,
    disks,
    gib,
    is_container,
    mark_of,
    memory_of,
    nets,
    nic,
)
from panel.engines.types import NicMode, NicObservation, PowerState, Snapshot, VmObservation
from panel.errors import Conflict, EngineFailure, EngineTimeout, HostUnreachable, NotFound
from panel.i18n import gettext_noop as _

CONFIG_SECONDS = 300.0
ADDRESS_SECONDS = 60.0
GUESTS_AT_ONCE = 3  # questions to agents in flight: one that hangs holds its question for seconds
GUESTS_PER_ROUND = 30
KINDS = ("qemu", "lxc")
HERE = "current"  # in a list of snapshots: the VM itself
UNFINISHED = frozenset({"clone", "create"})
PAUSED = frozenset({"paused", "suspended", "prelaunch"})
CRASHED = frozenset({"internal-error", "guest-panicked", "io-error"})


@dataclass(frozen=True, slots=True)
class Found:
    """A VM of the cluster: its line of ``/cluster/resources``, its configuration, and the panel's mark in it."""

    vmid: int
    node: str
    line: dict[str, Any]
    config: Config
    mark: Mark | None

    @property
    def ref(self) -> str:
        """What the panel calls it: its own choice, or the number of what others made."""
        return self.mark.ref if self.mark and self.mark.ref else str(self.vmid)

    @property
    def managed(self) -> bool:
        """Whether the panel made it."""
        return bool(self.mark and self.mark.ref)

    @property
    def vendors_name(self) -> str:
        """As Proxmox has it."""
        return str(
            self.config.get("hostname" if self.container else "name")
            or f"{'CT' if self.container else 'VM'}-{self.vmid}"
        )

    @property
    def container(self) -> bool:
        """Whether it is a container (LXC)."""
        return is_container(self.config)

    @property
    def kind(self) -> str:
        """As paths have it: ``qemu`` or ``lxc``."""
        return str(self.line.get("type") or "qemu")

    def port(self, key: str) -> str:
        """The node's end of the interface ``net0`` and so on, as Proxmox names it (PVE::QemuServer, PVE::LXC)."""
        return f"{'veth' if self.container else 'tap'}{self.vmid}i{key.removeprefix('net')}"

    def path(self, tail: str = "") -> str:
        """Below the API's base."""
        return vm_path(self.node, self.vmid, tail, kind=self.kind)


class Viewer:
    """Reads the VMs of a cluster, or of one ``node`` of it."""

    def __init__(self, client: Client, node: str, nat_bridge: str, carrier: Carrier | None = None) -> None:
        self._client, self._node, self._nat_bridge, self._carrier = client, node, nat_bridge, carrier
        self._configs: dict[int, tuple[float, tuple[Any, ...], Config]] = {}
        self._snapshots: dict[int, tuple[Snapshot, ...]] = {}
        self._told: dict[int, tuple[float, Addresses | None]] = {}
        self._guests = asyncio.Semaphore(GUESTS_AT_ONCE)

    def forget(self, vmid: int) -> None:
        """Read it anew next time: we have changed it."""
        self._configs.pop(vmid, None)
        self._told.pop(vmid, None)

    async def resources(self, kind: str = "") -> list[dict[str, Any]]:
        """``/cluster/resources``, of our node when there is one."""
        found = await self._client.get("/cluster/resources", {"type": kind} if kind else None)
        lines = [line for line in found or [] if isinstance(line, dict)]
        return [line for line in lines if not self._node or line.get("node") == self._node]

    async def library(self) -> list[Found]:
        """All VMs and templates. One that goes away meanwhile, or is not finished, is left out."""
        lines = [line for line in await self.resources("vm") if line.get("type") in KINDS]
        for vmid in self._configs.keys() - {int(line["vmid"]) for line in lines}:
            self.forget(vmid)
            self._snapshots.pop(vmid, None)
        lines = [line for line in lines if line.get("lock") not in UNFINISHED]
        seen = await asyncio.gather(*map(self._found, lines), return_exceptions=True)
        found = [one for one in map(unless_gone, seen) if one is not None]
        return [one for one in found if one.config.get("lock") not in UNFINISHED]

    async def one(self, ref: str) -> Found:
        """The VM, its configuration read now. ``NotFound`` when it is not there."""
        for one in await self.library():
            if one.ref == ref and not is_template(one):
                self.forget(one.vmid)
                fresh = await self._found(one.line)
                if fresh.ref == ref:
                    return fresh
        raise NotFound(_("There is no VM {ref} on the host. Scan the host to see what is there."), ref=ref[:64])

    async def state(self, one: Found) -> PowerState:
        """Its power state now."""
        return state_of(await self._client.get(one.path("/status/current")))

    async def observe(self) -> list[VmObservation]:
        """All VMs but templates."""
        library = [one for one in await self.library() if not is_template(one)]
        places = sorted({(one.node, one.kind) for one in library})
        lists = await asyncio.gather(*(self._now(node, kind) for node, kind in places))
        now = {vmid: line for each in lists for vmid, line in each.items()}
        told = await self._addresses(library, now)
        names = names_of(library)
        return [
            await self._seen(one, names[one.vmid], now.get(one.vmid, {"status": "unknown"}), told.get(one.vmid))
            for one in library
        ]

    async def inspect(self, ref: str) -> VmObservation:
        """One VM, its guest asked now."""
        one = await self.one(ref)
        await self._read_snapshots(one.vmid, one.path("/config"))
        line = await self._client.get(one.path("/status/current"))
        told = await self._ask_guest(one) if asks(one, line) else None
        names = names_of([other for other in await self.library() if not is_template(other)])
        return await self._seen(one, names.get(one.vmid, one.vendors_name), line, told)

    async def _found(self, line: dict[str, Any]) -> Found:
        vmid, node = int(line["vmid"]), str(line["node"])
        key = tuple(
            line.get(name) for name in ("node", "name", "lock", "template", "maxcpu", "maxmem", "maxdisk", "tags")
        )
        kept = self._configs.get(vmid)
        if kept is None or kept[1] != key or time.monotonic() - kept[0] > CONFIG_SECONDS + vmid % 60:
            path = vm_path(node, vmid, "/config", kind=str(line["type"]))
            config = await self._client.get(path, {"current": "1"})
            kept = self._configs[vmid] = (time.monotonic(), key, config)
            if config.get("parent") or self._snapshots.get(vmid):
                await self._read_snapshots(vmid, path)
        return Found(vmid, node, line, kept[2], mark_of(kept[2], vmid))

    async def _read_snapshots(self, vmid: int, config: str) -> None:
        """``config``: the path of its configuration, which says which snapshot it is on, when there is any."""
        try:
            found = await self._client.get(f"{config.removesuffix('/config')}/snapshot")
        except (EngineFailure, Conflict, HostUnreachable, EngineTimeout):
            return  # what was seen before, or nothing
        self._snapshots[vmid] = read_snapshots(found)

    async def _now(self, node: str, kind: str) -> dict[int, dict[str, Any]]:
        """The VMs or containers of a node as they are now: ``/cluster/resources`` is some seconds old. Nothing of a node that
        is away."""
        try:
            found = await self._client.get(f"/nodes/{node}/{kind}", {"full": "1"} if kind == "qemu" else None)
        except (EngineFailure, EngineTimeout):
            return {}
        return {int(line["vmid"]): line for line in found or []}

    async def _addresses(self, library: list[Found], now: dict[int, dict[str, Any]]) -> dict[int, Addresses | None]:
        """What guests' agents told, some of them asked again: the longest unasked first."""
        asked = [one for one in library if asks(one, now.get(one.vmid, {}))]
        old = time.monotonic() - ADDRESS_SECONDS
        due = [one for one in asked if self._told.get(one.vmid, (0.0, None))[0] < old]
        due.sort(key=lambda one: self._told.get(one.vmid, (0.0, None))[0])
        await asyncio.gather(*(self._ask_guest(one) for one in due[:GUESTS_PER_ROUND]))
        return {one.vmid: self._told[one.vmid][1] for one in asked if one.vmid in self._told}

    async def _ask_guest(self, one: Found) -> Addresses | None:
        """Addresses by MAC; None when no agent answers."""
        told: Addresses | None = None
        async with self._guests:
            try:
                if one.container:
                    told = addresses(await self._client.get(one.path("/interfaces")))
                else:
                    answer = await self._client.get(one.path("/agent/network-get-interfaces"))
                    told = addresses((answer or {}).get("result"))
            except (EngineFailure, Conflict, NotFound, EngineTimeout, HostUnreachable):
                told = None
        self._told[one.vmid] = (time.monotonic(), told)
        return told

    async def _seen(self, one: Found, name: str, line: dict[str, Any], told: Addresses | None) -> VmObservation:
        config, state = one.config, state_of(line)
        on = state in {PowerState.RUNNING, PowerState.SUSPENDED}
        drives = disks(config, ours=one.managed)
        system = boot_disk(config)
        counts = {
            key: int(line[key]) for key in ("diskread", "diskwrite", "netin", "netout", "mem") if on and key in line
        }
        return VmObservation(
            ref=one.ref,
            name=name,
            title=one.mark.title if one.mark else one.vendors_name,
            state=state,
            cpu_count=cores_of(config),
            memory_mib=memory_of(config),
            disk_gib=next((disk.size_gib for disk in drives if disk.name == system), None),
            nics=tuple([await self._nic(one, key, told or {}, on=on) for key in nets(config)]),
            memory_used_mib=counts["mem"] // 1024**2 if "mem" in counts else None,
            disk_read_bytes=counts.get("diskread"),
            disk_write_bytes=counts.get("diskwrite"),
            net_rx_bytes=counts.get("netin"),
            net_tx_bytes=counts.get("netout"),
            agent=told is not None if state is PowerState.RUNNING and agent_on(config) else None,
            managed=one.managed,
            disks=drives,
            snapshots=self._snapshots.get(one.vmid, ()),
        )

    async def _nic(self, one: Found, key: str, told: Addresses, *, on: bool) -> NicObservation:
        """An interface, and how the machine of the forwards has it."""
        seen = nic(key, str(one.config[key]), self._nat_bridge, told)
        if self._carrier is None:
            return seen
        nat = seen.mode is NicMode.NAT
        apart = await self._carrier.apart(one.node, seen.network, seen.addresses) and nat
        port = one.port(key) if on and self._carrier.is_at(one.node) else ""
        return replace(seen, port=port, apart=one.node if apart else "")


def read_snapshots(lines: Any) -> tuple[Snapshot, ...]:
    """Of the vendor's list, the oldest first."""
    entries = [line for line in lines or () if isinstance(line, dict)]
    now = next((str(line.get("parent", "")) for line in entries if line.get("name") == HERE), "")
    found = [
        Snapshot(
            name=str(line.get("name", "")),
            description=str(line.get("description", "")).strip(),
            taken_at=datetime.fromtimestamp(int(line["snaptime"]), UTC) if line.get("snaptime") else None,
            parent=str(line.get("parent", "")),
            memory=bool(int(line.get("vmstate") or 0)),
            current=line.get("name") == now,
        )
        for line in entries
        if line.get("name") != HERE
    ]
    return tuple(sorted(found, key=lambda one: one.taken_at or datetime.min.replace(tzinfo=UTC)))


def is_template(one: Found) -> bool:
    """Whether VMs are made from it."""
    return str(one.config.get("template", "0")) == "1"


def template_gib(one: Found) -> float:
    """The size of its system disk."""
    options = str(one.config.get(boot_disk(one.config), "")).split(",")
    return next((gib(text.removeprefix("size=")) or 0.0 for text in options if text.startswith("size=")), 0.0)


def names_of(library: list[Found]) -> dict[int, str]:
    """A name for each. Proxmox lets several VMs have one: then the number is added."""
    counts = Counter(one.vendors_name for one in library if not one.managed)
    counts.update(one.mark.name for one in library if one.managed and one.mark)
    return {
        one.vmid: one.mark.name
        if one.managed and one.mark
        else one.vendors_name
        if counts[one.vendors_name] == 1
        else f"{one.vendors_name}-{one.vmid}"
        for one in library
    }


def state_of(line: dict[str, Any]) -> PowerState:
    """From a line of a node's list, or of ``status/current``."""
    if line.get("status") == "stopped":
        return PowerState.SUSPENDED if line.get("lock") == "suspended" else PowerState.STOPPED
    if line.get("status") != "running":
        return PowerState.UNKNOWN
    inner = line.get("qmpstatus", "running")
    return PowerState.SUSPENDED if inner in PAUSED else PowerState.CRASHED if inner in CRASHED else PowerState.RUNNING


def asks(one: Found, line: dict[str, Any]) -> bool:
    """Whether somebody may tell the guest's addresses: its agent, or of a container the node."""
    return state_of(line) is PowerState.RUNNING and (one.container or agent_on(one.config))


def addresses(result: Any) -> Addresses:
    """By MAC, as the agent or the node tells them; not those of the link alone. The agent is the guest's: what has not the
    form is passed over, so that no guest spoils the view of the others."""
    told: Addresses = {}
    for one in result if isinstance(result, list) else []:
        entries = one.get("ip-addresses") if isinstance(one, dict) else None
        if not isinstance(entries, list):
            continue
        found = [str(entry.get("ip-address", "")) for entry in entries if isinstance(entry, dict)]
        told[str(one.get("hardware-address", "")).lower()] = tuple(
            text for text in found if text and not text.lower().startswith("fe80:")
        )
    return told


def unless_gone(seen: Found | BaseException) -> Found | None:
    """None for a VM that went away, or moved to another node."""
    if isinstance(seen, NotFound):
        return None
    if isinstance(seen, BaseException):
        raise seen
    return seen
