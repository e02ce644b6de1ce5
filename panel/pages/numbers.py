"""The numbers of the dashboard, and what was done last."""

from __future__ import annotations

from typing import Any

from panel import web
from panel.models import LogEntry
from panel.services.attention import failed_lately
from panel.services.audit import LogFilter
from panel.services.stats import statistics

LOG_SHOWN = 10


async def overview() -> dict[str, Any]:
    """``statistics`` and the tasks that failed lately."""
    return await statistics() | {"failed_lately": await failed_lately().count()}


async def latest() -> list[LogEntry]:
    """The newest entries of the log."""
    _total, entries = await web.services().audit.read(LogFilter(), limit=LOG_SHOWN)
    return entries
