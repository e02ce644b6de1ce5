"""What the contract tests share: reporters, waiting, a heartbeat, the table of calls, ``contract``."""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from panel.engines.base import Engine
from panel.engines.consoletypes import ConsoleTarget, StreamTarget, TcpTarget
from panel.engines.imagetypes import ImageFetch, ImagePut
from panel.engines.types import (
    BootDevice,
    NicMode,
    NicSpec,
    PowerAction,
    PowerState,
    SnapshotAction,
    VmChange,
    VmObservation,
    VmSpec,
)
from panel.errors import EngineFailure, NotFound, Unsupported
from tests.heartbeat import Witness, heartbeat

SECRET = "hunter2-not-in-any-message"

ATTRIBUTE = "_proves"


class Recorder:
    """A reporter that keeps what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.percents: list[int] = []

    async def step(self, message: str, /, *, percent: int | None = None, **params: object) -> None:
        self.lines.append(f"{message} {params}")
        if percent is not None:
            self.percents.append(percent)
        await self.reached(len(self.lines))

    async def warn(self, message: str, /, **params: object) -> None:
        self.lines.append(f"warning: {message} {params}")

    async def reached(self, number: int) -> None:
        """Called at each step, counted from 1 (warnings count as well)."""


class Stopped(EngineFailure):
    """What a breaking reporter raises, to be told from the engine's own failures."""


class Breaker(Recorder):
    """A reporter that breaks the call at one step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    async def reached(self, number: int) -> None:
        if number == self.at:
            raise Stopped("The test broke this call at step {number}.", number=number)


class Canceller(Recorder):
    """A reporter that cancels the call: during one step's report, or ``after`` seconds later, amid work."""

    def __init__(self, at: int, after: float | None = None) -> None:
        super().__init__()
        self.at = at
        self.after = after

    async def reached(self, number: int) -> None:
        task = asyncio.current_task()
        if number != self.at or task is None:
            return
        if self.after is None:
            task.cancel()
            await asyncio.sleep(3600)
        asyncio.get_running_loop().call_later(self.after or 0, task.cancel)


async def until(question: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    """Ask until the answer is yes."""
    deadline = time.monotonic() + seconds
    while not await question():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.1)


async def is_there(engine: Engine, ref: str) -> bool:
    """Whether ``inspect`` knows the VM."""
    try:
        await engine.inspect(ref)
    except NotFound:
        return False
    return True


async def state(engine: Engine, ref: str) -> PowerState:
    """The VM's state, read now."""
    return (await engine.inspect(ref)).state


async def by_ref(engine: Engine) -> dict[str, VmObservation]:
    """All VMs of the host."""
    return {vm.ref: vm for vm in await engine.observe()}


def random_mac() -> str:
    """A locally administered address in QEMU's own range."""
    return "52:54:00" + "".join(f":{random.randrange(256):02x}" for _ in range(3))


def some_spec(prefix: str, **changes: object) -> VmSpec:
    """A small stopped VM with an empty disk and one NIC; anything can be said otherwise."""
    values: dict[str, object] = {
        "ref": str(uuid4()),
        "name": f"{prefix}{uuid4().hex[:8]}",
        "title": "A machine",
        "cpu_count": 1,
        "memory_mib": 128,
        "disk_gib": 1,
        "nics": (NicSpec("eth0", NicMode.NAT, random_mac()),),
        "start": False,
    }
    return VmSpec(**(values | changes))  # type: ignore[arg-type]


async def watch_once(engine: Engine) -> None:
    """The first thing that ``watch`` does, and no more of it."""
    task = asyncio.ensure_future(anext(aiter(engine.watch())))
    await asyncio.wait({task}, timeout=0.3)
    if not task.done():
        task.cancel()
        return
    await task


Call = Callable[[Engine, str], Awaitable[object]]

