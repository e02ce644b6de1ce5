"""Rows that are read column by column are those that Tortoise reads, in type and order, of both databases."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from panel.models import Host, Nic, Vm
from panel.models.database import migrate, open_database
from panel.models.plain import plain_rows
from panel.services.listed import FIELDS, NIC_FIELDS
from panel.services.observations import NIC, READ

pytestmark = pytest.mark.slow
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


async def test_as_tortoise_reads_them(url: str) -> None:
    await migrate(url)
    await open_database(url)
    host = await Host.create(name="h", engine="fake")
    for number in (2, 1, 3):
        vm = await Vm.create(
            host=host, name=f"v{number}", ref=f"r{number}", title="测试", cpu_count=number, memory_mib=64, disk_gib=1.5,
            state="running", limits={"speed_u": 1}, pending=["cpu_count"], rates={"net_rx": 1.5}, agent=number == 1 or None,
            seen_at=MOMENT if number > 1 else None, hardware={"disks": []} if number > 2 else None, creating=number == 3,
        )  # fmt: skip
        await Nic.create(
            vm=vm, name="eth0", mode="nat" if number > 1 else None, mac="52:54:00:00:00:01", addresses=["10.0.0.1"]
        )
    for query in (
        Vm.filter(host_id=host.id).order_by("name").values_list(*FIELDS),
        Vm.filter(host_id=host.id, creating=False).order_by("id").values_list(*READ, "agent", "host__name"),
        Nic.filter(vm__host_id=host.id).order_by("vm__name").values_list("vm_id", *NIC_FIELDS, *NIC[3:]),
    ):
        rows, wanted = await plain_rows(query), list(await query)
        assert rows == wanted
        assert len(rows) >= 2
        assert [[type(value) for value in row] for row in rows] == [[type(value) for value in row] for row in wanted]
    assert await plain_rows(Vm.filter(name="none").values_list("id", "name")) == []
