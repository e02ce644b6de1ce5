"""The dashboard: hosts and their load, VMs by state, what needs attention, what was done last."""

from __future__ import annotations

from quart import Response

from panel import web
from panel.engines.types import PowerState
from panel.models import Host, Task, TaskStatus, Vm
from panel.models.host import HostHealth
from panel.pages.numbers import RECENT, overview
from panel.pages.rows import HostRow, TaskRow, host_rows, task_rows
from panel.pages.shared import get, page
from panel.pages.topics import live_url
from panel.security import Actor
from panel.services.audit import LogFilter
from panel.services.clock import now

HOSTS_SHOWN = 20
FAILED_SHOWN = 5
LOG_SHOWN = 10


@get("/", "dashboard")
async def dashboard(_actor: Actor) -> Response:
    """The first page."""
    rows = await host_rows(await Host.all().order_by("name").limit(HOSTS_SHOWN))
    _total, entries = await web.services().audit.read(LogFilter(), limit=LOG_SHOWN)
    unreachable = await host_rows(await Host.filter(health=HostHealth.UNREACHABLE).order_by("name").limit(HOSTS_SHOWN))
    return await page(
        "pages/dashboard/dashboard.html",
        numbers=await overview(),
        rows=rows,
        unreachable=unreachable,
        failed=await _failed(),
        missing=await Vm.filter(state=PowerState.MISSING).count(),
        leftovers=_with_leftovers(rows),
        entries=entries,
        live_url=live_url(flags=("hosts", "overview")),
    )


async def _failed() -> list[TaskRow]:
    query = Task.filter(status__in=(TaskStatus.FAILED, TaskStatus.INTERRUPTED), created_at__gte=now() - RECENT)
    return await task_rows(await query.order_by("-created_at").limit(FAILED_SHOWN))


def _with_leftovers(rows: list[HostRow]) -> list[HostRow]:
    return [row for row in rows if row.host.leftovers]
