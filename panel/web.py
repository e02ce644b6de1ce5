"""What API, pages and console share of the web: who asks, from where, in which language, and how a page is rendered."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from quart import (
    Request,
    Response,
    current_app,
    g,
    has_request_context,
    has_websocket_context,
    request,
    url_for,
    websocket,
)

from panel import __version__, i18n
from panel.bodies import BoundedBody
from panel.errors import Forbidden, InvalidInput, NotFound
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Session
from panel.security import Actor, Source, same, unveil, veil
from panel.services.container import Services
from panel.services.uploads import PIECE
from panel.templating import MODULES, CompiledTemplates, PanelEnvironment

SESSION_COOKIE = "openidcs_session"
LANGUAGE_COOKIE = "openidcs_language"
THEME_COOKIE = "openidcs_theme"
SIDE_COOKIE = "openidcs_side"
THEMES = ("auto", "light", "dark")
SIDES = ("wide", "narrow")
STATIC = Path(__file__).parent / "static"
TEMPLATES = Path(__file__).parent / "templates"
YEAR = 31_536_000
COMPRESSED = {".css", ".js", ".svg", ".json", ".txt"}
UPLOAD_PATH = re.compile(r"/hosts/[^/]+/uploads/[0-9a-f]{32}/pieces$")
UPLOAD_FORM = re.compile(r"/hosts/[^/]+/uploads/form$")
PACKED = {"text/html", "application/json"}
HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
SMALLEST = 1000  # bytes of HTML: what is smaller fits into one packet anyway


class PanelRequest(Request):
    """A request whose body may be larger than others' where the panel takes files (``panel.pages.images``): a piece, or a form of
    whatever size, which is read as it comes and waits meanwhile (``panel.bodies``)."""

    body_class = BoundedBody

    def __init__(self, method: str, scheme: str, path: str, *args: Any, **more: Any) -> None:
        if method == "POST" and UPLOAD_PATH.search(path):
            more["max_content_length"] = PIECE
        elif method == "POST" and UPLOAD_FORM.search(path):
            more["max_content_length"] = None
        super().__init__(method, scheme, path, *args, **more)


def services() -> Services:
    """The services of the running panel."""
    return cast(Services, current_app.extensions["panel"])


def connection() -> Any:
    """The request, or the websocket's handshake."""
    return websocket if has_websocket_context() else request


def client_address() -> str:
    """Where the client is. Behind a trusted proxy, the server has put the client's own address here."""
    return str(connection().remote_addr or "")


async def session() -> Session | None:
    """The login session of this request, or None."""
    if "session" not in g:
        cookie = connection().cookies.get(SESSION_COOKIE, "")
        g.session = await services().access.by_session(cookie) if cookie else None
    return cast("Session | None", g.session)


async def session_actor(source: Source = Source.PAGE) -> Actor | None:
    """The actor of this request's login session, or None."""
    current = await session()
    return Actor(current.actor, source, client_address(), current.id) if current else None


async def check_csrf(given: str | None = None) -> None:
    """Every unsafe request of a page carries its session's token, in the form or in ``X-CSRF-Token``: veiled as a page
    has it, or bare as a live fragment, which is not compressed. ``given``: the form's, where the caller read the form.

    Raises:
        Forbidden: it does not, or comes from another site.
    """
    check_origin()
    current = await session()
    if header := request.headers.get("X-CSRF-Token"):
        given = header
    elif given is None:
        given = (await request.form).get("csrf_token", "")
    if current is None or not (same(given, current.csrf) or same(unveil(given), current.csrf)):
        raise Forbidden(_("This form is out of date. Reload the page and try again."))


def check_origin() -> None:
    """A browser tells where a request comes from: it must be this panel.

    Raises:
        Forbidden: another site, or a page opened from a file.
    """
    origin = connection().headers.get("Origin")
    if origin is None:
        if connection().headers.get("Sec-Fetch-Site", "same-origin") in {"same-origin", "none"}:
            return
        raise Forbidden(_("This request came from another site."))
    allowed = {connection().host}
    public = services().settings.public_url
    if public:
        allowed.add(urlsplit(public).netloc)
    if urlsplit(origin).netloc not in allowed:
        raise Forbidden(_("This request came from another site."))


