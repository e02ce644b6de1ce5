"""The engine's parts without a daemon: networks and their addresses, marks, limits, counters, images, frames."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from panel.engines.docker.create import read_command, read_policy
from panel.engines.docker.engine import DockerEngine, read_seconds
from panel.engines.docker.guest import check_login
from panel.engines.docker.images import percent_of, read_offered
from panel.engines.docker.limits import host_config, limits_of
from panel.engines.docker.marks import Kind, Mark, Note, at, check_title, mark_of
from panel.engines.docker.networks import (
    bridge_name,
    check_addresses,
    endpoints,
    free_subnet,
    gateway,
    reserved,
    routes,
    subnets,
)
from panel.engines.docker.ports import _parsed
from panel.engines.docker.run import unframed
from panel.engines.docker.stats import counters
from panel.engines.docker.view import short_name, volumes
from panel.engines.types import HostConnection
from panel.errors import InvalidInput

NET: dict[str, Any] = {"Name": "net", "IPAM": {"Config": [{"Subnet": "10.78.4.0/24", "Gateway": "10.78.4.1"}]}}
MAC = "52:54:00:00:00:01"


def row(state: str, address: str = "", *, mark: Mark | None = None, fixed: str = "") -> dict[str, Any]:
    """A line of Docker's list."""
    settings = {"IPAddress": address, "MacAddress": MAC if address else "", "IPAMConfig": {"IPv4Address": fixed}}
    return {"Id": "a" * 64, "Names": ["/box"], "State": state, "Labels": mark.labels() if mark else None,
            "NetworkSettings": {"Networks": {"net": settings}}}  # fmt: skip


def note(kind: Kind, value: Any, number: int = 1) -> dict[tuple[Kind, str], Note]:
    return {(kind, at("net", MAC)): Note(kind, at("net", MAC), number, value, "v")}


def test_subnets_of_daemons_of_one_machine() -> None:
    first, second = free_subnet("docker", []), free_subnet("podman", [])
    assert first != second
    assert free_subnet("docker", [first]) not in {first}
    assert free_subnet("docker", [IPv4Network("0.0.0.0/0")]) == first, "the way to everywhere is no network"
    assert bridge_name("docker") != bridge_name("podman")
    assert len(bridge_name("x" * 200)) <= 15
    with pytest.raises(Exception, match="No free network"):
        free_subnet("docker", [IPv4Network("10.78.0.0/16")])


def test_a_networks_subnet_and_gateway() -> None:
    assert subnets(NET) == [IPv4Network("10.78.4.0/24")]
    assert gateway(NET) == gateway({"IPAM": {"Config": [{"Subnet": "10.78.4.0/24"}]}}) == "10.78.4.1"
    assert subnets({"IPAM": {"Config": None}}) == subnets({"IPAM": {"Config": [{"Subnet": "fd00::/64"}]}}) == []
    text = "Iface Destination Gateway Flags RefCnt Use Metric Mask\neth0 0004A8C0 0 1 0 0 0 00FFFFFF 0 0 0\n"
    assert routes(text) == [IPv4Network("192.168.4.0/24")]


@pytest.mark.parametrize("address", ["10.78.5.2", "10.78.4.0", "10.78.4.255", "10.78.4.1", "x", "fd00::1"])
def test_addresses_that_are_not_of_the_network(address: str) -> None:
    with pytest.raises(InvalidInput):
        check_addresses(NET, (address,))
    check_addresses(NET, ("10.78.4.9",))


def test_whose_address_it_is() -> None:
    """What runs has what it has; what does not has what is noted, fixed, or was asked for, in this order."""
    mark = Mark("r", "t", (("eth0", "net", "nat", MAC, "10.78.4.2"),))

    def address(line: dict[str, Any], notes: dict[tuple[Kind, str], Note] | None = None) -> tuple[str, str]:
        (one,) = endpoints([line], notes or {}, "net")
        return one.mac, one.address

    assert address(row("running", "10.78.4.7", mark=mark), note(Kind.RESERVED, ["10.78.4.9"])) == (MAC, "10.78.4.7")
    assert address(row("exited", mark=mark, fixed="10.78.4.3"), note(Kind.LEASED, ["10.78.4.9"])) == (MAC, "10.78.4.9")
    assert address(row("exited", mark=mark, fixed="10.78.4.3")) == (MAC, "10.78.4.3")
    assert address(row("exited", mark=mark)) == (MAC, "10.78.4.2")
    assert endpoints([row("exited", mark=mark)], {}, "other") == []
    assert reserved(note(Kind.RESERVED, ["10.78.4.9"]), "net") == [(MAC, "10.78.4.9")]
    assert reserved(note(Kind.RESERVED, ["10.78.4.9"]), "other") == []


