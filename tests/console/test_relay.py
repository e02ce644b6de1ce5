"""The process that carries consoles: it waits for nothing in the panel, and its death or the panel's is told."""

from __future__ import annotations

import asyncio
import os
import signal
import socket as sockets
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.asyncio.client import ClientConnection

from panel.console.relay import RELAY, Relay
from panel.engines.consoletypes import ConsoleTarget, TcpTarget
from panel.engines.fake.engine import FakeEngine
from panel.models import LogEntry
from tests.console.browser import closing, dial, fresh, read
from tests.console.kit import Panel, screen, serve
from tests.console.test_tunnel import GREETING, echo

TRIPS = 20


@contextmanager
def echo_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every fake VM's screen echoes, in a thread: not in the event loop of the panel."""
    server = sockets.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    def run() -> None:
        peer, _ = server.accept()
        with peer:
            while data := peer.recv(65536):
                peer.sendall(data)

    async def console(self: FakeEngine, ref: str) -> ConsoleTarget:
        return TcpTarget("127.0.0.1", port)

    monkeypatch.setattr(FakeEngine, "console", console)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.close()
        thread.join(10)


def round_trips(browser: sockets.socket, done: threading.Event) -> None:
    """Key presses and their echoes, on the bare socket of a browser."""
    for _ in range(TRIPS):
        browser.sendall(b"\x82\x84\0\0\0\0abcd")
        got = b""
        while len(got) < 6:
            piece = browser.recv(6 - len(got))
            if not piece:
                return
            got += piece
        assert got == b"\x82\4abcd"
    done.set()


async def test_a_key_press_does_not_wait_for_the_panel(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop stands still until the echoes are there: they came another way."""
    with echo_thread(monkeypatch):
        async with serve(panel.app, "relay") as place, dial(panel, place, await fresh(panel)) as socket:
            await socket.send(b"a")
            await read(socket, 1)
            bare = sockets.socket(fileno=os.dup(socket.transport.get_extra_info("socket").fileno()))
            bare.setblocking(True)
            bare.settimeout(20)
            done = threading.Event()
            thread = threading.Thread(target=round_trips, args=(bare, done))
            thread.start()
            assert done.wait(30), "the panel's event loop is held here"
            thread.join()
            bare.close()
            socket.transport.abort()


async def opened(panel: Panel, socket: ClientConnection) -> Relay:
    """The relay, once it carries this console."""
    await read(socket, len(GREETING))
    await socket.send(b"x")
    await read(socket, 1)
    relay: Relay = panel.app.extensions[RELAY]
    assert relay.pid is not None
    return relay


async def test_its_death_is_told_and_the_next_console_has_a_new_one(
    panel: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with screen(monkeypatch, echo), serve(panel.app, "relay") as place:
        async with dial(panel, place, await fresh(panel)) as socket:
            relay = await opened(panel, socket)
            first = relay.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await closing(socket)
        async with asyncio.timeout(10):
            while panel.consoles.open_count:
                await asyncio.sleep(0.02)
        async with dial(panel, place, await fresh(panel)) as socket:
            assert (await opened(panel, socket)).pid != first


async def test_the_panels_death_is_told(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end of the channel closes, as the kernel closes that of a killed process."""
    async with (
        screen(monkeypatch, echo),
        serve(panel.app, "relay") as place,
        dial(panel, place, await fresh(panel)) as socket,
    ):
        relay = await opened(panel, socket)
        assert relay._channel is not None
        relay._channel.shutdown(sockets.SHUT_RDWR)
        assert (await closing(socket))[0] == 1012


async def test_a_server_that_stops_says_so(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    async with screen(monkeypatch, echo):
        serving = serve(panel.app, "relay")
        place = await serving.__aenter__()
        async with dial(panel, place, await fresh(panel)) as socket:
            await opened(panel, socket)
            ending = asyncio.create_task(serving.__aexit__(None, None, None))
            assert (await closing(socket))[0] == 1012
        await ending


async def test_the_log_has_what_it_carried(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    async with screen(monkeypatch, echo), serve(panel.app, "relay") as place:
        async with dial(panel, place, await fresh(panel)) as socket:
            await opened(panel, socket)
            await socket.send(bytes(100_000))
            await read(socket, 100_000)
            await panel.services.access.end_session(panel.session)
            assert (await closing(socket))[0] == 4401
        async with asyncio.timeout(10):
            while panel.consoles.open_count:
                await asyncio.sleep(0.02)
        entry = await LogEntry.filter(action="console.close").first()
        assert entry is not None
        params = entry.message["params"]
        assert (params["down"], params["up"]) == (len(GREETING) + 100_001, 100_001)


async def test_without_a_process_the_panel_carries(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    async with (
        screen(monkeypatch, echo),
        serve(panel.app, "relay") as place,
        dial(panel, place, await fresh(panel)) as socket,
    ):
        await read(socket, len(GREETING))
        await socket.send(bytes(3_000_000))
        await read(socket, 3_000_000)
        assert panel.app.extensions[RELAY].pid is None
