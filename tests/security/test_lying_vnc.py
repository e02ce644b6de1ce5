"""A VNC server that lies: it never answers, never stops, promises what does not come, or speaks something else. Its console ends
with words, in little memory and in time; nothing of it is believed."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panel.engines.common import rfb
from panel.errors import Conflict, PanelError

MIB = 2**20


@asynccontextmanager
async def liar(words: bytes, *, endless: bytes = b"", then_end: bool = True) -> AsyncIterator[int]:
    """A server that says ``words``, then ``endless`` again and again; its port."""
    held: set[asyncio.StreamWriter] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.add(writer)
        try:
            writer.write(words)
            while endless:
                writer.write(endless)
                await writer.drain()
            await writer.drain()
            if then_end:
                writer.write_eof()
            await reader.read()
        except OSError:
            pass

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in held:
            writer.transport.abort()


LIES = {
    "nothing": b"",
    "half a greeting": b"RFB 003.",
    "another protocol": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "an old version": b"RFB 003.003\n" + bytes(4),
    "a version of letters": b"RFB 003.abc\n",
    "no security type, and a reason of 4 GiB": b"RFB 003.008\n\x00\xff\xff\xff\xffno",
    "255 security types of which 2 come": b"RFB 003.008\n\xff\x01\x02",
    "only types that nobody knows": b"RFB 003.008\n\x03\x10\x11\x12",
    "half a challenge": b"RFB 003.008\n\x01\x02" + bytes(7),
    "a refusal with a reason of 4 GiB": b"RFB 003.008\n\x01\x02" + bytes(16) + b"\x00\x00\x00\x01\xff\xff\xff\xff",
}


@pytest.mark.parametrize("name", LIES)
async def test_what_is_no_login_is_refused_in_words(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rfb, "OPEN_SECONDS", 2.0)
    async with liar(LIES[name]) as port:
        with pytest.raises(PanelError) as caught:
            await rfb.open_screen("127.0.0.1", port, "password")
    assert caught.value.status in {409, 503}
    assert len(str(caught.value)) > 20


@pytest.mark.parametrize(
    "words", [b"", b"RFB 003.008\n", b"RFB 003.008\n\x01\x02"], ids=["nothing", "greeting", "type"]
)
async def test_one_that_falls_silent_is_given_up(words: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rfb, "OPEN_SECONDS", 0.3)
    async with liar(words, then_end=False) as port:
        with pytest.raises(PanelError, match="did not answer within"):
            await rfb.open_screen("127.0.0.1", port, "password")


async def test_on_a_socket_nothing_is_said_of_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a screen that is reached in a way of its own (SSH, a tunnel), no port and no firewall is to blame."""
    monkeypatch.setattr(rfb, "OPEN_SECONDS", 0.3)
    for then_end, words in ((False, "did not answer within"), (True, "hung up before it had greeted")):
        async with liar(b"", then_end=then_end) as port:
            with pytest.raises(PanelError, match=words) as caught:
                await rfb.open_screen("far", 0, "password", lambda: asyncio.open_connection("127.0.0.1", port))
        assert "on host far" in str(caught.value)
        assert "port" not in str(caught.value)
        assert "firewall" not in str(caught.value)


@pytest.mark.parametrize("words", [b"", b"RFB 003.008\n\xff"], ids=["greeting", "types"])
async def test_one_that_never_stops_is_not_kept_in_memory(words: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rfb, "OPEN_SECONDS", 2.0)
    async with liar(words, endless=b"A" * 65536) as port:
        tracemalloc.start()
        with pytest.raises(Conflict):
            await rfb.open_screen("127.0.0.1", port, "password")
        _now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2 * MIB


BEGUN = (b"", b"RFB 003.008\n", b"RFB 003.007\n", b"RFB 003.008\n\x01", b"RFB 003.008\n\x01\x02")


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=80), st.sampled_from(BEGUN))
def test_no_bytes_are_an_error_of_ours(noise: bytes, begun: bytes) -> None:
    async def meet() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(begun + noise)
        reader.feed_eof()
        try:
            await rfb._log_in(reader, _Nowhere(), "password")  # type: ignore[arg-type]
        except (PanelError, asyncio.IncompleteReadError):
            return

    asyncio.run(meet())


class _Nowhere:
    """Takes what is said to the server."""

    def write(self, data: bytes) -> None:
        assert len(data) <= 16
