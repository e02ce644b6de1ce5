"""The screens of virtual machines: SPICE, by the websockets of ``console`` with ``type: vga``.

Source: the vendor's ``instance_console_post``. The operation has two secrets: of its control socket, whose end ends it, and of
``0``, by which as many data sockets are opened as the viewer has channels. One viewer at a time; ``force`` ends the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from panel.engines.consoletypes import SpiceSession, SpiceTarget
from panel.engines.incus.client import Client, instance_path
from panel.engines.incus.sockets import DataSocket, close_all
from panel.engines.incus.view import Viewer
from panel.engines.types import PowerState
from panel.errors import Conflict, EngineFailure, NotFound, PanelError, Taken, Unsupported
from panel.i18n import gettext_noop as _

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 1.5


class Screens:
    """Opens screens, and ends them when the engine closes."""

    def __init__(self, client: Client, viewer: Viewer) -> None:
        self._client, self._viewer = client, viewer
        self._open: set[VgaSession] = set()

    async def close(self) -> None:
        """End all. Never raises."""
        await close_all(self._open)

    async def target(self, ref: str) -> SpiceTarget:
        """The screen of a virtual machine. ``Unsupported`` of a container, ``Conflict`` of one that does not run."""
        one = await self._viewer.one(ref)
        if not one.is_vm:
            raise Unsupported(
                _("{name} is a container, which has no screen. Use its text console."), name=one.panels_name
            )
        if one.power is PowerState.SUSPENDED:
            raise Conflict(_("The VM is suspended, and its screen stands still. Resume it first."))
        if one.power is not PowerState.RUNNING:
            raise Conflict(_("The VM is not running, so it has no screen. Start it first."))

        async def dial(take_over: bool) -> SpiceSession:
            return await self._dial(one.name, take_over)

        return SpiceTarget(dial)

    async def _dial(self, name: str, take_over: bool) -> VgaSession:
        body: dict[str, Any] = {"type": "vga"} | ({"force": True} if take_over else {})
        async with asyncio.timeout(OPEN_SECONDS):
            try:
                operation = (await self._client.send("POST", instance_path(name, "/console"), body))["metadata"]
            except (Conflict, EngineFailure) as error:
                if "already connected" in str(error).lower():
                    raise Taken(_("Somebody else has the screen of {name} open."), name=name) from None
                raise
            session = VgaSession(self._client, operation, self._open.discard)
            await session.begin()
        self._open.add(session)
        return session


class VgaSession:
    """A ``SpiceSession``: one operation of the server's."""

    def __init__(self, client: Client, operation: dict[str, Any], closed: Callable[[VgaSession], None]) -> None:
        self._client, self._closed = client, closed
        self._path = f"/1.0/operations/{operation['id']}/websocket"
        self._secrets = operation["metadata"]["fds"]
        self._control: ClientConnection | None = None
        self._channels: set[VgaChannel] = set()
        self._watching: asyncio.Task[None] | None = None
        self._over = False

    async def begin(self) -> None:
        """Dial the control socket, whose end is the session's."""
        self._control = await self._dial("control")
        self._watching = asyncio.get_running_loop().create_task(self._watch(self._control))

    async def channel(self) -> VgaChannel:
        """As ``SpiceSession``."""
        if self._over:
            raise gone()
        channel = VgaChannel(await self._dial("0"), self._channels.discard)
        self._channels.add(channel)
        if self._over:  # it ended while we dialled
            await channel.close()
        return channel

    async def close(self) -> None:
        """As ``SpiceSession``."""
        if self._over:
            return
        self._over = True
        self._closed(self)
        if self._watching is not None and self._watching is not asyncio.current_task():
            self._watching.cancel()
        for channel in list(self._channels):
            await channel.close()
        if self._control is not None:
            with suppress(TimeoutError, ConnectionClosed):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._control.close()
            self._control.transport.abort()

    async def _watch(self, control: ClientConnection) -> None:
        """The server says nothing there, and ends it when the VM stops or another viewer takes over."""
        with suppress(ConnectionClosed):
            while True:
                await control.recv()
        await self.close()

    async def _dial(self, fd: str) -> ClientConnection:
        try:
            return await self._client.dial(self._path, {"secret": str(self._secrets[fd])})
        except NotFound:
            raise gone() from None


class VgaChannel(DataSocket):
    """A ``SpiceChannel``: one data socket."""

    def __init__(self, socket: ClientConnection, closed: Callable[[VgaChannel], None]) -> None:
        super().__init__(socket)
        self._closed = closed

    async def close(self) -> None:
        """As ``SpiceChannel``: SPICE has no goodbye, and a websocket's would wait for what nobody reads."""
        self.abort()
        self._closed(self)


def gone() -> PanelError:
    """Why no more channels can be opened."""
    return Conflict(_("The host has ended this view of the screen. Connect again."))
