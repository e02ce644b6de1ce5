"""SSRF: no URL, redirect or name server leads the panel to where it alone may go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest

from panel.errors import FetchFailed, InvalidInput, PanelError
from panel.services.checksums import Checksum, find_checksum, read_checksum
from panel.services.fetching import Fetcher, inner
from tests.services.fileserver import FileServer, file_server


@pytest.fixture
async def server() -> AsyncIterator[FileServer]:
    async with file_server() as made:
        yield made


async def fetched(fetcher: Fetcher, url: str, *, verified: bool = False) -> bytes:
    async with fetcher.open(url, "url", verified=verified) as answer:
        return b"".join([piece async for piece in answer.pieces(1024)])


class NameServer:
    """Gives the next of its answers each time it is asked."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, name: str, port: int) -> list[str]:
        self.asked.append(name)
        return self.answers.pop(0)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "127.1", "0x7f000001", "2130706433", "0.0.0.0", "[::ffff:127.0.0.1]", "[::]"],
)
async def test_loopback_by_any_name_is_refused(server: FileServer, host: str) -> None:
    server.file("/x", b"secret")
    with pytest.raises(PanelError, match=r"no public address|cannot be resolved|http"):
        await fetched(Fetcher(), server.url("/x", host))
    assert server.asked == []


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "172.16.9.9", "192.168.1.1", "169.254.169.254", "100.64.0.1", "fe80::1", "fd00::1", "fec0::1", "::1",
     "224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1",
     "192.0.2.1", "2001:db8::1", "0.0.0.0"],
)  # fmt: skip
async def test_a_name_that_leads_inside_is_refused(address: str) -> None:
    for found in ([address], ["93.184.216.34", address]):
        with pytest.raises(InvalidInput, match="images_networks"):
            await fetched(Fetcher(resolve=NameServer(found)), "https://images.example.com/x")


async def test_metadata_is_not_allowed_with_a_lab(server: FileServer) -> None:
    """What is allowed is the network that was named, and no other."""
    with pytest.raises(InvalidInput, match=r"169\.254\.169\.254"):
        await fetched(Fetcher("10.0.0.0/8, fd00::/8"), "http://169.254.169.254/latest/meta-data/")


async def test_an_allowed_network_is_asked_by_name(server: FileServer) -> None:
    server.file("/x", b"data")
    fetcher = Fetcher("127.0.0.0/8", NameServer(["127.0.0.1"]))
    assert await fetched(fetcher, server.url("/x", "lab.example.com")) == b"data"
    assert server.asked == [("/x", f"lab.example.com:{server.port}")]


async def test_rebinding(server: FileServer) -> None:
    """The name is asked for once: the second answer, which leads inside, is never heard."""
    server.file("/x", b"data")
    names = NameServer(["127.0.0.1"], ["10.0.0.1"])
    assert await fetched(Fetcher("127.0.0.1/32", names), server.url("/x", "rebind.example.com")) == b"data"
    assert names.asked == ["rebind.example.com"]


async def test_each_redirect_is_checked(server: FileServer) -> None:
    server.redirect("/ok", "/x")
    server.file("/x", b"data")
    server.redirect("/in", f"http://inside.example.com:{server.port}/x")
    allowed = "127.0.0.1/32"
    assert await fetched(Fetcher(allowed), server.url("/ok")) == b"data"
    names = NameServer(["127.0.0.1"], ["127.0.0.2"])
    with pytest.raises(InvalidInput, match=r"127\.0\.0\.2"):
        await fetched(Fetcher(allowed, names), server.url("/in", "outside.example.com"))
    for target in ("file:///etc/passwd", "gopher://127.0.0.1/", "//user:pw@127.0.0.1/x"):
        server.redirect("/odd", target)
        with pytest.raises(PanelError):
            await fetched(Fetcher(allowed), server.url("/odd"))
    server.redirect("/round", "/round")
    with pytest.raises(FetchFailed, match="more than 5 times"):
        await fetched(Fetcher(allowed), server.url("/round"))


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://example.com/x", "file:///etc/passwd", "http://", "https://a:b@example.com/x", "http://[x/", "javascript:1",
     "http://example.com:99999/", "http://" + "a" * 3000],
)  # fmt: skip
async def test_what_is_no_url(url: str) -> None:
    with pytest.raises(InvalidInput):
        await fetched(Fetcher(), url)


async def test_answers_that_are_none(server: FileServer) -> None:
    fetcher = Fetcher("127.0.0.1/32")
    with pytest.raises(FetchFailed, match="404"):
        await fetched(fetcher, server.url("/nothing"))
    server.file("/short", b"half", length=100)
    with pytest.raises(FetchFailed, match="broke off"):
        await fetched(fetcher, server.url("/short"))
    server.file("/packed", b"\x1f\x8b", headers="Content-Encoding: gzip\r\n")
    with pytest.raises(FetchFailed, match="compressed"):
        await fetched(fetcher, server.url("/packed"))
    with pytest.raises(FetchFailed, match="cannot be reached"):
        await fetched(fetcher, "http://127.0.0.1:1/x")
    server.file("/long", b"x" * 5000)
    async with fetcher.open(server.url("/long"), "url", verified=False) as answer:
        with pytest.raises(FetchFailed, match="more than 4000 bytes"):
            await answer.text(4000)


def test_inner() -> None:
    assert str(inner(ip_address("2001:0:4136:e378:8000:63bf:3fff:fdd2"))) == "192.0.2.45"
    assert str(inner(ip_address("2606:2800:220:1::1"))) == "2606:2800:220:1::1"


A, B = "a" * 64, "b" * 128


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{A}  disk.qcow2\n{'c' * 64}  other.qcow2\n", A),
        (f"{A} *disk.qcow2", A),
        (f"# disk.qcow2: 12 bytes\nSHA256 (disk.qcow2) = {A}\nSHA256 (other) = {'c' * 64}", A),
        (f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSHA256 (images/disk.qcow2) = {A.upper()}\n", A),
        (f"{A}  disk.qcow2\n{B}  disk.qcow2", B),
        (B + "\n", B),
        (f"{A}  disk-Build12.34.qcow2\n", A),  # the only one
    ],
)
def test_published_checksums(text: str, found: str) -> None:
    assert find_checksum(text, "disk.qcow2", "checksum_url").digest == found


@pytest.mark.parametrize("text", ["", "<html>", f"{A}  one\n{A}  two\n", f"{'d' * 40}  disk.qcow2"])
def test_checksum_files_without_it(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"disk\.qcow2"):
        find_checksum(text, "disk.qcow2", "checksum_url")


def test_typed_checksums() -> None:
    assert read_checksum(" SHA256: " + A.upper(), "checksum") == Checksum("sha256", A)
    assert read_checksum(B, "checksum") == Checksum("sha512", B)
    assert read_checksum("  ", "checksum") is None
    for text in ("x", "g" * 64, "a" * 40, "md5:" + "a" * 32):
        with pytest.raises(InvalidInput, match="64 or 128"):
            read_checksum(text, "checksum")
