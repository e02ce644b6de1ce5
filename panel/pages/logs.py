"""The log: who did what to which object, when, from where."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

from quart import Response

from panel import web
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.pages.lists import SIZES, Listing, listing
from panel.pages.logexport import csv_lines, download, json_lines
from panel.pages.shared import get, page
from panel.pages.words import LEVELS, SOURCES
from panel.security import Actor, Permission
from panel.services.audit import LogFilter

FILTERS = ("find", "object", "kind", "action", "actor", "source", "level", "from", "to")
KINDS: dict[str, str] = {
    "vm": _("Virtual machine"),
    "host": _("Host"),
    "gateway": _("Gateway"),
    "proxy": _("Proxy"),
    "task": _("Task"),
    "panel": _("Panel"),
}


@get("/logs", "logs")
async def logs_page(actor: Actor) -> Response:
    """The log, newest first."""
    actor.require(Permission.VIEW)
    view, audit = _view(), web.services().audit
    wanted = _wanted(view.filters)
    view.total, entries = await audit.read(wanted, page=view.page, limit=view.size)
    if view.page > view.pages:
        view.page = view.pages
        view.total, entries = await audit.read(wanted, page=view.page, limit=view.size)
    return await page(
        "pages/logs/list.html",
        entries=entries,
        view=view,
        sizes=SIZES,
        actions=[(action, action) for action in await audit.actions()],
        levels=_choices(LEVELS),
        sources=_choices(SOURCES),
        kinds=_choices(KINDS),
        exports={form: web.url(f"pages.logs_{form}", **_set(view.filters)) for form in ("csv", "jsonl")},
    )


@get("/logs.csv", "logs_csv")
async def logs_csv(actor: Actor) -> Response:
    """What the filters leave, for a spreadsheet."""
    entries = await web.services().audit.export(actor, _wanted(_view().filters))
    return download(csv_lines(entries), "csv", "text/csv; charset=utf-8")


@get("/logs.jsonl", "logs_jsonl")
async def logs_jsonl(actor: Actor) -> Response:
    """What the filters leave, for a program: one JSON object a line."""
    entries = await web.services().audit.export(actor, _wanted(_view().filters))
    return download(json_lines(entries), "jsonl", "application/jsonl; charset=utf-8")


def _view() -> Listing:
    """The address, without what makes no sense."""
    view = listing("pages.logs", {"at": None}, ("at", "desc"), FILTERS)
    for name, known in (("level", LEVELS), ("source", SOURCES), ("kind", KINDS)):
        if view.filters[name] not in known:
            view.filters[name] = ""
    for name in ("from", "to"):
        if _day(view.filters[name]) is None:
            view.filters[name] = ""
    return view


def _wanted(filters: dict[str, str]) -> LogFilter:
    """Both days count whole, in UTC."""
    first, last = _day(filters["from"]), _day(filters["to"])
    return LogFilter(
        level=filters["level"],
        action=filters["action"],
        object_kind=filters["kind"],
        actor=filters["actor"],
        source=filters["source"],
        within=filters["object"],
        text=filters["find"],
        since=datetime.combine(first, time.min, UTC) if first else None,
        until=datetime.combine(last, time.max, UTC) if last else None,
    )


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _set(filters: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in filters.items() if value}


def _choices(words: dict[str, str]) -> list[tuple[str, str]]:
    return [(key, gettext(label)) for key, label in words.items()]
