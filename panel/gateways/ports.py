"""Which ports of a host are taken by its own programs: a forward on them would steal their traffic."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from panel.gateways.runner import Runner, must
from panel.gateways.types import Address, Protocol

_FILES = ("/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6")
_LISTENING = {Protocol.TCP: "0A", Protocol.UDP: "07"}  # include/net/tcp_states.h; 07 is an UDP socket without a peer


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that waits for others. ``address`` may be unspecified: all addresses."""

    protocol: Protocol
    address: str
    port: int


async def listening(runner: Runner) -> frozenset[Listener]:
    """Every listening socket of the host, those on loopback too (a forward does not touch those)."""
    answer = await must(runner, ["sh", "-c", f"grep -s : {' '.join(_FILES)} || true"], "grep")
    return frozenset(parse_sockets(answer.splitlines()))


async def taken_ports(runner: Runner, protocol: Protocol) -> frozenset[int]:
    """The ports of ``protocol`` that a forward must not take: somebody listens there, and not on loopback only."""
    found = await listening(runner)
    outside = (socket for socket in found if not ipaddress.ip_address(socket.address).is_loopback)
    return frozenset(socket.port for socket in outside if socket.protocol is protocol)


def parse_sockets(lines: Iterable[str]) -> Iterable[Listener]:
    """Lines of ``/proc/net/{tcp,udp}{,6}``, each after its file's name and a colon (proc(5))."""
    for line in lines:
        name, _, row = line.partition(":")
        columns = row.split()
        if len(columns) < 4 or not columns[0].endswith(":"):
            continue  # a header
        protocol = Protocol.TCP if "/tcp" in name else Protocol.UDP
        if columns[3] == _LISTENING[protocol]:
            host, port = columns[1].rsplit(":", 1)
            yield Listener(protocol, str(_address(host)), int(port, 16))


def _address(text: str) -> Address:
    """Hexadecimal, in words of 32 bits in the byte order of the host (little on all that we run on)."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    return getattr(address, "ipv4_mapped", None) or address
