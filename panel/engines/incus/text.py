"""Programs inside a guest: a shell in a terminal, and one whose input is given. By the websockets of ``exec``.

Each console has a shell of its own. What the guest shows waits on the host while nobody reads: websockets hold at most ``QUEUE``
messages more, and then the connection's window closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from panel.engines.consoletypes import TextSize, TextStream, TextTarget
from panel.engines.incus.client import Client, instance_path
from panel.engines.incus.marks import Found
from panel.engines.incus.operations import Operations
from panel.engines.incus.sockets import DataSocket, close_all
from panel.engines.incus.view import Viewer
from panel.engines.types import PowerState
from panel.errors import Conflict, EngineFailure, NotFound, PanelError
from panel.i18n import gettext_noop as _

OPEN_SECONDS = 10.0
FIRST_SECONDS = 2.0  # for a shell's first word
RUN_SECONDS = 30.0
CLOSE_SECONDS = 1.5
HANG_UP = 1  # SIGHUP
SHELL = [
    "/bin/sh",
    "-c",
    # busybox's shell, told that the terminal is UTF-8, shows what is typed as ? beyond the Latin letters: to it the terminal is C
    "cd; if [ -x /bin/bash ]; then LANG=C.UTF-8 exec /bin/bash -l; fi; LANG=C exec /bin/sh -l",
]
ENVIRONMENT = {
    "HOME": "/root",
    "USER": "root",
    "TERM": "xterm-256color",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
NOT_FOUND = 127  # a program's result, when there is none


class Terminals:
    """Opens shells, and ends them when the engine closes."""

    def __init__(self, client: Client, viewer: Viewer) -> None:
        self._client, self._viewer = client, viewer
        self._open: set[ExecText] = set()

    async def close(self) -> None:
        """End all. Never raises."""
        await close_all(self._open)

    async def target(self, ref: str) -> TextTarget:
        """A shell inside. ``Conflict`` says why there is none."""
        one = await self._viewer.one(ref)
        need_running(one)

        async def dial(size: TextSize, _take_over: bool) -> TextStream:
            return await self._dial(one.name, size)

        return TextTarget(dial)

    async def _dial(self, name: str, size: TextSize) -> ExecText:
        body = {
            "command": SHELL,
            "wait-for-websocket": True,
            "interactive": True,
            "environment": ENVIRONMENT,
            "width": size.columns,
            "height": size.rows,
        }
        sockets: list[ClientConnection] = []
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                operation = (await self._client.send("POST", instance_path(name, "/exec"), body))["metadata"]
                for fd in ("control", "0"):
                    sockets.append(await _dial(self._client, operation, fd))
        except BaseException:
            for each in sockets:
                each.transport.abort()
            raise
        stream = ExecText(sockets[1], sockets[0], self._open.discard)
        self._open.add(stream)
        try:
            await stream.listen()
        except BaseException:
            await stream.close()
            raise
        return stream


class ExecText:
    """A ``TextStream`` of a shell."""

    def __init__(self, data: ClientConnection, control: ClientConnection, closed: Callable[[ExecText], None]) -> None:
        self._data, self._control, self._closed = DataSocket(data), control, closed
        self._first = b""
        self._over = False

    async def listen(self) -> None:
        """Wait for the shell's first word, for a while: an interrupt that comes before would end it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                self._first = await self._data.read()

    async def read(self) -> bytes:
        """As ``TextStream``."""
        if self._over:
            return b""
        first, self._first = self._first, b""
        return first or await self._data.read()

    async def write(self, data: bytes) -> None:
        """As ``TextStream``."""
        if self._over:
            raise ConnectionResetError
        await self._data.write(data)

    async def resize(self, size: TextSize) -> None:
        """As ``TextStream``."""
        args = {"width": str(size.columns), "height": str(size.rows)}
        await self._tell({"command": "window-resize", "args": args})

    async def close(self) -> None:
        """As ``TextStream``: the shell is hung up, which ends what runs in it."""
        if self._over:
            return
        self._over = True
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._tell({"command": "signal", "signal": HANG_UP})
                await asyncio.gather(self._control.close(), self._data.close(), return_exceptions=True)
        self._control.transport.abort()
        self._data.abort()
        self._closed(self)

    async def _tell(self, command: dict[str, Any]) -> None:
        with suppress(ConnectionClosed):
            await self._control.send(orjson.dumps(command).decode())


def need_running(one: Found) -> None:
    """``Conflict`` when nothing runs in it."""
    if one.power is PowerState.SUSPENDED:
        raise Conflict(_("The VM is suspended, so nothing answers inside. Resume it first."))
    if one.power is not PowerState.RUNNING:
        raise Conflict(_("The VM is off, so nothing answers inside. Start it first."))


async def run(client: Client, operations: Operations, name: str, command: list[str], given: bytes) -> int:
    """Run a program in the guest as root, ``given`` at its input; its output is dropped. Its result; ``NOT_FOUND`` for none.

    Raises:
        Conflict: no program can be run in it: it has no agent (a VM).
    """
    body = {"command": command, "wait-for-websocket": True, "interactive": False, "environment": ENVIRONMENT}
    sockets: dict[str, ClientConnection] = {}
    try:
        async with asyncio.timeout(RUN_SECONDS):
            operation = await operations.begin(instance_path(name, "/exec"), body)
            for fd in ("control", "1", "2", "0"):
                sockets[fd] = await _dial(client, operation, fd)
            with suppress(ConnectionClosed):
                await sockets["0"].send(given)
                await sockets["0"].send("")  # its end
            await asyncio.gather(_drain(sockets["1"]), _drain(sockets["2"]))
            done = await operations.result(operation, RUN_SECONDS)
    except EngineFailure as error:
        if "not found" in str(error).lower():
            return NOT_FOUND
        if "agent" in str(error).lower():
            raise no_agent() from None
        raise
    finally:
        for each in sockets.values():
            each.transport.abort()
    return int((done.get("metadata") or {}).get("return", 0))


def no_agent() -> Conflict:
    """Why nothing can be run inside."""
    return Conflict(
        _(
            "The guest agent does not answer. Wait until the VM has started, or install incus-agent (lxd-agent) inside it."
        )
    )


async def _dial(client: Client, operation: dict[str, Any], fd: str) -> ClientConnection:
    secret = str(operation["metadata"]["fds"][fd])
    try:
        return await client.dial(f"/1.0/operations/{operation['id']}/websocket", {"secret": secret})
    except NotFound:  # it has ended already: its error says why
        with suppress(PanelError):
            ended = await client.wait(f"/1.0/operations/{operation['id']}", 1)
            if "agent" in str(ended.get("err")):
                raise no_agent() from None
        raise Conflict(_("The guest has no shell (/bin/sh) that the panel could open, and no agent.")) from None


async def _drain(socket: ClientConnection) -> None:
    with suppress(ConnectionClosed):
        while not isinstance(await socket.recv(), str):
            pass
