"""What the pages have in common: who may see them, how they answer, and what they say after an action."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, cast
from urllib.parse import urlsplit

from quart import Blueprint, Response, jsonify, request
from quart_schema import hide
from werkzeug.datastructures import MultiDict

from panel import web
from panel.errors import ConfigError, Forbidden, PanelError, Unauthorized
from panel.i18n import gettext_noop as _
from panel.pages.topics import live_url
from panel.pages.words import localised
from panel.security import Actor

FLASH_COOKIE = "openidcs_flash"
FLASH_SECONDS = 60
LONGEST_FLASH = 900  # characters: encrypted, it must still fit into a cookie

View = Callable[..., Awaitable[Response]]

blueprint = Blueprint("pages", __name__)


# -- routes ----------------------------------------------------------------------------------------------------


def public(rule: str, name: str, methods: tuple[str, ...] = ("GET",)) -> Callable[[View], View]:
    """A route for everybody. It is not part of the API's description."""

    def decorate(function: View) -> View:
        blueprint.add_url_rule(rule, name, hide(function), methods=list(methods))
        return function

    return decorate


def get(rule: str, name: str) -> Callable[[View], View]:
    """A page for whoever is logged in; the function gets the actor first. It must not change anything."""

    def decorate(function: View) -> View:
        @wraps(function)
        async def view(**values: Any) -> Response:
            return await function(await require_actor(), **values)

        blueprint.add_url_rule(rule, name, hide(view), methods=["GET"])
        return view

    return decorate


def post(rule: str, name: str, back: Callable[..., str], *, streams: bool = False) -> Callable[[View], View]:
    """An action of whoever is logged in, with the CSRF token. ``back(**values)`` is the page to return to: a
    ``PanelError`` is told there; programs and htmx get it as an answer. ``streams``: the form is too large to be read whole;
    the function reads it, and looks at its token (``web.check_csrf``) before anything else."""

    def decorate(function: View) -> View:
        @wraps(function)
        async def view(**values: Any) -> Response:
            actor = await web.session_actor()
            if actor is None:
                if web.is_htmx() or web.wants_json():
                    raise Unauthorized(_("Log in first."))
                return to(web.url("pages.login", next=back(**values)))
            if not streams:
                await web.check_csrf()
            try:
                return await function(actor, **values)
            except PanelError as error:
                if streams and isinstance(error, Forbidden):
                    raise
                error.text = localised(error.text)
                if web.is_htmx() or web.wants_json():
                    raise
                return flashed(to(back(**values)), "error", error.text.translate())

        blueprint.add_url_rule(rule, name, hide(view), methods=["POST"])
        return view

    return decorate


async def require_actor() -> Actor:
    """Who is logged in. ``Unauthorized`` leads to the login page."""
    actor = await web.session_actor()
    if actor is None:
        raise Unauthorized(_("Log in first."))
    return actor


# -- answers ---------------------------------------------------------------------------------------------------


async def page(template: str, /, *, status: int = 200, here: str | None = None, **context: Any) -> Response:
    """A whole page, with what the last action had to say.

    Args:
        here: the page's own address, when it is given back by a POST: where theme and language forms return to.
    """
    waiting = _waiting_flashes()
    flashes = [*waiting, *context.pop("flashes", [])]
    if here is not None:
        context["current_path"] = here
    if await web.session() is not None:
        context.setdefault("live_url", live_url())  # of tasks every page hears
    response = Response(await web.render(template, flashes=flashes, **context), status)
    if waiting:
        web.set_cookie(response, FLASH_COOKIE, "", max_age=0)
    return response


def to(location: str) -> Response:
    """Go to another page, by GET: 303, or ``HX-Redirect`` for htmx."""
    if web.is_htmx():
        return Response("", 204, headers={"HX-Redirect": location})
    return Response("", 303, headers={"Location": location})


def done(location: str, message: str, *, level: str = "success", stay: bool = False, data: Any = None) -> Response:
    """An action went well. Programs get the envelope, htmx a toast (``stay``) or the page ``location``, people without
    JavaScript always the page. ``level``: a ``warning`` stays there to be read, a ``success`` goes by itself."""
    if web.wants_json():
        return jsonify({"code": 200, "msg": message, "data": data})
    if stay and web.is_htmx():
        toast = json.dumps({"toast": {"level": level, "text": message}})
        return Response("", 204, headers={"HX-Trigger": toast})
    return flashed(to(location), level, message)


def flashed(response: Response, level: str, message: str) -> Response:
    """Let the next page say ``message``. It travels encrypted: nobody else can put words into our mouth."""
    sealed = web.services().box.seal(json.dumps([[level, message[:LONGEST_FLASH]]]))
    web.set_cookie(response, FLASH_COOKIE, sealed, max_age=FLASH_SECONDS)
    return response


def _waiting_flashes() -> list[tuple[str, str]]:
    sealed = request.cookies.get(FLASH_COOKIE, "")
    if not sealed:
        return []
    try:
        stored = json.loads(web.services().box.unseal(sealed))
    except (ConfigError, ValueError):
        return []
    return [(str(level), str(text)) for level, text in stored]


# -- requests --------------------------------------------------------------------------------------------------


def local_path(wanted: str | None, default: str) -> str:
    """``wanted`` when it is a path of this panel, else ``default``: nobody is sent to another site."""
    if not wanted or not wanted.startswith("/") or wanted.startswith("//") or len(wanted) > 2000:
        return default
    if "\\" in wanted or any(ord(char) < 33 or ord(char) == 127 for char in wanted):
        return default
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return default
    base = web.services().settings.base_path
    if parts.scheme or parts.netloc or (base and not (wanted + "/").startswith(base + "/")):
        return default
    return wanted


def came_from(default: str) -> str:
    """The page of this panel that the request came from, else ``default``."""
    try:
        parts = urlsplit(request.headers.get("Referer", ""))
    except ValueError:
        return default
    if parts.netloc != request.host:
        return default
    return local_path(parts.path + (f"?{parts.query}" if parts.query else ""), default)


async def form_data() -> MultiDict[str, str]:
    """The form of the request."""
    return cast("MultiDict[str, str]", await request.form)
