"""vSphere, a vCenter or one ESXi alone, through its SOAP API: the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import ClassVar

from panel.engines.base import Engine
from panel.engines.capabilities import Capabilities
from panel.engines.common.power import GOAL, refuse
from panel.engines.hosttypes import HostInfo, HostStatus, Image, Iso
from panel.engines.types import (
    BootDevice,
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
from panel.engines.vsphere import host, snapshots, update
from panel.engines.vsphere.client import Client, Session
from panel.engines.vsphere.config import disks
from panel.engines.vsphere.create import ACT_SECONDS, Maker, remove, template_gib
from panel.engines.vsphere.fields import FIELDS, REASONS
from panel.engines.vsphere.guest import Guests
from panel.engines.vsphere.site import read_names
from panel.engines.vsphere.tasks import Tasks
from panel.engines.vsphere.view import Found, Viewer
from panel.engines.vsphere.watch import Watcher
from panel.errors import EngineTimeout, InvalidInput, NotFound
from panel.i18n import gettext_noop as _

GOAL_SECONDS = 60.0
POLL_SECONDS = 0.25
SHUTDOWN_SECONDS = 90


class VsphereEngine(Engine):
    """One vCenter, or one ESXi."""

    kind: ClassVar[EngineKind] = EngineKind.VSPHERE
    title: ClassVar[str] = _("vSphere (vCenter, ESXi)")
    capabilities: ClassVar[Capabilities] = Capabilities(
        power=frozenset(PowerAction),
        create=True,
        update=True,
        delete=True,
        password=True,
        ssh_keys=True,
        scan=True,
        images=True,
        iso=True,
        boot_order=True,
        events=True,
        blank=True,
        disk_size=True,
        counters=True,
        host_load=True,
        snapshots=True,
        reasons=REASONS,
    )
    fields: ClassVar[tuple[HostField, ...]] = FIELDS

    def __init__(self, connection: HostConnection) -> None:
        super().__init__(connection)
        options = connection.options
        self._names = read_names(connection)
        self._isos = connection.images_path.strip()
        self._deadline = read_seconds(options.get("shutdown_timeout") or str(SHUTDOWN_SECONDS))
        self._client = Client(connection)
        self._tasks = Tasks(self._client)
        prefix = options.get("template_prefix", "template-")
        self._viewer = Viewer(self._client, self._names.datacenter, prefix, options.get("network_nat", "").strip())
        self._maker = Maker(self._client, self._viewer, self._tasks, self._names)
        self._guests = Guests(self._client, connection)
        self._watcher = Watcher(self._client, self._viewer)

    async def probe(self) -> HostInfo:
        """See ``host.look``."""
        return await host.look(self._client, self._viewer, self._names)

    async def close(self) -> None:
        """End what watches, and log out."""
        self._watcher.close()
        await self._client.close()

    async def host_status(self) -> HostStatus:
        """The hosts and their datastores, together."""
        return await self._client.call(lambda session: host.load(session, self._viewer, self._names))

    async def observe(self) -> list[VmObservation]:
        """See ``Viewer``."""
        return await self._viewer.observe()

    async def inspect(self, ref: str) -> VmObservation:
        """See ``Viewer``."""
        return await self._viewer.inspect(ref)

    def watch(self) -> AsyncIterator[VmEvent]:
        """See ``Watcher``."""
        return self._watcher.events()

    async def list_images(self) -> list[Image]:
        """The templates, by their names."""
        found = [one for one in await self._viewer.library() if self._viewer.is_template(one)]
        named = {one.vendors_name: one for one in sorted(found, key=lambda one: one.moid, reverse=True)}
        return [_image(name, one) for name, one in sorted(named.items())]

    async def list_isos(self) -> list[Iso]:
        """Those in the folder of the settings; none without one."""
        return await host.list_isos(self._tasks, self._names, self._isos) if self._isos else []

    async def create(self, spec: VmSpec, report: Reporter) -> None:
        """See ``Maker``."""
        await self._maker.create(spec, report)

    async def update(self, ref: str, change: VmChange, report: Reporter) -> ChangeOutcome:
        """Change it, in one task."""
        one = await self._viewer.one(ref)
        isos = await self.list_isos() if change.iso else []
        update.check(one, change, isos)
        spec = update.spec_of(one, change, self._isos)
        if spec is not None:
            await report.step(_("Changing the VM"), percent=20)
            await self._tasks.run(lambda session: session.vm(one.moid).ReconfigVM_Task(spec), ACT_SECONDS)
            self._viewer.forget(one.moid)
        return update.outcome(one, change)

    async def delete(self, ref: str, name: str, report: Reporter) -> DeleteOutcome:
        """Remove a VM of the panel with its files. Another's is taken off the inventory, and all its files stay."""
        try:
            one = await self._viewer.one(ref)
        except NotFound:
            return DeleteOutcome()
        await report.step(_("Removing the VM"), percent=20)
        try:
            if one.managed:
                return await remove(self._client, self._tasks, one)
            return await self._unregister(one)
        finally:
            self._viewer.forget(one.moid)

    async def _unregister(self, one: Found) -> DeleteOutcome:
        if one.state is not PowerState.STOPPED:
            await self._tasks.run(lambda session: session.vm(one.moid).PowerOffVM_Task(), ACT_SECONDS)
        await self._client.call(lambda session: session.vm(one.moid).UnregisterVM())
        kept = [disk.source for disk in disks(one.devices, one.home, ours=False) if disk.kind is BootDevice.DISK]
        return DeleteOutcome(kept=tuple(kept))

    async def snapshot(self, ref: str, action: SnapshotAction, name: str, report: Reporter) -> None:
        """See ``snapshots.act``."""
        one = await self._viewer.one(ref)
        try:
            await snapshots.act(self._tasks, one.moid, one.now.get("snapshot"), one.state, action, name, report)
        finally:
            self._viewer.forget(one.moid)

    async def set_password(self, ref: str, user: str, password: str) -> None:
        """See ``Guests``."""
        await self._guests.set_password(await self._viewer.one(ref), user, password)

    async def power(self, ref: str, action: PowerAction, report: Reporter) -> None:
        """Do it and wait until it is so."""
        one = await self._viewer.one(ref)
        refuse(action, one.state)
        if action is PowerAction.SHUTDOWN:
            await self._shut_down(one, report)
            return

        def begin(session: Session) -> object:
            vm = session.vm(one.moid)
            return {
                PowerAction.START: vm.PowerOnVM_Task,
                PowerAction.RESUME: vm.PowerOnVM_Task,
                PowerAction.STOP: vm.PowerOffVM_Task,
                PowerAction.SUSPEND: vm.SuspendVM_Task,
                PowerAction.RESET: vm.ResetVM_Task,
            }[action]()

        await self._tasks.run(begin, ACT_SECONDS, report, (10, 90))
        await self._reached(one, GOAL[action], GOAL_SECONDS)

    async def _shut_down(self, one: Found, report: Reporter) -> None:
        await report.step(_("Asking the guest to shut down"))
        await self._client.call(lambda session: session.vm(one.moid).ShutdownGuest())
        await self._reached(one, PowerState.STOPPED, self._deadline)

    async def _reached(self, one: Found, goal: PowerState, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while await self._viewer.state(one) is not goal:
            if time.monotonic() > deadline:
                raise EngineTimeout(
                    _("The VM did not follow within {seconds} s. Look at its screen."), seconds=round(seconds)
                )
            await asyncio.sleep(POLL_SECONDS)


def _image(name: str, one: Found) -> Image:
    size = template_gib(one)
    return Image(name, one.moid, name, "template", round(size * 1024**3), size)


def read_seconds(text: str) -> float:
    """A deadline. ``InvalidInput`` names ``shutdown_timeout``."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= 3600:
        raise InvalidInput(_("{field} must be a number of seconds, at most 3600."), field="shutdown_timeout")
    return seconds
