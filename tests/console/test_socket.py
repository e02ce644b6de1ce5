"""The websocket: who gets in, what he is told when not, and when it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from uuid import uuid4

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from panel.console.websocket import CLOSE_SECONDS
from panel.engines.types import PowerState
from panel.events import HostChanged, VmRemoved
from panel.models import ConsoleTicket, Host, LogEntry, Vm
from panel.security import Actor, Source
from panel.services.access import token_credential
from panel.services.consoles import Purpose
from tests.console.browser import closing, dial, fresh, read
from tests.console.kit import Panel, limit_stalls, make_vm, screen

pytestmark = pytest.mark.live  # a real server on a real socket

GREETING = b"RFB 003.008\n"


async def test_a_ticket_shows_the_screen(panel: Panel, place: str) -> None:
    async with dial(panel, place, await fresh(panel)) as socket:
        assert socket.subprotocol == "binary"
        assert not socket.protocol.extensions
        assert await read(socket, 12) == GREETING
        await socket.send(GREETING)
        assert await read(socket, 2) == b"\x01\x01"
    async with asyncio.timeout(10):
        while await LogEntry.filter(action="console.close").count() != 1:
            await asyncio.sleep(0.02)
    opened = await LogEntry.get(action="console.open")
    assert (opened.object_name, opened.actor, opened.address) == ("demo/screen", "admin", "127.0.0.1")
    assert panel.consoles.open_count == 0


async def test_an_empty_message_is_harmless(panel: Panel, place: str) -> None:
    async with dial(panel, place, await fresh(panel)) as socket:
        await read(socket, 12)
        for _ in range(3):
            await socket.send(b"")
        await socket.send(GREETING)
        assert await read(socket, 2) == b"\x01\x01"


@pytest.mark.parametrize("text", ["hello", ""])
async def test_text_is_refused(panel: Panel, place: str, text: str) -> None:
    async with dial(panel, place, await fresh(panel)) as socket:
        await read(socket, 12)
        await socket.send(text)
        assert (await closing(socket))[0] == 1003


async def test_a_replay_is_refused(panel: Panel, place: str) -> None:
    ticket = await fresh(panel)
    async with dial(panel, place, ticket) as first:
        await read(first, 12)
        async with dial(panel, place, ticket) as second:
            code, reason = await closing(second)
            assert code == 4401
            assert "Open the console again" in reason
        await first.send(GREETING)
        assert await read(first, 2)


async def test_of_two_at_once_one_gets_in(panel: Panel, place: str) -> None:
    ticket = await fresh(panel)

    async def attempt() -> bool:
        async with dial(panel, place, ticket) as socket:
            try:
                return await read(socket, 12) == GREETING
            except Exception:
                return False

    assert sorted(await asyncio.gather(attempt(), attempt())) == [False, True]


async def test_a_ticket_for_one_vm_does_not_open_another(panel: Panel, place: str) -> None:
    other = panel.world.add_foreign("other", PowerState.RUNNING)
    await make_vm(panel.host, "other", other.ref)
    async with dial(panel, place, await fresh(panel), path="/console/demo/other") as socket:
        assert (await closing(socket))[0] == 4401


async def test_strangers_cannot_tell_which_vms_exist(panel: Panel, place: str) -> None:
    told = set()
    for path in [panel.path, "/console/demo/none", "/console/none/none"]:
        async with dial(panel, place, "wrong", path=path) as socket:
            told.add(await closing(socket))
    assert len(told) == 1


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
async def test_another_site_is_refused_and_the_ticket_is_not_spent(panel: Panel, place: str, origin: str) -> None:
    ticket = await fresh(panel)
    async with dial(panel, place, ticket, origin=origin) as socket:
        assert (await closing(socket))[0] == 4403
    assert await ConsoleTicket.all().count() == 1


async def test_a_logout_between_ticket_and_socket(panel: Panel, place: str) -> None:
    ticket = await fresh(panel)
    await panel.session.delete()
    async with dial(panel, place, ticket) as socket:
        assert (await closing(socket))[0] == 4401


async def test_a_new_token_between_ticket_and_socket(panel: Panel, place: str) -> None:
    credential = token_credential(await panel.services.access.token())
    ticket = await panel.consoles.issue(Actor("admin", Source.API, credential=credential), panel.vm, Purpose.SOCKET)
    await panel.services.access.reset_token(panel.actor)
    async with dial(panel, place, ticket) as socket:
        assert (await closing(socket))[0] == 4401


async def test_a_vm_that_is_off_is_a_clear_refusal(panel: Panel, place: str) -> None:
    await panel.set_state(PowerState.STOPPED)
    async with dial(panel, place, await fresh(panel)) as socket:
        code, reason = await closing(socket)
    assert code == 4409
    assert "screen is stopped" in reason


async def test_a_host_that_does_not_answer(panel: Panel, place: str) -> None:
    await Host.filter(id=panel.host.id).update(options={"behaviour": "refusing"})
    async with dial(panel, place, await fresh(panel)) as socket:
        assert (await closing(socket))[0] == 4503


async def test_a_vm_that_the_hypervisor_lost(panel: Panel, place: str) -> None:
    ref = str(uuid4())
    await Vm.filter(id=panel.vm.id).update(ref=ref)
    panel.vm.ref = ref
    async with dial(panel, place, await fresh(panel)) as socket:
        assert (await closing(socket))[0] == 4404


async def test_the_end_of_the_screen_ends_the_console(
    panel: Panel, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        await reader.readexactly(12)

    async with screen(monkeypatch, handler), dial(panel, place, await fresh(panel)) as socket:
        await read(socket, 12)
        await socket.send(GREETING)
        assert (await closing(socket))[0] == 4410


async def test_the_end_of_the_browser_ends_the_vms_side(
    panel: Panel, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        await reader.read()
        ended.set()

    async with screen(monkeypatch, handler):
        async with dial(panel, place, await fresh(panel)) as socket:
            await read(socket, 12)
            socket.transport.abort()
        await asyncio.wait_for(ended.wait(), 2)


async def end_session(panel: Panel) -> None:
    await panel.services.access.end_session(panel.session)


async def replace_token(panel: Panel) -> None:
    await panel.services.access.reset_token(Actor("admin", Source.CLI))


async def remove_vm(panel: Panel) -> None:
    await panel.vm.delete()
    panel.services.events.publish(VmRemoved(panel.vm.id, panel.host.id))


async def disable_host(panel: Panel) -> None:
    await Host.filter(id=panel.host.id).update(enabled=False)
    panel.services.events.publish(HostChanged(panel.host.id))


ENDS = [(end_session, 4401), (replace_token, 4401), (remove_vm, 4404), (disable_host, 4409)]


@pytest.mark.parametrize(("act", "code"), ENDS, ids=lambda value: getattr(value, "__name__", None))
@pytest.mark.parametrize("reads", [True, False], ids=["reading", "stalled"])
async def test_what_ends_the_right_ends_the_console_within_a_second(
    panel: Panel, place: str, monkeypatch: pytest.MonkeyPatch, act, code: int, reads: bool
) -> None:  # type: ignore[no-untyped-def]
    ended = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(bytes(65536))
                await writer.drain()
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    async with screen(monkeypatch, handler), dial(panel, place, await fresh(panel), max_queue=1) as socket:
        await read(socket, 1000)
        if not reads:
            await asyncio.sleep(1.5)  # until every buffer on the way is full
        started = time.monotonic()
        await act(panel)
        if reads:
            assert (await closing(socket))[0] == code
        else:
            async with asyncio.timeout(3):
                while panel.consoles.open_count:
                    await asyncio.sleep(0.02)
            await asyncio.wait_for(ended.wait(), 3)
            await asyncio.sleep(CLOSE_SECONDS)  # it is asked politely first
            await closing(socket, 1)  # and then the connection is gone, with what was never read
        assert time.monotonic() - started < (1 if reads else 5)


async def test_a_host_that_changed_otherwise_ends_nothing(panel: Panel, place: str) -> None:
    async with dial(panel, place, await fresh(panel)) as socket:
        await read(socket, 12)
        panel.services.events.publish(HostChanged(panel.host.id))
        panel.services.events.publish(VmRemoved(panel.vm.id + 1, panel.host.id))
        await asyncio.sleep(0.3)
        await socket.send(GREETING)
        assert await read(socket, 2)


async def test_what_events_missed_is_found(panel: Panel, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panel.services.consoles.RECHECK_SECONDS", 0.1)
    async with dial(panel, place, await fresh(panel)) as socket:
        await read(socket, 12)
        await panel.session.delete()
        assert (await closing(socket))[0] == 4401


async def test_a_browser_that_takes_nothing_is_given_up(
    panel: Panel, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_stalls(monkeypatch, browser=0.5, vm=5.0)
    gone = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(bytes(65536))
                await writer.drain()
        finally:
            gone.set()

    async with screen(monkeypatch, handler), dial(panel, place, await fresh(panel), max_queue=1) as socket:
        await read(socket, 1000)
        await asyncio.wait_for(gone.wait(), 5)
        socket.transport.abort()


async def test_a_vm_that_takes_nothing_is_given_up(panel: Panel, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_stalls(monkeypatch, browser=5.0, vm=0.5)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        await asyncio.sleep(30)

    async def push(socket: ClientConnection) -> None:
        while True:
            await socket.send(bytes(65536))

    async with screen(monkeypatch, handler), dial(panel, place, await fresh(panel)) as socket:
        await read(socket, 12)
        pushing = asyncio.create_task(push(socket))
        assert (await closing(socket))[0] == 4504
        pushing.cancel()


async def test_no_log_line_holds_a_ticket(
    panel: Panel, place: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    ticket = await fresh(panel)
    async with dial(panel, place, ticket) as socket:
        await read(socket, 12)
    async with dial(panel, place, ticket) as socket:
        await closing(socket)
    rows = "".join(f"{row.message} {row.object_name}" for row in await LogEntry.all())
    out = capsys.readouterr()
    assert "/console/demo/screen/socket" in caplog.text
    assert ticket not in caplog.text + rows + out.out + out.err


async def test_an_error_of_the_panel_itself_is_logged(
    panel: Panel, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("broken by the test")

    monkeypatch.setattr(panel.consoles, "confirm", broken)
    with pytest.raises(InvalidStatus) as caught:
        async with dial(panel, place, await fresh(panel)):
            pass
    assert caught.value.response.status_code == 500
    said = capsys.readouterr().out
    assert "websocket failed" in said
    assert "broken by the test" in said
    assert panel.consoles.open_count == 0
