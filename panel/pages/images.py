"""The images of a host: the list, adding by URL or from the browser, and removing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quart import Response, jsonify, request

from panel import web
from panel.errors import InvalidInput, PanelError
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Host, HostImage, Task
from panel.pages.fileform import file_form
from panel.pages.forms import Form
from panel.pages.hosts import host_page_with
from panel.pages.rows import TaskRow, task_rows
from panel.pages.shared import done, form_data, get, post
from panel.pages.words import say
from panel.security import Actor
from panel.services.catalogue import catalogue, cloud_image
from panel.services.downloads import DownloadService, FetchRequest, of_catalogue
from panel.services.hostimages import HostImageService
from panel.services.names import folded
from panel.services.taskends import LIVING
from panel.services.uploadfiles import Upload
from panel.services.uploads import PIECE, UploadRequest

TAB = "images"
VMS_NAMED = 10
LABELS = {
    "url": _("URL"),
    "name": _("Name"),
    "user": _("User"),
    "checksum": _("Checksum"),
    "checksum_url": _("URL of a checksum file"),
}


@dataclass(frozen=True, slots=True)
class ImageRow:
    """An image as the list shows it. ``used``: how many VMs were made from it; ``fixed``: it is no file that could go."""

    image: HostImage
    used: int
    fixed: bool = False

    @property
    def is_iso(self) -> bool:
        """Whether it is a CD image."""
        return self.image.format == "iso"


@dataclass(frozen=True, slots=True)
class ImageList:
    """The live part of the tab. ``reason``: why the panel cannot bring or remove images here; None when it can. ``by_host``: the
    host downloads them itself. ``sent``: it is another machine, and the panel sends them when they are whole."""

    host: Host
    rows: list[ImageRow]
    tasks: list[TaskRow]
    uploads: list[Upload]
    reason: str | None
    by_host: bool = False
    sent: bool = False

    @property
    def disks(self) -> list[ImageRow]:
        """What VMs are made from."""
        return [row for row in self.rows if not row.is_iso]

    @property
    def isos(self) -> list[ImageRow]:
        """What is put into a CD drive."""
        return [row for row in self.rows if row.is_iso]


@dataclass(frozen=True, slots=True)
class Removal:
    """What is to be known before an image is removed: ``vms`` were made from it."""

    row: ImageRow
    vms: list[str]


def images_path(host: str, **more: Any) -> str:
    """A host's images; ``more``: what is open on the page."""
    return web.url("pages.host", host=host, tab=TAB, **more)


def _back(host: str, **_more: Any) -> str:
    return images_path(host)


async def image_list(host: Host) -> ImageList:
    """What the list shows now: rows of the database, and the uploads of this machine."""
    services = web.services()
    used = await services.images.used_by(host)
    by_host = services.host_images.able(host)
    reason = None if by_host else services.images.why_not(host)
    tasks = Task.filter(host_id=host.id, kind__startswith="image.", status__in=LIVING).order_by("-created_at")
    return ImageList(
        host,
        [
            ImageRow(image, used.get(image.name, 0), by_host and ":" not in image.key)
            for image in await HostImage.filter(host_id=host.id)
        ],
        await task_rows(await tasks),
        await services.uploads.all(host),
        reason.translate() if reason else None,
        by_host,
        not by_host and not reason and not services.images.local(host),
    )


async def images_context(host: Host, wanted: Mapping[str, str]) -> dict[str, Any]:
    """What the tab shows. ``wanted``: the page's arguments; ``remove`` is the file of an image that is about to go."""
    listed = await image_list(host)
    known = {folded(row.image.name) for row in listed.rows}
    return {
        "images": listed,
        "fetch": _form(None),
        "catalogue": [(item, folded(item.title) in known) for item in catalogue()],
        "piece": PIECE,
        "removal": await _removal(host, wanted["remove"]) if wanted.get("remove") else None,
    }


async def _removal(host: Host, key: str) -> Removal:
    image = await web.services().images.listed(host, key)
    vms = await web.services().images.made_from(host, image, VMS_NAMED)
    used = (await web.services().images.used_by(host)).get(image.name, 0)
    return Removal(ImageRow(image, used), vms)


def _form(given: Mapping[str, str] | None) -> Form:
    return Form(given, dict.fromkeys(LABELS, ""), {name: gettext(label) for name, label in LABELS.items()})


@post("/hosts/<host>/images/fetch", "image_fetch", _back)
async def image_fetch(actor: Actor, host: str) -> Response:
    """Download an image from a URL."""
    row = await web.services().hosts.get(host)
    form = _form(await form_data())
    wanted = FetchRequest(form.text("url", required=True), *(form.text(name) for name in list(LABELS)[1:]))
    if not form.errors:
        try:
            task = await _way(row).begin(actor, row, wanted)
        except PanelError as error:
            form.take(error, LABELS)
        else:
            return done(
                images_path(host), say(_("Downloading {name}. The task shows how far it is."), name=_named(task))
            )
    return await host_page_with(row, TAB, status=200 if web.is_htmx() else 400, fetch=form)


