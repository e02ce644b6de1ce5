"""The fake engine: a hypervisor in memory, for tests, benchmarks and demonstrations. Nothing else needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar

from panel.engines.base import Engine
from panel.engines.capabilities import Capabilities
from panel.engines.common.checks import check_snapshot
from panel.engines.consoletypes import ConsoleTarget, TextTarget
from panel.engines.fake import snapshots
from panel.engines.fake.behaviour import Behaviour, Manner, number
from panel.engines.fake.checks import check_change, check_reservation, check_spec
from panel.engines.fake.consoles import Consoles
from panel.engines.fake.fields import FIELDS
from panel.engines.fake.forwards import change_forwards
from panel.engines.fake.hardware import apply, make_vm, waits, wanted
from panel.engines.fake.images import drop, images_of, isos_of, put
from panel.engines.fake.power import leads_to
from panel.engines.fake.screen import picture
from panel.engines.fake.view import HOST_CPUS, HOST_MEMORY_MIB, ON, view_garbage, view_host, view_network, view_vm
from panel.engines.fake.world import GIB, SEED_BYTES, FakeVm, FakeWorld, world
from panel.engines.hosttypes import HostInfo, HostStatus, Image, Iso, Leftover, NativeForward, NetworkInfo
from panel.engines.imagetypes import ImagePut
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
    VmChange,
    VmEvent,
    VmObservation,
    VmSpec,
)
from panel.errors import Conflict, EngineTimeout, NotFound
from panel.i18n import Text
from panel.i18n import gettext_noop as _

VERSION = "Fake 1.0"
DISKS = "/fake/disks"


class FakeEngine(Engine):
    """Drives a ``FakeWorld``, well or as badly as the connection's options say."""

    kind: ClassVar[EngineKind] = EngineKind.FAKE
    title: ClassVar[str] = _("Fake (in memory)")
    capabilities: ClassVar[Capabilities] = Capabilities(
        power=frozenset(PowerAction),
        create=True,
        update=True,
        update_live=True,
        delete=True,
        console=True,
        text_console=True,
        password=True,
        ssh_keys=True,
        scan=True,
        images=True,
        image_files=True,
        networks=True,
        native_forwards=True,
        iso=True,
        boot_order=True,
        screenshot=True,
        events=True,
        blank=True,
        disk_size=True,
        counters=True,
        host_load=True,
        leftovers=True,
        snapshots=True,
    )
    fields: ClassVar[tuple[HostField, ...]] = FIELDS

    def __init__(self, connection: HostConnection) -> None:
        super().__init__(connection)
        options = connection.options
        self._behaviour = Behaviour.from_options(options)
        self._vms = int(number(options, "vms", 0))
        self._shutdown_timeout = number(options, "shutdown_timeout", 1.0)
        self._queues: set[asyncio.Queue[VmEvent | None]] = set()
        self._consoles = Consoles()
        self._first_seen: list[VmObservation] | None = None

    @property
    def world(self) -> FakeWorld:
        """The host behind this engine; the same one for every engine with this address."""
        options = self.connection.options
        return world(self.connection.address, state_file=options.get("state_file", ""), vms=self._vms)

    @property
    def behaviour(self) -> Behaviour:
        """How the host behaves now."""
        return self.world.behaviour or self._behaviour

    def _vm(self, ref: str) -> FakeVm:
        vm = self.world.vms.get(ref)
        if vm is None:
            raise NotFound(
                _("No VM {ref} on {host}. Scan the host to see what is there."), ref=ref, host=self.connection.name
            )
        return vm

    async def probe(self) -> HostInfo:
        """Always usable, unless told otherwise; says that it is not real."""
        await self.behaviour.enter("probe")
        warning = Text(_("This host is imaginary: its VMs exist in the panel's memory only."))
        return HostInfo(VERSION, self.connection.address or "fake", HOST_CPUS, HOST_MEMORY_MIB, True, (warning,))

    async def prepare(self) -> None:
        """Remember that it was done."""
        await self.behaviour.enter("prepare")
        if not self.world.prepared:
            self.world.prepared = True
            self.world.save()

    async def close(self) -> None:
        """End what watches and what shows."""
        for queue in self._queues:
            queue.put_nowait(None)
        await self._consoles.close()

    async def host_status(self) -> HostStatus:
        """The sum of the VMs."""
        await self.behaviour.enter("host_status")
        return view_host(self.world)

    async def observe(self) -> list[VmObservation]:
        """Every VM; the same old ones from a host that lies about it, nonsense from a broken one."""
        await self.behaviour.enter("observe")
        view = view_garbage if self.behaviour.manner is Manner.GARBAGE else view_vm
        now = self.world.clock()
        here, disks = self.world, self.world.disks_by_owner()
        seen = [view(vm, now, here.network.reservations, disks.get(ref, ())) for ref, vm in here.vms.items()]
        if "observe" not in self.behaviour.lies:
            return seen
        self._first_seen = self._first_seen if self._first_seen is not None else seen
        return list(self._first_seen)

    async def inspect(self, ref: str) -> VmObservation:
        """One VM, as it is."""
        await self.behaviour.enter("inspect")
        view = view_garbage if self.behaviour.manner is Manner.GARBAGE else view_vm
        here, vm = self.world, self._vm(ref)
        return view(vm, here.clock(), here.network.reservations, here.disks_of(ref))

    async def watch(self) -> AsyncIterator[VmEvent]:
        """Changes of the world, also by other engines of the same host, until ``close``."""
        await self.behaviour.enter("watch")
        here = self.world
        queue = here.listen()
        self._queues.add(queue)
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            here.unlisten(queue)
            self._queues.discard(queue)

    async def power(self, ref: str, action: PowerAction, report: Reporter) -> None:
        """Change the state where it allows that."""
        await self.behaviour.enter("power")
        report = self.behaviour.reporter("power", report)
        leads_to(self._vm(ref), action)
        await report.step(_("Asking the fake host to {action} the VM."), percent=10, action=action.value)
        vm = self._vm(ref)
        if action is PowerAction.SHUTDOWN and vm.ignores_shutdown:
            await asyncio.sleep(self._shutdown_timeout)
            raise EngineTimeout(
                _("The guest did not stop within {seconds} s. Stop it, which pulls the plug."),
                seconds=self._shutdown_timeout,
            )
        state = leads_to(vm, action)
        if "power" not in self.behaviour.lies:
            vm.enter(state, self.world.clock())
            self.world.changed(ref, f"power.{action}")

    async def create(self, spec: VmSpec, report: Reporter) -> None:
        """Disk, seed, definition, start: undone in full when one of them breaks."""
        await self.behaviour.enter("create")
        report = self.behaviour.reporter("create", report)
        here = self.world
        check_spec(here, spec, self.connection.images_path)
        if "create" in self.behaviour.lies:
            return
        here.making[spec.name] = spec.ref
        try:
            await self._make(here, spec, report)
        except BaseException:
            here.vms.pop(spec.ref, None)
            here.disks = {path: disk for path, disk in here.disks.items() if disk.owner != spec.ref}
            here.changed(spec.ref, "create.undone")
            raise
        finally:
            del here.making[spec.name]

    async def _make(self, here: FakeWorld, spec: VmSpec, report: Reporter) -> None:
        base = f"{DISKS}/{spec.name}-{spec.ref}"
        await report.step(_("Making the disk of {size} GiB."), percent=10, size=spec.disk_gib)
        here.add_disk(f"{base}.qcow2", spec.ref, spec.disk_gib * GIB)
        await report.step(_("Writing the first-boot settings."), percent=50)
        here.add_disk(f"{base}.iso", spec.ref, SEED_BYTES)
        await report.step(_("Defining the VM."), percent=70)
        here.vms[spec.ref] = make_vm(here, spec, self.connection.images_path)
        here.changed(spec.ref, "create")
        if spec.start:
            await report.step(_("Starting the VM."), percent=90)
            self._vm(spec.ref).enter(PowerState.RUNNING, here.clock())
            here.changed(spec.ref, "power.start")

    async def update(self, ref: str, change: VmChange, report: Reporter) -> ChangeOutcome:
        """At once, but fewer CPUs, less memory, a CD drive it lacks and the boot order of a running VM wait for its next
        start."""
        await self.behaviour.enter("update")
        report = self.behaviour.reporter("update", report)
        check_change(self.world, self._vm(ref), change)
        await report.step(_("Changing the VM."), percent=50)
        vm = self._vm(ref)
        check_change(self.world, vm, change)
        live: list[str] = []
        later: list[str] = []
        pretend = "update" in self.behaviour.lies
        for name, value in wanted(change).items():
            later_on = waits(vm, name, value)
            (later if later_on else live).append(name)
            if not pretend:
                apply(self.world, vm, name, value, later=later_on)
        self.world.changed(ref, "update")
        return ChangeOutcome(tuple(live), tuple(later))

    async def delete(self, ref: str, name: str, report: Reporter) -> DeleteOutcome:
        """The VM, and the disks that were made for it; those of others stay."""
        await self.behaviour.enter("delete")
        report = self.behaviour.reporter("delete", report)
        here = self.world
        pretend = "delete" in self.behaviour.lies
        disks = here.disks_of(ref)
        removed = tuple(disk.path for disk in disks if disk.made_by_panel)
        kept = tuple(disk.path for disk in disks if not disk.made_by_panel)
        if ref in here.vms:
            await report.step(_("Removing the VM {name}."), percent=20, name=name)
            if not pretend:
                here.vms.pop(ref, None)
                here.changed(ref, "delete")
        for path in removed:
            await report.step(_("Removing {path}."), percent=60, path=path)
            if not pretend:
                here.disks.pop(path, None)
                here.save()
        return DeleteOutcome(removed, kept)

    async def console(self, ref: str) -> ConsoleTarget:
        """A screen that draws; each viewer has its own."""
        await self.behaviour.enter("console")
        vm = self._shown(ref)
        return self._consoles.screen(vm.title or vm.name, lambda: self._screen_seconds(vm))

    def _shown(self, ref: str) -> FakeVm:
        if (vm := self._vm(ref)).state in ON:
            return vm
        raise Conflict(_("{name} is {state}: it has no screen. Start it first."), name=vm.name, state=vm.state.value)

    async def text_console(self, ref: str) -> TextTarget:
        """A small shell, for one at a time."""
        await self.behaviour.enter("text_console")
        vm = self._vm(ref)
        if vm.state not in ON:
            raise Conflict(
                _("{name} is {state}: no shell runs in it. Start it first."), name=vm.name, state=vm.state.value
            )
        return self._consoles.text(ref, vm.name, lambda: self._screen_seconds(vm) is not None)

    def _screen_seconds(self, vm: FakeVm) -> float | None:
        return vm.ran(self.world.clock()) if vm.state in ON and vm.ref in self.world.vms else None

    async def set_password(self, ref: str, user: str, password: str) -> None:
        """Recorded, when the VM runs and has an agent."""
        await self.behaviour.enter("password")
        self.behaviour.step("password", 1)
        vm = self._vm(ref)
        if vm.state is not PowerState.RUNNING:
            raise Conflict(_("{name} is {state}. Start it first."), name=vm.name, state=vm.state.value)
        if not vm.agent:
            raise Conflict(
                _("No guest agent answers in {name}. Install qemu-guest-agent in it and try again."),
                name=vm.name,
            )
        if "password" not in self.behaviour.lies:
            vm.passwords[user] = password
            self.world.save()

    async def snapshot(self, ref: str, action: SnapshotAction, name: str, report: Reporter) -> None:
        """Kept in the world, with what can be changed of the VM."""
        await self.behaviour.enter("snapshot")
        report = self.behaviour.reporter("snapshot", report)
        vm = self._vm(ref)
        check_snapshot(name)
        await report.step(_("Working on snapshot {name}."), percent=50, name=name)
        if "snapshot" not in self.behaviour.lies:
            snapshots.act(vm, action, name, self.world.clock())
            self.world.changed(ref, "snapshot")

    async def list_images(self) -> list[Image]:
        """The same three on every fake host, and the files of its folder."""
        await self.behaviour.enter("images")
        return images_of(self.connection.images_path, self.world.images)

    @property
    def images_folder(self) -> Path | None:
        """The one real thing that a fake host may have."""
        return Path(self.connection.images_path) if self.connection.images_path else None

    async def image_users(self, key: str) -> list[str]:
        """Whom the world was told of: its own VMs are copies."""
        await self.behaviour.enter("image_users")
        return self.world.drawn_on.get(key, [])

    async def list_isos(self) -> list[Iso]:
        """The same two on every fake host, and what was sent."""
        await self.behaviour.enter("images")
        return isos_of(self.world.images)

    async def put_image(self, image: ImagePut, report: Reporter) -> None:
        await self.behaviour.enter("put_image")
        await put(self.world.images, image, self.behaviour.reporter("put_image", report))

    async def settle_image(self, key: str, token: str) -> bool:
        await self.behaviour.enter("images")
        return key in self.world.images

    async def remove_image(self, key: str) -> None:
        await self.behaviour.enter("images")
        drop(self.world.images, key)

    async def screenshot(self, ref: str, width: int) -> bytes:
        """What its console shows, without what others have typed there."""
        await self.behaviour.enter("screenshot")
        vm = self._shown(ref)
        return await asyncio.to_thread(picture, vm.title or vm.name, self._screen_seconds(vm), width)

    @property
    def on_this_machine(self) -> bool:
        """As much as anything imaginary is."""
        return True

    async def list_networks(self) -> list[NetworkInfo]:
        """The one NAT network, and the one bridge."""
        await self.behaviour.enter("networks")
        name = self.world.bridge
        bridges = [NetworkInfo(name, NicMode.BRIDGE, bridge=name)] if name else []
        return [view_network(self.world.network), *bridges]

    async def reserve(self, network: str, mac: str, addresses: tuple[str, ...]) -> None:
        """Remembered, and taken by the guest."""
        await self.behaviour.enter("reserve")
        here = self.world.network
        if network != here.name:
            if addresses:
                raise NotFound(_("The host has no network {name}."), name=network)
            return
        check_reservation(here, mac, addresses)
        if addresses:
            here.reservations[mac] = list(addresses)
        else:
            here.reservations.pop(mac, None)
        self.world.save()

    @property
    def forwards_place(self) -> str | None:
        """The world, when its hypervisor is to make forwards."""
        return f"fake hypervisor {self.connection.address}" if self.connection.options.get("forwards") else None

    async def native_forwards(self) -> list[NativeForward]:
        """Those of the world."""
        await self.behaviour.enter("native_forwards")
        return list(self.world.forwards.values())

    async def change_forwards(
        self, remove: Sequence[NativeForward], add: Sequence[NativeForward]
    ) -> dict[NativeForward, Text]:
        """One by one, so that it can be cut off between two."""
        await self.behaviour.enter("change_forwards")
        return await change_forwards(self.world, remove, add)

    async def leftovers(self) -> list[Leftover]:
        """Disks whose VM is gone, or was never finished."""
        await self.behaviour.enter("leftovers")
        return [Leftover(disk.path, disk.size_bytes) for disk in self.world.orphans() if disk.made_by_panel]