def test_marks_survive_labels() -> None:
    mark = Mark("r", "名 \"<'", (("eth0", "net", "nat", MAC, ""),))
    assert mark_of(mark.labels()) == mark
    assert mark_of(None) is mark_of({}) is mark_of({"openidcs.ref": ""}) is None
    assert mark_of({"openidcs.ref": "r", "openidcs.nics": "[[1]]"}) == Mark("r", "")


@pytest.mark.parametrize("title", ["a\nb", "a\0b", "a\x1bb", "a\ud800b", "x" * 201])
def test_titles_that_labels_do_not_keep(title: str) -> None:
    with pytest.raises(InvalidInput):
        check_title(title)


def test_limits() -> None:
    info = {"NCPU": 8, "MemTotal": 16 * 1024**3}
    made = {"HostConfig": host_config(2, 256)}
    assert limits_of(made, None, info) == (2, 256)
    assert limits_of({"HostConfig": {"CpuQuota": 150_000, "CpuPeriod": 100_000}}, None, info) == (2, 16384)
    assert limits_of({}, None, info) == (8, 16384)
    noted = Note(Kind.LIMITS, "r", 1, {"cpu": 3, "memory": 512}, "v")
    assert limits_of(made, noted, info) == (3, 512)


def test_counters_of_both_daemons() -> None:
    docker = {
        "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}},
        "memory_stats": {"usage": 10 * 1024**2, "stats": {"total_inactive_file": 4 * 1024**2}},
        "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 5}, {"op": "write", "value": 7}]},
        "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
    }
    assert counters(docker) == {"cpu": 2.5, "memory": 6.0, "read": 5, "write": 7, "rx": 11, "tx": 22}
    empty = {"blkio_stats": {"io_service_bytes_recursive": None}, "memory_stats": {}, "networks": None}
    assert counters(empty) == {"cpu": 0.0, "memory": 0.0, "read": 0, "write": 0, "rx": 0, "tx": 0}


def test_offered_images() -> None:
    assert read_offered("debian:12, alpine\nregistry.example:5000/a/b, alpine:latest") == (
        "debian:12", "alpine:latest", "registry.example:5000/a/b:latest",
    )  # fmt: skip
    for text in ("UPPER", "a b;c", "../x", "a:b:c"):
        with pytest.raises(InvalidInput) as caught:
            read_offered(text)
        assert caught.value.field == "images"
    assert short_name("docker.io/library/debian:12") == "debian:12"
    assert short_name("docker.io/team/app:1") == "team/app:1"
    assert (percent_of({}), percent_of({"a": (5, 10)}), percent_of({"a": (10, 10)})) == (5, 32, 60)


def test_frames() -> None:
    assert unframed(b"\1\0\0\0\0\0\0\2ab\2\0\0\0\0\0\0\1c") == b"abc"
    assert unframed(b"OCI runtime exec failed") == b"OCI runtime exec failed"
    assert unframed(b"\1\0\0\0\0\0\0\5ab") == b"ab", "cut in the middle"


def test_ports_of_another_machine() -> None:
    text = f"{MAC} vethabc\n00:00:00:00:00:00 lo\nodd\n52:54:00:00:00:02 bad;name\n"
    assert _parsed(text) == {MAC: "vethabc"}


def test_volumes_are_shown() -> None:
    mounts = [{"Type": "volume", "Name": "data", "Source": "/x", "Destination": "/srv"},
              {"Type": "bind", "Source": "/home", "Destination": "/h"}]  # fmt: skip
    assert [(disk.name, disk.source, disk.ours) for disk in volumes({"Mounts": mounts})] == [
        ("/srv", "data", False), ("/h", "/home", False),
    ]  # fmt: skip


@pytest.mark.parametrize(("user", "password"), [("a:b", "x"), ("", "x"), ("root", "a\nb"), ("root", "")])
def test_logins_that_no_guest_takes(user: str, password: str) -> None:
    with pytest.raises(InvalidInput):
        check_login(user, password)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"restart_policy": "sometimes"}, "restart_policy"),
        ({"command": "a 'b"}, "command"),
        ({"shutdown_timeout": "soon"}, "shutdown_timeout"),
        ({"images": "!"}, "images"),
    ],
)
def test_settings_that_are_wrong(options: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        DockerEngine(HostConnection("h", options=options))
    assert caught.value.field == field


def test_settings_that_are_right() -> None:
    assert read_command("sh -c 'sleep 1'") == ("sh", "-c", "sleep 1")
    assert read_policy("no") == "no"
    assert read_seconds("0.5") == 0.5
