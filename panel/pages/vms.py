"""VMs: the list over all hosts, a VM's page, and what is asked of it."""

from __future__ import annotations

import re
from typing import Any

from quart import Response, request
from tortoise.expressions import Q

from panel import web
from panel.engines.types import PowerAction, PowerState
from panel.errors import InvalidInput, PanelError
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Host, Nic, Vm
from panel.models.database import part_of
from panel.pages import columns
from panel.pages.forms import Form
from panel.pages.labels import labels_context
from panel.pages.lists import SIZES, listing
from panel.pages.listview import FILTERS, chips
from panel.pages.published import published_of
from panel.pages.rows import VmRow, listed, newest, vm_rows, vm_tasks
from panel.pages.shared import came_from, done, form_data, get, page, post
from panel.pages.topics import live_url
from panel.pages.usage import usage_of_vm
from panel.pages.words import ACTIONS, SAID, STATES, say
from panel.security import Actor
from panel.services.clock import now
from panel.services.engines import capabilities
from panel.services.labels import known_tags

SORTS = {
    "name": ("title", "name", "id"),
    "state": ("state", "title", "id"),
    "host": ("host__name", "title", "id"),
    "engine": ("host__engine", "title", "id"),
    "image": ("os_name", "title", "id"),
    "cpu": ("cpu_percent", "title", "id"),
    "memory": ("memory_mib", "title", "id"),
    "disk": ("disk_gib", "title", "id"),
    "created": ("created_at", "title", "id"),
}
PART_OF_MAC = re.compile(r"[0-9A-Fa-f:-]+")
TABS = {
    "overview": _("Overview"),
    "console": _("Console"),
    "hardware": _("Hardware"),
    "network": _("Network"),
    "snapshots": _("Snapshots"),
    "tasks": _("Tasks"),
    "danger": _("Danger"),
}
LIVE_TABS = frozenset({"console", "hardware", "network", "snapshots", "tasks"})  # whose lists have a topic of their own


def vm_path(host: str, vm: str) -> str:
    """A VM's page."""
    return web.url("pages.vm", host=host, vm=vm)


def console_path(host: str, vm: str) -> str:
    """The tab of a VM's page with its screen and its guest's password."""
    return web.url("pages.vm", host=host, vm=vm, tab="console")


@get("/vms", "vms")
async def vms_page(actor: Actor) -> Response:
    """All VMs of all hosts."""
    look = columns.kept()
    view = listing("pages.vms", SORTS, ("name", "asc"), FILTERS, look.size)
    shown = columns.unpack(request.args.get("columns", ""))
    if shown is not None:
        view.kept["columns"] = columns.pack(shown)
    else:
        shown = look.columns
    if view.filters["state"] not in {*PowerState, "creating"}:
        view.filters["state"] = ""
    newest_vm = await Vm.all().order_by("-created_at").first().values("created_at")
    query = await view.cut(Vm.filter(*await _conditions(view.filters)), SORTS)
    rows = await vm_rows(await listed(query), history="history" in shown)
    hosts = await Host.all().order_by("name").values_list("name", flat=True)
    return await page(
        "pages/vms/list.html",
        rows=rows,
        view=view,
        sizes=SIZES,
        columns=shown,
        all_columns=tuple(columns.COLUMNS),
        chips=await chips(actor, view),
        tags=await known_tags(),
        hosts=hosts,
        states=[(state, gettext(STATES[state])) for state in (*map(str, PowerState), "creating")],
        q=view.filters["q"],
        actions=[(action, gettext(label), icon) for action, (label, icon) in ACTIONS.items()],
        live_url=live_url(
            vms=[row.vm.id for row in rows],
            columns=shown,
            new_vms=newest_vm["created_at"] if newest_vm else now(),
            flags=("pick",),
        ),
    )


async def _conditions(filters: dict[str, str]) -> list[Q]:
    conditions = []
    if text := filters["q"]:
        words = Q(*(Q(**{f"{column}__{part_of()}": text}) for column in ("name", "title", "os_name")), join_type="OR")
        if PART_OF_MAC.fullmatch(text):
            macs = Nic.filter(mac__icontains=text.lower().replace("-", ":")).limit(200)
            words |= Q(id__in=await macs.values_list("vm_id", flat=True))
        conditions.append(words)
    if filters["host"]:
        conditions.append(Q(host__name=filters["host"]))
    if filters["tag"]:
        conditions.append(Q(tags__name=filters["tag"]))
    if filters["state"] == "creating":
        conditions.append(Q(creating=True))
    elif filters["state"]:
        conditions.append(Q(state=filters["state"], creating=False))
    return conditions


