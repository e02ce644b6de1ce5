"""Addresses and forwards over the API, with the document's own examples."""

from __future__ import annotations

import pytest

from panel.engines.fake.world import world
from panel.errors import EngineFailure
from panel.gateways.memory import MemoryGateway
from panel.services.container import Services
from tests.api import examples
from tests.api.examples import ROUTES
from tests.api.kit import make_vm
from tests.conftest import ApiClient

BODIES = {
    route.path.split("/")[3] + route.method: route.body for route in ROUTES if route.path.startswith("/api/client")
}
NAT, ADDRESS = BODIES["nataddPOST"] or {}, BODIES["ipaddrPOST"] or {}


@pytest.fixture
async def vm(api: ApiClient, fake_host: str) -> None:
    """The document's VM, with the address that it asks for."""
    await api.ok("POST", "/api/client/create/host1?wait=5", examples.VM)


async def test_the_documents_examples(api: ApiClient, vm: None) -> None:
    shown = await api.ok("GET", "/api/client/detail/host1/vm-001")
    assert shown["nic_all"]["eth0"]["ip4_addr"] == "192.168.1.100"
    rule = await api.ok("POST", "/api/client/natadd/host1/vm-001", NAT)
    assert {name: rule[name] for name in NAT} == NAT
    assert (rule["rule_index"], rule["state"], rule["problem"]) == (0, "applied", None)
    listed = await api.ok("GET", "/api/client/natget/host1/vm-001")
    assert listed["rules"] == [rule]
    assert (listed["ports_start"], listed["ports_close"], listed["reason"]) == (20000, 29999, None)
    assert listed["way"] == "imaginary"
    assert await api.ok("DELETE", "/api/client/natdel/host1/vm-001/0") == {"id": rule["id"], "problem": None}

    added = await api.ok("POST", "/api/client/ipaddr/create/host1/vm-001", ADDRESS)
    assert {name: added[name] for name in ADDRESS} == ADDRESS
    assert (added["ip_index"], added["by_dhcp"], added["seen"]) == (1, False, False)
    detail = await api.ok("GET", "/api/client/ipaddr/detail/host1/vm-001")
    assert [row["ip_address"] for row in detail["addresses"]] == ["192.168.1.100", "192.168.1.101"]
    assert detail["seen"][0]["interface"] == "eth0"
    assert (await api.ok("DELETE", "/api/client/ipaddr/delete/host1/vm-001/1"))["ip_address"] == "192.168.1.101"


async def test_ranges_and_allocation(api: ApiClient, vm: None) -> None:
    path = "/api/client/natadd/host1/vm-001"
    block = await api.ok("POST", path, {"internal_port": 22, "count": 20})
    assert (block["external_port"], block["external_end"], block["internal_end"]) == (20000, 20019, 41)
    ranged = await api.ok("POST", path, {"external_port": 5000, "external_end": 5009, "internal_port": 5000})
    assert (ranged["internal_port"], ranged["internal_end"], ranged["internal_ip"]) == (5000, 5009, "192.168.1.100")
    for body, code, field in (
        ({"internal_port": 80, "external_port": 5005}, 409, "external_port"),
        ({"internal_port": 80, "external_port": 1880}, 409, "external_port"),
        ({"internal_port": 80, "external_port": 9, "external_end": 8}, 400, "external_end"),
        ({"internal_port": 80, "external_port": 9, "external_end": 10, "count": 3}, 400, "count"),
        ({"internal_port": 80, "internal_ip": "192.168.1.7"}, 400, "internal_ip"),
        ({"internal_port": 0}, 400, "internal_port"),
        ({"internal_port": "80"}, 400, "internal_port"),
        ({}, 400, "internal_port"),
        ({"internal_port": 80, "protocol": "icmp"}, 400, "protocol"),
    ):
        status, answer = await api("POST", path, body)
        assert (status, answer["data"]) == (code, {"field": field}), body


async def test_nobody_deletes_the_wrong_one(api: ApiClient, vm: None) -> None:
    rules = [await api.ok("POST", "/api/client/natadd/host1/vm-001", {"internal_port": port}) for port in (1, 2)]
    status, _answer = await api("DELETE", f"/api/client/natdel/host1/vm-001/0?id={rules[1]['id']}")
    assert status == 409
    assert (await api("DELETE", "/api/client/natdel/host1/vm-001/2"))[0] == 404
    assert (await api("DELETE", "/api/client/natdel/host1/vm-001/x"))[0] == 400
    await api.ok("DELETE", f"/api/client/natdel/host1/vm-001/1?id={rules[1]['id']}")
    assert (await api("DELETE", "/api/client/ipaddr/delete/host1/vm-001/1"))[0] == 404


@pytest.mark.parametrize(
    ("ip", "code", "says"),
    [
        ("192.168.1.100", 409, "vm-001"),
        ("192.168.1.1", 409, "gateway"),
        ("10.0.0.9", 400, "192.168.1.0/24"),
        ("fd00::1", 400, "IPv6"),
        ("nonsense", 400, "IPv4 or IPv6"),
    ],
)
async def test_addresses_that_cannot_be(api: ApiClient, vm: None, ip: str, code: int, says: str) -> None:
    status, answer = await api(
        "POST", "/api/client/ipaddr/create/host1/vm-001", {"interface": "eth0", "ip_address": ip}
    )
    assert (status, answer["data"]) == (code, {"field": "ip_address"})
    assert says in answer["msg"]
    nics = {"eth0": {"net_mode": "nat", "ip4_addr": ip}}
    if "fd00" not in ip:
        status, answer = await api(
            "POST",
            "/api/client/create/host1",
            {"vm_uuid": "vm-2", "cpu_num": 1, "ram_num": 64, "hdd_num": 1, "nic_all": nics},
        )
        assert (status, answer["data"]) == (code, {"field": "nic_all.eth0.ip4_addr"})


async def test_a_gateway_that_fails(api: ApiClient, vm: None, services: Services) -> None:
    _machine, gateway = services.gateways.of(await services.hosts.get("host1"))
    assert isinstance(gateway, MemoryGateway)
    gateway.failure = EngineFailure("nft broke.")
    rule = await api.ok("POST", "/api/client/natadd/host1/vm-001", {"internal_port": 80})
    assert (rule["state"], rule["problem"], rule["applied_at"]) == ("failed", "nft broke.", None)


async def test_the_range_of_a_host(api: ApiClient, vm: None) -> None:
    for body, field in (
        ({"ports_start": 0}, "ports_start"),
        ({"ports_close": 70000}, "ports_close"),
        ({"ports_start": 50, "ports_close": 49}, "ports_close"),
    ):
        status, answer = await api("PUT", "/api/server/update/host1", body)
        assert (status, answer["data"]) == (400, {"field": field})
    host = await api.ok("PUT", "/api/server/update/host1", {"ports_start": 40000, "ports_close": 40001})
    assert (host["ports_start"], host["ports_close"]) == (40000, 40001)
    rule = await api.ok("POST", "/api/client/natadd/host1/vm-001", {"internal_port": 80, "external_port": 0})
    assert rule["external_port"] == 40000


async def test_delete_gives_everything_back(api: ApiClient, vm: None) -> None:
    await api.ok("POST", "/api/client/natadd/host1/vm-001", NAT)
    await api.ok("DELETE", "/api/client/delete/host1/vm-001")
    assert world("world1").network.reservations == {}
    await make_vm(api, "vm-2", nic_all={"eth0": {"net_mode": "nat", "ip4_addr": "192.168.1.100"}})
    assert (await api.ok("POST", "/api/client/natadd/host1/vm-2", NAT))["state"] == "applied"
