"""What is vSphere's own of snapshots, over VMware's simulator: names that are there twice, memory, disks of others, growth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from pyVmomi import vim

from panel.engines.types import PowerAction, PowerState, SnapshotAction, VmChange, VmSpec
from panel.engines.vsphere import specs
from panel.engines.vsphere.engine import VsphereEngine
from panel.errors import Conflict, EngineFailure
from tests.contract.kit import Recorder, by_ref

from .test_vsphere import Host, attach, host, spec

__all__ = ["host"]  # the fixture
pytestmark = pytest.mark.live
TAKE, ROLLBACK, REMOVE = SnapshotAction.TAKE, SnapshotAction.ROLLBACK, SnapshotAction.REMOVE


@pytest_asyncio.fixture
async def engine(host: Host) -> AsyncIterator[VsphereEngine]:
    made = host.engine()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def vm(engine: VsphereEngine) -> AsyncIterator[VmSpec]:
    wanted = spec(image=None)
    await engine.create(wanted, Recorder())
    yield wanted
    await engine.delete(wanted.ref, wanted.name, Recorder())


async def test_two_of_one_name_are_told_apart(host: Host, engine: VsphereEngine, vm: VmSpec) -> None:
    theirs = host.world.vm(vm.ref)
    for name in ("twin", "twin", "a%2fb"):
        host.world.wait(theirs.CreateSnapshot_Task(name=name, description="by hand", memory=False, quiesce=False))
    first, second, third = (await engine.inspect(vm.ref)).snapshots
    assert (first.name, second.name, third.name) == ("twin-1", "twin-2", "a/b")
    assert (first.parent, second.parent, third.parent) == ("", "twin-1", "twin-2")
    assert [one.current for one in (first, second, third)] == [False, False, True]
    assert first.description == "by hand"
    await engine.snapshot(vm.ref, REMOVE, "twin-2", Recorder())
    left = [(one.name, one.parent) for one in (await engine.inspect(vm.ref)).snapshots]
    assert left == [("twin", ""), ("a/b", "twin")]


async def test_a_number_that_is_a_name_already_is_no_second_one(host: Host, engine: VsphereEngine, vm: VmSpec) -> None:
    theirs = host.world.vm(vm.ref)
    for name in ("twin", "twin", "twin-1"):
        host.world.wait(theirs.CreateSnapshot_Task(name=name, description="", memory=False, quiesce=False))
    seen = (await engine.inspect(vm.ref)).snapshots
    assert [(one.name, one.parent) for one in seen] == [("twin-1-1", ""), ("twin-2", "twin-1-1"), ("twin-1", "twin-2")]
    await engine.snapshot(vm.ref, REMOVE, "twin-1", Recorder())
    assert [one.name for one in (await engine.inspect(vm.ref)).snapshots] == ["twin-1", "twin-2"]


async def test_they_are_a_tree(engine: VsphereEngine, vm: VmSpec) -> None:
    await engine.snapshot(vm.ref, TAKE, "root", Recorder())
    await engine.snapshot(vm.ref, TAKE, "left", Recorder())
    await engine.snapshot(vm.ref, ROLLBACK, "root", Recorder())
    await engine.snapshot(vm.ref, TAKE, "right", Recorder())
    seen = {one.name: (one.parent, one.current) for one in (await engine.inspect(vm.ref)).snapshots}
    assert seen == {"root": ("", False), "left": ("root", False), "right": ("root", True)}


async def test_a_running_vm_keeps_its_memory(host: Host, engine: VsphereEngine, vm: VmSpec) -> None:
    await engine.power(vm.ref, PowerAction.START, Recorder())
    await engine.snapshot(vm.ref, TAKE, "ours", Recorder())
    theirs = host.world.vm(vm.ref)
    host.world.wait(theirs.CreateSnapshot_Task(name="theirs", description="", memory=False, quiesce=False))
    seen = (await engine.inspect(vm.ref)).snapshots
    assert {one.name: one.memory for one in seen} == {"ours": True, "theirs": False}
    await engine.snapshot(vm.ref, ROLLBACK, "theirs", Recorder())
    assert (await engine.inspect(vm.ref)).state is PowerState.STOPPED
    await engine.snapshot(vm.ref, ROLLBACK, "ours", Recorder())
    assert (await engine.inspect(vm.ref)).state is PowerState.RUNNING


async def test_a_disk_does_not_grow(host: Host, engine: VsphereEngine, vm: VmSpec) -> None:
    await engine.snapshot(vm.ref, TAKE, "before", Recorder())
    with pytest.raises(Conflict, match="Remove the VM's snapshots first"):
        await engine.update(vm.ref, VmChange(disk_gib=vm.disk_gib + 1, title="no"), Recorder())
    assert (await engine.inspect(vm.ref)).title == vm.title
    assert (await engine.update(vm.ref, VmChange(disk_gib=vm.disk_gib, cpu_count=2), Recorder())).live
    one = await engine._viewer.one(vm.ref)  # taken meanwhile by somebody else, vSphere itself refuses
    disk = next(each for each in one.devices if isinstance(each, vim.vm.device.VirtualDisk))
    wanted = vim.vm.ConfigSpec(deviceChange=[specs.grown(disk, vm.disk_gib + 1)])
    with pytest.raises(EngineFailure, match="InvalidDeviceOperation"):
        await engine._tasks.run(lambda session: session.vm(one.moid).ReconfigVM_Task(wanted), 10)
    await engine.snapshot(vm.ref, REMOVE, "before", Recorder())
    await engine.update(vm.ref, VmChange(disk_gib=vm.disk_gib + 1), Recorder())
    assert (await engine.inspect(vm.ref)).disk_gib == vm.disk_gib + 1


@pytest.mark.parametrize("attached", [True, False], ids=["attached", "in-a-snapshot"])
async def test_a_disk_of_another_folder_that_a_snapshot_holds_stays(
    host: Host, engine: VsphereEngine, monkeypatch: pytest.MonkeyPatch, attached: bool
) -> None:
    wanted, donor = spec(image=None), host.world.add("vs-donor")
    await engine.create(wanted, Recorder())
    path = attach(host, wanted.ref, donor)
    await engine.snapshot(wanted.ref, TAKE, "before", Recorder())
    if not attached:
        one = await engine._viewer.one(wanted.ref)
        disk = next(each for each in one.devices if getattr(each.backing, "fileName", "") == path)
        change = vim.vm.ConfigSpec(deviceChange=[specs.change("remove", disk)])
        host.world.wait(host.world.vm(wanted.ref).ReconfigVM_Task(change))
    session = await engine._client._connected()
    calls: list[str] = []
    real = session.stub.InvokeMethod

    def counted(mo: Any, info: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(info.wsdlName)
        return real(mo, info, *args, **kwargs)

    monkeypatch.setattr(session.stub, "InvokeMethod", counted)
    await engine.delete(wanted.ref, wanted.name, Recorder())
    changes = [name for name in calls if name in {"RemoveAllSnapshots_Task", "ReconfigVM_Task", "Destroy_Task"}]
    assert changes == ["RemoveAllSnapshots_Task", *(["ReconfigVM_Task"] if attached else []), "Destroy_Task"]
    assert host.world.path(path).exists()
    host.world.wait(donor.Destroy_Task())


async def test_one_taken_by_hand_is_told_at_once(host: Host, engine: VsphereEngine, vm: VmSpec) -> None:
    await engine.observe()
    feed = engine.watch()
    told = asyncio.ensure_future(anext(feed))
    await asyncio.sleep(1)
    theirs = host.world.vm(vm.ref)
    await asyncio.to_thread(
        lambda: host.world.wait(theirs.CreateSnapshot_Task(name="hand", description="", memory=False, quiesce=False))
    )
    assert (await asyncio.wait_for(told, 10)).ref == vm.ref
    assert [one.name for one in (await by_ref(engine))[vm.ref].snapshots] == ["hand"]
