"""How a task's end is stored: once, whole, and also while the database is away or its disk is full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from tortoise.transactions import in_transaction

from panel.events import EventBus, TaskChanged
from panel.i18n import Text
from panel.models import Task, TaskLine, TaskStatus
from panel.models.database import is_away, is_unable
from panel.security import Actor, Source
from panel.services.audit import AuditLog
from panel.services.clock import now
from panel.services.nodes import Nodes
from panel.services.texts import pack
from panel.services.whole import to_the_end

LIVING = (TaskStatus.QUEUED, TaskStatus.RUNNING)
END = ("status", "ended_at", "message", "lock", "params", "error_status", "percent", "result")
WRITE_AGAIN = 0.3  # seconds between tries to write an end while the database is away
SETTLE_RETRY = 5.0  # seconds between tries to settle what could not be, with a host or a database that is not able to

terminal = structlog.get_logger("panel.tasks")


class TaskEnds:
    """Writes them. ``repeatable``: whether a task that ends so can be tried again, and so keeps its parameters."""

    def __init__(self, events: EventBus, audit: AuditLog, nodes: Nodes, repeatable: Callable[[Task], bool]) -> None:
        self._events = events
        self._audit = audit
        self._nodes = nodes
        self._repeatable = repeatable

    async def write(self, task: Task, status: TaskStatus, text: Text, error_status: int | None = None) -> None:
        """Store the end; what cannot be stored now is tried again, or is settled at the next start or by another process."""
        line = pack(text) != task.message  # else the last step said it already
        while True:
            try:
                return await to_the_end(self._write(task, status, text, error_status, line=line))
            except Exception as error:
                if not (self._nodes.in_touch if is_away(error) else is_unable(error)):
                    raise
                terminal.warning("task's end not stored", task=task.id, kind=task.kind, reason=type(error).__name__)
                pause = WRITE_AGAIN if is_away(error) else SETTLE_RETRY
            await asyncio.sleep(pause)

    async def _write(self, task: Task, status: TaskStatus, text: Text, error_status: int | None, *, line: bool) -> None:
        level = "info" if status is TaskStatus.SUCCEEDED else "warning" if status is not TaskStatus.FAILED else "error"
        task.status, task.ended_at, task.message = status, now(), pack(text)
        task.lock, task.error_status = None, error_status
        if not self._repeatable(task):
            task.params = ""  # secrets do not outlive the task
        if status is TaskStatus.SUCCEEDED:
            task.percent = 100
        async with in_transaction("default"):
            living = Task.filter(id=task.id, status__in=LIVING, owner=task.owner)
            if not await living.update(**{name: getattr(task, name) for name in END}):
                terminal.warning("another process has settled a task", task=task.id)
                return
            if line:
                await TaskLine.create(task_id=task.id, at=now(), level=level, message=pack(text))
            if status is not TaskStatus.SUCCEEDED:
                actor = Actor(task.actor, Source(task.source))
                name = f"{task.host_name}/{task.vm_name}" if task.vm_name else task.host_name
                kind = "vm" if task.vm_name else "host"
                await self._audit.write(actor, task.kind, kind, name, text, level=level)
        self._events.publish(TaskChanged(task.id, ended=True))
