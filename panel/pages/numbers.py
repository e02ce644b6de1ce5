"""The numbers of the dashboard."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from panel.models import Task, TaskStatus
from panel.services.clock import now
from panel.services.stats import statistics

RECENT = timedelta(hours=24)


async def overview() -> dict[str, Any]:
    """``statistics`` and the tasks that failed lately."""
    failed = (TaskStatus.FAILED, TaskStatus.INTERRUPTED)
    lately = await Task.filter(status__in=failed, created_at__gte=now() - RECENT).count()
    return await statistics() | {"failed_lately": lately}
