"""Why a libvirt over TLS is not reached, in our words: against a server that greets as libvirtd does. Real ones are asked in
``tests/live/test_tls_on_libvirt.py``."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from panel.engines.libvirt import tls
from panel.engines.libvirt.client import Client
from panel.engines.libvirt.pki import checked_files
from panel.errors import HostUnreachable
from tests.certs import Made, key_pem
from tests.pki import COMING, ENDED, Authority, write
from tests.process import free_port

NOBODY = 65534
AUTHORITY = Authority.new("Our authority")
OTHER = Authority.new("Another authority")


class Greeter:
    """TLS on loopback: shows a certificate, takes clients of an authority, and says the byte that libvirtd says to those."""

    def __init__(self, folder: Path, own: Made, trusts: Made = AUTHORITY.own) -> None:
        write(folder, trusts, own, "server")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "servercert.pem", folder / "serverkey.pem")
        self._context.load_verify_locations(folder / "cacert.pem")
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with plain, contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as secured:
                secured.sendall(b"\x01")
                secured.recv(1)

    def __enter__(self) -> Greeter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A client's folder in which all is right."""
    return write(tmp_path / "client", AUTHORITY.own, AUTHORITY.client("Panel of Ours"))


def way(folder: Path, port: int) -> tls.Way:
    made = tls.way_of(f"qemu+tls://127.0.0.1:{port}/system?pkipath={folder}", "far")
    assert made is not None
    return made


def told(folder: Path, port: int, *, login: bool = False) -> str:
    error = tls.explain(way(folder, port), login=login)
    assert error is None or error.field == "server_addr"
    return str(error) if error else ""


def test_ways() -> None:
    plain = tls.way_of("qemu+tcp://a.example/system", "far")
    assert plain == tls.Way("far", "a.example", 16509, None)
    secured = tls.way_of("qemu+tls://[fd00::1]:17000/system?no_tty=1&pkipath=/etc/own%20pki+more", "far")
    assert secured is not None
    assert (secured.address, secured.port) == ("fd00::1", 17000)
    assert secured.files is not None
    assert secured.files.key == Path("/etc/own pki+more/clientkey.pem")
    for other in ("qemu:///system", "qemu+ssh://a.example/system", "test:///default"):
        assert tls.way_of(other, "far") is None


