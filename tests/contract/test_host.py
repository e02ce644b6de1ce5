"""The host as a whole: connecting, preparing, looking, closing, secrets, many calls at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

import pytest

from panel.engines.base import Engine
from panel.engines.types import PowerState

from .conftest import Make
from .kit import SECRET, Recorder, by_ref, contract
from .providers import Rig


@contract()
async def test_probe(engine: Engine) -> None:
    info = await engine.probe()
    assert info.version
    assert info.hostname
    if engine.capabilities.host_load:
        assert info.cpu_count >= 1
        assert info.memory_mib >= 256
    else:
        assert (info.cpu_count, info.memory_mib) == (0, 0)
    assert all(str(warning) for warning in info.warnings)


@contract()
async def test_prepare_again_changes_nothing(engine: Engine, untouched: None) -> None:
    before = await engine.probe()
    await engine.prepare()
    await engine.prepare()
    after = await engine.probe()
    assert (after.version, after.warnings) == (before.version, before.warnings)


@contract("host_load")
async def test_host_status_is_plausible(engine: Engine) -> None:
    status = await engine.host_status()
    assert status.cpu_percent is None or 0 <= status.cpu_percent <= 100
    assert status.cpu_count >= 1
    assert 0 < status.memory_used_mib <= status.memory_total_mib
    assert 0 <= status.disk_used_gib <= status.disk_total_gib
    assert status.disk_total_gib > 0


@contract("create")
async def test_observe_returns_all(engine: Engine, rig: Rig, make: Make) -> None:
    specs = [await make() for _ in range(rig.many)]
    seen = await by_ref(engine)
    for spec in specs:
        assert seen[spec.ref].name == spec.name
        assert seen[spec.ref].state is PowerState.STOPPED


@contract("images")
async def test_images(engine: Engine, rig: Rig) -> None:
    images = await engine.list_images()
    names = [image.name for image in images]
    assert {rig.image, rig.big_image} <= set(names)
    assert len(names) == len(set(names))
    for image in images:
        assert image.key
        assert image.format
        assert image.default_user
        if engine.capabilities.disk_size:
            assert image.size_bytes > 0
            assert image.virtual_gib > 0
        else:
            assert image.size_bytes >= 0  # of what is on the host; no disk has to be as large
            assert image.virtual_gib == 0
    assert (
        not engine.capabilities.disk_size
        or next(image.virtual_gib for image in images if image.name == rig.big_image) > 1
    )


@contract()
async def test_close_twice(engine: Engine) -> None:
    await engine.observe()
    await engine.close()
    await engine.close()


async def test_close_unused(rig: Rig) -> None:
    engine = rig.engine()
    await engine.close()


@contract("create")
async def test_two_engines_of_one_host_see_the_same(engine: Engine, rig: Rig, make: Make) -> None:
    spec = await make()
    other = rig.engine()
    try:
        assert (await other.inspect(spec.ref)).name == spec.name
    finally:
        await other.close()


@contract("create", "console", "password")
async def test_secrets_are_not_shown(engine: Engine, rig: Rig, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    report = Recorder()
    spec = rig.spec(image=rig.image, password=SECRET, disk_gib=4)
    try:
        await engine.create(spec, report)
        seen = await engine.inspect(spec.ref)
    finally:
        await engine.delete(spec.ref, spec.name, report)
    shown = [repr(spec), repr(seen), repr(engine), repr(vars(engine)), *report.lines, caplog.text]
    assert not [text for text in shown if SECRET in text]


@contract("create")
async def test_calls_at_the_same_time(engine: Engine, make: Make) -> None:
    first = await make()
    looking = asyncio.gather(
        *(engine.observe() for _ in range(8)),
        *(engine.inspect(first.ref) for _ in range(8)),
        *loads(engine),
        engine.probe(),
    )
    second, third = await asyncio.gather(make(), make())
    await looking
    assert {first.ref, second.ref, third.ref} <= set(await by_ref(engine))


def loads(engine: Engine) -> list[Awaitable[object]]:
    """A look at the host's load, where the engine has one."""
    return [engine.host_status()] if engine.capabilities.host_load else []


def test_fields_of_the_form(rig: Rig) -> None:
    engine = rig.engine()
    names = [item.name for item in engine.fields]
    assert len(names) == len(set(names))
    assert all(item.label for item in engine.fields)
    assert engine.title
    assert not engine.connection.secret or engine.connection.secret not in repr(engine.connection)


@contract("create", "delete")
async def test_looking_while_vms_come_and_go(engine: Engine, rig: Rig, untouched: None) -> None:
    """What vanishes between two steps of a bulk call is not an error of the call."""

    async def churn() -> None:
        for _ in range(6):
            spec = rig.spec(start=True)
            await engine.create(spec, Recorder())
            await engine.delete(spec.ref, spec.name, Recorder())

    other = rig.engine()
    churning = asyncio.gather(churn(), churn())
    try:
        while not churning.done():
            await asyncio.gather(other.observe(), other.leftovers(), *loads(other))
            await asyncio.sleep(0.01)
    finally:
        await asyncio.wait({churning})
        await other.close()
    await churning
