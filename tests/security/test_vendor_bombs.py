"""A vendor's server that was taken over: answers that grow when they are unpacked, never end, or are nested without bottom."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from panel.engines.common.http import MOST_BYTES, HttpHost
from panel.errors import EngineFailure, HostUnreachable

MIB = 2**20
BOMB = gzip.compress(
    gzip.compress(bytes(512 * MIB), 9, mtime=0), 9, mtime=0
)  # 2 kB, which is 512 KiB, which is 512 MiB


@asynccontextmanager
async def vendor(head: str, body: bytes, *, endless: bool = False) -> AsyncIterator[tuple[HttpHost, list[str]]]:
    """A host that answers everything like this, and the heads of what it was asked."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower())
            writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode("latin-1") + body)
            while endless:
                writer.write(body)
                await writer.drain()
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host = HttpHost(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield host, asked
    finally:
        await host.close()
        server.close()


async def test_nothing_is_unpacked() -> None:
    """We ask for plain answers; one that is packed all the same is refused, not unpacked."""
    for coding in ("gzip", "deflate", "br", "zstd", "gzip, gzip"):
        head = f"Content-Encoding: {coding}\r\nContent-Length: {len(BOMB)}\r\n"
        async with vendor(head, BOMB) as (host, asked):
            tracemalloc.start()
            with pytest.raises(EngineFailure, match="packed"):
                await host.ask("GET", "/x")
            _now, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak < 4 * MIB, coding
        assert "accept-encoding: identity" in asked[0]


async def test_an_answer_without_end_is_cut() -> None:
    async with vendor("", b"x" * 65536, endless=True) as (host, _):
        with pytest.raises(EngineFailure, match=str(MOST_BYTES)):
            await host.ask("GET", "/x")


async def test_a_head_without_end_is_no_http() -> None:
    async with vendor("X: " + "a" * 4 * MIB, b"a" * 65536, endless=True) as (host, _):
        with pytest.raises(HostUnreachable):
            await host.ask("GET", "/x", seconds=5)


@pytest.mark.parametrize("depth", [500, 2000, 100_000])
async def test_nested_answers(depth: int) -> None:
    """Read, or no JSON: never a stack that overflows."""
    body = b"[" * depth + b"]" * depth
    async with vendor(f"Content-Length: {len(body)}\r\n", body) as (host, _):
        answer = await host.ask("GET", "/x")
    if depth <= 500:
        assert isinstance(answer.json(), list)
    else:
        with pytest.raises(EngineFailure, match="something that is not its API's"):
            answer.json()
