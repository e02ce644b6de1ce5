"""Between the row of a VM and its create's task the panel can die: what is left then goes, and says so."""

from __future__ import annotations

from datetime import timedelta

from panel.models import LogEntry, Nic, Vm
from panel.services.container import Services
from tests.api.kit import make_vm
from tests.conftest import ApiClient


async def test_what_was_stored_before_its_task_goes(services: Services, api: ApiClient, fake_host: str) -> None:
    await make_vm(api, "whole")
    host = await services.hosts.get("host1")
    left = await Vm.create(host=host, name="left", ref="r", title="left", cpu_count=1, memory_mib=512, creating=True)
    await Nic.create(vm=left, name="eth0", mac="52:54:00:00:00:99")
    await services.vms.drop_unbegun()
    assert await Vm.filter(name="left").exists(), "somebody may be at it, in another process"
    await services.vms.drop_unbegun(timedelta(0))
    assert await Vm.all().values_list("name", flat=True) == ["whole"]
    assert not await Nic.filter(mac="52:54:00:00:00:99").exists()
    entry = await LogEntry.get(action="vm.create", level="warning")
    assert (entry.object_name, entry.source) == ("host1/left", "panel")
    await make_vm(api, "left")


async def test_a_create_at_work_is_left_alone(services: Services, api: ApiClient, fake_host: str) -> None:
    await api.ok("PUT", "/api/server/update/host1", {"behaviour": "slow", "delay": "0.3", "only": "create"})
    from tests.api.kit import small

    task = await api.ok("POST", "/api/client/create/host1", small("vm-1"))
    await services.vms.drop_unbegun(timedelta(0))
    ended = await services.tasks.wait(task["task_id"], 10)
    assert ended.status == "succeeded"
    assert await Vm.filter(name="vm-1", creating=False).exists()
