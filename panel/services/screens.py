"""Pictures of screens: small, kept for some seconds, and never more at once than a host bears."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from panel.engines.common.pictures import jpeg
from panel.engines.types import PowerState
from panel.errors import Conflict, PanelError
from panel.i18n import gettext_noop as _
from panel.models import Vm
from panel.security import Actor, Permission
from panel.services.engines import EnginePool, capabilities, limited

WIDTH = 320
MOST_BYTES = 20_000
FRESH_SECONDS = 5.0
TAKE_SECONDS = 8.0
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Picture:
    """A screen as it was at ``at`` (monotonic seconds). ``number`` is another one for each picture."""

    data: bytes
    mime: str
    at: float
    number: int


class ScreenService:
    """The screens of VMs, as small pictures."""

    def __init__(self, pool: EnginePool) -> None:
        self._pool = pool
        self._taken: dict[int, Picture] = {}
        self._failed: dict[int, tuple[float, PanelError]] = {}
        self._taking: dict[int, asyncio.Task[Picture]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._count = 0

    async def take(self, actor: Actor, vm: Vm) -> Picture:
        """The screen now, or as it was some seconds ago. Who asks at the same time gets the same picture.

        Raises:
            Unsupported: the engine takes none.
            Conflict: the VM does not run, its host is disabled, or it has no screen.
            EngineTimeout: the host gave none within ``TAKE_SECONDS``.
        """
        actor.require(Permission.OPERATE)
        capabilities(vm.host.engine).require("screenshot")
        if vm.state not in {PowerState.RUNNING, PowerState.SUSPENDED}:
            raise Conflict(_("The VM is not running, so it has no screen."))
        self._pool.of(vm.host)
        self._forget_old()
        if vm.id in self._taken:
            return self._taken[vm.id]
        if vm.id in self._failed:
            raise self._failed[vm.id][1].with_traceback(None)
        task = self._taking.get(vm.id)
        if task is None:
            task = self._taking[vm.id] = asyncio.get_running_loop().create_task(self._take(vm))
            task.add_done_callback(lambda done: self._done(vm.id, done))
        return await asyncio.shield(task)  # others may wait for it as well

    async def close(self) -> None:
        """Take no more."""
        tasks = list(self._taking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, vm: Vm) -> Picture:
        data = await limited(self._picture(vm), TAKE_SECONDS)
        mime = "image/png"
        if len(data) > MOST_BYTES:
            data, mime = await asyncio.to_thread(jpeg, data, MOST_BYTES), "image/jpeg"
        self._count += 1
        return Picture(data, mime, time.monotonic(), self._count)

    async def _picture(self, vm: Vm) -> bytes:
        async with self._slots:
            return await self._pool.of(vm.host).screenshot(vm.ref, WIDTH)

    def _done(self, vm_id: int, task: asyncio.Task[Picture]) -> None:
        del self._taking[vm_id]
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._taken[vm_id] = task.result()
        elif isinstance(error, PanelError):
            self._failed[vm_id] = (time.monotonic(), error)

    def _forget_old(self) -> None:
        now = time.monotonic()
        self._taken = {key: one for key, one in self._taken.items() if now - one.at < FRESH_SECONDS}
        self._failed = {key: one for key, one in self._failed.items() if now - one[0] < FRESH_SECONDS}
