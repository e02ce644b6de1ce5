"""The log: who did what to which object, when, from where."""

from __future__ import annotations

from quart import Response

from panel import web
from panel.i18n import gettext
from panel.pages.lists import SIZES, listing
from panel.pages.shared import get, page
from panel.pages.words import LEVELS, SOURCES
from panel.security import Actor
from panel.services.audit import LogFilter


@get("/logs", "logs")
async def logs_page(_actor: Actor) -> Response:
    """The log, newest first."""
    view = listing("pages.logs", {"at": None}, ("at", "desc"), ("find", "level"))
    if view.filters["level"] not in LEVELS:
        view.filters["level"] = ""
    wanted = LogFilter(level=view.filters["level"], text=view.filters["find"])
    view.total, entries = await web.services().audit.read(wanted, page=view.page, limit=view.size)
    if view.page > view.pages:
        view.page = view.pages
        view.total, entries = await web.services().audit.read(wanted, page=view.page, limit=view.size)
    return await page(
        "pages/logs/list.html",
        entries=entries,
        view=view,
        sizes=SIZES,
        levels=[(level, gettext(label)) for level, label in LEVELS.items()],
        sources={source: gettext(label) for source, label in SOURCES.items()},
    )
