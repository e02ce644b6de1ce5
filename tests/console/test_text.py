"""The text console's websocket: who gets in is as for the screen; bytes, sizes, and what is drawn."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from panel.console.terminal import WINDOW, size_of
from panel.engines.consoletypes import ConsoleKind, TextSize
from panel.engines.types import PowerState
from panel.services.consoles import Purpose
from tests.console.browser import closing
from tests.console.kit import Panel
from tests.console.test_socket import ENDS

pytestmark = pytest.mark.live  # a real server on a real socket


async def dial(panel: Panel, place: str, query: str = "", **options: Any) -> ClientConnection:
    ticket = await panel.consoles.issue(panel.actor, panel.vm, Purpose.SOCKET, ConsoleKind.TEXT)
    return await connect(
        f"ws://{place}{panel.path}/socket?{query}",
        subprotocols=["binary", f"ticket.{ticket}"],  # type: ignore[list-item]
        origin=f"http://{place}",  # type: ignore[arg-type]
        **options,
    )


async def until(socket: ClientConnection, text: bytes, seconds: float = 10) -> bytes:
    """What the terminal shows up to ``text``, which is told to be drawn."""
    seen = b""
    async with asyncio.timeout(seconds):
        while text not in seen:
            data = await socket.recv()
            if isinstance(data, bytes):
                await socket.send(json.dumps({"shown": len(data)}))
                seen += data
    return seen


async def test_it_says_first_what_it_can(panel: Panel, place: str) -> None:
    async with await dial(panel, place, "columns=101&rows=31") as socket:
        assert json.loads(await socket.recv()) == {"resizes": True}
        await until(socket, b"~# ")
        await socket.send(b"stty size\r")
        await until(socket, b"31 101")
        await socket.send('{"resize": [77, 22]}')
        await socket.send(b"stty size\r")
        await until(socket, b"22 77")


@pytest.mark.parametrize(
    "message", ["", "hello", "[]", '{"resize": [0, 1]}', '{"resize": ["80", 24]}', '{"resize": [80, 1001]}',
                '{"shown": -1}', '{"shown": 99999999}', '{"shown": 1.5}', "[" * 100_000],
    ids=lambda text: text[:20],
)  # fmt: skip
async def test_other_messages_end_it(panel: Panel, place: str, message: str) -> None:
    async with await dial(panel, place) as socket:
        await until(socket, b"~# ")
        await socket.send(message)
        assert (await closing(socket))[0] == 1003


@pytest.mark.parametrize(
    ("columns", "rows"), [("", ""), ("0", "24"), ("-1", "2"), ("9" * 5000, "1"), ("²", "²"), ("x", "1")]
)
def test_a_size_that_makes_no_sense_is_the_usual_one(columns: str, rows: str) -> None:
    assert size_of(columns, rows) == TextSize()


async def test_what_is_not_drawn_is_waited_for(panel: Panel, place: str) -> None:
    async with await dial(panel, place, max_queue=None) as socket:
        await until(socket, b"~# ")
        await socket.send(b"yes\r")
        got = 0
        with suppress(TimeoutError):
            while got < 4 * WINDOW:
                async with asyncio.timeout(2):
                    got += len(await socket.recv())
        assert WINDOW <= got < 2 * WINDOW
        await socket.send(json.dumps({"shown": got}))
        await socket.send(b"\x03")
        await until(socket, b"^C")


@pytest.mark.parametrize(("act", "code"), ENDS, ids=lambda value: getattr(value, "__name__", None))
async def test_what_ends_the_right_ends_the_terminal(panel: Panel, place: str, act, code: int) -> None:  # type: ignore[no-untyped-def]
    async with await dial(panel, place) as socket:
        await until(socket, b"~# ")
        await act(panel)
        assert (await closing(socket))[0] == code


async def test_one_at_a_time_and_taking_over(panel: Panel, place: str) -> None:
    async with await dial(panel, place) as first:
        await until(first, b"~# ")
        async with await dial(panel, place) as second:
            assert (await closing(second))[0] == 4423
        async with await dial(panel, place, "take_over=1") as third:
            await until(third, b"~# ")
            assert (await closing(first))[0] == 4410


async def test_a_vm_that_is_off(panel: Panel, place: str) -> None:
    await panel.set_state(PowerState.STOPPED)
    async with await dial(panel, place) as socket:
        assert (await closing(socket))[0] == 4409


async def test_a_screens_ticket_opens_no_terminal(panel: Panel, place: str) -> None:
    ticket = await panel.consoles.issue(panel.actor, panel.vm, Purpose.SOCKET, ConsoleKind.VNC)
    async with connect(
        f"ws://{place}{panel.path}/socket?kind=text",
        subprotocols=["binary", f"ticket.{ticket}"],  # type: ignore[list-item]
        origin=f"http://{place}",  # type: ignore[arg-type]
    ) as socket:
        assert (await socket.recv()) == b"RFB 003.008\n"