# Every capability that is a call, and the call. A capability that is not here is a property of other calls.
CALLS: dict[str, Call] = {
    "create": lambda engine, ref: engine.create(some_spec("undeclared-", ref=ref), Recorder()),
    "update": lambda engine, ref: engine.update(ref, VmChange(title="other"), Recorder()),
    "delete": lambda engine, ref: engine.delete(ref, "undeclared", Recorder()),
    "console": lambda engine, ref: engine.console(ref),
    "iso": lambda engine, ref: engine.update(ref, VmChange(iso=""), Recorder()),
    "boot_order": lambda engine, ref: engine.update(ref, VmChange(boot=(BootDevice.DISK,)), Recorder()),
    "screenshot": lambda engine, ref: engine.screenshot(ref, 320),
    "spice_console": lambda engine, ref: engine.spice_console(ref),
    "text_console": lambda engine, ref: engine.text_console(ref),
    "password": lambda engine, ref: engine.set_password(ref, "root", SECRET),
    "snapshots": lambda engine, ref: engine.snapshot(ref, SnapshotAction.TAKE, "before", Recorder()),
    "image_urls": lambda engine, _ref: engine.fetch_image(
        ImageFetch("none", ".raw", "http://127.0.0.1:1/none", "sha256", "0" * 64), Recorder()
    ),
    "image_files": lambda engine, _ref: engine.put_image(ImagePut(Path("/none"), "none.img", {}, "0"), Recorder()),
    "images": lambda engine, _ref: engine.list_images(),
    "networks": lambda engine, _ref: engine.list_networks(),
    "native_forwards": lambda engine, _ref: engine.native_forwards(),
    "events": lambda engine, _ref: watch_once(engine),
    "host_load": lambda engine, _ref: engine.host_status(),
}
for _action in PowerAction:
    CALLS[f"power.{_action}"] = lambda engine, ref, action=_action: engine.power(ref, action, Recorder())  # type: ignore[misc]

PROPERTIES = frozenset({"scan", "ssh_keys", "update_live", "blank", "disk_size", "counters", "leftovers"})
"""Capabilities without a call of their own: an engine without them simply never shows it."""


async def refuses(engine: Engine, name: str) -> None:
    """An undeclared capability says so, with a reason."""
    with pytest.raises(Unsupported) as caught:
        await CALLS[name](engine, str(uuid4()))
    assert str(caught.value)


Test = Callable[..., Awaitable[None]]


class _Own:
    """A rig whose calls are the test's own work: some run a hypervisor's tool and wait for it."""

    def __init__(self, rig: object, witness: Witness) -> None:
        self._rig, self._witness = rig, witness

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._rig, name)
        if not inspect.ismethod(found) or inspect.iscoroutinefunction(found):
            return found

        @functools.wraps(found)
        def call(*values: Any, **named: Any) -> Any:
            with self._witness.own_work():
                return found(*values, **named)

        return call


def contract(*capabilities: str) -> Callable[[Test], Test]:
    """A test of the contract, which exercises ``capabilities``.

    An engine that does not declare one of them must refuse it: that is asserted instead, nothing is skipped.
    The event loop must stay alive throughout either.
    """

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        async def run(**fixtures: object) -> None:
            engine = fixtures["engine"]
            assert isinstance(engine, Engine)
            missing = [name for name in capabilities if engine.capabilities.why_not(name) is not None]
            async with heartbeat() as witness:
                if "rig" in fixtures:
                    fixtures["rig"] = _Own(fixtures["rig"], witness)
                if not missing:
                    await test(**fixtures)
                for name in missing:
                    if name in CALLS:
                        await refuses(engine, name)

        setattr(run, ATTRIBUTE, capabilities)
        return run

    return decorate


def proofs(module: object) -> Iterator[str]:
    """The capabilities that the tests of a module exercise."""
    for name, value in vars(module).items():
        if name.startswith("test_"):
            yield from getattr(value, ATTRIBUTE, ())


async def dial(target: ConsoleTarget) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a console as the bridge would."""
    if isinstance(target, StreamTarget):
        return await target.open()
    if isinstance(target, TcpTarget):
        return await asyncio.open_connection(target.host, target.port)
    return await asyncio.open_unix_connection(target.path)
