"""The form that makes a VM. "Name, image, create" is enough."""

from __future__ import annotations

from typing import Any

from quart import Response, request

from panel import web
from panel.engines.types import NicMode
from panel.errors import InvalidInput, PanelError
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Host, HostImage
from panel.pages.filters import gib
from panel.pages.forms import Form
from panel.pages.rows import host_rows
from panel.pages.shared import done, form_data, get, page, post
from panel.pages.words import FIELDS, NIC_MODES, say
from panel.security import Actor
from panel.services.engines import capabilities
from panel.services.names import check_identifier
from panel.services.specs import NicRequest
from panel.services.vms import VmRequest

DEFAULTS: dict[str, object] = {
    "vm_uuid": "",
    "vm_name": "",
    "cpu_num": 2,
    "ram_num": 2048,
    "hdd_num": 20,
    "net_mode": NicMode.NAT,
    "mac_addr": "",
    "os_pass": "",
    "start": "1",
}
NAMES = (*DEFAULTS, "host", "os_name")


def new_path() -> str:
    """The form's page."""
    return web.url("pages.vm_new")


@get("/vms/new", "vm_new")
async def vm_new(_actor: Actor) -> Response:
    """The form, for the host in the address or else the first that can make VMs."""
    hosts = await Host.all().order_by("name")
    usable = [host for host in hosts if _why_not(host) is None]
    wanted = next((host for host in hosts if host.name == request.args.get("host")), None)
    chosen = wanted or (usable[0] if usable else None)
    form = Form(None, DEFAULTS | {"host": chosen.name if chosen else ""})
    return await _form_page(form, hosts)


@post("/vms/new", "vm_create", new_path)
async def vm_create(actor: Actor) -> Response:
    """Make the VM; or, when only the host was changed, give the form back with that host's images."""
    form = Form(await form_data(), DEFAULTS, FIELDS)
    hosts = await Host.all().order_by("name")
    if form.checked("refresh"):
        return await _form_page(form, hosts)
    host = next((host for host in hosts if host.name == form.value("host")), None)
    if host is None:
        form.fail("host", _("Choose one of the list."))
    request_ = _read(form)
    if host is None or form.errors:
        return await _form_page(form, hosts, status=400)
    try:
        vm, task = await web.services().vms.create(actor, host, request_)
    except PanelError as error:
        form.take(error, NAMES, {"nic_all": "net_mode"})
        return await _form_page(form, hosts, status=400)
    location = web.url("pages.vm", host=host.name, vm=vm.name)
    return done(location, say(_("Creating {name}."), name=vm.title or vm.name), data={"task_id": task.id})


def _read(form: Form) -> VmRequest:
    name = form.text("vm_uuid", required=True)
    try:
        check_identifier(name, "vm_uuid") if name else None
    except InvalidInput as error:
        form.take(error, NAMES)
    mode = form.choice("net_mode", NicMode)
    password = form.secret("os_pass")
    return VmRequest(
        name=name,
        title=form.text("vm_name"),
        os_name=form.text("os_name"),
        cpu_count=form.integer("cpu_num"),
        memory_mib=form.integer("ram_num"),
        disk_gib=form.integer("hdd_num"),
        nics=(NicRequest("eth0", NicMode(mode) if mode in set(NicMode) else NicMode.NAT, form.text("mac_addr")),),
        password=password or None,
        start=form.checked("start"),
    )


async def _form_page(form: Form, hosts: list[Host], *, status: int = 200) -> Response:
    host = next((host for host in hosts if host.name == form.value("host")), None)
    images = await HostImage.filter(host_id=host.id).order_by("name") if host else []
    if not form.value("os_name") and images and not (form.sent and not form.checked("refresh")):
        form.default("os_name", images[0].name)
    return await page(
        "pages/vms/new.html",
        status=status,
        here=new_path(),
        form=form,
        hosts=[(row.name, row.name, _why_not(row)) for row in hosts],
        host=(await host_rows([host]))[0] if host else None,
        images=[_image_option(image) for image in images] + _blank_option(host),
        image_help=_image_help(host, bool(images)),
        modes=[(str(mode), gettext(label)) for mode, label in NIC_MODES.items()],
        flashes=form.notices,
    )


def _blank_option(host: Host | None) -> list[tuple[str, str]]:
    reason = capabilities(host.engine).why_not("blank") if host else None
    return [] if reason else [("", gettext(_("No image: an empty disk")))]


def _image_help(host: Host | None, any_image: bool) -> str | None:
    able = capabilities(host.engine) if host else None
    if not any_image:
        blank = able is None or able.blank
        return gettext(
            _("This host has no images yet: the VM gets an empty disk.")
            if blank
            else _("This host has no images yet, and VMs are made from images only.")
        )
    return (
        None
        if able is None or able.disk_size
        else gettext(_("The disk is the image's own: its size below has no effect."))
    )


def _image_option(image: HostImage) -> tuple[str, str]:
    label: Any = image.title or image.name
    return image.name, f"{label} · {gib(image.virtual_gib)}" if image.virtual_gib else label


def _why_not(host: Host) -> str | None:
    reason = capabilities(host.engine).why_not("create")
    if reason is not None:
        return say(reason)
    return None if host.enabled else say(_("disabled"))
