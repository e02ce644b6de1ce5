"""VMs: the list over all hosts, a VM's page, and what is asked of it."""

from __future__ import annotations

from typing import Any

from quart import Response, request
from tortoise.expressions import Q

from panel import web
from panel.engines.types import PowerAction, PowerState, VmChange
from panel.errors import InvalidInput, PanelError
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Host, Nic, Vm
from panel.pages.forms import Form
from panel.pages.lists import SIZES, listing
from panel.pages.published import published_of
from panel.pages.rows import VmRow, vm_rows, vm_tasks
from panel.pages.shared import came_from, done, form_data, get, page, post
from panel.pages.topics import live_url
from panel.pages.usage import usage_of_vm
from panel.pages.words import ACTIONS, FIELDS, SAID, STATES, say
from panel.security import Actor
from panel.services.engines import capabilities

SORTS = {
    "name": ("title", "name", "id"),
    "state": ("state", "title", "id"),
    "host": ("host__name", "title", "id"),
    "cpu": ("cpu_percent", "title", "id"),
    "memory": ("memory_mib", "title", "id"),
    "disk": ("disk_gib", "title", "id"),
    "created": ("created_at", "title", "id"),
}
TABS = {"overview": _("Overview"), "network": _("Network"), "settings": _("Settings"), "tasks": _("Tasks")}
CHANGES = ("vm_name", "cpu_num", "ram_num", "hdd_num")


def vm_path(host: str, vm: str) -> str:
    """A VM's page."""
    return web.url("pages.vm", host=host, vm=vm)


def settings_path(host: str, vm: str) -> str:
    """A VM's settings."""
    return web.url("pages.vm", host=host, vm=vm, tab="settings")


@get("/vms", "vms")
async def vms_page(_actor: Actor) -> Response:
    """All VMs of all hosts."""
    view = listing("pages.vms", SORTS, ("name", "asc"), ("q", "host", "state"))
    if view.filters["state"] not in {*PowerState, "creating"}:
        view.filters["state"] = ""
    query = await view.cut(Vm.filter(*await _conditions(view.filters)), SORTS)
    rows = await vm_rows(await query.prefetch_related("host", "nics"))
    hosts = await Host.all().order_by("name").values_list("name", flat=True)
    return await page(
        "pages/vms/list.html",
        rows=rows,
        view=view,
        sizes=SIZES,
        hosts=hosts,
        states=[(state, gettext(STATES[state])) for state in (*map(str, PowerState), "creating")],
        q=view.filters["q"],
        actions=[(action, gettext(label), icon) for action, (label, icon) in ACTIONS.items()],
        live_url=live_url(vms=[row.vm.id for row in rows], flags=("pick",)),
    )


async def _conditions(filters: dict[str, str]) -> list[Q]:
    conditions = []
    if text := filters["q"]:
        macs = Nic.filter(mac__icontains=text.lower().replace("-", ":")).limit(200)
        conditions.append(
            Q(name__icontains=text)
            | Q(title__icontains=text)
            | Q(os_name__icontains=text)
            | Q(id__in=await macs.values_list("vm_id", flat=True))
        )
    if filters["host"]:
        conditions.append(Q(host__name=filters["host"]))
    if filters["state"] == "creating":
        conditions.append(Q(creating=True))
    elif filters["state"]:
        conditions.append(Q(state=filters["state"], creating=False))
    return conditions


@get("/hosts/<host>/vms/<vm>", "vm")
async def vm_page(_actor: Actor, host: str, vm: str) -> Response:
    """One VM: overview, network, settings, tasks."""
    row = await web.services().vms.get(host, vm)
    tab = request.args.get("tab", "overview")
    return await vm_page_with(row, tab if tab in TABS else "overview")


async def vm_page_with(vm: Vm, tab: str, *, status: int = 200, **forms: Form) -> Response:
    """A VM's page at ``tab``, its forms as they were filled in."""
    from panel.pages import network  # which posts back to this page

    row = (await vm_rows([vm]))[0]
    tabs = [
        (key, gettext(label), web.url("pages.vm", host=vm.host.name, vm=vm.name, **_tab(key)))
        for key, label in TABS.items()
    ]
    context: dict[str, Any] = {
        "update": _update_form(vm),
        "password": Form(None, {"user": vm.user}),
        "delete": Form(None),
    }
    if tab == "overview":
        context["published"] = await published_of(vm)
    if tab == "network":
        context |= await network.network_context(vm)
        context |= {"forward": network.forward_form(), "address": network.address_form()}
    return await page(
        "pages/vms/vm.html",
        status=status,
        here=web.url("pages.vm", host=vm.host.name, vm=vm.name, **_tab(tab)),
        row=row,
        tab=tab,
        tabs=tabs,
        tasks=await vm_tasks(vm.id),
        usage=await usage_of_vm(vm) if tab == "overview" else None,
        reasons=_reasons(row),
        sized=capabilities(vm.host.engine).disk_size,
        live_url=live_url(vm=vm.id, flags=("network",) if tab == "network" else ()),
        **(context | forms),
    )


