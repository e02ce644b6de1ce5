"""Making VMs: what was asked for is there, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import astuple

import pytest

from panel.engines.base import Engine
from panel.engines.types import NicMode, NicSpec, PowerState, VmSpec
from panel.errors import Conflict, InvalidInput

from .conftest import Make
from .kit import SECRET, Breaker, Canceller, Recorder, Stopped, by_ref, contract, random_mac, state, until
from .providers import Rig

Absent = Callable[[VmSpec], Awaitable[None]]

TITLES = {
    "markup": "<&\"'>]]></title><!--",
    "emoji": "机器 🚀 \u200d🧑",
    "chinese": "测试虚拟机",
    "long": "长" * 200,
}
DOUBTFUL_TITLES = {
    "spaces": "  two  spaces  ",
    "nul": "a\0b",
    "newline": "a\nb",
    "escape": "a\x1bb",
    "surrogate": "a\ud800b",
    "ffff": "a\uffffb",
}
"""What a hypervisor may be unable to keep: then it says so, and does not quietly keep something else."""
BAD_NAMES = ["", ".", "..", "a/b", "../up", "/etc/passwd", "a\\b", "a\0b", "a\nb", "a b", "<a>", "-rf", "名"]
LIMIT = 40
"""More report steps than any create makes."""


@contract("create")
async def test_what_was_asked_for_is_there(engine: Engine, rig: Rig, make: Make) -> None:
    nics = (
        NicSpec("eth0", NicMode.NAT, random_mac()),
        NicSpec("eth1", NicMode.NAT, random_mac()),
    )[: rig.most_nics]
    spec = await make(title="Two NICs", cpu_count=2, memory_mib=160, disk_gib=2, nics=nics)
    listed, seen = (await by_ref(engine))[spec.ref], await engine.inspect(spec.ref)
    for vm in (listed, seen):
        assert (vm.ref, vm.name, vm.title) == (spec.ref, spec.name, spec.title)
        assert (vm.cpu_count, vm.memory_mib) == (2, 160)
        assert vm.state is PowerState.STOPPED
        assert vm.managed
        assert [nic.mac for nic in vm.nics] == [nic.mac for nic in nics]
        assert [nic.mode for nic in vm.nics] == [NicMode.NAT for _nic in nics]
    if engine.capabilities.disk_size:
        assert seen.disk_gib == pytest.approx(2, abs=0.01)
    assert listed.disk_gib == seen.disk_gib


@contract("create")
async def test_started_when_asked(engine: Engine, make: Make) -> None:
    spec = await make(start=True)
    assert await state(engine, spec.ref) is PowerState.RUNNING


@contract("create")
async def test_progress_is_told(engine: Engine, rig: Rig) -> None:
    report, spec = Recorder(), rig.spec()
    await engine.create(spec, report)
    await engine.delete(spec.ref, spec.name, Recorder())
    assert report.lines
    assert report.percents == sorted(report.percents)
    assert all(0 <= percent <= 100 for percent in report.percents)


@contract("create", "images", "ssh_keys")
async def test_the_guest_is_told_its_keys(engine: Engine, rig: Rig, make: Make) -> None:
    keys = ('ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJh6Yl+/9H9tVQ== somebody\'s: "key" #1 + %20', "ssh-rsa AAAA/+== 密钥")
    assert rig.keys_told(await make(image=rig.image, disk_gib=4, ssh_keys=keys)) == list(keys)
    both = await make(image=rig.image, disk_gib=4, password=SECRET, ssh_keys=keys[:1])
    assert rig.keys_told(both) == list(keys[:1])
    assert rig.keys_told(await make(image=rig.image, disk_gib=4)) == []


@contract("create", "images")
async def test_the_image_boots_to_its_agent(engine: Engine, booted: VmSpec) -> None:
    seen = await engine.inspect(booted.ref)
    assert seen.agent
    if engine.capabilities.counters:
        assert seen.load is not None or (seen.cpu_seconds or 0) > 0

    async def has_address() -> bool:
        return any(nic.addresses for nic in (await engine.inspect(booted.ref)).nics)

    await until(has_address, 30, "the guest has an address")


@contract("create", "counters")
async def test_counters_never_fall(engine: Engine, booted: VmSpec) -> None:
    names = ("cpu_seconds", "disk_read_bytes", "disk_write_bytes", "net_rx_bytes", "net_tx_bytes")
    before = (await by_ref(engine))[booted.ref]
    await asyncio.sleep(0.5)
    after = (await by_ref(engine))[booted.ref]
    if after.load is not None:  # this one tells rates
        assert 0 <= (after.load.cpu_percent or 0) <= 100
        assert all(rate is not None and rate >= 0 for rate in astuple(after.load))
        return
    for name in names:
        assert getattr(before, name) is not None, name
        assert getattr(after, name) >= getattr(before, name), name


@contract("create")
async def test_name_taken(engine: Engine, rig: Rig, untouched: None, make: Make) -> None:
    spec = await make()
    before, files = await engine.inspect(spec.ref), rig.files()
    with pytest.raises(Conflict) as caught:
        await engine.create(rig.spec(name=spec.name, disk_gib=3), Recorder())
    assert spec.name in str(caught.value)
    assert await engine.inspect(spec.ref) == before
    assert rig.files() == files
    # The loser's clean-up (delete by its own ref and the shared name) must not touch the winner.
    await engine.delete(rig.spec().ref, spec.name, Recorder())
    assert await engine.inspect(spec.ref) == before
    assert rig.files() == files


@contract("create")
async def test_two_of_one_name_at_once(engine: Engine, rig: Rig, untouched: None) -> None:
    first = rig.spec()
    second = rig.spec(name=first.name)
    answers = await asyncio.gather(
        engine.create(first, Recorder()), engine.create(second, Recorder()), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "NoneType"]
    winner = first if answers[0] is None else second
    assert (await engine.inspect(winner.ref)).name == first.name
    assert await engine.leftovers() == []
    await engine.delete(winner.ref, winner.name, Recorder())


@contract("create", "blank")
async def test_an_empty_disk_is_made(engine: Engine, make: Make) -> None:
    assert not (await engine.inspect((await make(image=None)).ref)).agent


@contract("create")
async def test_no_empty_disk_where_only_images_are_cloned(engine: Engine, rig: Rig, absent: Absent) -> None:
    if engine.capabilities.blank:
        return  # the test before holds this one
    spec = rig.spec(image=None)
    with pytest.raises(InvalidInput) as caught:
        await engine.create(spec, Recorder())
    assert caught.value.field == "os_name"
    await absent(spec)


@contract("create", "images")
async def test_unknown_image(engine: Engine, rig: Rig, absent: Absent, untouched: None) -> None:
    for name in ("No such system", "../../etc/passwd", "", "/etc/passwd"):
        spec = rig.spec(image=name)
        with pytest.raises(InvalidInput) as caught:
            await engine.create(spec, Recorder())
        assert caught.value.field == "os_name"
        assert rig.image in str(caught.value), "the message names the images that there are"
        await absent(spec)


@contract("create", "images", "disk_size")
async def test_disk_too_small_for_the_image(engine: Engine, rig: Rig, absent: Absent, untouched: None) -> None:
    spec = rig.spec(image=rig.big_image, disk_gib=1)
    with pytest.raises(InvalidInput) as caught:
        await engine.create(spec, Recorder())
    assert caught.value.field == "hdd_num"
    await absent(spec)


@pytest.mark.parametrize(
    ("field", "change"), [("cpu_num", "cpu_count"), ("ram_num", "memory_mib"), ("hdd_num", "disk_gib")]
)
@pytest.mark.parametrize("size", [0, -1])
@contract("create")
async def test_impossible_sizes(
    engine: Engine, rig: Rig, absent: Absent, untouched: None, field: str, change: str, size: int
) -> None:
    spec = rig.spec(**{change: size})
    with pytest.raises(InvalidInput) as caught:
        await engine.create(spec, Recorder())
    assert caught.value.field == field
    await absent(spec)


@contract("create", "delete")
async def test_broken_at_any_step_leaves_nothing(engine: Engine, rig: Rig, absent: Absent, untouched: None) -> None:
    spec = rig.spec(image=rig.image, disk_gib=4, start=True)
    for at in range(1, LIMIT):
        files = rig.files()
        try:
            await engine.create(spec, Breaker(at))
        except Stopped:
            await absent(spec)
            assert rig.files() == files, f"left by a create that broke at step {at}"
            continue
        assert at > 1, "create never reported a step"
        break
    await engine.delete(spec.ref, spec.name, Recorder())


@pytest.mark.parametrize("after", [None, 0, 0.02, 0.1], ids=["reporting", "working-0", "working-20ms", "working-100ms"])
@contract("create", "delete")
async def test_cancelled_at_any_step_leaves_nothing(
    engine: Engine, rig: Rig, absent: Absent, untouched: None, after: float | None
) -> None:
    spec = rig.spec(image=rig.image, disk_gib=4, start=True)
    for at in range(1, LIMIT):
        files = rig.files()
        report = Canceller(at, after)
        task = asyncio.create_task(engine.create(spec, report))
        await asyncio.wait({task})
        if task.cancelled():
            await absent(spec)
            assert rig.files() == files, f"left by a create that was cancelled at step {at}"
            continue
        assert task.exception() is None
        await engine.delete(spec.ref, spec.name, Recorder())
        if len(report.lines) < at:
            break


@pytest.mark.parametrize("title", list(TITLES.values()), ids=list(TITLES))
@contract("create", "update")
async def test_any_title_survives(engine: Engine, make: Make, title: str) -> None:
    spec = await make(title=title)
    assert (await by_ref(engine))[spec.ref].title == title


@pytest.mark.parametrize("title", list(DOUBTFUL_TITLES.values()), ids=list(DOUBTFUL_TITLES))
@contract("create")
async def test_a_doubtful_title_survives_or_is_refused(
    engine: Engine, rig: Rig, absent: Absent, untouched: None, title: str
) -> None:
    spec = rig.spec(title=title)
    try:
        await engine.create(spec, Recorder())
    except InvalidInput as error:
        assert error.field == "vm_name"
        await absent(spec)
        return
    seen = (await by_ref(engine))[spec.ref].title
    await engine.delete(spec.ref, spec.name, Recorder())
    assert seen == title


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
@contract("create")
async def test_a_bad_name_is_refused(engine: Engine, rig: Rig, absent: Absent, untouched: None, name: str) -> None:
    spec = rig.spec(name=name)
    with pytest.raises(InvalidInput) as caught:
        await engine.create(spec, Recorder())
    assert caught.value.field == "vm_uuid"
    await absent(spec)
