"""Where an address leads, and what is said of one that leads nowhere."""

from __future__ import annotations

import pytest

from panel.engines.docker.address import Place, Way, read_context, read_place
from panel.engines.types import HostConnection, SshEndpoint
from panel.errors import InvalidInput


def place(address: str, user: str = "", secret: str = "", **options: str) -> Place:
    return read_place(HostConnection("h", address, user, secret, options=options))


@pytest.mark.parametrize(
    ("address", "way", "path", "host", "port"),
    [
        ("", Way.SOCKET, "/run/docker.sock", "", 0),
        (" /run/podman/podman.sock ", Way.SOCKET, "/run/podman/podman.sock", "", 0),
        ("unix:///var/run/docker.sock", Way.SOCKET, "/var/run/docker.sock", "", 0),
        ("tcp://box.example", Way.TLS, "", "box.example", 2376),
        ("https://192.0.2.7:99", Way.TLS, "", "192.0.2.7", 99),
        ("tcp://[2001:db8::7]:2376/", Way.TLS, "", "2001:db8::7", 2376),
        ("http://box", Way.PLAIN, "", "box", 2375),
    ],
)
def test_ways(address: str, way: Way, path: str, host: str, port: int) -> None:
    assert place(address) == Place(way, path, host, port)


def test_ipv6_has_brackets_in_its_url() -> None:
    assert place("tcp://[2001:db8::7]").base == "https://[2001:db8::7]:2376"
    assert place("http://box").base == "http://box:2375"


def test_ssh() -> None:
    assert place("box", "root", ssh_key_file="/k") == Place(
        Way.SSH, "/run/docker.sock", ssh=SshEndpoint("box", 0, "root", "/k")
    )
    found = place("ssh://me@box:2222/run/podman/podman.sock", "other", "pw")
    assert found.path == "/run/podman/podman.sock"
    assert found.ssh == SshEndpoint("box", 2222, "me", password="pw")
    assert "pw" not in repr(found)


@pytest.mark.parametrize(
    ("address", "field"),
    [
        ("ftp://x", "server_addr"),
        ("tcp://", "server_addr"),
        ("tcp://u@box", "server_addr"),
        ("tcp://box/path", "server_addr"),
        ("tcp://box:notaport", "server_addr"),
        ("ssh://u:pw@box", "server_addr"),
        ("ssh://box/a'b", "server_addr"),
        ("ssh://box/$(x)", "server_addr"),
        ("/run/a;b", "server_addr"),
        ("a b", "server_addr"),
        ("ssh://-oProxyCommand=x@box", "server_user"),
    ],
)
def test_what_is_no_address(address: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        place(address)
    assert caught.value.field == field


def test_a_folder_without_certificates(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for folder in (str(tmp_path), str(tmp_path / "none"), "relative"):
        with pytest.raises(InvalidInput) as caught:
            read_context(HostConnection("h", "tcp://box", options={"tls_folder": folder}))
        assert caught.value.field == "tls_folder"
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(InvalidInput):
        read_context(HostConnection("h", "tcp://box", options={"tls_folder": str(tmp_path)}))
