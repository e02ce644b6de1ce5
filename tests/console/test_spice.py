"""A SPICE screen's websocket, over a session that answers each channel with its own words: who gets in, its channels, its end.

What a real SPICE server and a browser make of it: ``tests/browser/test_spice.py``.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from panel.console.spice import MOST_CHANNELS
from panel.engines.consoletypes import ConsoleKind, SpiceSession, SpiceTarget
from panel.engines.fake.engine import FakeEngine
from panel.errors import Conflict, Taken, Unsupported
from panel.models import Vm
from panel.services.consoles import Purpose
from panel.web import SESSION_COOKIE
from tests.console.browser import closing
from tests.console.kit import Panel, make_vm
from tests.console.test_socket import ENDS

pytestmark = pytest.mark.live  # a real server on a real socket


class Echo:
    """A channel that says what it is told."""

    def __init__(self, greeting: bytes) -> None:
        self.said: asyncio.Queue[bytes] = asyncio.Queue()
        self.said.put_nowait(greeting)
        self.closed = False

    async def read(self) -> bytes:
        return await self.said.get()

    async def write(self, data: bytes) -> None:
        if self.closed:
            raise ConnectionResetError
        await self.said.put(data)

    async def close(self) -> None:
        self.closed = True
        await self.said.put(b"")


@dataclass
class Screen:
    """The one screen there is; one looks at a time."""

    channels: list[Echo] = field(default_factory=list)
    open: bool = False
    full: bool = False

    async def begin(self, take_over: bool) -> SpiceSession:
        if self.open and not take_over:
            raise Taken("Somebody else has the screen of {name} open.", name="screen")
        await self.close()
        self.open, self.channels = True, []
        return self

    async def channel(self) -> Echo:
        if self.full:
            raise Conflict("No more.")
        self.channels.append(Echo(b"I am %d" % len(self.channels)))
        return self.channels[-1]

    async def close(self) -> None:
        self.open = False
        for channel in self.channels:
            await channel.close()


@pytest.fixture
def spice(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """The fake host's VMs have SPICE screens."""
    made = Screen()

    async def console(self: FakeEngine, ref: str) -> SpiceTarget:
        return SpiceTarget(made.begin)

    monkeypatch.setattr(FakeEngine, "spice_console", console, raising=False)
    monkeypatch.setattr(FakeEngine, "capabilities", replace(FakeEngine.capabilities, spice_console=True, console=False))
    return made


async def ticket(panel: Panel) -> str:
    return await panel.consoles.issue(panel.actor, panel.vm, Purpose.SOCKET, ConsoleKind.SPICE)


async def dial(place: str, path: str, value: str, query: str = "") -> ClientConnection:
    return await connect(
        f"ws://{place}{path}/socket?{query}",
        subprotocols=["binary", f"ticket.{value}"],  # type: ignore[list-item]
        origin=f"http://{place}",  # type: ignore[arg-type]
    )


async def opened(socket: ClientConnection, *numbers: int) -> None:
    """Open channels and hear their greetings."""
    for number in numbers:
        await socket.send(json.dumps({"open": number}))
        assert await heard(socket) == b"%cI am %d" % (number, number)


async def heard(socket: ClientConnection) -> Any:
    async with asyncio.timeout(5):
        return await socket.recv()


async def test_each_channel_has_its_own_words(panel: Panel, place: str, spice: Screen) -> None:
    async with await dial(place, panel.path, await ticket(panel)) as socket:
        await opened(socket, 0, 1, 2)
        await socket.send(b"\x01one")
        assert await heard(socket) == b"\x01one"
        await socket.send(b"\x00main")
        assert await heard(socket) == b"\x00main"
    async with asyncio.timeout(5):
        while spice.open:
            await asyncio.sleep(0.01)
    assert all(channel.closed for channel in spice.channels)


async def test_much_at_once_comes_whole_and_in_pieces(panel: Panel, place: str, spice: Screen) -> None:
    sent = bytes(range(256)) * 2000
    async with await dial(place, panel.path, await ticket(panel)) as socket:
        await opened(socket, 0)
        await socket.send(b"\x00" + sent)
        got = b""
        while len(got) < len(sent):
            piece = await heard(socket)
            assert len(piece) <= 64 * 1024
            got += piece[1:]
        assert got == sent


@pytest.mark.parametrize(
    "message", ["", "hello", "[]", '{"open": 1}', '{"open": -1}', '{"open": "0"}', '{"close": 0}', '{"close": 7}'],
    ids=lambda text: text[:20],
)  # fmt: skip
async def test_other_messages_end_it(panel: Panel, place: str, spice: Screen, message: str) -> None:
    async with await dial(place, panel.path, await ticket(panel)) as socket:
        await socket.send(message)
        assert (await closing(socket))[0] == 1003


