"""What a try of a port or a domain finds, against servers on loopback."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from panel.gateways import reach
from panel.gateways.reach import NetworkConnector, own_address

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
asked: list[bytes] = []


def says(answer: bytes) -> Answer:
    """A server that reads a request's head and answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    return serve


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that takes connections and says nothing."""
    await reader.read()
    writer.close()


async def plain(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server without TLS, which says so to whoever speaks it."""
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    writer.close()


async def rude(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that hangs up."""
    writer.transport.abort()


@asynccontextmanager
async def serving(answer: Answer, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server on loopback."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture(scope="module")
def unknown_authority(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's certificate for a.example, of nobody whom browsers know."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a.example")])
    moment = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(moment - timedelta(days=1))
        .not_valid_after(moment + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path: Path = tmp_path_factory.mktemp("reach") / "pair.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def site(port: int, *, tls: bool = False, private: bool = False) -> tuple[bool | None, str]:
    found = await NetworkConnector().site("127.0.0.1", port, "a.example", tls=tls, private=private)
    return found.open, str(found.problem or "")


async def test_ports() -> None:
    async with serving(silent) as port:
        assert (await NetworkConnector().port("127.0.0.1", port, 4)).open is True
    found = await NetworkConnector().port("127.0.0.1", port, 4)
    assert (found.open, str(found.problem)) == (False, f"127.0.0.1 refuses connections to port {port}.")
    found = await NetworkConnector().port("no-such-name.invalid", 80, 4)
    assert "leads to no address" in str(found.problem)


async def test_http() -> None:
    asked.clear()
    async with serving(says(b"HTTP/1.1 404 Not Found\r\n\r\n")) as port:
        assert await site(port) == (True, "")
    assert asked[0].startswith(b"HEAD / HTTP/1.1\r\nHost: a.example:%d\r\n" % port)
    for answer, words in (
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "The proxy answers 502"),
        (b"SSH-2.0-OpenSSH\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 banana\r\n", "does not speak HTTP"),
        (b"x" * 100_000, "breaks off"),
        (b"", "does not speak HTTP"),
    ):
        async with serving(says(answer)) as port:
            found = await site(port)
            assert found[0] is False
            assert words in found[1], answer[:40]


async def test_tls(unknown_authority: ssl.SSLContext) -> None:
    async with serving(says(b"HTTP/1.1 200 OK\r\n\r\n"), unknown_authority) as port:
        found = await site(port, tls=True)
        assert found[0] is True
        assert "Browsers will not trust the certificate: self" in found[1]
        assert await site(port, tls=True, private=True) == (True, "")
    async with serving(plain) as port:
        assert "no TLS" in (await site(port, tls=True))[1]
    async with serving(rude) as port:
        assert "breaks off" in (await site(port, tls=True))[1]


async def test_silence_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "SECONDS", 0.1)
    async with serving(silent) as port:
        assert "within 3 seconds" in (await site(port))[1]


def test_own_address() -> None:
    for version in (4, 6):
        found = own_address(version)
        assert not found or ipaddress.ip_address(found).version == version
