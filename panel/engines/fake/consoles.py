"""The open screens and terminals of one fake host."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from panel.engines.common.text import StreamText
from panel.engines.consoletypes import StreamTarget, TextSize, TextStream, TextTarget
from panel.engines.fake.screen import Screen
from panel.engines.fake.shell import Shell
from panel.errors import Taken
from panel.i18n import gettext_noop as _

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ShellText(StreamText):
    """A connection to a shell, which is gone when ``close`` returns: the next may come."""

    def __init__(self, shell: asyncio.Task[None], *streams: Any) -> None:
        super().__init__(*streams)
        self._shell = shell

    async def close(self) -> None:
        """As ``TextStream``."""
        self._shell.cancel()
        await super().close()
        await asyncio.wait({self._shell})


class Consoles:
    """Serves them until their VM is off, their viewer gone, or ``close``."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._shells: dict[str, asyncio.Task[None]] = {}

    def screen(self, title: str, seconds: Callable[[], float | None]) -> StreamTarget:
        """A screen for each viewer; ``seconds`` as of ``Screen``."""

        async def dial() -> Streams:
            _task, streams = await self._serve(Screen(title, seconds).serve)
            return streams

        return StreamTarget(dial)

    def text(self, ref: str, name: str, running: Callable[[], bool]) -> TextTarget:
        """The one shell of a VM."""

        async def dial(size: TextSize, take_over: bool) -> TextStream:
            before = self._shells.get(ref)
            if before is not None and not before.done():
                if not take_over:
                    raise Taken(_("Somebody else has the text console of {name} open."), name=name)
                before.cancel()
            shell = Shell(name, size, running)
            self._shells[ref], streams = await self._serve(shell.serve)
            return ShellText(self._shells[ref], *streams, shell.resize)

        return TextTarget(dial)

    async def close(self) -> None:
        """End all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(
        self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
    ) -> tuple[asyncio.Task[None], Streams]:
        ours, theirs = socket.socketpair()
        task = asyncio.create_task(serve(*await asyncio.open_unix_connection(sock=ours)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task, await asyncio.open_unix_connection(sock=theirs)
