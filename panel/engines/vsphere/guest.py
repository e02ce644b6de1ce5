"""Inside a guest, through VMware Tools' guest operations: setting a password.

The password goes to ``chpasswd`` through an environment variable, so that it stands in no command line.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from panel.engines.types import HostConnection, PowerState
from panel.engines.vsphere.client import Client, Session
from panel.engines.vsphere.faults import no_tools
from panel.engines.vsphere.sdk import vim
from panel.engines.vsphere.seed import check_login
from panel.engines.vsphere.view import Found
from panel.errors import Conflict, EngineFailure, EngineTimeout, InvalidInput, Unsupported
from panel.i18n import gettext_noop as _

SECONDS = 30.0
POLL_SECONDS = 0.3
VARIABLE = "OPENIDCS_LOGIN"
PROGRAM = "/bin/sh"
# VMware Tools hand this line to a shell, which must leave the inner one's variable alone
ARGUMENTS = (
    f'-c \'if [ "$(id -u)" = 0 ]; then sudo=; else sudo="sudo -n"; fi; printf "%s\\n" "${VARIABLE}" | $sudo chpasswd\''
)
PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"


class Guests:
    """The guests of one host, with one login in all of them."""

    def __init__(self, client: Client, connection: HostConnection) -> None:
        self._client = client
        self._user = connection.options.get("guest_user", "").strip()
        self._secret = connection.secrets.get("guest_pass", "")

    async def set_password(self, one: Found, user: str, password: str) -> None:
        """See ``Engine.set_password``."""
        if one.state is not PowerState.RUNNING:
            raise Conflict(_("The VM is not running. Start it first."))
        check_login(user, password)
        if one.now.get("guest.toolsRunningStatus") != "guestToolsRunning":
            raise no_tools()
        if not self._user or not self._secret:
            raise Conflict(
                _("Name a login inside the guests in the host's settings (guest_user, guest_pass), with which passwords are set "
                  "there.")
            )  # fmt: skip
        if user == self._user:
            raise InvalidInput(
                _("{user} is the panel's own login in the guests of this host (guest_user): change another's password."),
                field="user", user=user,
            )  # fmt: skip
        if one.now.get("guest.guestFamily") == "windowsGuest":
            raise Unsupported(_("Passwords are set in Linux guests only. Change this one inside the guest."))
        await self._run(one.moid, user, password)

    async def _run(self, moid: str, user: str, password: str) -> None:
        pid = await self._client.call(lambda session: self._start(session, moid, user, password))
        deadline = time.monotonic() + SECONDS
        while (code := await self._client.call(lambda session: self._ended(session, moid, pid))) is None:
            if time.monotonic() > deadline:
                raise EngineTimeout(
                    _("The guest did not set the password within {seconds} s. Look at its screen."),
                    seconds=round(SECONDS),
                )
            await asyncio.sleep(POLL_SECONDS)
        if code:
            raise EngineFailure(
                _("The guest did not set the password (exit code {code}). Look whether it has a user {user}, and whether the "
                  "panel's login there may run chpasswd."),
                code=code, user=user,
            )  # fmt: skip

    def _start(self, session: Session, moid: str, user: str, password: str) -> int:
        spec = vim.vm.guest.ProcessManager.ProgramSpec(
            programPath=PROGRAM, arguments=ARGUMENTS, envVariables=[PATH, f"{VARIABLE}={user}:{password}"]
        )
        manager = session.content.guestOperationsManager.processManager
        return int(manager.StartProgramInGuest(vm=session.vm(moid), auth=self._login(), spec=spec))

    def _ended(self, session: Session, moid: str, pid: int) -> int | None:
        manager = session.content.guestOperationsManager.processManager
        found = manager.ListProcessesInGuest(vm=session.vm(moid), auth=self._login(), pids=[pid])
        return next((int(one.exitCode or 0) for one in found or () if one.pid == pid and one.endTime), None)

    def _login(self) -> Any:
        return vim.vm.guest.NamePasswordAuthentication(
            username=self._user, password=self._secret, interactiveSession=False
        )
