"""The page that makes a VM. "Name, image, create" is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from quart import Response, request

from panel import web
from panel.errors import PanelError
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Host, HostImage
from panel.pages.capacity import Room, roominess, rooms
from panel.pages.families import family
from panel.pages.newvm import NAMES, SIZES, NewVmForm, as_curl, as_json, network_words
from panel.pages.rows import HostRow, host_rows
from panel.pages.shared import done, form_data, get, page, post
from panel.pages.words import NIC_MODES, say
from panel.security import Actor
from panel.services.engines import capabilities
from panel.services.specs import RATES, VmRequest


@dataclass
class Draft:
    """The page as it is: what was typed, the hosts that there are, and what the chosen one has."""

    form: NewVmForm
    hosts: Sequence[HostRow]
    row: HostRow | None
    images: list[HostImage] = field(default_factory=list)

    @property
    def host(self) -> Host | None:
        """The chosen host."""
        return self.row.host if self.row else None

    @property
    def image(self) -> HostImage | None:
        """The chosen image."""
        return next((image for image in self.images if image.name == self.form.value("os_name")), None)

    @property
    def moved(self) -> bool:
        """Whether the page shows the images of another host."""
        return self.form.value("images_of") != self.form.value("host")

    @property
    def choices(self) -> list[tuple[str, str, str | None]]:
        """The hosts as a list to choose from: name, label, why not."""
        return [(row.host.name, row.host.name, _why_not(row.host)) for row in self.hosts]

    @property
    def rooms(self) -> list[Room]:
        """What the chosen host has, beside what is asked of it."""
        return rooms(self.row, *(self.form.number(name) for name in SIZES)) if self.row else []

    @property
    def asked(self) -> list[Room]:
        """The sizes alone."""
        return [Room(name, 0, 0, self.form.number(name)) for name in SIZES]


def new_path() -> str:
    """The form's page."""
    return web.url("pages.vm_new")


@get("/vms/new", "vm_new")
async def vm_new(_actor: Actor) -> Response:
    """The form, for the host in the address or else the one with the most room."""
    form = NewVmForm()
    hosts = await _hosts()
    names = {row.host.name for row in hosts}
    usable = sorted((row for row in hosts if _why_not(row.host) is None), key=roominess, reverse=True)
    wanted = request.args.get("host", "")
    form.default("host", wanted if wanted in names else usable[0].host.name if usable else "")
    draft = await _draft(form, hosts, choose=True)
    return await _whole_page(draft, form.read(), clean=True)


@post("/vms/new/check", "vm_check", new_path)
async def vm_check(_actor: Actor) -> Response:
    """The form with what is wrong: of the fields that were left, as fragments, or without JavaScript of all, as a page."""
    form = NewVmForm(await form_data())
    draft = await _draft(form, await _hosts(), choose=True)
    wanted = await _check(draft)
    if not web.is_htmx():
        return await _whole_page(draft, wanted)
    form.keep_only(form.value("left").split())
    return Response(web.partial("partials/vms/new.html", "checked", **await _context(draft, wanted)))


@post("/vms/new", "vm_create", new_path)
async def vm_create(actor: Actor) -> Response:
    """Make the VM, once for one form; or give the form back with all that is wrong."""
    form = NewVmForm(await form_data())
    draft = await _draft(form, await _hosts())
    wanted = form.read()
    if draft.host is not None and not form.errors:
        try:
            create = web.services().vms.create_once
            vm, task = await create(actor, draft.host, wanted, form.value("form_key")[:64])
        except PanelError as error:
            form.take_all([error])
        else:
            location = web.url("pages.vm", host=draft.host.name, vm=vm.name)
            return done(location, say(_("Creating {name}."), name=vm.title or vm.name), data={"task_id": task.id})
    return await _whole_page(draft, await _check(draft), status=400)


async def _hosts() -> list[HostRow]:
    return await host_rows(await Host.all().order_by("name"))


async def _draft(form: NewVmForm, hosts: Sequence[HostRow], *, choose: bool = False) -> Draft:
    """``choose``: where the chosen host has not got the chosen image, its first is taken."""
    draft = Draft(form, hosts, next((row for row in hosts if row.host.name == form.value("host")), None))
    if draft.host:
        draft.images = await HostImage.filter(host_id=draft.host.id).exclude(format="iso").order_by("name")
    if choose and draft.image is None and draft.images and not (form.sent and not form.value("os_name")):
        form.default("os_name", draft.images[0].name)
    if draft.image is not None or not form.value("os_name"):
        form.follow(draft.image)
    return draft


async def _check(draft: Draft) -> VmRequest:
    """Note all that is wrong, by the rules of the service that makes the VM, and what is remarkable."""
    form = draft.form
    wanted = form.read()
    if draft.host is None:
        form.fail("host", _("Choose one of the list."))
    else:
        form.take_all(await web.services().vms.problems(draft.host, wanted))
    return wanted


async def _whole_page(draft: Draft, wanted: VmRequest, *, clean: bool = False, status: int = 200) -> Response:
    """``clean``: nobody has typed yet, so nothing is wrong."""
    form = draft.form
    if clean:
        form.errors.clear()
    else:
        form.default("left", " ".join(NAMES))
        form.give_back()
        wanted = replace(wanted, password=None)
    context = await _context(draft, wanted)
    return await page("pages/vms/new.html", status=status, here=new_path(), flashes=form.notices, **context)


async def _context(draft: Draft, wanted: VmRequest) -> dict[str, Any]:
    form, host = draft.form, draft.host
    counted = host is not None and web.services().gateways.limits(host)
    form.warnings = {room.name: room.warning for room in draft.rooms if room.warning}
    if form.retype:
        form.warnings["os_pass"] = say(
            _("Type the password again: it is not sent back. Left empty, it is as the image has it.")
        )
    return {
        "draft": draft,
        "form": form,
        "families": {image.key: family(image).icon for image in draft.images},
        "modes": [(str(mode), gettext(label)) for mode, label in NIC_MODES.items()],
        "names": [name for name in NAMES if counted or name not in RATES],
        "counted": counted,
        "network": await network_words(host, wanted.nics[0].mode) if host else "",
        "body": as_json(wanted) if form.readable else None,
        "curl": as_curl(host, wanted) if host and form.readable else None,
        "wanted": wanted,
        "able": capabilities(host.engine) if host else None,
    }


def _why_not(host: Host) -> str | None:
    reason = capabilities(host.engine).why_not("create")
    if reason is not None:
        return say(reason)
    return None if host.enabled else say(_("disabled"))
