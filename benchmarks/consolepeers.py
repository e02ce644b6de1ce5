"""The two ends of a console for ``benchmarks/console.py``: a VM that does as the first byte says, and a browser on bare sockets.

Both are plain sockets in processes of their own, so that neither is what is measured.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import threading
import time

PIECE = bytes(64 * 1024)
UPDATE = bytes(4096)
UPDATES_A_SECOND = 30
MASK = b"\1\2\3\4"
HEAD = struct.Struct("!BBH")


def backend(port: int) -> None:
    """A VM: ``b`` and a number sends so many MiB, ``e`` echoes, ``u`` paints, ``s`` sends without end, ``n`` does nothing."""
    server = socket.create_server(("127.0.0.1", port), backlog=2048)
    painters: list[socket.socket] = []
    threading.Thread(target=_paint, args=(painters,), daemon=True).start()
    keep = []
    while True:
        peer, _ = server.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep.append(peer)
        threading.Thread(target=_serve, args=(peer, painters), daemon=True).start()


def _serve(peer: socket.socket, painters: list[socket.socket]) -> None:
    try:
        what = peer.recv(1)
        if what == b"b":
            for _ in range(16 * int(peer.recv(16))):
                peer.sendall(PIECE)
        elif what == b"e":
            while data := peer.recv(65536):
                peer.sendall(data)
        elif what == b"u":
            painters.append(peer)
        elif what == b"s":
            while True:
                peer.sendall(PIECE)
    except OSError:
        return


def _paint(painters: list[socket.socket]) -> None:
    while True:
        began = time.perf_counter()
        for peer in list(painters):
            try:
                peer.send(UPDATE)
            except OSError:
                painters.remove(peer)
        time.sleep(max(0.0, 1 / UPDATES_A_SECOND - (time.perf_counter() - began)))


class Browser:
    """One console: through a proxy at ``port``, or straight to the VM with ``raw``."""

    def __init__(
        self,
        port: int,
        *,
        raw: bool = False,
        receive_buffer: int = 0,
        path: str = "/websockify",
        protocols: str = "binary",
        origin: str = "",
    ) -> None:
        self.raw = raw
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(60)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not raw:
            self._shake(port, path, protocols, [f"Origin: {origin}"] if origin else [])

    def _shake(self, port: int, path: str, protocols: str, more: list[str]) -> None:
        lines = (
            f"GET {path} HTTP/1.1", *more, f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: {protocols}", "", "",
        )  # fmt: skip
        self.socket.sendall("\r\n".join(lines).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = self.socket.recv(1)
            if not piece:
                raise ConnectionError(head)
            head += piece
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise ConnectionError(head)

    def send(self, data: bytes) -> None:
        """As one message of at most 64 KiB."""
        if self.raw:
            self.socket.sendall(data)
            return
        masked = bytes(byte ^ MASK[at & 3] for at, byte in enumerate(data)) if len(data) < 126 else data
        head = bytes((0x82, 0x80 | len(data))) if len(data) < 126 else HEAD.pack(0x82, 0xFE, len(data))
        self.socket.sendall(head + MASK + masked)

    def read(self, size: int) -> None:
        """Take at least ``size`` bytes off the line, heads of frames included."""
        buffer = bytearray(1024 * 1024)
        while size > 0:
            got = self.socket.recv_into(buffer)
            if not got:
                raise ConnectionError("the console ended")
            size -= got

    def close(self) -> None:
        """Leave."""
        self.socket.close()


def bulk(port: int, mib: int, *, raw: bool = False) -> float:
    """MiB/s of ``mib`` MiB to the browser."""
    browser = Browser(port, raw=raw)
    began = time.perf_counter()
    browser.send(b"b")
    browser.send(str(mib).encode())
    browser.read(mib * 2**20)
    took = time.perf_counter() - began
    browser.close()
    return mib / took


def round_trips(port: int, count: int, *, raw: bool = False) -> list[float]:
    """Microseconds of ``count`` key presses and their echoes, one after the other."""
    browser = Browser(port, raw=raw)
    browser.send(b"e")
    head = 0 if raw else 2
    found = []
    for number in range(count + 50):
        began = time.perf_counter()
        browser.send(b"12345678")
        browser.read(8 + head)
        if number >= 50:
            found.append(1e6 * (time.perf_counter() - began))
    browser.close()
    return found


def watch(port: int, consoles: int, seconds: float, *, raw: bool = False) -> float:
    """Look at ``consoles`` screens for ``seconds``; returns updates that came a second and console."""
    browsers = [Browser(port, raw=raw) for _ in range(consoles)]
    poll = select.epoll()
    for browser in browsers:
        browser.send(b"u")
        poll.register(browser.socket.fileno(), select.EPOLLIN)
    buffer, got = bytearray(1024 * 1024), 0
    known = {browser.socket.fileno(): browser.socket for browser in browsers}
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        for number, _ in poll.poll(0.1):
            got += known[number].recv_into(buffer)
    for browser in browsers:
        browser.close()
    return got / len(UPDATE) / seconds / consoles


def cpu_seconds(pid: int) -> float:
    """Of a process and its children that are alive."""
    total = 0.0
    for one in [pid, *children(pid)]:
        try:
            with open(f"/proc/{one}/stat", encoding="utf-8") as file:  # noqa: PTH123
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def rss_kib(pid: int) -> int:
    """Memory of a process and its children that only they have."""
    total = 0
    for one in [pid, *children(pid)]:
        try:
            with open(f"/proc/{one}/smaps_rollup", encoding="utf-8") as file:  # noqa: PTH123
                total += sum(int(line.split()[1]) for line in file if line.startswith("Private"))
        except OSError:
            continue
    return total


def children(pid: int) -> list[int]:
    """All descendants."""
    found: list[int] = []
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:  # noqa: PTH123
            for child in map(int, file.read().split()):
                found += [child, *children(child)]
    except OSError:
        return found
    return found


if __name__ == "__main__":
    backend(int(sys.argv[1]))
