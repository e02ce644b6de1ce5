"""What the code of a running task is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from panel.events import TaskChanged
from panel.i18n import Text
from panel.models import Task
from panel.models.database import is_away
from panel.services.texts import pack

if TYPE_CHECKING:
    from panel.services.tasks import TaskService

terminal = structlog.get_logger("panel.tasks")


class TaskContext:
    """What a running task's code gets: its row, its parameters, and the ``Reporter`` that engines know."""

    def __init__(self, service: TaskService, task: Task, params: dict[str, Any]) -> None:
        self._service = service
        self.task = task
        self.params = params
        self.outcome: Text | None = None

    def done(self, message: str, /, **params: object) -> None:
        """What is true when the work ends well; without it the last step stands for that."""
        self.outcome = Text(message, params)

    async def step(self, message: str, /, *, percent: int | None = None, **params: object) -> None:
        """A line for the log; ``percent`` moves the bar, which never goes back."""
        text = Text(message, params)
        self.task.message = pack(text)
        if percent is not None:
            self.task.percent = max(self.task.percent, min(99, percent))
        await self._keep(text)

    async def progress(self, message: str, /, *, percent: int, **params: object) -> None:
        """What it is at and how far, without a line of the log: for what moves all the time. Call it once a second at most."""
        self.task.message = pack(Text(message, params))
        self.task.percent = max(self.task.percent, min(99, percent))
        await self._keep()

    async def warn(self, message: str, /, **params: object) -> None:
        """A line that the operator should read."""
        with _though_away(self.task):
            await self._service.log(self.task.id, "warning", Text(message, params))

    async def _keep(self, line: Text | None = None) -> None:
        with _though_away(self.task):
            await self.task.save(update_fields=["message", "percent"])
            if line is not None:
                await self._service.log(self.task.id, "info", line)
            self._service.events.publish(TaskChanged(self.task.id, ended=False))


@contextmanager
def _though_away(task: Task) -> Iterator[None]:
    """Work on a host does not break off because its log cannot be written for a moment: PostgreSQL starts again."""
    try:
        yield
    except Exception as error:
        if not is_away(error):
            raise
        terminal.warning("a line of a task's log was lost", task=task.id, reason=type(error).__name__)
