"""Looking: all instances of a project in one call; which guests have a shell is asked once for each start of theirs."""

from __future__ import annotations

import asyncio
from collections import Counter

from panel.engines.incus.client import Client, instance_path
from panel.engines.incus.marks import CONTAINER, MIB, Found, Json, cpus_of, gib_of, size_of
from panel.engines.incus.site import Site, Sites
from panel.engines.incus.snapshots import read_snapshots
from panel.engines.types import BootDevice, DiskObservation, NicObservation, PowerState, VmObservation
from panel.errors import Conflict, EngineFailure, EngineTimeout, NotFound
from panel.i18n import gettext_noop as _

GUESTS_AT_ONCE = 3
GUESTS_PER_ROUND = 30
MOST_SNAPSHOTS = 100
ON = frozenset({PowerState.RUNNING, PowerState.SUSPENDED})


class Viewer:
    """Reads the instances of a project."""

    def __init__(self, client: Client, sites: Sites) -> None:
        self._client, self._sites = client, sites
        self._names: dict[str, str] = {}
        """By ref, as last seen."""
        self._shells: dict[tuple[str, int], bool] = {}
        """Whether a container has a shell, by name and the number of its first process."""
        self._asking = asyncio.Semaphore(GUESTS_AT_ONCE)

    async def library(self, *, state: bool = False) -> list[Found]:
        """All instances; of several with one mark (copies), the oldest has it."""
        raw = await self._client.get("/1.0/instances", {"recursion": "2" if state else "1"})
        found = sorted((Found(one) for one in raw or []), key=lambda one: str(one.raw.get("created_at")))
        seen: set[str] = set()
        library = []
        for one in found:
            if one.ref in seen:
                copied = dict(one.raw)
                copied["config"] = {
                    key: value for key, value in one.own.items() if not key.startswith("user.openidcs.")
                }
                one = Found(copied)  # noqa: PLW2901 - a copy that somebody made of a VM of ours is his
            seen.add(one.ref)
            library.append(one)
        self._names = {one.ref: one.name for one in library}
        return library

    def ref_of(self, name: str) -> str | None:
        """Of an instance that was seen by the server's name."""
        return next((ref for ref, known in self._names.items() if known == name), None)

    async def one(self, ref: str) -> Found:
        """The instance with its state, read now. ``NotFound`` when it is not there."""
        name = self._names.get(ref)
        if name is not None:
            found = await self._read(name)
            if found is not None and found.ref == ref:
                return found
        for found in await self.library():
            if found.ref == ref:
                fresh = await self._read(found.name)
                if fresh is not None:
                    return fresh
        raise NotFound(_("There is no VM {ref} on the host. Scan the host to see what is there."), ref=ref[:64])

    async def _read(self, name: str) -> Found | None:
        try:
            return Found(await self._client.get(instance_path(name), {"recursion": "1"}))
        except NotFound:
            return None

    async def state(self, name: str) -> PowerState:
        """Its power state now."""
        found = await self._client.get(instance_path(name, "/state"))
        return Found({"name": name, "state": found}).power

    async def observe(self) -> list[VmObservation]:
        """All instances."""
        library, site = await asyncio.gather(self.library(state=True), self._sites.get())
        await self._look_for_shells(library)
        names = names_of(library)
        return [self._seen(one, names[one.name], site) for one in library]

    async def inspect(self, ref: str) -> VmObservation:
        """One instance."""
        one, site = await self.one(ref), await self._sites.get()
        await self._look_for_shells([one], forget=False)
        return self._seen(one, one.panels_name, site)

    async def _look_for_shells(self, library: list[Found], *, forget: bool = True) -> None:
        running = {_start(one): one for one in library if not one.is_vm and one.power is PowerState.RUNNING}
        if forget:
            self._shells = {key: has for key, has in self._shells.items() if key in running}
        due = [one for key, one in running.items() if key not in self._shells]
        await asyncio.gather(*map(self._look_for_shell, due[:GUESTS_PER_ROUND]))

    async def _look_for_shell(self, one: Found) -> None:
        async with self._asking:
            try:
                there = await self._client.there(instance_path(one.name, "/files"), {"path": "/bin/sh"})
            except (NotFound, Conflict, EngineFailure, EngineTimeout):
                return
        self._shells[_start(one)] = there

    def _agent(self, one: Found) -> bool | None:
        """Whether the panel can run programs inside: the VM's agent counts its processes; a container needs a shell."""
        if one.power is not PowerState.RUNNING:
            return None
        if one.is_vm:
            return int(one.state.get("processes") or -1) >= 0
        return self._shells.get(_start(one))

    def _seen(self, one: Found, name: str, site: Site) -> VmObservation:
        on = one.power in ON
        root, device = one.root
        size = gib_of(device)
        memory = size_of(one.config.get("limits.memory"))
        counters = (
            [net["counters"] for key, net in (one.state.get("network") or {}).items() if key != "lo"] if on else []
        )
        usage = int((one.state.get("cpu") or {}).get("usage") or 0)
        disk = DiskObservation(
            name=root,
            kind=BootDevice.DISK,
            bus="virtio" if one.is_vm else "filesystem",
            source=f"{device.get('pool', '')}/{one.name}",
            format=site.driver if device.get("pool") == site.pool else "",
            size_gib=size,
            ours=one.managed,
        )
        return VmObservation(
            ref=one.ref,
            name=name,
            title=one.title,
            state=one.power,
            cpu_count=cpus_of(one.config.get("limits.cpu"), site.cpus),
            memory_mib=site.memory_mib if memory is None else memory // MIB,
            disk_gib=size,
            nics=tuple(_nic(one, key, value, site) for key, value in one.nics()),
            os_name=str(one.config.get("image.description") or ""),
            cpu_seconds=usage / 1e9 if on else None,
            memory_used_mib=int((one.state.get("memory") or {}).get("usage") or 0) // MIB if on else None,
            net_rx_bytes=sum(int(each["bytes_received"]) for each in counters) if on else None,
            net_tx_bytes=sum(int(each["bytes_sent"]) for each in counters) if on else None,
            agent=self._agent(one),
            managed=one.managed,
            disks=(disk,) if root else (),
            snapshots=read_snapshots(one)[-MOST_SNAPSHOTS:],
            screen=one.is_vm,
        )


def names_of(library: list[Found]) -> dict[str, str]:
    """A name for each, by the server's: that of another's is added to, where the panel calls one of its own so."""
    counts = Counter(one.panels_name for one in library)
    return {
        one.name: one.panels_name
        if one.managed or counts[one.panels_name] == 1
        else f"{one.name}-{one.raw.get('type', CONTAINER)}"
        for one in library
    }


def _start(one: Found) -> tuple[str, int]:
    return one.name, int(one.state.get("pid") or 0)


def _nic(one: Found, key: str, device: Json, site: Site) -> NicObservation:
    mac = one.mac(key)
    network = str(device.get("network") or device.get("parent") or "")
    told: Json = next(
        (net for net in (one.state.get("network") or {}).values() if mac and str(net.get("hwaddr", "")).lower() == mac),
        {},
    )
    addresses = (entry["address"] for entry in told.get("addresses") or () if entry.get("scope") == "global")
    return NicObservation(
        name=str(device.get("name") or key),
        mac=mac,
        mode=site.mode(network),
        network=network,
        addresses=tuple(addresses),
        port=str(told.get("host_name") or ""),
        model="virtio" if one.is_vm else "veth",
    )
