"""主机管理: hosts."""

from __future__ import annotations

from functools import cache
from typing import Any

from quart import Blueprint
from tortoise.functions import Count

from panel import __version__, web
from panel.api import answers, wire
from panel.api.routing import endpoint
from panel.api.views import host_out, host_status_out, unknown
from panel.engines.registry import engine_class
from panel.engines.types import EngineKind
from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _
from panel.models import AtLimit, Host, Vm
from panel.security import Actor, Permission
from panel.services.hosts import HostRequest


def register(api: Blueprint) -> None:
    """Add the routes below ``/api/server``."""

    @endpoint(api, "GET", "/server/status", answer=answers.PanelStatusOut)
    async def panel_status(actor: Actor) -> dict[str, Any]:
        """The panel's version and how much it has: billing clients test their connection with it."""
        actor.require(Permission.VIEW)
        return {"version": __version__, "host_count": await Host.all().count(), "vm_count": await Vm.all().count()}

    @endpoint(api, "GET", "/server/detail", answer=answers.HostsOut)
    async def list_hosts(actor: Actor) -> answers.HostsOut:
        """主机列表: all hosts."""
        actor.require(Permission.VIEW)
        counted = await Vm.all().annotate(n=Count("id")).group_by("host_id").values("host_id", "n")
        counts = {row["host_id"]: row["n"] for row in counted}
        hosts = await web.services().hosts.all()
        return answers.HostsOut(hosts=[host_out(host, counts.get(host.id, 0)) for host in hosts])

    @endpoint(api, "GET", "/server/detail/<hs_name>", answer=answers.HostOut)
    async def get_host(actor: Actor, hs_name: str) -> answers.HostOut:
        """主机详情: one host."""
        actor.require(Permission.VIEW)
        host = await web.services().hosts.get(hs_name)
        return host_out(host, await Vm.filter(host_id=host.id).count())

    @endpoint(api, "POST", "/server/create", answer=answers.NewHostOut, body=wire.NewHostBody)
    async def create_host(actor: Actor, body: wire.NewHostBody) -> answers.NewHostOut:
        """添加主机: add a host, once a connection to it was made."""
        host, info = await web.services().hosts.create(actor, body.server_name, _request(body))
        known = {field.name for field in engine_class(host.engine).fields}
        notes = [note for note in unknown(body) if note.params["name"] not in known]
        return answers.NewHostOut(
            server_name=host.name,
            version=info.version,
            hostname=info.hostname,
            accelerated=info.accelerated,
            warnings=[warning.translate() for warning in (*info.warnings, *notes)],
        )

    @endpoint(api, "PUT", "/server/update/<hs_name>", answer=answers.HostOut, body=wire.HostBody)
    async def update_host(actor: Actor, hs_name: str, body: wire.HostBody) -> answers.HostOut:
        """修改主机: change the given fields, once a connection with them was made."""
        if (body.model_extra or {}).get("server_name", hs_name) != hs_name:
            raise InvalidInput(_("The name of a host cannot change. Add it as a new host."), field="server_name")
        host = await web.services().hosts.update(actor, hs_name, _request(body))
        return host_out(host, await Vm.filter(host_id=host.id).count())

    @endpoint(api, "DELETE", "/server/delete/<hs_name>", answer=answers.RemovedHostOut)
    async def delete_host(actor: Actor, hs_name: str) -> dict[str, Any]:
        """删除主机: forget a host and its VMs. Nothing on the host itself changes."""
        return {"server_name": hs_name, "vms_forgotten": await web.services().hosts.delete(actor, hs_name)}

    @endpoint(api, "POST", "/server/powers/<hs_name>", answer=answers.HostOut, body=wire.EnableBody)
    async def power_host(actor: Actor, hs_name: str, body: wire.EnableBody) -> answers.HostOut:
        """主机电源控制: enable or disable a host. Disabled, nobody looks at it; its VMs run on."""
        host = await web.services().hosts.set_enabled(actor, hs_name, body.action == "enable")
        return host_out(host, await Vm.filter(host_id=host.id).count())

    @endpoint(api, "GET", "/server/status/<hs_name>", answer=answers.HostStatusOut)
    async def host_status(actor: Actor, hs_name: str) -> answers.HostStatusOut:
        """主机状态: CPU, memory and disk of the host, with the time they were read."""
        actor.require(Permission.VIEW)
        return host_status_out(await web.services().hosts.get(hs_name))


def _request(body: wire.HostBody) -> HostRequest:
    kind = None
    if body.engine_type is not None:
        kind = wire.ENGINE_KINDS.get(body.engine_type)
        engines = web.services().hosts.engines
        if kind not in engines:
            known = ", ".join(wire.ENGINE_NAMES[engine] for engine in engines)
            raise InvalidInput(_("{field} must be one of: {known}."), field="engine_type", known=known)
    options: dict[str, str] = {}
    for name, value in (body.model_extra or {}).items():
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            options[name] = str(value)
        elif value is not None and name in _engine_fields():
            raise InvalidInput(_("{field} must be text, in quotes."), field=name)
    return HostRequest(
        engine=kind,
        address=body.server_addr,
        user=body.server_user,
        secret=body.server_pass,
        disks_path=body.system_path,
        images_path=body.images_path,
        launch_path=body.launch_path,
        ports_start=body.ports_start,
        ports_close=body.ports_close,
        outside=body.outside,
        report_only=body.report_only,
        strict_reports=body.strict_reports,
        at_limit=AtLimit(body.at_limit) if body.at_limit else None,
        at_limit_mbit=body.at_limit_mbit,
        options=options,
    )


@cache
def _engine_fields() -> frozenset[str]:
    """The fields that some engine's hosts have."""
    return frozenset(field.name for kind in EngineKind for field in engine_class(kind).fields)
