"""A line to a host that can be cut: a proxy on this machine, between the panel and a host's TCP port or unix socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Watch = Callable[[bytes], bool]
PIECE = 64 * 1024
TURN_SECONDS = 10


class Line:
    """Passes bytes both ways until it is ``cut`` (connections break, new ones are refused: the host is off) or ``hush``ed
    (connections stay and are taken, and nothing passes: the cable is out), and again once it is ``mend``ed."""

    def __init__(
        self, dial: Callable[[], Awaitable[Streams]], serve: Callable[[Any], Awaitable[asyncio.Server]]
    ) -> None:
        """``dial``: to the host. ``serve``: listen for the panel, at the same place each time."""
        self._dial, self._serve = dial, serve
        self._loop = asyncio.new_event_loop()
        self._passing = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._jobs: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._watch: Watch | None = None
        self._then: Callable[[], None] = self._break
        self.gone = threading.Event()
        threading.Thread(target=self._loop.run_forever, name="line", daemon=True).start()
        self.mend()

    def cut(self) -> None:
        """The host is off."""
        self._do(self._now(self._break))

    def hush(self) -> None:
        """The cable is out: what is under way arrives once it is in again."""
        self._do(self._now(self._passing.clear))

    def cut_at(self, watch: Watch, *, hush: bool = False) -> None:
        """Cut, or hush, once the host has heard what ``watch`` is waiting for in the panel's words; ``gone`` is set then."""
        self.gone.clear()
        self._then = self._passing.clear if hush else self._break
        self._watch = watch

    def mend(self) -> None:
        """The host can be reached again."""
        self._watch = None
        self._do(self._open())

    def close(self) -> None:
        """For good."""
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(TURN_SECONDS)

    async def _now(self, work: Callable[[], None]) -> None:
        work()

    async def _open(self) -> None:
        self._passing.set()
        if self._server is None:
            self._server = await self._serve(self._carry)

    def _break(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        for job in self._jobs:
            job.cancel()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        job = asyncio.current_task()
        assert job is not None
        self._jobs.add(job)
        mine = {writer}
        try:
            self._writers.add(writer)
            await self._passing.wait()
            far_reader, far_writer = await self._dial()
            mine.add(far_writer)
            self._writers.add(far_writer)
            there = asyncio.create_task(self._pass(reader, far_writer, watched=True))
            back = asyncio.create_task(self._pass(far_reader, writer))
            try:
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
                back.cancel()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in mine:
                one.transport.abort() if job.cancelling() else one.close()
            self._writers -= mine
            self._jobs.discard(job)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, watched: bool = False) -> None:
        with suppress(OSError):
            while data := await reader.read(PIECE):
                await self._passing.wait()
                writer.write(data)
                await writer.drain()
                if watched and self._watch is not None and self._watch(data):
                    self._watch = None
                    await asyncio.sleep(0.01)  # the host has it
                    self._then()
                    self.gone.set()
            await self._passing.wait()


@contextmanager
def tcp_line(host: str, port: int) -> Iterator[tuple[Line, int]]:
    """A line to a TCP port, and the port of 127.0.0.1 where it begins."""
    bound = 0

    async def serve(handler: Any) -> asyncio.Server:
        nonlocal bound
        server = await asyncio.start_server(handler, "127.0.0.1", bound)
        bound = server.sockets[0].getsockname()[1]
        return server

    line = Line(lambda: asyncio.open_connection(host, port), serve)
    try:
        yield line, bound
    finally:
        line.close()


@contextmanager
def unix_line(target: Path, path: Path) -> Iterator[Line]:
    """A line to a unix socket, that begins at ``path``."""
    line = Line(lambda: asyncio.open_unix_connection(target), lambda handler: asyncio.start_unix_server(handler, path))
    try:
        yield line
    finally:
        line.close()
