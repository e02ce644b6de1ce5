"""Changing VMs: all of a change or none of it, and the outcome says when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from panel.engines.base import Engine
from panel.engines.types import ChangeOutcome, PowerAction, VmChange
from panel.errors import InvalidInput

from .conftest import Make
from .kit import Breaker, Recorder, Stopped, by_ref, contract
from .test_create import DOUBTFUL_TITLES, TITLES

BIGGER = VmChange(title="Grown", cpu_count=2, memory_mib=192, disk_gib=2)


def partitioned(outcome: ChangeOutcome, change: VmChange) -> bool:
    """Each changed field is in exactly one of live and at_next_start."""
    changed = sorted(
        name for name in ("title", "cpu_count", "memory_mib", "disk_gib") if getattr(change, name) is not None
    )
    return sorted(outcome.live + outcome.at_next_start) == changed


def bigger(engine: Engine) -> VmChange:
    """``BIGGER``, as far as the engine can."""
    return BIGGER if engine.capabilities.disk_size else replace(BIGGER, disk_gib=None)


@contract("create", "update")
async def test_a_stopped_vm_changes(engine: Engine, make: Make) -> None:
    ref = (await make()).ref
    change = bigger(engine)
    outcome = await engine.update(ref, change, Recorder())
    assert partitioned(outcome, change)
    seen = await engine.inspect(ref)
    assert (seen.title, seen.cpu_count, seen.memory_mib) == ("Grown", 2, 192)
    if engine.capabilities.disk_size:
        assert seen.disk_gib == pytest.approx(2, abs=0.01)
    assert (await by_ref(engine))[ref].title == "Grown"


@contract("create", "update", "update_live", "disk_size", "power.start", "power.stop")
async def test_a_running_vm_changes_now_or_at_its_next_start(engine: Engine, make: Make) -> None:
    ref = (await make(start=True)).ref
    outcome = await engine.update(ref, BIGGER, Recorder())
    assert partitioned(outcome, BIGGER)
    assert "disk_gib" in outcome.live, "a disk grows under a running VM"
    await holds(engine, ref, BIGGER, outcome.live)
    smaller = VmChange(memory_mib=128, cpu_count=1)
    second = await engine.update(ref, smaller, Recorder())
    assert partitioned(second, smaller)
    await holds(engine, ref, smaller, second.live)
    await engine.power(ref, PowerAction.STOP, Recorder())
    await engine.power(ref, PowerAction.START, Recorder())
    seen = await engine.inspect(ref)
    assert (seen.title, seen.cpu_count, seen.memory_mib) == ("Grown", 1, 128)


async def holds(engine: Engine, ref: str, change: VmChange, names: tuple[str, ...]) -> None:
    """What is said to be live is so already."""
    seen = await engine.inspect(ref)
    for name in names:
        assert getattr(seen, name) == pytest.approx(getattr(change, name), abs=0.01), name


@contract("create", "update")
async def test_nothing_to_change(engine: Engine, make: Make) -> None:
    ref = (await make()).ref
    before = await engine.inspect(ref)
    assert await engine.update(ref, VmChange(), Recorder()) == ChangeOutcome()
    assert await engine.inspect(ref) == before


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (VmChange(title="No", disk_gib=1), "hdd_num"),
        (VmChange(title="No", disk_gib=0), "hdd_num"),
        (VmChange(title="No", cpu_count=0), "cpu_num"),
        (VmChange(title="No", memory_mib=0), "ram_num"),
    ],
    ids=["shrink", "no-disk", "no-cpu", "no-memory"],
)
@pytest.mark.parametrize("start", [False, True], ids=["stopped", "running"])
@contract("create", "update")
async def test_a_bad_change_changes_nothing(
    engine: Engine, make: Make, change: VmChange, field: str, start: bool
) -> None:
    ref = (await make(disk_gib=2, start=start)).ref
    with pytest.raises(InvalidInput) as caught:
        await engine.update(ref, change, Recorder())
    assert caught.value.field == field
    seen = await engine.inspect(ref)
    assert (seen.title, seen.cpu_count, seen.memory_mib) == ("A machine", 1, 128)
    if engine.capabilities.disk_size:
        assert seen.disk_gib == pytest.approx(2, abs=0.01)


@contract("create", "update")
async def test_the_same_size_is_no_change(engine: Engine, make: Make) -> None:
    spec = await make()
    change = VmChange(cpu_count=1, memory_mib=128, disk_gib=1 if engine.capabilities.disk_size else None)
    assert partitioned(await engine.update(spec.ref, change, Recorder()), change)


@contract("create", "update")
async def test_titles(engine: Engine, make: Make) -> None:
    ref = (await make()).ref
    for title in TITLES.values():
        await engine.update(ref, VmChange(title=title), Recorder())
        assert (await engine.inspect(ref)).title == title
    for title in DOUBTFUL_TITLES.values():
        try:
            await engine.update(ref, VmChange(title=title), Recorder())
        except InvalidInput as error:
            assert error.field == "vm_name"
        else:
            assert (await engine.inspect(ref)).title == title


@contract("create", "update")
async def test_broken_in_the_middle_can_be_done_again(engine: Engine, make: Make) -> None:
    ref = (await make()).ref
    at = 0
    while at < 20:
        at += 1
        try:
            await engine.update(ref, bigger(engine), Breaker(at))
        except Stopped:
            continue
        break
    seen = await engine.inspect(ref)
    assert (seen.title, seen.cpu_count, seen.memory_mib) == ("Grown", 2, 192)
