"""The panel over one fake host with one VM, without its background work: nobody observes, so tests say what is seen."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from quart import Quart

from panel.app import create_app
from panel.connections import BoundedHttpProtocol
from panel.console.bridge import bridge
from panel.console.handover import TunnelProtocol
from panel.console.relay import RELAY, Relay, RelayedTunnel
from panel.console.tunnel import Tunnel
from panel.engines.consoletypes import ConsoleTarget, TcpTarget
from panel.engines.fake.engine import FakeEngine
from panel.engines.fake.world import FakeWorld, world
from panel.engines.types import EngineKind, PowerState
from panel.events import VmChanged
from panel.models import Host, Session, Vm
from panel.security import Actor, Source
from panel.services.consoles import ConsoleService
from panel.services.container import Services
from panel.settings import Settings

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Panel:
    """What a test needs at hand."""

    app: Quart
    services: Services
    host: Host
    vm: Vm
    world: FakeWorld
    session: Session
    cookie: str
    actor: Actor

    @property
    def consoles(self) -> ConsoleService:
        return self.services.consoles

    @property
    def path(self) -> str:
        return f"/console/{self.host.name}/{self.vm.name}"

    async def set_state(self, state: PowerState) -> None:
        """Turn the VM on or off, on the fake host and as last seen."""
        self.world.vms[self.vm.ref].enter(state, self.world.clock())
        await Vm.filter(id=self.vm.id).update(state=state)
        self.services.events.publish(VmChanged(self.vm.id, self.host.id))


async def make_panel(folder: Path, **settings: Any) -> Panel:
    """The database is open already. One fake host with one running VM, a login, and the token."""
    app = create_app(Settings(data_folder=folder, fake_engine=True, console_relay=False, **settings))
    services: Services = app.extensions["panel"]
    access = services.access
    await access.ensure_token()
    here = world(f"console-{folder.name}")
    seen = here.add_foreign("screen", PowerState.RUNNING)
    host = await Host.create(name="demo", engine=EngineKind.FAKE, address=here.address)
    vm = await make_vm(host, "screen", seen.ref)
    cookie, session = await access.login(await access.token(), "127.0.0.1")
    actor = Actor("admin", Source.PAGE, "127.0.0.1", session.id)
    return Panel(app, services, host, vm, here, session, cookie, actor)


async def make_vm(host: Host, name: str, ref: str) -> Vm:
    vm = await Vm.create(
        host=host, name=name, ref=ref, title=f"Machine {name}", cpu_count=1, memory_mib=512, state=PowerState.RUNNING
    )
    vm.host = host
    return vm


@asynccontextmanager
async def serve(app: Any, road: str = "tunnel", **options: Any) -> AsyncIterator[str]:
    """A real uvicorn on a free port, with the panel's own settings for websockets; ``plain`` is the road under another
    server, ``relay`` that through the other process. Yields ``127.0.0.1:PORT``."""
    relay = Relay() if road == "relay" else None
    if relay is not None:
        app.extensions[RELAY] = relay
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        http=BoundedHttpProtocol,
        ws="websockets-sansio" if road == "plain" else TunnelProtocol,
        ws_per_message_deflate=False,
        ws_max_size=1024 * 1024,
        timeout_graceful_shutdown=1,
        lifespan="off",
        log_config=None,
        log_level="info",
        **options,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        if relay is not None:
            del app.extensions[RELAY]
            await relay.close()


@asynccontextmanager
async def screen(monkeypatch: Any, handler: Handler) -> AsyncIterator[None]:
    """Every fake VM's screen is behind a TCP port served by ``handler``."""
    open_writers: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.add(writer)
        try:
            await handler(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=64 * 1024)
    port = server.sockets[0].getsockname()[1]

    async def console(self: FakeEngine, ref: str) -> ConsoleTarget:
        return TcpTarget("127.0.0.1", port)

    monkeypatch.setattr(FakeEngine, "console", console)
    try:
        yield
    finally:
        server.close()
        for writer in open_writers:
            writer.transport.abort()


def limit_stalls(monkeypatch: Any, *, browser: float, vm: float) -> None:
    """How many seconds a side may take nothing, on every road."""
    for road in (bridge, Tunnel.__init__, RelayedTunnel.__init__):
        limits = {**(road.__kwdefaults__ or {}), "browser_stall": browser, "vm_stall": vm}
        monkeypatch.setattr(road, "__kwdefaults__", limits)


def rss_mib() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
