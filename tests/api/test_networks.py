"""Networks and pools over the API."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.kit import make_vm
from tests.conftest import ApiClient

PATH = "/api/server/network/host1"
POOL = {
    "subnet": "203.0.113.0/28",
    "gateway": "203.0.113.1",
    "dns": ["9.9.9.9"],
    "ranges": [["203.0.113.2", "203.0.113.9"]],
    "reserved": [["203.0.113.3", "203.0.113.4"]],
}


async def pools(api: ApiClient, network: str) -> list[dict[str, Any]]:
    listed = await api.ok("GET", PATH)
    found: list[dict[str, Any]] = next(item["pools"] for item in listed["networks"] if item["name"] == network)
    return found


async def test_a_pool(api: ApiClient, fake_host: str) -> None:
    await api.ok("POST", f"{PATH}/fake-bridge", POOL)
    nics = {"eth0": {"net_mode": "bridge"}}
    vm = await make_vm(api, nic_all=nics)
    assert vm["nic_all"]["eth0"]["ip4_addr"] == "203.0.113.2"
    (pool,) = await pools(api, "fake-bridge")
    assert {name: pool[name] for name in POOL} == POOL
    assert (pool["total_count"], pool["given_count"], pool["reserved_count"], pool["free_count"]) == (8, 1, 2, 5)
    assert pool["addresses"] == [{"ip_address": "203.0.113.2", "vm_uuid": "vm-1", "interface": "eth0", "seen": False}]
    status, answer = await api("DELETE", f"{PATH}/fake-bridge/{pool['id']}")
    assert (status, answer["data"]) == (409, {"field": "subnet"})
    assert "VM vm-1" in answer["msg"]
    held = await api.ok(
        "PUT", f"{PATH}/fake-bridge/{pool['id']}", POOL | {"reserved": [["203.0.113.2", "203.0.113.2"]]}
    )
    assert held["notes"] == ["203.0.113.2 is reserved now; VM vm-1 keeps it."]
    await api.ok("DELETE", "/api/client/ipaddr/delete/host1/vm-1/0")
    await api.ok("DELETE", f"{PATH}/fake-bridge/{pool['id']}")
    assert await pools(api, "fake-bridge") == []
    assert (await api("DELETE", f"{PATH}/fake-bridge/{pool['id']}"))[0] == 404


async def test_reserved(api: ApiClient, fake_host: str) -> None:
    span = [["192.168.1.2", "192.168.1.9"]]
    changed = await api.ok("PUT", f"{PATH}/fake-nat", {"reserved": span})
    network = next(item for item in changed["networks"] if item["name"] == "fake-nat")
    assert (network["reserved"], network["mode"], network["pools"][0]["id"]) == (span, "nat", None)
    assert (await make_vm(api))["nic_all"]["eth0"]["ip4_addr"] == "192.168.1.10"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", "/fake-bridge", {"subnet": "203.0.113.1/24"}, 400, "subnet"),
        ("POST", "/fake-bridge", {"subnet": "192.168.0.0/16"}, 409, "subnet"),
        ("POST", "/fake-bridge", POOL | {"ranges": [["203.0.113.2"]]}, 400, "ranges.0"),
        ("POST", "/fake-bridge", {}, 400, "subnet"),
        ("POST", "/fake-nat", POOL, 409, None),
        ("POST", "/nope", POOL, 404, None),
        ("PUT", "/fake-bridge", {"reserved": []}, 409, None),
        ("PUT", "/fake-nat", {"reserved": [["10.0.0.1", "10.0.0.1"]]}, 400, "reserved"),
        ("PUT", "/fake-bridge/x", POOL, 400, "pool_id"),
        ("PUT", "/fake-bridge/7", POOL, 404, None),
    ],
)
async def test_refused(
    api: ApiClient, fake_host: str, method: str, path: str, body: Any, status: int, field: str | None
) -> None:
    got, answer = await api(method, PATH + path, body)
    assert got == status, answer
    assert (answer["data"] or {}).get("field") == field


async def test_ipv6_is_larger_than_a_number(api: ApiClient, fake_host: str) -> None:
    await api.ok("POST", f"{PATH}/fake-bridge", {"subnet": "2001:db8::/64", "gateway": "fe80::1"})
    (pool,) = await pools(api, "fake-bridge")
    assert (pool["total_count"], pool["given_count"], pool["free_count"]) == (None, 0, None)
