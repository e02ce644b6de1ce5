"""Hosts: the list, a host's page, and what is done to a host."""

from __future__ import annotations

from typing import Any

from quart import Response, request

from panel import web
from panel.engines.types import EngineKind
from panel.errors import PanelError
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Host, Vm
from panel.pages.forms import Form
from panel.pages.hostforms import EngineForm, NetworkForm
from panel.pages.lists import SIZES, listing
from panel.pages.rows import host_rows, host_tasks, listed, newest, vm_rows
from panel.pages.shared import done, form_data, get, page, post
from panel.pages.topics import live_url
from panel.pages.usage import usage_of_host
from panel.pages.words import say
from panel.security import Actor
from panel.services.engines import capabilities
from panel.services.hosts import NETWORK

SORTS = {
    "name": ("name",),
    "engine": ("engine", "name"),
    "health": ("health", "name"),
    "seen": ("seen_at", "name"),
}
TABS = {
    "overview": _("Overview"),
    "networks": _("Networks"),
    "images": _("Images"),
    "tasks": _("Tasks"),
    "settings": _("Settings"),
}
VMS_SHOWN = 25


def host_path(host: str) -> str:
    """A host's page."""
    return web.url("pages.host", host=host)


def settings_path(host: str) -> str:
    """A host's settings."""
    return web.url("pages.host", host=host, tab="settings")


@get("/hosts", "hosts")
async def hosts_page(_actor: Actor) -> Response:
    """All hosts."""
    view = listing("pages.hosts", SORTS, ("name", "asc"), ("find",))
    text = view.filters["find"]
    query = await view.cut(Host.filter(name__icontains=text) if text else Host.all(), SORTS)
    rows = await host_rows(await query)
    stream = live_url(hosts=[row.host.id for row in rows], flags=("hosts",))
    return await page("pages/hosts/list.html", rows=rows, view=view, sizes=SIZES, live_url=stream)


@get("/hosts/<host>", "host")
async def host_page(_actor: Actor, host: str) -> Response:
    """One host: health, capacity and VMs; networks; images; tasks; settings."""
    tab = request.args.get("tab", "overview")
    return await host_page_with(await web.services().hosts.get(host), tab if tab in TABS else "overview")


async def host_page_with(host: Host, tab: str, *, status: int = 200, **changed: Any) -> Response:
    """The same, with a form in it that was filled in wrongly, or what came of it."""
    from panel.pages import images, networks  # which post back to this page

    vms = Vm.filter(host_id=host.id).order_by("title", "name").limit(VMS_SHOWN)
    rows = await vm_rows(await listed(vms)) if tab == "overview" else []
    form = EngineForm(host.engine, host=host)
    values: dict[str, Any] = {"form": form, "delete": Form(None), "tested": None, "flashes": []}
    values["network_form"] = NetworkForm(host)
    if tab == networks.TAB:
        values |= await networks.networks_context(host, request.args if request.method == "GET" else {})
    if tab == images.TAB:
        values |= await images.images_context(host, request.args if request.method == "GET" else {})
    values |= changed
    scan = capabilities(host.engine).why_not("scan")
    disabled = None if host.enabled else say(_("Host {name} is disabled. Enable it first."), name=host.name)
    tasks = await host_tasks(host.id) if tab == "tasks" else []
    return await page(
        "pages/hosts/host.html",
        status=status,
        here=web.url("pages.host", host=host.name, **_tab(tab)),
        row=(await host_rows([host]))[0],
        tab=tab,
        tabs=[(key, gettext(label), web.url("pages.host", host=host.name, **_tab(key))) for key, label in TABS.items()],
        vms=rows,
        tasks=tasks,
        usage=await usage_of_host(host) if tab == "overview" else None,
        scan_reason=say(scan) if scan else disabled,
        create_reason=disabled,
        live_url=live_url(
            host=host.id,
            vms=[row.vm.id for row in rows],
            flags={tab} & {images.TAB, "tasks"},
            new_tasks=newest(tasks) if tab == "tasks" else None,
        ),
        **values,
    )


def _tab(key: str) -> dict[str, str]:
    return {} if key == "overview" else {"tab": key}


# -- adding ----------------------------------------------------------------------------------------------------


def new_path() -> str:
    """The page of the form that adds a host."""
    return web.url("pages.host_new")


def _engines() -> list[EngineKind]:
    """The engines of this panel, the imaginary one last."""
    return sorted(web.services().hosts.engines, key=lambda kind: kind is EngineKind.FAKE)


@get("/hosts/new", "host_new")
async def host_new(_actor: Actor) -> Response:
    """The form, with the fields of the engine in the address or else of the first."""
    engines = _engines()
    wanted = request.args.get("engine", "")
    kind = EngineKind(wanted) if wanted in {str(kind) for kind in engines} else engines[0]
    return await _new_page(EngineForm(kind))


