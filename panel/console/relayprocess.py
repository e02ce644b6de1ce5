"""The process that carries consoles: ``python -m panel.console.relayprocess FD``, started and fed by ``relay.py``.

It gets pairs of sockets over a unix socket, and runs the same ``Tunnel`` as the panel would, in an event loop that has nothing
else to do. When the panel's end of that socket closes, however the panel ended, consoles are told and the process ends.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections import deque
from contextlib import suppress
from typing import cast

import uvloop

from panel.console.bridge import Closing, Traffic
from panel.console.polling import on_message
from panel.console.relaywire import RESTART, End, Ended, Open, Post, receive
from panel.console.tunnel import GOODBYE_SECONDS, Tunnel, VmEnd
from panel.engines.consoletypes import Greeting
from panel.i18n import Text, set_language

SAID = "{reason}"  # in the browser's language already
IDLE_SECONDS = 0.2  # to see that nothing is left


class _Waiting(asyncio.Protocol):
    """A socket between two owners: what it says until the tunnel has it is kept."""

    def __init__(self) -> None:
        self.early = b""
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.pause_reading()  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.early += data

    def eof_received(self) -> bool:
        self.ended = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True


class Carrier:
    """Runs the tunnels that the panel hands over, and reports their ends."""

    def __init__(self, channel: socket.socket) -> None:
        self.gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message(self._loop)
        self._channel = channel
        self._post = Post(channel)
        self._tunnels: dict[int, Tunnel] = {}
        self._ends: dict[int, End] = {}  # said before the tunnel was there
        self._opening: set[asyncio.Task[None]] = set()
        self._loop.add_reader(channel.fileno(), self._hear)

    def _hear(self) -> None:
        for _ in range(64):
            try:
                message, fds = receive(self._channel)
            except BlockingIOError:
                return
            if message is None:
                self._loop.remove_reader(self._channel.fileno())
                self.gone.set()
                return
            if isinstance(message, Open):
                job = self._loop.create_task(self._open(message, deque(fds)))
                self._opening.add(job)
                job.add_done_callback(self._opening.discard)
            elif isinstance(message, End):
                self._end(message)

    def _end(self, message: End) -> None:
        if tunnel := self._tunnels.get(message.number):
            tunnel.end(Closing(message.code, Text(SAID, {"reason": message.reason})))
        else:
            self._ends[message.number] = message

    async def _open(self, message: Open, fds: deque[int]) -> None:
        traffic = Traffic()
        try:
            set_language(message.language)  # of this task, and of what it makes
            browser, seen = await self._adopt(fds.popleft())
            vm, said = await self._adopt(fds.popleft())
            steps = [(count, bytes.fromhex(answer)) for count, answer in message.greeting]
            greeting = Greeting(steps) if steps else None
            tunnel = Tunnel(
                VmEnd(vm, message.early + said.early, said.ended, greeting),
                traffic,
                browser_stall=message.browser_stall,
                vm_stall=message.vm_stall,
                on_message=self._on_message,
            )
            tunnel.done.add_done_callback(lambda done: self._ended(message.number, done.result(), traffic))
            self._tunnels[message.number] = tunnel
            tunnel.attach(browser, lambda _error: None, message.ping_seconds or None)
            if seen.early:
                cast(asyncio.Protocol, browser.get_protocol()).data_received(seen.early)
        except (OSError, ValueError):  # one of the two left on the way
            for fd in fds:
                socket.close(fd)
            self._ended(message.number, Closing.browser_gone(), traffic)
        if (end := self._ends.pop(message.number, None)) is not None:
            self._end(end)

    async def _adopt(self, fd: int) -> tuple[asyncio.Transport, _Waiting]:
        end = socket.socket(fileno=fd)
        end.setblocking(False)
        make = self._loop.create_unix_connection if end.family == socket.AF_UNIX else self._loop.create_connection
        return await make(_Waiting, sock=end)

    def _ended(self, number: int, closing: Closing, traffic: Traffic) -> None:
        self._tunnels.pop(number, None)
        self._ends.pop(number, None)
        self._post.send(Ended(number, closing.code, closing.text.msgid, traffic.down, traffic.up))

    async def finish(self) -> None:
        """The panel is gone: say goodbye, and give it the time that it takes."""
        for tunnel in list(self._tunnels.values()):
            tunnel.end(Closing(RESTART, Text("")))
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await asyncio.sleep(IDLE_SECONDS)


async def main(fd: int) -> None:
    """Carry until the panel's end of the channel closes."""
    for number in (signal.SIGINT, signal.SIGTERM):  # of a terminal or a service manager: the panel decides
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=fd)
    channel.setblocking(False)
    gc.freeze()
    carrier = Carrier(channel)
    await carrier.gone.wait()
    await carrier.finish()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
