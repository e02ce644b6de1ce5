"""What the panel and the process that carries consoles say to one another: one datagram a message (SOCK_SEQPACKET), JSON and,
behind a line feed, bytes. Two sockets come with ``Open``: the browser's, then the VM's (SCM_RIGHTS)."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

RESTART = 1012
LARGEST = 96 * 1024  # bytes of a message
EARLY_LARGEST = 64 * 1024  # bytes that the VM said before


@dataclass(frozen=True, slots=True)
class Open:
    """Carry this console. Times are seconds; ``ping_seconds`` 0 is never. ``early`` and ``greeting``
    (its steps, answers in hex) as in ``tunnel.VmEnd``."""

    number: int
    ping_seconds: float
    browser_stall: float
    vm_stall: float
    language: str
    greeting: list[tuple[int, str]]
    early: bytes = b""


@dataclass(frozen=True, slots=True)
class End:
    """End it, and tell the browser so: a close code, and a reason in its language."""

    number: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """It ended: with which close code and reason (a message of the panel), and how many bytes went down and up."""

    number: int
    code: int
    reason: str
    down: int
    up: int


Message = Open | End | Ended
KINDS: dict[str, type[Message]] = {"open": Open, "end": End, "ended": Ended}
NAMES = {kind: name for name, kind in KINDS.items()}


def pack(message: Message) -> bytes:
    """A message's bytes."""
    values = asdict(message)
    early = values.pop("early", b"")
    return json.dumps([NAMES[type(message)], values]).encode() + b"\n" + bytes(early)


def unpack(data: bytes) -> Message:
    """A message; ``ValueError`` when it is none."""
    head, _, early = data.partition(b"\n")
    name, values = json.loads(head)
    if name == "open":
        return Open(**values, early=early)
    return KINDS[name](**values)


def receive(channel: socket.socket) -> tuple[Message | None, list[int]]:
    """The next message and its sockets' numbers; None at the end. ``BlockingIOError`` when there is none yet."""
    try:
        data, fds, _flags, _address = socket.recv_fds(channel, LARGEST, 2)
    except ConnectionError:
        return None, []
    return (unpack(data) if data else None), list(fds)


class Post:
    """Sends messages in their order; those that the other side does not take yet wait here, which are as many as consoles."""

    def __init__(self, channel: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._channel = channel
        self._waiting: deque[bytes] = deque()

    def send_now(self, message: Message, fds: Sequence[int]) -> bool:
        """Send with sockets, which the caller closes; false when it has to wait."""
        if self._waiting:
            return False
        try:
            socket.send_fds(self._channel, [pack(message)], list(fds))
        except OSError:
            return False
        return True

    def send(self, message: Message) -> None:
        """Send, or keep for later."""
        self._waiting.append(pack(message))
        if len(self._waiting) == 1:
            self._loop.add_writer(self._channel.fileno(), self._flush)
            self._flush()

    def _flush(self) -> None:
        with suppress(BlockingIOError):
            while self._waiting:
                try:
                    self._channel.send(self._waiting[0])
                except ConnectionError:  # nobody is there to hear it
                    self._waiting.clear()
                    break
                self._waiting.popleft()
            self._loop.remove_writer(self._channel.fileno())
