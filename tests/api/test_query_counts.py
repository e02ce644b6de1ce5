"""Lists of the API, and rounds of observation, cost as many queries for a hundred VMs as for one."""

from __future__ import annotations

import time

import pytest
from tortoise.backends.sqlite.client import SqliteClient

from panel.engines.types import NicObservation, PowerState, VmObservation
from panel.events import EventBus
from panel.models import Host, Nic, Vm
from panel.services.observations import Observations
from tests.conftest import ApiClient

MANY = 100


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queries, as they are sent."""
    found: list[str] = []
    for name in ("execute_query", "execute_query_dict", "execute_many"):
        original = getattr(SqliteClient, name)

        async def counting(self: SqliteClient, query: str, *args: object, _original: object = original) -> object:
            found.append(query)
            return await _original(self, query, *args)  # type: ignore[operator]

        monkeypatch.setattr(SqliteClient, name, counting)
    return found


async def host_with(name: str, vms: int) -> Host:
    """A host that nobody observes, with VMs that have one interface each."""
    host = await Host.create(name=name, engine="fake", enabled=False)
    rows = [Vm(host=host, name=f"v{n}", ref=f"r{n}", cpu_count=1, memory_mib=1) for n in range(vms)]
    await Vm.bulk_create(rows)
    ids = await Vm.filter(host_id=host.id).order_by("id").values_list("id", flat=True)
    await Nic.bulk_create([Nic(vm_id=vm_id, name="eth0", mac=mac(n)) for n, vm_id in enumerate(ids)])
    return host


def mac(number: int) -> str:
    return f"52:54:00:00:00:{number:02x}"


@pytest.mark.parametrize(
    ("path", "most"), [("/api/client/detail/few", 9), ("/api/client/detail/many", 9), ("/api/system/statis", 8)]
)
async def test_lists(api: ApiClient, asked: list[str], path: str, most: int) -> None:
    await host_with("few", 1)
    await host_with("many", MANY)
    counts = []
    for _again in range(3):  # what the panel does in the background must not count
        asked.clear()
        await api.ok("GET", path)
        counts.append(len(asked))
    assert min(counts) <= most, asked


async def test_a_round(api: ApiClient, asked: list[str]) -> None:
    """Also the round that finds every VM changed; and one that finds nothing new writes no row but when they were seen."""
    observations = Observations(EventBus())
    host = await host_with("many", MANY)
    seen = [
        VmObservation(f"r{n}", f"v{n}", "", PowerState.STOPPED, 2, 1024, nics=(NicObservation("eth0", mac(n), None),))
        for n in range(MANY)
    ]
    for written in (True, False):
        asked.clear()
        await observations.apply_round(host, seen, time.monotonic())
        assert len(ours(asked)) <= 6, asked
        assert any("cpu_count" in query for query in ours(asked) if query.startswith("UPDATE")) is written
    assert await Vm.filter(host_id=host.id, state=PowerState.STOPPED, cpu_count=2).count() == MANY


async def test_a_round_that_finds_new_addresses_everywhere(api: ApiClient, asked: list[str]) -> None:
    host = await host_with("many", MANY)
    seen = [
        VmObservation(
            f"r{n}", f"v{n}", "", PowerState.STOPPED, 2, 1024,
            nics=(NicObservation("eth0", mac(n), None, addresses=(f"10.0.0.{n}",)),),
        )
        for n in range(MANY)
    ]  # fmt: skip
    asked.clear()
    await Observations(EventBus()).apply_round(host, seen, time.monotonic())
    assert len(ours(asked)) <= 6, asked
    found = await Nic.filter(vm__host_id=host.id).order_by("id").values_list("addresses", flat=True)
    assert found == [[f"10.0.0.{n}"] for n in range(MANY)]


def ours(asked: list[str]) -> list[str]:
    """Those of VMs and their interfaces."""
    return [query for query in asked if '"vm"' in query or '"nic"' in query]
