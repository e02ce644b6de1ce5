"""The bulk writes of metrics history, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest

from panel.models import Host, HostMetrics, Vm, VmMetrics
from panel.models.database import migrate, open_database
from panel.services.metrics import SLICE, MetricsService

START = 1_700_006_400
COUNT = SLICE * 2 + 7


class Clock:
    """Seconds since 1970, turned by the test."""

    now = float(START)

    def __call__(self) -> float:
        return self.now


async def test_many_vms_over_many_minutes(url: str) -> None:
    await migrate(url)
    await open_database(url)
    host = await Host.create(name="h", engine="fake", enabled=False, status={"cpu_percent": 20.0})
    await Vm.bulk_create(
        [Vm(host=host, name=f"v{n}", ref=f"r{n}", cpu_count=1, memory_mib=512) for n in range(COUNT)], batch_size=50
    )
    vms, clock = await Vm.all().order_by("id"), Clock()
    metrics = MetricsService(5.0, clock)
    for minute in range(12):  # over the end of a stretch of ten
        if minute == 4:
            metrics = MetricsService(5.0, clock)  # a restart
        for vm in vms:
            vm.cpu_percent, vm.memory_used_mib, vm.rates = vm.id % 100, 256, {"net_rx": minute * 1e6}
        for _round in range(12):
            metrics.vms_seen(host.id, vms)
            metrics.host_seen(host)
            clock.now += 5
        await metrics.flush(everything=True)
    assert await VmMetrics.all().count() == COUNT * 4  # two stretches of 10 s, one of 1 min, one of 15 min
    assert await HostMetrics.all().count() == 4
    for vm in (vms[0], vms[-1]):
        day = (await metrics.of_vm(vm, "24h")).values
        assert day["cpu_percent"][-13:-1] == pytest.approx([vm.id % 100] * 12, rel=0.001, abs=0.01)
        assert day["net_rx_bytes_per_second"][-13:-1] == pytest.approx([n * 1e6 for n in range(12)], rel=0.001)
        week = (await metrics.of_vm(vm, "7d")).values
        assert week["net_rx_bytes_per_second"][-1] == pytest.approx(5.5e6, rel=0.001)
    hour = (await metrics.of_host(host, "1h")).values
    assert hour["net_rx_bytes_per_second"][-2] == pytest.approx(COUNT * 11e6, rel=0.001)
    await Vm.filter(id__in=[vm.id for vm in vms]).delete()
    assert await VmMetrics.all().count() == 0
