"""What a task says when it has ended well: what is true now, not the step that it was at last."""

from __future__ import annotations

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.world import world
from panel.engines.types import PowerAction, SnapshotAction, VmChange
from panel.models import Task
from panel.services.container import Services
from panel.services.texts import unpack
from tests.conftest import ADMIN
from tests.services.kit import lines, make


async def said(services: Services, task: Task) -> str:
    """The task's text when it has ended, which is its log's last line too, once."""
    ended = await services.tasks.wait(task.id, 10)
    text = str(unpack(ended.message))
    log = [line for _level, line in await lines(ended)]
    assert log[-1] == text
    assert log.count(text) == 1
    return text


async def test_each_kind_says_what_is_true_now(services: Services, fake_host: str) -> None:
    vm = await make(services, start=True)
    made = await Task.get(kind="vm.create")
    assert await said(services, made) == "The VM is made, and is running."
    off = await services.power.act(ADMIN, vm, PowerAction.STOP)
    assert await said(services, off) == "The VM is stopped."
    change = await services.vms.update(ADMIN, vm, VmChange(memory_mib=1024))
    assert await said(services, change) == "The VM is changed."
    for action, text in (
        (SnapshotAction.TAKE, "Snapshot before is taken."),
        (SnapshotAction.ROLLBACK, "The VM is what it was at snapshot before."),
        (SnapshotAction.REMOVE, "Snapshot before is removed."),
    ):
        assert await said(services, await services.snapshots.act(ADMIN, vm, action, "before")) == text
    gone = await services.vms.delete(ADMIN, vm)
    assert await said(services, gone) == "The VM is removed."
    scan = await services.vms.scan(ADMIN, await services.hosts.get("host1"))
    assert await said(services, scan) == "0 VMs on the host, 0 new, 0 missing."


async def test_a_change_that_waits_for_the_next_start_says_so(services: Services, fake_host: str) -> None:
    vm = await make(services, cpu_count=2, start=True)
    task = await services.vms.update(ADMIN, vm, VmChange(cpu_count=1))
    ended = await services.tasks.wait(task.id, 10)
    waits = (await services.vms.get("host1", vm.name)).pending
    assert waits
    assert str(unpack(ended.message)) == "The VM is changed; some of it waits for the next start."


async def test_what_fails_tells_its_reason(services: Services, fake_host: str) -> None:
    vm = await make(services, start=True)
    world("world1").behaviour = Behaviour(manner=Manner.FAILING, fail_at={"power": 1})
    task = await services.power.act(ADMIN, vm, PowerAction.STOP)
    ended = await services.tasks.wait(task.id, 10)
    assert ended.status == "failed"
    assert "The VM is" not in str(unpack(ended.message))
