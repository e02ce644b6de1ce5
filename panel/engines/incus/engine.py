"""Incus and LXD through their REST API: the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

from panel.engines.base import Engine
from panel.engines.capabilities import Capabilities
from panel.engines.common.checks import check_able, check_sizes
from panel.engines.common.power import GOAL, refuse
from panel.engines.consoletypes import SpiceTarget, TextTarget
from panel.engines.hosttypes import HostInfo, HostStatus, Image, NativeForward, NetworkInfo
from panel.engines.incus import snapshots
from panel.engines.incus.client import PORT, Changed, Client, instance_path
from panel.engines.incus.create import ACT_SECONDS, Maker, remove, set_state
from panel.engines.incus.events import Events
from panel.engines.incus.fields import FIELDS, REASONS
from panel.engines.incus.forwards import Forwards
from panel.engines.incus.guest import Guests
from panel.engines.incus.host import load, look
from panel.engines.incus.images import images
from panel.engines.incus.marks import TITLE, Found, check_title, cpus_of, gib_of, size_of, writable
from panel.engines.incus.networks import Reservations
from panel.engines.incus.operations import Operations
from panel.engines.incus.site import Sites
from panel.engines.incus.text import Terminals
from panel.engines.incus.vga import Screens
from panel.engines.incus.view import Viewer
from panel.engines.types import (
    ChangeOutcome,
    DeleteOutcome,
    EngineKind,
    HostConnection,
    HostField,
    PowerAction,
    PowerState,
    Reporter,
    SnapshotAction,
    VmChange,
    VmEvent,
    VmObservation,
    VmSpec,
)
from panel.errors import EngineFailure, EngineTimeout, InvalidInput, NotFound, Unsupported
from panel.i18n import Text
from panel.i18n import gettext_noop as _

GOAL_SECONDS = 30.0
POLL_SECONDS = 0.2
SHUTDOWN_SECONDS = 90
TRIES = 5
SSH_PORT = 22
MIB = 1024**2
WORDS = {
    PowerAction.START: ("start", False),
    PowerAction.STOP: ("stop", True),
    PowerAction.SUSPEND: ("freeze", False),
    PowerAction.RESUME: ("unfreeze", False),
    PowerAction.RESET: ("restart", True),
}


class IncusEngine(Engine):
    """One Incus or LXD server, in one project."""

    kind: ClassVar[EngineKind] = EngineKind.INCUS
    title: ClassVar[str] = _("Incus / LXD")
    capabilities: ClassVar[Capabilities] = Capabilities(
        power=frozenset(PowerAction),
        create=True,
        update=True,
        update_live=True,
        delete=True,
        spice_console=True,
        text_console=True,
        password=True,
        ssh_keys=True,
        scan=True,
        images=True,
        networks=True,
        native_forwards=True,
        events=True,
        disk_size=True,
        host_load=True,
        snapshots=True,
        reasons=REASONS,
    )
    fields: ClassVar[tuple[HostField, ...]] = FIELDS

    def __init__(self, connection: HostConnection) -> None:
        super().__init__(connection)
        self._deadline = read_seconds(connection.options.get("shutdown_timeout") or str(SHUTDOWN_SECONDS))
        self._client = client = Client(connection)
        self._operations = Operations(client)
        self._sites = Sites(client, connection)
        self._viewer = Viewer(client, self._sites)
        self._reservations = Reservations(client, self._viewer, self._operations, self._sites)
        self._forwards = Forwards(client, connection)
        self._guests = Guests(client, self._viewer, self._operations)
        self._maker = Maker(client, self._viewer, self._operations, self._sites, self._reservations, self._guests)
        self._terminals = Terminals(client, self._viewer)
        self._screens = Screens(client, self._viewer)
        self._events = Events(client, self._viewer)

    async def probe(self) -> HostInfo:
        """See ``look``."""
        return await look(self._client, self._sites)

    async def close(self) -> None:
        """End terminals, screens and watching, and disconnect."""
        await self._events.close()
        await self._terminals.close()
        await self._screens.close()
        await self._client.close()

    async def host_status(self) -> HostStatus:
        """See ``load``."""
        return await load(self._client, self._sites)

    async def observe(self) -> list[VmObservation]:
        """See ``Viewer``."""
        return await self._viewer.observe()

    async def inspect(self, ref: str) -> VmObservation:
        """See ``Viewer``."""
        return await self._viewer.inspect(ref)

    def watch(self) -> AsyncIterator[VmEvent]:
        """See ``Events``."""
        return self._events.watch()

    async def list_images(self) -> list[Image]:
        """The host's image store."""
        return [one.shown() for one in (await images(self._client)).values()]

    async def list_networks(self) -> list[NetworkInfo]:
        """See ``Reservations``."""
        return await self._reservations.list_networks()

    async def reserve(self, network: str, mac: str, addresses: tuple[str, ...]) -> None:
        """See ``Reservations``."""
        await self._reservations.reserve(network, mac, addresses)

    @property
    def on_this_machine(self) -> bool:
        """A socket is of this machine, and so are the bridges behind it."""
        return bool(self._client.socket)

    @property
    def forwards_place(self) -> str | None:
        """The server: its networks are those of all its projects."""
        return self._client.name

    @property
    def forwards_reserved(self) -> frozenset[int]:
        """The API's port and SSH's: a forward would take them from the host."""
        return frozenset({SSH_PORT, PORT, self._client.port})

    async def native_forwards(self) -> list[NativeForward]:
        """See ``Forwards``."""
        return await self._forwards.all()

    async def change_forwards(
        self, remove: Sequence[NativeForward], add: Sequence[NativeForward]
    ) -> dict[NativeForward, Text]:
        """See ``Forwards``."""
        return await self._forwards.change(remove, add)

    async def create(self, spec: VmSpec, report: Reporter) -> None:
        """See ``Maker``."""
        await self._maker.create(spec, report)

    async def spice_console(self, ref: str) -> SpiceTarget:
        """See ``Screens``."""
        return await self._screens.target(ref)

    async def text_console(self, ref: str) -> TextTarget:
        """A shell inside."""
        return await self._terminals.target(ref)

    async def set_password(self, ref: str, user: str, password: str) -> None:
        """By ``chpasswd`` inside."""
        await self._guests.set_password(ref, user, password)

    async def update(self, ref: str, change: VmChange, report: Reporter) -> ChangeOutcome:
        """Change it, at once: a container's limits hold while it runs. All of a change is one write."""
        check_able(self.capabilities, change)
        check_title(change.title)
        check_sizes(change.cpu_count, change.memory_mib)
        given = tuple(
            name for name in ("title", "cpu_count", "memory_mib", "disk_gib") if getattr(change, name) is not None
        )
        for left in reversed(range(TRIES)):
            name = (await self._viewer.one(ref)).name
            raw, etag = await self._client.read(instance_path(name))
            body = changed(Found(raw), change)
            if body is None:
                break
            await report.step(_("Changing the VM"), percent=20)
            try:
                await self._operations.run("PUT", instance_path(name), body, seconds=ACT_SECONDS, etag=etag)
            except Changed:
                if not left:
                    raise
                continue
            break
        return ChangeOutcome(live=given)

    async def delete(self, ref: str, name: str, report: Reporter) -> DeleteOutcome:
        """Remove an instance of the panel with its disk. Another's stays whole: its disk would go with it."""
        try:
            one = await self._viewer.one(ref)
        except NotFound:
            return DeleteOutcome()
        if not one.managed:
            raise Unsupported(
                _(
                    "The panel did not make this VM, and the host removes a VM's disk with it. Remove it there (incus delete)."
                )
            )
        await report.step(_("Removing the VM"), percent=20)
        await remove(self._client, self._operations, one.name)
        return DeleteOutcome(removed=(f"{one.root[1].get('pool', '')}/{one.name}",))

    async def snapshot(self, ref: str, action: SnapshotAction, name: str, report: Reporter) -> None:
        """See ``snapshots.act``."""
        one = await self._viewer.one(ref)
        await snapshots.act(self._client, self._operations, one, action, name, report)

    async def power(self, ref: str, action: PowerAction, report: Reporter) -> None:
        """Do it and wait until it is so."""
        one = await self._viewer.one(ref)
        refuse(action, one.power)
        if action is PowerAction.SHUTDOWN:
            await self._shut_down(one, report)
            return
        word, force = WORDS[action]
        await set_state(self._operations, one.name, word, force=force)
        deadline = time.monotonic() + GOAL_SECONDS
        while await self._viewer.state(one.name) is not GOAL[action]:
            if time.monotonic() > deadline:
                raise EngineTimeout(
                    _("The VM did not follow within {seconds} s. Look at its screen."), seconds=round(GOAL_SECONDS)
                )
            await asyncio.sleep(POLL_SECONDS)

    async def _shut_down(self, one: Found, report: Reporter) -> None:
        await report.step(_("Asking the guest to shut down"))
        seconds = max(1, round(self._deadline))
        try:
            await set_state(self._operations, one.name, "stop", patience=seconds)
        except EngineFailure:
            if await self._viewer.state(one.name) is PowerState.STOPPED:
                return
            raise EngineTimeout(
                _("The VM did not follow within {seconds} s. Look at its screen."), seconds=seconds
            ) from None


