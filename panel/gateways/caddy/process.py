"""A Caddy that the panel runs because nobody else does. It outlives the panel: domains go on being served."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from panel.errors import EngineFailure, EngineTimeout, HostUnreachable
from panel.gateways.caddy.client import CaddyClient
from panel.gateways.caddy.config import render
from panel.gateways.caddy.files import Files
from panel.gateways.sites import SiteWish
from panel.i18n import gettext_noop as _

START_SECONDS = 15.0
STOP_SECONDS = 5.0


class CaddyProcess:
    """Starts and ends it. ``prefix`` goes before the command: ``("ip", "netns", "exec", "gw")``."""

    def __init__(self, files: Files, client: CaddyClient, prefix: Sequence[str] = ()) -> None:
        self._files = files
        self._client = client
        self._prefix = tuple(prefix)
        self._child: subprocess.Popen[bytes] | None = None

    def is_ours(self) -> bool:
        """Whether the panel started the one that runs: this process of the panel, or one before it."""
        return self._pid() is not None

    def _pid(self) -> int | None:
        try:
            pid = int(self._files.pid.read_text("ascii"))
        except (OSError, ValueError):
            return None
        return pid if self._lives(pid) else None

    def _lives(self, pid: int) -> bool:
        """Whether a process is our Caddy, and not somebody who has its number now."""
        if self._child is not None:
            self._child.poll()  # takes note of its end, so that no zombie passes for it
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return bytes(self._files.start.absolute()) in words

    async def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            EngineFailure: it is not installed, or ended at once.
            EngineTimeout: it does not answer.
        """
        self._files.make()
        self._files.start.write_text(json.dumps(render(SiteWish(), self._files)), "utf-8")
        self._child = await asyncio.to_thread(self._spawn)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                await self._client.config()
            except HostUnreachable:
                if self._child.poll() is not None:
                    raise EngineFailure(
                        _("The proxy (Caddy) ended at its start: {reason}"), reason=self._last_words()
                    ) from None
                await asyncio.sleep(0.05)
            else:
                return
        await self.end()
        raise EngineTimeout(
            _("The proxy (Caddy) did not answer within {seconds} s of its start."), seconds=int(START_SECONDS)
        )

    def _spawn(self) -> subprocess.Popen[bytes]:
        files = self._files
        start, pid = str(files.start.absolute()), str(files.pid.absolute())
        command = [*self._prefix, "caddy", "run", "--config", start, "--pidfile", pid]
        folder = str(files.folder.absolute())
        environment = os.environ | {"HOME": folder, "XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder}
        with files.output.open("wb") as output:
            try:
                return subprocess.Popen(  # noqa: S603 - no shell, and no word of a user's
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
                    start_new_session=True, cwd="/",
                )  # fmt: skip
            except (FileNotFoundError, PermissionError):
                raise EngineFailure(
                    _("{program} is not installed on the host: apt-get install {package}."),
                    program="caddy", package="caddy",
                ) from None  # fmt: skip

    def _last_words(self) -> str:
        lines = [line for line in self._files.output.read_text("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1][-300:] if lines else "-"

    async def end(self) -> None:
        """End what the panel started; somebody else's is left alone."""
        pid = self._pid()
        if pid is None:
            return
        try:
            await self._client.stop()
        except HostUnreachable:
            _signal(pid, signal.SIGTERM)
        for _try in range(int(STOP_SECONDS / 0.05)):
            if not self._lives(pid):
                break
            await asyncio.sleep(0.05)
        else:
            _signal(pid, signal.SIGKILL)
        if self._child is not None and self._child.pid == pid:
            with suppress(
                subprocess.TimeoutExpired
            ):  # one that is ending has no command line any more, and is not gone yet
                await asyncio.to_thread(self._child.wait, STOP_SECONDS)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
