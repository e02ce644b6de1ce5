"""Proxmox VE through its API: the engine."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from typing import ClassVar

from panel.engines.base import Engine
from panel.engines.capabilities import Capabilities
from panel.engines.common.checks import check_sizes
from panel.engines.common.login import read_login
from panel.engines.common.power import GOAL, refuse
from panel.engines.consoletypes import ConsoleTarget, StreamTarget, TextTarget
from panel.engines.hosttypes import HostInfo, HostStatus, Image
from panel.engines.imagetypes import ImageFetch
from panel.engines.proxmox import snapshots
from panel.engines.proxmox.carrier import Carrier
from panel.engines.proxmox.client import Client
from panel.engines.proxmox.config import Mark, boot_disk, check_title, cores_of, gib, memory_of, with_mark
from panel.engines.proxmox.console import Screens
from panel.engines.proxmox.create import ACT_SECONDS, SHORTEST_PASSWORD, Maker, Site, remove
from panel.engines.proxmox.fetching import Images
from panel.engines.proxmox.fields import FIELDS, REASONS
from panel.engines.proxmox.host import load, look
from panel.engines.proxmox.sources import Sources
from panel.engines.proxmox.tasks import Tasks
from panel.engines.proxmox.text import Terminals
from panel.engines.proxmox.view import Found, Viewer
from panel.engines.types import (
    ChangeOutcome,
    DeleteOutcome,
    EngineKind,
    HostConnection,
    HostField,
    NicMode,
    PowerAction,
    PowerState,
    Reporter,
    SnapshotAction,
    SshEndpoint,
    VmChange,
    VmObservation,
    VmSpec,
)
from panel.errors import Conflict, EngineFailure, EngineTimeout, InvalidInput, NotFound, Unsupported
from panel.i18n import gettext_noop as _

GOAL_SECONDS = 30.0
POLL_SECONDS = 0.2
SHUTDOWN_SECONDS = 90


class ProxmoxEngine(Engine):
    """One cluster, or one node of it."""

    kind: ClassVar[EngineKind] = EngineKind.PROXMOX
    title: ClassVar[str] = _("Proxmox VE")
    capabilities: ClassVar[Capabilities] = Capabilities(
        power=frozenset(PowerAction),
        create=True,
        update=True,
        delete=True,
        console=True,
        text_console=True,
        password=True,
        ssh_keys=True,
        scan=True,
        images=True,
        image_urls=True,
        disk_size=True,
        host_load=True,
        snapshots=True,
        reasons=REASONS,
    )
    fields: ClassVar[tuple[HostField, ...]] = FIELDS

    def __init__(self, connection: HostConnection) -> None:
        super().__init__(connection)
        options = connection.options
        nat = options.get("network_nat", "")
        bridges = {NicMode.NAT: nat, NicMode.BRIDGE: options.get("network_bridge") or "vmbr0"}
        self._deadline = read_seconds(options.get("shutdown_timeout") or str(SHUTDOWN_SECONDS))
        self._site = Site(connection.disks_path, read_clone(options.get("clone_mode") or "full") == "full", bridges)
        self._node = options.get("node", "")
        self._client = Client(connection)
        self._tasks = Tasks(self._client)
        self._login = read_login(options, connection.secrets.get("ssh_pass", ""))
        self._carrier = Carrier(self._client, self._login) if self._login else None
        self._viewer = Viewer(self._client, self._node, nat, self._carrier)
        self._sources = Sources(self._client, self._viewer)
        self._maker = Maker(self._client, self._viewer, self._tasks, self._site)
        self._images = Images(self._client, self._viewer, self._tasks, connection.images_path)
        self._screens = Screens(self._client)
        self._terminals = Terminals(self._client)

    async def probe(self) -> HostInfo:
        """See ``look``."""
        return await look(self._client, self._viewer, self._site, self._node, self._carrier)

    async def close(self) -> None:
        """End consoles, and disconnect."""
        await self._terminals.close()
        await self._screens.close()
        if self._carrier is not None:
            await self._carrier.close()
        await self._client.close()

    @property
    def ssh_endpoint(self) -> SshEndpoint | None:
        """Of the machine that carries the forwards."""
        return self._login

    async def host_status(self) -> HostStatus:
        """The nodes and their storage, together."""
        return load(await self._viewer.resources(), self._site.storage)

    async def observe(self) -> list[VmObservation]:
        """See ``Viewer``."""
        return await self._viewer.observe()

    async def inspect(self, ref: str) -> VmObservation:
        """See ``Viewer``."""
        return await self._viewer.inspect(ref)

    async def list_images(self) -> list[Image]:
        """See ``Sources``, by name."""
        found = await self._sources.all(await self._viewer.library())
        return [source.image() for _name, source in sorted(found.items())]

    async def fetch_image(self, image: ImageFetch, report: Reporter) -> str:
        """See ``Images``."""
        return await self._images.fetch(image, report)

    async def remove_image(self, key: str) -> None:
        """See ``Images``."""
        await self._images.remove(key)

    async def create(self, spec: VmSpec, report: Reporter) -> None:
        """See ``Maker``."""
        await self._maker.create(spec, report)

    async def update(self, ref: str, change: VmChange, report: Reporter) -> ChangeOutcome:
        """Change it. A running VM's CPUs and memory wait for its next start."""
        for name, wanted in (("iso", change.iso), ("boot_order", change.boot)):
            if wanted is not None:
                raise Unsupported(REASONS[name])
        one = await self._viewer.one(ref)
        check_title(change.title)
        check_sizes(change.cpu_count, change.memory_mib)
        drive = boot_disk(one.config)
        if change.disk_gib is not None:
            check_disk(one, drive, change.disk_gib)
        form = _changed(one, change)
        waits = [name for name in ("cpu_count", "memory_mib") if getattr(change, name) is not None]
        if waits and (one.container or await self._viewer.state(one) is PowerState.STOPPED):
            waits = []  # the kernel's limits of a container change at once
        same = {"cpu_count": cores_of(one.config), "memory_mib": memory_of(one.config)}
        waits = [name for name in waits if getattr(change, name) != same[name]]
        if form:
            await report.step(_("Changing the VM"), percent=20)
            await self._client.put(one.path("/config"), form)
        if change.disk_gib is not None:
            await report.step(_("Growing its disk"), percent=60)
            upid = await self._client.put(one.path("/resize"), {"disk": drive, "size": f"{change.disk_gib}G"})
            if upid:
                await self._tasks.wait(upid, ACT_SECONDS)
        self._viewer.forget(one.vmid)
        given = ("title", "cpu_count", "memory_mib", "disk_gib")
        live = [name for name in given if getattr(change, name) is not None and name not in waits]
        return ChangeOutcome(live=tuple(live), at_next_start=tuple(waits))

    async def delete(self, ref: str, name: str, report: Reporter) -> DeleteOutcome:
        """Remove a VM of the panel with its disks. Another's stays whole: Proxmox removes a VM with its disks only."""
        try:
            one = await self._viewer.one(ref)
        except NotFound:
            return DeleteOutcome()
        if not one.managed:
            raise Unsupported(
                _(
                    "The panel did not make this VM, and Proxmox removes a VM's disks with it. Remove it on Proxmox's own pages."
                )
            )
        await report.step(_("Removing the VM"), percent=20)
        await remove(self._client, self._tasks, one.path())
        self._viewer.forget(one.vmid)
        sources = [str(one.config[boot_disk(one.config)]).partition(",")[0]] if boot_disk(one.config) else []
        return DeleteOutcome(removed=(*sources, f"{one.node}/{one.kind}/{one.vmid}"))

    async def power(self, ref: str, action: PowerAction, report: Reporter) -> None:
        """Do it and wait until it is so."""
        one = await self._viewer.one(ref)
        refuse(action, await self._viewer.state(one))
        if one.container and action in {PowerAction.SUSPEND, PowerAction.RESUME}:
            raise Unsupported(_("A container cannot be suspended. Stop it, or shut it down."))
        if action is PowerAction.SHUTDOWN:
            await self._shut_down(one, report)
            return
        words = [action.value]
        if one.container and action is PowerAction.RESET:
            words = ["stop", "start"]
        for word in words:
            await self._tasks.wait(await self._client.post(one.path(f"/status/{word}")), ACT_SECONDS, report)
        deadline = time.monotonic() + GOAL_SECONDS
        while await self._viewer.state(one) is not GOAL[action]:
            if time.monotonic() > deadline:
                raise EngineTimeout(
                    _("The VM did not follow within {seconds} s. Look at its screen."), seconds=round(GOAL_SECONDS)
                )
            await asyncio.sleep(POLL_SECONDS)

    async def _shut_down(self, one: Found, report: Reporter) -> None:
        await report.step(_("Asking the guest to shut down"))
        seconds = max(1, round(self._deadline))
        upid = await self._client.post(one.path("/status/shutdown"), {"timeout": str(seconds)})
        try:
            await self._tasks.wait(upid, seconds + ACT_SECONDS)
        except EngineFailure:
            if await self._viewer.state(one) is PowerState.STOPPED:
                return
            raise EngineTimeout(
                _("The VM did not follow within {seconds} s. Look at its screen."), seconds=seconds
            ) from None

    async def console(self, ref: str) -> ConsoleTarget:
        """The screen, with its password already given."""
        one = await self._viewer.one(ref)
        if await self._viewer.state(one) not in {PowerState.RUNNING, PowerState.SUSPENDED}:
            raise Conflict(_("The VM is not running, so it has no screen. Start it first."))
        return StreamTarget(lambda: self._screens.open(one))

    async def text_console(self, ref: str) -> TextTarget:
        """The serial port."""
        one = await self._viewer.one(ref)
        if await self._viewer.state(one) not in {PowerState.RUNNING, PowerState.SUSPENDED}:
            raise Conflict(_("The VM is not running, so nothing answers in its terminal. Start it first."))
        return self._terminals.target(one)

    async def snapshot(self, ref: str, action: SnapshotAction, name: str, report: Reporter) -> None:
        """See ``snapshots.act``."""
        one = await self._viewer.one(ref)
        running = await self._viewer.state(one) is PowerState.RUNNING
        try:
            await snapshots.act(self._client, self._tasks, one, action, name, report, running=running)
        finally:
            self._viewer.forget(one.vmid)

    async def set_password(self, ref: str, user: str, password: str) -> None:
        """Through the guest agent."""
        one = await self._viewer.one(ref)
        if one.container:
            raise Unsupported(
                _("Proxmox sets a container's password only when it is made. Use passwd in its text console.")
            )
        if await self._viewer.state(one) is not PowerState.RUNNING:
            raise Conflict(_("The VM is not running. Start it first."))
        if len(password) < SHORTEST_PASSWORD:
            raise InvalidInput(
                _("Proxmox takes passwords of at least {least} characters."), field="password", least=SHORTEST_PASSWORD
            )
        try:
            await self._client.post(one.path("/agent/set-user-password"), {"username": user, "password": password})
        except (EngineFailure, Conflict) as error:
            if "agent" not in str(error):
                raise
            raise Conflict(
                _(
                    "The guest agent does not answer. Install qemu-guest-agent inside the VM and turn it on in its options."
                )
            ) from None


