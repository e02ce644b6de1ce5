"""Tasks among several processes: each is claimed by one, and what a dead one left is settled by another, once.

A task runs where its host is watched, so that what the task does and what is seen meanwhile are known in one place. The rows say
who has what; each statement here takes rows that nobody else is taking (``FOR UPDATE SKIP LOCKED``), whole or not at all.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from tortoise import connections

from panel.events import EventBus, Resynced, TaskCancelAsked, TaskQueued
from panel.models import Task, TaskStatus
from panel.models.database import is_away
from panel.services.nodes import Nodes
from panel.services.tasks import TaskService

TEND_EVERY = 1.5  # seconds
CLAIM = """
    UPDATE task SET status = 'running', owner = $1, started_at = now() WHERE id IN (
        SELECT id FROM task WHERE status = 'queued' AND kind = ANY($3)
        AND (host_id IS NULL OR host_id = ANY($2) OR NOT EXISTS (SELECT 1 FROM host WHERE host.id = task.host_id))
        ORDER BY created_at LIMIT 50 FOR UPDATE SKIP LOCKED)
    RETURNING id"""
TAKE_OVER = """
    UPDATE task SET owner = $1 WHERE id IN (
        SELECT id FROM task WHERE status = 'running' AND kind = ANY($3)
        AND (host_id IS NULL OR host_id = ANY($2) OR NOT EXISTS (SELECT 1 FROM host WHERE host.id = task.host_id))
        AND NOT EXISTS (SELECT 1 FROM process_node WHERE process_node.id = task.owner)
        ORDER BY created_at LIMIT 50 FOR UPDATE SKIP LOCKED)
    RETURNING id"""

terminal = structlog.get_logger("panel.tasks")


class TaskShares:
    """This process's part in the tasks of all. Does nothing where there is one process."""

    def __init__(self, tasks: TaskService, nodes: Nodes, events: EventBus) -> None:
        self._tasks = tasks
        self._nodes = nodes
        self._events = events
        self._wake = asyncio.Event()
        self._jobs: list[asyncio.Task[None]] = []
        nodes.cut_off.append(tasks.abandon)

    def start(self) -> None:
        """Begin."""
        if self._nodes.id is not None:
            loop = asyncio.get_running_loop()
            self._jobs = [loop.create_task(work, name="task shares") for work in (self._serve(), self._listen())]

    async def stop(self) -> None:
        """Claim no more."""
        for job in self._jobs:
            job.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs)

    async def tend(self) -> None:
        """Begin what waits for this process, settle what dead ones left, and cancel what others asked to."""
        if not self._nodes.in_touch:
            return
        for task in await self._taken(CLAIM):
            self._tasks.begin(task)
        for task in await self._taken(TAKE_OVER):
            self._tasks.settle(task)
        await self._mind_own()

    async def _taken(self, statement: str) -> list[Task]:
        values = [self._nodes.id, list(self._nodes.mine or ()), list(self._tasks.kinds)]
        rows = await connections.get("default").execute_query_dict(statement, values)
        return await Task.filter(id__in=[row["id"] for row in rows]) if rows else []

    async def _mind_own(self) -> None:
        """Tasks that are this process's by their rows: nobody is at work on them when the database was away over them."""
        at_work = self._tasks.at_work()
        own = Task.filter(owner=self._nodes.id, status=TaskStatus.RUNNING)
        for task in await own:
            if task.id in at_work:
                if task.cancel_requested:
                    await self._tasks.cancel_here(task.id)
            elif task.id not in self._tasks.at_work() and await own.filter(id=task.id).exists():
                self._tasks.settle(task)

    async def _serve(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TEND_EVERY):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.tend()
            except Exception as error:
                if is_away(error):
                    terminal.warning("the database does not answer", reason=type(error).__name__)
                else:
                    terminal.exception("tasks were not tended")
                await asyncio.sleep(TEND_EVERY / 3)

    async def _listen(self) -> None:
        with self._events.subscribe() as events:
            async for event in events:
                if isinstance(event, TaskCancelAsked):
                    await self._tasks.cancel_here(event.task_id)
                elif isinstance(event, TaskQueued | Resynced):
                    self._wake.set()