@get("/hosts/<host>/vms/<vm>", "vm")
async def vm_page(_actor: Actor, host: str, vm: str) -> Response:
    """One VM, at one of ``TABS``."""
    row = await web.services().vms.get(host, vm)
    tab = request.args.get("tab", "overview")
    return await vm_page_with(row, tab if tab in TABS else "overview")


async def vm_page_with(vm: Vm, tab: str, *, status: int = 200, **forms: Form) -> Response:
    """A VM's page at ``tab``, its forms as they were filled in."""
    row = (await vm_rows([vm]))[0]
    tabs = [
        (key, gettext(label), web.url("pages.vm", host=vm.host.name, vm=vm.name, **_tab(key)))
        for key, label in TABS.items()
    ]
    parts = {"usage": None} | await _of_tab(row, tab) | forms
    return await page(
        "pages/vms/vm.html",
        status=status,
        here=web.url("pages.vm", host=vm.host.name, vm=vm.name, **_tab(tab)),
        row=row,
        tab=tab,
        tabs=tabs,
        reasons=_reasons(row),
        live_url=live_url(
            vm=vm.id, flags={tab} & LIVE_TABS, new_tasks=newest(parts["tasks"]) if tab == "tasks" else None
        ),
        **parts,
    )


async def _of_tab(row: VmRow, tab: str) -> dict[str, Any]:
    """What a tab shows besides the VM itself, its forms as they are shown first."""
    from panel.pages import danger, hardware, limits, network, snapshots  # which post back to this page

    vm = row.vm
    if tab == "console":
        return {"password": Form(None, {"user": vm.user})}
    if tab == "hardware":
        return hardware.hardware_context(vm)
    if tab == "network":
        forms = {
            "forward": network.forward_form(), "address": network.address_form(), "limits": limits.limits_form(vm)
        }  # fmt: skip
        return await network.network_context(vm) | forms
    if tab == "snapshots":
        return snapshots.snapshots_context(row)
    if tab == "tasks":
        return {"tasks": await vm_tasks(vm.id)}
    if tab == "danger":
        return await danger.danger_context(vm)
    return {"published": await published_of(vm), "usage": await usage_of_vm(vm)} | await labels_context(vm)


def _tab(key: str) -> dict[str, str]:
    return {} if key == "overview" else {"tab": key}


def why_not_now(row: VmRow, name: str) -> str | None:
    """Why what needs a capability cannot be done with the VM now, in words; None when it can."""
    vm, reason = row.vm, capabilities(row.vm.host.engine).why_not(name)
    if reason is not None:
        return say(reason)
    if not vm.host.enabled:
        return say(_("Host {name} is disabled. Enable it first."), name=vm.host.name)
    if row.busy:
        return say(_("Busy: {task}."), task=row.busy.title)
    if name != "delete" and vm.state is PowerState.MISSING:
        return say(_("The VM is not on its host."))
    return None


def _reasons(row: VmRow) -> dict[str, str | None]:
    """Why a form of the settings cannot be used, by its name; None when it can."""
    vm = row.vm
    reasons = {name: why_not_now(row, name) for name in ("update", "iso", "boot_order", "password", "delete")}
    if reasons["password"] is None and vm.state is not PowerState.RUNNING:
        reasons["password"] = say(_("The VM is not running. Start it first."))
    elif reasons["password"] is None and vm.agent is False:
        reasons["password"] = say(_("No guest agent answers in the VM. Install qemu-guest-agent in it and start it."))
    return reasons


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
    said = await request.get_json(silent=True)
    by_json = str(said.get("action", "")) if isinstance(said, dict) else ""
    action = power_action((await form_data()).get("action", "") or by_json)
    row = await web.services().vms.get(host, vm)
    task = await web.services().power.act(actor, row, action)
    message = say(SAID[action], name=row.title or row.name)
    return done(_asked_from(host, vm), message, stay=True, data={"task_id": task.id})


@post("/hosts/<host>/vms/<vm>/password", "vm_password", console_path)
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
    return await vm_page_with(row, "console", status=400, password=form)
