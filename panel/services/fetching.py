"""Fetching from a URL that a person gave, without being led to where the panel alone may go.

A name is resolved once, every address of it is checked, and the connection goes to the checked address: a name server that
answers differently the second time changes nothing. Each redirect is checked the same way. No proxy of the environment is
used: it would resolve again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx2

from panel import __version__
from panel.errors import FetchFailed, InvalidInput, PanelError
from panel.i18n import gettext_noop as _

LONGEST_URL = 2000
MOST_REDIRECTS = 5
MOST_ADDRESSES = 4  # of one name that are tried
RESOLVE_SECONDS = 10.0
TIMEOUT = httpx2.Timeout(30.0, connect=10.0)  # seconds without a byte
REDIRECTS = frozenset({301, 302, 303, 307, 308})
NAT64 = ip_network("64:ff9b::/96")

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(name: str, port: int) -> list[str]:
    """The addresses of a name. ``OSError`` when it has none."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Download:
    """An answer that began: ``size`` is what the server announced, in bytes, or None; ``url`` is where redirects led."""

    def __init__(self, response: httpx2.Response, url: httpx2.URL) -> None:
        self._response = response
        self._host = url.host
        self.url = str(url)
        length = response.headers.get("Content-Length", "")
        self.size = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None

    async def pieces(self, size: int) -> AsyncIterator[bytes]:
        """The body as it is sent, in pieces of ``size`` bytes. ``FetchFailed`` when it breaks off."""
        try:
            async for piece in self._response.aiter_raw(size):
                yield piece
        except (httpx2.HTTPError, OSError) as error:
            raise _broken(self._host, error) from error

    async def text(self, most: int) -> str:
        """A short body whole. ``FetchFailed`` when it is longer than ``most`` bytes."""
        data = bytearray()
        async for piece in self.pieces(most + 1):
            data += piece
            if len(data) > most:
                raise FetchFailed(_("{host} sent more than {most} bytes, which is no checksum file."), host=self._host,
                                  most=most)  # fmt: skip
        return data.decode("utf-8", "replace")


class Fetcher:
    """Opens URLs. ``allowed``: networks besides the public ones, separated by commas."""

    def __init__(self, allowed: str = "", resolve: Resolve = resolve) -> None:
        self._allowed = tuple(ip_network(text) for text in allowed.replace(",", " ").split())
        self._resolve = resolve

    @asynccontextmanager
    async def open(self, text: str, field: str, *, verified: bool) -> AsyncIterator[Download]:
        """Ask for a URL, following redirects. ``field``: what messages call it. ``verified``: a checksum will tell what comes,
        so that a redirect may lead from https to http, as the mirrors of some distributions do.

        Raises:
            InvalidInput: no URL that may be fetched, or it leads to one.
            FetchFailed: it cannot be had.
        """
        url = check_url(text, field)
        for _hop in range(MOST_REDIRECTS + 1):
            addresses = await self._addresses(url, field)
            async with httpx2.AsyncClient(timeout=TIMEOUT, trust_env=False, follow_redirects=False) as client:
                response = await _ask(client, url, addresses)
                try:
                    if response.status_code not in REDIRECTS:
                        _check_answer(response, url.host)
                        yield Download(response, url)
                        return
                    url = _next(url, response.headers.get("Location", ""), field, verified)
                finally:
                    await response.aclose()
        raise FetchFailed(_("{host} redirects more than {most} times."), host=url.host, most=MOST_REDIRECTS)

    async def _addresses(self, url: httpx2.URL, field: str) -> list[str]:
        name, port = url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                found = await self._resolve(name, port)
        except (OSError, UnicodeError) as error:  # a TimeoutError is an OSError
            raise FetchFailed(_("{host} cannot be resolved."), host=url.host) from error
        for address in found:
            if not self._may(ip_address(address)):
                raise InvalidInput(
                    _("{host} leads to {address}, which is no public address. images_networks can allow its network."),
                    field=field, host=url.host, address=address,
                )  # fmt: skip
        if not found:
            raise FetchFailed(_("{host} cannot be resolved."), host=url.host)
        return found[:MOST_ADDRESSES]

    def _may(self, address: Address) -> bool:
        """Whether the panel goes there. An IPv4 address in an IPv6 one counts as what it is."""
        real = inner(address)
        if any(real in network for network in self._allowed if network.version == real.version):
            return True
        odd = real.is_multicast or real.is_reserved or (isinstance(real, IPv6Address) and real.is_site_local)
        return real.is_global and not odd


def inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, by whichever of the ways to write it so; else the address."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour or address
    if address.teredo:
        return address.teredo[1]
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else address


def check_url(text: str, field: str) -> httpx2.URL:
    """A URL that may be asked for. ``InvalidInput`` for another scheme, or a password in it, which would end in logs."""
    try:
        url = httpx2.URL(text.strip() if len(text) <= LONGEST_URL else "")
    except (httpx2.InvalidURL, ValueError) as error:
        raise InvalidInput(_("{field} must be an http:// or https:// address."), field=field) from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidInput(_("{field} must be an http:// or https:// address."), field=field)
    if "%" in url.host or (url.port is not None and not 0 < url.port < 65536):
        raise InvalidInput(_("{field} must be an http:// or https:// address."), field=field)
    if url.userinfo:
        raise InvalidInput(_("{field} must not have a user name or password in it."), field=field)
    return url


async def _ask(client: httpx2.AsyncClient, url: httpx2.URL, addresses: list[str]) -> httpx2.Response:
    """The answer of the first address that can be reached. TLS still checks the certificate of the name."""
    headers = {
        "Host": url.netloc.decode("ascii"),
        "User-Agent": f"OpenIDCS-Panel/{__version__}",
        "Accept-Encoding": "identity",
    }
    extensions = {"sni_hostname": url.raw_host.decode("ascii")}
    problem: PanelError | None = None
    for address in addresses:
        request = client.build_request(
            "GET", url.copy_with(host=address, fragment=None), headers=headers, extensions=extensions
        )
        try:
            return await client.send(request, stream=True)
        except (httpx2.HTTPError, OSError) as error:
            problem = _broken(url.host, error)
    assert problem is not None
    raise problem


def _check_answer(response: httpx2.Response, host: str) -> None:
    if response.status_code != 200:
        raise FetchFailed(_("{host} answered {status}. Check the URL."), host=host, status=response.status_code)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchFailed(_("{host} compressed its answer, which it was asked not to."), host=host)


def _next(url: httpx2.URL, location: str, field: str, verified: bool) -> httpx2.URL:
    try:
        joined = str(url.join(location))
    except (httpx2.InvalidURL, ValueError) as error:
        raise FetchFailed(_("{host} redirects to what is no URL."), host=url.host) from error
    target = check_url(joined, field)
    if url.scheme == "https" and target.scheme == "http" and not verified:
        raise InvalidInput(
            _("{host} redirects from https to http. Give a checksum, which tells whether the right thing comes."),
            field=field, host=url.host,
        )  # fmt: skip
    return target


def _broken(host: str, error: Exception) -> FetchFailed:
    if isinstance(error, httpx2.TimeoutException):
        return FetchFailed(_("{host} did not answer in time."), host=host)
    if isinstance(error, httpx2.RemoteProtocolError):
        return FetchFailed(_("{host} broke off in the middle."), host=host)
    return FetchFailed(_("{host} cannot be reached."), host=host)
