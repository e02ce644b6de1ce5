"""A small world of network namespaces: an outside, a host with a bridge, two guests. All of it ends with the test."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from panel.gateways.runner import LocalRunner
from panel.gateways.types import Forward, Guest, NatNetwork, Protocol, RuleSet

T = TypeVar("T")
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000

WAN4, GW4, BR4, A4, B4 = "198.51.100.2", "198.51.100.1", "10.99.0.1", "10.99.0.11", "10.99.0.12"
WAN6, GW6, BR6, A6, B6 = "2001:db8:1::2", "2001:db8:1::1", "fd99::1", "fd99::11", "fd99::12"
MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
NETWORK = NatNetwork("default", "br0", "10.99.0.0/24", "fd99::/64")
GUEST_A = Guest("vm-a", MAC_A, "pa", (A4,), (A6,))
GUEST_B = Guest("vm-b", MAC_B, "pb", (B4,), (B6,))


def forward(
    name: str, port: int, ip: str = A4, inner: int = 80, *, count: int = 1, protocol: str = "tcp", vm: str = ""
) -> Forward:
    """A forward to one of the two guests."""
    owner = vm or ("vm-a" if ip in (A4, A6) else "vm-b")
    return Forward(name, Protocol(protocol), port, port + count - 1, ip, inner, owner)


def wish(*forwards: Forward, a: Guest = GUEST_A, b: Guest = GUEST_B, revision: int = 1, **more: object) -> RuleSet:
    """A rule set of the world's network and guests."""
    return RuleSet((NETWORK,), (a, b), forwards, revision=revision, **more)  # type: ignore[arg-type]


