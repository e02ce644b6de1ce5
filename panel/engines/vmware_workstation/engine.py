"""VMware Workstation through its REST API: the engine."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import ClassVar

from panel.engines.base import Engine
from panel.engines.capabilities import Capabilities
from panel.engines.common.checks import check_able, check_sizes
from panel.engines.common.power import GOAL, refuse
from panel.engines.common.rfb import open_screen
from panel.engines.consoletypes import ConsoleKind, ConsoleTarget, StreamTarget
from panel.engines.hosttypes import HostInfo, Image, NativeForward, NetworkInfo
from panel.engines.types import (
    ChangeOutcome,
    DeleteOutcome,
    EngineKind,
    HostConnection,
    HostField,
    PowerAction,
    PowerState,
    Reporter,
    VmChange,
    VmObservation,
    VmSpec,
)
from panel.engines.vmware_workstation.client import Client, packed
from panel.engines.vmware_workstation.create import Maker, Site, check_title, remove, shown_title
from panel.engines.vmware_workstation.fields import FIELDS, PORTS, SHUTDOWN_SECONDS
from panel.engines.vmware_workstation.guests import Guests, is_windows
from panel.engines.vmware_workstation.networks import Networks
from panel.engines.vmware_workstation.paths import stem
from panel.engines.vmware_workstation.remote import Remote
from panel.engines.vmware_workstation.view import TITLE, VNC_PASSWORD, Viewer, is_template
from panel.errors import Conflict, EngineTimeout, InvalidInput, NotFound, Unsupported
from panel.i18n import Text
from panel.i18n import gettext_noop as _

GOAL_SECONDS = 60.0
POLL_SECONDS = 0.25

REASONS = {
    "image_urls": _("VMware Workstation's images are template VMs: make them there."),
    "ssh_keys": _("VMware Workstation has no way to tell a guest its SSH keys. Put them into the template."),
    "snapshots": _("VMware Workstation's REST API tells no snapshots. Use Workstation itself."),
    "update_live": _("VMware Workstation's REST API changes stopped VMs only."),
    "text_console": _("VMware Workstation's REST API opens no serial ports. Use the screen."),
    "iso": _("VMware Workstation's REST API changes no CD drives. Use Workstation itself."),
    "boot_order": _("VMware Workstation's REST API changes no boot order. Use Workstation itself."),
    "screenshot": _("VMware Workstation's REST API gives no picture of a screen. Open the console."),
    "events": _("VMware Workstation's REST API tells no events: changes show within one round of observation."),
    "blank": _("VMware Workstation makes VMs from template VMs only: choose an image (os_name)."),
    "disk_size": _("VMware Workstation's REST API neither tells nor changes the size of a disk."),
    "counters": _("VMware Workstation's REST API does not tell the load of its VMs."),
    "host_load": _("VMware Workstation's REST API does not tell the load of its host."),
    "leftovers": _("VMware Workstation's REST API shows no files of its host."),
}


class VmwareWorkstationEngine(Engine):
    """One Workstation with ``vmrest``."""

    kind: ClassVar[EngineKind] = EngineKind.VMWARE_WORKSTATION
    title: ClassVar[str] = _("VMware Workstation")
    capabilities: ClassVar[Capabilities] = Capabilities(
        power=frozenset(PowerAction),
        create=True,
        update=True,
        delete=True,
        console=True,
        password=True,
        scan=True,
        images=True,
        networks=True,
        native_forwards=True,
        reasons=REASONS,
    )
    fields: ClassVar[tuple[HostField, ...]] = FIELDS

    def __init__(self, connection: HostConnection) -> None:
        super().__init__(connection)
        options = connection.options
        self._deadline = _seconds(options.get("shutdown_timeout") or str(SHUTDOWN_SECONDS))
        self._site = Site(connection.disks_path, connection.images_path, read_ports(options.get("vnc_ports") or PORTS))
        self._client = Client(connection)
        self._viewer = Viewer(self._client, connection.images_path)
        self._networks = Networks(self._client)
        self._remote = Remote(connection)
        self._guests = Guests(self._client, self._viewer, self._remote.vmrun)
        self._maker = Maker(self._client, self._viewer, self._site, self._guests)

    async def probe(self) -> HostInfo:
        """Log in, and read library and networks. vmrest tells neither its version nor what the host is."""
        library, _bindings = await asyncio.gather(self._viewer.library(), self._viewer.bindings())
        warnings: list[Text] = []
        if self._client.plain:
            warnings.append(Text(_("The connection is not encrypted: whoever listens reads the password. Give vmrest a "
                                   "certificate (-c and -k) and use https://.")))  # fmt: skip
        if not any(is_template(one, self._site.images_path) for one in library):
            warnings.append(
                Text(_("No template VM in Workstation's library lies in images_path, so no VM can be made."))
            )
        warnings += await self._remote.check()
        return HostInfo("VMware Workstation", self._client.host, 0, 0, None, tuple(warnings))

    async def close(self) -> None:
        """Disconnect."""
        await asyncio.gather(self._client.close(), self._remote.close())

    async def observe(self) -> list[VmObservation]:
        """See ``Viewer``."""
        return await self._viewer.observe()

    async def inspect(self, ref: str) -> VmObservation:
        """See ``Viewer``."""
        return await self._viewer.inspect(ref)

    async def list_images(self) -> list[Image]:
        """The template VMs, by the names of their files."""
        found = [one for one in await self._viewer.library() if is_template(one, self._site.images_path)]
        named = {stem(one.listed.path): one.listed for one in reversed(found)}
        windows = await asyncio.gather(*(is_windows(self._client, listed.id) for listed in named.values()))
        users = ["Administrator" if is_one else "root" for is_one in windows]
        made = [
            Image(name, vm.id, name, "vmx", 0, 0, user) for (name, vm), user in zip(named.items(), users, strict=True)
        ]
        return sorted(made, key=lambda image: image.name)

    async def create(self, spec: VmSpec, report: Reporter) -> None:
        """See ``Maker``."""
        await self._maker.create(spec, report)

    async def update(self, ref: str, change: VmChange, report: Reporter) -> ChangeOutcome:
        """Change a stopped VM."""
        check_able(self.capabilities, change)
        one = await self._viewer.one(ref)
        check_title(change.title)
        check_sizes(change.cpu_count, change.memory_mib)
        if change.disk_gib is not None:
            raise InvalidInput(REASONS["disk_size"], field="hdd_num")
        if change == VmChange():
            return ChangeOutcome()
        if await self._viewer.state(one.listed.id) is not PowerState.STOPPED:
            raise Conflict(_("VMware Workstation changes stopped VMs only. Stop the VM first."))
        await report.step(_("Changing the VM"), percent=20)
        if change.cpu_count is not None or change.memory_mib is not None:
            await self._client.resize(one.listed.id, change.cpu_count, change.memory_mib)
        if change.title is not None:
            await self._rename(one.listed.id, one.name, change.title, managed=one.managed)
        live = [name for name in ("title", "cpu_count", "memory_mib") if getattr(change, name) is not None]
        return ChangeOutcome(live=tuple(live))

    async def delete(self, ref: str, name: str, report: Reporter) -> DeleteOutcome:
        """Remove a VM of the panel with its files. Another's stays whole: vmrest cannot take a VM out and leave its disk."""
        try:
            one = await self._viewer.one(ref)
        except NotFound:
            return DeleteOutcome()
        if not one.managed:
            raise Unsupported(
                _("The panel did not make this VM, and VMware's REST API cannot remove a VM and leave its disk. Remove it in "
                  "Workstation itself.")
            )  # fmt: skip
        await report.step(_("Removing the VM"), percent=20)
        await remove(self._client, one.listed.id)
        return DeleteOutcome(removed=(one.listed.path,))

    async def power(self, ref: str, action: PowerAction, report: Reporter) -> None:
        """Do it and wait until it is so."""
        vm = (await self._viewer.one(ref)).listed.id
        vendors = await self._client.power_state(vm)
        refuse(action, await self._viewer.state(vm))
        if action is PowerAction.SHUTDOWN:
            await report.step(_("Asking the guest to shut down"))
            await self._client.power(vm, "shutdown")
            await self._reach(vm, PowerState.STOPPED, self._deadline)
            return
        for operation in operations(action, vendors):
            await self._client.power(vm, operation)
        await self._reach(vm, GOAL[action], GOAL_SECONDS)

    async def console(self, ref: str, kind: ConsoleKind = ConsoleKind.VNC) -> ConsoleTarget:
        """The screen, with its password already given."""
        vm = (await self._viewer.one(ref)).listed.id
        if await self._viewer.state(vm) is not PowerState.RUNNING:
            raise Conflict(_("The VM is not running, so it has no screen. Start it first."))
        vnc = (await self._client.settings(vm)).get("remoteVNC") or {}
        port = int(vnc.get("VNCPort") or 0)
        if str(vnc.get("VNCEnabled")).lower() != "true" or not port:
            raise Conflict(
                _("The VM's screen is not on. Stop the VM, turn on its VNC connections (Settings, Options, VNC) with a password "
                  "and a port of its own, and start it.")
            )  # fmt: skip
        password = await self._client.param(vm, VNC_PASSWORD) or await self._client.param(
            vm, "RemoteDisplay.vnc.password"
        )
        host, dial = self._remote.screen(self._client.host, port)
        return StreamTarget(lambda: open_screen(host, port, password, dial))

    async def set_password(self, ref: str, user: str, password: str) -> None:
        """By ``vmrun``."""
        await self._guests.set_password(ref, user, password)

    async def list_networks(self) -> list[NetworkInfo]:
        """See ``Networks``."""
        return await self._networks.list_networks()

    async def reserve(self, network: str, mac: str, addresses: tuple[str, ...]) -> None:
        """See ``Networks``."""
        await self._networks.reserve(network, mac, addresses)

    @property
    def forwards_place(self) -> str | None:
        """The NAT devices of the host are those of its vmrest."""
        return self._client.address

    @property
    def forwards_reserved(self) -> frozenset[int]:
        """vmrest's port, SSH's, and those of screens."""
        return frozenset({self._client.port, self._remote.port, *self._site.ports}) - {0}

    async def native_forwards(self) -> list[NativeForward]:
        """Those of all NAT networks."""
        return await self._networks.forwards()

    async def change_forwards(
        self, remove: Sequence[NativeForward], add: Sequence[NativeForward]
    ) -> dict[NativeForward, Text]:
        """See ``Networks``."""
        return await self._networks.change(remove, add)

    async def _rename(self, vm: str, name: str, title: str, *, managed: bool) -> None:
        if managed:
            await self._client.set_param(vm, TITLE, packed(title))
        elif shown_title(title, name) != title:
            raise InvalidInput(
                _('Workstation cannot keep this title: it has ", | or \\ in it, or is too long.'), field="vm_name"
            )
        await self._client.set_param(vm, "displayName", shown_title(title, name))

    async def _reach(self, vm: str, goal: PowerState, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while await self._viewer.state(vm) is not goal:
            if time.monotonic() > deadline:
                raise EngineTimeout(
                    _("The VM did not follow within {seconds} s. Look at its screen."), seconds=round(seconds, 1)
                )
            await asyncio.sleep(POLL_SECONDS)


def operations(action: PowerAction, state: str) -> tuple[str, ...]:
    """The vendor's words for ``action`` in the vendor's ``state``: it has no reset, and cuts the power only of what has some."""
    if action is PowerAction.RESET:
        return ("off", "on")
    if action is PowerAction.STOP:
        return ("on", "off") if state == "suspended" else ("off",)
    if action is PowerAction.RESUME:
        return ("unpause",) if state == "paused" else ("on",)
    return ("on",) if action is PowerAction.START else ("suspend",)


def read_ports(text: str) -> range:
    """``5901-5999`` as a range. ``InvalidInput`` names ``vnc_ports``."""
    found = re.fullmatch(r"\s*(\d{1,5})\s*-\s*(\d{1,5})\s*", text)
    first, last = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= first <= last <= 65535:
        raise InvalidInput(_("{field} must be two ports like 5901-5999."), field="vnc_ports")
    return range(first, last + 1)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= 3600:
        raise InvalidInput(_("{field} must be a number of seconds, at most 3600."), field="shutdown_timeout")
    return seconds
