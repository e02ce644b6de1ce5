"""The drawer at the foot of every page: the tasks at work, and the last that ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tortoise.expressions import Q, Subquery

from panel import web
from panel.models import Task
from panel.pages.rows import TaskRow, task_rows
from panel.services.taskends import LIVING

ENDED_SHOWN = 5
LATEST = 30  # among the last that were asked for are the last that ended


@dataclass(frozen=True, slots=True)
class Drawer:
    """What the drawer shows: ``living`` newest first, ``ended`` in the order of their ends, latest first."""

    living: Sequence[TaskRow]
    ended: Sequence[TaskRow]

    @property
    def running(self) -> int:
        """How many tasks are queued or running."""
        return len(self.living)


async def drawer() -> Drawer:
    """Read now. Two queries: the tasks, and which of their VMs exist."""
    latest = Subquery(Task.all().order_by("-created_at").limit(LATEST).values("id"))
    tasks = await Task.filter(Q(status__in=LIVING) | Q(id__in=latest)).order_by("-created_at", "id")
    living = [task for task in tasks if not task.status.ended]
    over = [task for task in tasks if task.status.ended]
    ended = sorted(over, key=lambda task: task.ended_at or task.created_at, reverse=True)[:ENDED_SHOWN]
    rows = await task_rows([*living, *ended])
    return Drawer(rows[: len(living)], rows[len(living) :])


@web.add_context
async def tasks_of_every_page() -> dict[str, Any]:
    """For the layout: the drawer, and the number on the top bar."""
    now = await drawer()
    return {"drawer": now, "running_tasks": now.running}
