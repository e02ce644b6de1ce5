"""Snapshots of VMs: taken, rolled back to and removed, as tasks. What there is, the observer sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from panel.engines.common.checks import check_snapshot
from panel.engines.types import SnapshotAction
from panel.errors import Conflict, EngineFailure
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Task, TaskStatus, Vm
from panel.security import Actor, Permission
from panel.services.engines import EnginePool, capabilities, limited
from panel.services.observations import Observations
from panel.services.taskcontext import TaskContext
from panel.services.tasks import TaskService, subject, vm_of

SECONDS = 3900.0  # the engines' own deadlines are shorter
DONE = {
    SnapshotAction.TAKE: _("Snapshot {name} is taken."),
    SnapshotAction.ROLLBACK: _("The VM is what it was at snapshot {name}."),
    SnapshotAction.REMOVE: _("Snapshot {name} is removed."),
}
SAID = {
    SnapshotAction.TAKE: _("Take snapshot {snapshot}"),
    SnapshotAction.ROLLBACK: _("Roll back to snapshot {snapshot}"),
    SnapshotAction.REMOVE: _("Remove snapshot {snapshot}"),
}


def _said(params: Mapping[str, Any]) -> Text | None:
    if "action" not in params:
        return None
    return Text(SAID[SnapshotAction(params["action"])], {"snapshot": params.get("name") or params.get("snapshot")})


class SnapshotService:
    """What is asked of a VM's snapshots."""

    def __init__(self, tasks: TaskService, pool: EnginePool, observations: Observations) -> None:
        self._tasks, self._pool, self._observations = tasks, pool, observations
        tasks.register("vm.snapshot", self._run, self._settle, _("Work on a VM's snapshot"), self._again, _said)

    async def act(self, actor: Actor, vm: Vm, action: SnapshotAction, name: str, notes: Sequence[Text] = ()) -> Task:
        """Begin it.

        Raises:
            InvalidInput: no name that every hypervisor takes (``snapshot``).
            Conflict: the VM is being made, or another task has it.
            Unsupported: the engine cannot.
        """
        actor.require(Permission.MANAGE)
        capabilities(vm.host.engine).require("snapshots")
        await self._pool.require_somewhere(vm.host)
        check_snapshot(name)
        if vm.creating:
            raise Conflict(_("The VM is being made."))
        params = {"action": action, "name": name}
        return await self._tasks.submit(
            actor, "vm.snapshot", params, host=(vm.host_id, vm.host.name), vm=(vm.id, vm.name), notes=notes
        )

    async def _run(self, context: TaskContext) -> dict[str, Any]:
        vm, host = await subject(context)
        action, name = SnapshotAction(context.params["action"]), str(context.params["name"])
        engine = self._pool.of(host)
        self._observations.touch(vm.id)
        try:
            await limited(engine.snapshot(vm.ref, action, name, context), SECONDS)
        finally:
            seen = await limited(engine.inspect(vm.ref))
            await self._observations.apply_one(vm, seen)
        if (name in {one.name for one in seen.snapshots}) is (action is SnapshotAction.REMOVE):
            raise EngineFailure(_("The hypervisor said that it was done, but its list of snapshots says otherwise."))
        context.done(DONE[action], name=name)
        return {"action": action, "snapshot": name, "state": seen.state}

    async def _again(self, actor: Actor, task: Task, params: dict[str, Any], notes: Sequence[Text]) -> Task:
        return await self.act(actor, await vm_of(task), SnapshotAction(params["action"]), params["name"], notes)

    async def _settle(self, context: TaskContext) -> tuple[TaskStatus, Text]:
        vm, host = await subject(context)
        seen = await limited(self._pool.even_disabled(host).inspect(vm.ref))
        await self._observations.apply_one(vm, seen)
        action, name = SnapshotAction(context.params["action"]), str(context.params["name"])
        there = name in {one.name for one in seen.snapshots}
        if action is not SnapshotAction.ROLLBACK and there is (action is SnapshotAction.TAKE):
            return TaskStatus.SUCCEEDED, Text(_("The panel stopped during this task; what was asked for is done."))
        text = _("The panel stopped during this task, and nobody knows how far it came. Look at the VM's snapshots.")
        return TaskStatus.INTERRUPTED, Text(text)
