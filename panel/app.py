"""The only place where the parts are wired together."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import orjson
import structlog
from quart import Quart, Response, request
from quart.ctx import RequestContext
from quart.json.provider import DefaultJSONProvider
from quart_rate_limiter import RateLimiter
from quart_schema import Info, QuartSchema, Server
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from panel import __version__, web
from panel.api import blueprint as api
from panel.api.document import ApiDocument
from panel.api.prometheus import blueprint as prometheus
from panel.api.wire import to_jsonable
from panel.bodies import BoundedHttpConnection
from panel.console.relay import RELAY
from panel.console.relay import Relay as ConsoleRelay
from panel.console.routes import blueprint as console
from panel.console.websocket import BoundedWebsocketConnection
from panel.courtesy import Courtesy
from panel.engines.types import EngineKind
from panel.errorpages import LARGEST_BODY, install_errors, moved
from panel.events import EventBus
from panel.gateways.caddy.gateway import CaddyGateway
from panel.gateways.reach import ImaginaryConnector, NetworkConnector
from panel.models.database import close_database, is_away, is_shared, open_database
from panel.models.reading import reading
from panel.pages import blueprint as pages
from panel.security import SecretBox
from panel.services.access import AccessService
from panel.services.addresses import AddressService
from panel.services.asks import Asks
from panel.services.attention import AttentionService
from panel.services.audit import AuditLog
from panel.services.configuration import ConfigurationService
from panel.services.consoles import ConsoleService
from panel.services.container import Services
from panel.services.downloads import DownloadService
from panel.services.engines import EnginePool
from panel.services.fetching import Fetcher
from panel.services.following import Follower
from panel.services.forwards import ForwardService
from panel.services.gateways import GatewayService
from panel.services.guests import GuestService
from panel.services.hostimages import HostImageService
from panel.services.hosts import HostService
from panel.services.images import ImageService
from panel.services.labels import LabelService
from panel.services.metrics import MetricsService
from panel.services.nodes import Alone, Nodes, Together, this_machine
from panel.services.observations import Observations
from panel.services.observer import Observer
from panel.services.pools import PoolService
from panel.services.power import PowerService
from panel.services.probes import ProbeService
from panel.services.proxies import ProxyService
from panel.services.publications import PublicationService
from panel.services.relay import Relay
from panel.services.savedfilters import SavedFilterService
from panel.services.screens import ScreenService
from panel.services.sites import SiteService
from panel.services.snapshots import SnapshotService
from panel.services.tasks import TaskService
from panel.services.taskshares import TaskShares
from panel.services.uploads import UploadService
from panel.services.vms import UNBEGUN, VmService
from panel.settings import Settings

SWEEP_SECONDS = 60.0
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

terminal = structlog.get_logger("panel")


class Panel(Quart):
    """Serves requests before what works in the background; and those that only read, beside what it writes."""

    async def full_dispatch_request(self, request_context: RequestContext | None = None) -> Any:
        """Until the answer begins: a stream goes on without either."""
        services: Services = self.extensions["panel"]
        with services.courtesy.serving(), reading(request.method in {"GET", "HEAD"}):
            return await super().full_dispatch_request(request_context)

    async def handle_http_exception(self, error: HTTPException) -> Any:
        """A redirect of the router's own answers a program as all else does."""
        answer = moved(error) if isinstance(error, RequestRedirect) else None
        return answer or await super().handle_http_exception(error)


class JsonProvider(DefaultJSONProvider):
    """orjson, and what pydantic can turn into JSON."""

    def dumps(self, obj: Any, **_kwargs: Any) -> str:
        return orjson.dumps(obj, default=to_jsonable, option=orjson.OPT_NON_STR_KEYS).decode()

    def loads(self, s: str | bytes, **_kwargs: Any) -> Any:
        return orjson.loads(s)


def build_services(settings: Settings) -> Services:
    """Make and connect the services. Touches only the data folder's key; the database is opened by ``start``."""
    box = SecretBox.open(settings.data_folder)
    events = EventBus()
    audit = AuditLog()
    shared = is_shared(settings.database)
    here = settings.machine or this_machine() if shared else ""
    pool = EnginePool(box, here)
    asks = Asks(events)
    nodes: Nodes = Together(events, here, f"{socket.gethostname()}:{settings.port}"[:128]) if shared else Alone()
    access = AccessService(settings, box, events, audit)
    courtesy = Courtesy()
    observations = Observations(events, courtesy)
    observer = Observer(settings, pool, observations, events, audit, courtesy, nodes)
    tasks = TaskService(box, events, audit, nodes)
    images = ImageService(settings, pool, observer, audit)
    fetcher = Fetcher(settings.images_networks)
    gateways = GatewayService(pool, events, audit, nodes, asks)
    addresses = AddressService(pool, gateways, events, audit)
    observer.inventories.append(addresses.sync_networks)
    observer.rounds.append(lambda host_id: gateways.wake(host_id, look=True))
    observations.rewired = gateways.wake
    metrics = MetricsService(settings.observe_seconds, courtesy=courtesy, nodes=nodes)
    observations.measured, observer.measured = metrics.vms_seen, metrics.host_seen
    probes = ProbeService(settings, gateways, events, NetworkConnector(), ImaginaryConnector(), nodes)
    caddy = CaddyGateway(settings.data_folder / "proxy", run=settings.proxy_run)
    sites = SiteService(settings, box, pool, events, audit, caddy, nodes, asks)
    follower = Follower(nodes, asks, pool, observer, observations, gateways, sites, events)
    if isinstance(nodes, Together):
        nodes.survey, nodes.unreached = gateways.survey, follower.unreached
    engines = tuple(kind for kind in EngineKind if kind is not EngineKind.FAKE or settings.fake_engine)
    return Services(
        settings=settings,
        box=box,
        events=events,
        audit=audit,
        access=access,
        courtesy=courtesy,
        pool=pool,
        tasks=tasks,
        observer=observer,
        hosts=HostService(box, pool, gateways, observer, observations, events, audit, engines),
        vms=VmService(tasks, pool, observer, observations, addresses, gateways, events, audit),
        power=PowerService(tasks, pool, observations),
        snapshots=SnapshotService(tasks, pool, observations),
        consoles=ConsoleService(access, pool, events, audit),
        guests=GuestService(events),
        images=images,
        downloads=DownloadService(tasks, images, fetcher),
        host_images=HostImageService(tasks, pool, images, observer, fetcher, audit),
        uploads=UploadService(tasks, images, audit),
        gateways=gateways,
        addresses=addresses,
        pools=PoolService(addresses, gateways, events, audit),
        forwards=ForwardService(settings.port, gateways, events, audit),
        sites=sites,
        proxies=ProxyService(settings.public_url, box, sites, events, audit),
        probes=probes,
        publications=PublicationService(probes),
        configuration=ConfigurationService(settings.data_folder, box, access, pool, gateways, observer, events, audit),
        metrics=metrics,
        attention=AttentionService(settings, gateways),
        labels=LabelService(events, audit),
        saved_filters=SavedFilterService(),
        screens=ScreenService(pool),
        nodes=nodes,
        follower=follower,
        task_shares=TaskShares(tasks, nodes, events),
        relay=Relay(settings.database, nodes.id, events) if nodes.id is not None else None,
    )


