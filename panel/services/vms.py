"""VMs: find, create, change, delete, and scan a host for those that others made."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

from panel.engines.types import ChangeOutcome, PowerState, VmChange, VmObservation, VmSpec
from panel.errors import Conflict, InvalidInput, NotFound, PanelError
from panel.events import EventBus, VmChanged, VmRemoved
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import ConsoleTicket, Host, Nic, Task, TaskStatus, Vm
from panel.security import PANEL, Actor, Permission
from panel.services.addresses import AddressService
from panel.services.audit import AuditLog
from panel.services.changes import check_change, note_waiting, said_of_change, stored_change
from panel.services.cleaning import cleaned
from panel.services.clock import now
from panel.services.engines import LONG, EnginePool, capabilities, limited
from panel.services.gateways import GatewayService
from panel.services.names import LONGEST, check_identifier
from panel.services.observations import Observations
from panel.services.observer import Observer
from panel.services.planning import examine, plan, taken
from panel.services.specs import VmRequest, check_limits, check_source, stored_spec
from panel.services.taskcontext import TaskContext
from panel.services.tasks import TaskService, subject, vm_of
from panel.services.whole import to_the_end, whole

UNBEGUN = timedelta(minutes=5)  # between a VM's row and its create's task lie milliseconds
MOST_FORMS = 1000  # that are remembered, so that one sent twice makes one VM


class VmService:
    """The VMs of the panel."""

    def __init__(
        self,
        tasks: TaskService,
        pool: EnginePool,
        observer: Observer,
        observations: Observations,
        addresses: AddressService,
        gateways: GatewayService,
        events: EventBus,
        audit: AuditLog,
    ) -> None:
        self._addresses = addresses
        self._gateways = gateways
        self._tasks = tasks
        self._pool = pool
        self._observer = observer
        self._observations = observations
        self._events = events
        self._audit = audit
        self._forms: dict[tuple[str, int, str], tuple[int, str]] = {}  # (form, host, name): VM and task
        self._one_form = asyncio.Lock()
        tasks.register("vm.create", self._run_create, self._settle_create, _("Create a VM"))
        tasks.register(
            "vm.update", self._run_update, self._settle_update, _("Change a VM"), self._again_update, said_of_change
        )
        tasks.register("vm.delete", self._run_delete, self._settle_delete, _("Delete a VM"), self._again_delete)
        tasks.register("host.scan", self._run_scan, self._settle_scan, _("Scan a host for VMs"), self._again_scan)

    # -- reading -------------------------------------------------------------------------------------------------

    async def get(self, host_name: str, name: str) -> Vm:
        """The VM with its host and interfaces. ``NotFound`` names which of the two is not there."""
        host_name, name = host_name[:LONGEST], name[:LONGEST]
        vm = await Vm.get_or_none(host__name=host_name, name=name).prefetch_related("host", "nics__given")
        if vm is not None:
            return vm
        if not await Host.exists(name=host_name):
            raise NotFound(_("There is no host {name}."), name=host_name)
        raise NotFound(_("There is no VM {name} on host {host}."), name=name, host=host_name)

    # -- creating ------------------------------------------------------------------------------------------------

    async def problems(self, host: Host, request: VmRequest) -> list[PanelError]:
        """What ``create`` would refuse, each with its field; the first is what it would raise."""
        return (await examine(self._pool, host, request))[1]

    @whole
    async def create_once(self, actor: Actor, host: Host, request: VmRequest, form: str) -> tuple[Vm, Task]:
        """``create``; the same form sent again gets the VM that it made, as long as that is there."""
        actor.require(Permission.MANAGE)
        key = (form, host.id, request.name)
        async with self._one_form:
            vm_id, task_id = self._forms.get(key, (0, ""))
            vm, task = await Vm.get_or_none(id=vm_id, name=request.name), await Task.get_or_none(id=task_id)
            if vm is None or task is None:
                vm, task = await self.create(actor, host, request)
                self._forms[key] = (vm.id, task.id)
                for oldest in list(self._forms)[:-MOST_FORMS]:
                    del self._forms[oldest]
            return vm, task

    @whole
    async def create(self, actor: Actor, host: Host, request: VmRequest) -> tuple[Vm, Task]:
        """Check everything that can be checked, store the VM and its task, and begin.

        Raises:
            InvalidInput: a field is wrong, or no image of the host has that name.
            Conflict: the name or a MAC is taken, or the host is disabled.
        """
        actor.require(Permission.MANAGE)
        spec = await plan(self._pool, host, request)
        notes = (*request.notes, *check_source(host.engine, request.os_name))
        vm = await self._store(host, spec, request)
        try:
            given = await self._addresses.give_new(vm, {nic.name: (nic.ip4, nic.ip6) for nic in request.nics})
            task = await self._tasks.submit(
                actor, "vm.create", {"spec": asdict(spec)},
                host=(host.id, host.name), vm=(vm.id, vm.name), notes=(*notes, *given),
            )  # fmt: skip
        except BaseException:
            await vm.delete()
            raise
        self._events.publish(VmChanged(vm.id, host.id))
        return vm, task

    async def _store(self, host: Host, spec: VmSpec, request: VmRequest) -> Vm:
        try:
            async with in_transaction("default"):
                vm = await Vm.create(
                    host=host,
                    name=spec.name,
                    ref=spec.ref,
                    title=spec.title,
                    os_name=spec.image or "",
                    user=spec.user,
                    cpu_count=spec.cpu_count,
                    memory_mib=spec.memory_mib,
                    disk_gib=spec.disk_gib if capabilities(host.engine).disk_size else 0,
                    limits={name: most for name, most in check_limits(request.limits).items() if most is not None},
                    creating=True,
                )
                for nic in spec.nics:
                    await Nic.create(vm=vm, name=nic.name, mode=nic.mode, mac=nic.mac)
        except IntegrityError as error:
            raise taken(host, spec.name) from error
        return vm

    async def drop_unbegun(self, older: timedelta = UNBEGUN) -> None:
        """Remove what creates stored whose process died before their tasks were: nothing else knows of it, the host neither.
        ``older``: those since then may be at it, in another process."""
        at_work = {task.vm_id for task in await Task.filter(kind="vm.create", ended_at=None).only("vm_id")}
        for vm in await Vm.filter(creating=True, created_at__lte=now() - older).prefetch_related("host"):
            if vm.id not in at_work and await Vm.filter(id=vm.id, creating=True).delete():
                self._gateways.wake(vm.host_id)
                self._events.publish(VmRemoved(vm.id, vm.host_id))
                text = Text(_("The panel stopped before it began to make this VM. Create it again."))
                name = f"{vm.host.name}/{vm.name}"
                await self._audit.write(PANEL, "vm.create", "vm", name, text, level="warning")

    async def _run_create(self, context: TaskContext) -> dict[str, Any]:
        try:
            vm, host = await subject(context)
            engine = self._pool.of(host)
            await self._addresses.reserve_all(vm, engine)
            spec = await self._addresses.placed(vm, stored_spec(context.params["spec"]))
            await engine.create(spec, context)
        except BaseException:
            await self._give_up(context)
            raise
        state = await to_the_end(self._created(vm, host))
        context.done(_("The VM is made, and is {state}."), state=state)
        return {"vm_uuid": vm.name}

    @whole
    async def _give_up(self, context: TaskContext) -> None:
        """What a create reserved, and its row, go; the engine has removed what it made."""
        with suppress(NotFound):
            vm, host = await subject(context)
            try:
                await self._addresses.unreserve_all(vm, self._pool.even_disabled(host))
            except PanelError as error:
                await context.warn(_("The DHCP reservation may be left on the host: {reason}"), reason=str(error.text))
        await self._drop(context.task)

    async def _created(self, vm: Vm, host: Host) -> PowerState:
        await Vm.filter(id=vm.id).update(creating=False)
        vm.creating = False
        seen = await limited(self._pool.even_disabled(host).inspect(vm.ref))
        await self._observations.apply_one(vm, seen)
        self._observer.look_now(host.id)
        return seen.state

    async def _settle_create(self, context: TaskContext) -> tuple[TaskStatus, Text]:
        if not await Vm.exists(id=context.task.vm_id):  # stopped, not killed: it cleaned up before it went
            return TaskStatus.INTERRUPTED, Text(_("The panel stopped while it made this VM. Create it again."))
        vm, host = await subject(context)
        engine = self._pool.even_disabled(host)
        try:
            await limited(engine.inspect(vm.ref))
        except NotFound:
            await limited(engine.delete(vm.ref, vm.name, context), LONG)
            await self._addresses.unreserve_all(vm, engine)
            await self._drop(context.task)
            text = _("The panel stopped while it made this VM. What was half made is removed; create it again.")
            return TaskStatus.INTERRUPTED, Text(text)
        await self._created(vm, host)
        return TaskStatus.INTERRUPTED, Text(_("The panel stopped while it made this VM; the VM is whole."))

    @whole
    async def _drop(self, task: Task) -> None:
        vm_id, host_id = task.vm_id or 0, task.host_id or 0
        await ConsoleTicket.filter(vm_id=vm_id).delete()
        await Vm.filter(id=vm_id).delete()
        self._observations.forget(vm_id)
        self._gateways.wake(host_id)
        self._events.publish(VmRemoved(vm_id, host_id))

    # -- changing ------------------------------------------------------------------------------------------------

    async def update(
        self,
        actor: Actor,
        vm: Vm,
        change: VmChange,
        *,
        limits: Mapping[str, int | None] | None = None,
        notes: Sequence[Text] = (),
    ) -> Task:
        """Change title, CPU, memory, limits (``LIMITS``; None takes one away), the CD in the drive or the boot order, or grow the
        system disk.

        Raises:
            InvalidInput: nothing to change, out of range, a disk that would shrink, or an ISO that the host has not listed.
            Conflict: another task has the VM.
        """
        actor.require(Permission.MANAGE)
        for needed in ("update",) if change.disk_gib is None else ("update", "disk_size"):
            capabilities(vm.host.engine).require(needed)
        await self._check_there(vm)
        wanted = check_change(vm, change)
        if not wanted and not limits:
            raise InvalidInput(_("Nothing to change: give vm_name, cpu_num, ram_num or hdd_num."))
        return await self._tasks.submit(
            actor, "vm.update", {"change": wanted, "limits": check_limits(limits or {})},
            host=(vm.host_id, vm.host.name), vm=(vm.id, vm.name), notes=notes,
        )  # fmt: skip

    async def _run_update(self, context: TaskContext) -> dict[str, Any]:
        vm, host = await subject(context)
        engine = self._pool.of(host)
        self._observations.touch(vm.id)
        context.done(_("The VM is changed."))
        outcome = ChangeOutcome()
        if context.params["change"]:
            change = stored_change(context.params["change"])
            outcome = await limited(engine.update(vm.ref, change, context), LONG)
            seen = await limited(engine.inspect(vm.ref))
            note_waiting(vm, change, outcome, off=seen.state is PowerState.STOPPED)
            await Vm.filter(id=vm.id).update(pending=vm.pending, planned=vm.planned)
            await self._observations.apply_one(vm, seen)
            if vm.pending:
                await context.warn(_("At the next start: {fields}."), fields=", ".join(vm.pending))
                context.done(_("The VM is changed; some of it waits for the next start."))
        if context.params["limits"]:  # last: what the hypervisor refuses is refused whole
            held = dict(vm.limits) | context.params["limits"]
            await Vm.filter(id=vm.id).update(limits={name: value for name, value in held.items() if value is not None})
            if problem := await self._gateways.converge(host):
                await context.warn(_("Its limits hold when the gateway works again: {reason}"), reason=str(problem))
        return {"live": list(outcome.live), "at_next_start": list(outcome.at_next_start)}

    async def _again_update(self, actor: Actor, task: Task, params: dict[str, Any], notes: Sequence[Text]) -> Task:
        change, limits = stored_change(params["change"]), params["limits"]
        return await self.update(actor, await vm_of(task), change, limits=limits, notes=notes)

    async def _settle_update(self, context: TaskContext) -> tuple[TaskStatus, Text]:
        vm, host = await subject(context)
        seen = await self._look(vm, host)
        return TaskStatus.INTERRUPTED, Text(
            _("The panel stopped during this change. The VM has {cpu} CPUs, {memory} MiB and {disk} GiB now."),
            {"cpu": seen.cpu_count, "memory": seen.memory_mib, "disk": seen.disk_gib},
        )

    # -- deleting ------------------------------------------------------------------------------------------------

    async def delete(self, actor: Actor, vm: Vm, notes: Sequence[Text] = ()) -> Task:
        """Remove the VM with all that the panel made for it; disks that others made stay.

        Raises:
            Conflict: another task has the VM.
        """
        actor.require(Permission.MANAGE)
        capabilities(vm.host.engine).require("delete")
        await self._pool.require_somewhere(vm.host)
        return await self._tasks.submit(
            actor, "vm.delete", {}, host=(vm.host_id, vm.host.name), vm=(vm.id, vm.name), notes=notes
        )

    async def _again_delete(self, actor: Actor, task: Task, _params: dict[str, Any], notes: Sequence[Text]) -> Task:
        return await self.delete(actor, await vm_of(task), notes)

    async def _run_delete(self, context: TaskContext) -> dict[str, Any]:
        vm, host = await subject(context)
        self._observations.touch(vm.id)
        engine = self._pool.even_disabled(host)
        outcome = await limited(engine.delete(vm.ref, vm.name, context), LONG)
        context.done(_("The VM is removed."))
        await self._addresses.unreserve_all(vm, engine)
        await self._drop(context.task)
        problem = await self._gateways.converge(host)
        if problem is not None:
            await context.warn(_("Its forwards go when the gateway works again: {reason}"), reason=str(problem))
        return {"removed": list(outcome.removed), "kept": list(outcome.kept)}

    async def _settle_delete(self, context: TaskContext) -> tuple[TaskStatus, Text]:
        await context.warn(_("The panel stopped during this task."))
        if await Vm.exists(id=context.task.vm_id):
            context.task.result = await self._run_delete(context)
        return TaskStatus.SUCCEEDED, Text(_("The panel stopped during this delete, and finished it at its next start."))

    # -- scanning ------------------------------------------------------------------------------------------------

    async def scan(self, actor: Actor, host: Host, notes: Sequence[Text] = ()) -> Task:
        """Adopt the VMs of a host that the panel does not know, and mark those that vanished."""
        actor.require(Permission.MANAGE)
        capabilities(host.engine).require("scan")
        await self._pool.require_somewhere(host)
        return await self._tasks.submit(actor, "host.scan", {}, host=(host.id, host.name), notes=notes)

    async def _again_scan(self, actor: Actor, task: Task, _params: dict[str, Any], notes: Sequence[Text]) -> Task:
        if host := await Host.get_or_none(id=task.host_id):
            return await self.scan(actor, host, notes)
        raise NotFound(_("There is no host {name}."), name=task.host_name)

    async def _run_scan(self, context: TaskContext) -> dict[str, Any]:
        host = await Host.get(id=context.task.host_id)
        seen = [cleaned(item) for item in await limited(self._pool.of(host).observe(), 60)]
        known = {vm.ref: vm for vm in await Vm.filter(host_id=host.id)}
        added = [await self._adopt(host, item) for item in seen if item.ref not in known]
        there = {item.ref for item in seen}
        missing = [vm for vm in known.values() if vm.ref not in there and not vm.creating]
        for vm in missing:
            await self._observations.apply_missing(vm)
        self._observer.look_now(host.id, inventory=True)
        context.done(
            _("{total} VMs on the host, {added} new, {missing} missing."),
            total=len(seen), added=len(added), missing=len(missing),
        )  # fmt: skip
        return {"total": len(seen), "added": added, "missing": sorted(vm.name for vm in missing)}

    async def _adopt(self, host: Host, seen: VmObservation) -> str:
        name = await self._free_name(host, seen)
        try:
            vm = await Vm.create(
                host=host,
                name=name,
                ref=seen.ref,
                title=seen.title or name,
                os_name=seen.os_name,
                cpu_count=seen.cpu_count,
                memory_mib=seen.memory_mib,
                disk_gib=round(seen.disk_gib or 0.0, 2),
                managed=seen.managed,
            )
        except IntegrityError:  # a create or another scan stored it meanwhile
            return name
        await self._observations.apply_one(vm, seen)
        return name

    async def _free_name(self, host: Host, seen: VmObservation) -> str:
        try:
            name = check_identifier(seen.name, "vm_uuid")
        except InvalidInput:
            name = check_identifier(seen.ref, "vm_uuid")
        taken = await Vm.exists(host_id=host.id, name=name)
        return name if not taken else check_identifier(seen.ref, "vm_uuid")

    async def _settle_scan(self, context: TaskContext) -> tuple[TaskStatus, Text]:
        return TaskStatus.INTERRUPTED, Text(_("The panel stopped during this scan. Scan again."))

    # -- shared --------------------------------------------------------------------------------------------------

    async def _look(self, vm: Vm, host: Host) -> VmObservation:
        seen = await limited(self._pool.even_disabled(host).inspect(vm.ref))
        await self._observations.apply_one(vm, seen)
        return seen

    async def _check_there(self, vm: Vm) -> None:
        await self._pool.require_somewhere(vm.host)
        if vm.state is PowerState.MISSING:
            raise Conflict(_("VM {name} is missing on its host. Scan the host, or delete the entry."), name=vm.name)