def test_whose_files_without_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As libvirt looks: root only in ``/etc/pki``; others at home too, for the authority and for the pair."""
    monkeypatch.setenv("HOME", str(tmp_path))
    own = write(tmp_path / ".pki/libvirt", AUTHORITY.own, AUTHORITY.client())
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert tls.files_of("").certificate == Path("/etc/pki/libvirt/clientcert.pem")
    assert tls.files_of("").key == Path("/etc/pki/libvirt/private/clientkey.pem")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert tls.files_of("").authority == own / "cacert.pem"
    assert tls.files_of("").key == own / "clientkey.pem"
    (own / "clientkey.pem").unlink()
    assert tls.files_of("").certificate == Path("/etc/pki/libvirt/clientcert.pem")


def test_all_is_right(folder: Path, tmp_path: Path) -> None:
    with Greeter(tmp_path / "server", AUTHORITY.server("127.0.0.1")) as server:
        tls.knock(way(folder, server.port))
        assert told(folder, server.port) == "", "nothing is made up"
        assert "(SASL) after TLS" in told(folder, server.port, login=True)
    plain = tls.way_of("qemu+tcp://127.0.0.1/system", "far")
    assert plain is not None
    assert tls.explain(plain, login=False) is None
    assert "auth_tcp" in str(tls.explain(plain, login=True))


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (AUTHORITY.server("127.0.0.1", days=ENDED), "far was good until 20"),
        (AUTHORITY.server("127.0.0.1", days=COMING), "far is good from 20"),
        (AUTHORITY.server("a.example", "10.0.0.1"), "is for a.example, 10.0.0.1, not for 127.0.0.1"),
        (OTHER.server("127.0.0.1"), "was signed by CN=Another authority, and the authority in "),
    ],
    ids=["ended", "coming", "another name", "another authority"],
)
def test_a_host_that_is_not_trusted(folder: Path, tmp_path: Path, own: Made, words: str) -> None:
    with Greeter(tmp_path / "server", own) as server:
        tls.knock(way(folder, server.port))  # whether it is trusted is not asked
        assert words in told(folder, server.port)


def test_a_host_that_refuses_us(folder: Path, tmp_path: Path) -> None:
    with Greeter(tmp_path / "server", AUTHORITY.server("127.0.0.1"), trusts=OTHER.own) as server:
        assert "refuses the panel's certificate (CN=Panel of Ours)" in told(folder, server.port)
        bare = write(tmp_path / "bare", AUTHORITY.own, None)
        assert f"there is no {bare}/clientcert.pem" in told(bare, server.port)


def test_a_silent_port(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "KNOCK_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(HostUnreachable, match="answers nothing to TLS") as caught:
            tls.knock(way(folder, port))
        assert (time.monotonic() - began < 4.5, caught.value.field) == (True, "server_addr")


@pytest.mark.parametrize(("kind", "words"), [("tls", "answers nothing to TLS"), ("tcp", "answers nothing. Check")])
async def test_a_silent_port_leaves_no_call_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    """However often it is tried: libvirt was never asked, so none of its calls hangs."""
    monkeypatch.setattr(tls, "KNOCK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = Client(f"qemu+{kind}://127.0.0.1:{server.getsockname()[1]}/system?pkipath={folder}", "far")
        for _ in range(6):
            with pytest.raises(HostUnreachable, match=words):
                await client.call(lambda conn: conn.isAlive())
        await client.close()


@pytest.mark.parametrize("words", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_a_port_of_something_else(folder: Path, words: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                plain, _ = server.accept()
                with plain, contextlib.suppress(OSError):
                    plain.sendall(words)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = server.getsockname()[1]
        tls.knock(way(folder, port))
        assert "does not speak TLS" in told(folder, port)
        thread.join(timeout=10)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("qemu+tls://127.0.0.1:{port}/system", "listen for TLS there"),
        ("qemu+tcp://127.0.0.1:{port}/system", "listen_tcp"),
        ("qemu+tls://nobody.invalid/system", "nobody knows the name nobody.invalid"),
    ],
)
def test_nobody_is_there(uri: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "KNOCK_SECONDS", 0.5)
    found = tls.way_of(uri.format(port=free_port()), "far")
    assert found is not None
    with pytest.raises(HostUnreachable, match=words) as caught:
        tls.knock(found)
    assert caught.value.field == "server_addr"


def test_packets_that_nobody_answers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that is full: the kernel drops what comes, as a firewall does."""
    monkeypatch.setattr(tls, "KNOCK_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as waiting:
        for _ in range(3):
            before = waiting.enter_context(socket.socket())
            before.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                before.connect(server.getsockname())
        with pytest.raises(HostUnreachable, match="does not answer on port") as caught:
            tls.knock(way(folder, server.getsockname()[1]))
        assert caught.value.field == "server_addr"


def remove(*names: str) -> object:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def put(name: str, text: str) -> object:
    return lambda folder: (folder / name).write_text(text)


def of(own: Made) -> object:
    return lambda folder: write(folder, None, own)


ENDED_AUTHORITY = Authority.new("Old authority", days=ENDED)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: folder.rename(folder.with_name("away")), "There is no folder {folder} on the panel's machine"),
        (remove("cacert.pem"), "There is no {folder}/cacert.pem on the panel's machine"),
        (remove("clientkey.pem"), "There is no {folder}/clientkey.pem on the panel's machine"),
        (remove("clientcert.pem"), "There is no {folder}/clientcert.pem on the panel's machine"),
        (put("cacert.pem", "x"), "{folder}/cacert.pem on the panel's machine holds no certificate"),
        (put("clientcert.pem", "hidden words"), "{folder}/clientcert.pem on the panel's machine holds no certificate"),
        (put("clientkey.pem", "hidden words"), "{folder}/clientkey.pem on the panel's machine holds no private key"),
        (put("clientkey.pem", key_pem(AUTHORITY.client().key, "pw")), "without a password"),
        (put("clientkey.pem", AUTHORITY.client().key_pem), "clientkey.pem on the panel's machine is not that of the cert"),
        (of(AUTHORITY.client(days=ENDED)), "{folder}/clientcert.pem on the panel's machine was good until 20"),
        (of(AUTHORITY.client(days=COMING)), "{folder}/clientcert.pem on the panel's machine is good from 20"),
        (of(OTHER.client()), "was signed by CN=Another authority, not by the authority in {folder}/cacert.pem"),
        (put("cacert.pem", ENDED_AUTHORITY.own.pem), "{folder}/cacert.pem on the panel's machine was good until 20"),
        (remove("clientcert.pem", "clientkey.pem"), ""),
        (lambda folder: None, ""),
    ],
    ids=lambda given: given if isinstance(given, str) else None,
)  # fmt: skip
def test_what_is_wrong_with_our_files(folder: Path, change, words: str) -> None:  # type: ignore[no-untyped-def]
    change(folder)
    error = checked_files(tls.files_of(str(folder)), "far")
    if not words:
        assert error is None
        return
    assert error is not None
    assert words.format(folder=folder) in str(error)
    assert error.field == "server_addr"
    assert "far" in str(error)
    assert "hidden" not in str(error)


def test_files_that_the_panel_may_not_read(folder: Path) -> None:
    """By a user who is not root, where we can be one."""
    key = folder / "clientkey.pem"
    key.chmod(0o400 if os.geteuid() == 0 else 0)
    for above in (folder, *folder.parents):
        if above.stat().st_mode & 0o055 != 0o055:
            above.chmod(above.stat().st_mode | 0o055)
    with as_nobody():
        error = checked_files(tls.files_of(str(folder)), "far")
    assert error is not None
    assert f"cannot read {key}, which host far is reached with: Permission denied" in str(error)
    folder.chmod(0o700 if os.geteuid() == 0 else 0)
    try:
        with as_nobody():
            error = checked_files(tls.files_of(str(folder)), "far")
    finally:
        folder.chmod(0o700)
    assert f"cannot read {folder}/cacert.pem" in str(error)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Files are opened as a user who owns none of them. Who is not root takes away his own rights instead."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
