"""Tasks: what takes longer than a request, stored before it begins. And the log: who did what, when, from where."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from tortoise import fields
from tortoise.models import Model


class TaskStatus(StrEnum):
    """A task's life. ``INTERRUPTED``: the panel died over it, and what it left was settled against the hypervisor."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def ended(self) -> bool:
        return self not in {TaskStatus.QUEUED, TaskStatus.RUNNING}


class Task(Model):
    """One piece of work. ``lock`` is unique while the task lives and NULL after it: the database itself allows one writer
    per VM. Names of host and VM are kept as text: the task outlives them."""

    id = fields.CharField(max_length=32, primary_key=True)
    kind = fields.CharField(max_length=32)
    status = fields.CharEnumField(TaskStatus, max_length=16, default=TaskStatus.QUEUED, db_index=True)
    lock = fields.CharField(max_length=64, null=True, unique=True)
    host_name = fields.CharField(max_length=64, default="", db_index=True)
    vm_name = fields.CharField(max_length=64, default="")
    vm_id = fields.IntField(null=True, db_index=True)
    host_id = fields.IntField(null=True)
    owner = fields.CharField(
        max_length=32, null=True, db_index=True
    )  # the ProcessNode that runs it, if there are several
    actor = fields.CharField(max_length=64, default="")
    source = fields.CharField(max_length=16, default="")
    params = fields.TextField(default="")  # encrypted JSON
    percent = fields.IntField(default=0)
    cancel_requested = fields.BooleanField(default=False)
    message = fields.JSONField[dict[str, Any] | None](null=True)  # a Text
    error_status = fields.IntField(null=True)
    result = fields.JSONField[dict[str, Any] | None](null=True)
    created_at = fields.DatetimeField(auto_now_add=True, db_index=True)
    started_at = fields.DatetimeField(null=True)
    ended_at = fields.DatetimeField(null=True)

    class Meta:
        table = "task"
        ordering = ("-created_at",)


class TaskLine(Model):
    """A line of a task's log."""

    id = fields.IntField(primary_key=True)
    task: fields.ForeignKeyRelation[Task] = fields.ForeignKeyField(
        "models.Task", related_name="lines", on_delete=fields.CASCADE
    )
    task_id: str
    at = fields.DatetimeField()
    level = fields.CharField(max_length=8)  # info, warning, error
    message = fields.JSONField[dict[str, Any]]()  # a Text

    class Meta:
        table = "task_line"
        ordering = ("id",)


class LogEntry(Model):
    """Who did what to which object, when, from where."""

    id = fields.IntField(primary_key=True)
    at = fields.DatetimeField(db_index=True)
    level = fields.CharField(max_length=8, default="info")
    actor = fields.CharField(max_length=64, default="")
    source = fields.CharField(max_length=16, default="")  # page, api, cli, panel
    address = fields.CharField(max_length=64, default="")
    action = fields.CharField(max_length=48, db_index=True)
    object_kind = fields.CharField(max_length=16, default="")
    object_name = fields.CharField(max_length=160, default="")
    message = fields.JSONField[dict[str, Any]]()  # a Text

    class Meta:
        table = "log_entry"
        ordering = ("-id",)
