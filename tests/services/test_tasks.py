"""Tasks: one writer per VM, cancel, and an honest end after a crash."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.world import GIB, world
from panel.engines.types import PowerAction, PowerState, VmChange, VmSpec
from panel.errors import Conflict, NotFound
from panel.events import TaskChanged
from panel.models import Nic, Task, TaskLine, TaskStatus, Vm
from panel.services import tasks as module
from panel.services.clock import now
from panel.services.container import Services
from tests.conftest import ADMIN
from tests.services.kit import lines, make, request, until

SLOW_CREATE = Behaviour(manner=Manner.SLOW, delay=30, only=frozenset({"create"}))


async def left(services: Services, kind: str, vm: Vm | None, params: object = None) -> Task:
    """A task as a killed process leaves it: running, with its lock, and nobody at it."""
    host = await services.hosts.get("host1")
    return await Task.create(
        id=f"{kind:x<32}"[:32],
        kind=kind,
        status=TaskStatus.RUNNING,
        lock=f"vm:{vm.id}" if vm else f"host:{host.id}:{kind}",
        host_id=host.id,
        host_name=host.name,
        vm_id=vm.id if vm else None,
        vm_name=vm.name if vm else "",
        actor="admin",
        source="api",
        params=services.box.seal(json.dumps(params or {})),
        started_at=now() - timedelta(minutes=1),
    )


async def settled(services: Services, task: Task) -> Task:
    """The task after a restart of the panel."""
    assert await services.tasks.recover() == 1
    ended = await services.tasks.wait(task.id, 5)
    assert ended.status.ended
    assert (ended.lock, ended.params) == (None, ""), "the lock is free and secrets do not outlive the task"
    return ended


def half_made(name: str) -> VmSpec:
    return VmSpec(f"ref-{name}", name, name, 1, 512, 4, (), "Debian 12", name, "root", "guest-pw")


async def half_row(services: Services, spec: VmSpec) -> Vm:
    host = await services.hosts.get("host1")
    return await Vm.create(
        host=host, name=spec.name, ref=spec.ref, cpu_count=1, memory_mib=512, disk_gib=4, creating=True
    )


async def test_progress_never_goes_back_and_ends_at_100(services: Services, fake_host: str) -> None:
    seen: list[int] = []
    with services.events.subscribe() as subscription:
        await make(services, start=True)
        async with asyncio.timeout(5):
            while True:
                event = await subscription.get()
                if isinstance(event, TaskChanged):
                    seen.append((await Task.get(id=event.task_id)).percent)
                    if event.ended:
                        break
    assert seen == sorted(seen)
    assert seen[-1] == 100


async def test_its_times_are_in_order(services: Services, fake_host: str) -> None:
    await make(services)
    task = await Task.get(kind="vm.create")
    assert task.started_at is not None
    assert task.ended_at is not None
    assert task.created_at <= task.started_at <= task.ended_at


async def test_a_lock_is_held_by_the_database(services: Services, fake_host: str) -> None:
    vm = await make(services)
    held = await left(services, "vm.update", vm)
    with pytest.raises(Conflict, match=held.id):
        await services.vms.delete(ADMIN, vm)
    await Task.filter(id=held.id).update(lock=None, status=TaskStatus.INTERRUPTED)
    await services.tasks.wait((await services.vms.delete(ADMIN, vm)).id, 5)
    assert not await Vm.exists(id=vm.id)


async def test_cancel_of_what_is_stored_and_has_not_begun(
    services: Services, fake_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, go_on = asyncio.Event(), asyncio.Event()
    write = services.audit.write

    async def slow(*words: Any, **more: Any) -> None:
        if words[1] == "vm.create":
            stored.set()
            await go_on.wait()
        await write(*words, **more)

    monkeypatch.setattr(services.audit, "write", slow)
    making = asyncio.create_task(make(services, "vm-1"))
    await stored.wait()
    task = await Task.get(kind="vm.create")
    cancelling = asyncio.create_task(services.tasks.cancel(ADMIN, task.id))
    await asyncio.sleep(0.05)
    go_on.set()
    await cancelling
    assert (await services.tasks.wait(task.id, 5)).status is TaskStatus.CANCELLED
    with pytest.raises(AssertionError):
        await making
    assert not await Vm.exists(name="vm-1")
    assert not world("world1").vms


async def test_cancel_cleans_up(services: Services, fake_host: str) -> None:
    here = world("world1")
    here.behaviour = SLOW_CREATE
    vm, task = await services.vms.create(ADMIN, await services.hosts.get("host1"), request("vm-1"))
    await services.tasks.cancel(ADMIN, task.id)
    ended = await services.tasks.wait(task.id, 5)
    assert ended.status is TaskStatus.CANCELLED
    assert not await Vm.exists(id=vm.id)
    assert not await Nic.all().exists()
    assert not here.vms
    assert not here.disks
    with pytest.raises(Conflict, match="has ended already"):
        await services.tasks.cancel(ADMIN, task.id)
    with pytest.raises(NotFound):
        await services.tasks.cancel(ADMIN, "x" * 200)
    here.behaviour = None
    await make(services)


@pytest.mark.parametrize("yields", [0, 2, 5, 13, 21, 55])
async def test_cancel_at_any_moment_leaves_no_row_behind(services: Services, fake_host: str, yields: int) -> None:
    vm, task = await services.vms.create(ADMIN, await services.hosts.get("host1"), request("vm-1", start=True))
    for _ in range(yields):
        await asyncio.sleep(0)
    cancels = [services.tasks.cancel(ADMIN, task.id) for _ in range(2)]
    await asyncio.gather(*cancels, return_exceptions=True)  # "has ended already" is fine
    ended = await services.tasks.wait(task.id, 5)
    assert ended.status in {TaskStatus.CANCELLED, TaskStatus.SUCCEEDED}
    assert ended.lock is None
    whole = ended.status is TaskStatus.SUCCEEDED
    assert await Vm.exists(id=vm.id, creating=False) == whole
    assert not await Vm.exists(creating=True)
    assert (vm.ref in world("world1").vms) == whole


@pytest.mark.parametrize("yields", [0, 1, 4, 11, 22, 50])
async def test_a_caller_who_goes_away_leaves_nothing_half_done(services: Services, fake_host: str, yields: int) -> None:
    """A browser that disconnects cancels its request: the VM is asked for as a whole, or not at all."""
    caller = asyncio.create_task(services.vms.create(ADMIN, await services.hosts.get("host1"), request("vm-1")))
    for _ in range(yields):
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)

    async def quiet() -> bool:
        task = await Task.get_or_none(kind="vm.create")
        return (task is not None and task.status.ended) or (task is None and not await Vm.exists())

    await until(quiet)
    await asyncio.sleep(0.05)
    await until(quiet)
    assert not await Vm.exists(creating=True)
    assert await Vm.exists() == await Task.exists(status=TaskStatus.SUCCEEDED)


async def test_a_stop_leaves_the_task_to_the_next_start(services: Services, fake_host: str) -> None:
    world("world1").behaviour = SLOW_CREATE
    _vm, task = await services.vms.create(ADMIN, await services.hosts.get("host1"), request("vm-1"))
    await asyncio.sleep(0.05)
    await services.tasks.stop()
    task = await services.tasks.get(task.id)
    assert not task.status.ended
    world("world1").behaviour = None
    ended = await settled(services, task)
    assert ended.status is TaskStatus.INTERRUPTED
    assert ("warning", "The panel stopped while it made this VM. Create it again.") in await lines(ended)
    await make(services)


async def test_settle_a_create_that_was_half_made(services: Services, fake_host: str) -> None:
    spec = half_made("vm-1")
    vm = await half_row(services, spec)
    world("world1").add_disk("/fake/disks/vm-1.qcow2", spec.ref, 4 * GIB)
    task = await left(services, "vm.create", vm, {"spec": asdict(spec)})
    ended = await settled(services, task)
    assert ended.status is TaskStatus.INTERRUPTED
    assert "What was half made is removed" in (await lines(ended))[-1][1]
    assert not world("world1").disks
    assert not await Vm.exists(id=vm.id)
    await make(services)


async def test_settle_a_create_that_was_whole(services: Services, fake_host: str) -> None:
    vm = await make(services)
    await Vm.filter(id=vm.id).update(creating=True)
    ended = await settled(services, await left(services, "vm.create", vm, {"spec": {}}))
    assert "the VM is whole" in (await lines(ended))[-1][1]
    assert await Vm.exists(id=vm.id, creating=False)


async def test_settle_a_delete_finishes_it(services: Services, fake_host: str) -> None:
    vm = await make(services)
    del world("world1").vms[vm.ref]  # the domain was gone already, its disks not yet
    ended = await settled(services, await left(services, "vm.delete", vm))
    assert ended.status is TaskStatus.SUCCEEDED
    assert not world("world1").disks
    assert not await Vm.exists(id=vm.id)
    assert ended.result is not None
    assert len(ended.result["removed"]) == 2


@pytest.mark.parametrize(
    ("action", "state", "status"),
    [
        (PowerAction.START, PowerState.RUNNING, TaskStatus.SUCCEEDED),
        (PowerAction.START, PowerState.STOPPED, TaskStatus.INTERRUPTED),
        (PowerAction.STOP, PowerState.STOPPED, TaskStatus.SUCCEEDED),
        (PowerAction.RESET, PowerState.RUNNING, TaskStatus.INTERRUPTED),
    ],
)
async def test_settle_a_power_against_the_hypervisor(
    services: Services, fake_host: str, action: PowerAction, state: PowerState, status: TaskStatus
) -> None:
    vm = await make(services)
    world("world1").vms[vm.ref].enter(state, 0.0)
    ended = await settled(services, await left(services, "vm.power", vm, {"action": action}))
    assert ended.status is status
    assert state.value in (await lines(ended))[-1][1], "the task says how the VM is now"
    assert (await Vm.get(id=vm.id)).state is state


async def test_settle_the_rest(services: Services, fake_host: str) -> None:
    vm = await make(services)
    for kind, params, message in (
        ("vm.update", {"change": {"cpu_count": 4}, "limits": {}}, "has 1 CPUs, 512 MiB and 4.0 GiB now"),
        ("vm.password", {"user": "root", "password": "pw"}, "set it again"),
    ):
        ended = await settled(services, await left(services, kind, vm, params))
        assert ended.status is TaskStatus.INTERRUPTED
        assert message in (await lines(ended))[-1][1]
    ended = await settled(services, await left(services, "host.scan", None))
    assert "Scan again" in (await lines(ended))[-1][1]


async def test_settle_waits_for_a_host_that_does_not_answer(
    services: Services, fake_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_RETRY", 0.05)
    vm = await make(services)
    here = world("world1")
    here.behaviour = Behaviour(manner=Manner.REFUSING)
    task = await left(services, "vm.power", vm, {"action": "start"})
    await services.tasks.recover()
    await until(lambda: TaskLine.filter(task_id=task.id).exists())
    await asyncio.sleep(0.2)
    assert (await services.tasks.get(task.id)).lock == f"vm:{vm.id}", "the lock is kept: nobody knows what is there"
    assert len(await lines(task)) == 2, "said once, not with each try"
    here.behaviour = None
    ended = await services.tasks.wait(task.id, 5)
    assert ended.status is TaskStatus.INTERRUPTED


async def test_an_operator_may_give_up_on_it(
    services: Services, fake_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_RETRY", 30.0)
    vm = await make(services)
    world("world1").behaviour = Behaviour(manner=Manner.REFUSING)
    task = await left(services, "vm.power", vm, {"action": "start"})
    await services.tasks.recover()
    await until(lambda: TaskLine.filter(task_id=task.id).exists())
    await asyncio.sleep(0.05)
    await services.tasks.cancel(ADMIN, task.id)
    ended = await services.tasks.wait(task.id, 2)
    assert ended.status is TaskStatus.CANCELLED
    assert ended.lock is None


async def test_a_task_of_a_vm_that_is_gone(services: Services, fake_host: str) -> None:
    vm = await make(services)
    task = await left(services, "vm.power", vm, {"action": "start"})
    await Vm.filter(id=vm.id).delete()
    ended = await settled(services, task)
    assert (ended.status, ended.error_status) == (TaskStatus.INTERRUPTED, 404)


async def test_a_refused_create_leaves_no_row(services: Services, fake_host: str) -> None:
    host = await services.hosts.get("host1")
    await make(services)
    with pytest.raises(Conflict):
        await services.vms.create(ADMIN, host, request("vm-1"))
    assert await Vm.all().count() == 1
    vm = await services.vms.get("host1", "vm-1")
    await services.tasks.wait((await services.vms.update(ADMIN, vm, VmChange(cpu_count=2))).id, 5)
    assert (await Vm.get(id=vm.id)).cpu_count == 2


async def test_a_task_that_breaks_in_an_unforeseen_way(services: Services, fake_host: str) -> None:
    vm = await make(services)
    task = await services.tasks.submit(
        ADMIN, "vm.power", {"no": "action"}, host=(vm.host_id, "host1"), vm=(vm.id, vm.name)
    )
    ended = await services.tasks.wait(task.id, 5)
    assert (ended.status, ended.error_status) == (TaskStatus.FAILED, 500)
    assert (await lines(ended))[-1] == ("error", "An internal error; the panel's log has its trace.")
