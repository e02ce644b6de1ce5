"""Looking: the library of a host as observations. vmrest has no bulk calls, so each VM costs three to four, many at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from panel.engines.types import NicMode, NicObservation, PowerState, VmObservation
from panel.engines.vmware_workstation.client import Client, Listed, unpacked
from panel.engines.vmware_workstation.paths import below, ours, stem
from panel.errors import NotFound
from panel.i18n import gettext_noop as _

STATES = {
    "poweredOn": PowerState.RUNNING,
    "poweredOff": PowerState.STOPPED,
    "paused": PowerState.SUSPENDED,
    "suspended": PowerState.SUSPENDED,
}
MODES = {"nat": NicMode.NAT, "bridged": NicMode.BRIDGE}
TITLE = "openidcs.title"  # our lines in the .vmx; guestinfo.* would be the guest's to change
VNC_PASSWORD = "openidcs.vnc"  # noqa: S105 - the name of a line

Bindings = dict[str, dict[str, str]]
"""Network -> MAC -> address."""


@dataclass(frozen=True, slots=True)
class Found:
    """A VM of the library. ``ref`` is what the panel calls it: its own choice, or the vendor's id of what others made."""

    listed: Listed
    ref: str
    name: str
    managed: bool


def found(listed: Listed) -> Found:
    """What a VM's path tells."""
    mine = ours(listed.path)
    name, ref = mine or (stem(listed.path), listed.id)
    return Found(listed, ref, name, mine is not None)


def is_template(one: Found, images_path: str) -> bool:
    """Whether VMs are made from it: it lies in the folder for images, or there is no such folder and it is not the panel's."""
    return below(one.listed.path, images_path) if images_path else not one.managed


@dataclass
class Viewer:
    """Reads VMs."""

    client: Client
    images_path: str = ""

    async def library(self) -> list[Found]:
        """All VMs, templates too."""
        return [found(listed) for listed in await self.client.vms()]

    async def one(self, ref: str) -> Found:
        """The VM. ``NotFound`` when it is not there."""
        for one in await self.library():
            if one.ref == ref and not self._hidden(one):
                return one
        raise NotFound(_("There is no VM {ref} on the host. Scan the host to see what is there."), ref=ref[:64])

    async def observe(self) -> list[VmObservation]:
        """All VMs but the templates in the folder for images. One that goes away meanwhile is left out."""
        library, bindings = await asyncio.gather(self.library(), self.bindings())
        seen = await asyncio.gather(
            *(self._seen(one, bindings) for one in library if not self._hidden(one)), return_exceptions=True
        )
        return [vm for vm in map(_unless_gone, seen) if vm is not None]

    async def inspect(self, ref: str) -> VmObservation:
        """One VM. ``NotFound`` when it is not there."""
        one = await self.one(ref)
        return await self._seen(one, await self.bindings())

    async def state(self, vm: str) -> PowerState:
        """A VM's power state now, by the vendor's id."""
        return STATES.get(await self.client.power_state(vm), PowerState.UNKNOWN)

    async def bindings(self) -> Bindings:
        """What the DHCP servers of the NAT networks give to whom."""
        names = await self.client.nat_networks()
        return dict(zip(names, await asyncio.gather(*map(self.client.bindings, names)), strict=True))

    def _hidden(self, one: Found) -> bool:
        return bool(self.images_path) and is_template(one, self.images_path)

    async def _seen(self, one: Found, bindings: Bindings) -> VmObservation:
        vm = one.listed.id
        state, settings, title = await asyncio.gather(
            self.state(vm), self.client.settings(vm), self.client.param(vm, TITLE if one.managed else "displayName")
        )
        running = state is PowerState.RUNNING
        told = await self.client.guest_addresses(vm) if running else None
        cpu, nics = settings.get("cpu") or {}, settings.get("niclist") or {}
        return VmObservation(
            ref=one.ref,
            name=one.name,
            title=(unpacked(title) if one.managed else title) or one.name,
            state=state,
            cpu_count=int(cpu.get("processors") or 0),
            memory_mib=int(settings.get("memory") or 0),
            nics=tuple(_nic(nic, told or {}, bindings) for nic in nics.get("nics") or ()),
            agent=(told is not None) if running else None,
            managed=one.managed,
        )


def _nic(nic: dict[str, Any], told: dict[str, tuple[str, ...]], bindings: Bindings) -> NicObservation:
    mac, network = str(nic.get("macAddress", "")).lower(), str(nic.get("vmnet", ""))
    bound = bindings.get(network, {}).get(mac)
    return NicObservation(
        name=f"eth{int(nic['index']) - 1}",
        mac=mac,
        mode=MODES.get(str(nic.get("type"))) or (NicMode.NAT if network in bindings else None),
        network=network,
        addresses=told.get(mac) or ((bound,) if bound else ()),
    )


def _unless_gone(seen: VmObservation | BaseException) -> VmObservation | None:
    if isinstance(seen, NotFound):
        return None
    if isinstance(seen, BaseException):
        raise seen
    return seen
