"""系统管理: token, engines, configuration, statistics, log, tasks."""

from __future__ import annotations

from typing import Any

from quart import Blueprint

from panel import __version__, i18n, web
from panel.api import answers, wire
from panel.api.routing import endpoint
from panel.api.views import task_out, told
from panel.engines.registry import engine_class
from panel.models import Task, TaskLine
from panel.security import Actor, Permission
from panel.services.audit import LogFilter
from panel.services.stats import statistics


def register(api: Blueprint) -> None:
    """Add the routes below ``/api/system``."""

    @endpoint(api, "POST", "/system/resets", answer=answers.TokenOut)
    async def reset_token(actor: Actor) -> dict[str, Any]:
        """重置Token: a new random access token. The old one ends at once."""
        actor.require(Permission.ADMIN)
        return {"token": await web.services().access.reset_token(actor)}

    @endpoint(api, "POST", "/system/create", answer=answers.TokenOut, body=wire.TokenBody)
    async def set_token(actor: Actor, body: wire.TokenBody) -> dict[str, Any]:
        """设置Token: the access token becomes the given one."""
        actor.require(Permission.ADMIN)
        return {"token": await web.services().access.set_token(actor, body.token)}

    @endpoint(api, "GET", "/system/tquery", answer=answers.TokenOut)
    async def get_token(actor: Actor) -> dict[str, Any]:
        """获取Token: the access token in force."""
        actor.require(Permission.ADMIN)
        return {"token": await web.services().access.token()}

    @endpoint(api, "GET", "/system/engine", answer=answers.EnginesOut)
    async def list_engines(actor: Actor) -> answers.EnginesOut:
        """获取引擎类型: the engines, what each can do, and the fields that its hosts need."""
        actor.require(Permission.VIEW)
        return answers.EnginesOut(engines=[_engine_out(kind) for kind in web.services().hosts.engines])

    @endpoint(api, "POST", "/system/saving", answer=answers.SavedOut)
    async def save_configuration(actor: Actor) -> dict[str, Any]:
        """保存配置: write the configuration to the data folder."""
        return {"file": (await web.services().configuration.save(actor)).name}

    @endpoint(api, "POST", "/system/loader", answer=answers.LoadedOut)
    async def load_configuration(actor: Actor) -> answers.LoadedOut:
        """加载配置: read the saved configuration back. All of it or, when something is wrong, nothing."""
        outcome = await web.services().configuration.load(actor)
        return answers.LoadedOut(
            hosts=outcome.hosts, vms=outcome.vms, kept_hosts=outcome.kept_hosts, kept_vms=outcome.kept_vms
        )

    @endpoint(api, "GET", "/system/statis", answer=answers.StatisticsOut)
    async def get_statistics(actor: Actor) -> dict[str, Any]:
        """系统统计: how many hosts, VMs and tasks there are."""
        actor.require(Permission.VIEW)
        return await statistics() | {"version": __version__}

    @endpoint(api, "GET", "/system/logger/detail", answer=answers.LogsOut, query=wire.LogQuery)
    async def list_logs(actor: Actor, query: wire.LogQuery) -> dict[str, Any]:
        """获取日志: who did what to which object, newest first."""
        actor.require(Permission.VIEW)
        wanted = LogFilter(**query.model_dump(exclude={"page", "limit"}))
        total, rows = await web.services().audit.read(wanted, page=query.page, limit=query.limit)
        names = [name for name in answers.LogOut.model_fields if name != "message"]
        logs = [{name: getattr(row, name) for name in names} | {"message": told(row.message)} for row in rows]
        return {"total": total, "page": query.page, "limit": query.limit, "logs": logs}

    @endpoint(api, "GET", "/system/tasker", answer=answers.TasksOut, query=wire.TaskQuery)
    async def list_tasks(actor: Actor, query: wire.TaskQuery) -> answers.TasksOut:
        """获取任务: tasks, newest first; one of them by ``id``, with its log."""
        actor.require(Permission.VIEW)
        if query.id:
            task = await web.services().tasks.get(query.id)
            lines = await TaskLine.filter(task_id=task.id).order_by("id")
            return answers.TasksOut(total=1, page=1, limit=1, tasks=[task_out(task, lines)])
        wanted = {"status": query.status, "host_name": query.hs_name, "vm_name": query.vm_uuid}
        found = Task.filter(**{name: value for name, value in wanted.items() if value})
        rows = await found.order_by("-created_at").offset((query.page - 1) * query.limit).limit(query.limit)
        total = await found.count()
        return answers.TasksOut(total=total, page=query.page, limit=query.limit, tasks=[task_out(row) for row in rows])


def _engine_out(kind: Any) -> answers.EngineOut:
    engine = engine_class(kind)
    capabilities = engine.capabilities
    return answers.EngineOut(
        engine_type=wire.ENGINE_NAMES[kind],
        title=engine.title,
        capabilities=capabilities.as_dict(),
        reasons={name: i18n.gettext(reason) for name, reason in capabilities.reasons.items()},
        fields=[
            answers.HostFieldOut(
                name=item.name,
                label=i18n.gettext(item.label),
                help=i18n.gettext(item.help) if item.help else "",
                required=item.required,
                secret=item.secret,
                default=item.default,
            )
            for item in engine.fields
        ],
    )