def _changed(one: Found, change: VmChange) -> dict[str, str]:
    """The configuration's part of a change."""
    form: dict[str, str] = {}
    if change.cpu_count is not None:
        form |= {"cores": str(change.cpu_count)} | ({} if one.container else {"sockets": "1"})
    if change.memory_mib is not None:
        form["memory"] = str(change.memory_mib)
    if change.title is not None:
        mark = replace(one.mark or Mark(one.vmid, ""), title=change.title)
        form["description"] = with_mark(str(one.config.get("description", "")), mark)
    return form


def check_disk(one: Found, drive: str, wanted: int) -> None:
    """``InvalidInput`` for a disk that would shrink, or is not there."""
    found = re.search(r"size=([^,]+)", str(one.config.get(drive, "")))
    now = gib(found[1]) if found else None
    if not drive or now is None:
        raise InvalidInput(_("This VM has no disk that can grow."), field="hdd_num")
    if wanted < now:
        raise InvalidInput(_("A disk only grows: it has {size} GiB now."), field="hdd_num", size=round(now, 2))


def read_clone(text: str) -> str:
    """``full`` or ``linked``. ``InvalidInput`` names ``clone_mode``."""
    if text not in {"full", "linked"}:
        raise InvalidInput(_("{field} must be full or linked."), field="clone_mode")
    return text


def read_seconds(text: str) -> float:
    """A deadline. ``InvalidInput`` names ``shutdown_timeout``."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= 3600:
        raise InvalidInput(_("{field} must be a number of seconds, at most 3600."), field="shutdown_timeout")
    return seconds
