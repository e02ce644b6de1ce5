"""Operations: waited for, their progress told, ended when we are."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from typing import Any

from panel.engines.common.ssh import short
from panel.engines.incus.client import Client, Params, refusal
from panel.engines.types import Reporter
from panel.errors import EngineFailure, EngineTimeout, NotFound, PanelError
from panel.i18n import gettext_noop as _

END_SECONDS = 60.0
LOOK_SECONDS = 1  # between two looks at an operation's progress
WAIT_SECONDS = 10  # of one question, where nobody looks at progress
_PERCENT = re.compile(r"(\d+)%")

Operation = dict[str, Any]


class Operations:
    """Runs operations on one host."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def run(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        seconds: float,
        params: Params | None = None,
        etag: str = "",
        report: Reporter | None = None,
        span: tuple[int, int] = (0, 0),
    ) -> Operation:
        """Ask, and return when it is done; the operation's progress goes to ``report``, its percents into ``span``. When we are
        cancelled, or time is up, it is cancelled there, and its end is waited for.

        Raises:
            Conflict, NotFound, EngineFailure: it was refused or failed, with its reason.
            EngineTimeout: it has not ended in time.
        """
        asking = asyncio.ensure_future(self._client.send(method, path, json, params, etag))
        try:
            began = await asyncio.shield(asking)
            if began.get("type") != "async":
                return {}
            return await self._follow(began["operation"], seconds, report, span)
        except BaseException:
            await to_the_end(self._end(asking))
            raise

    async def begin(self, path: str, json: Any) -> Operation:
        """Ask, and return with the operation, which goes on."""
        return dict((await self._client.send("POST", path, json))["metadata"])

    async def result(self, operation: Operation, seconds: float) -> Operation:
        """The operation that ``begin`` began, once it has ended."""
        return await self._follow(f"/1.0/operations/{operation['id']}", seconds, None, (0, 0))

    async def _follow(
        self, operation: str, seconds: float, report: Reporter | None, span: tuple[int, int]
    ) -> Operation:
        path = operation.partition("?")[0]
        deadline, told = time.monotonic() + seconds, -10
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise EngineTimeout(
                    _("The host did not finish within {seconds} s, so the panel has ended it there."),
                    seconds=round(seconds, 1),
                )
            pause = min(LOOK_SECONDS if report else WAIT_SECONDS, max(1, round(left)))
            try:
                seen = await self._client.wait(path, pause)
            except NotFound:
                raise EngineFailure(
                    _("Host {host} forgot an operation before the panel saw its end. Look at the VM's state."),
                    host=self._client.name,
                ) from None
            if int(seen["status_code"]) >= 200:
                break
            percent = progress(seen)
            if report is not None and percent is not None and percent >= told + 10:
                told = percent
                at = span[0] + (span[1] - span[0]) * min(percent, 100) // 100
                await report.step(_("The host copies the image: {done} %"), percent=at, done=percent)
        if int(seen["status_code"]) != 200:
            raise refusal(self._client.name, short(str(seen.get("err") or seen.get("status"))), 400)
        return dict(seen)

    async def _end(self, asking: asyncio.Future[dict[str, Any]]) -> None:
        """End it, and wait until it has."""
        with suppress(PanelError, TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                began = await asking
                if began.get("type") != "async":
                    return
                path = str(began["operation"]).partition("?")[0]
                with suppress(PanelError):  # not all can be cancelled: then they end by themselves
                    await self._client.send("DELETE", path)
                while int((await self._client.wait(path, WAIT_SECONDS))["status_code"]) < 200:
                    pass


def progress(operation: Operation) -> int | None:
    """How far it is, when it tells: ``{"create_instance_from_image_unpack_progress": "Unpack: 45% (80MB/s)"}``."""
    for key, value in (operation.get("metadata") or {}).items():
        found = _PERCENT.search(str(value)) if key.endswith("_progress") else None
        if found:
            return int(found[1])
    return None


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
