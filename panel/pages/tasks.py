"""Tasks: the list, one task with its log, and cancelling."""

from __future__ import annotations

from quart import Response
from tortoise.expressions import Q

from panel import web
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Task, TaskLine, TaskStatus
from panel.pages.lists import SIZES, listing
from panel.pages.rows import newest, task_rows
from panel.pages.shared import done, get, page, post
from panel.pages.topics import live_url
from panel.pages.words import STATES
from panel.security import Actor

SORTS = {
    "created": ("created_at", "id"),
    "ended": ("ended_at", "-created_at", "id"),
    "kind": ("kind", "-created_at", "id"),
    "status": ("status", "-created_at", "id"),
    "object": ("host_name", "vm_name", "-created_at", "id"),
}


def task_path(task: str) -> str:
    """A task's page."""
    return web.url("pages.task", task=task)


@get("/tasks", "tasks")
async def tasks_page(_actor: Actor) -> Response:
    """All tasks, newest first."""
    view = listing("pages.tasks", SORTS, ("created", "desc"), ("find", "status"))
    if view.filters["status"] not in set(TaskStatus):
        view.filters["status"] = ""
    conditions = [Q(status=view.filters["status"])] if view.filters["status"] else []
    if text := view.filters["find"]:
        conditions.append(
            Q(host_name__icontains=text) | Q(vm_name__icontains=text) | Q(kind__icontains=text) | Q(id=text)
        )
    query = await view.cut(Task.filter(*conditions), SORTS)
    rows = await task_rows(await query)
    return await page(
        "pages/tasks/list.html",
        rows=rows,
        view=view,
        sizes=SIZES,
        states=[(str(status), gettext(STATES[status])) for status in TaskStatus],
        live_url=live_url(flags=("tasks",), new_tasks=newest(rows) if view.plain else None),
    )


@get("/tasks/<task>", "task")
async def task_page(_actor: Actor, task: str) -> Response:
    """One task: how far it is, and its log."""
    row = (await task_rows([await web.services().tasks.get(task)]))[0]
    return await page(
        "pages/tasks/task.html",
        row=row,
        lines=await TaskLine.filter(task_id=row.task.id),
        live_url=live_url(task=row.task.id),
    )


@post("/tasks/<task>/again", "task_again", task_path)
async def task_again(actor: Actor, task: str) -> Response:
    """Try again what a task did not do, as a new task."""
    new = await web.services().tasks.again(actor, task)
    return done(task_path(new.id), gettext(_("Trying again, as a new task.")))


@post("/tasks/<task>/cancel", "task_cancel", task_path)
async def task_cancel(actor: Actor, task: str) -> Response:
    """Ask a task to stop."""
    await web.services().tasks.cancel(actor, task)
    return done(task_path(task), gettext(_("Asked the task to stop.")), stay=True)
