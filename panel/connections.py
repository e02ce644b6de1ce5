"""Uvicorn's HTTP connection, bounded: a head has a size and a time, and a body that nobody takes has a time.

Uvicorn over httptools has no limit on a request's head, and none on how long it may take to come: a few thousand clients that
send a byte a second would hold all of the process's files. Read against uvicorn 0.54 and httptools 0.9;
``tests/security/test_slow_clients.py`` fails when a newer one changes under it.
"""

from __future__ import annotations

import asyncio
import resource
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 * 1024  # of a request's line and headers; browsers send a few kB
HEAD_SECONDS = 20.0  # from a connection's begin, or a request's first byte, to the end of its head
LINGER_SECONDS = 1.0  # after a refusal, so that the client can read it before the connection goes
REST_SECONDS = 10.0  # for the rest of a body whose request was answered before it had come
MOST_FILES = 65536  # of the process, where the system allows more


class HeadTooLargeError(Exception):
    """A request's head is larger than ``HEAD_BYTES``."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """As uvicorn's. When there are ``most`` connections, the one that has asked for nothing longest goes for the next."""

    most = MOST_FILES // 2
    head_seconds, rest_seconds = HEAD_SECONDS, REST_SECONDS
    _idle: dict[BoundedHttpProtocol, None] = {}  # noqa: RUF012 - of all connections: without a request in progress, oldest first

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bytes = 0  # of the head that is coming
        self._heading = True
        self._overlong = self._refused = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room for it, and wait for its first request."""
        while len(self.connections) >= self.most and self._idle:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.transport.abort()
            self.connections.discard(oldest)
        super().connection_made(transport)
        self._idle[self] = None
        if len(self.connections) > self.most:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "The panel has too many open connections. Try again later.")
        else:
            self._wait(self.head_seconds, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._idle.pop(self, None)
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, while the head is not too large. After a refusal nothing is read any more."""
        if self._refused:
            return
        if self._heading:
            self._bytes += len(data)
            if self._timer is None:
                self._wait(self.head_seconds, self._late)
        super().data_received(data)
        if self._heading and self._bytes > HEAD_BYTES and not self._refused:
            self._too_large()

    def on_url(self, url: bytes) -> None:
        """The address, or a part of it."""
        super().on_url(url)
        self._check(len(self.url))

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._check(len(self.url) + sum(len(name) + len(value) for name, value in self.headers))
        self._heading = False
        self._idle.pop(self, None)
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there; what comes now is the next request's head."""
        self._heading, self._bytes = True, 0
        super().on_message_complete()
        if self._timer is not None:  # it was the rest of a body that nobody took
            self._wait(self.head_seconds, self._late)

    def on_response_complete(self) -> None:
        """The answer is out. Where the body has not come to its end, it is not taken for ever."""
        super().on_response_complete()
        if self.transport.is_closing() or not self.cycle.response_complete:
            return
        self._idle[self] = None
        if not self._heading:
            self._wait(self.rest_seconds, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP; and what ``_check`` refused while httptools parsed."""
        if self._overlong:
            self._too_large()
        else:
            super().send_400_response(msg)

    def _check(self, size: int) -> None:
        """A head that came in one piece is counted by what is in it."""
        if size > HEAD_BYTES:
            self._overlong = True
            raise HeadTooLargeError

    def _too_large(self) -> None:
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The request's head is larger than {HEAD_BYTES} bytes."
        )

    def _late(self) -> None:
        """The head did not come in time. Who said nothing at all is told nothing, nor who waits for an answer."""
        if self._bytes and (self.cycle is None or self.cycle.response_complete):
            text = f"The request's head did not come within {self.head_seconds:.0f} s."
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, text)
        elif not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer, and end the connection a little later."""
        self._refused = True
        if not self.transport.is_closing():
            self.transport.write(
                f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
                f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode("ascii")
            )
        self._wait(LINGER_SECONDS, self.transport.abort)

    def _wait(self, seconds: float, then: Any) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, then)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def allow_connections() -> int:
    """Let this process open as many files as the system allows, up to ``MOST_FILES``; how many that is.

    A connection is a file, and an open console two.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
