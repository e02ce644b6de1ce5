"""Slow clients and long heads (Slowloris and its kin): each connection has a size and a time, and the newest gets in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from panel.connections import HEAD_BYTES, BoundedHttpProtocol

OPEN_REQUEST = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """``/slow`` waits for its body, all else is answered at once."""
    if scope["path"] == "/slow":
        while (await receive())["more_body"]:
            pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def served(**limits: Any) -> AsyncIterator[int]:
    """A server with these limits; its port."""
    protocol = type("Limited", (BoundedHttpProtocol,), {"_idle": {}, **limits})
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(application, http=protocol, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def client(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def rest(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the connection ends."""
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionError:
        return b""


async def answer(reader: asyncio.StreamReader) -> bytes:
    """A whole answer of the application."""
    async with asyncio.timeout(10):
        return await reader.readuntil(b"\r\n\r\nok")


@pytest.mark.parametrize("begun", [b"GET /", b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"\r\n"])
async def test_a_head_that_does_not_come_is_not_waited_for(begun: bytes) -> None:
    async with served(head_seconds=0.3) as port, client(port) as (reader, writer):
        writer.write(begun)
        dribble = asyncio.create_task(_dribble(writer, b"a" if begun != b"\r\n" else b"\r\n"))
        assert (await rest(reader)).startswith(b"HTTP/1.1 408 ")
        dribble.cancel()


async def _dribble(writer: asyncio.StreamWriter, data: bytes) -> None:
    while not writer.is_closing():
        await asyncio.sleep(0.05)
        writer.write(data)


async def test_who_says_nothing_is_told_nothing() -> None:
    async with served(head_seconds=0.2) as port, client(port) as (reader, _writer):
        assert await rest(reader) == b""


async def test_a_slow_head_after_an_answer_is_not_waited_for_either() -> None:
    async with served(head_seconds=0.3) as port, client(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await answer(reader)).startswith(b"HTTP/1.1 200 ")
        writer.write(b"GET / HT")
        assert (await rest(reader)).startswith(b"HTTP/1.1 408 ")


async def test_time_counts_for_heads_only() -> None:
    """A body may take longer, and so may an answer."""
    async with served(head_seconds=0.2) as port, client(port) as (reader, writer):
        writer.write(OPEN_REQUEST)
        for _ in range(10):
            await asyncio.sleep(0.06)
            writer.write(b"x")
        assert (await answer(reader)).startswith(b"HTTP/1.1 200 ")


LONG = {
    "one line": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * HEAD_BYTES + b"\r\n\r\n",
    "many lines": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: abcdefgh\r\n" * 9000 + b"\r\n",
    "the address": b"GET /" + b"a" * HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "no end": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2 * HEAD_BYTES,
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("pieces", [1, 50])
async def test_a_long_head_is_431(name: str, pieces: int) -> None:
    async with served() as port, client(port) as (reader, writer):
        size = -(-len(LONG[name]) // pieces)
        for at in range(0, len(LONG[name]), size):
            writer.write(LONG[name][at : at + size])
            await asyncio.sleep(0)
        assert (await rest(reader)).startswith(b"HTTP/1.1 431 ")


async def test_a_usual_head_and_a_large_body_are_served() -> None:
    body = bytes(4 * HEAD_BYTES)
    async with served() as port, client(port) as (reader, writer):
        for _ in range(2):
            head = b"POST /slow HTTP/1.1\r\nHost: x\r\nCookie: " + b"a" * 12_000 + b"\r\nContent-Length: %d\r\n\r\n"
            writer.write(head % len(body) + body)
            assert (await answer(reader)).startswith(b"HTTP/1.1 200 ")


async def test_requests_sent_together_are_answered_in_turn() -> None:
    async with served(head_seconds=0.3) as port, client(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        for _ in range(3):
            assert (await answer(reader)).startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_nobody_takes_is_not_taken_for_ever() -> None:
    async with served(rest_seconds=0.3) as port, client(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        dribble = asyncio.create_task(_dribble(writer, b"x"))
        assert (await rest(reader)).startswith(b"HTTP/1.1 200 ")
        dribble.cancel()


async def test_the_oldest_idle_one_goes_for_the_next() -> None:
    async with served(most=2) as port, client(port) as (busy, sending):
        sending.write(OPEN_REQUEST)
        await asyncio.sleep(0.05)
        async with client(port) as (idle, _), client(port) as (newest, writing):
            assert await rest(idle) == b""
            writing.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await answer(newest)).startswith(b"HTTP/1.1 200 ")
        sending.write(b"x" * 10)
        assert (await answer(busy)).startswith(b"HTTP/1.1 200 "), "who is at work stays"


async def test_when_all_are_at_work_the_next_is_told() -> None:
    async with served(most=1) as port, client(port) as (_busy, sending):
        sending.write(OPEN_REQUEST)
        await asyncio.sleep(0.05)
        async with client(port) as (next_one, _):
            assert (await rest(next_one)).startswith(b"HTTP/1.1 503 ")
