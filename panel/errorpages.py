"""Every error once, in its reader's form: JSON for programs, a page or a fragment for people."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import orjson
import structlog
from quart import Quart, Response, g, has_request_context, has_websocket_context, redirect, request, websocket
from quart_rate_limiter import RateLimitExceeded
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import RequestRedirect

from panel import i18n, web
from panel.api.wire import to_jsonable
from panel.engines.common.tls import FINGERPRINT
from panel.errors import (
    CertificateRefused,
    DatabaseAway,
    InvalidInput,
    NotFound,
    PanelError,
    StorageFull,
    TooLarge,
    TooManyRequests,
)
from panel.i18n import gettext_noop as _
from panel.models.database import is_away, is_full

AWAY_SECONDS = 2  # after which it is worth asking again, when the database did not answer
LARGEST_BODY = 1024 * 1024  # bytes; what is larger has a route of its own

terminal = structlog.get_logger("panel")


def install_errors(app: Quart) -> None:
    """Every error of a request becomes an answer; what nobody expected is logged."""

    @app.errorhandler(PanelError)
    async def panel_error(error: PanelError) -> Response:
        return await _render_error(_no_room() if is_full(error.__cause__) else error)

    @app.errorhandler(RateLimitExceeded)
    async def limited(error: RateLimitExceeded) -> Response:
        return await _render_error(
            TooManyRequests(_("Slow down. Try again in {seconds} s."), retry_after=_seconds(error.retry_after))
        )

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Response:
        response = await _render_error(_from_http(error))
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.errorhandler(Exception)
    async def unexpected(error: Exception) -> Response:
        if is_away(error):
            return await _database_away(error)
        if has_websocket_context():
            terminal.error("websocket failed", path=websocket.path, exc_info=error)
            return Response(status=500)
        terminal.error("request failed", method=request.method, path=request.path, exc_info=error)
        if is_full(error):
            return await _render_error(_no_room())
        return await _render_error(PanelError(_("An internal error; the panel's log has its trace.")))


def _no_room() -> StorageFull:
    return StorageFull(_("The disk of the data folder is full. Make room there, then try again."))


async def _database_away(error: Exception) -> Response:
    """PostgreSQL does not answer now. Who asks is told so without asking it again."""
    terminal.debug(
        "the database does not answer", path=request.path if has_request_context() else "", error=type(error).__name__
    )
    if has_websocket_context():
        return Response(status=503)
    g.session = None
    response = await _render_error(DatabaseAway(_("The panel's database does not answer. Try again in a moment.")))
    response.headers["Retry-After"] = str(AWAY_SECONDS)
    return response


def moved(error: RequestRedirect) -> Response | None:
    """Where an address of the API with two slashes in a row belongs, in the envelope: most programs do not follow, and HTML tells
    them nothing. None for a page, whose browser follows."""
    place = urlsplit(error.new_url)._replace(scheme="", netloc="").geturl()
    if not request.path.lstrip("/").startswith("api/"):
        return None
    message = i18n.Text(_("This address has two slashes in a row. It is {path}."), {"path": place})
    response = Response(app_json({"code": error.code, "msg": message.translate(), "data": None}), error.code)
    response.content_type = "application/json"
    response.headers["Location"] = place
    return response


def _from_http(error: HTTPException) -> PanelError:
    status = error.code or 500
    if status == 404 and request.path.startswith("/api/"):
        path = (request.root_path + request.path)[:200]
        return NotFound(_("The API has no address {path}. {docs} lists all."), path=path, docs=web.url("pages.docs"))
    if status == 404:
        return NotFound(_("There is no such page."))
    if status == 413:
        return TooLarge(_("The request is larger than {most} bytes."), most=LARGEST_BODY)
    if status >= 500:
        terminal.error("request failed", path=request.path, exc_info=error)
        return PanelError(_("An internal error; the panel's log has its trace."))
    known = InvalidInput(_("This address does not take {method}.") if status == 405 else _("The request is malformed."),
                         method=request.method)  # fmt: skip
    known.status = status
    return known


async def _render_error(error: PanelError) -> Response:
    """An error, once: JSON for programs, a page or a fragment for people."""
    message = error.text.translate()
    if request.path.startswith("/api/") or web.wants_json():
        data = {"field": error.field} if error.field else None
        if isinstance(error, CertificateRefused):
            data = {"field": FINGERPRINT, "fingerprint": error.fingerprint}
        response = Response(app_json({"code": error.status, "msg": message, "data": data}), error.status)
        response.content_type = "application/json"
    elif error.status == 401 and not web.is_htmx() and request.method == "GET":
        return redirect(web.url("pages.login", next=request.root_path + request.full_path.rstrip("?")))  # type: ignore[return-value]
    else:
        template = "partials/error.html" if web.is_htmx() else "pages/error.html"
        title = i18n.gettext(error.title)
        html = await web.render(template, title=title, message=message, status=error.status, field=error.field)
        response = Response(html, error.status)
    if isinstance(error, TooManyRequests):
        response.headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:  # RFC 9110, 11.6.1
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def app_json(value: Any) -> bytes:
    """JSON as the API sends it."""
    return orjson.dumps(value, default=to_jsonable, option=orjson.OPT_NON_STR_KEYS)


def _seconds(value: object) -> int:
    return value if isinstance(value, int) else 60