def changed(one: Found, change: VmChange) -> dict[str, Any] | None:
    """The instance as it is to be written; None when nothing changes.

    Raises:
        InvalidInput: a disk that would shrink, or is not there.
    """
    body = writable(one.raw)
    config, devices = dict(body.get("config") or {}), dict(body.get("devices") or {})
    if change.cpu_count is not None and cpus_of(one.config.get("limits.cpu"), 0) != change.cpu_count:
        config["limits.cpu"] = str(change.cpu_count)
    if change.memory_mib is not None and size_of(one.config.get("limits.memory")) != change.memory_mib * MIB:
        config["limits.memory"] = f"{change.memory_mib}MiB"
    if change.title is not None and change.title != one.title:
        config[TITLE] = change.title
    if change.disk_gib is not None:
        name, device = one.root
        now = gib_of(device)
        if not name:
            raise InvalidInput(_("This VM has no disk that can grow."), field="hdd_num")
        if change.disk_gib < max(1, now or 0):
            raise InvalidInput(_("A disk only grows: it has {size} GiB now."), field="hdd_num", size=round(now or 0, 2))
        if now != change.disk_gib:
            devices[name] = {**device, "size": f"{change.disk_gib}GiB"}
    same = config == body.get("config") and devices == body.get("devices")
    return None if same else body | {"config": config, "devices": devices}


def read_seconds(text: str) -> float:
    """A deadline. ``InvalidInput`` names ``shutdown_timeout``."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= 3600:
        raise InvalidInput(_("{field} must be a number of seconds, at most 3600."), field="shutdown_timeout")
    return seconds
