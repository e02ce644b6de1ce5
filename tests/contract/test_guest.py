"""The way into a running guest: its screen and its password."""

from __future__ import annotations

import asyncio

import pytest

from panel.engines.base import Engine
from panel.engines.types import PowerAction, VmSpec
from panel.errors import Conflict, Unsupported

from .conftest import Make
from .kit import SECRET, Recorder, contract, dial, until
from .providers import Rig


@contract("create", "console")
async def test_the_screen_speaks_rfb(engine: Engine, make: Make) -> None:
    ref = (await make(start=True)).ref
    for _ in range(2):  # and again, after the first viewer has gone
        target = await engine.console(ref)
        reader, writer = await dial(target)
        try:
            assert await asyncio.wait_for(reader.readexactly(12), 5) == b"RFB 003.008\n"
        finally:
            writer.close()


@contract("create", "console")
async def test_two_viewers(engine: Engine, make: Make) -> None:
    ref = (await make(start=True)).ref
    opened = [await dial(await engine.console(ref)) for _ in range(2)]
    for reader, writer in opened:
        assert await asyncio.wait_for(reader.readexactly(12), 5) == b"RFB 003.008\n"
        writer.close()


@contract("create", "console", "power.stop")
async def test_the_screen_ends_with_the_vm(engine: Engine, make: Make) -> None:
    ref = (await make(start=True)).ref
    reader, writer = await dial(await engine.console(ref))
    await reader.readexactly(12)
    await engine.power(ref, PowerAction.STOP, Recorder())
    try:
        assert await asyncio.wait_for(reader.read(), 5) is not None
    finally:
        writer.close()


@contract("create", "console")
async def test_no_screen_when_off(engine: Engine, make: Make) -> None:
    ref = (await make()).ref
    with pytest.raises(Conflict) as caught:
        await engine.console(ref)
    assert not isinstance(caught.value, Unsupported)
    assert "start it" in str(caught.value).lower()


@contract("create", "spice_console")
async def test_a_spice_screen_says_why_there_is_none(engine: Engine, make: Make) -> None:
    """Of a VM that is off, or of what never has one; ``Engine.observe`` has told which. A screen that is there:
    ``tests/engines/incus/test_vga.py``."""
    ref = (await make()).ref
    has_screen = (await engine.inspect(ref)).screen
    with pytest.raises(Conflict) as caught:
        await engine.spice_console(ref)
    assert isinstance(caught.value, Unsupported) != has_screen
    assert ("start it" if has_screen else "text console") in str(caught.value).lower()


@contract("create", "password")
async def test_a_password_is_set(engine: Engine, rig: Rig, booted: VmSpec) -> None:
    async def has_address() -> bool:
        return any(nic.addresses for nic in (await engine.inspect(booted.ref)).nics)

    await until(has_address, 30, "the guest has an address")
    seen = await engine.inspect(booted.ref)
    assert await rig.logs_in(seen, "root", booted.password or ""), "the password of first boot"
    password = 'It\'s "$(x)" \\ 1'
    await engine.set_password(booted.ref, "root", password)
    assert await rig.logs_in(seen, "root", password)
    assert not await rig.logs_in(seen, "root", "something else")


@contract("create", "password")
async def test_no_password_without_an_agent(engine: Engine, make: Make) -> None:
    ref = (await make(start=True)).ref  # an empty disk: no guest, no agent
    with pytest.raises(Conflict) as caught:
        await engine.set_password(ref, "root", SECRET)
    assert "agent" in str(caught.value)
    assert SECRET not in str(caught.value)


@contract("create", "password")
async def test_no_password_when_off(engine: Engine, make: Make) -> None:
    ref = (await make()).ref
    with pytest.raises(Conflict) as caught:
        await engine.set_password(ref, "root", SECRET)
    assert "start it" in str(caught.value).lower()


@contract("create", "password")
async def test_the_agent_is_told_as_it_is(engine: Engine, rig: Rig, make: Make) -> None:
    ref = (await make(start=True)).ref
    assert not (await engine.inspect(ref)).agent
