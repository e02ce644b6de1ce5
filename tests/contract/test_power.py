"""Power: every action that is declared works, is read back, and is refused where the state forbids it."""

from __future__ import annotations

import asyncio

import pytest

from panel.engines.base import Engine
from panel.engines.types import PowerAction, PowerState, VmSpec
from panel.errors import Conflict, EngineTimeout, Unsupported

from .conftest import Make
from .kit import Recorder, by_ref, contract, state
from .providers import Rig

START, STOP, SHUTDOWN = PowerAction.START, PowerAction.STOP, PowerAction.SHUTDOWN
SUSPEND, RESUME, RESET = PowerAction.SUSPEND, PowerAction.RESUME, PowerAction.RESET

FORBIDDEN = {
    PowerState.STOPPED: (STOP, SHUTDOWN, SUSPEND, RESUME, RESET),
    PowerState.RUNNING: (START, RESUME),
    PowerState.SUSPENDED: (START, SUSPEND, SHUTDOWN),
}


async def forbidden(engine: Engine, ref: str, now: PowerState) -> None:
    """What cannot be done in this state is refused, says the state, and changes nothing."""
    assert await state(engine, ref) is now
    for action in FORBIDDEN[now]:
        if engine.capabilities.why_not(f"power.{action}") is not None:
            continue  # its own test holds that it is Unsupported
        with pytest.raises(Conflict) as caught:
            await engine.power(ref, action, Recorder())
        assert not isinstance(caught.value, Unsupported)
        assert now.value in str(caught.value), f"{action} does not say the state: {caught.value}"
        assert await state(engine, ref) is now


@contract("create", "power.start", "power.stop", "power.suspend", "power.resume", "power.reset")
async def test_a_life(engine: Engine, make: Make) -> None:
    ref = (await make()).ref
    await forbidden(engine, ref, PowerState.STOPPED)
    for action, then in (
        (START, PowerState.RUNNING),
        (RESET, PowerState.RUNNING),
        (SUSPEND, PowerState.SUSPENDED),
        (RESUME, PowerState.RUNNING),
        (SUSPEND, PowerState.SUSPENDED),
        (STOP, PowerState.STOPPED),
        (START, PowerState.RUNNING),
        (STOP, PowerState.STOPPED),
    ):
        await engine.power(ref, action, Recorder())
        assert await state(engine, ref) is then, f"after {action}"
        assert (await by_ref(engine))[ref].state is then
        await forbidden(engine, ref, then)


@contract("create", "power.start")
async def test_a_stopped_vm_has_no_counters(engine: Engine, make: Make) -> None:
    seen = await engine.inspect((await make()).ref)
    assert seen.cpu_seconds is None
    assert seen.load is None
    assert not seen.agent


@contract("create", "power.shutdown", "power.start")
async def test_the_guest_shuts_down(engine: Engine, booted: VmSpec) -> None:
    await engine.power(booted.ref, SHUTDOWN, Recorder())
    await asyncio.sleep(1)  # no restart policy brings it back
    assert await state(engine, booted.ref) is PowerState.STOPPED
    await engine.power(booted.ref, START, Recorder())
    assert await state(engine, booted.ref) is PowerState.RUNNING


@contract("create", "power.shutdown")
async def test_a_guest_that_does_not_listen(engine: Engine, rig: Rig, make: Make) -> None:
    ref = (await make(start=True)).ref  # an empty disk: nobody is there to hear it
    await asyncio.to_thread(rig.deafen, ref)
    with pytest.raises(EngineTimeout):
        await asyncio.wait_for(engine.power(ref, SHUTDOWN, Recorder()), rig.shutdown_seconds + 20)
    assert await state(engine, ref) is PowerState.RUNNING
