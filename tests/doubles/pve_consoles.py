"""Consoles of the double: what ``vncproxy`` and ``termproxy`` start on the node, behind its websocket."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quart import websocket

from panel.engines.consoletypes import TextSize
from panel.engines.fake.shell import Shell
from tests.doubles.pve_schemas import check
from tests.doubles.pve_world import Cluster, Machine, RefusedError
from tests.doubles.vmrest_world import _admits, _Greeted

if TYPE_CHECKING:
    from tests.doubles.pve import Door

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
LONGEST_LOGIN = 1000


@dataclass(frozen=True)
class Opened:
    """What waits on a port of the node, for whom."""

    port: int
    kind: str
    user: str
    vmid: int


async def upgraded(world: Cluster, door: Door, operation: str, parts: dict[str, str]) -> tuple[str, int] | None:
    """The websocket: whoever has the ticket of what listens on the port is carried there, once."""
    try:
        door.enter(websocket.headers, websocket.cookies, "GET")
        kind = parts.pop("kind")
        given = dict(websocket.args) | parts
        check(operation, given)
        vm, ticket = world.find(parts["node"], parts["vmid"], kind), given["vncticket"]
    except RefusedError as error:
        return "", error.status
    opened = door.consoles.pop(ticket, None)
    if opened is None or (str(opened.port), opened.vmid) != (given["port"], vm.vmid):
        return "permission denied - invalid PVEVNC ticket", 401
    await websocket.accept(subprotocol="binary")
    if vm.status != "running":
        await websocket.close(1000)
        return None
    inner, outer = socket.socketpair()
    mine, near = await asyncio.open_connection(sock=inner), await asyncio.open_connection(sock=outer)
    ends = _terminal(vm, f"{opened.user}:{ticket}", *mine) if opened.kind == "termproxy" else _screen(vm, ticket, *mine)
    await _carry(ends, *near)
    mine[1].transport.abort()
    return None


async def _carry(served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # type: ignore[no-untyped-def]
    """Both ways, until either side or what is served ends."""

    async def send() -> None:
        while data := await reader.read(65536):
            await websocket.send(data)

    async def receive() -> None:
        while True:
            data = await websocket.receive()
            writer.write(data.encode() if isinstance(data, str) else bytes(data))
            await writer.drain()

    sending = asyncio.ensure_future(send())
    tasks = {asyncio.ensure_future(served), sending, asyncio.ensure_future(receive())}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        writer.transport.abort()


async def _screen(vm: Machine, ticket: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The VM's screen, its password the ticket."""
    with suppress(OSError, asyncio.IncompleteReadError):
        if await _admits(reader, writer, ticket):
            await _Greeted(vm.name, vm.seconds).serve(reader, writer)


async def _terminal(vm: Machine, login: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """``termproxy``: a login first, then messages; behind it a shell. A serial port has one at a time: the next waits, and
    sees nothing."""
    with suppress(OSError, EOFError, ValueError):
        if (await reader.readuntil(b"\n"))[:LONGEST_LOGIN] != login.encode() + b"\n":
            return
        writer.write(b"OK")
        async with vm.terminal if vm.kind == "qemu" else AsyncExitStack():
            inner, outer = socket.socketpair()
            near = await asyncio.open_connection(sock=outer)
            shell = Shell(vm.name, TextSize(), lambda: vm.status == "running")
            tasks = {
                asyncio.ensure_future(shell.serve(*await asyncio.open_connection(sock=inner))),
                asyncio.ensure_future(_typed(vm, shell, reader, near[1])),
                asyncio.ensure_future(_shown(near[0], writer)),
            }
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                near[1].transport.abort()


async def _typed(vm: Machine, shell: Shell, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The messages of the vendor's protocol: input, size, ping. Anything else ends the terminal."""
    while True:
        kind = await reader.readexactly(1)
        if kind == b"2":
            continue
        if await reader.readexactly(1) != b":":
            raise ValueError
        number = await _number(reader)
        if kind == b"0":
            writer.write(await reader.readexactly(number))
            await writer.drain()
        elif kind == b"1":
            size = TextSize(number, await _number(reader))
            if vm.kind == "lxc":  # a serial port knows none
                await shell.resize(size)
        else:
            raise ValueError


async def _number(reader: asyncio.StreamReader) -> int:
    found = re.fullmatch(rb"(\d{1,6}):", await reader.readuntil(b":"))
    if found is None:
        raise ValueError
    return int(found[1])


async def _shown(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    await writer.drain()
