"""The dashboard: hosts and what of them is given away, VMs by state, what needs attention, what was done last."""

from __future__ import annotations

from quart import Response

from panel.models import Host
from panel.pages.attention import attention
from panel.pages.numbers import latest, overview
from panel.pages.rows import host_rows
from panel.pages.shared import get, page
from panel.pages.topics import live_url
from panel.security import Actor

HOSTS_SHOWN = 20


@get("/", "dashboard")
async def dashboard(_actor: Actor) -> Response:
    """The first page."""
    rows = await host_rows(await Host.all().order_by("name").limit(HOSTS_SHOWN))
    return await page(
        "pages/dashboard/dashboard.html",
        numbers=await overview(),
        rows=rows,
        groups=await attention(),
        entries=await latest(),
        live_url=live_url(hosts=[row.host.id for row in rows], flags=("hosts", "overview")),
    )
