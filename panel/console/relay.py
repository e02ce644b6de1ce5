"""Consoles in a process of their own: whatever the panel is at, a key press does not wait for it.

Both sockets of a console go to ``relayprocess`` once the browser is let in. The panel keeps a copy of the browser's, unread,
which is how the server knows that the connection lives, and says how it ends. Where a socket cannot be handed over (TLS ends in
the panel, an SSH channel, a process that does not take it) the tunnel stays in the panel.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast

import structlog

from panel.console.bridge import BROWSER_STALL_SECONDS, VM_STALL_SECONDS, Closing, Traffic
from panel.console.relaywire import EARLY_LARGEST, RESTART, End, Ended, Open, Post, receive
from panel.console.tunnel import Tunnel, VmEnd
from panel.i18n import Text, language

RELAY = "openidcs.relay"  # among the application's extensions
HANDED_SECONDS = 5.0  # for the 101 to leave the panel
ANSWER_SECONDS = 4.0  # for the process to end a console that it was told to end

terminal = structlog.get_logger("panel.console")


class Relay:
    """The process, started with the first console; a new one when it died."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._carried: dict[int, RelayedTunnel] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._post: Post | None = None

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return self._process.pid if self._process is not None else None

    def start(self) -> bool:
        """Start the process unless it runs; false when there can be none."""
        if self._process is not None:
            return True
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "panel.console.relayprocess", str(theirs.fileno())]
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
                )
            except OSError as error:
                ours.close()
                terminal.warning("consoles stay in the panel: no process for them", reason=error.strerror)
                return False
        ours.setblocking(False)
        self._channel, self._post = ours, Post(ours)
        asyncio.get_running_loop().add_reader(ours.fileno(), self._hear)
        return True

    def carry(self, tunnel: RelayedTunnel, message: Open, browser: int, vm: int) -> bool:
        """Hand a console over; false when it cannot be, and nothing was changed."""
        if not self.start():
            return False
        assert self._post is not None
        if not self._post.send_now(message, [browser, vm]):
            return False
        self._carried[message.number] = tunnel
        return True

    def end(self, number: int, closing: Closing) -> None:
        """Tell the process to end a console."""
        if self._post is not None:
            self._post.send(End(number, closing.code, closing.reason))

    def number(self) -> int:
        """A number for the next console."""
        return next(self._numbers)

    def _hear(self) -> None:
        assert self._channel is not None
        for _ in range(64):
            try:
                message, _fds = receive(self._channel)
            except BlockingIOError:
                return
            if message is None:
                terminal.error("the process that carries the consoles died", consoles=len(self._carried))
                self._drop()
                return
            if isinstance(message, Ended) and (tunnel := self._carried.pop(message.number, None)):
                tunnel.ended(message)

    def _drop(self) -> None:
        if self._channel is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._channel.fileno())
            loop.remove_writer(self._channel.fileno())
            self._channel.close()
        process, self._process, self._channel, self._post = self._process, None, None, None
        for tunnel in list(self._carried.values()):
            tunnel.lost()
        self._carried.clear()
        if process is not None:
            asyncio.get_running_loop().run_in_executor(None, process.wait)

    async def close(self) -> None:
        """The panel stops: the process says goodbye to browsers and ends."""
        self._drop()


class RelayedTunnel:
    """As ``Tunnel``, in the other process; ``handover.Road``."""

    def __init__(
        self,
        relay: Relay,
        vm: VmEnd,
        traffic: Traffic,
        *,
        browser_stall: float = BROWSER_STALL_SECONDS,
        vm_stall: float = VM_STALL_SECONDS,
    ) -> None:
        self.done: asyncio.Future[Closing] = asyncio.get_running_loop().create_future()
        self.traffic = traffic
        self._relay = relay
        self._vm = vm
        self._stalls = browser_stall, vm_stall
        self._number = relay.number()
        self._language = language()
        self._browser: asyncio.Transport | None = None
        self._here: Tunnel | None = None  # when it could not be handed over
        self._ending: Closing | None = None
        self._handed = False

    @property
    def attached(self) -> bool:
        """Whether the browser's connection is ours."""
        return self._browser is not None

    def attach(
        self, transport: asyncio.Transport, lost: Callable[[Exception | None], None], ping_seconds: float | None
    ) -> None:
        """As ``Tunnel.attach``."""
        self._browser = transport
        transport.pause_reading()
        transport.set_protocol(_Kept(lost))
        deadline = asyncio.get_running_loop().time() + HANDED_SECONDS
        self._hand_over(lost, ping_seconds, deadline)

    def _hand_over(self, lost: Callable[[Exception | None], None], ping_seconds: float | None, deadline: float) -> None:
        """Once the 101 has left the panel."""
        browser, loop = self._browser, asyncio.get_running_loop()
        assert browser is not None
        if browser.is_closing() or self.done.done():
            self._finish(self._ending or Closing.browser_gone())
            return
        if browser.get_write_buffer_size() and loop.time() < deadline:
            loop.call_later(0.001, self._hand_over, lost, ping_seconds, deadline)
            return
        greeting = self._vm.greeting
        steps = [(count, answer.hex()) for count, answer in greeting.left] if greeting else []
        message = Open(self._number, ping_seconds or 0.0, *self._stalls, self._language, steps, self._vm.early)
        self._handed = is_plain(browser) and self._relay.carry(
            self, message, _number(browser), _number(self._vm.transport)
        )
        if self._handed:
            self._vm.transport.abort()  # our copy of it
            if self._ending is not None:
                self._relay.end(self._number, self._ending)
            return
        self._here = Tunnel(self._vm, self.traffic, browser_stall=self._stalls[0], vm_stall=self._stalls[1])
        self._here.done.add_done_callback(lambda done: self._finish(done.result()))
        self._here.attach(browser, lost, ping_seconds)
        if self._ending is not None:
            self._here.end(self._ending)

    def end(self, closing: Closing) -> None:
        """As ``Tunnel.end``. ``done`` comes true when the process has said how many bytes it carried, or says nothing."""
        if self.done.done() or self._ending is not None:
            return
        self._ending = closing
        if self._here is not None:
            self._here.end(closing)
        elif self._handed:
            self._relay.end(self._number, closing)
            asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._finish, closing)

    def ended(self, message: Ended) -> None:
        """The process has ended it."""
        self.traffic.down, self.traffic.up = message.down, message.up
        self._finish(self._ending or Closing(message.code, Text(message.reason)))

    def lost(self) -> None:
        """The process is gone."""
        self._finish(self._ending or Closing(RESTART, Text("")))

    def _finish(self, closing: Closing) -> None:
        if self.done.done():
            return
        self.done.set_result(closing)
        if self._here is None and self._browser is not None:
            self._browser.abort()  # our copy of it


class _Kept(asyncio.Protocol):
    """The browser's connection while the other process reads it."""

    def __init__(self, lost: Callable[[Exception | None], None]) -> None:
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(exc)


def can_carry(vm: VmEnd) -> bool:
    """Whether the VM's side is a socket that another process can have."""
    return is_plain(vm.transport) and not vm.ended and len(vm.early) <= EARLY_LARGEST


def is_plain(transport: asyncio.Transport) -> bool:
    """Whether a connection is a socket and nothing above it: no TLS of this process's own."""
    return transport.get_extra_info("sslcontext") is None and _number(transport) >= 0


def _number(transport: asyncio.Transport) -> int:
    end = cast(Any, transport.get_extra_info("socket"))
    return int(end.fileno()) if end is not None else -1