@post("/hosts/new", "host_create", new_path)
async def host_create(actor: Actor) -> Response:
    """Test the connection (``test``), or add the host once a connection was made."""
    given = await form_data()
    engines = {str(kind): kind for kind in web.services().hosts.engines}
    kind = engines.get(given.get("engine_type", ""))
    form = EngineForm(kind or next(iter(engines.values())), given=given)
    if kind is None:
        form.fail("engine_type", _("Choose one of the list."))
    name = form.text("server_name", required=True)
    if form.errors:
        return await _new_page(form, status=_status())
    try:
        if form.checked("test"):
            return await _new_page(form, tested=await web.services().hosts.test(actor, name, form.request()))
        _host, info = await web.services().hosts.create(actor, name, form.request())
    except PanelError as error:
        form.take(error, form.names)
        return await _new_page(form, status=_status())
    return done(host_path(name), say(_("Added host {name}: {version}."), name=name, version=info.version))


async def _new_page(form: EngineForm, *, status: int = 200, tested: Any = None) -> Response:
    engines = [(kind, web.url("pages.host_new", engine=str(kind))) for kind in _engines()]
    here = web.url("pages.host_new", engine=str(form.kind))
    return await page("pages/hosts/new.html", status=status, here=here, form=form, engines=engines, tested=tested)


def _status() -> int:
    """A form that is given back is 400; htmx swaps only what it takes for good."""
    return 200 if web.is_htmx() else 400


# -- changing --------------------------------------------------------------------------------------------------


@post("/hosts/<host>/update", "host_update", settings_path)
async def host_update(actor: Actor, host: str) -> Response:
    """Test the connection with what the form says (``test``), or change the host's settings."""
    row = await web.services().hosts.get(host)
    form = EngineForm(row.engine, host=row, given=await form_data())
    if form.errors:
        return await host_page_with(row, "settings", status=_status(), form=form)
    try:
        if form.checked("test"):
            tested = await web.services().hosts.test(actor, host, form.request())
            return await host_page_with(row, "settings", form=form, tested=tested)
        await web.services().hosts.update(actor, host, form.request())
    except PanelError as error:
        form.take(error, form.names)
        return await host_page_with(row, "settings", status=_status(), form=form)
    return done(settings_path(host), say(_("Changed the settings of {name}."), name=host))


@post("/hosts/<host>/network", "host_network", settings_path)
async def host_network(actor: Actor, host: str) -> Response:
    """Change the settings of the host's network. Needs no connection."""
    row = await web.services().hosts.get(host)
    form = NetworkForm(row, await form_data())
    wanted = form.request()
    if not form.errors:
        try:
            await web.services().hosts.update(actor, host, wanted)
        except PanelError as error:
            form.take(error, NETWORK)
        else:
            return done(settings_path(host), say(_("Changed the settings of {name}."), name=host))
    return await host_page_with(row, "settings", status=400, network_form=form)


@post("/hosts/<host>/enable", "host_enable", host_path)
async def host_enable(actor: Actor, host: str) -> Response:
    """Look at the host again, and allow work on it."""
    await web.services().hosts.set_enabled(actor, host, True)
    return done(host_path(host), say(_("Host {name} is enabled."), name=host))


@post("/hosts/<host>/disable", "host_disable", host_path)
async def host_disable(actor: Actor, host: str) -> Response:
    """Leave the host alone; its VMs run on."""
    await web.services().hosts.set_enabled(actor, host, False)
    return done(host_path(host), say(_("Host {name} is disabled."), name=host))


@post("/hosts/<host>/scan", "host_scan", host_path)
async def host_scan(actor: Actor, host: str) -> Response:
    """Look for VMs that the panel does not know."""
    task = await web.services().vms.scan(actor, await web.services().hosts.get(host))
    return done(web.url("pages.task", task=task.id), say(_("Scanning {name}."), name=host))


@post("/hosts/<host>/delete", "host_delete", settings_path)
async def host_delete(actor: Actor, host: str) -> Response:
    """Forget the host, whose name must be typed first. Nothing on the host changes."""
    row = await web.services().hosts.get(host)
    form = Form(await form_data())
    if form.text("confirm") != row.name:
        form.fail("confirm", _("Type the name exactly as it is written above."))
        return await host_page_with(row, "settings", status=400, delete=form)
    count = await web.services().hosts.delete(actor, host)
    return done(
        web.url("pages.hosts"),
        say(_("Removed host {name} and its {count} VMs from the panel."), name=host, count=count),
    )
