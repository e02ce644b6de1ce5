"""Making a VM: a clone of a template, on ESXi alone a copy of its disks, or a VM with an empty disk; started when asked."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from panel.engines.common.checks import check_name, check_sizes
from panel.engines.types import BootDevice, DeleteOutcome, Reporter, VmSpec
from panel.engines.vsphere import specs
from panel.engines.vsphere.client import Client, Session
from panel.engines.vsphere.config import KIB_PER_GIB, LONGEST_NAME, check_title, disks, system_disk
from panel.engines.vsphere.sdk import vim
from panel.engines.vsphere.seed import check_login
from panel.engines.vsphere.site import Names, find, network
from panel.engines.vsphere.snapshots import devices_of
from panel.engines.vsphere.tasks import Tasks, to_the_end
from panel.engines.vsphere.view import CONFIG, Found, Viewer
from panel.errors import Conflict, EngineFailure, InvalidInput, NotFound, PanelError
from panel.i18n import gettext_noop as _

CLONE_SECONDS = 3600.0
ACT_SECONDS = 180.0


class Maker:
    """Makes VMs on one host. Two of one name are kept apart."""

    def __init__(self, client: Client, viewer: Viewer, tasks: Tasks, names: Names) -> None:
        self._client, self._viewer, self._tasks, self._names = client, viewer, tasks, names
        self._making: set[str] = set()

    async def create(self, spec: VmSpec, report: Reporter) -> None:
        """See ``Engine.create``."""
        check_name(spec.name)
        if len(spec.name) > LONGEST_NAME:
            raise InvalidInput(
                _("vSphere takes names of at most {most} characters."), field="vm_uuid", most=LONGEST_NAME
            )
        check_title(spec.title)
        check_sizes(spec.cpu_count, spec.memory_mib)
        if spec.disk_gib < 1:
            raise InvalidInput(_("A disk has at least 1 GiB."), field="hdd_num")
        if spec.password is not None:
            check_login(spec.user, spec.password)
        for nic in spec.nics:
            self._names.network(nic)
        if spec.name in self._making:
            raise Conflict(_("A VM called {name} exists already. Choose another name."), name=spec.name)
        self._making.add(spec.name)
        try:
            await self._make(spec, report)
        finally:
            self._making.discard(spec.name)

    async def _make(self, spec: VmSpec, report: Reporter) -> None:
        template = await self._template(spec)
        try:
            if template is None:
                await self._blank(spec, report)
            else:
                await self._copy(spec, template, report)
            if spec.start:
                await report.step(_("Starting"), percent=90)
                moid = (await self._viewer.one(spec.ref)).moid
                await self._tasks.run(lambda session: session.vm(moid).PowerOnVM_Task(), ACT_SECONDS)
            await report.step(_("Done"), percent=100)
        except BaseException:
            await to_the_end(self._undo(spec.ref))
            raise

    async def _template(self, spec: VmSpec) -> Found | None:
        """What to copy; None is an empty disk. Refuses what cannot be before anything is made."""
        library = await self._viewer.library()
        if spec.name in {one.vendors_name for one in library}:
            raise Conflict(_("A VM called {name} exists already. Choose another name."), name=spec.name)
        await self._client.call(lambda session: self._networks(session, spec))
        if spec.image is None:
            return None
        templates = {one.vendors_name: one for one in library if self._viewer.is_template(one)}
        if spec.image not in templates:
            known = ", ".join(sorted(templates)) or "–"
            raise InvalidInput(
                _("No image {name}. This host has: {known}."), field="os_name", name=spec.image, known=known
            )
        template = templates[spec.image]
        needed = template_gib(template)
        if needed > spec.disk_gib:
            raise InvalidInput(
                _("The image {image} needs a disk of at least {size} GiB."),
                field="hdd_num", image=spec.image, size=round(needed, 1),
            )  # fmt: skip
        return template

    def _networks(self, session: Session, spec: VmSpec) -> list[tuple[Any, dict[str, Any]]]:
        """The port groups of a VM's interfaces, in a worker thread."""
        place = find(session, self._names)
        return [network(place, self._names.network(nic)) for nic in spec.nics]

    async def _blank(self, spec: VmSpec, report: Reporter) -> None:
        await report.step(_("Making a VM with an empty disk"), percent=10)

        def begin(session: Session) -> Any:
            place = find(session, self._names)
            wanted = specs.blank(spec, place.store, [network(place, self._names.network(nic)) for nic in spec.nics])
            return place.folder.CreateVM_Task(config=wanted, pool=place.pool)

        moid = await self._tasks.run(begin, ACT_SECONDS)
        await report.step(_("Setting what it starts from"), percent=60)

        def settle(session: Session) -> Any:
            order = specs.boot_options(_devices(session, moid), (BootDevice.DISK, BootDevice.CDROM))
            return session.vm(moid).ReconfigVM_Task(vim.vm.ConfigSpec(bootOptions=order))

        await self._tasks.run(settle, ACT_SECONDS)
        self._viewer.forget(moid)

    async def _copy(self, spec: VmSpec, template: Found, report: Reporter) -> None:
        await report.step(_("Copying {template}"), percent=5, template=template.vendors_name)
        if await self._client.call(lambda session: session.alone):
            moid = await self._twin(spec, template, report)
        else:
            moid = await self._tasks.run(
                lambda session: self._clone(session, spec, template), CLONE_SECONDS, report, (5, 60)
            )
        await report.step(_("Setting CPUs, memory and interfaces"), percent=65)

        def settle(session: Session) -> Any:
            devices = _devices(session, moid)
            kind = specs.card_type(template.devices)
            return session.vm(moid).ReconfigVM_Task(specs.settled(spec, devices, self._networks(session, spec), kind))

        await self._tasks.run(settle, ACT_SECONDS)
        self._viewer.forget(moid)

    def _clone(self, session: Session, spec: VmSpec, template: Found) -> Any:
        place = find(session, self._names)
        store = place.datastore if self._names.datastore else None
        wanted = specs.clone(spec, place.pool, store)
        return session.vm(template.moid).CloneVM_Task(folder=place.folder, name=spec.name, spec=wanted)

    async def _twin(self, spec: VmSpec, template: Found, report: Reporter) -> Any:
        """On ESXi alone: make a VM like the template, copy its disks into the VM's folder, and attach them there."""

        def begin(session: Session) -> Any:
            place = find(session, self._names)
            wanted = specs.twin(spec, place.store, template.config)
            return place.folder.CreateVM_Task(config=wanted, pool=place.pool)

        moid = await self._tasks.run(begin, ACT_SECONDS)
        made = await self._viewer.one(spec.ref)
        originals = [one for one in template.devices if isinstance(one, vim.vm.device.VirtualDisk)]
        controllers = _same_controllers(template.devices, made.devices)
        for number, original in enumerate(originals):
            path = f"{made.home}{spec.name}{f'_{number}' if number else ''}.vmdk"
            span = (10 + 50 * number // len(originals), 10 + 50 * (number + 1) // len(originals))
            source = original.backing.fileName
            await self._tasks.run(
                lambda session, source=source, path=path: _copy_disk(session, self._names, source, path),  # type: ignore[misc]
                CLONE_SECONDS, report, span,
            )  # fmt: skip
            change = specs.copied_disk(original, path, controllers.get(original.controllerKey, original.controllerKey))
            await self._tasks.run(
                lambda session, change=change: session.vm(moid).ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])),  # type: ignore[misc]
                ACT_SECONDS,
            )  # fmt: skip
        return moid

    async def _undo(self, ref: str) -> None:
        """Remove what was made, however far it came, and nothing else."""
        with suppress(PanelError):
            one = await self._viewer.one(ref)
            if one.managed:
                await remove(self._client, self._tasks, one)
                self._viewer.forget(one.moid)


