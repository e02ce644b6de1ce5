"""Proxmox's own tasks, by UPID: waited for, their log told, ended when we are."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from urllib.parse import quote

from panel.engines.common.ssh import short
from panel.engines.proxmox.client import Client, refusal
from panel.engines.types import Reporter
from panel.errors import EngineTimeout, PanelError
from panel.i18n import gettext_noop as _

FIRST_POLL_SECONDS = 0.1
POLL_SECONDS = 1.0
END_SECONDS = 30.0
LINES = 500  # of a log, at a time
_PERCENT = re.compile(r"(?:\(|\. +)(\d+(?:\.\d+)?)\s*%")  # as copies, and as wget count


class Tasks:
    """Waits for tasks of one host."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def wait(
        self, upid: str, seconds: float, report: Reporter | None = None, span: tuple[int, int] = (0, 0)
    ) -> None:
        """Return when the task has ended well; its log goes to ``report``, its percents into ``span`` of ours. When we are
        cancelled, or time is up, the task is ended there, and that is waited for.

        Raises:
            Conflict, NotFound, EngineFailure: it failed, with its reason.
            EngineTimeout: it has not ended in time.
        """
        try:
            await self._follow(upid, seconds, _Log(self._client, upid, report, span) if report else None)
        except BaseException:
            await to_the_end(self.end(upid))
            raise

    async def _follow(self, upid: str, seconds: float, log: _Log | None) -> None:
        deadline, pause = time.monotonic() + seconds, FIRST_POLL_SECONDS
        while True:
            status = await self._client.get(f"{task_path(upid)}/status")
            if log is not None:
                await log.tell()
            if status.get("status") == "stopped":
                break
            if time.monotonic() > deadline:
                raise EngineTimeout(
                    _("Proxmox's task ({task}) did not end within {seconds} s, so the panel has ended it."),
                    task=upid.split(":")[5], seconds=round(seconds, 1),
                )  # fmt: skip
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, POLL_SECONDS)
        result = str(status.get("exitstatus", ""))
        if result != "OK" and not result.startswith("WARNINGS"):
            raise refusal(self._client.host, short(result))

    async def end(self, upid: str) -> None:
        """End it, and wait until it has cleaned up behind itself."""
        with suppress(PanelError, TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                asked = False
                while not await self._ended(upid):
                    if asked:
                        await asyncio.sleep(FIRST_POLL_SECONDS)
                    else:
                        await self._client.delete(task_path(upid))
                    asked = True

    async def went_well(self, upid: str) -> bool:
        """Whether a task that has ended did what it should."""
        return str((await self._client.get(f"{task_path(upid)}/status")).get("exitstatus", "")) == "OK"

    async def _ended(self, upid: str) -> bool:
        return bool((await self._client.get(f"{task_path(upid)}/status")).get("status") == "stopped")


class _Log:
    """What of a task's log has been told. Of lines that only count up, each tenth percent."""

    def __init__(self, client: Client, upid: str, report: Reporter, span: tuple[int, int]) -> None:
        self._client, self._path, self._report, self._span = client, f"{task_path(upid)}/log", report, span
        self._told = 0
        self._percent = -10.0

    async def tell(self) -> None:
        """What is new."""
        params = {"start": str(self._told), "limit": str(LINES)}
        for line in await self._client.get(self._path, params):
            text = short(str(line.get("t", "")))
            self._told = max(self._told, int(line.get("n", 0)))
            if not text or text == "no content":
                self._told -= text == "no content"
                continue
            found = _PERCENT.search(text)
            if found is None:
                await self._report.step(_("Proxmox: {line}"), line=text)
            elif float(found[1]) >= self._percent + 10:
                self._percent = float(found[1])
                first, last = self._span
                percent = first + round((last - first) * min(self._percent, 100) / 100)
                await self._report.step(_("Proxmox: {line}"), percent=percent, line=text)


def task_path(upid: str) -> str:
    """Below the API's base. The node is in the UPID."""
    return f"/nodes/{quote(upid.split(':')[1], safe='')}/tasks/{quote(upid, safe='')}"


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
