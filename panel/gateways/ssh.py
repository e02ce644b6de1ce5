"""Programs on another machine, over SSH, as root: what a gateway there is made of."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from math import ceil
from typing import Protocol

from panel.errors import EngineFailure, EngineTimeout
from panel.gateways.runner import Completed
from panel.i18n import gettext_noop as _

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # a login's own often lacks the sbin folders
GRACE_SECONDS = 1.0  # after our own limit the host itself ends a program that we could not end
_SUDO_REFUSES = re.compile(r"(.*: )?sudo: ")


class Answer(Protocol):
    """What a command answered, in bytes."""

    @property
    def returncode(self) -> int:
        """As a shell tells it."""

    @property
    def stdout(self) -> bytes:
        """What it wrote."""

    @property
    def stderr(self) -> bytes:
        """What it complained of."""


class Shell(Protocol):
    """A connection that runs commands (``engines.common.ssh.SshConnection``)."""

    async def user(self) -> str:
        """Who we are there."""

    async def execute(self, command: str, stdin: bytes, seconds: float) -> Answer:
        """Run a command line in that user's shell."""


class SshRunner:
    """A ``Runner`` on another machine. Whoever is not root there uses ``sudo -n``."""

    def __init__(self, shell: Shell, *, path: str = PATH) -> None:
        """``path``: where programs are looked for."""
        self._shell = shell
        self._path = path

    async def run(self, argv: Sequence[str], *, stdin: str = "", seconds: float = 30.0) -> Completed:
        """See ``Runner``. On time-out and cancellation the program is told to end. OpenSSH's sshd passes that on for other users
        than root only, so ``timeout`` there ends it in any case, soon after ``seconds``.

        Raises besides:
            EngineFailure: the user is not root and may not become root.
        """
        user = await self._shell.user()
        try:
            answer = await self._shell.execute(self._command(argv, user, seconds), stdin.encode(), seconds)
        except EngineTimeout:
            raise EngineTimeout(
                _("{program} did not end within {seconds} s. Look at the host's load."),
                program=argv[0],
                seconds=round(seconds, 1),
            ) from None
        stderr = answer.stderr.decode(errors="replace")
        if user != "root" and answer.returncode != 0 and _SUDO_REFUSES.match(stderr):
            raise EngineFailure(
                _(
                    "{user} may not become root on the host, which its rules need. Log in as root (server_user), or let sudo run "
                    "without a password there: {user} ALL=(root) NOPASSWD: ALL."
                ),
                user=user,
            )
        return Completed(answer.returncode, answer.stdout.decode(errors="replace"), stderr)

    def _command(self, argv: Sequence[str], user: str, seconds: float) -> str:
        """The line for the remote shell: every word quoted, so that it reads none of them."""
        words = [] if user == "root" else ["sudo", "-n"]
        words += ["timeout", "-s", "KILL", str(ceil(seconds + GRACE_SECONDS))]
        words += ["env", "LC_ALL=C", f"PATH={self._path}", *argv]
        return "exec " + shlex.join(words)  # exec: the program itself gets the signal that ends it