def is_secure() -> bool:
    """Whether the client speaks TLS, to us or to a trusted proxy before us."""
    return str(connection().scheme) in {"https", "wss"}


def set_cookie(
    response: Response, name: str, value: str, *, path: str | None = None, max_age: int | None = None
) -> None:
    """A cookie that scripts cannot read and other sites do not send."""
    response.set_cookie(
        name,
        value,
        max_age=max_age,
        path=path or (connection().root_path or "") + "/",
        httponly=True,
        samesite="Lax",
        secure=is_secure(),
    )


def choose_language() -> None:
    """The reader's choice (cookie), else the browser's, else the panel's setting: programs of billing systems send none, and show
    people what they are answered."""
    chosen = connection().cookies.get(LANGUAGE_COOKIE, "")
    if chosen not in i18n.LANGUAGES:
        chosen = i18n.best_language(connection().headers.get("Accept-Language"), services().settings.language)
    i18n.set_language(chosen)


def theme() -> str:
    """The reader's choice: ``auto``, ``light`` or ``dark``."""
    chosen = request.cookies.get(THEME_COOKIE, "auto") if has_request_context() else "auto"
    return chosen if chosen in THEMES else "auto"


def side() -> str:
    """How the reader left the navigation: ``wide``, or ``narrow`` (icons only)."""
    chosen = request.cookies.get(SIDE_COOKIE, "wide") if has_request_context() else "wide"
    return chosen if chosen in SIDES else "wide"


def url(endpoint: str, **values: Any) -> str:
    """The path of a route, with the sub-path that a reverse proxy adds."""
    return _url(connection().root_path, endpoint, tuple(values.items()))


@lru_cache(10_000)
def _url(_root_path: str, endpoint: str, values: tuple[tuple[str, Any], ...]) -> str:
    """Each page has the same forty, and Werkzeug builds each anew."""
    return url_for(endpoint, **dict(values))


def public_url(path: str) -> str:
    """An absolute URL that opens in a browser as it is. ``path`` comes from ``url``.

    Raises:
        InvalidInput: there is no ``public_url``, and the request's Host header is no host.
    """
    base = services().settings.public_url.rstrip("/")
    if base:
        return base + path.removeprefix(services().settings.base_path)
    host = connection().host
    if not HOST.fullmatch(host):
        raise InvalidInput(_("The request's {field} header is no host and port."), field="Host")
    return f"{connection().scheme}://{host}{path}"


def is_htmx() -> bool:
    """Whether htmx asks, and wants a fragment."""
    return request.headers.get("HX-Request") == "true"


def wants_json() -> bool:
    """Whether a program asks: it must prefer JSON to HTML."""
    best = request.accept_mimetypes.best_match(["text/html", "application/json"], default="text/html")
    return bool(best == "application/json")


# -- assets ----------------------------------------------------------------------------------------------------


@cache
def assets_digest() -> str:
    """One digest over all of ``static/``: a changed file changes every asset's URL, so all may be cached for a year."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(STATIC)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def asset(path: str) -> str:
    """The URL of a file below ``static/``."""
    return _asset_url(connection().root_path, path)


@cache
def _asset_url(_root_path: str, path: str) -> str:
    """A page names assets often, and Werkzeug builds each URL anew."""
    return url("assets", digest=assets_digest(), path=path)


def icon(name: str, class_: str = "") -> Markup:
    """One of the sprite's icons. A long list shows hundreds: as a macro they were a quarter of its time."""
    return _icon(connection().root_path, name, class_)


@lru_cache(1000)
def _icon(_root_path: str, name: str, class_: str) -> Markup:
    return Markup('<svg class="icon {}" aria-hidden="true"><use href="{}#{}"></use></svg>').format(
        class_, asset("vendor/icons.svg"), name
    )


