"""HTTP to a host's API, by httpx2: one client per host, whose failures come out as ``PanelError`` with their mends.

TLS is always verified, or pinned (``panel.engines.common.tls``). No proxy of the environment is used and no redirect followed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import orjson

from panel.engines.common.tls import PinMismatchError, client_context, read_fingerprint, refused, shown_fingerprint
from panel.errors import EngineFailure, EngineTimeout, HostUnreachable, InvalidInput, PanelError
from panel.i18n import gettext_noop as _

CONNECT_SECONDS = 5.0
ASK_SECONDS = 15.0
AT_ONCE = 8  # requests in flight per client
MOST_BYTES = 32 * 1024 * 1024  # of one answer
SAFE = frozenset({"GET", "HEAD"})
TRIES = 3  # of what is safe to repeat
PAUSE_SECONDS = 0.2  # before it is repeated, and twice that before the next
BUSY = frozenset({502, 503, 504})  # a proxy's or server's "not now"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host answered, read to its end.

    Attributes:
        status: 2xx, 4xx or 5xx, but neither 401 nor 403: those are raised.
        phrase: what stands beside the status (Proxmox puts its sentence there).
    """

    host: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    phrase: str = ""

    @property
    def ok(self) -> bool:
        """Whether the host did what was asked."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body. ``EngineFailure`` when it is no JSON."""
        try:
            return orjson.loads(self.body)
        except ValueError as error:
            raise EngineFailure(
                _("Host {host} answered with something that is not its API's. Check the port (server_addr)."),
                host=self.host,
            ) from error


def split_address(address: str, port: int, *, scheme: str = "https") -> str:
    """A host's base URL from what the operator typed: ``host``, ``host:8697``, ``http://host:8697``.

    Args:
        port: the API's usual one.
        scheme: what holds when none is typed.

    Raises:
        InvalidInput: field ``server_addr``.
    """
    text = address.strip().rstrip("/")
    if text.count(":") > 1 and "://" not in text and not text.startswith("["):
        text = f"[{text}]"  # a bare IPv6 address
    problem = InvalidInput(
        _("{field} must be a host name or an address, with or without https:// or http:// and a port."),
        field="server_addr",
    )
    try:
        parts = urlsplit(text if "://" in text else f"{scheme}://{text}")
        host, given = parts.hostname or "", parts.port
    except ValueError:
        raise problem from None
    if parts.scheme not in {"http", "https"} or not host or parts.username is not None or parts.query or parts.fragment:
        raise problem
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{given or port}{parts.path}"


