"""What lists and pages show of VMs, hosts and tasks: read from the database in a fixed number of queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from markupsafe import Markup
from tortoise.expressions import Q
from tortoise.functions import Count, Sum
from tortoise.query_utils import Prefetch
from tortoise.queryset import QuerySet

from panel import web
from panel.engines.types import EngineKind, PowerAction, PowerState
from panel.i18n import Text, fill, gettext, language
from panel.i18n import gettext_noop as _
from panel.models import Host, Nic, Task, TaskStatus, Vm
from panel.pages.spark import Spark, spark_of
from panel.pages.words import ACTIONS, CONFIRM, asked_word, localised, say
from panel.services.clock import now
from panel.services.consoleways import kinds, kinds_of
from panel.services.engines import capabilities
from panel.services.labels import tags_of
from panel.services.power import ALLOWED, refusal
from panel.services.taskends import LIVING

LATEST_TASKS = 30
LISTED = (
    "id", "host_id", "name", "title", "os_name", "cpu_count", "memory_mib", "disk_gib", "creating", "created_at",
    "state", "known_state", "seen_at", "cpu_percent", "memory_used_mib",
)  # fmt: skip
TASK_STATES = {TaskStatus.SUCCEEDED: "success", TaskStatus.INTERRUPTED: "unsettled"}  # names of the style sheet


@dataclass(frozen=True, slots=True)
class PowerButton:
    """A power action as a button. ``symbol``: its ``icon``, drawn; ``reason``: why it cannot be pressed now, and what would
    mend it."""

    action: str
    label: str
    icon: str
    symbol: Markup
    reason: str | None
    confirm: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Busy:
    """The task that has a VM."""

    id: str
    title: str
    percent: int | None
    url: str


@dataclass(frozen=True, slots=True)
class VmRow:
    """A VM as lists and its page show it."""

    vm: Vm
    state: str
    url: str
    console_url: str
    power_url: str
    host_url: str
    busy: Busy | None
    buttons: tuple[PowerButton, ...]
    main: PowerButton  # the action that is wanted most often in the VM's state
    others: tuple[PowerButton, ...]
    console_reason: str | None
    addresses: tuple[str, ...]
    tags: tuple[str, ...]
    spark: Spark | None  # None too when it was not asked for

    @property
    def consoles(self) -> list[str]:
        """The consoles that it has: ``vnc``, ``spice``, ``text``; the usual one first."""
        return [str(kind) for kind in kinds(self.vm)]

    @property
    def screen_reason(self) -> str | None:
        """Why no picture of the screen can be taken now; None when one can."""
        if self.consoles == ["text"]:
            return say(_("A container has no screen. Open its text console."))
        reason = capabilities(self.vm.host.engine).why_not("screenshot")
        if reason is not None:
            return say(reason)
        if not self.vm.host.enabled:
            return say(_("Host {name} is disabled. Enable it first."), name=self.vm.host.name)
        if self.vm.creating:
            return say(_("The VM is being made."))
        if self.vm.state is PowerState.UNKNOWN:
            return say(_("Nobody knows whether the VM runs: its host does not answer."))
        if self.vm.state not in {PowerState.RUNNING, PowerState.SUSPENDED}:
            return say(_("The VM is not running, so it has no screen."))
        return None


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host with what its VMs were given."""

    host: Host
    url: str
    vm_count: int
    running: int
    cpu: int
    memory_mib: int
    disk_gib: float
    notices: list[Text]  # of its gateway

    @property
    def load(self) -> dict[str, Any]:
        """The host's load as last read; empty when it never was."""
        return self.host.status or {}


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task as lists show it. ``state`` is a name of the style sheet."""

    task: Task
    state: str
    title: str
    url: str
    vm_url: str | None
    again: bool  # it can be tried again


def listed(query: QuerySet[Vm]) -> QuerySet[Vm]:
    """The VMs with what a row of a list shows of them, and no more: most of what is kept of a VM and of its host is JSON."""
    hosts, nics = Host.all().only("id", "name", "engine", "enabled"), Nic.all().only("id", "vm_id", "addresses")
    return query.only(*LISTED).prefetch_related(Prefetch("host", hosts), Prefetch("nics", nics))


async def vm_rows(vms: Sequence[Vm], *, history: bool = False) -> list[VmRow]:
    """The rows of VMs whose ``host`` and ``nics`` are fetched, as by ``listed``. Two queries, one more with ``history``: the
    line of the last hour."""
    ids = [vm.id for vm in vms]
    busy = {
        task["vm_id"]: task
        for task in await Task.filter(vm_id__in=ids, status__in=LIVING).values(
            "id", "vm_id", "kind", "percent", "status", "params"
        )
    }
    tags = await tags_of(ids)
    cpu = await web.services().metrics.cpu_of_vms(ids) if history else {}
    return [_vm_row(vm, busy.get(vm.id), tags.get(vm.id, ()), cpu.get(vm.id, ())) for vm in vms]


async def vm_rows_by_id(ids: Iterable[int], *, history: bool = False) -> list[VmRow]:
    """The rows of these VMs for a list, as far as they exist."""
    return await vm_rows(await listed(Vm.filter(id__in=list(ids))), history=history)


async def whole_rows_by_id(ids: Iterable[int]) -> list[VmRow]:
    """The same with all that is kept of the VMs, for their pages."""
    return await vm_rows(await Vm.filter(id__in=list(ids)).prefetch_related("host", "nics"))


def _vm_row(vm: Vm, task: Mapping[str, Any] | None, tags: tuple[str, ...], cpu: Sequence[float | None]) -> VmRow:
    page, console, power, host = _urls(web.connection().root_path, vm.host.name, vm.name)
    busy = None
    if task is not None:
        started = task["status"] is TaskStatus.RUNNING or task["percent"]
        url = web.url("pages.task", task=task["id"])
        title = asked_word(task["kind"], task["params"], None)
        busy = Busy(task["id"], title, task["percent"] if started else None, url)
    buttons = _buttons(vm, busy)
    wanted = (button for button in buttons if vm.state in ALLOWED[PowerAction(button.action)])  # also while it is busy
    main = next((button for button in buttons if button.reason is None), None) or next(wanted, buttons[0])
    return VmRow(
        vm=vm,
        state="creating" if vm.creating else str(vm.state),
        url=page,
        console_url=console,
        power_url=power,
        host_url=host,
        busy=busy,
        buttons=buttons,
        main=main,
        others=tuple(button for button in buttons if button is not main),
        console_reason=_console_reason(vm),
        addresses=tuple(address for nic in vm.nics for address in nic.addresses),
        tags=tags,
        spark=spark_of(cpu) if cpu else None,
    )


@lru_cache(10_000)
def _urls(_root_path: str, host: str, vm: str) -> tuple[str, str, str, str]:
    """A VM's page, console, power actions, and its host's page: Werkzeug builds each URL anew, which a list feels."""
    path = {"host": host, "vm": vm}
    return (
        web.url("pages.vm", **path),
        web.url("console.page", **path),
        web.url("pages.vm_power", **path),
        web.url("pages.host", host=host),
    )


def _buttons(vm: Vm, busy: Busy | None) -> tuple[PowerButton, ...]:
    host, title = vm.host, vm.title or vm.name
    busy_reason = say(_("Busy: {task}."), task=busy.title) if busy is not None and not vm.creating else None
    return tuple(
        PowerButton(
            button.action,
            button.label,
            button.icon,
            button.symbol,
            busy_reason or (button.reason and fill(button.reason, {"name": vm.name})),
            button.confirm and {key: fill(text, {"name": title}) for key, text in button.confirm.items()},
        )
        for button in _buttons_of_any(
            web.connection().root_path,
            language(),
            host.engine,
            vm.state,
            vm.creating,
            "" if host.enabled else host.name,
        )
    )


@lru_cache(1000)
def _buttons_of_any(
    _root_path: str, _language: str, engine: EngineKind, state: PowerState, creating: bool, disabled: str
) -> tuple[PowerButton, ...]:
    """The buttons of any VM in such a state, its ``{name}`` still to be filled in: most rows of a list are alike in these."""
    made: list[PowerButton] = []
    for action, (label, icon) in ACTIONS.items():
        text = refusal(action, engine, state, creating=creating, disabled=disabled)
        confirm = (
            {"text": gettext(CONFIRM[action]), "title": f"{gettext(label)}: {{name}}"} if action in CONFIRM else None
        )
        reason = localised(text).translate() if text else None
        made.append(PowerButton(str(action), gettext(label), icon, web.icon(icon), reason, confirm))
    return tuple(made)


def _console_reason(vm: Vm) -> str | None:
    if not kinds_of(vm.host.engine):
        return say(capabilities(vm.host.engine).why_not("console") or "")
    if vm.creating:
        return say(_("The VM is being made."))
    if not vm.host.enabled:
        return Text(_("Host {name} is disabled. Enable it first."), {"name": vm.host.name}).translate()
    if vm.state is PowerState.MISSING:
        return say(_("The VM is not on its host."))
    return None


async def host_rows(hosts: Sequence[Host]) -> list[HostRow]:
    """The rows of hosts. One query."""
    given = {
        row["host_id"]: row
        for row in await Vm.filter(host_id__in=[host.id for host in hosts])
        .annotate(
            n=Count("id"),
            running=Count("id", _filter=Q(state=PowerState.RUNNING)),
            cpu=Sum("cpu_count"),
            memory=Sum("memory_mib"),
            disk=Sum("disk_gib"),
        )
        .group_by("host_id")
        .values("host_id", "n", "running", "cpu", "memory", "disk")
    }
    return [_host_row(host, given.get(host.id, {})) for host in hosts]


def _host_row(host: Host, given: dict[str, Any]) -> HostRow:
    return HostRow(
        host=host,
        url=web.url("pages.host", host=host.name),
        vm_count=given.get("n", 0),
        running=given.get("running", 0),
        cpu=int(given.get("cpu") or 0),
        memory_mib=int(given.get("memory") or 0),
        disk_gib=float(given.get("disk") or 0),
        notices=web.services().gateways.notices(host),
    )


async def task_rows(tasks: Sequence[Task]) -> list[TaskRow]:
    """The rows of tasks. One query: which of their VMs still exist."""
    ids = {task.vm_id for task in tasks if task.vm_id is not None}
    there = (
        {row["id"]: row for row in await Vm.filter(id__in=list(ids)).values("id", "name", "host__name")} if ids else {}
    )
    rows = []
    for task in tasks:
        vm = there.get(task.vm_id) if task.vm_id is not None else None
        url = web.url("pages.vm", host=vm["host__name"], vm=vm["name"]) if vm else None
        state = "cancelling" if task.cancel_requested and not task.status.ended else None
        rows.append(
            TaskRow(
                task=task,
                state=state or TASK_STATES.get(task.status, str(task.status)),
                title=asked_word(task.kind, task.params, task.result),
                url=web.url("pages.task", task=task.id),
                vm_url=url,
                again=(url is not None or task.vm_id is None) and web.services().tasks.repeatable(task),
            )
        )
    return rows


def newest(rows: Sequence[TaskRow]) -> datetime:
    """When the first of these tasks was asked for, which is the newest; now, when there is none."""
    return rows[0].task.created_at if rows else now()


async def vm_tasks(vm_id: int) -> list[TaskRow]:
    """The latest tasks of a VM."""
    return await task_rows(await Task.filter(vm_id=vm_id).order_by("-created_at").limit(LATEST_TASKS))


async def host_tasks(host_id: int) -> list[TaskRow]:
    """The latest tasks of a host and its VMs."""
    return await task_rows(await Task.filter(host_id=host_id).order_by("-created_at").limit(LATEST_TASKS))
