"""What the outside sees of a machine: whether a port takes a connection, and what a domain answers. Nothing is kept."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol

from panel.i18n import Text
from panel.i18n import gettext_noop as _

SECONDS = 3.0  # of one try
LONGEST_ANSWER = 8192  # bytes of an answer's head
# addresses of the documentation's networks (RFC 5737, RFC 3849): nothing is sent to them
FAR = {4: ("203.0.113.9", socket.AF_INET), 6: ("2001:db8::ff", socket.AF_INET6)}


@dataclass(frozen=True, slots=True)
class Reach:
    """What a try found. ``open`` None: it cannot be told. ``problem`` says why not, or what is wrong though it is open."""

    open: bool | None
    problem: Text | None = None


class Connector(Protocol):
    """What tries."""

    async def port(self, address: str, port: int, version: int) -> Reach:
        """Whether a TCP connection to ``port`` is taken. ``version``: over IPv4 or IPv6."""

    async def site(self, address: str, port: int, domain: str, *, tls: bool, private: bool) -> Reach:
        """Whether ``domain`` is served. ``private``: its authority is one that nobody knows, by the operator's own wish."""


def own_address(version: int) -> str:
    """The address that this machine has towards the world; empty when it has none of that family. Nothing is sent."""
    far, family = FAR[version]
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((far, 9))
        found = str(probe.getsockname()[0])
        if not ip_address(found).is_loopback:
            return found
    return ""


class ImaginaryConnector:
    """For imaginary hosts: all is open, unless ``found`` says otherwise of a port or a domain."""

    def __init__(self) -> None:
        self.found: dict[int | str, Reach] = {}
        self.tried: list[tuple[str, int | str]] = []

    async def port(self, address: str, port: int, version: int) -> Reach:
        """As ``found`` says."""
        self.tried.append((address, port))
        return self.found.get(port, Reach(True))

    async def site(self, address: str, port: int, domain: str, *, tls: bool, private: bool) -> Reach:
        """As ``found`` says."""
        self.tried.append((address, domain))
        return self.found.get(domain, Reach(True))


class NetworkConnector:
    """Tries over the network, from the machine that the panel runs on."""

    async def port(self, address: str, port: int, version: int) -> Reach:
        """A connection, which is closed at once."""
        family = FAR[version][1]
        try:
            async with asyncio.timeout(SECONDS):
                _reader, writer = await asyncio.open_connection(address, port, family=family)
        except (OSError, TimeoutError) as error:
            return Reach(False, _why(error, address, port))
        writer.transport.abort()
        return Reach(True)

    async def site(self, address: str, port: int, domain: str, *, tls: bool, private: bool) -> Reach:
        """A HEAD request for ``/``; any answer but the proxy's own "no guest" counts."""
        context = ssl.create_default_context() if tls else None
        if context is not None and private:
            _trust_all(context)
        try:
            return await _request(address, port, domain, context)
        except ssl.SSLCertVerificationError as error:
            untrusted = Text(_("Browsers will not trust the certificate: {reason}."), {"reason": error.verify_message})
            assert context is not None
            _trust_all(context)
        except (OSError, TimeoutError, ValueError) as error:
            return Reach(False, _why(error, address, port))
        try:
            found = await _request(address, port, domain, context)
        except (OSError, TimeoutError, ValueError) as error:
            return Reach(False, _why(error, address, port))
        return Reach(found.open, found.problem or untrusted)


def _trust_all(context: ssl.SSLContext) -> None:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE


async def _request(address: str, port: int, domain: str, context: ssl.SSLContext | None) -> Reach:
    usual = 443 if context else 80
    host = domain if port == usual else f"{domain}:{port}"
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(
            address, port, limit=LONGEST_ANSWER, ssl=context, server_hostname=domain if context else None
        )
        try:
            writer.write(
                f"HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nUser-Agent: openidcs\r\n\r\n".encode()
            )
            await writer.drain()
            words = (await reader.readline()).split(b" ", 2)
        finally:
            writer.transport.abort()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1][:3].isdigit():
        return Reach(False, Text(_("What answers on port {port} does not speak HTTP."), {"port": port}))
    status = int(words[1][:3])
    if status == 421:
        return Reach(False, Text(_("What answers there does not serve {domain}."), {"domain": domain}))
    if status in {502, 503, 504}:
        return Reach(False, Text(_("The proxy answers {status}: nothing answers it in the VM."), {"status": status}))
    return Reach(True)


def _why(error: Exception, address: str, port: int) -> Text:
    """A failure of the network in our words."""
    where = {"address": address, "port": port}
    if isinstance(error, TimeoutError):
        return Text(_("No answer from {address} port {port} within 3 seconds."), where)
    if isinstance(error, ConnectionRefusedError):
        return Text(_("{address} refuses connections to port {port}."), where)
    if isinstance(error, ssl.SSLError):
        return Text(_("There is no TLS on {address} port {port} yet, or no certificate."), where)
    if isinstance(error, socket.gaierror | UnicodeError):
        return Text(_("The name {address} leads to no address."), where)
    if isinstance(error, OSError) and error.errno in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL}:
        return Text(_("There is no way from here to {address}."), where)
    return Text(_("{address} breaks off connections to port {port}."), where)
