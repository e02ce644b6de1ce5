"""The tunnel's own: who may speak when, dead browsers, servers that stop, ends that cannot be taken over."""

from __future__ import annotations

import asyncio
import socket as sockets
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from panel.console.bridge import VM_ENDED, VM_STALLED, Closing, Screen, Traffic
from panel.console.handover import TunnelProtocol
from panel.console.tunnel import Tunnel, take_over
from tests.console.browser import closing, dial, fresh, read
from tests.console.kit import Panel, screen, serve

GREETING = b"RFB 003.008\n"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def test_no_byte_enters_the_application(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    received = []
    plain = TunnelProtocol.receive

    async def receive(self: TunnelProtocol) -> Any:
        received.append(await plain(self))
        return received[-1]

    monkeypatch.setattr(TunnelProtocol, "receive", receive)
    async with screen(monkeypatch, echo), serve(panel.app) as place, dial(panel, place, await fresh(panel)) as socket:
        await read(socket, len(GREETING))
        await socket.send(bytes(3_000_000))
        await read(socket, 3_000_000)
    assert [message["type"] for message in received] in (
        ["websocket.connect"],
        ["websocket.connect", "websocket.disconnect"],
    )


async def test_a_server_that_stops_says_so(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    async with screen(monkeypatch, echo):
        serving = serve(panel.app)
        place = await serving.__aenter__()
        async with dial(panel, place, await fresh(panel)) as socket:
            await read(socket, len(GREETING))
            ending = asyncio.create_task(serving.__aexit__(None, None, None))
            assert (await closing(socket))[0] == 1012
        await ending


async def test_a_dead_browser_is_noticed(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine is gone: it answers no ping, and no FIN comes."""
    async with (
        screen(monkeypatch, echo),
        serve(panel.app, ws_ping_interval=0.2) as place,
        dial(panel, place, await fresh(panel)) as socket,
    ):
        await read(socket, len(GREETING))
        await asyncio.sleep(1)
        assert panel.consoles.open_count == 1, "it answers, and stays"
        socket.transport.pause_reading()
        async with asyncio.timeout(5):
            while panel.consoles.open_count:
                await asyncio.sleep(0.02)


async def test_pings_are_answered(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    async with screen(monkeypatch, echo), serve(panel.app) as place, dial(panel, place, await fresh(panel)) as socket:
        await read(socket, len(GREETING))
        async with asyncio.timeout(5):
            await (await socket.ping(b"are you there"))


async def test_who_breaks_the_protocol_is_told(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    async with screen(monkeypatch, echo), serve(panel.app) as place, dial(panel, place, await fresh(panel)) as socket:
        await read(socket, len(GREETING))
        socket.transport.write(Frame(Opcode.BINARY, b"not masked").serialize(mask=False))
        assert (await closing(socket))[0] == 1002


async def test_what_the_vm_said_before_is_not_lost() -> None:
    """Bytes that the streams hold already come first; an end that came already counts."""
    for last in (False, True):
        here, there = sockets.socketpair()
        reader, writer = await asyncio.open_connection(sock=here)
        there.sendall(b"early")
        if last:
            there.close()
        await asyncio.sleep(0.05)
        end = await take_over(reader, writer)
        assert end is not None
        assert (end.early, end.ended) == (b"early", last)
        writer.close()
        there.close()


async def test_an_end_that_is_no_transport_takes_the_plain_road() -> None:
    class Channel:
        """What SSH gives."""

    assert await take_over(asyncio.StreamReader(), Channel()) is None  # type: ignore[arg-type]


async def test_the_first_reason_counts() -> None:
    here, there = sockets.socketpair()
    reader, writer = await asyncio.open_connection(sock=here)
    end = await take_over(reader, writer)
    assert end is not None
    tunnel = Tunnel(end, Traffic())
    tunnel.end(Closing(VM_STALLED, Screen.stalled))
    tunnel.end(Closing(VM_ENDED, Screen.ended))
    assert (await tunnel.done).code == 4504
    writer.close()
    there.close()
