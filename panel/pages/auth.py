"""Coming in and going out; the reader's theme and language."""

from __future__ import annotations

from typing import Any

from quart import Response, jsonify, request

from panel import i18n, web
from panel.errors import InvalidInput, PanelError
from panel.i18n import gettext_noop as _
from panel.pages.shared import form_data, local_path, page, post, public, to
from panel.pages.words import localised
from panel.security import Actor

YEAR = 31_536_000


@public("/login", "login")
async def login() -> Response:
    """The login form."""
    wanted = local_path(request.args.get("next"), "")
    if await web.session_actor() is not None:
        return to(wanted or web.url("pages.dashboard"))
    return await page("pages/auth/login.html", error=None, next=wanted)


@public("/login", "enter", ("POST",))
async def enter() -> Response:
    """Log in, by form or by JSON ``{"token": ...}``. Each login is a new session; one that the browser had ends."""
    web.check_origin()
    if request.is_json:
        return await _enter_by_json(await request.get_json(silent=True))
    form = await form_data()
    wanted = local_path(form.get("next"), "")
    try:
        cookie = await _begin(form.get("token", ""))
    except PanelError as error:
        here = web.url("pages.login", **({"next": wanted} if wanted else {}))
        message = localised(error.text).translate()
        response = await page("pages/auth/login.html", status=error.status, here=here, error=message, next=wanted)
        _retry_after(response, error)
        return response
    response = to(wanted or web.url("pages.dashboard"))
    web.set_cookie(response, web.SESSION_COOKIE, cookie)
    return response


async def _enter_by_json(body: Any) -> Response:
    token = body.get("token") if isinstance(body, dict) else None
    try:
        if not isinstance(token, str):
            raise InvalidInput(_("{field} is missing."), field="token")
        cookie = await _begin(token)
    except PanelError as error:
        data = {"field": error.field} if error.field else None
        response = jsonify({"code": error.status, "msg": error.text.translate(), "data": data})
        response.status_code = error.status
        _retry_after(response, error)
        return response
    response = jsonify({"code": 200, "msg": "success", "data": {}})
    web.set_cookie(response, web.SESSION_COOKIE, cookie)
    return response


async def _begin(token: str) -> str:
    cookie, _session = await web.services().access.login(token, web.client_address())
    before = await web.session()
    if before is not None:
        await web.services().access.end_session(before)
    return cookie


def _retry_after(response: Response, error: PanelError) -> None:
    seconds = getattr(error, "retry_after", None)
    if seconds is not None:
        response.headers["Retry-After"] = str(seconds)


@post("/logout", "logout", lambda: web.url("pages.dashboard"))
async def logout(_actor: Actor) -> Response:
    """End the session."""
    current = await web.session()
    if current is not None:
        await web.services().access.end_session(current)
    response = to(web.url("pages.login"))
    web.set_cookie(response, web.SESSION_COOKIE, "", max_age=0)
    return response


@public("/preferences/theme", "set_theme", ("POST",))
async def set_theme() -> Response:
    """Keep the reader's theme."""
    return await _keep(web.THEME_COOKIE, "theme", web.THEMES)


@public("/preferences/language", "set_language", ("POST",))
async def set_language() -> Response:
    """Keep the reader's language."""
    return await _keep(web.LANGUAGE_COOKIE, "lang", tuple(i18n.LANGUAGES))


@public("/preferences/side", "set_side", ("POST",))
async def set_side() -> Response:
    """Keep the navigation wide or narrow. With htmx the page stays: its script narrows it."""
    response = await _keep(web.SIDE_COOKIE, "side", web.SIDES)
    return _stay(response) if web.is_htmx() else response


def _stay(response: Response) -> Response:
    response.headers.pop("HX-Redirect", None)
    return response


async def _keep(cookie: str, field: str, known: tuple[str, ...]) -> Response:
    """Store a choice, and go back to where it was made. Without a login there is no CSRF token: the origin counts."""
    if await web.session() is not None:
        await web.check_csrf()
    else:
        web.check_origin()
    form = await form_data()
    response = to(local_path(form.get("next"), web.url("pages.dashboard")))
    if form.get(field) in known:
        web.set_cookie(response, cookie, form[field], max_age=YEAR)
    return response
