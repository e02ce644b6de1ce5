"""A saved configuration: all of the network comes back, old files load, and what contradicts changes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from panel.engines.types import NicMode
from panel.errors import Conflict, InvalidInput, PanelError
from panel.gateways.types import Protocol
from panel.models import Address, AtLimit, Certificate, Forward, ForwardPort, Host, Network, Pool, Proxy, RuleState, Vm
from panel.services.container import Services
from panel.services.forwards import ForwardRequest
from panel.services.hosts import HostRequest
from tests.conftest import ADMIN
from tests.services.kit import make, until

KEY = "-----BEGIN PRIVATE KEY-----very secret"


@pytest.fixture
async def full(services: Services, fake_host: str) -> Vm:
    """A host whose VM has everything that a VM can have."""
    vm = await make(services)
    await make(services, "vm-2")
    await services.hosts.update(
        ADMIN, "host1",
        HostRequest(ports_start=30000, ports_close=30100, outside="vps.example", report_only=True, strict_reports=True,
                    at_limit=AtLimit.CUT, at_limit_mbit=7),
    )  # fmt: skip
    vm = await services.vms.get("host1", "vm-1")
    await services.forwards.add(ADMIN, vm, ForwardRequest(Protocol.TCP, 22, 30000, 20))
    await services.forwards.add(ADMIN, vm, ForwardRequest(Protocol.UDP, 53))
    network = await Network.get(host__name="host1", mode=NicMode.NAT)
    await Network.filter(id=network.id).update(reserved=[["192.168.1.200", "192.168.1.210"]])
    bridge = await Network.create(host_id=vm.host_id, name="br-test", mode=NicMode.BRIDGE, bridge="br-test")
    await Pool.create(
        network=bridge, subnet="203.0.113.0/24", gateway="203.0.113.1", dns=["203.0.113.2"],
        ranges=[["203.0.113.10", "203.0.113.20"]], reserved=[],
    )  # fmt: skip
    certificate = await Certificate.create(
        names=["a.example"], chain="PEM", private_key=services.box.seal(KEY), issuer="x",
        expires_at=datetime(2030, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    await Proxy.create(
        host_id=vm.host_id, vm_id=vm.id, domain="a.example", target_ip="192.168.1.2", target_port=80, ssl=True,
        certificate=certificate,
    )  # fmt: skip
    return vm


async def picture() -> dict[str, Any]:
    """What counts of the rows."""
    columns = ("ports_start", "ports_close", "outside", "report_only", "strict_reports", "at_limit", "at_limit_mbit")
    return {
        "hosts": await Host.all().values(*columns),
        "networks": await Network.all().order_by("name").values("name", "mode", "reserved"),
        "pools": await Pool.all().values("subnet", "gateway", "dns", "ranges", "reserved", "network__name"),
        "addresses": await Address.all().order_by("ip").values("ip", "nic__vm__name", "network__name"),
        "forwards": await Forward.all()
        .order_by("external_start", "protocol")
        .values("protocol", "external_start", "external_end", "internal_ip", "internal_start", "vm__name"),
        "ports": await ForwardPort.all().count(),
        "proxies": await Proxy.all().values(
            "domain", "target_ip", "target_port", "ssl", "certificate__chain", "vm__name"
        ),
    }


async def test_all_of_the_network_comes_back(services: Services, full: Vm) -> None:
    path = await services.configuration.save(ADMIN)
    assert "very secret" not in path.read_text()
    before = await picture()
    assert before["ports"] == 21
    assert len(before["addresses"]) >= 2
    await services.hosts.delete(ADMIN, "host1")
    await Certificate.all().delete()
    await services.configuration.load(ADMIN)
    assert await picture() == before
    row = await Certificate.get()
    assert services.box.unseal(row.private_key) == KEY

    async def applied() -> bool:
        return await Forward.filter(state=RuleState.APPLIED).count() == 2

    await until(applied)  # the gateway was woken
    ids = set(await Forward.all().values_list("id", flat=True))
    await services.configuration.load(ADMIN)
    assert await picture() == before, "a second time changes nothing"
    assert set(await Forward.all().values_list("id", flat=True)) == ids


async def test_files_of_before_load(services: Services, full: Vm) -> None:
    """Version 1 without the keys that came later: what it does not name stays as it is."""
    path = await services.configuration.save(ADMIN)
    saved = json.loads(path.read_text())
    del saved["certificates"]
    for host in saved["hosts"]:
        for key in ("networks", "ports_start", "ports_close", "outside", "report_only", "strict_reports", "at_limit",
                    "at_limit_mbit"):  # fmt: skip
            del host[key]
        for vm in host["vms"]:
            for key in ("addresses", "forwards", "proxies"):
                del vm[key]
    path.write_text(json.dumps(saved))
    before = await picture()
    await services.configuration.load(ADMIN)
    assert await picture() == before


def _vm(saved: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(vm for vm in saved["hosts"][0]["vms"] if vm["name"] == name)
    return found


def _moved(saved: dict[str, Any], key: str) -> None:
    """What vm-1 has of ``key`` is vm-2's in the file."""
    _vm(saved, "vm-2")[key] = _vm(saved, "vm-1")[key]
    _vm(saved, "vm-1")[key] = []


CONTRADICTIONS: dict[str, tuple[Any, type[PanelError], str]] = {
    "a port": (lambda saved: _moved(saved, "forwards"), Conflict, "tcp port 30000 to VM vm-2, but it leads to VM vm-1"),
    "an address": (lambda saved: _moved(saved, "addresses"), Conflict, "to VM vm-2, but VM vm-1 has it"),
    "a domain": (lambda saved: _moved(saved, "proxies"), Conflict, "a.example to VM vm-2, but VM vm-1 has it"),
    "a range": (lambda saved: saved["hosts"][0].update(ports_close=29000), InvalidInput, "ports_close"),
    "an outside": (lambda saved: saved["hosts"][0].update(outside="a b"), InvalidInput, "outside"),
    "a foreign address": (
        lambda saved: _vm(saved, "vm-1")["addresses"][0].update(ip="10.9.9.9"), InvalidInput, "10.9.9.9 of VM vm-1",
    ),
    "no network": (lambda saved: _vm(saved, "vm-1")["addresses"][0].update(network="x"), InvalidInput, "network"),
    "not a port": (lambda saved: _vm(saved, "vm-1")["forwards"][0].update(external_start=0), InvalidInput, "forwards"),
    "no certificate": (
        lambda saved: _vm(saved, "vm-1")["proxies"][0].update(certificate=1), InvalidInput, "not in the file",
    ),
    "an unsealed key": (lambda saved: saved["certificates"][0].update(private_key="x"), InvalidInput, "secret.key"),
    "not a domain": (lambda saved: _vm(saved, "vm-1")["proxies"][0].update(domain="x y"), InvalidInput, "domain"),
}  # fmt: skip


async def test_contradictions_change_nothing(services: Services, full: Vm) -> None:
    path: Path = await services.configuration.save(ADMIN)
    content = path.read_text()
    before = await picture()
    for name, (change, error, words) in CONTRADICTIONS.items():
        saved = json.loads(content)
        saved["hosts"][0]["at_limit_mbit"] = 99
        change(saved)
        path.write_text(json.dumps(saved))
        with pytest.raises(error) as told:
            await services.configuration.load(ADMIN)
        assert words in str(told.value), name
        assert await picture() == before, name