@post("/hosts/<host>/images/catalogue/<key>", "image_catalogue", _back)
async def image_catalogue(actor: Actor, host: str, key: str) -> Response:
    """Download an image of the catalogue."""
    row = await web.services().hosts.get(host)
    image = cloud_image(key)
    await _way(row).begin(actor, row, of_catalogue(image))
    return done(images_path(host), say(_("Downloading {name}. The task shows how far it is."), name=image.title))


@post("/hosts/<host>/images/<path:key>/remove", "image_remove", _back)
async def image_remove(actor: Actor, host: str, key: str) -> Response:
    """Remove an image. The page asks first, and names the VMs made from it."""
    row = await web.services().hosts.get(host)
    services = web.services()
    remove = services.host_images.remove if services.host_images.able(row) else services.images.delete
    image = await remove(actor, row, key)
    return done(images_path(host), say(_("Removed image {name}."), name=image.title or image.name))


def _way(host: Host) -> DownloadService | HostImageService:
    """Who downloads."""
    services = web.services()
    return services.host_images if services.host_images.able(host) else services.downloads


def _named(task: Task) -> str:
    return str(web.services().tasks.params_of(task)["name"])


# -- uploads: what static/js/upload.js asks for ------------------------------------------------------------------


@post("/hosts/<host>/uploads", "upload_begin", _back)
async def upload_begin(actor: Actor, host: str) -> Response:
    """Announce a file."""
    row = await web.services().hosts.get(host)
    form = Form(await form_data())
    size, modified = (_number(form.text(name), name) for name in ("size", "modified"))
    wanted = UploadRequest(
        form.text("file"), size, form.text("name"), form.text("user"), form.text("checksum"), modified
    )
    return _told(await web.services().uploads.begin(actor, row, wanted))


@post("/hosts/<host>/uploads/form", "upload_form", _back, streams=True)
async def upload_form(actor: Actor, host: str) -> Response:
    """A file in one piece, from a browser without JavaScript: it goes to disk as it comes."""
    form = await file_form()
    await web.check_csrf(form.fields.get("csrf_token", ""))
    try:
        row = await web.services().hosts.get(host)
        name, user, checksum = (form.fields.get(f"upload-{field}", "") for field in ("name", "user", "checksum"))
        wanted = UploadRequest(form.file, request.content_length or 0, name, user, checksum)
        if not form.file:
            raise InvalidInput(_("{field}: choose a file."), field="file")
        await web.services().uploads.whole(actor, row, wanted, form.data)
    except PanelError:
        await form.rest()  # until it has sent everything, a browser does not listen
        raise
    return done(images_path(host), say(_("Everything came. A task takes it in.")))


@get("/hosts/<host>/uploads/<upload>", "upload")
async def upload_state(_actor: Actor, host: str, upload: str) -> Response:
    """How far an upload is."""
    return _told(await web.services().uploads.get(await web.services().hosts.get(host), upload))


@post("/hosts/<host>/uploads/<upload>/pieces", "upload_piece", _back)
async def upload_piece(_actor: Actor, host: str, upload: str) -> Response:
    """The piece at ``offset``, as the bare body of the request."""
    row = await web.services().hosts.get(host)
    offset = _number(request.args.get("offset", ""), "offset")
    return _told(await web.services().uploads.append(row, upload, offset, request.body))


@post("/hosts/<host>/uploads/<upload>/finish", "upload_finish", _back)
async def upload_finish(actor: Actor, host: str, upload: str) -> Response:
    """Let the upload become an image."""
    row = await web.services().hosts.get(host)
    task = await web.services().uploads.finish(actor, row, upload)
    return done(images_path(host), say(_("Everything came. A task takes it in.")), data={"task": task.id})


@post("/hosts/<host>/uploads/<upload>/discard", "upload_discard", _back)
async def upload_discard(actor: Actor, host: str, upload: str) -> Response:
    """Remove what has come."""
    row = await web.services().hosts.get(host)
    gone = await web.services().uploads.discard(actor, row, upload)
    return done(images_path(host), say(_("Discarded the upload of {name}."), name=gone.file))


def _number(text: str, field: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InvalidInput(_("{field} must be a whole number."), field=field)
    return int(text)


def _told(upload: Upload) -> Response:
    return jsonify({"code": 200, "msg": "", "data": {"id": upload.id, "offset": upload.offset, "size": upload.size}})
