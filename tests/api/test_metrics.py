"""The history of a VM and of a host, as programs read it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from panel.models import Host, HostMetrics, Vm, VmMetrics
from panel.services.series import FIELDS
from tests.api.kit import make_vm
from tests.conftest import ApiClient
from tests.services import history

pytestmark = pytest.mark.usefixtures("fake_host")
LENGTHS = {"1h": (10, 360), "24h": (60, 1440), "7d": (900, 672), "90d": (900, 8640)}


async def fill() -> None:
    """Full histories of ``vm-1`` and ``host1``."""
    vm, host = await Vm.get(name="vm-1"), await Host.get(name="host1")
    rows = list(history.rows(int(datetime.now(UTC).timestamp())))
    for model, owner in ((VmMetrics, {"vm_id": vm.id}), (HostMetrics, {"host_id": host.id})):
        await model.filter(**owner).delete()
        await model.bulk_create(
            [
                model(step_seconds=step, slot=slot, start=start, points=points, **owner)
                for step, slot, start, points in rows
            ]
        )


@pytest.mark.parametrize("path", ["/api/client/metrics/host1/vm-1", "/api/server/metrics/host1"])
async def test_ranges(api: ApiClient, path: str) -> None:
    await make_vm(api)
    await fill()
    for span, (step, length) in LENGTHS.items():
        found = await api.ok("GET", f"{path}?range={span}")
        assert set(found) == {"step_seconds", "start", "series"}
        assert found["step_seconds"] == step
        assert {name: len(values) for name, values in found["series"].items()} == dict.fromkeys(FIELDS, length)
        assert found["series"]["cpu_percent"].count(None) <= 5
        age = (datetime.now(UTC) - datetime.fromisoformat(found["start"])).total_seconds()
        assert 0 <= step * length - age <= step
    assert (await api.ok("GET", path))["step_seconds"] == 10


async def test_what_is_asked_wrongly(api: ApiClient) -> None:
    await make_vm(api)
    for path in ("/api/client/metrics/host1/vm-1?range=2h", "/api/server/metrics/host1?range="):
        status, answer = await api("GET", path)
        assert status == 400
        assert "range" in answer["msg"]
    for path in ("/api/client/metrics/host1/vm-2", "/api/client/metrics/host2/vm-1", "/api/server/metrics/host2"):
        assert (await api("GET", path))[0] == 404
        assert (await api("GET", path, headers={}))[0] == 401


async def test_a_new_vm_has_no_history(api: ApiClient) -> None:
    await make_vm(api)
    series = (await api.ok("GET", "/api/client/metrics/host1/vm-1?range=90d"))["series"]
    assert {value for values in series.values() for value in values} == {None}
