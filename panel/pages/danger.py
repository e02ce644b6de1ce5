"""What cannot be undone: deleting a VM, whose name must be typed first."""

from __future__ import annotations

from typing import Any

from quart import Response

from panel import web
from panel.i18n import gettext_noop as _
from panel.models import Address, Forward, Vm
from panel.pages.forms import Form
from panel.pages.shared import done, form_data, post
from panel.pages.vms import vm_page_with
from panel.pages.words import FIELDS, say
from panel.security import Actor


def danger_path(host: str, vm: str) -> str:
    """Where a VM is deleted."""
    return web.url("pages.vm", host=host, vm=vm, tab="danger")


async def danger_context(vm: Vm) -> dict[str, Any]:
    """What goes with the VM, and what stays."""
    services = web.services()
    disks = [disk for disk in (vm.hardware or {}).get("disks", []) if disk["source"]]
    return {
        "delete": Form(None),
        "goes": [disk["source"] for disk in disks if disk["ours"]],
        "stays": [disk["source"] for disk in disks if not disk["ours"]],
        "addresses": [address.ip for address in await Address.filter(nic__vm_id=vm.id).order_by("id")],
        "forwards": [_ports(row) for row in await Forward.filter(vm_id=vm.id).order_by("id")],
        "snapshots": [snapshot["name"] for snapshot in (vm.hardware or {}).get("snapshots", [])],
        "domains": [services.publications.of_proxy(proxy, vm).address for proxy in await services.proxies.of_vm(vm)],
    }


def _ports(forward: Forward) -> str:
    """Such as ``TCP 20000–20003``."""
    first, last = forward.external_start, forward.external_end
    return f"{forward.protocol.upper()} {first}" + (f"–{last}" if last > first else "")


@post("/hosts/<host>/vms/<vm>/delete", "vm_delete", danger_path)
async def vm_delete(actor: Actor, host: str, vm: str) -> Response:
    """Remove a VM, whose name must be typed first."""
    row = await web.services().vms.get(host, vm)
    form = Form(await form_data(), labels=FIELDS)
    if form.text("confirm") != row.name:
        form.fail("confirm", _("Type the name exactly as it is written above."))
        return await vm_page_with(row, "danger", status=400, delete=form)
    task = await web.services().vms.delete(actor, row)
    return done(web.url("pages.task", task=task.id), say(_("Deleting {name}."), name=row.title or row.name))
