"""The fragments of live pages: each is a macro of ``templates/partials``, the same that made the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from markupsafe import escape
from tortoise.expressions import Q

from panel import i18n, web
from panel.engines.types import PowerState
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Host, Task, TaskLine, Vm
from panel.pages.attention import attention
from panel.pages.drawer import drawer
from panel.pages.hardware import hardware_facts
from panel.pages.images import image_list
from panel.pages.network import address_reason, forward_rows
from panel.pages.numbers import latest, overview
from panel.pages.proxies import domain_rows
from panel.pages.published import published_of
from panel.pages.rows import VmRow, host_rows, task_rows, vm_rows_by_id, whole_rows_by_id
from panel.pages.snapshots import snapshot_list
from panel.pages.topics import MOST_ROWS, Topics
from panel.services.taskends import LIVING

Key = tuple[str, int | str]
SLOW = frozenset({"seen", "attention"})
GONE = _("Gone")
SLACK = timedelta(seconds=2)  # between the reading of a page and the time in its address

VMS = "partials/vms/row.html"
VM = "partials/vms/vm.html"
HARDWARE = "partials/vms/hardware.html"
SNAPSHOTS = "partials/vms/snapshots.html"
NETWORK = "partials/vms/network.html"
DOMAINS = "partials/vms/domains.html"
LABELS = "partials/vms/labels.html"
SCREEN = "partials/vms/screen.html"
PUBLISHED = "partials/vms/published.html"
HOSTS = "partials/hosts/row.html"
HOST = "partials/hosts/host.html"
IMAGES = "partials/hosts/images.html"
TASKS = "partials/tasks/row.html"
TASK = "partials/tasks/task.html"
DRAWER = "partials/tasks/drawer.html"
LISTS = "partials/lists.html"
DASHBOARD = "partials/dashboard.html"
ATTENTION = "partials/attention.html"


class Fragments:
    """Renders what changed for one page."""

    def __init__(self, topics: Topics, csrf: str) -> None:
        self._topics = topics
        self._csrf = csrf

    async def missed(self) -> list[Key]:
        """What may have changed between the rendering of the page and now; after a break, since what was told last."""
        topics = self._topics
        since = topics.since - SLACK if topics.since else None
        keys: list[Key] = [(name, value) for name, value in (("vm", topics.vm), ("host", topics.host),
                                                             ("task", topics.task)) if value is not None]  # fmt: skip
        if topics.new_vms:
            keys.append(("new-vms", 0))
        if topics.new_tasks:
            keys.append(("new-tasks", 0))
        if since is None:
            return keys
        changed = await Vm.filter(Q(state_since__gte=since) | Q(creating=True), id__in=list(topics.vms)).values_list(
            "id", flat=True
        )
        busy = await Task.filter(Q(ended_at__gte=since) | Q(status__in=LIVING), vm_id__in=list(topics.vms)).values_list(
            "vm_id", flat=True
        )
        there = set(await Vm.filter(id__in=list(topics.vms)).values_list("id", flat=True))
        keys += [("vm-row", vm_id) for vm_id in topics.vms & {*changed, *busy} | (topics.vms - there)]
        keys += [("seen", host_id) for host_id in await self._hosts_of_vms()]
        if topics.hosts:
            keys += [("host-row", host_id) for host_id in topics.shown_hosts]
        if topics.overview:
            keys += [("overview", 0), ("attention", 0)]
        if topics.tasks:
            recent = Task.filter(Q(ended_at__gte=since) | Q(status__in=LIVING)).order_by("-created_at").limit(MOST_ROWS)
            keys += [("task-row", str(task_id)) for task_id in await recent.values_list("id", flat=True)]
        return [*keys, ("count", 0)]

    async def _hosts_of_vms(self) -> set[int]:
        shown = self._shown_vms()
        return set(await Vm.filter(id__in=shown).values_list("host_id", flat=True)) if shown else set()  # type: ignore[arg-type]

    def _shown_vms(self) -> list[int]:
        return [*self._topics.vms, *([self._topics.vm] if self._topics.vm else [])]

    async def render(self, keys: Sequence[Key]) -> list[str]:
        """The fragments of these keys, with a fixed number of queries per kind."""
        by_kind: dict[str, list[Any]] = {}
        for kind, value in keys:
            by_kind.setdefault(kind, []).append(value)
        made: list[str] = []
        for kind, values in by_kind.items():
            made += await getattr(self, "_" + kind.replace("-", "_"))(values)
        return made

    def _partial(self, template: str, macro: str, *args: Any) -> str:
        return web.partial(template, macro, *args, csrf_token=self._csrf, lang=i18n.language())

    def vm_key(self, vm_id: int) -> Key | None:
        """What of a list of VMs a change of this one is about."""
        if vm_id in self._topics.vms:
            return ("vm-row", vm_id)
        return ("new-vms", 0) if self._topics.new_vms else None

    async def _vm_row(self, ids: list[int]) -> list[str]:
        rows = await self._rows(ids)
        gone = set(ids) - {row.vm.id for row in rows}
        return [self._row(row, True) for row in rows] + [_gone(f"vm-{vm_id}") for vm_id in gone]

    async def _rows(self, ids: list[int]) -> list[VmRow]:
        return await vm_rows_by_id(ids, history="history" in self._topics.columns)

    def _row(self, row: VmRow, oob: bool = False) -> str:
        return self._partial(VMS, "vm_row", row, oob, self._topics.pick, self._topics.columns)

    async def _vm(self, ids: list[int]) -> list[str]:
        made: list[str] = []
        rows = await whole_rows_by_id(ids)
        for row in rows:
            made.append(self._partial(VM, "vm_head", row, True))
            if self._topics.network:
                made += await self._vm_network(row.vm)
            elif self._topics.hardware:
                made.append(self._partial(HARDWARE, "vm_hardware", row.vm, hardware_facts(row.vm), True))
            elif self._topics.snapshots:
                made.append(self._partial(SNAPSHOTS, "vm_snapshots", snapshot_list(row), True))
            elif self._topics.console:
                made.append(self._partial(SCREEN, "vm_console", row, True))
            else:
                made.append(self._partial(VM, "vm_overview", row, True))
                made.append(self._partial(LABELS, "vm_labels_shown", row, True))
                made.append(self._partial(PUBLISHED, "vm_published", row.vm, await published_of(row.vm), True))
        for vm_id in set(ids) - {row.vm.id for row in rows}:
            last = await Task.filter(vm_id=vm_id).order_by("-created_at").first()
            made.append(self._partial(VM, "vm_gone", vm_id, last, True))
        return made

    async def _vm_network(self, vm: Vm) -> list[str]:
        """The lists of the network tab. Its forms stay as they are: somebody may be typing."""
        addresses = await web.services().addresses.rows(vm)
        return [
            self._partial(NETWORK, "vm_forwards", vm, await forward_rows(vm), True),
            self._partial(DOMAINS, "vm_domains", vm, await domain_rows(vm), True),
            self._partial(NETWORK, "vm_addresses", vm, addresses, address_reason(vm.host), True),
        ]

    async def _seen(self, host_ids: list[int]) -> list[str]:
        shown = self._shown_vms()
        seen = await Vm.filter(id__in=shown, host_id__in=host_ids).values("id", "seen_at", "state") if shown else []
        return [
            self._partial(VMS, "vm_seen", row["id"], row["seen_at"], True, row["state"] is PowerState.UNKNOWN)
            for row in seen
        ]

    async def _host_row(self, ids: list[int]) -> list[str]:
        rows = await host_rows(await Host.filter(id__in=ids))
        gone = set(ids) - {row.host.id for row in rows}
        template = DASHBOARD if self._topics.overview else HOSTS
        return [self._partial(template, "host_row", row, True) for row in rows] + [_gone(f"host-{one}") for one in gone]

    async def _host(self, ids: list[int]) -> list[str]:
        made: list[str] = []
        for row in await host_rows(await Host.filter(id__in=ids)):
            made += [
                self._partial(HOST, "host_state", row, True),
                self._partial(HOST, "host_capacity", row, True),
            ]
            if self._topics.images:  # its forms stay as they are: somebody may be typing
                made.append(self._partial(IMAGES, "host_images", await image_list(row.host), True))
        return made

    async def _task_row(self, ids: list[str]) -> list[str]:
        shown = Task.filter(id__in=ids)
        if self._topics.new_tasks:
            shown = shown.filter(created_at__lte=self._topics.new_tasks)
        return [
            self._partial(TASKS, "task_row", row, True) for row in await task_rows(await shown.order_by("created_at"))
        ]

    async def _new_tasks(self, _keys: Iterable[int]) -> list[str]:
        topics = self._topics
        about = {name: value for name, value in (("vm_id", topics.vm), ("host_id", topics.host)) if value is not None}
        count = await Task.filter(created_at__gt=topics.new_tasks, **about).count()
        return [self._partial(LISTS, "new_tasks", count, True)]

    async def _new_vms(self, _keys: Iterable[int]) -> list[str]:
        count = await Vm.filter(created_at__gt=self._topics.new_vms).count()
        return [self._partial(LISTS, "new_vms", count, True)]

    async def _task(self, ids: list[str]) -> list[str]:
        made: list[str] = []
        for row in await task_rows(await Task.filter(id__in=ids)):
            lines = await TaskLine.filter(task_id=row.task.id)
            made += [self._partial(TASK, "task_head", row, True), self._partial(TASK, "task_body", row, lines, True)]
        return made

    async def _count(self, _keys: Iterable[int]) -> list[str]:
        now = await drawer()
        return [
            self._partial("partials/tasks/count.html", "count", now.running),
            self._partial(DRAWER, "drawer_head", now, True),
            self._partial(DRAWER, "drawer_body", now, True),
        ]

    async def _overview(self, _keys: Iterable[int]) -> list[str]:
        numbers = await overview()
        return [self._partial(DASHBOARD, name, numbers, True) for name in ("tiles", "states")]

    async def _attention(self, _keys: Iterable[int]) -> list[str]:
        return [
            self._partial(ATTENTION, "attention", await attention(), True),
            self._partial(DASHBOARD, "activity", await latest(), True),
        ]


def _gone(element: str) -> str:
    """The row stays in its place, as tall as it was: what is below it does not move."""
    return f'<div id="{element}" hx-swap-oob="gone">{escape(gettext(GONE))}</div>'
