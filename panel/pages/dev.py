"""Developers' pages: what pages are made of, on one page. Only with the setting ``debug``; their words are English only."""

from __future__ import annotations

import json
import math
from datetime import timedelta

from quart import Response, jsonify, request

from panel import web
from panel.errors import NotFound
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.pages.lists import Listing
from panel.pages.shared import done, form_data, get, page, post
from panel.pages.usage import CHARTS, SPANS, Chart, Line, Usage
from panel.security import Actor
from panel.services.clock import now

STATES = [
    "running",
    "stopped",
    "suspended",
    "paused",
    "crashed",
    "missing",
    "unknown",
    "creating",
    "deleting",
    "online",
    "unreachable",
    "disabled",
    "queued",
    "success",
    "failed",
    "cancelled",
    "cancelling",
    "unsettled",
]
WORDS = {
    "title": "Components",
    "sub": "What every page is made of: macros/ui.html, macros/forms.html and the partials",
    "badges": "state_badge, large, freshness, time, tag, task_count",
    "buttons": "button, link_button, post_button, menu, menu_post, copy_button",
    "tiles": "tile",
    "bars": "usage_bar and progress_bar",
    "table": "A table with sort_header, pagination and row actions",
    "form": "field, select, textarea, checkbox, end; with errors",
    "empty": "empty_state",
    "notices": "notice; toasts, through the button's answer",
    "charts": "usage_card",
    "log": "A log",
    "text": "A sentence that says in plain words what is so, and what would mend it.",
    "why": "Why it cannot be pressed now.",
    "sure": "This names the thing, and says what is lost.",
    "label": "Label",
    "long": "a-name-that-is-long-enough-to-be-broken-" * 3,
    "plain": "Plain",
    "primary": "Primary",
    "danger": "Danger",
    "link": "Link",
    "more": "More",
    "name": "Name",
    "value": "Value",
    "error": "This is needed.",
    "help": "What to type here.",
    "toast": "Toast",
    "asks": "Asks first",
}


@get("/dev/components", "components")
async def components(_actor: Actor) -> Response:
    """Every macro, in the states it can be in."""
    _only_in_debug()
    moment = now()
    return await page(
        "pages/dev/components.html",
        words=WORDS,
        states=STATES,
        levels=("info", "success", "warning", "error"),
        times=[moment, moment - timedelta(minutes=5), moment - timedelta(days=30), None],
        parts=[0.0, 0.4, 0.85, 0.97, None],
        view=Listing("pages.components", sort="name", page=4, total=240, default=("name", "asc")),
        usage=_usage(),
    )


@get("/dev/series", "dev_series")
async def series(_actor: Actor) -> Response:
    """Waves for the charts, in the form of the API's ``metrics``."""
    _only_in_debug()
    steps = {"1h": 10, "24h": 60, "7d": 900}
    step = steps.get(request.args.get("range", ""), 10)
    count = 360
    names = [name for _key, _title, _unit, lines in CHARTS for name, _label in lines]
    waves = {
        name: [None if 200 < at < 220 else round(50 + 40 * math.sin(at / 30 + shift), 1) for at in range(count)]
        for shift, name in enumerate(names)
    }
    start = (now() - timedelta(seconds=step * count)).isoformat()
    return jsonify({"code": 200, "msg": "", "data": {"step_seconds": step, "start": start, "series": waves}})


@post("/dev/toast", "dev_toast", lambda: web.url("pages.components"))
async def toast(_actor: Actor) -> Response:
    """Answer with a toast of each level; without JavaScript with a notice on the page."""
    _only_in_debug()
    level = (await form_data()).get("level", "info")
    response = done(web.url("pages.components"), WORDS["text"], stay=True)
    if "HX-Trigger" in response.headers:
        response.headers["HX-Trigger"] = json.dumps({"toast": {"level": level, "text": WORDS["text"]}})
    return response


def _only_in_debug() -> None:
    if not web.services().settings.debug:
        raise NotFound(_("There is no such page."))


def _usage() -> Usage:
    here = web.url("pages.components")
    numbers = dict.fromkeys(("latest", "lowest", "average", "highest"), "–")
    charts = tuple(
        Chart(
            key,
            gettext(title),
            unit,
            100.0,
            tuple(Line(name, gettext(label), numbers) for name, label in lines),
        )
        for key, title, unit, lines in CHARTS
    )
    spans = tuple((key, gettext(label), here) for key, label in SPANS.items())
    return Usage("1h", spans, web.url("pages.dev_series"), charts)
