"""Snapshots: seen in their order, rolled back to, removed, and gone with their VM."""

from __future__ import annotations

import asyncio

import pytest

from panel.engines.base import Engine
from panel.engines.types import PowerState, SnapshotAction, VmChange
from panel.errors import Conflict, InvalidInput, NotFound

from .conftest import Make
from .kit import Recorder, by_ref, contract, state
from .providers import Rig

TAKE, ROLLBACK, REMOVE = SnapshotAction.TAKE, SnapshotAction.ROLLBACK, SnapshotAction.REMOVE


async def names(engine: Engine, ref: str) -> list[str]:
    return [one.name for one in (await engine.inspect(ref)).snapshots]


@contract("create", "update", "snapshots")
async def test_they_come_and_go(engine: Engine, make: Make) -> None:
    ref = (await make()).ref
    before = await engine.inspect(ref)
    assert before.snapshots == ()
    await engine.snapshot(ref, TAKE, "first", Recorder())
    await asyncio.sleep(1.1)  # some hypervisors tell whole seconds
    await engine.snapshot(ref, TAKE, "Second_2", Recorder())
    seen = (await by_ref(engine))[ref].snapshots
    assert seen == (await engine.inspect(ref)).snapshots
    assert [(one.name, one.parent, one.current, one.memory) for one in seen] == [
        ("first", "", False, False), ("Second_2", "first", True, False),
    ]  # fmt: skip
    assert all(one.taken_at is not None for one in seen)
    await engine.update(ref, VmChange(cpu_count=2, memory_mib=192), Recorder())
    await engine.snapshot(ref, ROLLBACK, "first", Recorder())
    after = await engine.inspect(ref)
    assert (after.cpu_count, after.memory_mib, after.state) == (before.cpu_count, before.memory_mib, before.state)
    assert [one.name for one in after.snapshots if one.current] == ["first"]
    await engine.snapshot(ref, REMOVE, "first", Recorder())
    (left,) = (await engine.inspect(ref)).snapshots
    assert (left.name, left.parent) == ("Second_2", "")
    await engine.snapshot(ref, REMOVE, "Second_2", Recorder())
    assert await names(engine, ref) == []


@contract("create", "snapshots")
async def test_what_is_refused(engine: Engine, make: Make) -> None:
    ref = (await make()).ref
    await engine.snapshot(ref, TAKE, "there", Recorder())
    with pytest.raises(Conflict, match="there"):
        await engine.snapshot(ref, TAKE, "there", Recorder())
    for action in (ROLLBACK, REMOVE):
        with pytest.raises(NotFound, match="absent"):
            await engine.snapshot(ref, action, "absent", Recorder())
    for name in ("", "a", "1st", "a b", "../x", "a/b", "current", "x" * 41, "名字", "<a>", "a\n"):
        for action in SnapshotAction:
            with pytest.raises(InvalidInput) as caught:
                await engine.snapshot(ref, action, name, Recorder())
            assert caught.value.field == "snapshot"
    assert await names(engine, ref) == ["there"]


@contract("create", "delete", "snapshots")
async def test_they_go_with_their_vm(engine: Engine, rig: Rig, untouched: None) -> None:
    spec = rig.spec()
    await engine.create(spec, Recorder())
    await engine.snapshot(spec.ref, TAKE, "before", Recorder())
    await engine.delete(spec.ref, spec.name, Recorder())


@contract("create", "snapshots", "power.start")
async def test_of_a_running_vm(engine: Engine, make: Make) -> None:
    ref = (await make(start=True)).ref
    await engine.snapshot(ref, TAKE, "running", Recorder())
    assert await state(engine, ref) is PowerState.RUNNING
    await engine.snapshot(ref, ROLLBACK, "running", Recorder())
    (one,) = (await engine.inspect(ref)).snapshots
    assert await state(engine, ref) in (
        {PowerState.RUNNING} if one.memory else {PowerState.RUNNING, PowerState.STOPPED}
    )
