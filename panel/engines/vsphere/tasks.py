"""vSphere's own tasks: waited for through the PropertyCollector, their progress told, cancelled when we are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from panel.engines.types import Reporter
from panel.engines.vsphere import faults
from panel.engines.vsphere.client import Client, Session
from panel.engines.vsphere.faults import SessionBroke
from panel.errors import EngineTimeout, PanelError
from panel.i18n import gettext_noop as _

FIRST_POLL_SECONDS = 0.05
POLL_SECONDS = 1.0
END_SECONDS = 30.0
PATHS = ["info.state", "info.progress", "info.error", "info.result", "info.cancelable", "info.descriptionId"]


class Tasks:
    """Begins tasks on one host and waits for them."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def run(
        self,
        begin: Callable[[Session], Any],
        seconds: float,
        report: Reporter | None = None,
        span: tuple[int, int] = (0, 0),
    ) -> Any:
        """Begin a task (``begin`` returns it) and return its result when it has ended well; of an object its id.
        Its percents go into ``span`` of ours. When we are cancelled, or time is up, the task is cancelled there, and its end is
        waited for.

        Raises:
            Conflict, NotFound, EngineFailure and others: it failed, with its reason.
            EngineTimeout: it has not ended in time.
        """
        beginning = asyncio.ensure_future(self._client.call(lambda session: str(begin(session)._moId)))
        moid = ""
        try:
            moid = await asyncio.shield(beginning)
            return await self._follow(moid, seconds, report, span)
        except BaseException:
            await to_the_end(self._end(beginning))
            raise

    async def _follow(self, moid: str, seconds: float, report: Reporter | None, span: tuple[int, int]) -> Any:
        deadline, pause, told = time.monotonic() + seconds, FIRST_POLL_SECONDS, -10
        while True:
            info = await self._info(moid)
            if info.get("info.state") in {"success", "error"}:
                break
            percent = int(info.get("info.progress") or 0)
            if report is not None and percent >= told + 10:
                told = percent
                at = span[0] + round((span[1] - span[0]) * min(percent, 100) / 100)
                await report.step(_("vSphere is at {done} %"), percent=at, done=percent)
            if time.monotonic() > deadline:
                raise EngineTimeout(
                    _("vSphere's task ({task}) did not end within {seconds} s, so the panel has cancelled it."),
                    task=str(info.get("info.descriptionId") or moid), seconds=round(seconds, 1),
                )  # fmt: skip
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, POLL_SECONDS)
        if info.get("info.state") == "error":
            fault = info.get("info.error")
            raise faults.translate(getattr(fault, "fault", None) or fault, self._client.name)
        result = info.get("info.result")
        return getattr(result, "_moId", result)

    async def _info(self, moid: str) -> dict[str, Any]:
        """What the task is doing. Reading is safe to repeat: a connection that breaks meanwhile is made anew."""

        def read(session: Session) -> dict[str, Any]:
            answer = session.read([session.task(moid)], "Task", PATHS)
            return answer[0][1] if answer else {}

        try:
            return await self._client.call(read)
        except SessionBroke:
            await asyncio.sleep(POLL_SECONDS)
            return await self._client.call(read)

    async def _end(self, beginning: asyncio.Future[str]) -> None:
        """Cancel it, and wait until it has ended."""
        with suppress(PanelError, TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                moid = await beginning
                asked = False
                while (info := await self._info(moid)).get("info.state") in {"queued", "running"}:
                    if not asked and info.get("info.cancelable"):
                        with suppress(PanelError):
                            await self._client.call(lambda session: session.task(moid).CancelTask())
                    asked = True
                    await asyncio.sleep(FIRST_POLL_SECONDS * 4)


async def to_the_end(work: object) -> None:
    """Finish cleaning up even when cancelled again; the cancellation follows."""
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
