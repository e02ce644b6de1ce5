"""HTTP to a host: what fails says why and what mends it; what changes something is never sent twice."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from panel.engines.common import http, tls
from panel.engines.common.http import HttpHost, split_address
from panel.errors import CertificateRefused, EngineFailure, EngineTimeout, HostUnreachable, InvalidInput
from tests.certs import made
from tests.engines.common.servers import answer, loopback, server_context


async def fine(_head: bytes) -> bytes:
    return answer(200, b'{"a": 1}')


async def refusal(base: str, **options: str) -> HostUnreachable:
    """How a GET fails."""
    host = HttpHost(base, **options)  # type: ignore[arg-type]
    try:
        with pytest.raises(HostUnreachable) as caught:
            await host.ask("GET", "/x")
    finally:
        await host.close()
    return caught.value


async def test_a_self_signed_certificate_is_shown_accepted_and_held(tmp_path: Path) -> None:
    first, second = made("localhost"), made("localhost")
    async with loopback(fine, server_context(tmp_path, first)) as server:
        base = f"https://127.0.0.1:{server.port}"
        error = await refusal(base)
        assert isinstance(error, CertificateRefused)
        assert error.field == "fingerprint"
        assert error.fingerprint in str(error)
        assert not server.heads, "nothing is sent before the certificate is trusted"
        accepted = error.fingerprint
        host = HttpHost(base, fingerprint=accepted.lower().replace(":", ""))
        assert (await host.ask("GET", "/x")).json() == {"a": 1}
        await host.close()
    async with loopback(fine, server_context(tmp_path, second)) as server:
        error = await refusal(f"https://127.0.0.1:{server.port}", fingerprint=accepted)
        assert isinstance(error, CertificateRefused)
        assert "another certificate" in str(error)
        assert error.fingerprint != accepted
        assert not server.heads


async def test_what_an_authority_vouches_for_needs_no_pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = made("localhost")
    (tmp_path / "known.pem").write_text(known.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "known.pem"))
    async with loopback(fine, server_context(tmp_path, known)) as server:
        host = HttpHost(f"https://localhost:{server.port}")
        try:
            assert (await host.ask("GET", "/")).ok
        finally:
            await host.close()
        assert isinstance(await refusal(f"https://127.0.0.1:{server.port}"), CertificateRefused), "another name"


async def test_wrong_ports(tmp_path: Path) -> None:
    async def ssh(_head: bytes) -> bytes:
        return b"SSH-2.0-OpenSSH_9.6\r\nProtocol mismatch.\r\n\r\n"

    async with loopback(fine) as plain, loopback(fine, server_context(tmp_path, made("x"))) as sealed:
        assert "not with TLS" in str(await refusal(f"https://127.0.0.1:{plain.port}"))
        assert "https://" in str(await refusal(f"http://127.0.0.1:{sealed.port}"))
    async with loopback(ssh) as other:
        assert "not as its API does" in str(await refusal(f"http://127.0.0.1:{other.port}"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert "refuses the connection" in str(await refusal(f"http://127.0.0.1:{free.getsockname()[1]}"))
    assert "not known" in str(await refusal("http://no-such-host.invalid:1"))


@pytest.mark.parametrize(("status", "words"), [(401, "server_pass"), (403, "lacks the right")])
async def test_refused_logins(status: int, words: str) -> None:
    async def talk(_head: bytes) -> bytes:
        return answer(status)

    async with loopback(talk) as server:
        assert words in str(await refusal(f"http://127.0.0.1:{server.port}"))
        host = HttpHost(f"http://127.0.0.1:{server.port}", auth=("u", "s3cret"))
        with pytest.raises(HostUnreachable) as caught:
            await host.ask("POST", "/vms", json={}, right="VM.Clone")
        assert ("VM.Clone" in str(caught.value)) is (status == 403)
        assert "s3cret" not in repr(vars(host)) + str(caught.value)
        await host.close()


async def test_time_limits() -> None:
    async def never(_head: bytes) -> bytes:
        await asyncio.sleep(3600)
        return b""

    async with loopback(never) as server:
        host = HttpHost(f"http://127.0.0.1:{server.port}")
        with pytest.raises(EngineTimeout, match=r"within 0\.2 s"):
            await host.ask("GET", "/", seconds=0.2)
        await host.close()


async def test_only_what_is_safe_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PAUSE_SECONDS", 0.01)

    async def breaks_twice(head: bytes) -> bytes | None:
        tries[head[:4]] = tries.get(head[:4], 0) + 1
        return None if tries[head[:4]] < 3 else answer(200)

    async def busy_once(_head: bytes) -> bytes:
        tries[b"busy"] = tries.get(b"busy", 0) + 1
        return answer(503 if tries[b"busy"] == 1 else 200)

    tries: dict[bytes, int] = {}
    async with loopback(breaks_twice) as server, loopback(busy_once) as busy:
        host, other = (HttpHost(f"http://127.0.0.1:{one.port}") for one in (server, busy))
        assert (await host.ask("GET", "/")).ok
        for method in ("POST", "PUT", "DELETE"):
            with pytest.raises(HostUnreachable):
                await host.ask(method, "/", content=b"")
        assert tries == {b"GET ": 3, b"POST": 1, b"PUT ": 1, b"DELE": 1}
        assert (await other.ask("POST", "/", content=b"")).status == 503
        assert (await other.ask("GET", "/")).status == 200
        await host.close()
        await other.close()


async def test_what_is_worth_asking_again_is_the_vendors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PAUSE_SECONDS", 0.01)
    tries: list[bytes] = []

    async def broken_once(head: bytes) -> bytes:
        tries.append(head[:4])
        return answer(500 if len(tries) == 1 else 200)

    async with loopback(broken_once) as server:
        plain = HttpHost(f"http://127.0.0.1:{server.port}")
        assert (await plain.ask("GET", "/")).status == 500
        await plain.close()
        tries.clear()
        patient = HttpHost(f"http://127.0.0.1:{server.port}", busy=http.BUSY | {500})
        assert (await patient.ask("GET", "/")).ok
        await patient.close()
    assert tries == [b"GET ", b"GET "]


async def test_a_limit_on_requests_in_flight() -> None:
    async def slow(_head: bytes) -> bytes:
        await asyncio.sleep(0.02)
        return answer(200)

    async with loopback(slow) as server:
        host = HttpHost(f"http://127.0.0.1:{server.port}", at_once=3)
        await asyncio.gather(*(host.ask("GET", "/") for _ in range(12)))
        assert len(server.heads) == 12
        assert server.busiest == 3
        await host.close()


async def test_odd_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_BYTES", 1000)

    async def talk(head: bytes) -> bytes:
        if b"/large" in head:
            return answer(200, bytes(2000))
        return answer(302, b"", "Location: http://127.0.0.1:1/") if b"/away" in head else answer(200, b"<html>")

    async with loopback(talk) as server:
        host = HttpHost(f"http://127.0.0.1:{server.port}")
        for path in ("/large", "/away"):
            with pytest.raises(EngineFailure):
                await host.ask("GET", path)
        with pytest.raises(EngineFailure, match="not its API's"):
            (await host.ask("GET", "/")).json()
        await host.close()
        await host.close()


@pytest.mark.parametrize(
    ("typed", "base"),
    [
        ("host", "https://host:8006"),
        (" 192.0.2.1:99/ ", "https://192.0.2.1:99"),
        ("http://h", "http://h:8006"),
        ("2001:db8::1", "https://[2001:db8::1]:8006"),
        ("https://[::1]:7/api", "https://[::1]:7/api"),
    ],
)
def test_addresses(typed: str, base: str) -> None:
    assert split_address(typed, 8006) == base


@pytest.mark.parametrize("typed", ["", "ftp://h", "h:x", "https://u:p@h", "h?x=1", "[::1"])
def test_bad_addresses(typed: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        split_address(typed, 1)
    assert caught.value.field == "server_addr"


def test_fingerprints_as_people_type_them() -> None:
    ours = tls.fingerprint_of(b"x")
    for typed in (
        ours,
        ours.lower(),
        ours.replace(":", ""),
        f"sha256:{ours}",
        f"SHA256 Fingerprint={ours}",
        f" {ours} ",
    ):
        assert tls.read_fingerprint(typed) == ours
    assert tls.read_fingerprint("  ") == ""
    for bad in ("abc", ours[:-1], "z" * 64):
        with pytest.raises(InvalidInput):
            tls.read_fingerprint(bad)