class HttpHost:
    """One host's API.

    Every request raises:
        CertificateRefused: TLS, and the certificate is neither vouched for nor accepted, or has changed.
        EngineTimeout: no answer in time.
        HostUnreachable: nobody answers, it is not HTTP, or our login or its rights are refused (401, 403).
        EngineFailure: an answer larger than ``MOST_BYTES``, a packed one (a few kB may be GiB), or a redirect.
    """

    def __init__(
        self,
        base: str,
        *,
        fingerprint: str = "",
        auth: tuple[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        at_once: int = AT_ONCE,
        context: ssl.SSLContext | None = None,
        explain: Callable[[Answer], PanelError | None] | None = None,
        socket_path: str = "",
        busy: frozenset[int] = BUSY,
    ) -> None:
        """``base``: from ``split_address``. ``fingerprint``: as the operator accepted it. ``context``: instead of that, for
        hosts with client certificates (make it with ``tls.client_context``). ``explain``: better words for a 401 or 403, where
        the vendor says why. ``socket_path``: a unix socket of this machine, dialled instead of ``base``'s host. ``busy``: the
        statuses after which what is safe to repeat is asked again."""
        parts = urlsplit(base)
        self.base = base
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self.name = socket_path or parts.netloc
        self._tls = parts.scheme == "https"
        self._explain = explain
        self._busy = busy
        self._turns = asyncio.Semaphore(at_once)
        limits = httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once, keepalive_expiry=30)
        self._client = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=socket_path, limits=limits) if socket_path else None,
            base_url=base,
            auth=httpx2.BasicAuth(*auth) if auth else None,
            headers={"Accept-Encoding": "identity", **(headers or {})},
            verify=(context or client_context(read_fingerprint(fingerprint))) if self._tls else True,
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
            limits=limits,
            trust_env=False,
        )

    async def close(self) -> None:
        """Disconnect. Never raises; may be called twice."""
        await self._client.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        form: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = ASK_SECONDS,
        right: str = "",
    ) -> Answer:
        """Ask and read the whole answer. What is safe to repeat is repeated when the connection breaks or the host is busy;
        what changes something never is, unless nothing was sent.

        Args:
            path: below the base, its parts quoted by the caller.
            json: a body; it goes as ``application/json`` unless ``headers`` say otherwise.
            seconds: for all of it, repetitions included.
            right: what the login needs, told when the host answers 403.
        """
        if json is not None:
            content = orjson.dumps(json)
            headers = {"Content-Type": "application/json", **(headers or {})}
        request = self._client.build_request(
            method, path, content=content, data=dict(form) if form else None, params=params, headers=headers
        )
        try:
            async with self._turns, asyncio.timeout(seconds):
                answer = await self._persist(request)
        except TimeoutError:
            raise self._slow(seconds) from None
        if answer.status in {401, 403}:
            raise (self._explain and self._explain(answer)) or self._denied(answer.status, right)
        if 300 <= answer.status < 400:
            raise EngineFailure(
                _("Host {host} sends us elsewhere. Give the address that its API itself has (server_addr)."),
                host=self.name,
            )
        return answer

    async def _persist(self, request: httpx2.Request) -> Answer:
        for attempt in range(1, TRIES + 1):
            last = attempt == TRIES
            try:
                answer = await self._once(request)
            except (httpx2.TransportError, OSError) as error:
                broken = isinstance(error, httpx2.NetworkError | httpx2.RemoteProtocolError)
                unsent = isinstance(error, httpx2.ConnectError)
                if last or not broken or unsent or request.method not in SAFE:
                    raise await self._failed(error) from error
            else:
                if last or answer.status not in self._busy or request.method not in SAFE:
                    return answer
            await asyncio.sleep(PAUSE_SECONDS * attempt)
        raise AssertionError("unreachable")

    async def _once(self, request: httpx2.Request) -> Answer:
        response = await self._client.send(request, stream=True)
        try:
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise EngineFailure(_("Host {host} packed its answer, which it was asked not to."), host=self.name)
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) > MOST_BYTES:
                    raise EngineFailure(
                        _("Host {host} answered with more than {most} bytes."), host=self.name, most=MOST_BYTES
                    )
            return Answer(self.name, response.status_code, response.headers, bytes(body), response.reason_phrase)
        finally:
            await response.aclose()

    # -- what went wrong -----------------------------------------------------------------------------------------

    async def _failed(self, error: Exception) -> PanelError:
        """A failure of the connection, in our words."""
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, PinMismatchError):
                return refused(self.name, cause.shown, changed=True)
            if isinstance(cause, ssl.SSLCertVerificationError):
                return await self._untrusted(cause)
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            return HostUnreachable(
                _("Host {host} answers, but not with TLS that we understand. Check the port, or write http:// before it "
                  "(server_addr)."),
                host=self.name,
            )  # fmt: skip
        if isinstance(error, httpx2.TimeoutException):
            return self._slow(CONNECT_SECONDS)
        if isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError):
            return HostUnreachable(
                _("Host {host} answers, but not as its API does, or it broke off. Check the port, and whether it wants https:// "
                  "(server_addr)."),
                host=self.name,
            )  # fmt: skip
        return _unreachable(self.name, causes)

    async def _untrusted(self, error: ssl.SSLCertVerificationError) -> PanelError:
        shown = await shown_fingerprint(self._host, self._port)
        if shown:
            return refused(self.name, shown, changed=False, reason=error.verify_message or "")
        return HostUnreachable(_("Host {host} shows a certificate that cannot be read. Try again."), host=self.name)

    def _slow(self, seconds: float) -> EngineTimeout:
        return EngineTimeout(
            _("Host {host} did not answer within {seconds} s. Check its address, firewall and load."),
            host=self.name,
            seconds=round(seconds, 1),
        )

    def _denied(self, status: int, right: str) -> HostUnreachable:
        if status == 401:
            return HostUnreachable(
                _("Host {host} refuses our login. Check server_user and server_pass."), host=self.name
            )
        if right:
            return HostUnreachable(
                _("Our login on host {host} lacks a right: {right}. Grant it there."), host=self.name, right=right
            )
        return HostUnreachable(
            _("Our login on host {host} lacks the right to do this. Grant it there."), host=self.name
        )


def _unreachable(name: str, causes: list[BaseException]) -> HostUnreachable:
    """Nobody there: the name, the port, or the way."""
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return HostUnreachable(_("The name of host {host} is not known. Check server_addr."), host=name)
        if isinstance(cause, ConnectionRefusedError) or getattr(cause, "errno", None) == errno.ECONNREFUSED:
            return HostUnreachable(
                _("Host {host} refuses the connection. Check the port, and that its API runs and listens there."),
                host=name,
            )
    codes = [cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno and cause.errno > 0]
    reason = os.strerror(codes[-1]) if codes else type(causes[-1]).__name__
    return HostUnreachable(
        _("Host {host} cannot be reached ({reason}). Check its address and the network."), host=name, reason=reason
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that led to it, each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting.extend(getattr(one, "exceptions", ()))
        waiting.extend(cause for cause in (one.__cause__, one.__context__) if cause is not None)