async def remove(client: Client, tasks: Tasks, one: Found) -> DeleteOutcome:
    """Remove a VM of the panel with its folder, running or not. Disks of other folders that somebody attached are detached first,
    and stay; where a snapshot holds one too, vSphere would remove it with the VM, so the snapshots go first. One that is gone is
    well."""
    moid, info, devices = one.moid, one.now.get("snapshot"), one.devices
    ours, others = _sources(devices, one.home)
    with suppress(NotFound):
        with suppress(Conflict):
            if str(one.now.get("runtime.powerState")) != "poweredOff":
                await tasks.run(lambda session: session.vm(moid).PowerOffVM_Task(), ACT_SECONDS)
        if info is not None:
            held = await client.call(lambda session: devices_of(session, info))
            if others or _sources(held, one.home)[1]:
                await tasks.run(
                    lambda session: session.vm(moid).RemoveAllSnapshots_Task(consolidate=True), CLONE_SECONDS
                )
                devices = await client.call(lambda session: _devices(session, moid))
                ours, others = _sources(devices, one.home)
        if others:
            kept = [
                specs.change("remove", device)
                for device in devices
                if isinstance(device, vim.vm.device.VirtualDisk) and device.backing.fileName in others
            ]
            await tasks.run(
                lambda session: session.vm(moid).ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=kept)), ACT_SECONDS
            )
        await tasks.run(lambda session: session.vm(moid).Destroy_Task(), ACT_SECONDS * 5)
        await _clear(client, tasks, one.home)
    return DeleteOutcome(removed=(*ours, one.home), kept=tuple(sorted(others)))