def create_app(settings: Settings) -> Quart:
    """The panel as an ASGI application."""
    services = build_services(settings)
    app = Panel(__name__, static_folder=None, template_folder=None)
    app.extensions["panel"] = services
    if settings.console_relay:
        app.extensions[RELAY] = ConsoleRelay()
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.request_class = web.PanelRequest
    app.asgi_http_class = BoundedHttpConnection
    app.asgi_websocket_class = BoundedWebsocketConnection
    RateLimiter(app)
    QuartSchema(
        app,
        info=Info(title="OpenIDCS Panel", version=__version__),
        openapi_path="/openapi.json",
        redoc_ui_path=None,
        scalar_ui_path=None,
        swagger_ui_path=None,
        conversion_preference="pydantic",
        security_schemes={"bearer": {"type": "http", "scheme": "bearer"}},
        security=[{"bearer": []}],
        servers=[Server(settings.base_path)] if settings.base_path else None,
        openapi_provider_class=ApiDocument,
    )
    app.json = JsonProvider(app)
    web.keep_templates(settings.data_folder / "templates")
    app.register_blueprint(api, url_prefix="/api")
    app.register_blueprint(pages)
    app.register_blueprint(console)
    app.register_blueprint(prometheus)
    app.add_url_rule("/assets/<digest>/<path:path>", "assets", web.serve_asset)
    _install_hooks(app, services)
    install_errors(app)
    if settings.base_path:
        app.asgi_app = _under(settings.base_path, app.asgi_app)  # type: ignore[method-assign,assignment]
    return app


def _install_hooks(app: Quart, services: Services) -> None:
    background: set[asyncio.Task[None]] = set()

    @app.before_serving
    async def start() -> None:
        await open_database(services.settings.database)
        if services.relay is not None:
            await services.relay.start()
        services.gateways.start()
        services.sites.start()
        services.probes.start()
        alone = services.settings.database.startswith("sqlite")  # then nobody else is at a create
        await services.vms.drop_unbegun(timedelta(0) if alone else UNBEGUN)
        await services.tasks.recover()
        services.metrics.start()
        await services.nodes.start()
        services.task_shares.start()
        background.add(asyncio.create_task(_housekeeping(services)))
        gc.freeze()  # with the little garbage that importing leaves: to look for it first takes a tenth of the whole start
        gc.set_threshold(3_000, 20, 50)  # more often, less at once: a request leaves 2,000 objects in cycles

    @app.after_serving
    async def stop() -> None:
        for job in background:
            job.cancel()
        await services.probes.stop()
        await services.consoles.stop()
        if RELAY in app.extensions:
            await app.extensions[RELAY].close()
        await services.screens.close()
        await services.task_shares.stop()
        await services.observer.stop()
        await services.metrics.stop()
        await services.tasks.stop()
        await services.gateways.stop()
        await services.sites.stop()
        await services.follower.stop()
        await services.nodes.stop()
        if services.relay is not None:
            await services.relay.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await services.pool.close()
        await close_database()

    @app.before_request
    async def language() -> None:
        web.choose_language()

    @app.before_websocket
    async def websocket_language() -> None:
        web.choose_language()

    @app.after_request
    async def headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"
        return await web.compress(response)


async def _housekeeping(services: Services) -> None:
    while True:
        try:
            if services.nodes.leads:  # one process does it for all
                await services.access.sweep()
                await services.consoles.sweep()
                await services.audit.trim()
                await services.vms.drop_unbegun()
            await services.uploads.sweep()
        except Exception as error:
            if is_away(error):
                terminal.warning("the database does not answer", reason=type(error).__name__)
            else:
                terminal.exception("housekeeping failed")
        await asyncio.sleep(SWEEP_SECONDS)


def _under(base_path: str, inner: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Serve under a sub-path, whether or not the reverse proxy strips it."""

    async def outer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] in {"http", "websocket"}:
            path = scope["path"]
            if path != base_path and not path.startswith(base_path + "/"):
                path = base_path + path
            scope = scope | {"root_path": base_path, "path": path}
        await inner(scope, receive, send)

    return outer