def _tab(key: str) -> dict[str, str]:
    return {} if key == "overview" else {"tab": key}


def _reasons(row: VmRow) -> dict[str, str | None]:
    """Why a form of the settings cannot be used, by its name; None when it can."""
    vm, can = row.vm, capabilities(row.vm.host.engine)
    shared = None
    if not vm.host.enabled:
        shared = say(_("Host {name} is disabled. Enable it first."), name=vm.host.name)
    elif row.busy:
        shared = say(_("Busy: {task}."), task=row.busy.title)
    reasons: dict[str, str | None] = {}
    for name in ("update", "password", "delete"):
        reason = can.why_not(name)
        reasons[name] = say(reason) if reason else shared
    if reasons["update"] is None and vm.state is PowerState.MISSING:
        reasons["update"] = say(_("The VM is not on its host."))
    if reasons["password"] is None and vm.state is not PowerState.RUNNING:
        reasons["password"] = say(_("The VM is not running. Start it first."))
    elif reasons["password"] is None and vm.agent is False:
        reasons["password"] = say(_("No guest agent answers in the VM. Install qemu-guest-agent in it and start it."))
    return reasons


def _update_form(vm: Vm, given: Any = None) -> Form:
    held = {"vm_name": vm.title, "cpu_num": vm.cpu_count, "ram_num": vm.memory_mib, "hdd_num": round(vm.disk_gib)}
    return Form(given, held)


def _asked_from(host: str, vm: str) -> str:
    """The list or page whose power button was pressed."""
    return came_from(vm_path(host, vm))


def power_action(wanted: str) -> PowerAction:
    """The power action of a form. ``InvalidInput`` names those there are."""
    try:
        return PowerAction(wanted)
    except ValueError as error:
        known = ", ".join(PowerAction)
        raise InvalidInput(_("{field} must be one of: {known}."), field="action", known=known) from error


@post("/hosts/<host>/vms/<vm>/power", "vm_power", _asked_from)
async def vm_power(actor: Actor, host: str, vm: str) -> Response:
    """Ask for a power action; back to the page it was asked from."""
    wanted = (await form_data()).get("action", "") or str((await request.get_json(silent=True) or {}).get("action", ""))
    action = power_action(wanted)
    row = await web.services().vms.get(host, vm)
    task = await web.services().power.act(actor, row, action)
    message = say(SAID[action], name=row.title or row.name)
    return done(_asked_from(host, vm), message, stay=True, data={"task_id": task.id})


@post("/hosts/<host>/vms/<vm>/update", "vm_update", settings_path)
async def vm_update(actor: Actor, host: str, vm: str) -> Response:
    """Change title, CPUs, memory or the size of the disk."""
    row = await web.services().vms.get(host, vm)
    form = _update_form(row, await form_data())
    title, cpu, memory = form.text("vm_name", required=True), form.integer("cpu_num"), form.integer("ram_num")
    sized = capabilities(row.host.engine).disk_size
    disk = form.integer("hdd_num") if sized else round(row.disk_gib)
    if not form.errors:
        change = VmChange(
            title=title if title != row.title else None,
            cpu_count=cpu if cpu != row.cpu_count else None,
            memory_mib=memory if memory != row.memory_mib else None,
            disk_gib=disk if disk != round(row.disk_gib) else None,
        )
        if change == VmChange():
            return done(settings_path(host, vm), gettext(_("Nothing was changed.")))
        try:
            await web.services().vms.update(actor, row, change)
        except PanelError as error:
            form.take(error, CHANGES)
        else:
            return done(vm_path(host, vm), say(_("Changing {name}."), name=row.title or row.name))
    return await vm_page_with(row, "settings", status=400, update=form)


@post("/hosts/<host>/vms/<vm>/password", "vm_password", settings_path)
async def vm_password(actor: Actor, host: str, vm: str) -> Response:
    """Set a password inside the guest."""
    row = await web.services().vms.get(host, vm)
    form = Form(await form_data(), {"user": row.user})
    user, password = form.text("user"), form.secret("password")
    if not password:
        form.fail("password", _("This is needed."))
    if not form.errors:
        try:
            await web.services().power.set_password(actor, row, password, user)
        except PanelError as error:
            form.take(error, ("user", "password"), {"os_pass": "password"})
        else:
            return done(
                web.url("pages.vm", host=host, vm=vm, tab="tasks"), say(_("Setting the password of {user}."), user=user)
            )
    return await vm_page_with(row, "settings", status=400, password=form)


@post("/hosts/<host>/vms/<vm>/delete", "vm_delete", settings_path)
async def vm_delete(actor: Actor, host: str, vm: str) -> Response:
    """Remove a VM, whose name must be typed first."""
    row = await web.services().vms.get(host, vm)
    form = Form(await form_data(), labels=FIELDS)
    if form.text("confirm") != row.name:
        form.fail("confirm", _("Type the name exactly as it is written above."))
        return await vm_page_with(row, "settings", status=400, delete=form)
    task = await web.services().vms.delete(actor, row)
    return done(web.url("pages.task", task=task.id), say(_("Deleting {name}."), name=row.title or row.name))
