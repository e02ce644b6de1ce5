"""The ways in which a fake host goes wrong, each as advertised."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.engine import FakeEngine
from panel.engines.fake.world import reset_worlds
from panel.engines.types import HostConnection, PowerAction, PowerState, VmChange, VmSpec
from panel.errors import EngineFailure, EngineTimeout, HostUnreachable, InvalidInput


class Quiet:
    """A reporter for nobody."""

    async def step(self, message: str, /, *, percent: int | None = None, **params: object) -> None:
        """Nothing."""

    async def warn(self, message: str, /, **params: object) -> None:
        """Nothing."""


QUIET = Quiet()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    reset_worlds()
    yield
    reset_worlds()


def fake(**options: str) -> FakeEngine:
    """An engine of the world ``w``."""
    return FakeEngine(HostConnection("a", address="w", options=options))


def a_spec(name: str = "box", *, start: bool = True) -> VmSpec:
    return VmSpec(str(uuid4()), name, "Box", 1, 256, 10, (), image="Debian 12", start=start)


async def test_slow_takes_its_time() -> None:
    before = time.monotonic()
    await fake(behaviour="slow", delay="0.2").observe()
    assert time.monotonic() - before >= 0.19


async def test_delay_without_a_behaviour() -> None:
    before = time.monotonic()
    await fake(delay="0.2").observe()
    assert time.monotonic() - before >= 0.19


async def test_only_some_calls_are_slow() -> None:
    engine = fake(behaviour="slow", delay="60", only="observe")
    await asyncio.wait_for(engine.probe(), 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(engine.observe(), 0.05)


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4])
async def test_failing_at_each_step_of_create_leaves_nothing(step: int) -> None:
    engine = fake(behaviour="failing", fail_at=f"create:{step}")
    with pytest.raises(EngineFailure) as caught:
        await engine.create(a_spec(), QUIET)
    assert f"step {step} of create" in str(caught.value)
    assert engine.world.vms == {}
    assert engine.world.disks == {}
    await fake().create(a_spec(), QUIET)


async def test_failing_elsewhere_does_not_hurt() -> None:
    engine = fake(behaviour="failing", fail_at="delete:2")
    spec = a_spec()
    await engine.create(spec, QUIET)
    with pytest.raises(EngineFailure):
        await engine.delete(spec.ref, spec.name, QUIET)
    assert spec.ref not in engine.world.vms
    assert len(await engine.leftovers()) == 2
    await fake().delete(spec.ref, spec.name, QUIET)
    assert await engine.leftovers() == []


async def test_failing_without_more_fails_every_change() -> None:
    engine, spec = fake(behaviour="failing"), a_spec()
    await fake().create(spec, QUIET)
    for call in (
        engine.create(a_spec("other"), QUIET),
        engine.update(spec.ref, VmChange(title="x"), QUIET),
        engine.power(spec.ref, PowerAction.STOP, QUIET),
        engine.set_password(spec.ref, "root", "x"),
        engine.delete(spec.ref, spec.name, QUIET),
    ):
        with pytest.raises(EngineFailure):
            await call
    assert (await engine.inspect(spec.ref)).state is PowerState.RUNNING


async def test_lying_about_power() -> None:
    engine, spec = fake(behaviour="lying"), a_spec()
    await engine.create(spec, QUIET)
    await engine.power(spec.ref, PowerAction.STOP, QUIET)
    assert (await engine.inspect(spec.ref)).state is PowerState.RUNNING


async def test_lying_about_the_rest() -> None:
    spec = a_spec()
    await fake().create(spec, QUIET)
    engine = fake(behaviour="lying", lies="create, update, delete, password")
    await engine.create(a_spec("other"), QUIET)
    assert (await engine.update(spec.ref, VmChange(title="x"), QUIET)).live == ("title",)
    await engine.set_password(spec.ref, "root", "x")
    assert len((await engine.delete(spec.ref, spec.name, QUIET)).removed) == 2
    assert [vm.title for vm in await engine.observe()] == ["Box"]
    assert engine.world.vms[spec.ref].passwords == {}


async def test_lying_about_what_is_there() -> None:
    engine, spec = fake(behaviour="lying", lies="observe"), a_spec()
    assert await engine.observe() == []
    await engine.create(spec, QUIET)
    assert await engine.observe() == []
    assert len(await fake().observe()) == 1


async def test_hung_never_returns_and_can_be_cut() -> None:
    engine = fake(behaviour="hung")
    for call in (engine.probe, engine.observe, engine.host_status, engine.list_images):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call(), 0.02)
    await asyncio.wait_for(engine.close(), 1)


async def test_refusing_is_unreachable_at_once() -> None:
    engine = fake(behaviour="refusing")
    with pytest.raises(HostUnreachable):
        await engine.probe()
    with pytest.raises(HostUnreachable):
        await anext(aiter(engine.watch()))


async def test_garbage_is_garbage() -> None:
    engine = fake(behaviour="garbage", vms="1")
    engine.world.clock = lambda: 1000.0
    first = (await engine.observe())[0]
    engine.world.clock = lambda: 1010.0
    second = (await engine.observe())[0]
    assert "<script>" in first.title
    assert (second.cpu_seconds or 0) < (first.cpu_seconds or 0)


async def test_a_host_turns_bad_and_good_again() -> None:
    engine = fake()
    await engine.observe()
    engine.world.behaviour = Behaviour(Manner.REFUSING)
    with pytest.raises(HostUnreachable):
        await engine.observe()
    engine.world.behaviour = None
    await engine.observe()


async def test_a_guest_that_ignores_shutdown() -> None:
    engine, spec = fake(shutdown_timeout="0.05"), a_spec()
    await engine.create(spec, QUIET)
    engine.world.vms[spec.ref].ignores_shutdown = True
    with pytest.raises(EngineTimeout):
        await engine.power(spec.ref, PowerAction.SHUTDOWN, QUIET)
    assert (await engine.inspect(spec.ref)).state is PowerState.RUNNING


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("behaviour", "evil"),
        ("delay", "soon"),
        ("delay", "-1"),
        ("delay", "nan"),
        ("vms", "many"),
        ("shutdown_timeout", "inf"),
    ],
)
def test_a_senseless_option_is_named(option: str, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        fake(**{option: value})
    assert caught.value.field == option


def test_a_senseless_fail_at_is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        fake(behaviour="failing", fail_at="lunch:1")
    assert caught.value.field == "fail_at"
