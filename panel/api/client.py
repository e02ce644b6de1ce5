"""虚拟机管理: VMs."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from quart import Blueprint
from quart_rate_limiter import rate_limit

from panel import web
from panel.api import answers, wire
from panel.api.routing import endpoint
from panel.api.views import acted_out, unknown, vm_out, vm_status_out
from panel.engines.types import NicMode, VmChange
from panel.errors import InvalidInput, PanelError
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host, Task, TaskStatus
from panel.security import Actor, Permission
from panel.services.consoles import LIFETIMES, Purpose
from panel.services.listed import vms_of
from panel.services.specs import NicRequest, VmRequest
from panel.services.texts import unpack
from panel.services.traffic import totals

WAIT_QUICK = 15.0  # seconds that short actions are waited for, unless ?wait= says otherwise


def register(api: Blueprint) -> None:
    """Add the routes below ``/api/client``."""
    _register_reads(api)
    _register_writes(api)
    _register_actions(api)


def _register_reads(api: Blueprint) -> None:
    @endpoint(api, "GET", "/client/detail/<hs_name>", answer=answers.VmsOut)
    async def list_vms(actor: Actor, hs_name: str) -> dict[str, Any]:
        """虚拟机列表: all VMs of a host, as last seen."""
        actor.require(Permission.VIEW)
        host = await web.services().hosts.get(hs_name)
        return {"vms": [vm_out(vm, host.name) for vm in await vms_of(host)]}

    @endpoint(api, "GET", "/client/detail/<hs_name>/<vm_uuid>", answer=answers.VmOut)
    async def get_vm(actor: Actor, hs_name: str, vm_uuid: str) -> dict[str, Any]:
        """虚拟机详情: one VM, as last seen."""
        actor.require(Permission.VIEW)
        vm = await web.services().vms.get(hs_name, vm_uuid)
        return vm_out((await vms_of(vm.host, vm.name))[0], vm.host.name)

    @endpoint(api, "GET", "/client/status/<hs_name>/<vm_uuid>", answer=answers.VmStatusOut)
    async def vm_status(actor: Actor, hs_name: str, vm_uuid: str) -> answers.VmStatusOut:
        """虚拟机状态: state and load, with the time they were seen."""
        actor.require(Permission.VIEW)
        vm = await web.services().vms.get(hs_name, vm_uuid)
        return vm_status_out(vm, (await totals([vm.id])).get(vm.id, 0))

    @endpoint(api, "GET", "/client/remote/<hs_name>/<vm_uuid>", answer=answers.RemoteOut)
    async def open_console(actor: Actor, hs_name: str, vm_uuid: str) -> dict[str, Any]:
        """VNC控制台: a URL that opens the VM's screen in a browser, once, within its lifetime."""
        vm = await web.services().vms.get(hs_name, vm_uuid)
        ticket = await web.services().consoles.issue(actor, vm, Purpose.PAGE)
        path = web.url("console.page", host=hs_name, vm=vm_uuid, ticket=ticket)
        return {"url": web.public_url(path), "expires_in": int(LIFETIMES[Purpose.PAGE].total_seconds())}


def _register_writes(api: Blueprint) -> None:
    @endpoint(
        api, "POST", "/client/create/<hs_name>", answer=answers.ActedOut, body=wire.NewVmBody, query=wire.WaitQuery
    )
    async def create_vm(actor: Actor, hs_name: str, body: wire.NewVmBody, query: wire.WaitQuery) -> answers.ActedOut:
        """创建虚拟机: answers at once with the task; ``?wait=SECONDS`` waits for its end."""
        host = await web.services().hosts.get(hs_name)
        _vm, task = await web.services().vms.create(actor, host, _vm_request(body, host))
        return await _await(task, query.wait or 0.0)

    @endpoint(
        api, "PUT", "/client/update/<hs_name>/<vm_uuid>",
        answer=answers.ActedOut, body=wire.VmSizes, query=wire.WaitQuery,
    )  # fmt: skip
    async def update_vm(
        actor: Actor, hs_name: str, vm_uuid: str, body: wire.VmSizes, query: wire.WaitQuery
    ) -> answers.ActedOut:
        """修改虚拟机: name, CPU, memory, and a larger disk. ``result`` says what holds now and what at the next start."""
        vm = await web.services().vms.get(hs_name, vm_uuid)
        change = VmChange(body.vm_name, body.cpu_num, body.memory_mib, body.disk_gib)
        notes = (*unknown(body, settled=wire.NewVmBody.model_fields), *_rounded(body), *_unlimited(body, vm.host))
        return await _await(
            await web.services().vms.update(actor, vm, change, limits=body.limits(), notes=notes), _wait(query)
        )

    @endpoint(api, "DELETE", "/client/delete/<hs_name>/<vm_uuid>", answer=answers.ActedOut, query=wire.WaitQuery)
    async def delete_vm(actor: Actor, hs_name: str, vm_uuid: str, query: wire.WaitQuery) -> answers.ActedOut:
        """删除虚拟机: the VM and all that the panel made for it; disks that others made stay."""
        vm = await web.services().vms.get(hs_name, vm_uuid)
        return await _await(await web.services().vms.delete(actor, vm), _wait(query))

    @endpoint(api, "POST", "/client/scaner/<hs_name>", answer=answers.ActedOut, query=wire.WaitQuery)
    async def scan_host(actor: Actor, hs_name: str, query: wire.WaitQuery) -> answers.ActedOut:
        """扫描虚拟机: adopt the VMs that the panel does not know, mark those that vanished as missing."""
        host = await web.services().hosts.get(hs_name)
        return await _await(await web.services().vms.scan(actor, host), _wait(query))


