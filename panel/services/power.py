"""Power and passwords: what is asked of a VM that exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from panel.engines.types import EngineKind, PowerAction, PowerState
from panel.errors import Conflict, EngineFailure, NotFound
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Task, TaskStatus, Vm
from panel.security import Actor, Permission
from panel.services.engines import EnginePool, capabilities, limited
from panel.services.names import check_password
from panel.services.observations import Observations
from panel.services.taskcontext import TaskContext
from panel.services.tasks import TaskService, subject, vm_of

POWER_SECONDS = 300.0  # the engine's own deadlines are shorter
PASSWORD_SECONDS = 60.0

ALLOWED: dict[PowerAction, frozenset[PowerState]] = {
    PowerAction.START: frozenset({PowerState.STOPPED, PowerState.CRASHED}),
    PowerAction.STOP: frozenset({PowerState.RUNNING, PowerState.SUSPENDED, PowerState.CRASHED}),
    PowerAction.SHUTDOWN: frozenset({PowerState.RUNNING}),
    PowerAction.SUSPEND: frozenset({PowerState.RUNNING}),
    PowerAction.RESUME: frozenset({PowerState.SUSPENDED}),
    PowerAction.RESET: frozenset({PowerState.RUNNING, PowerState.CRASHED}),
}
EXPECTED: dict[PowerAction, PowerState] = {
    PowerAction.START: PowerState.RUNNING,
    PowerAction.STOP: PowerState.STOPPED,
    PowerAction.SHUTDOWN: PowerState.STOPPED,
    PowerAction.SUSPEND: PowerState.SUSPENDED,
    PowerAction.RESUME: PowerState.RUNNING,
    PowerAction.RESET: PowerState.RUNNING,
}
IMPOSSIBLE = _("VM {name} is {state}: {action} is not possible.")
INSTEAD = _("VM {name} is {state}: {action} is not possible. Possible now: {possible}.")


def why_not(vm: Vm, action: PowerAction) -> Text | None:
    """Why an action makes no sense for a VM as last seen; None when it does. For buttons: the act itself looks again."""
    host = vm.host
    reason = refusal(action, host.engine, vm.state, creating=vm.creating, disabled="" if host.enabled else host.name)
    return Text(reason.msgid, {"name": vm.name} | dict(reason.params)) if reason else None


def refusal(
    action: PowerAction, engine: EngineKind, state: PowerState, *, creating: bool, disabled: str
) -> Text | None:
    """The same of any VM of an engine in a state: the VM's ``name`` is left to be filled in.

    Args:
        disabled: the name of the VM's host, if that is disabled.
    """
    reason = capabilities(engine).why_not(f"power.{action}")
    if reason is not None:
        return Text(reason)
    if creating:
        return Text(_("The VM is being made."))
    if disabled:
        return Text(_("Host {name} is disabled. Enable it first."), {"name": disabled})
    if state not in ALLOWED[action]:
        return Text(IMPOSSIBLE, {"state": state, "action": action})
    return None


def _possible(engine: EngineKind, state: PowerState) -> list[PowerAction]:
    """What an engine can do to a VM in a state."""
    able = capabilities(engine)
    return [action for action in ALLOWED if state in ALLOWED[action] and able.why_not(f"power.{action}") is None]


def _said(params: Mapping[str, Any]) -> Text | None:
    action = params.get("action")
    return Text(_("Change a VM's power: {action}"), {"action": action}) if action else None


class PowerService:
    """Power actions and guest passwords, as tasks."""

    def __init__(self, tasks: TaskService, pool: EnginePool, observations: Observations) -> None:
        self._tasks = tasks
        self._pool = pool
        self._observations = observations
        title = _("Change a VM's power")
        tasks.register("vm.power", self._run_power, self._settle_power, title, self._again_power, _said)
        tasks.register("vm.password", self._run_password, self._settle_password, _("Set a guest's password"))

    async def act(
        self, actor: Actor, vm: Vm, action: PowerAction, notes: Sequence[Text] = (), *, waking: bool = False
    ) -> Task:
        """Begin a power action.

        Args:
            waking: a start wakes a suspended VM, where the engine can. ``API.zh.md`` has suspend, and no resume.

        Raises:
            Conflict: the VM's state (read from the hypervisor now, or as last seen where another machine's process alone
                reaches it) forbids it, or another task has the VM.
            Unsupported: the engine cannot.
        """
        actor.require(Permission.OPERATE)
        capabilities(vm.host.engine).require(f"power.{action}")
        await self._pool.require_somewhere(vm.host)
        if not vm.creating:  # else the lock answers, with the task that makes it
            busy = await Task.exists(lock=f"vm:{vm.id}")
            if not busy:
                state = await self._state(vm)
                if waking and action is PowerAction.START and PowerAction.RESUME in _possible(vm.host.engine, state):
                    action = PowerAction.RESUME
                await self._check(vm, action, state)
        return await self._tasks.submit(
            actor, "vm.power", {"action": action}, host=(vm.host_id, vm.host.name), vm=(vm.id, vm.name), notes=notes
        )

    async def set_password(
        self, actor: Actor, vm: Vm, password: str, user: str = "", notes: Sequence[Text] = ()
    ) -> Task:
        """Begin to set a password inside the guest; ``user`` empty means the image's default user.

        Raises:
            InvalidInput: no password a guest would take.
            Conflict: the VM is not running, has no guest agent, or another task has it.
        """
        actor.require(Permission.OPERATE)
        capabilities(vm.host.engine).require("password")
        check_password(password, "password")
        await self._pool.require_somewhere(vm.host)
        if vm.state not in {PowerState.RUNNING, PowerState.UNKNOWN}:
            raise Conflict(_("VM {name} is {state}. Start it first."), name=vm.name, state=vm.state)
        params = {"user": user or vm.user, "password": password}
        return await self._tasks.submit(
            actor, "vm.password", params, host=(vm.host_id, vm.host.name), vm=(vm.id, vm.name), notes=notes
        )

    async def _state(self, vm: Vm) -> PowerState:
        """Of the hypervisor now; as last seen where only another machine's processes reach it, whose task looks again."""
        if self._pool.elsewhere(vm.host):
            return PowerState(vm.state)
        try:
            return (await limited(self._pool.of(vm.host).inspect(vm.ref))).state
        except NotFound:
            return PowerState.MISSING

    async def _check(self, vm: Vm, action: PowerAction, state: PowerState) -> None:
        if state is PowerState.MISSING:
            await self._observations.apply_missing(vm)
        if state not in ALLOWED[action]:
            possible = ", ".join(_possible(vm.host.engine, state))
            message = INSTEAD if possible else IMPOSSIBLE
            raise Conflict(message, name=vm.name, state=state, action=action, possible=possible)

    async def _run_power(self, context: TaskContext) -> dict[str, Any]:
        vm, host = await subject(context)
        action = PowerAction(context.params["action"])
        engine = self._pool.of(host)
        self._observations.touch(vm.id)
        try:
            await limited(engine.power(vm.ref, action, context), POWER_SECONDS)
        finally:
            seen = await limited(engine.inspect(vm.ref))
            await self._observations.apply_one(vm, seen)
        if seen.state is not EXPECTED[action]:
            raise EngineFailure(
                _("The hypervisor said that {action} was done, but the VM is {state}."),
                action=action,
                state=seen.state,
            )
        context.done(_("The VM is {state}."), state=seen.state)
        return {"action": action, "state": seen.state}

    async def _again_power(self, actor: Actor, task: Task, params: dict[str, Any], notes: Sequence[Text]) -> Task:
        return await self.act(actor, await vm_of(task), PowerAction(params["action"]), notes)

    async def _settle_power(self, context: TaskContext) -> tuple[TaskStatus, Text]:
        vm, host = await subject(context)
        action = PowerAction(context.params["action"])
        seen = await limited(self._pool.even_disabled(host).inspect(vm.ref))
        await self._observations.apply_one(vm, seen)
        if seen.state is EXPECTED[action] and action is not PowerAction.RESET:
            return TaskStatus.SUCCEEDED, Text(_("The panel stopped during this task; the VM is {state}."),
                                              {"state": seen.state})  # fmt: skip
        text = _("The panel stopped during this task; the VM is {state}. Ask again if that is not what you want.")
        return TaskStatus.INTERRUPTED, Text(text, {"state": seen.state})

    async def _run_password(self, context: TaskContext) -> dict[str, Any]:
        vm, host = await subject(context)
        user = context.params["user"]
        await limited(self._pool.of(host).set_password(vm.ref, user, context.params["password"]), PASSWORD_SECONDS)
        context.done(_("The password of {user} is set."), user=user)
        return {"user": user}

    async def _settle_password(self, context: TaskContext) -> tuple[TaskStatus, Text]:
        text = _("The panel stopped during this task. Nobody knows whether the password is set: set it again.")
        return TaskStatus.INTERRUPTED, Text(text)
