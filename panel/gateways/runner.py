"""How a gateway runs programs on its host: here, in a network namespace, or (elsewhere) over SSH."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from panel.errors import EngineFailure, EngineTimeout, PanelError
from panel.i18n import gettext_noop as _

NOT_FOUND = 127  # the shell's code for a program that is not there


@dataclass(frozen=True, slots=True)
class Completed:
    """What a program answered. ``returncode`` is 127 when it is not installed."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def missing(self) -> bool:
        """The program is not installed (``ip netns exec`` says it in words)."""
        return self.returncode == NOT_FOUND or (self.returncode != 0 and self.stderr.startswith("exec of "))


class Runner(Protocol):
    """Runs one program. Raises ``EngineTimeout`` after ``seconds`` (the program is then dead or given up), and
    ``HostUnreachable`` when the host cannot be reached; a program that fails is no exception."""

    async def run(self, argv: Sequence[str], *, stdin: str = "", seconds: float = 30.0) -> Completed:
        """Run ``argv`` (no shell) with ``stdin`` and wait for it."""


class LocalRunner:
    """Runs programs on this machine. ``prefix`` goes before every command: ``("ip", "netns", "exec", "gw")``."""

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        self._prefix = tuple(prefix)

    async def run(self, argv: Sequence[str], *, stdin: str = "", seconds: float = 30.0) -> Completed:
        """See ``Runner``. The process group is killed on time-out and on cancellation."""
        with tempfile.TemporaryFile() as source:  # a pipe races with a program that ends before it has read all
            source.write(stdin.encode())
            source.seek(0)
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._prefix,
                    *argv,
                    stdin=source,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    start_new_session=True,
                    env={**os.environ, "LC_ALL": "C"},
                )
            except (FileNotFoundError, PermissionError) as error:
                return Completed(NOT_FOUND, "", f"{argv[0]}: {error.strerror}")
            return await _outcome(process, argv[0], seconds)


async def _outcome(process: asyncio.subprocess.Process, program: str, seconds: float) -> Completed:
    """Wait for a program; kill its process group on time-out and on cancellation."""
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except TimeoutError:
        raise EngineTimeout(
            _("{program} did not end within {seconds} s. Look at the host's load."),
            program=program,
            seconds=round(seconds, 1),
        ) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
    return Completed(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))


def failure(program: str, package: str, answer: Completed) -> PanelError:
    """What a failed program means, with the mend."""
    reason = next((line.strip() for line in answer.stderr.splitlines() if line.strip()), "")[:300]
    if answer.missing:
        return EngineFailure(
            _("{program} is not installed on the host: apt-get install {package}."), program=program, package=package
        )
    if "not permitted" in answer.stderr or "you must be root" in answer.stderr:
        return EngineFailure(
            _("{program} was refused: the panel needs root (CAP_NET_ADMIN, CAP_SYS_ADMIN) on the host."),
            program=program,
        )
    return EngineFailure(_("{program} failed on the host: {reason}"), program=program, reason=reason)


async def must(runner: Runner, argv: Sequence[str], package: str, *, stdin: str = "", seconds: float = 30.0) -> str:
    """The output of a program that must succeed; else ``EngineFailure``."""
    answer = await runner.run(argv, stdin=stdin, seconds=seconds)
    if answer.returncode != 0:
        raise failure(argv[0], package, answer)
    return answer.stdout