def _sources(devices: list[Any], home: str) -> tuple[tuple[str, ...], set[str]]:
    """The files of disks in the VM's own folder, and of those in others."""
    drives = [disk for disk in disks(devices, home, ours=True) if disk.format]
    return (
        tuple(disk.source for disk in drives if disk.ours),
        {disk.source for disk in drives if not disk.ours and disk.source},
    )


async def _clear(client: Client, tasks: Tasks, home: str) -> None:
    """The VM's folder, where a copy that was broken off has left something in it. vSphere keeps what it does not know."""
    if not home.rpartition("]")[2].strip(" /"):
        return

    def begin(session: Session) -> Any:
        center = session.collect({"Datacenter": ["name"]})
        manager = session.content.fileManager
        return manager.DeleteDatastoreFile_Task(
            name=home.rstrip("/"), datacenter=center[0][0] if len(center) == 1 else None
        )

    with suppress(NotFound, EngineFailure):
        if await client.call(lambda session: session.alone):
            await tasks.run(begin, ACT_SECONDS)


def template_gib(one: Found) -> float:
    """The size of its system disk."""
    disk = system_disk(one.devices)
    return (disk.capacityInKB or 0) / KIB_PER_GIB if disk is not None else 0.0


def _devices(session: Session, moid: str) -> list[Any]:
    answer = session.read([session.vm(moid)], "VirtualMachine", CONFIG[:1])
    return list(answer[0][1].get("config.hardware.device") or ()) if answer else []


def _copy_disk(session: Session, names: Names, source: str, path: str) -> Any:
    center = find(session, names).datacenter
    return session.content.virtualDiskManager.CopyVirtualDisk_Task(
        sourceName=source, sourceDatacenter=center, destName=path, destDatacenter=center, force=False
    )


def _same_controllers(old: list[Any], new: list[Any]) -> dict[int, int]:
    """The key in ``new`` of each controller of ``old``: of the same type and bus."""
    made = {(type(one), one.busNumber): one.key for one in new if isinstance(one, vim.vm.device.VirtualController)}
    return {
        one.key: made[type(one), one.busNumber]
        for one in old
        if isinstance(one, vim.vm.device.VirtualController) and (type(one), one.busNumber) in made
    }
