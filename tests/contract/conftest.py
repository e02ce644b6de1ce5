"""Fixtures of the contract suite, each once per engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from panel.engines.base import Engine
from panel.engines.types import PowerAction, PowerState, VmSpec
from panel.errors import PanelError

from .kit import Recorder, is_there, until
from .providers import PROVIDERS, EngineUnderTest, Rig

Make = Callable[..., Awaitable[VmSpec]]


def _parameters() -> list[object]:
    return [pytest.param(one, id=one.name, marks=[pytest.mark.live] if one.live else []) for one in PROVIDERS]


@pytest.fixture(autouse=True)
def fresh_worlds() -> None:
    """Not here: a rig's host, fake or not, lives as long as the rig (``tests/conftest.py`` forgets fake ones)."""


@pytest.fixture(scope="session", params=_parameters())
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A prepared host of the engine."""
    provider: EngineUnderTest = request.param
    with provider.rig(request) as made:
        _aside(_with_engine(made, lambda engine: engine.prepare()))
        yield made


@pytest.fixture
async def engine(rig: Rig) -> AsyncIterator[Engine]:
    """An engine of this test's own."""
    made = rig.engine()
    yield made
    await made.close()


@pytest.fixture
async def make(rig: Rig, engine: Engine) -> AsyncIterator[Make]:
    """Makes VMs that go away with the test."""
    specs: list[VmSpec] = []

    async def one(**changes: object) -> VmSpec:
        spec = rig.spec(**changes)
        specs.append(spec)
        await engine.create(spec, Recorder())
        return spec

    yield one
    for spec in specs:
        await engine.delete(spec.ref, spec.name, Recorder())


@pytest.fixture(scope="session")
def shared_vm(rig: Rig) -> Iterator[VmSpec]:
    """One VM with a guest in it for the whole suite: booting takes a while. Ask for ``booted``."""
    spec = rig.spec(image=rig.image, title="Shared", memory_mib=192, disk_gib=4, start=True, password="first-boot")
    _aside(_with_engine(rig, lambda engine: engine.create(spec, Recorder())))
    yield spec
    _aside(_with_engine(rig, lambda engine: engine.delete(spec.ref, spec.name, Recorder())))


@pytest.fixture
async def booted(rig: Rig, engine: Engine, shared_vm: VmSpec) -> VmSpec:
    """The shared VM, running, its agent answering."""
    seen = (await engine.inspect(shared_vm.ref)).state
    if seen is PowerState.STOPPED:
        await engine.power(shared_vm.ref, PowerAction.START, Recorder())
    elif seen is PowerState.SUSPENDED:
        await engine.power(shared_vm.ref, PowerAction.RESUME, Recorder())

    async def answers() -> bool:
        return bool((await engine.inspect(shared_vm.ref)).agent)

    await until(answers, rig.boot_seconds, "the guest agent answers")
    return shared_vm


@pytest.fixture
async def untouched(rig: Rig, engine: Engine) -> AsyncIterator[None]:
    """Around a test that breaks things: afterwards the host has the files and VMs of ours that it had before."""

    async def ours() -> set[str]:
        return {vm.ref for vm in await engine.observe() if vm.name.startswith(rig.prefix)}

    files, refs = rig.files(), await ours()
    yield
    assert await ours() == refs
    assert rig.files() == files
    assert await engine.leftovers() == []


@pytest.fixture
async def absent(engine: Engine) -> Callable[[VmSpec], Awaitable[None]]:
    """Asserts that nothing of a VM is there."""

    async def check(spec: VmSpec) -> None:
        assert not await is_there(engine, spec.ref)
        assert spec.name not in {vm.name for vm in await engine.observe()}
        assert await engine.leftovers() == []

    return check


async def _with_engine(rig: Rig, work: Callable[[Engine], Awaitable[object]]) -> None:
    engine = rig.engine()
    try:
        await work(engine)
    except PanelError as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error
    finally:
        await engine.close()


def _aside(work: Awaitable[None]) -> None:
    """Run a coroutine to its end outside of any test's event loop."""

    async def main() -> None:
        await work

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, main()).result()
