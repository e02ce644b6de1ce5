"""Screens with a password, which the panel gives: the VM hears the viewer from its ClientInit on, on every road."""

from __future__ import annotations

import asyncio

import pytest

from panel.engines.common.rfb import open_screen
from panel.engines.consoletypes import ConsoleTarget, StreamTarget
from panel.engines.fake.engine import FakeEngine
from tests.console.browser import dial, fresh, read
from tests.console.kit import Panel
from tests.doubles.vmrest_world import _admits

PASSWORD = "secret-1"
VERSION, CHOICE = b"RFB 003.008\n", b"\x01"


@pytest.mark.parametrize("pieces", [1, 3, 100], ids=["byte-by-byte", "three-at-a-time", "at-once"])
async def test_the_vm_hears_what_follows_the_greeting(
    panel: Panel, place: str, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await _admits(reader, writer, PASSWORD):
            heard.set_result(await reader.readexactly(6))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def console(_engine: FakeEngine, _ref: str) -> ConsoleTarget:
        return StreamTarget(lambda: open_screen("127.0.0.1", port, PASSWORD))

    monkeypatch.setattr(FakeEngine, "console", console)
    async with dial(panel, place, await fresh(panel)) as socket:
        assert await read(socket, 12) == VERSION

        async def say(words: bytes) -> None:
            for at in range(0, len(words), pieces):
                await socket.send(words[at : at + pieces])

        await say(VERSION)  # as noVNC: each answer is waited for
        assert await read(socket, 2) == b"\x01\x01"
        await say(CHOICE)
        assert await read(socket, 4) == bytes(4)
        await say(b"\x01after")
        async with asyncio.timeout(5):
            assert await heard == b"\x01after"
    server.close()
