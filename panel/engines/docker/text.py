"""A container's terminal: a shell of its own for everybody who looks, on a pseudo terminal of the daemon's exec.

The daemon leaves such a shell running when its viewer has gone, so it is ended by its number, which it tells before it begins.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from panel.engines.common.text import StreamText
from panel.engines.consoletypes import TextSize, TextStream, TextTarget
from panel.engines.docker.client import Client, Streams
from panel.engines.docker.guest import SHELL, tools
from panel.engines.docker.run import attach, begin, start_quietly
from panel.engines.types import PowerState
from panel.errors import Conflict, EngineFailure, PanelError
from panel.i18n import gettext_noop as _

BEGIN_SECONDS = 8.0
CLOSE_SECONDS = 1.5
END_MARK = b"\x02"
_BEGIN = r"""printf '%s\002' "$$"; cd 2>/dev/null; [ -x /bin/bash ] && exec /bin/bash -l; exec /bin/sh -l"""
_END = 'kill -HUP "$1" 2>/dev/null; kill -KILL "$1" 2>/dev/null'
ENVIRONMENT = ("TERM=xterm-256color", "LANG=C.UTF-8")


class ShellText(StreamText):
    """A ``TextStream`` of one shell, which ends with it."""

    def __init__(self, client: Client, ref: str, number: str, pid: str, streams: Streams) -> None:
        self._client, self._ref, self._number, self._pid = client, ref, number, pid
        self._closed = False
        super().__init__(*streams, self._tell_size)

    async def _tell_size(self, size: TextSize) -> None:
        with suppress(PanelError):  # it has just ended
            await self._client.post(f"exec/{self._number}/resize", h=str(size.rows), w=str(size.columns))

    async def close(self) -> None:
        """As ``TextStream``."""
        if self._closed:
            return
        self._closed = True
        self._client.dropped(self._writer)
        self._writer.transport.abort()
        with suppress(PanelError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                if (await self._client.get(f"exec/{self._number}/json")).get("Running"):
                    await start_quietly(self._client, self._ref, [SHELL, "-c", _END, SHELL, self._pid])


async def target(client: Client, ref: str, state: PowerState) -> TextTarget:
    """The terminal of a container. ``Conflict`` says why there is none."""
    if state is PowerState.SUSPENDED:
        raise Conflict(_("The VM is suspended, so no shell answers in it. Resume it first."))
    if state is not PowerState.RUNNING:
        raise Conflict(_("The VM is off, so no shell answers in it. Start it first."))
    if not (await tools(client, ref)).shell:
        raise Conflict(_("The image has no /bin/sh, so there is no terminal to open in it."))

    async def dial(size: TextSize, _take_over: bool) -> TextStream:
        number = await begin(client, ref, [SHELL, "-c", _BEGIN], tty=True, env=ENVIRONMENT, user="")
        streams = await attach(client, number, tty=True)
        try:
            pid = await _begun(streams[0])
        except BaseException:
            client.dropped(streams[1])
            streams[1].transport.abort()
            raise
        shell = ShellText(client, ref, number, pid, streams)
        await shell.resize(size)
        return shell

    return TextTarget(dial)


async def _begun(reader: asyncio.StreamReader) -> str:
    """The shell's number in its container."""
    try:
        async with asyncio.timeout(BEGIN_SECONDS):
            said = await reader.readuntil(END_MARK)
    except (OSError, EOFError, asyncio.LimitOverrunError) as error:  # TimeoutError too
        raise EngineFailure(_("The shell in the container does not begin. Look at the daemon's log.")) from error
    pid = said[: -len(END_MARK)].decode(errors="replace").strip()
    if not pid.isdecimal():
        raise EngineFailure(_("The shell in the container does not begin. Look at the daemon's log."))
    return pid