class World:
    """The namespaces ``wan``, ``gw``, ``a`` and ``b``; guests are on ``br0`` of ``gw`` by the ports ``pa`` and ``pb``."""

    def __init__(self) -> None:
        tag = f"oi{secrets.token_hex(3)}"
        self.names = {short: f"{tag}-{short}" for short in ("wan", "gw", "a", "b")}
        self._sockets: list[socket.socket] = []
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    @property
    def runner(self) -> LocalRunner:
        """Runs programs in ``gw``."""
        return LocalRunner(("ip", "netns", "exec", self.names["gw"]))

    def run(self, where: str, *argv: str, stdin: str = "", check: bool = True) -> str:
        """The output of a program in a namespace."""
        command = ["ip", "netns", "exec", self.names[where], *argv]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=20, check=False)
        assert not check or done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def ip(self, where: str, *lines: str) -> None:
        """``ip`` commands in a namespace."""
        self.run(where, "ip", "-batch", "-", stdin="\n".join(lines) + "\n")

    def close(self) -> None:
        """Remove everything."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def _build(self) -> None:
        for name in self.names.values():
            subprocess.run(["ip", "netns", "add", name], check=True)
            quiet = (
                "net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_ra=0"
            )
            subprocess.run(["ip", "netns", "exec", name, "sysctl", "-qw", *quiet.split()], check=True)
        self.run("gw", "sysctl", "-qw", "net.ipv4.ip_forward=0")
        wan, a, b = (self.names[short] for short in ("wan", "a", "b"))
        self.ip(
            "gw",
            "link set lo up",
            "link add br0 type bridge",
            f"link add g0 type veth peer name w0 netns {wan}",
            f"link add pa type veth peer name v0 address {MAC_A} netns {a}",
            f"link add pb type veth peer name v0 address {MAC_B} netns {b}",
            "link set pa master br0",
            "link set pb master br0",
            *(f"link set {name} up" for name in ("br0", "g0", "pa", "pb")),
            f"addr add {GW4}/24 dev g0",
            f"addr add {GW6}/64 dev g0 nodad",
            f"addr add {BR4}/24 dev br0",
            f"addr add {BR6}/64 dev br0 nodad",
        )
        self.ip(
            "wan", "link set lo up", "link set w0 up", f"addr add {WAN4}/24 dev w0", f"addr add {WAN6}/64 dev w0 nodad"
        )
        self.ip("wan", f"route add 10.99.0.0/24 via {GW4}", f"route add fd99::/64 via {GW6}")  # a hostile neighbour
        for short in ("a", "b"):
            self.ip(short, "link set lo up", "link set v0 up")
            self.addresses(short, A4 if short == "a" else B4, A6 if short == "a" else B6)

    def link_here(self) -> tuple[str, int]:
        """Connect ``gw`` with the namespace that the test runs in; ``gw``'s address on that link, and a port."""
        here = f"{self.names['gw'].partition('-')[0]}h"
        number = int(self.names["gw"][2:6], 16) % 16384  # of the /30s of 198.19.0.0/16 (RFC 2544)
        base = f"198.19.{number // 64}"
        ends = [f"{base}.{number % 64 * 4 + end}" for end in (1, 2)]
        commands = (
            f"link add {here} type veth peer name h0 netns {self.names['gw']}",
            f"addr add {ends[0]}/30 dev {here}",
            f"link set {here} up",
        )
        for command in commands:
            subprocess.run(["ip", *command.split()], check=True)
        self.ip("gw", f"addr add {ends[1]}/30 dev h0", "link set h0 up")
        return ends[1], 2222

    def addresses(self, guest: str, *addresses: str) -> None:
        """Give a guest addresses and its routes (they go with its link)."""
        lines = [
            f"addr add {each}/{64 if ':' in each else 24} dev v0 {'nodad' if ':' in each else ''}" for each in addresses
        ]
        self.ip(guest, *lines, f"route replace default via {BR4}", f"route replace default via {BR6}")

    def socket(self, where: str, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of a namespace; it stays there whoever uses it."""
        made = self._inside(where, lambda: socket.socket(family, kind))
        made.settimeout(3)
        self._sockets.append(made)
        return made

    def _inside(self, where: str, function: Callable[[], T]) -> T:
        """Call ``function`` in a thread that has entered the namespace."""
        result: list[T] = []

        def enter() -> None:
            handle = os.open(f"/run/netns/{self.names[where]}", os.O_RDONLY)
            try:
                if _LIBC.setns(handle, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(handle)
            result.append(function())

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        return result[0]

    def serve(self, where: str, port: int, *, protocol: str = "tcp", six: bool = False) -> None:
        """Answer every connection or datagram with ``<where> <port> <the caller's address>``, then echo."""
        tcp = protocol == "tcp"
        family = socket.AF_INET6 if six else socket.AF_INET
        listener = self.socket(where, family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        listener.settimeout(None)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if six:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(("::" if six else "0.0.0.0", port))
        if tcp:
            listener.listen(50)
        target = _accept if tcp else _datagrams
        threading.Thread(target=target, args=(listener, f"{where} {port}"), daemon=True).start()

    def call(
        self, where: str, host: str, port: int, *, protocol: str = "tcp", source: str = "", seconds: float = 1.5
    ) -> str | None:
        """What a server said, or None when it could not be reached."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with self.socket(where, family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM) as client:
            client.settimeout(seconds)
            try:
                if source:
                    client.bind((source, 0))
                client.connect((host, port))
                if protocol == "udp":
                    client.send(b"hello")
                return client.recv(200).decode()
            except OSError:
                return None

    def receive_rate(self, where: str, host: str, port: int, size: int) -> float:
        """Bit/s at which ``size`` bytes come from a server (see ``pour``)."""
        with self.socket(where) as client:
            client.settimeout(20)
            client.connect((host, port))
            begun, left = time.monotonic(), size
            while left > 0:
                left -= len(client.recv(65536)) or left
            return size * 8 / (time.monotonic() - begun)

    def pour(self, where: str, port: int, size: int) -> None:
        """Serve ``size`` bytes to each caller."""
        listener = self.socket(where)
        listener.settimeout(None)
        listener.bind(("0.0.0.0", port))
        listener.listen(5)

        def work() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer:
                        peer.sendall(bytes(size))

        threading.Thread(target=work, daemon=True).start()


def _accept(listener: socket.socket, label: str) -> None:
    with contextlib.suppress(OSError):
        while True:
            peer, address = listener.accept()
            threading.Thread(target=_echo, args=(peer, f"{label} {address[0]}"), daemon=True).start()


def _echo(peer: socket.socket, greeting: str) -> None:
    with contextlib.suppress(OSError), peer:
        peer.sendall(greeting.encode())
        while data := peer.recv(65536):
            peer.sendall(data)


def _datagrams(listener: socket.socket, label: str) -> None:
    with contextlib.suppress(OSError):
        while True:
            _, address = listener.recvfrom(2000)
            if not address:
                return  # shut down
            listener.sendto(f"{label} {address[0]}".encode(), address)


def leftovers() -> list[str]:
    """Namespaces of worlds that did not end."""
    folder = Path("/run/netns")
    return [each.name for each in folder.iterdir() if each.name.startswith("oi")] if folder.exists() else []
