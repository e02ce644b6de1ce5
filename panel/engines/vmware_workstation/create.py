"""Making a VM: a full copy of a template of the library, set up while it is off, started when asked."""

from __future__ import annotations

import asyncio
import secrets
import string
from contextlib import suppress
from dataclasses import dataclass

from panel.engines.common.checks import check_name, check_sizes
from panel.engines.types import NicMode, NicSpec, Reporter, VmSpec
from panel.engines.vmware_workstation.client import Client, packed
from panel.engines.vmware_workstation.guests import Guests
from panel.engines.vmware_workstation.paths import below, clone_name, stem
from panel.engines.vmware_workstation.view import TITLE, VNC_PASSWORD, Found, Viewer, is_template
from panel.errors import Conflict, InvalidInput, NotFound, PanelError
from panel.i18n import gettext_noop as _

NETWORKS = {NicMode.NAT: ("nat", "vmnet8"), NicMode.BRIDGE: ("bridged", "vmnet0")}
LETTERS = string.ascii_letters + string.digits
VNC = "RemoteDisplay.vnc"


@dataclass(frozen=True, slots=True)
class Site:
    """Where VMs of a host go, as its settings say. ``ports``: those for screens."""

    disks_path: str
    images_path: str
    ports: range


class Maker:
    """Makes VMs on one host. Two of one name, and two with one port, are kept apart."""

    def __init__(self, client: Client, viewer: Viewer, site: Site, guests: Guests) -> None:
        self._client = client
        self._guests = guests
        self._viewer = viewer
        self._site = site
        self._making: set[str] = set()
        self._ports = asyncio.Lock()
        self._given: set[int] = set()

    async def create(self, spec: VmSpec, report: Reporter) -> None:
        """See ``Engine.create``. A copy that has begun cannot be stopped: when cancelled, it is waited for and removed."""
        check_name(spec.name)
        check_title(spec.title)
        check_sizes(spec.cpu_count, spec.memory_mib)
        if spec.disk_gib < 1:
            raise InvalidInput(_("A disk has at least 1 GiB."), field="hdd_num")
        if spec.name in self._making:
            raise Conflict(_("A VM called {name} exists already. Choose another name."), name=spec.name)
        self._making.add(spec.name)
        try:
            template = await self._template(spec)
            await self._make(spec, template, report)
        finally:
            self._making.discard(spec.name)

    async def _template(self, spec: VmSpec) -> Found:
        library = await self._viewer.library()
        if any(one.name == spec.name and not is_template(one, self._site.images_path) for one in library):
            raise Conflict(_("A VM called {name} exists already. Choose another name."), name=spec.name)
        if spec.image is None:
            raise InvalidInput(
                _("VMware Workstation makes VMs from template VMs only: choose an image (os_name)."), field="os_name"
            )
        templates = [one for one in library if is_template(one, self._site.images_path)]
        for one in templates:
            if stem(one.listed.path) == spec.image:
                return one
        known = ", ".join(sorted(stem(one.listed.path) for one in templates)) or "–"
        raise InvalidInput(_("No image {name}. This host has: {known}."), field="os_name", name=spec.image, known=known)

    async def _make(self, spec: VmSpec, template: Found, report: Reporter) -> None:
        await report.step(_("Copying {template}"), percent=5, template=stem(template.listed.path))
        copying = asyncio.ensure_future(self._client.clone(clone_name(spec.name, spec.ref), template.listed.id))
        try:
            vm = await asyncio.shield(copying)
            await self._tell_folder(vm, report)
            await report.step(_("Setting CPUs and memory"), percent=60)
            await self._client.resize(vm, spec.cpu_count, spec.memory_mib)
            await report.step(_("Connecting {count} network interfaces"), percent=70, count=len(spec.nics))
            await self._connect(vm, spec.nics)
            await report.step(_("Setting up its screen"), percent=80)
            await self._describe(vm, spec)
            if any(nic.addresses for nic in spec.nics):
                await report.warn(
                    _(
                        "The guest is not told its addresses: VMware's REST API cannot do it. Set them up inside the guest."
                    )
                )
            if spec.start:
                await report.step(_("Starting"), percent=90)
                await self._client.power(vm, "on")
            await self._guests.first_password(vm, spec, report)
            await report.step(_("Done"), percent=100)
        except BaseException:
            await _to_the_end(self._undo(copying))
            raise

    async def _undo(self, copying: asyncio.Future[str]) -> None:
        """Remove what was made, however far it came."""
        with suppress(PanelError):
            vm = await copying
            await remove(self._client, vm)

    async def _tell_folder(self, vm: str, report: Reporter) -> None:
        """Workstation itself chooses where a copy goes."""
        path = next((listed.path for listed in await self._client.vms() if listed.id == vm), "")
        if self._site.disks_path and path and not below(path, self._site.disks_path):
            await report.warn(
                _("Workstation puts its VMs elsewhere than system_path says: {path}. Set its default folder for VMs (Edit, "
                  "Preferences, Workspace)."),
                path=path,
            )  # fmt: skip

    async def _connect(self, vm: str, nics: tuple[NicSpec, ...]) -> None:
        """Make the copy's interfaces those that are wanted, MACs included."""
        for old in reversed((await self._client.nics(vm))[len(nics) :]):
            await self._client.remove_nic(vm, int(old["index"]))
        there = len(await self._client.nics(vm))
        for place, nic in enumerate(nics):
            kind, network = ("custom", nic.network) if nic.network else NETWORKS[nic.mode]
            if place < there:
                await self._client.change_nic(vm, place + 1, kind, network)
            else:
                await self._client.add_nic(vm, kind, network)
            # a static MAC outside VMware's own range is taken only when nobody checks it
            for key, value in (("addressType", "static"), ("address", nic.mac), ("checkMACAddress", "FALSE")):
                await self._client.set_param(vm, f"ethernet{place}.{key}", value)

    async def _describe(self, vm: str, spec: VmSpec) -> None:
        """Its title, and a screen with a port and a password of its own."""
        await self._client.set_param(vm, TITLE, packed(spec.title))
        await self._client.set_param(vm, "displayName", shown_title(spec.title, spec.name))
        password = "".join(secrets.choice(LETTERS) for _unused in range(8))
        port = await self._free_port()
        try:
            for key, value in (("port", str(port)), ("password", password), ("enabled", "TRUE")):
                await self._client.set_param(vm, f"{VNC}.{key}", value)
            await self._client.set_param(vm, VNC_PASSWORD, password)
        finally:
            self._given.discard(port)

    async def _free_port(self) -> int:
        """A port for a screen that no other VM of the library has. Whether another program has it, only the host knows."""
        async with self._ports:
            taken = set(self._given)
            for found in await asyncio.gather(*map(self._vnc_port, await self._client.vms())):
                taken.add(found)
            for port in self._site.ports:
                if port not in taken:
                    self._given.add(port)
                    return port
        raise Conflict(
            _("All ports for screens are taken ({first} to {last}). Give the host more of them."),
            field="vnc_ports", first=self._site.ports.start, last=self._site.ports.stop - 1,
        )  # fmt: skip

    async def _vnc_port(self, listed: object) -> int:
        try:
            settings = await self._client.settings(getattr(listed, "id", ""))
        except NotFound:
            return 0
        return int((settings.get("remoteVNC") or {}).get("VNCPort") or 0)


async def remove(client: Client, vm: str) -> None:
    """Remove a VM with its files, running or not. One that is gone is well."""
    with suppress(NotFound):
        state = await client.power_state(vm)
        if state == "suspended":  # a VM that sleeps on the disk has no power that could be cut
            await client.power(vm, "on")
        if state != "poweredOff":
            await client.power(vm, "off")
        await client.delete(vm)


def check_title(title: str | None) -> None:
    """``InvalidInput`` for what can be no title."""
    if title is not None and any(ord(char) < 32 or ord(char) == 127 for char in title):
        raise InvalidInput(_("A title is one line without control characters."), field="vm_name")
    if title is not None:
        packed(title)


def shown_title(title: str, name: str) -> str:
    """The title as Workstation's own window shows it: without what a ``.vmx`` cannot hold."""
    return "".join(char for char in title if char.isprintable() and char not in '"|\\').strip()[:80] or name


async def _to_the_end(work: object) -> None:
    """Finish cleaning up even when cancelled again; the cancellation follows."""
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
