"""Forwards as Incus and LXD write them, and what they listen on, without a server that leads anywhere."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from panel.engines.hosttypes import NativeForward
from panel.engines.incus import listen
from panel.engines.incus.engine import IncusEngine
from panel.engines.incus.forwards import Forwards, expanded, written
from panel.engines.incus.listen import Listening, chosen, outside, read_listen, told, way_out
from panel.engines.types import HostConnection
from panel.errors import EngineFailure, InvalidInput

HERE, FORMER = "192.0.2.10", "192.0.2.9"


class Server:
    """Keeps forwards of one bridge as they are written; refuses ports that it is told to."""

    socket, base = "", "https://192.0.2.10:8443"

    def __init__(self, *refused: int) -> None:
        self.tables: dict[str, dict[str, Any]] = {}
        self.refused = {str(port) for port in refused}
        self.writes = 0
        self.addresses: list[str] = []

    async def get(self, path: str, _params: dict[str, str] | None = None) -> Any:
        if path == "/1.0":
            return {"environment": {"addresses": self.addresses}}
        if path == "/1.0/networks":
            config = {"ipv4.address": "10.9.0.1/24", "ipv6.address": "fd09::1/64"}
            return [
                {"name": "b/0", "type": "bridge", "managed": True, "config": config},
                {"name": "eth0", "type": "physical", "managed": False},
            ]
        assert path == "/1.0/networks/b%2F0/forwards"
        return [{"listen_address": address, **table} for address, table in self.tables.items()]

    async def send(self, method: str, path: str, json: dict[str, Any] | None = None) -> None:
        self.writes += 1
        if {port["listen_port"] for port in (json or {}).get("ports", ())} & self.refused:
            raise EngineFailure("It is in use.")
        address = path.removeprefix("/1.0/networks/b%2F0/forwards/").replace("%3A", ":")
        if method == "DELETE":
            del self.tables[address]
            return
        assert json is not None
        self.tables[json.pop("listen_address", address)] = json


def forwards(server: Server, address: str = HERE) -> Forwards:
    return Forwards(server, HostConnection("h", options={"forward_addr": address}))  # type: ignore[arg-type]


def wanted(port: int, mark: str = "7", target: int = 80, address: str = "10.9.0.5") -> NativeForward:
    return NativeForward("tcp", port, address, target, mark)


async def test_one_that_is_refused_holds_up_no_others() -> None:
    server = Server(1003, 1006)
    made = forwards(server)
    many = [wanted(port) for port in range(1000, 1010)]
    refused = await made.change((), many)
    assert {one.port for one in refused} == {1003, 1006}
    assert "in use" in str(refused[many[3]])
    assert set(await made.all()) == set(many) - refused.keys()
    moved = [wanted(1000, target=81), wanted(1003, target=81)]
    assert [one.port for one in await made.change(many[:1], moved)] == [1003]
    assert {one.target for one in await made.all() if one.port == 1000} == {("10.9.0.5", 81)}


async def test_what_is_there_is_not_written_again() -> None:
    server = Server()
    made = forwards(server)
    await made.change((), [wanted(1000), wanted(1001)])
    await made.change([wanted(2000)], [wanted(1000)])
    await made.change([wanted(1000, mark="8"), wanted(1000, target=81)], [])
    assert server.writes == 1


async def test_somebodys_own_is_kept_as_it_is() -> None:
    """A range, an address of which everything goes somewhere, settings that are not ours, keys that are not known."""
    server = Server()
    made = forwards(server)
    theirs = {"protocol": "udp", "listen_port": "53-54", "target_address": "10.9.0.9", "snat": True}
    server.tables[HERE] = {"description": "x", "config": {"user.a": "b"}, "ports": [theirs]}
    refused = await made.change((), [NativeForward("udp", 53, "10.9.0.5", 53, "7"), wanted(53)])
    assert [one.protocol for one in refused] == ["udp"]
    await made.change([wanted(53)], ())
    assert server.tables == {HERE: {"description": "x", "config": {"user.a": "b"}, "ports": [theirs]}}
    server.tables[HERE]["config"] = {"target_address": "10.9.0.9"}
    refused = await made.change((), [wanted(80)])
    assert "10.9.0.9" in str(refused[wanted(80)])


async def test_what_listens_on_a_former_address_is_told_and_removed() -> None:
    server = Server()
    await forwards(server, FORMER).change((), [wanted(1000)])
    server.tables[FORMER]["ports"].append({"protocol": "tcp", "listen_port": "22", "target_address": "10.9.0.9"})
    made = forwards(server)
    (stale,) = await made.all()
    assert (stale.port, stale.mark) == (1000, f"7@{FORMER}")
    assert await made.change([stale], [wanted(1000)]) == {}
    assert await made.all() == [wanted(1000)]
    assert [port["listen_port"] for port in server.tables[FORMER]["ports"]] == ["22"]


async def test_where_nothing_can_lead() -> None:
    made = forwards(Server())
    six, away = wanted(1000, address="fd09::5"), wanted(1001, address="10.8.0.5")
    refused = await made.change((), [six, away])
    assert "forward_addr" in str(refused[six])
    assert "10.8.0.5 is on no managed bridge" in str(refused[away])
    both = forwards(Server(), f"{HERE}, 2001:db8::10")
    assert await both.change((), [six]) == {}
    assert await both.all() == [six]


@pytest.mark.parametrize(
    ("listens", "targets", "ports"),
    [
        ("80", "8080", [(80, 8080)]),
        ("80", "", [(80, 80)]),
        ("80,90-91", "", [(80, 80), (90, 90), (91, 91)]),
        ("80-81", "8080-8081", [(80, 8080), (81, 8081)]),
        ("80-81", "8080", [(80, 8080), (81, 8080)]),
    ],
)
def test_rows(listens: str, targets: str, ports: list[tuple[int, int]]) -> None:
    row = {"description": "openidcs:7", "protocol": "tcp", "listen_port": listens, "target_port": targets,
           "target_address": "10.9.0.5"}  # fmt: skip
    seen = expanded(row)
    assert [(one.port, one.target_port) for one in seen] == ports
    assert {one.mark for one in seen} == ({"7"} if len(ports) == 1 else {""}), (
        "a row of many ports is not of our making"
    )
    assert all(expanded(written(one)) == [one] for one in seen)


@pytest.mark.parametrize(
    ("text", "found"),
    [("", {}), (HERE, {4: HERE}), ("2001:DB8::0:1", {6: "2001:db8::1"}), (f"{HERE} fd00::1", {4: HERE, 6: "fd00::1"})],
)
def test_the_operators_address(text: str, found: dict[int, str]) -> None:
    assert read_listen(text) == found


@pytest.mark.parametrize("text", ["host", "192.0.2.0/24", "127.0.0.1", "0.0.0.0", "fe80::1", f"{HERE},{FORMER}"])
def test_what_is_no_address_to_listen_on(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        IncusEngine(HostConnection("h", "/x.socket", options={"forward_addr": text}))
    assert caught.value.field == "forward_addr"


def test_the_hosts_address_is_the_one_by_which_it_is_reached() -> None:
    server = {"environment": {"addresses": ["10.9.0.1:8443", "192.0.2.9:8443", "192.0.2.10:8443", "[fd00::2]:8443"]}}
    bridges = [ip_interface("10.9.0.1/24")]
    assert chosen(told(server), [ip_address(HERE)], bridges) == {4: HERE, 6: "fd00::2"}
    assert chosen(told(server), [ip_address("203.0.113.1")], bridges) == {4: FORMER, 6: "fd00::2"}, "behind NAT"
    assert told({"environment": {"addresses": ["vps.example:8443", "[::1]:8443"]}}) == [ip_address("::1")]
    assert told({}) == []


@pytest.mark.parametrize(
    ("addresses", "found"),
    [(["192.0.2.9:8443", "192.0.2.10:8443"], HERE), (["vps.example:8443"], HERE), (["192.0.2.9:8443"], FORMER)],
)
async def test_what_the_host_says_of_itself(addresses: list[str], found: str) -> None:
    server = Server()
    server.addresses = addresses
    listening = Listening(server, "")  # type: ignore[arg-type]
    assert await listening.addresses([]) == {4: found}
    server.addresses = []
    assert await listening.addresses([]) == {4: found}, "kept for a minute"


async def test_a_host_on_this_machine_listens_where_it_goes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(outside(ip_address(address)) for address in way_out().values())
    monkeypatch.setattr(listen, "way_out", lambda: {4: HERE})
    near = Server()
    near.base = "https://localhost:8443"
    for server in (near, Server()):
        server.socket = "" if server is near else "/x.socket"
        assert await Listening(server, "").addresses([]) == {4: HERE}  # type: ignore[arg-type]


def test_ports_that_the_host_needs() -> None:
    made = IncusEngine(HostConnection("h", "192.0.2.1:9443", seed=b"s" * 32))
    assert made.forwards_reserved == {22, 8443, 9443}
    assert made.forwards_place == "192.0.2.1:9443"
    assert IncusEngine(HostConnection("h", "/x.socket")).forwards_place == "/x.socket"