async def test_channels_are_bounded(panel: Panel, place: str, spice: Screen) -> None:
    """Closed ones count: nobody wears out a host by opening and closing."""
    async with await dial(place, panel.path, await ticket(panel)) as socket:
        await opened(socket, *range(MOST_CHANNELS))
        await socket.send(json.dumps({"close": 3}))
        assert await heard(socket) == b"\x03"
        await socket.send(json.dumps({"open": MOST_CHANNELS}))
        assert (await closing(socket))[0] == 1003
    assert len(spice.channels) == MOST_CHANNELS


async def test_words_for_no_channel_end_it(panel: Panel, place: str, spice: Screen) -> None:
    async with await dial(place, panel.path, await ticket(panel)) as socket:
        await opened(socket, 0)
        await socket.send(b"\x05lost")
        assert (await closing(socket))[0] == 4410


async def test_a_channel_that_ends_is_told_and_the_main_one_ends_all(panel: Panel, place: str, spice: Screen) -> None:
    async with await dial(place, panel.path, await ticket(panel)) as socket:
        await opened(socket, 0, 1)
        await spice.channels[1].close()
        assert await heard(socket) == b"\x01"
        await socket.send(b"\x01too late")
        await spice.channels[0].close()
        assert (await closing(socket))[0] == 4410


async def test_a_channel_that_the_host_refuses_is_one_that_ended(panel: Panel, place: str, spice: Screen) -> None:
    async with await dial(place, panel.path, await ticket(panel)) as socket:
        await opened(socket, 0)
        spice.full = True
        await socket.send(json.dumps({"open": 1}))
        assert await heard(socket) == b"\x01"


@pytest.mark.parametrize(("act", "code"), ENDS, ids=lambda value: getattr(value, "__name__", None))
async def test_what_ends_the_right_ends_all_channels(  # type: ignore[no-untyped-def]
    panel: Panel, place: str, spice: Screen, act, code: int
) -> None:
    async with await dial(place, panel.path, await ticket(panel)) as socket:
        await opened(socket, 0, 1, 2)
        await act(panel)
        assert (await closing(socket))[0] == code
    assert not spice.open
    assert [channel.closed for channel in spice.channels] == [True] * 3


async def test_a_ticket_is_for_one_websocket(panel: Panel, place: str, spice: Screen) -> None:
    """However many channels it opens; and while the first is open, too."""
    value = await ticket(panel)
    async with await dial(place, panel.path, value) as socket:
        await opened(socket, 0, 1)
        async with await dial(place, panel.path, value, "take_over=1") as again:
            assert (await closing(again))[0] == 4401
        await socket.send(b"\x01still here")
        assert await heard(socket) == b"\x01still here"


async def test_a_ticket_of_one_vm_opens_no_other(panel: Panel, place: str, spice: Screen) -> None:
    other = await make_vm(panel.host, "other", "other-ref")
    async with await dial(place, f"/console/{panel.host.name}/{other.name}", await ticket(panel)) as socket:
        assert (await closing(socket))[0] == 4401


async def test_a_terminals_ticket_opens_no_screen(panel: Panel, place: str, spice: Screen) -> None:
    value = await panel.consoles.issue(panel.actor, panel.vm, Purpose.SOCKET, ConsoleKind.TEXT)
    async with await dial(place, panel.path, value, "kind=spice") as socket:
        assert "resizes" in await heard(socket)
    assert spice.channels == []


async def test_one_at_a_time_and_taking_over(panel: Panel, place: str, spice: Screen) -> None:
    async with await dial(place, panel.path, await ticket(panel)) as first:
        await opened(first, 0)
        async with await dial(place, panel.path, await ticket(panel)) as second:
            assert (await closing(second))[0] == 4423
        async with await dial(place, panel.path, await ticket(panel), "take_over=1") as third:
            await opened(third, 0)
            assert (await closing(first))[0] == 4410


async def test_a_container_has_a_terminal_only(panel: Panel, spice: Screen) -> None:
    assert (await page(panel, "spice")).count("data-kind=") == 1
    assert 'data-kind="spice"' in await page(panel, "")
    assert "js/spice." in await page(panel, "")
    await Vm.filter(id=panel.vm.id).update(hardware={"disks": [], "screen": False})
    assert 'data-kind="text"' in await page(panel, "spice")
    await panel.vm.refresh_from_db()
    panel.vm.host = panel.host
    with pytest.raises(Unsupported):
        await ticket(panel)


async def page(panel: Panel, kind: str) -> str:
    client = panel.app.test_client()
    answer = await client.get(f"{panel.path}?kind={kind}", headers={"Cookie": f"{SESSION_COOKIE}={panel.cookie}"})
    assert answer.status_code == 200
    return str(await answer.get_data(as_text=True))
