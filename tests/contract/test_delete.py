"""Deleting: all that is the panel's, nothing that is not, as often as one likes."""

from __future__ import annotations

from uuid import uuid4

import pytest

from panel.engines.base import Engine
from panel.engines.types import DeleteOutcome, PowerState
from panel.errors import NotFound, Unsupported

from .conftest import Make
from .kit import Breaker, Recorder, Stopped, by_ref, contract, is_there
from .providers import Rig


@pytest.mark.parametrize("start", [False, True], ids=["stopped", "running"])
@contract("create", "delete")
async def test_everything_goes(engine: Engine, rig: Rig, untouched: None, start: bool) -> None:
    spec, files = rig.spec(image=rig.image, disk_gib=4, start=start, password="x"), rig.files()
    await engine.create(spec, Recorder())
    assert rig.files() > files
    outcome = await engine.delete(spec.ref, spec.name, Recorder())
    assert outcome.removed
    assert not outcome.kept
    with pytest.raises(NotFound):
        await engine.inspect(spec.ref)
    assert rig.files() == files
    assert await engine.delete(spec.ref, spec.name, Recorder()) == DeleteOutcome()


@contract("delete")
async def test_nothing_to_delete(engine: Engine, untouched: None) -> None:
    assert await engine.delete(str(uuid4()), "ct-never-was", Recorder()) == DeleteOutcome()


@contract("create", "delete")
async def test_others_stay(engine: Engine, rig: Rig, untouched: None, make: Make) -> None:
    kept = await make(name=f"{rig.prefix}box")
    longer = await make(name=f"{rig.prefix}box-2")
    gone = await make(name=f"{rig.prefix}bo")
    before = await by_ref(engine)
    await engine.delete(gone.ref, gone.name, Recorder())
    # A ref that is nobody's, with the name of one that is there; and odd names.
    for name in (kept.name, "*", ".", "..", "", f"../{kept.name}", f"{rig.prefix}box*"):
        await engine.delete(str(uuid4()), name, Recorder())
    after = await by_ref(engine)
    assert after[kept.ref] == before[kept.ref]
    assert after[longer.ref] == before[longer.ref]
    assert await engine.leftovers() == []


@contract("create", "delete", "power.start")
async def test_running_others_keep_running(engine: Engine, make: Make) -> None:
    runs, gone = await make(start=True), await make(start=True)
    await engine.delete(gone.ref, gone.name, Recorder())
    assert (await engine.inspect(runs.ref)).state is PowerState.RUNNING


@contract("create", "delete")
async def test_its_files_are_gone_already(engine: Engine, rig: Rig, untouched: None) -> None:
    spec = rig.spec()
    await engine.create(spec, Recorder())
    rig.lose_disks(spec.ref, spec.name)
    assert spec.ref in await by_ref(engine), "a VM without its disk is still listed"
    await engine.delete(spec.ref, spec.name, Recorder())
    assert not await is_there(engine, spec.ref)


@contract("create", "delete", "leftovers")
async def test_its_definition_is_gone_already(engine: Engine, rig: Rig, untouched: None) -> None:
    spec, files = rig.spec(image=rig.image, disk_gib=4, password="x"), rig.files()
    await engine.create(spec, Recorder())
    rig.lose_definition(spec.ref)
    left = await engine.leftovers()
    assert {item.path for item in left} == rig.files() - files
    assert all(item.size_bytes > 0 for item in left)
    outcome = await engine.delete(spec.ref, spec.name, Recorder())
    assert set(outcome.removed) == {item.path for item in left}
    assert rig.files() == files


@contract("create", "delete")
async def test_broken_in_the_middle_can_be_done_again(engine: Engine, rig: Rig, untouched: None) -> None:
    for at in range(1, 20):
        spec = rig.spec(start=True)
        await engine.create(spec, Recorder())
        try:
            await engine.delete(spec.ref, spec.name, Breaker(at))
        except Stopped:
            await engine.delete(spec.ref, spec.name, Recorder())
            assert not await is_there(engine, spec.ref)
            assert await engine.leftovers() == []
        else:
            break


@contract("scan", "delete")
async def test_a_foreign_vm_is_seen_and_its_disk_stays(engine: Engine, rig: Rig, untouched: None) -> None:
    ref, name, disk = rig.foreign()
    try:
        seen = (await by_ref(engine))[ref]
        assert seen.name == name
        assert not seen.managed
        assert disk not in {item.path for item in await engine.leftovers()}
        try:
            outcome = await engine.delete(ref, name, Recorder())
        except Unsupported:  # it cannot remove a VM and keep its disk: then it leaves both
            assert await is_there(engine, ref)
            assert rig.exists(disk)
            return
        assert outcome.kept == (disk,)
        assert not outcome.removed
        assert not await is_there(engine, ref)
        assert rig.exists(disk)
    finally:
        rig.remove_foreign(ref, disk)
