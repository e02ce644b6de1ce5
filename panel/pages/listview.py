"""How the VM list is looked at, kept: columns and rows of a page in a cookie, filters by name in the database."""

from __future__ import annotations

from dataclasses import dataclass

from quart import Response

from panel import web
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.pages import columns
from panel.pages.columns import Look
from panel.pages.lists import SIZES, Listing
from panel.pages.shared import came_from, done, form_data, local_path, post
from panel.pages.words import say
from panel.security import Actor

YEAR = 31_536_000
FILTERS = ("q", "host", "state", "tag")
QUERY = (*FILTERS, "sort", "dir")  # what a saved filter keeps of the address


@dataclass(frozen=True, slots=True)
class Chip:
    """A saved filter. ``current``: it is what the list shows."""

    id: int
    name: str
    url: str
    current: bool


@dataclass(frozen=True, slots=True)
class Chips:
    """``present``: what saving keeps now; empty when nothing is filtered or sorted, or when it is saved already."""

    saved: list[Chip]
    present: dict[str, str]


async def chips(actor: Actor, view: Listing) -> Chips:
    """The actor's saved filters beside what the list shows now. One query."""
    present = {name: value for name, value in view.filters.items() if value}
    if (view.sort, view.dir) != view.default:
        present |= {"sort": view.sort, "dir": view.dir}
    saved = [
        Chip(row.id, row.name, web.url("pages.vms", **row.query), row.query == present)
        for row in await web.services().saved_filters.of(actor)
    ]
    return Chips(saved, {} if any(chip.current for chip in saved) else present)


def _list_path() -> str:
    return came_from(web.url("pages.vms"))


@post("/vms/look", "vms_look", _list_path)
async def vms_look(_actor: Actor) -> Response:
    """Keep the columns (``columns``: they were asked) and rows of a page (``size``); ``usual``: all as it was at first."""
    form, look = await form_data(), columns.kept()
    chosen, size = look.columns, look.size
    if form.get("columns"):
        chosen = tuple(key for key in columns.COLUMNS if key in form.getlist("column"))
    if form.get("size") in set(map(str, SIZES)):
        size = int(form["size"])
    look = Look() if form.get("usual") else Look(chosen, size)
    response = done(local_path(form.get("back"), web.url("pages.vms")), gettext(_("The list is kept so.")))
    web.set_cookie(response, columns.COOKIE, look.cookie, max_age=YEAR)
    return response


@post("/vms/filters", "vms_filter_save", _list_path)
async def filter_save(actor: Actor) -> Response:
    """Keep what the list shows under a name."""
    form = await form_data()
    query = {name: value[:200] for name in QUERY if (value := form.get(name, "").strip())}
    row = await web.services().saved_filters.save(actor, form.get("name", ""), query)
    return done(web.url("pages.vms", **row.query), say(_("Saved the filter {name}."), name=row.name))


@post("/vms/filters/<int(max=2147483647):number>/delete", "vms_filter_delete", lambda number: _list_path())
async def filter_delete(actor: Actor, number: int) -> Response:
    """Forget a saved filter."""
    await web.services().saved_filters.delete(actor, number)
    return done(_list_path(), gettext(_("Deleted the filter.")))