@cache
def _asset_bytes(path: str) -> tuple[bytes, bytes | None, str]:
    if "\0" in path:  # which no file's name has
        raise NotFound(_("There is no such page."))
    file = (STATIC / path).resolve()
    if not file.is_relative_to(STATIC.resolve()) or not file.is_file():
        raise NotFound(_("There is no such page."))
    content = file.read_bytes()
    kind = (
        "text/javascript" if file.suffix == ".js" else mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    )
    packed = gzip.compress(content, 9, mtime=0) if file.suffix in COMPRESSED else None
    return content, packed, kind


async def serve_asset(digest: str, path: str) -> Response:
    """A file below ``static/``, compressed once per process. An old digest gets today's file, uncached."""
    content, packed, kind = _asset_bytes(path)
    body = packed if packed is not None and _takes_gzip() else content
    response = Response(body, content_type=f"{kind}; charset=utf-8")
    if body is packed:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"
    current = digest == assets_digest()
    response.headers["Cache-Control"] = f"public, max-age={YEAR}, immutable" if current else "no-cache"
    return response


async def compress(response: Response) -> Response:
    """Pages, fragments and what the API lists, for whoever takes gzip. The CSRF token of pages is veiled for this: an answer
    that has a secret and what an attacker chose must not tell by its length. Streams stay as they are."""
    if response.mimetype not in PACKED or not isinstance(
        response, Response
    ):  # Werkzeug's own redirects are not Quart's
        return response
    response.vary.add("Accept-Encoding")
    body = await response.get_data(as_text=False)
    if len(body) >= SMALLEST and _takes_gzip():
        response.set_data(gzip.compress(body, 6, mtime=0))
        response.headers["Content-Encoding"] = "gzip"
    return response


def _takes_gzip() -> bool:
    return request.accept_encodings.quality("gzip") > 0


# -- templates -------------------------------------------------------------------------------------------------


def make_environment() -> Environment:
    """Jinja, rendered synchronously: Quart's own environment is async and twice as slow on long tables."""
    environment = PanelEnvironment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        auto_reload=False,
        cache_size=-1,  # all of them: keeping count of which was used last costs more than it saves
    )
    environment.install_gettext_callables(  # type: ignore[attr-defined]
        i18n.gettext, i18n.ngettext, newstyle=True
    )
    environment.globals.update(
        asset=asset,
        icon_of=icon,
        url=url,
        version=__version__,
        languages=i18n.LANGUAGES,
        themes=THEMES,
        now=_now,
        tr=_translate,
    )
    return environment


def _now() -> datetime:
    from panel.services.clock import now

    return now()


def _translate(text: Text | None) -> str:
    return text.translate() if text is not None else ""


@cache
def _environment() -> Environment:
    return make_environment()


def keep_templates(folder: Path) -> None:
    """Keep what templates are compiled to in ``folder``, for the next start."""
    _environment().bytecode_cache = CompiledTemplates(folder)


def add_filter(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function a Jinja filter of the same name."""
    _environment().filters[function.__name__] = function
    return function


def add_global(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let templates call a function."""
    _environment().globals[function.__name__] = function
    return function


Context = Callable[[], Awaitable[dict[str, Any]]]
_contexts: list[Context] = []


def add_context(function: Context) -> Context:
    """Let every page of somebody who is logged in have what ``function`` gives."""
    _contexts.append(function)
    return function


async def render(template: str, /, **context: Any) -> str:
    """A page or partial, with what every layout needs: language, theme, navigation, actor, CSRF token, drawer."""
    current = await session()
    common: dict[str, Any] = {
        "lang": i18n.language(),
        "theme": theme(),
        "side": side(),
        "actor": await session_actor(),
        "csrf_token": veil(current.csrf) if current else "",
        "current_path": _current_path(),
        "running_tasks": 0,
        "drawer": None,
        "live_url": "",
        "q": "",
        "flashes": [],
    }
    for more in _contexts if current else ():
        common |= await more()
    return _environment().get_template(template).render(common | context | {MODULES: {}})


def _current_path() -> str:
    query = request.query_string.decode("latin-1")
    return request.root_path + request.path + (f"?{query}" if query else "")


def partial(template: str, macro: str, /, *args: Any, **context: Any) -> str:
    """One macro of a template, for a fragment that is pushed to a page."""
    module = _environment().get_template(template).make_module(context | {MODULES: {}})
    return str(getattr(module, macro)(*args))