def _register_actions(api: Blueprint) -> None:
    @endpoint(
        api, "POST", "/client/powers/<hs_name>/<vm_uuid>",
        answer=answers.ActedOut, body=wire.PowerBody, query=wire.WaitQuery,
    )  # fmt: skip
    async def power_vm(
        actor: Actor, hs_name: str, vm_uuid: str, body: wire.PowerBody, query: wire.WaitQuery
    ) -> answers.ActedOut:
        """虚拟机电源控制: start, stop, shutdown, suspend, resume, reset. A start wakes a suspended VM, as a resume does."""
        action = wire.POWER_WORDS.get(body.action)
        if action is None:
            known = ", ".join(word for word in wire.POWER_WORDS if word.islower())
            raise InvalidInput(_("{field} must be one of: {known}."), field="action", known=known)
        vm = await web.services().vms.get(hs_name, vm_uuid)
        task = await web.services().power.act(actor, vm, action, unknown(body), waking=True)
        return await _await(task, _wait(query))

    @endpoint(
        api, "POST", "/client/password/<hs_name>/<vm_uuid>",
        answer=answers.ActedOut, body=wire.PasswordBody, query=wire.WaitQuery,
    )  # fmt: skip
    async def set_password(
        actor: Actor, hs_name: str, vm_uuid: str, body: wire.PasswordBody, query: wire.WaitQuery
    ) -> answers.ActedOut:
        """修改密码: set a password inside the running guest, through its agent."""
        vm = await web.services().vms.get(hs_name, vm_uuid)
        task = await web.services().power.set_password(actor, vm, body.password, body.user, unknown(body))
        return await _await(task, _wait(query))

    async def report_status(body: wire.ReportBody, query: wire.NicQuery) -> dict[str, Any]:
        """上报状态: a guest reports its own numbers. No authentication: nothing else is believed, nothing is told."""
        values = body.model_dump() | (body.model_extra or {})
        await web.services().guests.report(body.vm_uuid, query.nic, values, web.client_address())
        return {"accepted": True}

    endpoint(
        api, "POST", "/client/upload",
        answer=answers.ReportOut, body=wire.ReportBody, query=wire.NicQuery, public=True,
        limit=rate_limit(120, timedelta(minutes=1)),
    )(report_status)  # fmt: skip


def _vm_request(body: wire.NewVmBody, host: Host) -> VmRequest:
    if body.memory_mib is None:
        raise InvalidInput(_("{field} is missing."), field="ram_num")
    if body.disk_gib is None:
        raise InvalidInput(_("{field} is missing."), field="hdd_num")
    notes = unknown(body) + _rounded(body)
    nics = []
    for name, nic in body.nic_all.items():
        mode = NicMode(nic.net_mode or nic.nic_type or NicMode.NAT)
        nics.append(NicRequest(name, mode, nic.mac_addr, nic.ip4_addr.strip(), nic.ip6_addr.strip()))
        notes += unknown(nic, f"nic_all.{name}.")
    notes += _unlimited(body, host)
    name = body.vm_uuid or f"vm-{secrets.token_hex(4)}"
    return VmRequest(
        name=name,
        title=body.vm_name or name,
        os_name=body.os_name or "",
        cpu_count=body.cpu_num,
        memory_mib=body.memory_mib,
        disk_gib=body.disk_gib,
        nics=tuple(nics),
        password=body.os_pass or None,
        ssh_keys=tuple(body.ssh_keys),
        limits=body.limits(),
        start=body.start,
        notes=tuple(notes),
    )


def _rounded(body: wire.VmSizes) -> list[Text]:
    """A disk of less than a GiB: who says ``mem_num`` may yet mean GiB."""
    if body.mem_num is None or body.hdd_num is None or body.hdd_num >= 1024:
        return []
    text = _("Beside mem_num, hdd_num is MiB: {given} MiB became 1 GiB. Beside ram_num it is GiB.")
    return [Text(text, {"given": body.hdd_num})]


def _unlimited(body: wire.VmSizes, host: Host) -> list[Text]:
    """Limits that nothing holds: rates and traffic on a host whose traffic the panel does not carry."""
    text = _("{name} is kept, but does not limit anything yet.")
    idle = () if web.services().gateways.limits(host) else ("speed_u", "speed_d", "flu_num")
    return [Text(text, {"name": name}) for name, value in body.limits().items() if value and name in idle]


def _wait(query: wire.WaitQuery) -> float:
    return WAIT_QUICK if query.wait is None else query.wait


async def _await(task: Task, seconds: float) -> answers.ActedOut:
    """Wait for a task; when it ended badly meanwhile, answer with its error."""
    if seconds:
        task = await web.services().tasks.wait(task.id, seconds)
    if task.status.ended and task.status is not TaskStatus.SUCCEEDED:
        text = unpack(task.message) or Text(_("The task failed."))
        error = PanelError(text.msgid)
        error.text, error.status = text, task.error_status or 409
        raise error
    return acted_out(task)
